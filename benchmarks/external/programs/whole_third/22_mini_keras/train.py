import random
from collections import deque

import gymnasium as gym
import numpy as np

from minikeras import Sequential, Dense, Adam

EPISODES = 800


class DQNAgent:
    def __init__(self, state_size, action_size):
        self.state_size = state_size
        self.action_size = action_size
        self.memory = deque(maxlen=10000)
        self.gamma = 0.97
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.99
        self.learning_rate = 0.001
        self.batch_size = 64
        self.model = self._build_model(seed=1)
        self.target_model = self._build_model(seed=2)
        self.update_target_model()

    def _build_model(self, seed):
        model = Sequential(seed=seed)
        model.add(Dense(48, input_dim=self.state_size, activation="relu"))
        model.add(Dense(48, activation="relu"))
        model.add(Dense(self.action_size, activation="linear"))
        model.compile(loss="mse", optimizer=Adam(learning_rate=self.learning_rate))
        return model

    def update_target_model(self):
        self.target_model.set_weights(self.model.get_weights())

    def memorize(self, state, action, reward, next_state, done):
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        if np.random.rand() <= self.epsilon:
            return random.randrange(self.action_size)
        act_values = self.model.predict(state, verbose=0)
        return int(np.argmax(act_values[0]))

    def replay(self):
        minibatch = random.sample(self.memory, self.batch_size)
        states = np.vstack([m[0] for m in minibatch])
        next_states = np.vstack([m[3] for m in minibatch])
        next_q = self.target_model.predict(next_states, verbose=0)

        targets = np.zeros((self.batch_size, self.action_size))
        for i, (_, action, reward, _, done) in enumerate(minibatch):
            if done:
                targets[i][action] = reward
            else:
                targets[i][action] = reward + self.gamma * np.amax(next_q[i])
        history = self.model.fit(states, targets, batch_size=self.batch_size, epochs=1, verbose=0)
        return history["loss"][0]

    def decay(self):
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    def save(self, name):
        self.model.save_weights(name)


if __name__ == "__main__":
    env = gym.make("CartPole-v1")
    state_size = env.observation_space.shape[0]
    action_size = env.action_space.n
    agent = DQNAgent(state_size, action_size)
    steps = 0
    last = deque(maxlen=50)

    for e in range(EPISODES):
        state, _ = env.reset()
        state = np.reshape(state, [1, state_size])
        score, losses = 0, []
        while True:
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, state_size])
            agent.memorize(state, action, reward, next_state, terminated)
            state = next_state
            score += 1
            steps += 1
            if len(agent.memory) > 1000:
                losses.append(agent.replay())
            if steps % 400 == 0:
                agent.update_target_model()
            if terminated or truncated:
                break
        agent.decay()
        last.append(score)
        print("episode: {}/{}, score: {}, mean50: {:.1f}, loss: {:.4f}, e: {:.2}".format(
            e, EPISODES, score, np.mean(last), np.mean(losses) if losses else 0.0, agent.epsilon))
        if e % 100 == 99:
            agent.save("cartpole-dqn-%d.npz" % (e + 1))
