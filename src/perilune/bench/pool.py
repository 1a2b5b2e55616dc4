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
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

from perilune.errors import PeriluneError, PeriluneWarning

TICK = 0.5  # seconds from one look at the processes to the next, where none ends

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
    running: dict[int, tuple[Item, BaseProcess, Connection]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                item = waiting.popleft()
                process, reasons = _start(work, item)
                running[process.sentinel] = (item, process, reasons)
            yield Running([item for item, _, _ in running.values()])
            for sentinel in wait(list(running), TICK):
                assert isinstance(sentinel, int)
                item, process, reasons = running.pop(sentinel)
                process.join()
                yield Ended(item, _reason(process, reasons))
                reasons.close()
    finally:
        for _, process, _ in running.values():
            process.kill()
        for _, process, _ in running.values():
            process.join()


def _start(work: Callable[[Item], object], item: Item) -> tuple[BaseProcess, Connection]:
    # spawn, because a fork would inherit the threads and the locks of whatever runs here.
    context = multiprocessing.get_context("spawn")
    reasons, send = context.Pipe(duplex=False)
    process = context.Process(target=_process, args=(work, item, send))
    with _without_interrupts():
        process.start()
    send.close()
    return process, reasons


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
        reasons.send(f"{type(error).__name__}: {error}")
        sys.exit(1)
    except Exception:
        reasons.send(traceback.format_exc().strip())
        sys.exit(1)


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes. One that went on would write where the next one begins."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _reason(process: BaseProcess, reasons: Connection) -> str | None:
    if process.exitcode == 0:
        return None
    if reasons.poll():
        try:
            return str(reasons.recv())
        except EOFError:  # it closed without a word
            pass
    assert process.exitcode is not None
    if process.exitcode > 0:
        return f"its process ended by itself with status {process.exitcode}"
    return f"its process died of signal {-process.exitcode} ({signal.strsignal(-process.exitcode)})"
