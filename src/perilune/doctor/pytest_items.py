"""Every check as a test item, so that a course can grade with the doctor and a project can keep its agent healthy.

from perilune.doctor import pytest_items
test_my_agent = pytest_items(make_agent)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from perilune.doctor.examination import ADMISSION, CHECKS, examine
from perilune.doctor.report import Report
from perilune.errors import MissingDependencyError


def pytest_items(make_patient: Callable[..., Any], *, budget: float = 60.0, seed: int = 0) -> Callable[[str], None]:
    """A test function for pytest with one item for each check.

    An item fails with the findings of its check, and is skipped with the reason where the check could not be made. The
    agent is examined once, when the first item runs.

    Raises:
        MissingDependencyError: pytest is not installed.
    """
    try:
        import pytest  # noqa: PLC0415 -- only tests need it
    except ImportError as error:
        raise MissingDependencyError("tests of an agent need pytest: pip install pytest") from error

    @lru_cache(maxsize=1)
    def report() -> Report:
        return examine(make_patient, budget=budget, seed=seed)

    @pytest.mark.parametrize("check", [check.title for check in (ADMISSION, *CHECKS)])
    def test_agent(check: str) -> None:
        faults = [finding for finding in report().faults if finding.check == check]
        if faults:
            pytest.fail("\n\n".join(str(finding) for finding in faults), pytrace=False)
        for skipped in report().not_run:
            if skipped.check == check:
                pytest.skip(skipped.why)

    return test_agent
