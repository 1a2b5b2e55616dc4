"""Examine an agent, directly or in pytest."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from perilune._utils import seeding
from perilune.doctor import isolation
from perilune.doctor.checks import CHECKS
from perilune.doctor.events import Collector
from perilune.doctor.examiner import run_checks
from perilune.doctor.report import Report
from perilune.doctor.session import Session
from perilune.errors import ConfigError, MissingDependencyError


def check_agent(make_agent: Callable[..., Any], *, budget: float = 60.0, seed: int = 0) -> Report:
    """Examine an agent and report what is wrong with it.

    On Linux, the agent runs in a fork of this process. On macOS and Windows, or if this process uses other Python
    threads, a GPU, JAX or TensorFlow, the agent runs in this process, and a crash of the agent ends it. To examine an
    agent in a new process, use the command ``perilune doctor FILE:FACTORY``.

    Args:
        make_agent: Factory that returns an ``AgentAdapter`` with a new agent on each call. If it has a parameter
            ``seed``, the doctor passes a seed.
        budget: Time limit in seconds of CPU time (> 0). The report lists the checks that did not finish in time.
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
    seed = seeding.checked(seed)
    if isolation.can_fork():
        return isolation.examine_forked(make_agent, budget, seed)
    collector = Collector([check.title for check in CHECKS])
    session = Session(make_agent, seed, np.random.default_rng(seed), budget=budget)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        run_checks(session, collector, stuck=lambda late: None)
    return collector.finished()


def require_budget(budget: float) -> None:
    """Raise ConfigError if ``budget`` is not a valid time limit.

    Args:
        budget: Time limit in seconds of CPU time.
    """
    if not 0 < budget < math.inf:
        raise ConfigError("budget", budget, "a number of seconds > 0")


def pytest_items(make_agent: Callable[..., Any], *, budget: float = 60.0, seed: int = 0) -> Callable[[str], None]:
    """Return a pytest test with one item per check, for example to grade assignments or to prevent regressions.

    An item fails if its check has findings, and shows them. If the check did not run, the item is skipped with the
    reason. The item "outcome" passes only if the agent is healthy. It fails if there are faults, and is skipped if the
    doctor could not check enough. If the agent cannot be examined at all, all items fail. The first item that runs
    examines the agent for all items.

    Args:
        make_agent: Factory, as for ``check_agent``.
        budget: Time limit in seconds of CPU time (> 0).
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
