"""What the doctor reads off the training loop of an unmodified program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import random
from collections import deque
import gymnasium as gym
import numpy as np

rng = np.random.default_rng(3)
random.seed(3)


class Network:
    def __init__(self):
        self.w1, self.b1 = rng.normal(size=(4, 16)) * 0.5, np.zeros(16)
        self.w2, self.b2 = rng.normal(size=(16, 2)) * 0.3, np.zeros(2)

    def predict(self, x):
        return np.maximum(x @ self.w1 + self.b1, 0) @ self.w2 + self.b2

    def train(self, x, error, lr=0.01):
        h = np.maximum(x @ self.w1 + self.b1, 0)
        dh = error @ self.w2.T * (h > 0)
        self.w2 -= lr * h.T @ error
        self.b2 -= lr * error.sum(axis=0)
        self.w1 -= lr * x.T @ dh
        self.b1 -= lr * dh.sum(axis=0)


def copy(target, online):
    for name in ("w1", "b1", "w2", "b2"):
        setattr(target, name, getattr(online, name).copy())


def average(target, online, tau):
    for name in ("w1", "b1", "w2", "b2"):
        setattr(target, name, tau * getattr(online, name) + (1 - tau) * getattr(target, name))


def sample():
    return random.sample(memory, 32)


def learn():
    batch = sample()
    obs, action, reward, next_obs, ended = (np.array(one) for one in zip(*batch))
    goal = reward + 0.9 * target.predict(next_obs).max(axis=1) * (1 - ended)
    q = online.predict(obs)
    rows = np.arange(32)
    error = np.zeros_like(q)
    error[rows, action] = (q[rows, action] - goal) / 32
    online.train(obs, error)


def choose(state):
    if random.random() < epsilon:
        return random.randrange(2)
    return int(online.predict(state[None])[0].argmax())


env = gym.make("CartPole-v1")
memory = deque(maxlen=5000)
online, target = Network(), Network()
copy(target, online)
epsilon, updates = 1.0, 0
for episode in range(500):
    state, _ = env.reset()
    done = False
    while not done:
        action = choose(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        memory.append((state, action, reward, next_state, terminated))
        state = next_state
        if len(memory) > 100:
            learn()
            updates += 1
            if updates % 50 == 0:
                copy(target, online)
        epsilon = max(0.1, epsilon * 0.999)
"""

READ = """
import sys
from perilune.doctor.program.acting import Acting
from perilune.doctor.program.loop import Loop
from perilune.doctor.program.running import Trace
from perilune.doctor.program.storing import Storing
from perilune.doctor.program.syncing import Syncing
from perilune.doctor.program.waiting import Waiting
from perilune.doctor.report import Finding

path, limit = sys.argv[1], int(sys.argv[2])  # the program gets other arguments
waiting = Waiting()
readers = [Acting(), Loop(), Storing(), Syncing(waiting), waiting]


def analyze(trace, window):
    for reader in readers:
        reader.window(trace, window)
    return len(trace.log.steps) >= limit


trace = Trace(path, [], analyze)
trace.run()
trace.recorder.on = False
for reader in readers:
    for one in reader.findings(trace):
        if isinstance(one, Finding):
            print("FOUND", one.id, (one.where or "").rpartition(":")[2])
        else:
            print("OTHER", type(one).__name__, one)
"""


def results(directory: Path, program: str, steps: int = 350) -> list[str]:
    """Return the results of the readers, one line each."""
    path = directory / "train.py"
    path.write_text(program)
    command = [sys.executable, "-c", READ, str(path), str(steps)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=directory)  # noqa: S603
    return result.stdout.splitlines()


def read(directory: Path, program: str, steps: int = 350) -> list[str]:
    """Return the ids of the findings about a program."""
    return [line.split()[1] for line in results(directory, program, steps) if line.startswith("FOUND")]


def changed(*replacements: tuple[str, str]) -> str:
    """Return the program with replaced code."""
    program = PROGRAM
    for old, new in replacements:
        assert program.count(old) == 1, old
        program = program.replace(old, new)
    return program


STORED = "        memory.append((state, action, reward, next_state, terminated))\n"
ADVANCED = "        state = next_state\n"
SYNC = "            if updates % 50 == 0:\n                copy(target, online)\n"


def test_sound_program(tmp_path: Path) -> None:
    assert read(tmp_path, PROGRAM, 700) == []


SOUND = {
    "soft updates": (SYNC, "            average(target, online, 0.01)\n"),
    "greedy from the start with probability 0.9": ("epsilon, updates = 1.0, 0", "epsilon, updates = 0.1, 0"),
    "comparison with the probability of greedy actions": ("random.random() < epsilon", "random.random() > 1 - epsilon"),
    "the last reward is changed": (STORED, STORED.replace("reward,", "reward - 1 if terminated else reward,")),
    "rewards are scaled": (STORED, STORED.replace("reward,", "reward / 10,")),
    "next_obs is 0 where the episode terminated": (
        STORED,
        STORED.replace("next_state,", "0 * next_state if terminated else next_state,"),
    ),
    "small memory": ("maxlen=5000", "maxlen=200"),
    "the batch is shuffled after the targets": (
        "    q = online.predict(obs)\n",
        "    order = rng.permutation(32)\n    obs, action, goal = obs[order], action[order], goal[order]\n"
        "    q = online.predict(obs)\n",
    ),
    "several updates after each episode": (
        "            learn()\n            updates += 1\n",
        "            for _ in range(5 * done):\n                learn()\n            updates += 1\n",
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_variants(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, changed(SOUND[name])) == []


COPIED = "        setattr(target, name, getattr(online, name).copy())"
FAULTS: dict[str, tuple[tuple[str, str], ...]] = {
    "exploration.argmin": ((".argmax())", ".argmin())"),),
    "target_network.shared": ((COPIED, COPIED.removesuffix(".copy())") + ")"),),
    "target_network.tau_reversed": ((SYNC, "            average(target, online, 0.99)\n"),),
    "target_network.backwards": ((SYNC, SYNC.replace("target, online", "online, target")),),
    "exploration.inverted": (("random.random() < epsilon", "random.random() > epsilon"),),
    "exploration.epsilon_ignored": (("random.random() < epsilon", "np.random.randn() < epsilon"),),
    "exploration.action_never_tried": (("random.randrange(2)", "random.randrange(1)"),),
    "exploration.out_of_range": (("random.randrange(2)", "random.randint(0, 2)"), ("action] =", "action % 2] =")),
    "exploration.epsilon_out_of_range": (("max(0.1, epsilon * 0.999)", "epsilon - 0.002"),),
    "exploration.decays_at_once": (("max(0.1, epsilon * 0.999)", "min(0.1, epsilon * 0.999)"),),
    "loop.acts_on_other_state": (
        (ADVANCED, "        previous, state = state, next_state\n"),
        ("choose(state)\n", "choose(previous)\n"),
        ("    done = False\n", "    done = False\n    previous = state\n"),
        ("epsilon, updates = 1.0", "epsilon, updates = 0.1"),
    ),
    "loop.state_not_advanced": ((ADVANCED, ""), ("epsilon, updates = 1.0", "epsilon, updates = 0.1")),
    "loop.advanced_too_early": ((STORED + ADVANCED, ADVANCED + STORED),),
    "loop.other_action_stored": ((STORED, STORED.replace("action,", "choose(state),")),),
    "replay.next_is_current": ((STORED, STORED.replace("next_state,", "state,")),),
    "replay.newest_only": (("random.sample(memory, 32)", "list(memory)[-32:]"),),
    "replay.oldest_only": (("random.sample(memory, 32)", "random.sample(list(memory)[:100], 32)"),),
    "replay.same_draws": (("random.sample(memory, 32)", "list(memory)[::3][:32]"),),
    "replay.terminal_lost": ((STORED, "        if not terminated:\n    " + STORED),),
    "replay.changes_observations": (
        (STORED, STORED.replace("(state,", "(state.astype(int),").replace("next_state,", "next_state.astype(int),")),
    ),
    "environment.no_reset": (("done = terminated or truncated", "done = truncated"),),
    "environment.reset_as_next": (
        (STORED, "        if truncated:\n            next_state, _ = env.reset()\n" + STORED),
    ),
    "environment.old_interface": (
        ("next_state, reward, terminated, truncated, _ =", "next_state, reward, terminated, _ ="),
        ("terminated or truncated", "terminated"),
    ),
}


LONG = (  # the others run in each test run
    *("target_network.backwards", "exploration.out_of_range", "exploration.epsilon_out_of_range"),
    *("exploration.decays_at_once", "loop.acts_on_other_state", "loop.advanced_too_early", "loop.other_action_stored"),
    *("replay.oldest_only", "replay.same_draws", "replay.terminal_lost", "replay.changes_observations"),
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in LONG else name for name in FAULTS]
)
def test_faults(tmp_path: Path, name: str) -> None:
    assert name in read(tmp_path, changed(*FAULTS[name]), 700 if name in LONG else 350)


PYTORCH = """
import random
import gymnasium as gym
import numpy as np
import torch

net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
optimizer = torch.optim.Adam(net.parameters())
env = gym.make("CartPole-v1")
memory = []
for episode in range(40):
    state, _ = env.reset(seed=episode)
    done = False
    while not done:
        action = random.randrange(2)
        next_state, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        memory.append((state, action, reward, next_state, terminated))
        state = next_state
        if len(memory) > 32:
            s, a, r, s2, end = (np.array(one) for one in zip(*random.sample(memory, 16)))
            with torch.no_grad():
                goal = torch.tensor(r + 0.9 * net(torch.tensor(s2)).numpy().max(axis=1) * (1 - end)).float()
            q = net(torch.tensor(s))[np.arange(16), a]
            loss = torch.nn.functional.mse_loss(q, goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
"""
TAKEN = "q = net(torch.tensor(s))[np.arange(16), a]"


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (TAKEN, []),
        (
            TAKEN.replace("q =", "q = torch.tensor(").replace("a]", "a].tolist(), requires_grad=True)"),
            ["backward.detached"],
        ),
        (f"{TAKEN}.detach().requires_grad_()", ["backward.detached"]),
    ],
)
def test_predictions_without_a_path_to_the_network(tmp_path: Path, prediction: str, expected: list[str]) -> None:
    pytest.importorskip("torch")
    assert read(tmp_path, PYTORCH.replace(TAKEN, prediction)) == expected


def test_arrays_that_a_forward_pass_keeps_are_not_weights(tmp_path: Path) -> None:
    kept = ("        return np.maximum(x @ self.w1", "        self.x = x\n        return np.maximum(x @ self.w1")
    lines = results(tmp_path, changed(kept, (SYNC, "")))
    assert not any("the target network changed" in line for line in lines), lines
    assert any("the target network did not change" in line for line in lines), lines


DISCRETE = """
import random
import gymnasium as gym
import numpy as np

random.seed(3)
env = gym.make("Taxi-v3")
w = np.random.default_rng(3).normal(size=(500, 6))
memory = []


def q_values(states):
    return np.eye(500)[states] @ w


state, _ = env.reset()
for step in range(5000):
    if random.random() < 0.3:
        action = random.randrange(6)
    else:
        action = int(q_values([state])[0].argmax())
    next_state, reward, terminated, truncated, _ = env.step(action)
    memory.append((state, action, reward, next_state, terminated))
    state = next_state
    if terminated or truncated:
        state, _ = env.reset()
    if step > 100 and step % 4 == 0:
        states, actions, rewards, next_states, ended = map(np.array, zip(*random.sample(memory, 32)))
        goal = rewards + 0.9 * q_values(next_states).max(axis=1) * (1 - ended)
        q = q_values(states)
        error = q[np.arange(32), actions] - goal
        np.subtract.at(w, (states, actions), 0.1 * error)
"""


def test_discrete_observations(tmp_path: Path) -> None:
    assert read(tmp_path, DISCRETE) == []
    ignored = DISCRETE.replace("        state, _ = env.reset()", "        env.reset()")
    assert read(tmp_path, ignored) == ["loop.acts_on_other_state"] * 2  # by its choices and by its transitions
    worst = DISCRETE.replace("argmax()", "argmin()").splitlines()
    (number,) = (number for number, line in enumerate(worst, 1) if "argmin" in line)
    assert f"FOUND exploration.argmin {number}" in results(tmp_path, "\n".join(worst))
