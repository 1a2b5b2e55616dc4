"""What the doctor reads off the predictions and targets of an unmodified program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import random
import gymnasium as gym
import numpy as np

rng = np.random.default_rng(3)
random.seed(3)
GAMMA = 0.9


def network():
    return {"w1": rng.normal(size=(4, 16)) * 0.5, "w2": rng.normal(size=(16, 2)) * 0.3}


def forward(net, x):
    return np.maximum(x @ net["w1"], 0) @ net["w2"]


online, target = network(), network()
env = gym.make("CartPole-v1")
memory = []
for episode in range(200):
    obs, _ = env.reset()
    done = False
    while not done:
        action = random.randrange(2)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        memory.append((obs, action, reward, next_obs, terminated))
        obs = next_obs
        if len(memory) > 64:
            s, a, r, s2, end = (np.array(one) for one in zip(*random.sample(memory, 32)))
            rows = np.arange(32)
            q = forward(online, s)
            future = forward(target, s2).max(axis=1)
            goal = r + GAMMA * future * (1 - end)
            error = np.zeros_like(q)
            error[rows, a] = q[rows, a] - goal
            h = np.maximum(s @ online["w1"], 0)
            online["w2"] -= 0.001 * h.T @ error
"""
GOAL = "goal = r + GAMMA * future * (1 - end)"
FUTURE = "future = forward(target, s2).max(axis=1)"

READ = """
import json, sys
from perilune.doctor.program.running import Trace
from perilune.doctor.program.targets import Targets

targets = Targets()


def analyze(trace, window):
    targets.window(trace, window)
    return targets.done


trace = Trace(sys.argv[1], [], analyze)
trace.run()
found = list(targets.findings(trace))
print(json.dumps({
    "ids": [one.id for one in found if hasattr(one, "id") and one.severity != "note"],
    "notes": [one.evidence for one in found if hasattr(one, "id") and one.severity == "note"],
    "lines": [(one.where or "").rpartition(":")[2] for one in found if hasattr(one, "id") and one.severity != "note"],
    "passed": [one.text for one in found if hasattr(one, "text")],
    "discount": targets.discount,
}))
"""


def read(directory: Path, program: str) -> dict[str, list[str]]:
    """Return what the targets of a program show."""
    path = directory / "train.py"
    path.write_text(program)
    command = [sys.executable, "-c", READ, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=directory)  # noqa: S603
    content: dict[str, list[str]] = json.loads(result.stdout.splitlines()[-1])
    return content


def changed(old: str, new: str) -> str:
    """Return the program with replaced code."""
    assert PROGRAM.count(old) == 1, old
    return PROGRAM.replace(old, new)


def test_targets_of_a_sound_program_are_explained(tmp_path: Path) -> None:
    found = read(tmp_path, PROGRAM)
    assert found["ids"] == found["notes"] == []
    assert found["discount"] == pytest.approx(0.9)
    formula = "reward + 0.9000 x the largest Q(next_obs, a)"
    assert any(formula in text and "100%" in text for text in found["passed"])
    assert any(text.startswith("terminated transitions do not bootstrap") for text in found["passed"])


SOUND = {
    "rewards of CartPole are whole numbers": (GOAL, "goal = r.astype(int) + GAMMA * future * (1 - end)"),
    "double": (
        FUTURE,
        "best = forward(online, s2).argmax(axis=1)\n            future = forward(target, s2)[rows, best]",
    ),
    "clipped rewards": (GOAL, "goal = np.clip(r, -1, 1) + GAMMA * future * (1 - end)"),
    "penalty": ("action, reward, next_obs", "action, -1000 if terminated else reward, next_obs"),
    "scaled rewards": (GOAL, "goal = 0.05 * r + GAMMA * future * (1 - end)"),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_targets(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, changed(*SOUND[name]))
    assert found["ids"] == []
    assert found["discount"] == pytest.approx(0.9)


def test_targets_with_a_target_network_that_is_0_are_not_judged(tmp_path: Path) -> None:
    zero = "forward({name: 0 * array for name, array in target.items()}, s2)"
    found = read(tmp_path, changed("forward(target, s2)", zero))
    assert found["ids"] == []
    assert not any(text.startswith("the targets are") for text in found["passed"])


def test_rounded_rewards_of_an_environment_that_pays_fractions(tmp_path: Path) -> None:
    lander = changed(GOAL, "goal = r.astype(int) + GAMMA * future * (1 - end)")
    for old, new in (("CartPole-v1", "LunarLander-v3"), ("(4, 16)", "(8, 16)"), ("(16, 2)", "(16, 4)")):
        lander = lander.replace(old, new)
    assert read(tmp_path, lander)["ids"] == ["replay.rounds_rewards"]


FAULTS = {
    "td_target.no_mask": (GOAL, "goal = r + GAMMA * future"),
    "td_target.mask_inverted": (GOAL, "goal = r + GAMMA * future * end"),
    "td_target.mask_of_another_row": (GOAL, "goal = r + GAMMA * future * (1 - end[-1])"),
    "td_target.reward_masked": (GOAL, "goal = (r + GAMMA * future) * (1 - end)"),
    "td_target.reward_discounted": (GOAL, "goal = GAMMA * (r + future * (1 - end))"),
    "td_target.batch_axis": (FUTURE, "future = forward(target, s2).max()"),
    "td_target.no_bootstrap": (GOAL, "goal = r + 0 * future"),
    "td_target.mean": (FUTURE, "future = forward(target, s2).mean(axis=1)"),
    "td_target.same_state": (FUTURE, "future = forward(target, s).max(axis=1)"),
    "td_target.other_row": (
        FUTURE,
        "future = np.append(forward(target, s2[~end]).max(axis=1), np.zeros(end.sum()))\n            end = 0",
    ),
    "loss.wrong_action": ("q[rows, a] - goal", "q[rows, a[0]] - goal"),
    "environment.truncation_as_end": ("next_obs, terminated))", "next_obs, done))"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_targets(tmp_path: Path, name: str) -> None:
    old, new = FAULTS[name]
    program = changed(old, new)
    found = read(tmp_path, program)
    assert found["ids"] == [name]
    line = int(found["lines"][0])
    place = next(number for number, text in enumerate(program.splitlines(), 1) if new.split("\n")[0].strip() in text)
    assert abs(line - place) <= 5
