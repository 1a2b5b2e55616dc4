"""What every test runs under."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from perilune import one_blas_thread

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is to run in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or the processes that tests start would not hear it

# A busy machine is slow now and then; a test that fails for that says nothing about the code.
settings.register_profile("perilune", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perilune")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="as often as docs/checkpoints.md says; hours")


@pytest.fixture(scope="session")
def torture(request: pytest.FixtureRequest) -> bool:
    """Whether the long form is asked for."""
    return bool(request.config.getoption("--torture"))


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """As in training. Two workers with two BLAS threads each would wait for one another."""
    with one_blas_thread():
        yield
