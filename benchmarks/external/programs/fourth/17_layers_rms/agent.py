import random
from collections import deque

import numpy as np


class Layer:
    params = ()
    grads = ()

    def forward(self, x):
        raise NotImplementedError

    def backward(self, dout):
        raise NotImplementedError


class Affine(Layer):
    def __init__(self, in_size, out_size):
        self.params = [np.random.randn(in_size, out_size) * np.sqrt(2 / in_size), np.zeros(out_size)]
        self.grads = [np.zeros((in_size, out_size)), np.zeros(out_size)]

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, b = self.params
        self.grads[0][...] = np.dot(self.x.T, dout)
        self.grads[1][...] = np.sum(dout, axis=0)
        return np.dot(dout, W.T)


class Relu(Layer):
    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout = dout.copy()
        dout[self.mask] = 0
        return dout


class MeanSquaredError:
    def forward(self, q, actions, targets):
        self.q, self.actions = q, actions
        self.diff = q[np.arange(len(actions)), actions] - targets
        return np.mean(self.diff ** 2)

    def backward(self):
        dout = np.zeros_like(self.q)
        dout[np.arange(len(self.actions)), self.actions] = 2 * self.diff / len(self.actions)
        return dout


class QNet:
    def __init__(self, input_size, hidden_size, output_size):
        self.layers = [Affine(input_size, hidden_size), Relu(), Affine(hidden_size, hidden_size), Relu(),
                       Affine(hidden_size, output_size)]
        self.params = [p for layer in self.layers for p in layer.params]
        self.grads = [g for layer in self.layers for g in layer.grads]

    def predict(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dout):
        for layer in reversed(self.layers):
            dout = layer.backward(dout)


class RMSprop:
    def __init__(self, lr=0.001, decay_rate=0.99):
        self.lr = lr
        self.decay_rate = decay_rate
        self.h = None

    def update(self, params, grads):
        if self.h is None:
            self.h = [np.zeros_like(param) for param in params]
        for param, grad, h in zip(params, grads, self.h):
            h = self.decay_rate * h + (1 - self.decay_rate) * grad * grad
            param -= self.lr * grad / (np.sqrt(h) + 1e-6)


class DQNAgent:
    def __init__(self, state_size=4, action_size=2, seed=0):
        np.random.seed(seed)
        self.random = random.Random(seed)
        self.gamma = 0.98
        self.buffer_size = 10000
        self.batch_size = 32
        self.action_size = action_size
        self.sync_interval = 200
        self.replay_buffer = deque(maxlen=self.buffer_size)
        self.qnet = QNet(state_size, 64, action_size)
        self.qnet_target = QNet(state_size, 64, action_size)
        self.sync_qnet()
        self.loss = MeanSquaredError()
        self.optimizer = RMSprop(lr=0.0005)
        self.total_steps = 0

    def sync_qnet(self):
        for target, param in zip(self.qnet_target.params, self.qnet.params):
            target[...] = param

    def get_action(self, state, epsilon):
        if self.random.random() < epsilon:
            return self.random.randrange(self.action_size)
        return int(self.qnet.predict(state[np.newaxis, :]).argmax())

    def add(self, state, action, reward, next_state, done):
        self.replay_buffer.append((state, action, reward, next_state, done))

    def get_batch(self, n):
        data = self.random.sample(self.replay_buffer, n)
        state = np.stack([x[0] for x in data])
        action = np.array([x[1] for x in data])
        reward = np.array([x[2] for x in data])
        next_state = np.stack([x[3] for x in data])
        done = np.array([x[4] for x in data]).astype(np.int32)
        return state, action, reward, next_state, done

    def update(self, state, action, reward, next_state, done):
        next_q = self.qnet_target.predict(next_state).max(axis=1)
        target = reward + (1 - done) * self.gamma * next_q
        loss = self.loss.forward(self.qnet.predict(state), action, target)
        self.qnet.backward(self.loss.backward())
        self.optimizer.update(self.qnet.params, self.qnet.grads)
        return loss

    def train(self, env, steps):
        reward_log, total_reward = [], 0
        state, _ = env.reset()
        for _ in range(steps):
            epsilon = max(0.02, 1.0 - self.total_steps / 2500)
            action = self.get_action(state, epsilon)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.add(state, action, reward, next_state, terminated)
            if len(self.replay_buffer) >= self.batch_size:
                self.update(*self.get_batch(self.batch_size))
            self.total_steps += 1
            if self.total_steps % self.sync_interval == 0:
                self.sync_qnet()
            state = next_state
            total_reward += reward
            if terminated or truncated:
                reward_log.append(total_reward)
                total_reward = 0
                state, _ = env.reset()
        return reward_log


class Adapter:
    def __init__(self, agent, observation_size):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = observation_size

    def q_values(self, obs):
        return self.agent.qnet.predict(obs)

    def target_q_values(self, obs):
        return self.agent.qnet_target.predict(obs)

    def sync_target(self):
        self.agent.sync_qnet()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated).astype(np.int32))

    def act(self, obs, epsilon):
        return self.agent.get_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.get_batch(n)

    def run(self, env, env_steps):
        return self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(DQNAgent(4, 2, seed), 4)
