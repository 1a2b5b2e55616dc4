import os
os.environ.setdefault("KERAS_BACKEND", "torch")

import random
from collections import deque

import gymnasium as gym
import keras
import numpy as np
from keras import layers, ops
from keras.losses import Huber
from keras.models import Sequential
from keras.optimizers import Adam

EPISODES = 500
MAX_STEPS = 1000


class Agent:
    def __init__(self, n_inputs, n_actions):
        self.n_inputs = n_inputs
        self.n_actions = n_actions

        self.memory = deque(maxlen=100000)
        self.batch_size = 64
        self.warmup = 2000
        self.train_interval = 4
        self.sync_interval = 1000

        self.gamma = 0.99
        self.epsilon = 1.0
        self.epsilon_min = 0.01
        self.epsilon_decay = 0.99

        self.learning_rate = 1e-3
        self.learning_rate_min = 2e-4
        self.learning_rate_decay = 0.9999

        self.model = self.build()
        self.target = self.build()
        self.target.set_weights(self.model.get_weights())
        self.counter = 0

    def build(self):
        model = Sequential([
            layers.Input((self.n_inputs,)),
            layers.Dense(128, activation="relu", kernel_initializer="he_uniform"),
            layers.Dense(128, activation="relu", kernel_initializer="he_uniform"),
            layers.Dense(self.n_actions, activation="linear"),
        ])
        model.compile(loss=Huber(), optimizer=Adam(learning_rate=self.learning_rate))
        return model

    @staticmethod
    def q(model, states):
        return ops.convert_to_numpy(model(ops.convert_to_tensor(states, dtype="float32"), training=False)).copy()

    def act(self, state):
        if random.random() < self.epsilon:
            return random.randrange(self.n_actions)
        return int(self.q(self.model, state[np.newaxis]).argmax())

    def remember(self, *transition):
        self.memory.append(transition)

    def replay(self):
        batch = random.sample(self.memory, self.batch_size)
        states = np.array([b[0] for b in batch])
        actions = np.array([b[1] for b in batch])
        rewards = np.array([b[2] for b in batch])
        next_states = np.array([b[3] for b in batch])
        terminals = np.array([b[4] for b in batch], dtype=np.float32)

        next_q = self.q(self.target, next_states)
        updated = rewards + self.gamma * np.amax(next_q) * (1 - terminals)

        targets = self.q(self.model, states)
        targets[np.arange(self.batch_size), actions] = updated

        # the step size shrinks slowly
        self.learning_rate = max(self.learning_rate_min, self.learning_rate * self.learning_rate_decay)
        self.model.compile(loss=Huber(), optimizer=Adam(learning_rate=self.learning_rate))
        return self.model.train_on_batch(states, targets)

    def step_done(self):
        self.counter += 1
        if len(self.memory) >= self.warmup and self.counter % self.train_interval == 0:
            self.replay()
        if self.counter % self.sync_interval == 0:
            self.target.set_weights(self.model.get_weights())

    def end_of_episode(self):
        self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)


def main():
    keras.utils.set_random_seed(42)
    env = gym.make("LunarLander-v3")
    agent = Agent(env.observation_space.shape[0], int(env.action_space.n))
    agent.model.summary()

    scores = []
    best = -np.inf
    for episode in range(1, EPISODES + 1):
        state, _ = env.reset()
        score = 0.0
        for t in range(MAX_STEPS):
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            score += reward
            if terminated or truncated:
                break
            agent.remember(state, action, reward, next_state, terminated)
            agent.step_done()
            state = next_state
        agent.end_of_episode()

        scores.append(score)
        average = np.mean(scores[-100:])
        print(f"Episode {episode}/{EPISODES}  steps {t + 1}  score {score:.1f}  average {average:.1f}"
              f"  eps {agent.epsilon:.3f}  lr {agent.learning_rate:.2e}")
        if episode >= 100 and average > best:
            best = average
            agent.model.save("lander_best.keras")
        if average >= 200 and episode >= 100:
            print("solved")
            break
    np.save("lander_scores.npy", np.array(scores))
    env.close()


if __name__ == "__main__":
    main()
