import random
from collections import deque

import gymnasium as gym
import numpy as np

from minikeras import Sequential, Dense, Adam

EPISODES = 500


class DQNAgent:
    def __init__(self, state_size, action_size):
        self.state_size = state_size
        self.action_size = action_size
        self.memory = deque(maxlen=10000)
        self.gamma = 0.97
        self.epsilon = 1.0
        self.epsilon_min = 0.02
        self.epsilon_decay = 0.985
        self.learning_rate = 0.001
        self.model = self._build_model()
        self.target_model = self._build_model()
        self.update_target_model()

    def _build_model(self):
        model = Sequential()
        model.add(Dense(32, input_dim=self.state_size, activation="relu"))
        model.add(Dense(32, activation="relu"))
        model.add(Dense(self.action_size, activation="linear"))
        model.compile(loss="mse", optimizer=Adam(learning_rate=self.learning_rate))
        return model

    def update_target_model(self):
        self.target_model.set_weights(self.model.get_weights())

    def memorize(self, state, action, reward, next_state, terminal):
        self.memory.append((state, action, reward, next_state, terminal))

    def act(self, state):
        if np.random.rand() <= self.epsilon:
            return random.randrange(self.action_size)
        act_values = self.model.predict(state)
        return int(np.argmax(act_values[0]))

    def replay(self, batch_size):
        minibatch = random.sample(self.memory, batch_size)
        states = np.vstack([m[0] for m in minibatch])
        next_states = np.vstack([m[3] for m in minibatch])
        future = self.target_model.predict(next_states)
        targets = self.target_model.predict(next_states)
        for i, (state, action, reward, next_state, terminal) in enumerate(minibatch):
            if terminal:
                targets[i][action] = reward
            else:
                targets[i][action] = reward + self.gamma * np.amax(future[i])
        return self.model.fit(states, targets, epochs=1, batch_size=batch_size)


if __name__ == "__main__":
    env = gym.make("CartPole-v1")
    state_size = env.observation_space.shape[0]
    action_size = int(env.action_space.n)
    agent = DQNAgent(state_size, action_size)
    batch_size = 32
    scores = []
    steps = 0

    for e in range(EPISODES):
        state, _ = env.reset()
        state = np.reshape(state, [1, state_size])
        loss = 0.0
        for time in range(500):
            action = agent.act(state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, state_size])
            agent.memorize(state, action, reward, next_state, terminated)
            state = next_state
            steps += 1
            if len(agent.memory) > 500:
                loss = agent.replay(batch_size)
            if steps % 250 == 0:
                agent.update_target_model()
            if terminated or truncated:
                break
        scores.append(time + 1)
        if agent.epsilon > agent.epsilon_min:
            agent.epsilon *= agent.epsilon_decay
        print("episode: {}/{}, score: {}, loss: {:.4f}, e: {:.2}".format(e, EPISODES, time + 1, loss, agent.epsilon))
        if e % 50 == 0:
            np.save("weights.npy", np.array(agent.model.get_weights(), dtype=object), allow_pickle=True)

    print("mean of the last 100:", np.mean(scores[-100:]))
