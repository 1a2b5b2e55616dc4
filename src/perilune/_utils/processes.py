"""Start worker processes: check the program, and keep Ctrl-C away from them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

from perilune.errors import UsageError


def check_program() -> None:
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
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT in the threads and processes that the block starts, including during their startup."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # otherwise, the first process starts it, which unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
