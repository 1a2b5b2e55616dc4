"""LOOP: the owner's own training, on an environment that numbers its states and looks at the agent at every step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import found
from perilune.doctor.checks.stored import DRAWN, check_stored, draw
from perilune.doctor.pointing import raised_at
from perilune.doctor.report import Finding
from perilune.doctor.ward import CannotTell, Case, NotFinite, PatientFailed, Ward, undisturbed
from perilune.doctor.worlds import Diary, Numbered

RUN_STEPS = 1_000


class Watch:
    """Looks at the agent before every step of its own loop: do its weights move, and its target network's?

    ``updates`` and ``syncs`` count the steps before which the networks' Q had changed; ``greedy`` has the best action
    at each step; ``broken`` is what made Q unusable, if anything did.
    """

    def __init__(self, ward: Ward, case: Case) -> None:
        self.case = case
        self.updates = self.syncs = 0
        self.greedy: list[int] = []
        self.broken: NotFinite | PatientFailed | None = None
        self._online: Array | None = None
        self._target: Array | None = None
        self._states = ward.states(8)

    def __call__(self, obs: Array) -> None:
        if self.broken is None:
            try:
                with undisturbed():
                    self._look(obs)
            except (NotFinite, PatientFailed) as broken:  # which is not for the owner's loop to hear of
                self.broken = broken

    def _look(self, obs: Array) -> None:
        online = self.case.q(self._states)
        self.updates += self._online is not None and not np.array_equal(online, self._online)
        self._online = online
        if self.case.has("target_q_values"):
            target = self.case.target_q(self._states)
            self.syncs += self._target is not None and not np.array_equal(target, self._target)
            self._target = target
        self.greedy.append(int(self.case.q(obs[None])[0].argmax()))


def check(ward: Ward) -> Iterator[Finding]:
    case = ward.fresh()
    if not case.has("run"):
        raise CannotTell("the patient has no run(env, env_steps)")
    watch = Watch(ward, case)
    world = Numbered(ward.size, ward.actions, watch)
    try:
        case.call("run", world, RUN_STEPS)
    except PatientFailed as failure:
        yield _stopped(failure)
        return
    if watch.broken is not None:
        raise watch.broken
    diary = world.diary
    if not diary.steps:
        raise CannotTell(f"run(env, {RUN_STEPS}) took no step")
    if diary.after_the_end:
        yield found(
            "environment.no_reset",
            f"{diary.after_the_end} of {len(diary.steps)} steps were taken after an episode's end, without a reset",
        )
        return
    if not watch.updates:
        yield found("loop.no_updates", f"in {len(diary.steps)} steps Q never changed")
    elif case.has("target_q_values") and not watch.syncs:
        yield found(
            "target_network.not_synced_yet",
            f"in {len(diary.steps)} steps and {watch.updates} updates the target network's Q never changed",
        )
    yield from _exploring(ward, watch, diary)
    if case.has("sample") and not ward.facts.get("replay"):
        yield from check_stored(ward, draw(ward, case, DRAWN), diary, in_loop=True)


def _stopped(failure: PatientFailed) -> Finding:
    """The loop raised: over what reset() and step() give, or over something else?"""
    error, place = failure.error, raised_at(failure.error)
    unpacking = isinstance(error, ValueError) and "unpack" in str(error)
    if unpacking or (not isinstance(error, IndexError) and any(word in str(error) for word in ("tuple", "inhomogen"))):
        said = f"{failure}; reset() gives (obs, info), and step() five values"
        return found("environment.old_interface", said, place)
    return found("loop.raises", str(failure), place)


def _exploring(ward: Ward, watch: Watch, diary: Diary) -> Iterator[Finding]:
    """Random at first, greedy at last: the share of greedy actions must rise, and not begin at the top."""
    if ward.actions == 1 or len(diary.steps) < 300:
        return
    greedy = np.array([step.action for step in diary.steps]) == np.array(watch.greedy)
    part = len(greedy) // 4
    first, last = greedy[:part].mean(), greedy[-part:].mean()
    said = f"of a run of {len(greedy)} steps the first quarter has {first:.0%} greedy actions, the last {last:.0%}"
    chance = 1 / ward.actions
    noisy = bool(ward.facts.get("regression"))  # then the greedy actions of its q_values are not those it takes
    if last < chance + 0.15 and first < chance + 0.25 and not noisy:
        yield found("exploration.stuck", said)
    elif first > 0.97:
        yield found("exploration.never_explores", said)
