"""Run work in worker processes. An item that fails, or whose process dies, does not affect the others."""

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

from perilune.errors import MissingDependencyError, PeriluneError, PeriluneWarning

TICK = 0.5  # seconds after which progress is reported while no item ends
LONGEST = 10_000  # characters of a reason; the start of a longer traceback is omitted

Item = TypeVar("Item")


def each(
    work: Callable[[Item], object], items: Iterable[Item], jobs: int
) -> Generator[tuple[list[Item], dict[Item, str | None]]]:
    """Call ``work`` on every item, each in a process of its own.

    Closing the generator stops all processes. Ctrl-C reaches the calling process only.

    Args:
        work: a function of a module, which worker processes import.
        items: picklable and hashable.
        jobs: processes at the same time (>= 1).

    Yields:
        At least twice a second, the items in progress and the items that have just ended, each with None or the reason
        why it failed.

    Raises:
        MissingDependencyError: Pebble is not installed.
    """
    try:
        from pebble import ProcessPool  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise MissingDependencyError("worker processes need Pebble: pip install 'perilune[bench]'") from error
    # spawn: a forked process would inherit the threads and locks of this one.
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
    """Block SIGINT in threads and processes started inside, also while they start up."""
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
    warnings.simplefilter("ignore")  # warnings of libraries
    warnings.simplefilter("default", PeriluneWarning)


def _exit_with_parent() -> None:
    """Exit when the parent is killed: two processes must not write the same files after a restart."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt(work: Callable[[Item], object], item: Item) -> str | None:
    """Call ``work``. Return why it failed, as text: not every exception can be pickled."""
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
