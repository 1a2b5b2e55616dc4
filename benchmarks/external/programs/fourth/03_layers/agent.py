"""DQN built from small layer objects."""
import copy
import random
from collections import deque, namedtuple

import numpy as np

Transition = namedtuple("Transition", "state action reward next_state done")


class Linear:
    def __init__(self, n_in, n_out, rng):
        bound = np.sqrt(6.0 / (n_in + n_out))
        self.W = rng.uniform(-bound, bound, (n_in, n_out))
        self.b = np.zeros(n_out)
        self.dW = np.zeros_like(self.W)
        self.db = np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, grad):
        self.dW = self.x.T @ grad
        self.db = grad.sum(axis=0)
        return grad @ self.W.T

    def params_and_grads(self):
        return [(self.W, self.dW), (self.b, self.db)]


class Tanh:
    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, grad):
        return grad * (1.0 - self.y ** 2)

    def params_and_grads(self):
        return []


class Sequential:
    def __init__(self, *layers):
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad):
        for layer in reversed(self.layers):
            grad = layer.backward(grad)

    def params_and_grads(self):
        return [pair for layer in self.layers for pair in layer.params_and_grads()]


class Adam:
    def __init__(self, net, lr):
        self.net, self.lr, self.t = net, lr, 0
        self.m = [np.zeros_like(p) for p, _ in net.params_and_grads()]
        self.v = [np.zeros_like(p) for p, _ in net.params_and_grads()]

    def step(self):
        self.t += 1
        for (p, g), m, v in zip(self.net.params_and_grads(), self.m, self.v):
            m *= 0.9
            m += 0.1 * g
            v *= 0.999
            v += 0.001 * g * g
            p -= self.lr * (m / (1 - 0.9 ** self.t)) / (np.sqrt(v / (1 - 0.999 ** self.t)) + 1e-8)


class Agent:
    def __init__(self, n_states, n_actions, gamma=0.99, lr=1e-3, batch_size=64, seed=0):
        rng = np.random.default_rng(seed)
        self.random = random.Random(seed)
        self.policy_net = Sequential(Linear(n_states, 64, rng), Tanh(), Linear(64, 64, rng), Tanh(),
                                     Linear(64, n_actions, rng))
        self.target_net = copy.deepcopy(self.policy_net)
        self.optimizer = Adam(self.policy_net, lr)
        self.memory = deque(maxlen=20_000)
        self.gamma, self.batch_size, self.n_actions = gamma, batch_size, n_actions
        self.tau = 0.01

    def select_action(self, state, eps):
        if self.random.random() > eps:
            return int(self.policy_net.forward(state.reshape(1, -1)).argmax())
        return self.random.randrange(self.n_actions)

    def sample(self, n):
        batch = Transition(*zip(*self.random.sample(self.memory, n)))
        return (np.array(batch.state), np.array(batch.action), np.array(batch.reward, dtype=np.float64),
                np.array(batch.next_state), np.array(batch.done, dtype=np.float64))

    def optimize_model(self):
        if len(self.memory) < self.batch_size:
            return
        self.update(*self.sample(self.batch_size))

    def update(self, states, actions, rewards, next_states, dones):
        rewards = (rewards - rewards.mean()) / (rewards.std() + 1e-5)
        next_q = self.target_net.forward(next_states).max(axis=1)
        expected = rewards + self.gamma * next_q * (1.0 - dones)
        q = self.policy_net.forward(states)
        idx = np.arange(len(actions))
        error = q[idx, actions] - expected
        grad = np.zeros_like(q)
        grad[idx, actions] = np.clip(error, -1.0, 1.0) / len(actions)
        self.policy_net.backward(grad)
        self.optimizer.step()
        self.soft_update(self.tau)

    def soft_update(self, tau):
        pairs = zip(self.target_net.params_and_grads(), self.policy_net.params_and_grads())
        for (target, _), (online, _) in pairs:
            target[...] = tau * online + (1.0 - tau) * target

    def train(self, env, n_steps):
        state, _ = env.reset()
        history, score = [], 0.0
        for step in range(n_steps):
            eps = 0.05 + 0.95 * np.exp(-step / 1500.0)
            action = self.select_action(state, eps)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.append(Transition(state, action, reward, next_state, terminated))
            state = next_state
            score += reward
            self.optimize_model()
            if terminated or truncated:
                state, _ = env.reset()
                history.append(score)
                score = 0.0
        return history


class Adapter:
    def __init__(self, agent, n_obs):
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, n_obs

    def q_values(self, obs):
        return self.agent.policy_net.forward(obs)

    def target_q_values(self, obs):
        return self.agent.target_net.forward(obs)

    def sync_target(self):
        self.agent.soft_update(self.agent.tau)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.update(obs, action, reward, next_obs, np.asarray(terminated, dtype=np.float64))

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append(Transition(obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return self.agent.sample(n)

    def run(self, env, env_steps):
        self.agent.train(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed=seed), 4)
