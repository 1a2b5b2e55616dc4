"""Check that the quantiles of a PyTorch network spread if rewards are random.

QR-DQN (Dabney et al., arXiv:1710.10044) and IQN (arXiv:1806.06923) learn each quantile with its own fraction. If the
fractions belong to the quantiles of the target instead, all quantiles learn the same value. Its mean is right, so no
other check can find this fault.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.learner import WRONG, Learner
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Finding, Passed
from perilune.doctor.session import AgentCopy, AgentFailed, as_array

FEWEST = 16  # quantiles; fewer outputs for each action may be the heads of an ensemble
WIDE, NARROW = 0.3, 0.1  # ranges of quantiles that are learned and not learned, for rewards of 0 and 1
BLOCK = 50  # updates between two evaluations
UPDATES = 2000
CPU_SHARE = 0.05  # of the time limit
AGAIN = 4  # updates to learn the quantiles, relative to those for the mean


def check_quantiles(learner: Learner) -> Iterator[Finding | Passed | str]:
    """Train a new agent on rewards of 0 and 1 for the same transitions, if its network returns quantiles."""
    agent = learner.session.new_copy()
    initial = _quantiles(agent, learner.obs)
    if initial is None:
        return
    batch = learner.problem("", "", "", np.full((len(learner.obs), 1), 1.0)).batch
    mixed = Transitions(*(np.concatenate([column] * 2) for column in batch))
    mixed.reward[len(batch.reward) :] = 0
    updates = min(UPDATES, learner.session.affordable(CPU_SHARE, train_batch=1))
    done, learned = 0, updates
    middle = spread = 0.0
    while done < min(updates, AGAIN * learned) and spread < WIDE and not learner.late:
        learner.train(agent, mixed, BLOCK, seed=done)
        done += BLOCK
        outputs = _quantiles(agent, learner.obs)
        if outputs is None:
            return
        middle, spread = float(np.abs(outputs.mean(axis=2) - 0.5).max()), _range(outputs)
        if middle < WRONG:
            learned = min(learned, done)
    if spread >= WIDE:
        yield Passed("probe problems", "learns different quantiles of a random reward")
    elif spread < NARROW and middle < WRONG and done >= AGAIN * learned:
        count, start = initial.shape[2], _range(initial)
        yield finding("loss.quantiles_equal", count=count, start=start, spread=spread, updates=done, learned=learned)
    else:
        yield f"quantiles: after {done} updates on rewards of 0 and 1, their range from 10% to 90% is {spread:.2g}"


def _range(outputs: Array) -> float:
    """Return the distance of the quantiles at 10 % and 90 %, averaged over observations and actions."""
    low, high = np.quantile(outputs, [0.1, 0.9], axis=2)
    return float((high - low).mean())


def _quantiles(agent: AgentCopy, obs: Array) -> Array | None:
    """Return the output of a PyTorch module whose mean over quantiles is Q(obs, a), (N, A, quantiles), or None."""
    modules = sys.modules.get("torch.nn.modules.module")
    if modules is None:
        return None
    outputs: list[Any] = []

    def record(module: Any, given: Any, output: Any) -> None:
        outputs.extend(output if isinstance(output, tuple) else [output])

    hook = modules.register_module_forward_hook(record)
    try:
        q = agent.q(obs)
    except AgentFailed:
        return None
    finally:
        hook.remove()
    for output in reversed(outputs):
        if not hasattr(output, "detach"):
            continue
        flat = as_array(output).astype(np.float64).reshape(-1)
        count = flat.size // q.size
        if count < FEWEST or flat.size % q.size:
            continue
        states, actions = q.shape
        for shape, axis in (((states, actions, count), 2), ((states, count, actions), 1), ((count, *q.shape), 0)):
            values = np.moveaxis(flat.reshape(shape), axis, 2)
            if np.abs(values.mean(axis=2) - q).max() < 1e-4 * np.abs(q).max():
                return values
    return None
