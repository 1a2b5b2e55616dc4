"""Run all checks on an agent, locate the faults in its code, and report them in order."""

from __future__ import annotations

import contextlib
import io
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from perilune._utils import seeding
from perilune._utils.blas import one_blas_thread
from perilune.doctor import catalogue
from perilune.doctor.checks import CHECKS, Check
from perilune.doctor.locate import likeliest, lines_run, raised_at
from perilune.doctor.numbered_env import NumberedEnv, play
from perilune.doctor.report import Cause, Finding, Line, NotRun, Passed, Report, in_order
from perilune.doctor.session import AgentFailed, CannotTell, NotFinite, Session, keep_generators
from perilune.doctor.supervise import TooLong, supervised
from perilune.errors import ConfigError, MissingDependencyError


def check_agent(make_agent: Callable[..., Any], *, budget: float = 60.0, seed: int = 0) -> Report:
    """Examine an agent and report what is wrong with it.

    Args:
        make_agent: Factory that returns an ``AgentAdapter`` with a new agent on each call. If it has a parameter
            ``seed``, the doctor passes a seed.
        budget: Time limit in seconds (> 0). The report lists the checks that did not finish in time.
        seed: Seed of the agent and of the examination (>= 0).

    Returns:
        The findings, root causes first, and the checks that did not run. If ``make_agent`` does not return an adapter,
        ``outcome`` is "cannot run".

    Raises:
        ConfigError: ``budget`` or ``seed`` is invalid.

    Example:
        >>> from perilune import DQN, doctor
        >>> from perilune.doctor.adapters import PeriluneAdapter
        >>> report = doctor.check_agent(lambda seed=0: PeriluneAdapter(DQN("CartPole-v1", seed=seed).agent))
        >>> report.faults
        []
    """
    require_budget(budget)
    began = time.monotonic()
    report = Report()
    session = Session(make_agent, seeding.checked(seed), np.random.default_rng(seed))
    usable = True
    nowhere = io.StringIO()  # discards what the agent prints
    with (
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(action="ignore"),
        keep_generators(),
        one_blas_thread(),
    ):
        for check in CHECKS:
            if not usable:
                report.not_run.append(NotRun(check.title, report.not_run[0].why, report.not_run[0].cause))
                continue
            finished = _run(check, session, report, budget - (time.monotonic() - began))
            usable = finished or check is not CHECKS[0]
        _locate(session, report, budget - (time.monotonic() - began))
    report.findings = in_order(report.findings, catalogue.causes())
    report.seconds = time.monotonic() - began
    return report


def require_budget(budget: float) -> None:
    """Raise ConfigError if ``budget`` is not a valid time limit.

    Args:
        budget: Time limit in seconds.
    """
    if not 0 < budget < math.inf:
        raise ConfigError("budget", budget, "a number of seconds > 0")


def pytest_items(make_agent: Callable[..., Any], *, budget: float = 60.0, seed: int = 0) -> Callable[[str], None]:
    """Return a pytest test with one item per check, for example to grade assignments or to prevent regressions.

    An item fails if its check has findings, and shows them. It is skipped, with the reason, if the check did not run.
    The item "outcome" passes only if the agent is healthy: it fails if there are faults, and is skipped if the doctor
    could not check enough. All items fail if the agent cannot be examined at all. The first item that runs examines
    the agent once for all items.

    Args:
        make_agent: Factory, as for ``check_agent``.
        budget: Time limit in seconds (> 0).
        seed: Seed of the agent and of the examination (>= 0).

    Returns:
        A test function. Assign it to a name that starts with ``test``.

    Raises:
        MissingDependencyError: pytest is not installed.

    Example:
        In a test file::

            from perilune.doctor import pytest_items
            from my_agent import make_agent

            test_my_agent = pytest_items(make_agent)
    """
    try:
        import pytest  # noqa: PLC0415 -- only tests need it
    except ImportError as error:
        raise MissingDependencyError("pytest_items needs pytest. Run: pip install pytest") from error

    @cache
    def report() -> Report:
        return check_agent(make_agent, budget=budget, seed=seed)

    @pytest.mark.parametrize("check", [*(check.title for check in CHECKS), "outcome"])
    def test_agent(check: str) -> None:
        result = report()
        faults = [str(finding) for finding in result.faults if finding.check == check]
        reasons = [one.why for one in result.not_run if one.check == check]
        if result.outcome == "cannot run" or (check == "outcome" and result.faults):
            pytest.fail(result.verdict, pytrace=False)
        if faults:
            pytest.fail("\n\n".join(faults), pytrace=False)
        if check == "outcome" and not result.healthy:
            pytest.skip(result.verdict)
        if reasons:
            pytest.skip("; ".join(reasons))

    return test_agent


class _LacksMembers(CannotTell):
    """The adapter lacks optional members that a check needs."""


def _run(check: Check, session: Session, report: Report, seconds: float) -> bool:
    """Run one check, and record its findings or why it did not run. Return whether it completed."""

    def not_run(why: object, cause: Cause = "agent") -> bool:
        report.not_run.append(NotRun(check.title, str(why), cause))
        return False

    def work() -> None:
        agent = session.new_copy()
        if not agent.has(*check.needs):
            raise _LacksMembers(f"the adapter has no {' or '.join(f'{name}()' for name in check.needs)}")
        for one in check.run(session, agent):
            match one:
                case str():
                    not_run(one)
                case Passed():
                    report.passed.append(one)
                case Finding():
                    session.found.append(one.id)
                    report.findings.append(replace(one, check=check.title))

    def add(name: str, line: Line | None = None, **values: Any) -> None:
        report.findings.append(replace(catalogue.finding(name, **values), check=check.title).at(line))

    if session.unstoppable:
        return not_run(f"{session.unstoppable} is still running and cannot be stopped", "limit")
    if seconds <= 0.5:
        return not_run("the time limit was reached", "limit")
    try:
        supervised(work, seconds, check.call_seconds, lambda: session.under_way)
        report.ran.append(check.title)
        return True
    except _LacksMembers as reason:
        not_run(reason, "adapter")
    except CannotTell as reason:
        not_run(reason)
    except NotFinite as failure:
        add("numerics.not_finite", details=f"{failure} (check: {check.title})")
        not_run(failure)
    except AgentFailed as failure:
        if component := catalogue.component_of(failure.method):
            add(f"{component}.raises", raised_at(failure.error), error=f"{failure} (check: {check.title})")
        not_run(failure)
    except TooLong as late:
        if component := catalogue.component_of(late.call):
            add(f"{component}.hangs", error=f"{late} (check: {check.title})")
        not_run(late, "limit")
        session.unstoppable = (late.call or check.title) if late.unstoppable else None
    except Exception as error:  # a bug in the check; the other checks can still run
        not_run(f"the check itself failed: {type(error).__name__}: {error}")
    session.under_way = None
    return False


def _locate(session: Session, report: Report, seconds: float) -> None:
    """Locate each fault: select the likeliest of the lines that run in its ``calls``."""
    open_ = [one for one in report.faults if one.where is None and not one.id.endswith((".hangs", ".raises"))]
    lines: dict[str, list[Line]] = {}

    def work() -> None:
        for call in dict.fromkeys(call for one in open_ for call in one.calls):
            with contextlib.suppress(AgentFailed):  # already reported
                lines[call] = lines_run(_single_call(session, call))

    if open_ and seconds > 1 and session.actions and not session.unstoppable:
        with contextlib.suppress(TooLong, Exception):  # the report then omits the lines
            supervised(work, seconds, 10.0, lambda: session.under_way)
    report.findings = [one.at(likeliest(one, lines)) if one in open_ else one for one in report.findings]


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
