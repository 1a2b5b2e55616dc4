"""Small agents for tests of the doctor: one with the two required methods, and one with all methods."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from perilune import cli, doctor

Array = Any


class Linear:
    """Linear Q-learning, Q = x W + b. Faulty agents override a method."""

    gamma = 0.9
    observation_size = 4

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.w = rng.normal(0, 0.5, (4, 2))
        self.b = np.zeros(2)
        self.target = self.w.copy(), self.b.copy()

    def q_values(self, obs: Array) -> Array:
        return obs @ self.w + self.b

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        next_q = next_obs @ self.target[0] + self.target[1]
        target = reward + self.gamma * ~terminated * next_q.max(axis=1)
        rows = np.arange(len(action))
        error = np.zeros((len(action), 2))
        error[rows, action] = ((obs @ self.w + self.b)[rows, action] - target) / len(action)
        self.w -= 0.05 * obs.T @ error
        self.b -= 0.05 * error.sum(axis=0)


class Complete(Linear):
    """Linear Q-learning with every method of an adapter except those for gradients."""

    epsilon_steps = 500
    epsilon_end = 0.05

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.rng = np.random.default_rng(seed)
        self.memory: list[tuple[Any, ...]] = []

    def target_q_values(self, obs: Array) -> Array:
        return obs @ self.target[0] + self.target[1]

    def sync_target(self) -> None:
        self.target = self.w.copy(), self.b.copy()

    def act(self, obs: Array, epsilon: float) -> int:
        if self.rng.random() < epsilon:
            return int(self.rng.integers(2))
        return int(self.q_values(obs).argmax())

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> None:
        self.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n: int) -> tuple[Array, ...]:
        rows = self.rng.integers(len(self.memory), size=n)
        return tuple(np.array(column) for column in zip(*(self.memory[row] for row in rows), strict=True))

    def run(self, env: Any, env_steps: int) -> None:
        obs, _ = env.reset()
        for step in range(env_steps):
            action = self.act(obs, max(self.epsilon_end, 1 - step / self.epsilon_steps))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated, truncated)
            obs = env.reset()[0] if terminated or truncated else next_obs
            self.after(step)

    def after(self, step: int) -> None:
        if step >= 32:
            self.train_batch(*self.sample(32))
        if step % 200 == 0:
            self.sync_target()


class NoMask(Linear):
    """Bootstraps from the next state of terminated transitions."""

    def train_batch(self, *batch: Any) -> None:
        super().train_batch(*batch[:4], np.zeros_like(batch[4]))


def target_of(next_value: Callable[[Any, Array, Array, Array], Array]) -> Callable[..., None]:
    """Return a train_batch that bootstraps from ``next_value(agent, obs, action, next_obs)``."""

    def train_batch(self: Linear, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        target = reward + self.gamma * ~terminated * next_value(self, obs, action, next_obs)
        Linear.train_batch(self, obs, action, target, next_obs, np.ones_like(terminated))

    return train_batch


def examine(agent: Callable[..., Any], **options: Any) -> doctor.Report:
    """Examine with a time limit that a busy machine does not exceed, and assert that no check crashed."""
    report = doctor.check_agent(agent, **{"budget": 600.0} | options)
    assert not [check for check in report.not_run if "the check itself failed" in check.why], report.not_run
    return report


def updates_of(agent: type) -> type:
    """Return an agent without a replay buffer and a training loop, whose checks take more time than all others."""
    return type(agent.__name__, (agent,), {"run": None, "remember": None, "sample": None})


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``perilune doctor`` in this process. The agent runs in a process of its own, as always.

    To start Python for the command too takes longer than many examinations.
    """
    out, error, status, path = io.StringIO(), io.StringIO(), 0, sys.path[:]
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            cli.main(["doctor", *map(str, arguments)])
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            sys.path[:] = path
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), error.getvalue())


def ids(report: doctor.Report) -> list[str]:
    return [finding.id for finding in report.faults]


class Deep:
    """A DQN with two hidden layers of ReLU units and Adam, with every method of an adapter except those for gradients.

    Faulty agents and unusual sound ones override a part of it.
    """

    gamma = 0.97
    observation_size = 6
    actions = 3
    learning_rate = 1e-3

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.online = self.network()
        self.target = [array.copy() for array in self.online]
        # Adam's averages of all gradients and their squares, each as one vector: one step of six arrays takes longer.
        self.moments = np.zeros((2, sum(array.size for array in self.online)))
        self.updates = 0
        self.memory: list[tuple[Any, ...]] = []

    def network(self) -> list[Array]:
        """Return weights and biases of a new network, layer by layer."""
        sizes = (self.observation_size, 32, 32, self.actions)
        return [
            array for i, o in pairwise(sizes) for array in (self.rng.normal(0, np.sqrt(2 / i), (i, o)), np.zeros(o))
        ]

    @staticmethod
    def forward(arrays: list[Array], obs: Array) -> list[Array]:
        """Return the input, the hidden layers and the outputs of a network."""
        w1, b1, w2, b2, w3, b3 = arrays
        first = np.maximum(obs @ w1 + b1, 0)
        second = np.maximum(first @ w2 + b2, 0)
        return [obs, first, second, second @ w3 + b3]

    def q_values(self, obs: Array) -> Array:
        return self.forward(self.online, obs)[-1]

    def target_q_values(self, obs: Array) -> Array:
        return self.forward(self.target, obs)[-1]

    def next_values(self, obs: Array, action: Array, next_obs: Array) -> Array:
        return self.target_q_values(next_obs).max(axis=1)

    def targets(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Array:
        return reward + self.gamma * ~terminated * self.next_values(obs, action, next_obs)

    def errors(self, q: Array, action: Array, targets: Array) -> Array:
        """Return the derivative of the loss with respect to the outputs, (B, A)."""
        rows = np.arange(len(action))
        errors = np.zeros_like(q)
        errors[rows, action] = (q[rows, action] - targets) / len(action)
        return errors

    def backward(self, layers: list[Array], errors: Array) -> list[Array]:
        """Return the gradients of all arrays, given the derivative with respect to the outputs."""
        gradients = []
        for weights, inputs in zip(self.online[-2::-2], reversed(layers[:-1]), strict=True):
            gradients = [inputs.T @ errors, errors.sum(axis=0), *gradients]
            errors = (errors @ weights.T) * (inputs > 0)
        return gradients

    def step(self, gradients: list[Array]) -> None:
        self.updates += 1
        gradient, (m, v) = np.concatenate([array.reshape(-1) for array in gradients]), self.moments
        m += 0.1 * (gradient - m)
        v += 0.001 * (gradient**2 - v)
        corrected = np.sqrt(v / (1 - 0.999**self.updates))
        steps = self.learning_rate * m / (1 - 0.9**self.updates) / (corrected + 1e-8)
        for array, change in zip(self.online, self.by_array(steps), strict=True):
            array[...] -= change

    def by_array(self, vector: Array) -> list[Array]:
        """Return the parts of a vector that belong to each array of the network, with its shape."""
        found, start = [], 0
        for array in self.online:
            found.append(vector[start : start + array.size].reshape(array.shape))
            start += array.size
        return found

    def train_batch(self, *batch: Array) -> None:
        layers = self.forward(self.online, batch[0])
        self.step(self.backward(layers, self.errors(layers[-1], batch[1], self.targets(*batch))))

    def sync_target(self) -> None:
        self.target = [array.copy() for array in self.online]

    def act(self, obs: Array, epsilon: float) -> int:
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.actions))
        return int(self.q_values(obs[None])[0].argmax())

    remember, sample = Complete.remember, Complete.sample

    def run(self, env: Any, env_steps: int) -> None:
        obs, _ = env.reset()
        for step in range(env_steps):
            action = self.act(obs, max(0.05, 1 - 2 * step / env_steps))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated, truncated)
            obs = env.reset()[0] if terminated or truncated else next_obs
            if step >= 64:
                self.train_batch(*self.sample(32))
            if step % 100 == 0:
                self.sync_target()
