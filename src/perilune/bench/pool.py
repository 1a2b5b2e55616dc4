"""Run work in processes that fail independently of each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import TypeVar

from perilune._utils.extras import missing
from perilune.errors import PeriluneError, PeriluneWarning

TICK = 0.5  # seconds between progress reports if no item ends
LONGEST = 10_000  # characters of a failure reason; longer tracebacks lose their start

Item = TypeVar("Item")


def each(
    work: Callable[[Item], object], items: Iterable[Item], jobs: int
) -> Generator[tuple[list[Item], dict[Item, str | None]]]:
    """Call ``work`` on each item in a separate process.

    If an item fails or its process dies, the others continue. Closing the generator stops all processes. Ctrl-C
    interrupts only the calling process.

    Args:
        work: a module-level function, which the worker processes import.
        items: picklable and hashable objects.
        jobs: number of processes at the same time (>= 1).

    Yields:
        At least twice a second, the items in progress and the items that have just ended. Each ended item maps to None
        or to the reason for its failure.

    Raises:
        MissingDependencyError: Pebble is not installed.
    """
    try:
        from pebble import ProcessPool  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise missing("worker processes need Pebble", "bench") from error
    # A forked process would inherit the threads and locks of this one.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPool(jobs, max_tasks=1, initializer=_prepare, context=context)
    try:
        with _interrupts_blocked():
            waiting: dict[Future[str | None], Item] = {pool.schedule(_attempt, (work, item)): item for item in items}
        while waiting:
            ended = {waiting.pop(future): _reason(future) for future in wait(waiting, TICK, FIRST_COMPLETED).done}
            yield [item for future, item in waiting.items() if future.running()], ended
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT in the threads and processes that the block starts, including during their startup."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare() -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # hide warnings of other libraries
    warnings.simplefilter("default", PeriluneWarning)


def _exit_with_parent() -> None:
    """Exit when the parent dies, so that a restarted parent does not write the same files as this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt(work: Callable[[Item], object], item: Item) -> str | None:
    """Call ``work``. If it fails, return the reason as text, because not every exception can be pickled."""
    try:
        work(item)
    except PeriluneError as error:
        return f"{type(error).__name__}: {error}"[:LONGEST]
    except BaseException:
        return traceback.format_exc().strip()[-LONGEST:]
    return None


def _reason(future: Future[str | None]) -> str | None:
    error = future.exception()
    if error is None:
        return future.result()
    status = getattr(error, "exitcode", None)  # of pebble.ProcessExpired
    if status is None:
        return f"{type(error).__name__}: {error}"
    if status < 0:
        return f"the worker process was killed by signal {-status} ({signal.strsignal(-status)})"
    return f"the worker process exited with status {status}"
