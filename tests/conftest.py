"""What every test runs under."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from perilune import one_blas_thread

# A busy machine is slow now and then; a test that fails for that says nothing about the code.
settings.register_profile("perilune", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perilune")


@pytest.fixture(scope="session", autouse=True)
def _one_blas_thread() -> Iterator[None]:
    """As in training. Two workers with two BLAS threads each would wait for one another."""
    with one_blas_thread():
        yield
