"""Limit BLAS to one thread, which is fastest for matrices of this size (docs/explanation/benchmarks.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit the matrix products of NumPy to one thread inside the block.

    Training, evaluation and benchmarks already use this limit. Use it around your own training loop: results are
    reproducible bit for bit only with a fixed number of threads.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
