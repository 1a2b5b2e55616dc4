"""Run all checks on an agent, locate the faults in its code, and publish what the checks find."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import process_time

import numpy as np

from perilune._utils.blas import one_blas_thread
from perilune.doctor import catalogue
from perilune.doctor.checks import CHECKS, Check
from perilune.doctor.events import Done, Event, Ran, Started
from perilune.doctor.locate import likeliest, lines_run, raised_at
from perilune.doctor.numbered_env import NumberedEnv, play
from perilune.doctor.report import Cause, Finding, Line, NotRun, Passed
from perilune.doctor.session import AgentFailed, CannotTell, NotFinite, Session, keep_generators
from perilune.doctor.supervise import MORE, TooLong, supervised

Publish = Callable[[Event], object]
LOCATING = "lines at fault"  # shown as the last check
SHORTEST = 0.5  # seconds; no check starts with less time left

_NUMPY = {
    (module, name): value
    for module in (np, np.linalg, np.random)
    for name, value in vars(module).items()
    if callable(value)
}


class _LacksMembers(CannotTell):
    """The adapter lacks optional members that a check needs."""


def run_checks(
    session: Session, publish: Publish, stuck: Callable[[TooLong], object], checks: Sequence[Check] = CHECKS
) -> None:
    """Run the checks. Call ``stuck`` in another thread if the agent does not react to interrupts."""
    began = process_time()
    found: list[Finding] = []

    def left() -> float:
        return session.budget - (process_time() - began)

    def record(event: Event) -> None:
        if isinstance(event, Finding):
            found.append(event)
        publish(event)

    with warnings.catch_warnings(action="ignore"), keep_generators(), one_blas_thread():
        stop: NotRun | None = None  # why no further check can run
        for check in checks:
            if stop is not None:
                publish(replace(stop, check=check.title))
                continue
            publish(Started(check.title))
            reason = _run(check, session, record, left(), stuck)
            if names := _replaced():
                why = (
                    f"the agent's code replaces {', '.join(names)}, which the doctor also uses. Remove the replacement"
                )
                reason = stop = NotRun(check.title, why)
            elif check is CHECKS[0]:
                stop = reason
            publish(reason or Ran(check.title))
        publish(Started(LOCATING))
        _locate(session, found, publish, left(), stuck)
    publish(Done())


def _run(
    check: Check, session: Session, publish: Publish, seconds: float, stuck: Callable[[TooLong], object]
) -> NotRun | None:
    """Run one check and publish its findings. Return why it is incomplete, or None."""

    def not_run(why: object, cause: Cause = "agent") -> NotRun:
        return NotRun(check.title, str(why), cause)

    def add(finding: Finding) -> None:
        if not _replaced():
            session.found.append(finding.id)
            publish(replace(finding, check=check.title))

    def work() -> None:
        with np.errstate(all="ignore"):
            agent = session.new_copy()
            if not agent.has(*check.needs):
                raise _LacksMembers(f"the adapter has no {' or '.join(f'{name}()' for name in check.needs)}")
            for one in check.run(session, agent):
                match one:
                    case str():
                        publish(not_run(one))
                    case Passed():
                        publish(one)
                    case Finding():
                        add(one)

    if seconds <= SHORTEST:
        return not_run(f"the time limit of {session.budget:g} s of CPU time was reached. {MORE}", "limit")
    reason = None
    try:
        supervised(work, seconds, check.call_share * session.budget, lambda: session.under_way, stuck)
    except _LacksMembers as lack:
        reason = not_run(lack, "adapter")
    except CannotTell as cannot:
        reason = not_run(cannot)
    except NotFinite as failure:
        add(catalogue.finding("numerics.not_finite", details=f"{failure} in the check {check.title!r}"))
        reason = not_run(failure)
    except AgentFailed as failure:
        if component := catalogue.component_of(failure.method):
            error = f"{failure} (check: {check.title})"
            add(catalogue.finding(f"{component}.raises", error=error).at(raised_at(failure.error)))
        reason = not_run(failure)
    except TooLong as late:
        reason = not_run(late, "limit")
    except session.caught as error:  # reported; the other checks can still run
        reason = not_run(f"the check itself failed: {type(error).__name__}: {error}")
    session.under_way = None
    return reason


def _replaced() -> list[str]:
    """Return the functions of NumPy that the agent's code replaced."""
    return [
        f"{module.__name__}.{name}" for (module, name), value in _NUMPY.items() if vars(module).get(name) is not value
    ]


def _locate(
    session: Session, found: list[Finding], publish: Publish, seconds: float, stuck: Callable[[TooLong], object]
) -> None:
    """Find the likeliest line of each fault among the lines that its ``calls`` run."""
    open_ = [one for one in found if one.where is None and one.severity != "note" and not one.id.endswith(".raises")]
    lines: dict[str, list[Line]] = {}

    def work() -> None:
        for call in dict.fromkeys(call for one in open_ for call in one.calls):
            with contextlib.suppress(AgentFailed):  # already reported
                lines[call] = lines_run(_single_call(session, call))

    if open_ and seconds > SHORTEST and session.actions:
        with contextlib.suppress(TooLong, session.caught):  # the report then omits the lines
            supervised(work, seconds, session.budget, lambda: session.under_way, stuck)
    for one in open_:
        if (line := likeliest(one, lines)) is not None:
            publish(one.at(line))


def _single_call(session: Session, call: str) -> Callable[[], object]:
    """Return a function that calls the agent's method ``call``, or the factory, once."""
    session.deepcopy = False
    agent = session.new_copy()
    batch = session.transitions(max(4, session.min_batch), terminated=False)
    env = NumberedEnv(session.observation_size, session.actions)
    if call == "sample" and agent.has("remember"):
        play(agent, env, 200)
    calls: dict[str, Callable[[], object]] = {
        "make": session.new_agent,
        "q_values": lambda: agent.q(batch.obs),
        "train_batch": lambda: agent.train(batch),
        "sync_target": agent.sync,
        "act": lambda: [agent.call("act", batch.obs[0], epsilon) for epsilon in (0.0, 1.0)],
        "remember": lambda: agent.call("remember", batch.obs[0], 0, 0.0, batch.next_obs[0], False, False),
        "sample": lambda: agent.call("sample", 32),
        "run": lambda: agent.call("run", env, 300),
    }
    return calls[call] if call == "make" or agent.has(call) else lambda: None
