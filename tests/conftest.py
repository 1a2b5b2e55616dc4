"""Settings and fixtures that apply to every test."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from perilune._utils.blas import one_blas_thread
from perilune.nn.backend import VARIABLE, Backend, installed, using

# Published numbers and examples/one_file_dqn.py need the NumPy backend. Tests of the compiled backend select it.
os.environ.setdefault(VARIABLE, "numpy")

# The fixtures of these modules train runs or start servers once per test process.
pytest_plugins = ["fixtures_runs", "fixtures_watch"]

# A shell starts background jobs with SIGINT ignored, and the processes that tests start would inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines: a test must not fail because the machine is slow. All examples of a test use the same fixtures.
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("default", deadline=None, max_examples=30, suppress_health_check=SUPPRESSED)
settings.register_profile("long", settings.get_profile("default"), max_examples=200)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="run the full counts of the checkpoint tests; takes hours")
    parser.addoption("--repeats", type=int, help="with --torture: kills and full disks to try (default: 100 and 20)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--torture"):
        config.option.markexpr = ""  # also select the tests marked `long`
    if not config.option.markexpr:
        settings.load_profile("long")


SLOW = ("test_docs.py", "test_cluster.py", "test_torture.py", "test_doctor_benchmark.py", "test_doctor.py")


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that have the slowest tests, so that at the end, all processes have work."""
    items.sort(key=lambda item: item.path.name not in SLOW)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List which tests were skipped, grouped by what they need."""
    reasons = Counter(
        (report.longrepr[2].removeprefix("Skipped: "), report.nodeid.split("::")[0])
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("skipped tests")
    for (reason, file), count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} in {file}: {reason}")


@pytest.fixture(scope="session")
def torture(request: pytest.FixtureRequest) -> bool:
    """Whether the tests run the full counts of docs/reference/checkpoints.md."""
    return bool(request.config.getoption("--torture"))


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """Use one BLAS thread, as in training: test processes with several threads each slow one another down."""
    with one_blas_thread():
        yield


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Run a test with each backend."""
    if request.param not in installed():
        pytest.skip("needs Numba")
    with using(request.param):
        yield request.param
