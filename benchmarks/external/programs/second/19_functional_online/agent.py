import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn.functional as F

Transition = namedtuple("Transition", "state action reward next_state done")


def make_weights(state_dim, n_actions, hidden=(64, 32)):
    dims = (state_dim, *hidden, n_actions)
    weights = {}
    for i, (a, b) in enumerate(zip(dims, dims[1:]), start=1):
        bound = 1 / a**0.5
        weights[f"W{i}"] = torch.empty(b, a).uniform_(-bound, bound).requires_grad_(True)
        weights[f"b{i}"] = torch.empty(b).uniform_(-bound, bound).requires_grad_(True)
    return weights


def network(x, w):
    h = torch.tanh(F.linear(x, w["W1"], w["b1"]))
    h = F.relu(F.linear(h, w["W2"], w["b2"]))
    return F.linear(h, w["W3"], w["b3"])


class DoubleAgent:
    def __init__(self, state_dim, n_actions, lr=5e-3, momentum=0.9, gamma=0.98):
        self.state_dim, self.n_actions = state_dim, n_actions
        self.lr, self.momentum, self.gamma = lr, momentum, gamma
        self.w = make_weights(state_dim, n_actions)
        self.w_target = make_weights(state_dim, n_actions)
        self.sync()
        self.velocity = {k: torch.zeros_like(v) for k, v in self.w.items()}
        self.memory = deque(maxlen=10000)
        self.steps_done = 0

    def sync(self):
        with torch.no_grad():
            for k in self.w:
                self.w_target[k].copy_(self.w[k])

    def select_action(self, state, eps):
        if random.random() > eps:
            with torch.no_grad():
                return int(network(torch.from_numpy(np.float32(state)), self.w).argmax())
        return random.randrange(self.n_actions)

    def td_loss(self, state, action, reward, next_state, done):
        q = network(state, self.w)[torch.arange(len(action)), action]
        next_action = network(next_state, self.w).argmax(dim=1)
        next_q = network(next_state, self.w)[torch.arange(len(action)), next_action]
        y = reward + self.gamma * next_q * (1.0 - done)
        return F.mse_loss(q, y)

    def optimize(self, batch):
        loss = self.td_loss(*batch)
        grads = torch.autograd.grad(loss, list(self.w.values()))
        with torch.no_grad():
            for (name, p), g in zip(self.w.items(), grads):
                self.velocity[name].mul_(self.momentum).add_(g)
                p.sub_(self.lr * self.velocity[name])

    def draw(self, n):
        t = Transition(*zip(*random.sample(self.memory, n)))
        return (
            torch.tensor(np.array(t.state), dtype=torch.float32),
            torch.tensor(t.action),
            torch.tensor(t.reward, dtype=torch.float32),
            torch.tensor(np.array(t.next_state), dtype=torch.float32),
            torch.tensor(t.done, dtype=torch.float32),
        )

    def learn(self, env, total):
        state, _ = env.reset()
        for _ in range(total):
            eps = 0.05 + 0.95 * np.exp(-self.steps_done / 1500)
            action = self.select_action(state, eps)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.append(Transition(state, action, reward, next_state, terminated))
            self.steps_done += 1
            state = next_state
            if len(self.memory) >= 96:
                self.optimize(self.draw(48))
            if self.steps_done % 150 == 0:
                self.sync()
            if terminated or truncated:
                state, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = agent.state_dim

    def q_values(self, obs):
        with torch.no_grad():
            return network(torch.as_tensor(obs, dtype=torch.float32), self.agent.w).numpy()

    def target_q_values(self, obs):
        with torch.no_grad():
            return network(torch.as_tensor(obs, dtype=torch.float32), self.agent.w_target).numpy()

    def sync_target(self):
        self.agent.sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        cast = lambda a: torch.tensor(np.asarray(a), dtype=torch.float32)
        self.agent.optimize((cast(obs), torch.tensor(action).long(), cast(reward), cast(next_obs), cast(terminated)))

    def act(self, obs, epsilon):
        return self.agent.select_action(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append(Transition(obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated)))

    def sample(self, n):
        return [t.numpy() for t in self.agent.draw(n)]

    def run(self, env, env_steps):
        self.agent.learn(env, env_steps)


def make(seed=0):
    random.seed(seed)
    torch.manual_seed(seed)
    return Adapter(DoubleAgent(4, 2))
