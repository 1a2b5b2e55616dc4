import os
import pickle
import random
from collections import deque

import numpy as np
import gymnasium as gym


def relu(x):
    return np.maximum(0, x)


class Dense:
    def __init__(self, n_in, n_out):
        self.weights = np.random.randn(n_in, n_out) * np.sqrt(2 / n_in)
        self.bias = np.zeros(n_out)

    def forward(self, x):
        self.inputs = x
        self.output = relu(np.dot(x, self.weights) + self.bias)
        return self.output

    def backward(self, grad):
        grad = grad * (self.output > 0)
        self.dweights = np.dot(self.inputs.T, grad)
        self.dbias = np.sum(grad, axis=0)
        return np.dot(grad, self.weights.T)


class MLP:
    def __init__(self, sizes):
        self.layers = [Dense(a, b) for a, b in zip(sizes[:-1], sizes[1:])]

    def predict(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backprop(self, grad):
        for layer in self.layers[::-1]:
            grad = layer.backward(grad)

    def set_weights(self, other):
        for mine, his in zip(self.layers, other.layers):
            mine.weights = his.weights.copy()
            mine.bias = his.bias.copy()


class AdamOptimizer:
    def __init__(self, network, lr, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.network, self.lr, self.beta1, self.beta2, self.epsilon = network, lr, beta1, beta2, epsilon
        self.iteration = 0
        self.state = [dict(mw=0.0, vw=0.0, mb=0.0, vb=0.0) for _ in network.layers]

    def _delta(self, st, name, g):
        st['m' + name] = self.beta1 * st['m' + name] + (1 - self.beta1) * g
        st['v' + name] = self.beta2 * st['v' + name] + (1 - self.beta2) * g * g
        m_hat = st['m' + name] / (1 - self.beta1 ** self.iteration)
        v_hat = st['v' + name] / (1 - self.beta2 ** self.iteration)
        return self.lr * m_hat / (np.sqrt(v_hat) + self.epsilon)

    def step(self):
        self.iteration += 1
        for layer, st in zip(self.network.layers, self.state):
            layer.weights -= self._delta(st, 'w', layer.dweights)
            layer.bias -= self._delta(st, 'b', layer.dbias)


class Agent:
    def __init__(self, n_obs, n_act):
        self.n_act = n_act
        self.model = MLP([n_obs, 96, 96, n_act])
        self.target = MLP([n_obs, 96, 96, n_act])
        self.target.set_weights(self.model)
        self.memory = deque(maxlen=80000)
        self.gamma = 0.99
        self.lr = 5e-4
        self.eps = 1.0
        self.batch = 64

    def act(self, obs):
        if random.random() < self.eps:
            return random.randint(0, self.n_act - 1)
        return int(self.model.predict(obs[None]).argmax())

    def train(self):
        mb = random.sample(self.memory, self.batch)
        obs = np.array([m[0] for m in mb])
        act = np.array([m[1] for m in mb])
        rew = np.array([m[2] for m in mb])
        nxt = np.array([m[3] for m in mb])
        ter = np.array([m[4] for m in mb])
        target = rew + self.gamma * np.where(ter, 0.0, self.target.predict(nxt).max(axis=1))
        pred = self.model.predict(obs)
        grad = np.zeros_like(pred)
        diff = pred[np.arange(self.batch), act] - target
        grad[np.arange(self.batch), act] = 2 * diff / self.batch
        self.model.backprop(grad)
        optimizer = AdamOptimizer(self.model, self.lr)
        optimizer.step()
        return np.mean(diff ** 2)

    def save(self, path):
        with open(path, 'wb') as f:
            pickle.dump([(l.weights, l.bias) for l in self.model.layers], f)


def run(episodes=1000, warmup=2000):
    env = gym.make("LunarLander-v3")
    agent = Agent(env.observation_space.shape[0], env.action_space.n)
    os.makedirs("models", exist_ok=True)
    frames, log = 0, []
    for ep in range(1, episodes + 1):
        obs, info = env.reset()
        score, losses = 0, []
        terminated = truncated = False
        while not terminated and not truncated:
            action = agent.act(obs)
            nxt, reward, terminated, truncated, info = env.step(action)
            agent.memory.append((obs, action, reward, nxt, terminated))
            obs = nxt
            score += reward
            frames += 1
            if frames > warmup and frames % 2 == 0:
                losses.append(agent.train())
            if frames % 1500 == 0:
                agent.target.set_weights(agent.model)
        agent.eps = max(0.02, agent.eps * 0.993)
        log.append(score)
        if ep % 20 == 0:
            print(f"{ep:5d} | score {score:8.1f} | mean {np.mean(log[-100:]):8.1f} | "
                  f"loss {np.mean(losses) if losses else 0:8.2f} | eps {agent.eps:.3f}")
            agent.save("models/latest.pkl")
    return log


if __name__ == "__main__":
    np.savetxt("scores.csv", run())
