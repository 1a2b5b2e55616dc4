"""Work in processes of their own: one that raises or dies loses its own item and no other's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from perilune.errors import PeriluneError, PeriluneWarning

TICK = 0.5  # seconds from one look at the processes to the next, where none ends
LONGEST = 10_000  # characters of a reason; of one that is longer the middle is left out

Item = TypeVar("Item")


@dataclass(frozen=True)
class Running(Generic[Item]):
    """The items that are being worked on."""

    items: list[Item]


@dataclass(frozen=True)
class Ended(Generic[Item]):
    """An item is done, or, where there is a ``reason``, it failed."""

    item: Item
    reason: str | None


def each(work: Callable[[Item], object], items: Iterable[Item], jobs: int) -> Generator[Running[Item] | Ended[Item]]:
    """Call ``work`` on every item, ``jobs`` at a time, and tell what is running and what ended.

    Whatever ends the reading of this generator ends the processes too.
    """
    waiting = deque(items)
    running: list[_Worker[Item]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(work, waiting.popleft()))
            yield Running([worker.item for worker in running])
            wait(
                [
                    *(worker.process.sentinel for worker in running),
                    *(pipe for worker in running for pipe in worker.pipe),
                ],
                TICK,
            )
            for worker in list(running):
                ended = worker.process.exitcode is not None
                worker.listen()
                if ended:
                    worker.process.join()
                    running.remove(worker)
                    yield Ended(worker.item, worker.reason)
    finally:
        for worker in running:
            worker.process.kill()
        for worker in running:
            worker.process.join()


@dataclass
class _Worker(Generic[Item]):
    """A process, its item, and what it said of how that failed. ``pipe`` is what it says it through, until it has."""

    item: Item
    process: BaseProcess
    pipe: list[Connection]
    said: str | None = None

    def listen(self) -> None:
        """Read what was said: a process whose words do not fit into the pipe waits until they are read."""
        if not self.pipe or not self.pipe[0].poll():
            return
        with self.pipe.pop() as pipe, suppress(EOFError, OSError):  # it closed without a word, or amid one
            self.said = str(pipe.recv())

    @property
    def reason(self) -> str | None:
        """Why it failed, once it has ended; None where it did not."""
        status = self.process.exitcode
        if status == 0:
            return None
        if self.said is not None:
            return self.said
        assert status is not None
        if status > 0:
            return f"its process ended by itself with status {status}"
        return f"its process died of signal {-status} ({signal.strsignal(-status)})"


def _start(work: Callable[[Item], object], item: Item) -> _Worker[Item]:
    # spawn, because a fork would inherit the threads and the locks of whatever runs here.
    context = multiprocessing.get_context("spawn")
    reasons, send = context.Pipe(duplex=False)
    process = context.Process(target=_process, args=(work, item, send))
    with _without_interrupts():
        process.start()
    send.close()
    return _Worker(item, process, [reasons])


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C: it is for this one, which then ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _process(work: Callable[[Item], object], item: Item, reasons: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # those of libraries are for their developers
    warnings.simplefilter("default", PeriluneWarning)
    try:
        work(item)
    except PeriluneError as error:
        reasons.send(_cut(f"{type(error).__name__}: {error}"))
        sys.exit(1)
    except Exception:
        reasons.send(_cut(traceback.format_exc().strip()))
        sys.exit(1)


def _cut(reason: str) -> str:
    """A reason that people can read: its beginning and its end, which has the error itself."""
    left_out = len(reason) - LONGEST
    if left_out <= 0:
        return reason
    half = LONGEST // 2
    return f"{reason[:half]}\n... {left_out:,} characters are left out ...\n{reason[-half:]}"


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes. One that went on would write where the next one begins."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
