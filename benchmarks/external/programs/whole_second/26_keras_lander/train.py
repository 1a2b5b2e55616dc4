import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
import random
from collections import deque

import gymnasium as gym
import numpy as np
from keras.models import Sequential
from keras.layers import Dense, Input
from keras.optimizers import Adam

EPISODES = 500
TRAIN_EVERY = 4


class DQNAgent:
    def __init__(self, state_size, action_size):
        self.state_size = state_size
        self.action_size = action_size
        self.memory = deque(maxlen=50000)
        self.gamma = 0.99
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.99
        self.learning_rate = 0.0005
        self.batch_size = 64
        self.model = self.build_model()
        self.target_model = self.build_model()
        self.update_target()

    def build_model(self):
        model = Sequential()
        model.add(Input(shape=(self.state_size,)))
        model.add(Dense(128, activation="relu", kernel_initializer="he_uniform"))
        model.add(Dense(128, activation="relu", kernel_initializer="he_uniform"))
        model.add(Dense(self.action_size, activation="linear"))
        model.compile(loss="mse", optimizer=Adam(learning_rate=self.learning_rate))
        return model

    def update_target(self):
        self.target_model.set_weights(self.model.get_weights())

    def get_action(self, state):
        if np.random.rand() <= self.epsilon:
            return random.randrange(self.action_size)
        q_value = self.model.predict(state[np.newaxis, :], verbose=0)
        return int(np.argmax(q_value[0]))

    def append_sample(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def train_model(self):
        if len(self.memory) < 2000:
            return
        mini_batch = random.sample(self.memory, self.batch_size)
        states = np.zeros((self.batch_size, self.state_size), dtype=np.float32)
        next_states = np.zeros((self.batch_size, self.state_size), dtype=np.float32)
        actions, rewards, dones = [], [], []
        for i, (s, a, r, s2, d) in enumerate(mini_batch):
            states[i] = s
            next_states[i] = s2
            actions.append(a)
            rewards.append(r)
            dones.append(d)

        target = self.model.predict(states, verbose=0)
        target_val = self.target_model.predict(states, verbose=0)
        for i in range(self.batch_size):
            if dones[i]:
                target[i][actions[i]] = rewards[i]
            else:
                target[i][actions[i]] = rewards[i] + self.gamma * np.amax(target_val[i])
        self.model.fit(states, target, batch_size=self.batch_size, epochs=1, verbose=0)

    def save(self, name):
        self.model.save_weights(name)


if __name__ == "__main__":
    env = gym.make("LunarLander-v3")
    agent = DQNAgent(env.observation_space.shape[0], int(env.action_space.n))
    scores = []
    steps = 0
    for e in range(EPISODES):
        done = False
        score = 0
        state, _ = env.reset()
        while not done:
            action = agent.get_action(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            agent.append_sample(state, action, reward, next_state, terminated)
            steps += 1
            if steps % TRAIN_EVERY == 0:
                agent.train_model()
            if steps % 1000 == 0:
                agent.update_target()
            score += reward
            state = next_state
        agent.epsilon = max(agent.epsilon_min, agent.epsilon * agent.epsilon_decay)
        scores.append(score)
        print("episode:", e, "  score:", round(score, 1), "  memory:", len(agent.memory), "  epsilon:", round(agent.epsilon, 3))
        if e % 50 == 0:
            agent.save("./lander_dqn.weights.h5")
