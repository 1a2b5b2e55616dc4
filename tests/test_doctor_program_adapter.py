"""Adapters that are built from unmodified programs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perilune.doctor.program import sources
from perilune.doctor.program.adapter import Built, build
from perilune.doctor.weights import walk

AGENT = """
import random
from collections import deque
import gymnasium as gym
import numpy as np

GAMMA = 0.9
BATCH_SIZE = 16
rng = np.random.default_rng(3)


class Network:
    def __init__(self):
        self.w1, self.b1 = rng.normal(size=(4, 12)) * 0.5, np.zeros(12)
        self.w2, self.b2 = rng.normal(size=(12, 2)) * 0.3, np.zeros(2)

    def predict(self, x):
        self.x = x
        self.h = np.maximum(x @ self.w1 + self.b1, 0)
        return self.h @ self.w2 + self.b2

    def train(self, error, lr=0.01):
        dh = error @ self.w2.T * (self.h > 0)
        self.w2 -= lr * self.h.T @ error
        self.b2 -= lr * error.sum(axis=0)
        self.w1 -= lr * self.x.T @ dh
        self.b1 -= lr * dh.sum(axis=0)


class Agent:
    def __init__(self):
        self.online, self.target = Network(), Network()
        self.memory = MEMORY

    def act(self, state, epsilon):
        if rng.random() < epsilon:
            return int(rng.integers(2))
        return int(np.argmax(self.online.predict(state[None])[0]))

    def learn(self):
        if len(self.memory) < 50:
            return
        SAMPLE
        target = rewards + GAMMA * self.target.predict(nexts).max(axis=1) * (1 - dones)
        q = self.online.predict(states)
        rows = np.arange(BATCH_SIZE)
        error = np.zeros_like(q)
        error[rows, actions] = (q[rows, actions] - target) / BATCH_SIZE
        self.online.train(error)


def main():
    env = gym.make("CartPole-v1")
    agent = Agent()
    for episode in range(300):
        state, _ = env.reset()
        done = False
        while not done:
            action = agent.act(state, max(0.1, 1 - episode / 100))
            following, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            STORE
            agent.learn()
            state = following


main()
"""
ROWS = (
    "deque(maxlen=5000)",
    "batch = random.sample(self.memory, BATCH_SIZE)\n"
    "        states, actions, rewards, nexts, dones = (np.array(c) for c in zip(*batch))",
    "agent.memory.append((state, action, reward, following, float(terminated)))",
)
DICTS = (
    "[]",
    "batch = [self.memory[i] for i in rng.choice(len(self.memory), BATCH_SIZE, replace=False)]\n"
    "        states, actions, rewards, nexts, dones = (np.array([b[k] for b in batch]) for k in 'sarne')",
    "agent.memory.append({'s': state, 'a': action, 'r': reward, 'n': following, 'e': terminated * 1})",
)
GLOBALS = (ROWS[0], ROWS[1], ROWS[2] + "  # global")


FUNCTIONS = """
from random import sample
import gymnasium as gym
import numpy as np

env = gym.make("CartPole-v1")
rng = np.random.default_rng(0)
SCALE = np.array([2.0, 3.0, 0.2, 3.0])
N = 16
W1, B1 = rng.normal(size=(12, 4)) * 0.5, np.zeros((12, 1))
W2, B2 = rng.normal(size=(2, 12)) * 0.3, np.zeros((2, 1))
T = [one.copy() for one in (W1, B1, W2, B2)]
S, A, R = np.zeros((4000, 4)), np.zeros(4000, int), np.zeros(4000)
S2, ENDED, WEIGHT = np.zeros((4000, 4)), np.zeros(4000), np.zeros(4000)
used = 0


def network(x, w1, b1, w2, b2):
    h = np.tanh(w1 @ x + b1)
    return h, w2 @ h + b2


def learn():
    global W1, B1, W2, B2
    i = np.array(sample(range(used), N))
    y = R[i] + 0.9 * (1 - ENDED[i]) * network(S2[i].T, *T)[1].max(axis=0)
    h, q = network(S[i].T, W1, B1, W2, B2)
    d = np.zeros_like(q)
    d[A[i], np.arange(N)] = (q[A[i], np.arange(N)] - y) / N
    dh = W2.T @ d * (1 - h**2)
    W2, B2 = W2 - 0.1 * d @ h.T, B2 - 0.1 * d.sum(axis=1, keepdims=True)
    W1, B1 = W1 - 0.1 * dh @ S[i], B1 - 0.1 * dh.sum(axis=1, keepdims=True)


gamma = 0.9
for episode in range(100):
    s, done = env.reset()[0] / SCALE, False
    while not done:
        a = int(rng.integers(2)) if rng.random() < 0.9 else int(network(s[:, None], W1, B1, W2, B2)[1].argmax())
        raw, r, ended, cut, _ = env.step(a)
        s2 = raw / SCALE
        S[used], A[used], R[used], S2[used], ENDED[used], WEIGHT[used] = s, a, r, s2, ended, used % 7
        used, s, done = used + 1, s2, ended or cut
        if used > 100:
            learn()
        if used % 50 == 0:
            T = [one.copy() for one in (W1, B1, W2, B2)]
"""


def program(directory: Path, parts: tuple[str, str, str]) -> Built | str:
    """Write the program with this memory, and build an adapter for it."""
    text = AGENT
    for name, part in zip(("MEMORY", "SAMPLE", "STORE"), parts[:3], strict=True):
        text = text.replace(name, part)
    if parts is GLOBALS:  # the agent is a variable of the module
        text = text.replace("def main():", "env = gym.make('CartPole-v1')\nagent = Agent()\n\n\ndef main():")
        text = text.replace('    env = gym.make("CartPole-v1")\n    agent = Agent()\n', "")
    return built(directory, text)


def built(directory: Path, text: str) -> Built | str:
    """Write a program, and build an adapter for it."""
    path = directory / "train.py"
    path.write_text(text, encoding="utf-8")
    trace: Any = SimpleNamespace(
        program=sources.find(str(path)), arguments=[], recorder=SimpleNamespace(on=False, networks={})
    )
    return build(trace, None)


def agent_of(adapter: Any) -> Any:
    """Return the program's own agent."""
    return adapter.module.get("agent") or adapter.agent.locals[0]["agent"]


def batch(count: int, terminated: bool = True) -> list[Any]:
    """Return transitions as columns."""
    rng = np.random.default_rng(1)
    obs, following = rng.normal(size=(2, count, 4)).astype(np.float32)
    reward = rng.normal(size=count).astype(np.float32)
    return [obs, np.arange(count) % 2, reward, following, np.full(count, terminated)]


@pytest.mark.parametrize("parts", [ROWS, DICTS, GLOBALS])
def test_adapter_learns_from_the_given_batch(tmp_path: Path, parts: tuple[str, str, str]) -> None:
    found = program(tmp_path, parts)
    assert isinstance(found, Built), found
    assert (found.pieces.gamma, found.pieces.learn) == (0.9, "Agent.learn")
    for count in (1, 5, 16, 70):  # the program's batch size is 16
        agent, other, columns = found.factory(), found.factory(), batch(count)
        before, error = agent.q_values(columns[0]), np.zeros((count, 2))
        w2 = agent_of(agent).online.w2.copy()
        agent.train_batch(*columns)
        rows = np.arange(count)
        error[rows, columns[1]] = (before[rows, columns[1]] - columns[2]) / count
        hidden = np.maximum(columns[0] @ agent_of(other).online.w1, 0)  # its biases are 0 at first
        expected = w2 - 0.01 * hidden.T @ error
        np.testing.assert_allclose(agent_of(agent).online.w2, expected, atol=1e-6)
        np.testing.assert_array_equal(other.q_values(columns[0]), before)


def test_target_uses_the_target_network(tmp_path: Path) -> None:
    found = program(tmp_path, ROWS)
    assert isinstance(found, Built), found
    columns = batch(8, terminated=False)
    agent = found.factory()
    goal = columns[2] + 0.9 * agent.target_q_values(columns[3]).max(axis=1)
    rows = np.arange(8)
    before = agent.q_values(columns[0])[rows, columns[1]]
    columns[2] = (columns[2] - goal + before).astype(np.float32)  # the target equals Q, so nothing is learned
    agent.train_batch(*columns)
    np.testing.assert_allclose(agent.q_values(columns[0])[rows, columns[1]], before, atol=1e-6)


def test_program_without_a_memory_has_no_adapter(tmp_path: Path) -> None:
    parts = (
        "np.zeros((0, 4))",
        "states, actions, rewards, nexts, dones = (np.array(c) for c in zip(*[(state, 0, 0.0, state, 0.0)] * 16))",
        "state",
    )
    found = program(tmp_path, parts)
    assert isinstance(found, str)


def test_written_adapter_gives_the_same_agent(tmp_path: Path) -> None:
    found = program(tmp_path, ROWS)
    assert isinstance(found, Built), found
    variables: dict[str, Any] = {}
    exec(found.source(), variables)  # noqa: S102 -- our own text
    columns = batch(8, terminated=False)
    agents = found.factory(), variables["make"]()
    for agent in agents:
        agent.train_batch(*columns)
    np.testing.assert_array_equal(agents[0].q_values(columns[0]), agents[1].q_values(columns[0]))


def test_weights_of_a_copy_are_its_own(tmp_path: Path) -> None:
    found = program(tmp_path, GLOBALS)
    assert isinstance(found, Built), found
    first, second = found.factory(), found.factory()
    obs = batch(3)[0]
    before = second.q_values(obs)
    first.q_values(obs)  # leaves its own variables in the module
    arrays = walk(second)
    assert {name for name in arrays if name.endswith("online.w1")} == {"agent.online.w1"}
    arrays["agent.online.w1"][...] += 1
    assert not np.array_equal(second.q_values(obs), before)
    np.testing.assert_array_equal(first.q_values(obs), before)


def test_each_call_learns_if_the_program_learns_every_fourth_time(tmp_path: Path) -> None:
    sample = ROWS[1].replace(
        "batch = ",
        "self.calls = getattr(self, 'calls', 0) + 1\n        if self.calls % 4:\n            return\n        batch = ",
        1,
    )
    found = program(tmp_path, (ROWS[0], sample, ROWS[2]))
    assert isinstance(found, Built), found
    agent, columns = found.factory(), batch(16)
    for _ in range(6):
        before = agent.q_values(columns[0])
        agent.train_batch(*columns)
        assert not np.array_equal(agent.q_values(columns[0]), before)


def test_adapter_of_module_variables_with_scaled_observations_and_priorities(tmp_path: Path) -> None:
    adapter = built(tmp_path, FUNCTIONS)
    assert isinstance(adapter, Built), adapter
    agent, other = adapter.factory(), adapter.factory()
    columns = batch(6)
    before = agent.q_values(columns[0])
    assert before.shape == (6, 2)
    agent.train_batch(*columns)
    change = agent.q_values(columns[0]) - before
    rows = np.arange(6)
    assert (np.sign(change[rows, columns[1]]) == np.sign(columns[2] - before[rows, columns[1]])).mean() > 0.8
    assert np.array_equal(other.q_values(columns[0]), before)
    assert adapter.pieces.target_q_values is not None
