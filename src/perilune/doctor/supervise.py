"""Run work in a thread, interrupt it at a time limit, and abandon it if it does not react."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

ATTEMPTS = 40  # interrupts, one every 0.05 s


class _Interrupted(BaseException):
    """Raised in a thread to interrupt it. A BaseException, because the agent may catch ``Exception``."""


class Call:
    """A running call to the agent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began, self.cpu_began = time.monotonic(), time.process_time()

    def exceeds(self, seconds: float) -> bool:
        """Return whether the call used more than ``seconds`` of CPU time, or three times as much wall-clock time.

        On a busy machine, wall-clock time passes while the process waits for a CPU.
        """
        return time.process_time() - self.cpu_began > seconds or time.monotonic() - self.began > 3 * seconds


class TooLong(Exception):  # noqa: N818 -- a result, not an error
    """A time limit was reached.

    ``call`` is the method of the agent that was running, or None. If ``unstoppable``, the thread did not react to
    interrupts and is still running.
    """

    def __init__(self, call: str | None, seconds: float, unstoppable: bool) -> None:
        text = f"{call} did not return within {seconds:.0f} s"
        super().__init__(text if call else f"the check did not finish in the remaining {seconds:.0f} s")
        self.call, self.unstoppable = call, unstoppable


def supervised(
    work: Callable[[], None], seconds: float, call_seconds: float, under_way: Callable[[], Call | None]
) -> None:
    """Run ``work`` in a thread for at most ``seconds``, with at most ``call_seconds`` for each call of the agent.

    Raise what ``work`` raises. Raise TooLong if it exceeds a limit, after interrupting the thread.
    """
    errors: list[BaseException] = []
    grad_enabled = _torch_grad_enabled()

    def body() -> None:
        nonlocal grad_enabled
        try:
            _torch_grad_enabled(grad_enabled)
            with np.errstate(all="ignore"):
                work()
            grad_enabled = _torch_grad_enabled()
        except BaseException as error:  # raised again in the waiting thread
            errors.append(error)

    thread = threading.Thread(target=body, name="doctor", daemon=True)
    end = time.monotonic() + seconds
    thread.start()
    while thread.is_alive():
        thread.join(0.02)
        call = under_way()
        if call is not None and call.exceeds(call_seconds):
            raise TooLong(call.name, call_seconds, unstoppable=not _interrupt(thread))
        if time.monotonic() > end:
            raise TooLong(None, seconds, unstoppable=not _interrupt(thread))
    _torch_grad_enabled(grad_enabled)
    if errors:
        raise errors[0]


def _torch_grad_enabled(switch: bool | None = None) -> bool | None:
    """Set PyTorch's gradient mode in this thread if ``switch`` is given. Return the mode, or None without PyTorch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if switch is not None:
        torch.set_grad_enabled(switch)
    return bool(torch.is_grad_enabled())


def _interrupt(thread: threading.Thread) -> bool:
    """Interrupt ``thread`` repeatedly, in case it catches the exception. Return whether it ended."""
    for _ in range(ATTEMPTS):
        if not thread.is_alive():
            return True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Interrupted))
        thread.join(0.05)
    return not thread.is_alive()
