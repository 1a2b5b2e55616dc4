"""Run work in processes that fail independently of each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

from perilune._utils.extras import missing
from perilune.errors import PeriluneError, PeriluneWarning, UsageError

TICK = 0.5  # seconds between progress reports if no item ends
LONGEST = 10_000  # characters of a failure reason; longer tracebacks lose their start

Item = TypeVar("Item")


class Workers(Generic[Item]):
    """A pool of worker processes. If an item fails or its process dies, the others continue.

    Closing the pool, as ``contextlib.closing`` does, stops all processes. Ctrl-C interrupts only the calling process.

    Args:
        work: a module-level function of one item, which the worker processes import.
        jobs: number of processes at the same time (>= 1).
        reuse: let each process work on many items. By default, each item has a new process, which takes about half a
            second to start.

    Raises:
        MissingDependencyError: Pebble is not installed.
        UsageError: the program lacks the line ``if __name__ == "__main__":``.
    """

    def __init__(self, work: Callable[[Item], object], jobs: int, *, reuse: bool = False) -> None:
        try:
            from pebble import ProcessPool  # noqa: PLC0415 -- an extra
        except ImportError as error:
            raise missing("worker processes need Pebble", "bench") from error
        _check_program()
        # A forked process would inherit the threads and locks of this one.
        context = multiprocessing.get_context("spawn")
        self._work = work
        self._pool = ProcessPool(jobs, max_tasks=0 if reuse else 1, initializer=_prepare, context=context)
        self._waiting: dict[Future[str | None], Item] = {}

    def submit(self, items: Iterable[Item]) -> None:
        """Let the processes work on picklable and hashable items, in this order."""
        with _interrupts_blocked():
            for item in items:
                self._waiting[self._pool.schedule(_attempt, (self._work, item))] = item

    def __len__(self) -> int:
        """Return the number of items that have not ended."""
        return len(self._waiting)

    def wait(self) -> dict[Item, str | None]:
        """Wait until an item ends, for at most ``TICK`` seconds.

        Returns:
            The items that have ended, each with None or the reason for its failure.
        """
        done = wait(self._waiting, TICK, FIRST_COMPLETED).done
        return {self._waiting.pop(future): _reason(future) for future in done}

    def running(self) -> list[Item]:
        """Return the items in progress."""
        return [item for future, item in self._waiting.items() if future.running()]

    def cancel(self, unwanted: Callable[[Item], bool]) -> None:
        """Stop or drop the items for which ``unwanted`` returns True. They do not end in ``wait``."""
        for future, item in list(self._waiting.items()):
            if unwanted(item) and future.cancel():
                del self._waiting[future]

    def close(self) -> None:
        """Stop all processes."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def each(
    work: Callable[[Item], object], items: Iterable[Item], jobs: int
) -> Generator[tuple[list[Item], dict[Item, str | None]]]:
    """Call ``work`` on each item in a separate process. ``Workers`` documents the arguments and errors.

    Closing the generator stops all processes.

    Yields:
        At least twice a second, the items in progress and the items that have just ended. Each ended item maps to None
        or to the reason for its failure.
    """
    with closing(Workers(work, jobs)) as workers:
        workers.submit(items)
        while len(workers):
            ended = workers.wait()
            yield workers.running(), ended


def _check_program() -> None:
    """Raise UsageError if the program would run again in each worker process, which imports it."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or main.__spec__ is not None or not path.endswith(".py"):  # python -m, a notebook or a command
        return
    with suppress(OSError):
        if b"__name__" not in Path(path).read_bytes():
            raise UsageError(
                f"worker processes import {path}, which would run it again. Write its calls under "
                "if __name__ == '__main__':"
            )


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
