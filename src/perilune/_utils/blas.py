"""One BLAS thread: on matrices of this size more threads cost more than they give (docs/explanation/benchmarks.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold NumPy's matrix products to one thread inside the block, and restore the setting after it.

    Training, evaluation and benchmarks use it by themselves; use it around a learning loop of your own. Results
    are reproducible to the bit only for a fixed number of threads.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
