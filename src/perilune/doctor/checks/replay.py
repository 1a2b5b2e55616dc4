"""REPLAY: numbered transitions are remembered, and what is drawn must be among them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune.doctor.catalogue import found
from perilune.doctor.checks.stored import DRAWN, Draw, check_stored, draw
from perilune.doctor.report import Finding
from perilune.doctor.ward import CannotTell, Case, Ward
from perilune.doctor.worlds import Diary, Numbered

STORED = 600  # transitions remembered before the replay is looked at first
MANY = 25_000  # and in all, which most rings of a patient are overrun by


def check(ward: Ward) -> Iterator[Finding]:
    case = ward.fresh()
    if not case.has("remember", "sample"):
        raise CannotTell("the patient has no remember(...) and sample(n)")
    world = Numbered(ward.size, ward.actions, lambda obs: None)
    play(case, world, STORED)
    drawn = draw(ward, case, DRAWN)
    troubles = list(check_stored(ward, drawn, world.diary, in_loop=False))
    yield from troubles
    ward.facts["replay"] = bool(troubles)
    if troubles:
        return
    yield from _coverage(drawn, world.diary)
    play(case, world, MANY - STORED)
    yield from check_stored(ward, draw(ward, case, DRAWN), world.diary, in_loop=False)


def play(case: Case, world: Numbered, steps: int) -> None:
    """Let the patient remember ``steps`` steps of uniformly random play."""
    obs = None
    for _ in range(steps):
        if obs is None:
            obs, _ = world.reset()
        action = int(world.np_random.integers(case.ward.actions))
        next_obs, reward, terminated, truncated, _ = world.step(action)
        case.call("remember", obs, action, reward, next_obs, terminated, truncated)
        obs = None if terminated or truncated else next_obs


def _coverage(drawn: Draw, diary: Diary) -> Iterator[Finding]:
    """What is drawn must come from all of what is stored."""
    stored = np.array([step.before for step in diary.steps])
    oldest = np.searchsorted(stored, drawn.before.min())
    if oldest > 0.5 * len(stored):
        yield found(
            "replay.newest_only",
            f"{len(drawn.before)} draws from {len(stored)} transitions never went back further than the last "
            f"{len(stored) - oldest}",
        )
