"""Run work in processes that fail independently of each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from typing import Generic, Protocol, TypeVar

from perilune._utils.extras import missing
from perilune._utils.processes import check_program, interrupts_blocked
from perilune.errors import PeriluneError, PeriluneWarning

TICK = 0.5  # seconds between progress reports if no item ends
RESTARTS = 2  # of an item whose process dies
LONGEST = 10_000  # characters of a failure reason; longer tracebacks lose their start

Item = TypeVar("Item")


class Engine(Protocol):
    """Where worker processes run: on this machine or on a cluster. Closing an engine stops its processes."""

    @property
    def jobs(self) -> int:
        """Number of processes at the same time. That of a cluster may change."""
        ...

    def schedule(self, work: Callable[[Item], object], item: Item) -> Future[str | None]:
        """Call ``work`` on an item in a process. The result is None or the reason for a failure."""
        ...

    def cancel(self, future: Future[str | None]) -> None:
        """Stop the process of an item."""
        ...

    def described(self, error: BaseException) -> tuple[str, bool]:
        """Return why a process has died, and whether this was because its machine failed."""
        ...

    def close(self) -> None:
        """Stop all processes."""
        ...


class Local:
    """Worker processes on this machine. Ctrl-C interrupts only the calling process.

    Args:
        jobs: number of processes at the same time (>= 1).
        reuse: let each process work on many items. By default, each item has a new process, which takes about half a
            second to start.

    Raises:
        MissingDependencyError: Pebble is not installed.
        UsageError: the program lacks the line ``if __name__ == "__main__":``.
    """

    def __init__(self, jobs: int, *, reuse: bool = False) -> None:
        try:
            from pebble import ProcessPool  # noqa: PLC0415 -- an extra
        except ImportError as error:
            raise missing("worker processes need Pebble", "bench") from error
        check_program()
        # A forked process would inherit the threads and locks of this one.
        context = multiprocessing.get_context("spawn")
        self.jobs = jobs
        self._pool = ProcessPool(jobs, max_tasks=0 if reuse else 1, initializer=_prepare, context=context)

    def schedule(self, work: Callable[[Item], object], item: Item) -> Future[str | None]:
        """Call ``work`` on an item in a process. The result is None or the reason for a failure."""
        with interrupts_blocked():
            future: Future[str | None] = self._pool.schedule(attempt, (work, item))
        return future

    def cancel(self, future: Future[str | None]) -> None:
        """Stop the process of an item."""
        future.cancel()

    def described(self, error: BaseException) -> tuple[str, bool]:
        """Return why a process has died, and whether this was because its machine failed."""
        status = getattr(error, "exitcode", None)  # of pebble.ProcessExpired
        if status is None:
            return f"{type(error).__name__}: {error}", False
        if status < 0:
            return f"the worker process was killed by signal {-status} ({signal.strsignal(-status)})", False
        return f"the worker process exited with status {status}", False

    def close(self) -> None:
        """Stop all processes."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


class Workers(Generic[Item]):
    """Items and the processes that work on them. If an item fails, the others continue.

    If the process of an item dies, the item starts again, up to ``RESTARTS`` times. If its machine fails, the item
    always starts again.

    Args:
        work: a module-level function of one item, which the worker processes import.
        engine: where the processes run.
        restarted: a function of an item that starts again and the reason.
    """

    def __init__(
        self,
        work: Callable[[Item], object],
        engine: Engine,
        restarted: Callable[[Item, str], object] = lambda item, reason: None,
    ) -> None:
        self._work, self._engine, self._restarted = work, engine, restarted
        self._queue: deque[Item] = deque()
        self._running: dict[Future[str | None], Item] = {}
        self._deaths: Counter[Item] = Counter()

    @property
    def jobs(self) -> int:
        """Number of processes at the same time."""
        return self._engine.jobs

    def submit(self, items: Iterable[Item]) -> None:
        """Let the processes work on picklable and hashable items, in this order."""
        self._queue.extend(items)
        self._schedule()

    def _schedule(self) -> None:
        while self._queue and len(self._running) < self.jobs:
            item = self._queue.popleft()
            self._running[self._engine.schedule(self._work, item)] = item

    def __len__(self) -> int:
        """Return the number of items that have not ended."""
        return len(self._queue) + len(self._running)

    def wait(self) -> dict[Item, str | None]:
        """Wait until an item ends, for at most ``TICK`` seconds.

        Returns:
            The items that have ended, each with None or the reason for its failure.
        """
        ended = {}
        for future in wait(self._running, TICK, FIRST_COMPLETED).done:
            item, error = self._running.pop(future), future.exception()
            if error is None:
                ended[item] = future.result()
                continue
            reason, innocent = self._engine.described(error)
            self._deaths[item] += not innocent
            if self._deaths[item] <= RESTARTS:
                self._queue.appendleft(item)
                self._restarted(item, reason)
            else:
                ended[item] = reason
        self._schedule()
        return ended

    def running(self) -> list[Item]:
        """Return the items in progress."""
        return list(self._running.values())

    def cancel(self, unwanted: Callable[[Item], bool]) -> None:
        """Stop or drop the items for which ``unwanted`` returns True. They do not end in ``wait``."""
        self._queue = deque(item for item in self._queue if not unwanted(item))
        for future, item in list(self._running.items()):
            if unwanted(item):
                del self._running[future]
                self._engine.cancel(future)
        self._schedule()


def each(
    work: Callable[[Item], object], items: Iterable[Item], jobs: int
) -> Generator[tuple[list[Item], dict[Item, str | None]]]:
    """Call ``work`` on each item in a new process on this machine. ``Local`` documents the arguments and errors.

    Closing the generator stops all processes.

    Yields:
        At least twice a second, the items in progress and the items that have just ended. Each ended item maps to None
        or to the reason for its failure.
    """
    with closing(Local(jobs)) as engine:
        workers = Workers(work, engine)
        workers.submit(items)
        while len(workers):
            ended = workers.wait()
            yield workers.running(), ended


def _prepare() -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    show_warnings()


def show_warnings() -> None:
    """Hide the warnings of other libraries."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", PeriluneWarning)


def _exit_with_parent() -> None:
    """Exit when the parent dies, so that a restarted parent does not write the same files as this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def attempt(work: Callable[[Item], object], item: Item) -> str | None:
    """Call ``work``. If it fails, return the reason as text, because not every exception can be pickled."""
    try:
        work(item)
    except PeriluneError as error:
        return f"{type(error).__name__}: {error}"[:LONGEST]
    except BaseException:
        return traceback.format_exc().strip()[-LONGEST:]
    return None
