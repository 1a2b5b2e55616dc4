"""SIGINT and SIGTERM: note the first one, so that training can save and stop; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from perilune._utils.console import aside


@dataclass
class Interruption:
    """The signal that was received, if any, and the message to print once everything is saved."""

    signal: int | None = None
    message: str | None = None


@contextmanager
def interruptions(notice: str) -> Iterator[Interruption]:
    """Print ``notice`` at the first SIGINT or SIGTERM instead of stopping.

    After the block the signal is raised again for the previous handler. Signals are handled in a program's main thread
    only; in another thread this does nothing.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(number: int, frame: FrameType | None) -> None:
        if interruption.signal is not None:
            restore()
            signal.raise_signal(number)
            return
        interruption.signal = number
        aside(f"\n{notice}")

    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # the process was started to ignore it
                signal.signal(number, handle)
        yield interruption
    finally:
        restore()
    if interruption.message is not None:
        aside(f"perilune: {interruption.message}")
    if interruption.signal is not None:
        signal.raise_signal(interruption.signal)
