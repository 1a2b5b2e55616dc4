"""DQN in functions; all settings at the top."""
import random
from collections import deque
from types import SimpleNamespace

import numpy as np

GAMMA = 0.99
LEARNING_RATE = 1e-3
REPLAY_SIZE = 5_000
LEARNING_STARTS = 10_000
BATCH_SIZE = 32
TRAIN_EVERY = 1
TARGET_EVERY = 200
EPS_START, EPS_END, EPS_STEPS = 1.0, 0.05, 5_000
HIDDEN = 100


def build_weights(n_obs, n_actions, rng):
    return {
        "in": rng.normal(0, np.sqrt(2 / n_obs), (n_obs, HIDDEN)),
        "in_bias": np.zeros(HIDDEN),
        "out": rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, n_actions)),
        "out_bias": np.zeros(n_actions),
    }


def clone(weights):
    return {name: array.copy() for name, array in weights.items()}


def hidden_layer(weights, obs):
    return np.maximum(obs @ weights["in"] + weights["in_bias"], 0)


def q_values(weights, obs):
    return hidden_layer(weights, obs) @ weights["out"] + weights["out_bias"]


def create(n_obs, n_actions, seed=0):
    rng = np.random.default_rng(seed)
    weights = build_weights(n_obs, n_actions, rng)
    return SimpleNamespace(
        n_obs=n_obs, n_actions=n_actions, rng=rng, random=random.Random(seed),
        weights=weights, target=clone(weights), memory=deque(maxlen=REPLAY_SIZE),
        m={k: 0.0 for k in weights}, v={k: 0.0 for k in weights}, updates=0,
    )


def choose_action(agent, obs, epsilon):
    if agent.random.random() < epsilon:
        return agent.random.randrange(agent.n_actions)
    return int(np.argmax(q_values(agent.weights, obs)))


def sample_memory(agent, n):
    transitions = agent.random.sample(agent.memory, n)
    obs, action, reward, next_obs, terminated = zip(*transitions)
    return np.stack(obs), np.array(action), np.array(reward), np.stack(next_obs), np.array(terminated)


def train_step(agent, obs, action, reward, next_obs, terminated):
    w = agent.weights
    best = np.max(q_values(agent.target, next_obs), axis=1)
    best[terminated] = 0
    y = reward + GAMMA * best
    h = hidden_layer(w, obs)
    q = h @ w["out"] + w["out_bias"]
    rows = np.arange(len(obs))
    grad_q = np.zeros_like(q)
    grad_q[rows, action] = (q[rows, action] - y) / len(obs)
    grad_h = (grad_q @ w["out"].T) * (h > 0)
    grads = {"in": obs.T @ grad_h, "in_bias": grad_h.sum(0), "out": h.T @ grad_q, "out_bias": grad_q.sum(0)}
    agent.updates += 1
    for k, g in grads.items():
        agent.m[k] = 0.9 * agent.m[k] + 0.1 * g
        agent.v[k] = 0.999 * agent.v[k] + 0.001 * g ** 2
        m_hat = agent.m[k] / (1 - 0.9 ** agent.updates)
        v_hat = agent.v[k] / (1 - 0.999 ** agent.updates)
        w[k] -= LEARNING_RATE * m_hat / (np.sqrt(v_hat) + 1e-8)


def update_target(agent):
    agent.target = clone(agent.weights)


def epsilon_at(step):
    return EPS_START + min(1.0, step / EPS_STEPS) * (EPS_END - EPS_START)


def train(agent, env, n_steps):
    scores, score = [], 0.0
    obs, _ = env.reset()
    for step in range(n_steps):
        action = choose_action(agent, obs, epsilon_at(step))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.memory.append((obs, action, reward, next_obs, terminated))
        score += reward
        obs = next_obs
        if terminated or truncated:
            scores.append(score)
            score = 0.0
            obs, _ = env.reset()
        if len(agent.memory) >= LEARNING_STARTS and step % TRAIN_EVERY == 0:
            train_step(agent, *sample_memory(agent, BATCH_SIZE))
        if step % TARGET_EVERY == 0:
            update_target(agent)
    return scores


class Adapter:
    gamma = GAMMA

    def __init__(self, agent):
        self.agent = agent
        self.observation_size = agent.n_obs

    def q_values(self, obs):
        return q_values(self.agent.weights, obs)

    def target_q_values(self, obs):
        return q_values(self.agent.target, obs)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        train_step(self.agent, obs, action, reward, next_obs, np.asarray(terminated, dtype=bool))

    def sync_target(self):
        update_target(self.agent)

    def act(self, obs, epsilon):
        return choose_action(self.agent, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return sample_memory(self.agent, n)

    def run(self, env, env_steps):
        return train(self.agent, env, env_steps)


def make(seed=0):
    return Adapter(create(4, 2, seed))
