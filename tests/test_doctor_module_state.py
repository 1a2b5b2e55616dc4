"""Test agents whose networks are variables of a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doctor_agents import examine, ids
from perilune.doctor.loading import load_factory

PROGRAM = """
import numpy as np

GAMMA = 0.9
weights = target = rng = None
steps = 0
memory = []


def setup(seed):
    global weights, target, rng
    rng = np.random.default_rng(seed)
    weights = {"w": rng.normal(0, 0.5, (4, 2)), "b": np.zeros(2)}
    target = {name: array.copy() for name, array in weights.items()}


def q(obs, network):
    return obs @ network["w"] + network["b"]


def learn(obs, action, reward, next_obs, terminated):
    following = q(next_obs, target).max(axis=1)
    errors = np.zeros((len(action), 2))
    rows = np.arange(len(action))
    errors[rows, action] = q(obs, weights)[rows, action] - reward - GAMMA * (MASK) * following
    weights["w"] -= 0.05 * obs.T @ errors / len(action)
    weights["b"] -= 0.05 * errors.mean(axis=0)


def sync():
    global target
    target = {name: array.copy() for name, array in weights.items()}


def train(env, count):
    global steps
    obs, _ = env.reset()
    for _ in range(count):
        steps += 1
        explore = rng.random() < max(0.05, 1 - steps / 500)
        action = int(rng.integers(2)) if explore else int(q(obs[None], weights).argmax())
        next_obs, reward, terminated, truncated, _ = env.step(action)
        memory.append((obs, action, reward, next_obs, terminated))
        obs = env.reset()[0] if terminated or truncated else next_obs
        if len(memory) >= 32:
            batch = [memory[row] for row in rng.integers(len(memory), size=32)]
            learn(*(np.array(column) for column in zip(*batch)))
        if steps % 50 == 0:
            sync()


class Agent:
    gamma = GAMMA
    observation_size = 4

    def q_values(self, obs):
        return q(obs, weights)

    def target_q_values(self, obs):
        return q(obs, target)

    def sync_target(self):
        sync()

    def train_batch(self, *batch):
        learn(*batch)

    def run(self, env, env_steps):
        train(env, env_steps)


def make(seed=0):
    setup(seed)
    return Agent()
"""


@pytest.mark.parametrize(("mask", "faults"), [("~terminated", []), ("1.0", ["td_target.no_mask"])])
def test_agent_in_module_variables_is_examined(tmp_path: Path, mask: str, faults: list[str]) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.replace("MASK", mask))
    report = examine(load_factory(f"{tmp_path / 'program.py'}:make"))
    assert ids(report) == faults
    checked: Any = {one.check for one in report.passed}
    assert faults or {"TD target", "target network", "training loop"} <= checked or report.healthy
    assert not [one for one in report.not_run if "share state" in one.why]
