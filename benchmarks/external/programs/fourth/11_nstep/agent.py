"""N-step DQN in NumPy."""
import random
from collections import deque

import numpy as np


class NStepReplay:
    def __init__(self, capacity, n_step, gamma, seed):
        self.memory = deque(maxlen=capacity)
        self.n_step_buffer = deque(maxlen=n_step)
        self.n_step, self.gamma = n_step, gamma
        self.random = random.Random(seed)

    def add(self, state, action, reward, next_state, done):
        self.n_step_buffer.append((state, action, reward, next_state, done))
        if len(self.n_step_buffer) == self.n_step:
            self.memory.append(self.calc_multistep_return())

    def calc_multistep_return(self):
        ret = 0.0
        for idx in range(self.n_step):
            ret += self.gamma ** idx * self.n_step_buffer[idx][2]
        state, action = self.n_step_buffer[0][:2]
        next_state, done = self.n_step_buffer[-1][3:]
        return state, action, ret, next_state, done

    def sample(self, n):
        states, actions, rewards, next_states, dones = zip(*self.random.sample(self.memory, n))
        return (np.stack(states), np.array(actions), np.array(rewards), np.stack(next_states),
                np.array(dones).astype(np.float64))

    def __len__(self):
        return len(self.memory)


class MLP:
    def __init__(self, n_in, n_hidden, n_out, rng):
        self.w1 = rng.normal(0, np.sqrt(2 / n_in), (n_in, n_hidden))
        self.b1 = np.zeros(n_hidden)
        self.w2 = rng.normal(0, np.sqrt(2 / n_hidden), (n_hidden, n_hidden))
        self.b2 = np.zeros(n_hidden)
        self.w3 = rng.normal(0, 0.1 / np.sqrt(n_hidden), (n_hidden, n_out))
        self.b3 = np.zeros(n_out)

    names = ("w1", "b1", "w2", "b2", "w3", "b3")

    def __call__(self, x):
        self.x = x
        self.h1 = np.maximum(0, x @ self.w1 + self.b1)
        self.h2 = np.maximum(0, self.h1 @ self.w2 + self.b2)
        return self.h2 @ self.w3 + self.b3

    def grads(self, dout):
        d2 = (dout @ self.w3.T) * (self.h2 > 0)
        d1 = (d2 @ self.w2.T) * (self.h1 > 0)
        return {"w3": self.h2.T @ dout, "b3": dout.sum(0), "w2": self.h1.T @ d2, "b2": d2.sum(0),
                "w1": self.x.T @ d1, "b1": d1.sum(0)}


class DQN_Agent:
    def __init__(self, state_size, action_size, n_step=4, seed=0):
        rng = np.random.default_rng(seed)
        self.random = random.Random(seed + 1)
        self.action_size = action_size
        self.GAMMA = 0.95
        self.LR = 5e-4
        self.TAU = 1e-2
        self.BATCH_SIZE = 32
        self.n_step = n_step
        self.qnetwork_local = MLP(state_size, 64, action_size, rng)
        self.qnetwork_target = MLP(state_size, 64, action_size, rng)
        self.soft_update(1.0)
        self.memory = NStepReplay(20000, n_step, self.GAMMA, seed)
        self.m = {k: 0.0 for k in MLP.names}
        self.v = {k: 0.0 for k in MLP.names}
        self.t = 0

    def act(self, state, eps=0.0):
        if self.random.random() > eps:
            return int(np.argmax(self.qnetwork_local(state[None, :])))
        return self.random.choice(range(self.action_size))

    def learn(self, experiences):
        states, actions, rewards, next_states, dones = experiences
        q_next = self.qnetwork_target(next_states).max(axis=1)
        q_targets = rewards + self.GAMMA * q_next * (1 - dones)
        q = self.qnetwork_local(states)
        rows = np.arange(len(states))
        dq = np.zeros_like(q)
        dq[rows, actions] = 2 * (q[rows, actions] - q_targets) / len(states)
        self.t += 1
        for k, g in self.qnetwork_local.grads(dq).items():
            g = np.clip(g, -1, 1)
            self.m[k] = 0.9 * self.m[k] + 0.1 * g
            self.v[k] = 0.999 * self.v[k] + 0.001 * g * g
            update = self.m[k] / (1 - 0.9 ** self.t) / (np.sqrt(self.v[k] / (1 - 0.999 ** self.t)) + 1e-8)
            setattr(self.qnetwork_local, k, getattr(self.qnetwork_local, k) - self.LR * update)
        self.soft_update(self.TAU)

    def soft_update(self, tau):
        for k in MLP.names:
            local, target = getattr(self.qnetwork_local, k), getattr(self.qnetwork_target, k)
            setattr(self.qnetwork_target, k, tau * local + (1 - tau) * target)

    def run(self, env, frames):
        state, _ = env.reset()
        score, scores = 0, []
        for frame in range(frames):
            eps = max(0.02, 1 - frame / 2500)
            action = self.act(state, eps)
            next_state, reward, terminated, truncated, _ = env.step(action)
            self.memory.add(state, action, reward, next_state, terminated)
            state = next_state
            score += reward
            if len(self.memory) > self.BATCH_SIZE:
                self.learn(self.memory.sample(self.BATCH_SIZE))
            if terminated or truncated:
                scores.append(score)
                score = 0
                state, _ = env.reset()
        return scores


class Adapter:
    def __init__(self, agent, n_obs):
        self.agent = agent
        self.gamma = agent.GAMMA
        self.n_step = agent.n_step
        self.observation_size = n_obs

    def q_values(self, obs):
        return self.agent.qnetwork_local(obs)

    def target_q_values(self, obs):
        return self.agent.qnetwork_target(obs)

    def sync_target(self):
        self.agent.soft_update(self.agent.TAU)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.learn((obs, action, reward, next_obs, np.asarray(terminated, dtype=float)))

    def act(self, obs, epsilon):
        return self.agent.act(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.add(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return self.agent.memory.sample(n)

    def run(self, env, env_steps):
        return self.agent.run(env, env_steps)


def make(seed=0):
    return Adapter(DQN_Agent(4, 2, seed=seed), 4)
