"""The recorder does not change what a program computes: same seed and same environment, same losses and weights."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import numpy as np
import pytest

from test_doctor_program_sources import run, write

# The actions of this environment are continuous, so the program runs in it, and not in a tracer environment.
PROGRAM = """
import random
from collections import deque
import gymnasium
import numpy as np
{imports}
random.seed(3)
np.random.seed(4)
rng = np.random.default_rng(5)
env = gymnasium.make("Pendulum-v1")
memory, losses, rewards = deque(maxlen=100), [], []
{network}
obs, _ = env.reset(seed=6)
for step in range(120):
    action = random.randrange(3) if np.random.rand() < 0.5 else int(np.argmax(values(obs[None])))
    next_obs, reward, terminated, truncated, _ = env.step([float(action - 1)])
    memory.append((obs, action, reward, next_obs, terminated))
    rewards.append(reward)
    obs = next_obs
    if len(memory) >= 32:
        rows = [memory[i] for i in rng.integers(len(memory), size=16)]
        losses.append(learn(*(np.array(column, np.float32) for column in zip(*rows))))
last = random.random(), np.random.rand(), rng.random()
"""
NUMPY = """
W, V = np.random.randn(3, 8), np.random.randn(8, 3)
def values(x):
    return np.maximum(x @ W, 0) @ V
def learn(s, a, r, s2, d):
    global W, V
    h = np.maximum(s @ W, 0)
    q = h @ V
    error = np.zeros_like(q)
    index = np.arange(len(a)), a.astype(int)
    error[index] = q[index] - (0.01 * r + 0.9 * values(s2).max(axis=1) * (1 - d))
    dh = (error @ V.T) * (h > 0)
    V -= 0.001 * h.T @ error
    W -= 0.001 * s.T @ dh
    return float((error ** 2).mean())
"""
TORCH = """
torch.set_num_threads(1)
torch.manual_seed(7)
net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(8, 3))
optimizer = torch.optim.Adam(net.parameters(), 1e-3)
def values(x):
    with torch.no_grad():
        return net(torch.as_tensor(x)).numpy()
def learn(s, a, r, s2, d):
    s, r, s2, d = map(torch.as_tensor, (s, r, s2, d))
    q = net(s).gather(1, torch.as_tensor(a).long()[:, None]).squeeze(1)
    with torch.no_grad():
        y = 0.01 * r + 0.9 * net(s2).max(1)[0] * (1 - d)
    loss = torch.nn.functional.mse_loss(q, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    weights[:] = [one.detach().numpy().copy() for one in net.parameters()]
    return loss.item()
weights = []
"""


@pytest.mark.parametrize("package", ["numpy", "torch"])
def test_program_computes_the_same_numbers(tmp_path: Path, package: str) -> None:
    pytest.importorskip(package)
    network = {"numpy": NUMPY, "torch": TORCH}[package]
    path = write(tmp_path, PROGRAM.format(imports=f"import {package}", network=network))
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 -- the program uses it
    try:
        alone = runpy.run_path(str(path))
        trace = run(path)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    assert trace.error is None
    assert trace.log is None  # no tracer environment
    observed = trace.namespace
    assert len(alone["losses"]) == 89
    assert observed["losses"] == alone["losses"]
    assert observed["rewards"] == alone["rewards"]
    assert observed["last"] == alone["last"]
    for name in ("W", "V") if package == "numpy" else ("weights",):
        assert all(np.array_equal(one, other) for one, other in zip(observed[name], alone[name], strict=True))
