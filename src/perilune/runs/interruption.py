"""Handle SIGINT and SIGTERM: the first one asks training to save and stop, and the second stops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from perilune._utils.console import aside


@contextmanager
def interruptions(notice: str, stop: Callable[[], object]) -> Iterator[None]:
    """Print ``notice`` and call ``stop`` at the first SIGINT or SIGTERM in the block.

    After the block, raise the signal again for the previous handler. In threads other than the main thread, where
    Python does not handle signals, do nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            restore()
            signal.raise_signal(number)
            return
        received.append(number)
        aside(f"\n{notice}")
        stop()

    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # SIG_IGN: the process was started with this signal ignored
                signal.signal(number, handle)
        yield
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])
