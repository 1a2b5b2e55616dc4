import random
from collections import deque

import gym
import numpy as np
from tensorflow.keras.models import Sequential, clone_model
from tensorflow.keras.layers import Dense, Input
from tensorflow.keras.losses import Huber
from tensorflow.keras.optimizers import Adam

ENV_NAME = "CartPole-v1"
GAMMA = 0.99
LEARNING_RATE = 0.001
MEMORY_SIZE = 20000
BATCH_SIZE = 64
EPS_MAX, EPS_MIN, EPS_DECAY = 1.0, 0.02, 0.985
TRAIN_START = 500
TRAIN_EVERY = 2
TARGET_TAU = 0.01


class DDQNSolver:
    def __init__(self, n_obs, n_act):
        self.n_act = n_act
        self.exploration_rate = EPS_MAX
        self.memory = deque(maxlen=MEMORY_SIZE)
        self.model = Sequential([
            Input(shape=(n_obs,)),
            Dense(48, activation="relu", kernel_initializer="he_uniform"),
            Dense(48, activation="relu", kernel_initializer="he_uniform"),
            Dense(n_act, activation="linear"),
        ])
        self.model.compile(loss=Huber(), optimizer=Adam(learning_rate=LEARNING_RATE, clipnorm=10.0))
        self.target = clone_model(self.model)
        self.target.set_weights(self.model.get_weights())

    def remember(self, *transition):
        self.memory.append(transition)

    def act(self, state):
        if np.random.rand() < self.exploration_rate:
            return random.randrange(self.n_act)
        return int(np.argmax(self.model.predict_on_batch(state[np.newaxis])[0]))

    def experience_replay(self):
        batch = random.sample(self.memory, BATCH_SIZE)
        states = np.array([t[0] for t in batch], dtype=np.float32)
        actions = np.array([t[1] for t in batch])
        rewards = np.array([t[2] for t in batch], dtype=np.float32)
        next_states = np.array([t[3] for t in batch], dtype=np.float32)
        terminal = np.array([t[4] for t in batch], dtype=np.float32)

        idx = np.arange(BATCH_SIZE)
        greedy = np.argmax(self.model.predict_on_batch(next_states), axis=1)
        next_q = self.target.predict_on_batch(next_states)[idx, greedy]
        q_values = np.array(self.model.predict_on_batch(states))
        q_values[idx, actions] = rewards + GAMMA * (1.0 - terminal) * next_q
        self.model.train_on_batch(states, q_values)
        self.track()

    def track(self):
        mixed = [TARGET_TAU * w + (1 - TARGET_TAU) * t
                 for w, t in zip(self.model.get_weights(), self.target.get_weights())]
        self.target.set_weights(mixed)

    def cool_down(self):
        self.exploration_rate = max(EPS_MIN, self.exploration_rate * EPS_DECAY)


def cartpole():
    env = gym.make(ENV_NAME)
    env.seed(1)
    solver = DDQNSolver(env.observation_space.shape[0], env.action_space.n)
    run, total_steps = 0, 0
    scores = deque(maxlen=100)
    while run < 500:
        run += 1
        state = env.reset()
        step = 0
        terminal = False
        while not terminal:
            step += 1
            total_steps += 1
            action = solver.act(state)
            state_next, reward, terminal, info = env.step(action)
            timeout = info.get("TimeLimit.truncated", False)
            solver.remember(state, action, reward, state_next, terminal and not timeout)
            state = state_next
            if len(solver.memory) >= TRAIN_START and total_steps % TRAIN_EVERY == 0:
                solver.experience_replay()
        solver.cool_down()
        scores.append(step)
        print("Run: %d, exploration: %.3f, score: %d, average: %.1f" % (run, solver.exploration_rate, step, np.mean(scores)))
        if len(scores) == 100 and np.mean(scores) > 475:
            print("Solved after", run - 100, "runs")
            break
    solver.model.save_weights("cartpole_ddqn.weights.h5")


if __name__ == "__main__":
    cartpole()
