"""Work that may hang, watched from outside: what takes too long is interrupted, and if it does not listen, left."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ATTEMPTS = 40  # of 0.05 s


class _Interrupted(BaseException):
    """Raised in the thread whose time is up. No Exception, so that a patient's ``except Exception`` lets it pass."""


class Call(NamedTuple):
    """A call of the patient that is under way, since when by the clock, and since when by the process's own time."""

    name: str
    began: float
    worked: float

    @classmethod
    def now(cls, name: str) -> Call:
        return cls(name, time.monotonic(), time.process_time())

    def over(self, seconds: float) -> bool:
        """Whether it has worked for longer than ``seconds``, or waited for three times as long.

        On a busy machine the clock runs on while nothing is done, and that is not the patient's fault.
        """
        return time.process_time() - self.worked > seconds or time.monotonic() - self.began > 3 * seconds


class TooLong(Exception):  # noqa: N818 -- a verdict, not an error of ours
    """The time was up; ``call`` is the patient's method that was under way, or None.

    ``runs_on``: it listens to nothing, and goes on behind the back of whatever comes next.
    """

    runs_on = False

    def __init__(self, call: str | None, seconds: float) -> None:
        super().__init__(
            f"{call} did not return within {seconds:.0f} s"
            if call
            else f"the {seconds:.0f} s that were left were not enough"
        )
        self.call = call
        self.seconds = seconds


def supervised(
    work: Callable[[], None],
    seconds: float,
    call_seconds: float,
    under_way: Callable[[], Call | None],
) -> None:
    """Run ``work`` in a thread of its own, for at most ``seconds``, no call of the patient for over ``call_seconds``.

    Raises:
        TooLong: one of the two was exceeded; the thread was interrupted, at its next line of Python.
        Whatever ``work`` raises.
    """
    errors: list[BaseException] = []
    differentiates = _differentiates()

    def body() -> None:
        nonlocal differentiates
        try:
            _differentiates(differentiates)
            with np.errstate(all="ignore"):
                work()
            differentiates = _differentiates()
        except BaseException as error:  # handed over to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=body, name="doctor", daemon=True)
    end = time.monotonic() + seconds
    thread.start()
    too_long = None
    while thread.is_alive():
        thread.join(0.02)
        call = under_way()
        if call is not None and call.over(call_seconds):
            too_long = TooLong(call.name, call_seconds)
        elif time.monotonic() > end:
            too_long = TooLong(None, seconds)
        if too_long is not None:
            too_long.runs_on = not _ended(thread)
            raise too_long
    _differentiates(differentiates)
    if errors:
        raise errors[0]


def _differentiates(switch: bool | None = None) -> bool | None:
    """Whether torch does in this thread, for it keeps that for each thread apart; ``switch`` sets it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if switch is not None:
        torch.set_grad_enabled(switch)
    return bool(torch.is_grad_enabled())


def _ended(thread: threading.Thread) -> bool:
    """Interrupt ``thread`` until it ends, also where it catches whatever is raised in it; False if it does not."""
    for _ in range(ATTEMPTS):
        if not thread.is_alive():
            return True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Interrupted))
        thread.join(0.05)
    return not thread.is_alive()
