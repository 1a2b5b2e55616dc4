"""What the transitions of one batch have to do with each other: nothing but that their errors are averaged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import found
from perilune.doctor.checks.td import regression, speaks
from perilune.doctor.patient import Transitions
from perilune.doctor.report import Finding
from perilune.doctor.ward import CannotTell, Case, Ward

ROWS = 4


def check(ward: Ward) -> Iterator[Finding]:
    speaks(ward)
    case = ward.fresh()
    rows = max(ROWS, ward.rows)
    batch = ward.transitions(rows)
    q = case.q(batch.obs)[np.arange(rows), batch.action]
    # Neighbours differ; but not so that, clipped, they are 0 in the mean, where values drawn to all targets rest.
    errors = np.where(np.arange(rows) % 4 == 1, -3.0, 3.0)
    batch = batch._replace(reward=(q + errors).astype(np.float32))
    if ward.facts.get("ends") in ("mask_inverted", "reward_masked"):
        batch = batch._replace(terminated=np.zeros(rows, bool))
    base = _change(case, batch)
    size = np.abs(base).max()
    if size == 0:
        raise CannotTell("no update on a batch moved Q")

    order = np.roll(np.arange(rows), 1)
    exchanged = np.abs(_change(case, batch._replace(reward=batch.reward[order])) - base).max()
    lower = np.abs(_change(case, batch._replace(reward=(q - 3).astype(np.float32))) - base).max()
    if exchanged < 1e-5 * size < lower:
        yield found(
            "loss.broadcast",
            f"in a batch of {rows}, giving each transition the reward of its neighbour changes the update by "
            f"{exchanged:.2g}, while the update itself moves Q by {size:.2g}: every value is drawn to all targets",
        )
    yield from _others(ward, case, batch)


def _others(ward: Ward, case: Case, batch: Transitions) -> Iterator[Finding]:
    """Let one transition of the batch go on and the others be terminated: then only its own next_obs may matter."""
    if ward.facts.get("ends", "sound") != "sound":
        return
    regression(ward)  # batch normalisation lets the others matter
    running = batch._replace(terminated=np.arange(len(batch.action)) > 0)
    elsewhere = running._replace(
        next_obs=np.concatenate([running.next_obs[:1], ward.states(len(batch.action) - 1, 4.0)])
    )
    # The first one's error is to change its sign if what stands for its next value comes from all of the batch.
    middle = (case.q(running.next_obs).max() + case.q(elsewhere.next_obs).max()) / 2
    reward = batch.reward.copy()
    reward[0] = case.q(batch.obs)[0, batch.action[0]] - ward.gamma * middle
    base = _change(case, running._replace(reward=reward))
    strange = np.abs(_change(case, elsewhere._replace(reward=reward)) - base).max()
    if strange > 1e-4 * np.abs(base).max():
        yield found(
            "td_target.batch_axis",
            f"in a batch of {len(batch.action)} of which one transition goes on and all others are terminated, other "
            f"next_obs of the terminated ones change the update by {strange:.2g}",
        )


def _change(case: Case, batch: Transitions) -> Array:
    """What an update on ``batch`` adds to Q of its own states."""
    trained = case.copy()
    before = trained.q(batch.obs)
    trained.train(batch)
    return trained.q(batch.obs) - before
