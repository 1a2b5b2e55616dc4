"""Every check as a pytest item, for grading a course or keeping an agent healthy.

from perilune.doctor import pytest_items
test_my_agent = pytest_items(make_agent)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from perilune.doctor.checks import CHECKS
from perilune.doctor.examination import check_agent
from perilune.doctor.report import Report
from perilune.errors import MissingDependencyError


def pytest_items(make_agent: Callable[..., Any], *, budget: float = 60.0, seed: int = 0) -> Callable[[str], None]:
    """Return a test function for pytest with one item per check.

    An item fails with the findings of its check, and is skipped with the reason if the check did not run. The agent is
    examined once, when the first item runs.

    Args:
        make_agent: As for ``check_agent``.
        budget: Time limit in seconds (> 0).
        seed: Seed of the agent and of the examination (>= 0).

    Raises:
        MissingDependencyError: pytest is not installed.
    """
    try:
        import pytest  # noqa: PLC0415 -- only tests need it
    except ImportError as error:
        raise MissingDependencyError("tests of an agent need pytest: pip install pytest") from error

    @cache
    def report() -> Report:
        return check_agent(make_agent, budget=budget, seed=seed)

    @pytest.mark.parametrize("check", [check.title for check in CHECKS])
    def test_agent(check: str) -> None:
        faults = [finding for finding in report().faults if finding.check == check]
        if faults:
            pytest.fail("\n\n".join(str(finding) for finding in faults), pytrace=False)
        for skipped in report().not_run:
            if skipped.check == check:
                pytest.skip(skipped.why)

    return test_agent
