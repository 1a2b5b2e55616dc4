"""Limit the CPU time of work in this thread: a second thread watches it and interrupts it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from time import monotonic, process_time  # not as time.monotonic, because the agent may replace it

PATIENCE = 10  # wall-clock limits are this many times as long as the limits of CPU time
TICK = 0.02  # seconds between checks of the clocks
STUBBORN = 5.0  # seconds for which an interrupted call may keep running
MORE = "A larger budget (--budget SECONDS) allows more time"


class Interrupted(BaseException):
    """Raised in a thread to interrupt it. A BaseException, because the agent may catch ``Exception``."""


class Call:
    """A running call to the agent. Its time begins when ``exceeded`` first looks at it: most calls end before that."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began: tuple[float, float] | None = None  # wall-clock time and CPU time

    def exceeded(self, seconds: float) -> str | None:
        """Return the limit that the call exceeded, or None.

        The first limit is ``seconds`` of CPU time, so waiting for a CPU does not count. The second is ``PATIENCE``
        times as long on the wall clock, for calls that sleep.
        """
        wall, cpu = monotonic(), process_time()
        if self.began is None:
            self.began = wall, cpu
        if cpu - self.began[1] > seconds:
            return f"{seconds:g} s of CPU time"
        if wall - self.began[0] > PATIENCE * seconds:
            return f"{PATIENCE * seconds:g} s"
        return None


class TooLong(Exception):  # noqa: N818 -- a result, not an error
    """A call, or the whole check, did not end within a time limit."""

    def __init__(self, what: str, limit: str) -> None:
        super().__init__(f"{what} did not end within {limit}. {MORE}")
        self.limit = limit


class _Watch(threading.Thread):
    """Interrupts the thread that creates it when a limit is reached."""

    def __init__(
        self,
        seconds: float,
        call_seconds: float,
        under_way: Callable[[], Call | None],
        stuck: Callable[[TooLong], object],
    ) -> None:
        super().__init__(name="doctor", daemon=True)
        self.worker = threading.get_ident()
        self.seconds, self.call_seconds, self.under_way, self.stuck = seconds, call_seconds, under_way, stuck
        self.late: TooLong | None = None
        self.finished = False
        self.lock = threading.Lock()  # released when the work ends
        self.lock.acquire()

    def run(self) -> None:
        whole = Call("")
        whole.exceeded(self.seconds)
        while not self.finished and self.late is None:
            self.lock.acquire(timeout=TICK)
            call = self.under_way()
            if call is not None and (limit := call.exceeded(self.call_seconds)):
                self.late = TooLong(call.name, limit)
            elif limit := whole.exceeded(self.seconds):
                self.late = TooLong("the check", limit)
        end = monotonic() + STUBBORN
        while not self.finished and self.late is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.worker), ctypes.py_object(Interrupted))
            self.lock.acquire(timeout=TICK)
            if monotonic() > end:
                self.stuck(self.late)
                end += STUBBORN

    def stop(self) -> None:
        """End the thread. Its last interrupt does not escape from this method."""
        while True:
            try:
                self.finished = True
                if self.lock.locked():
                    self.lock.release()
                self.join()
                for _ in range(100):  # an interrupt that is still pending arrives here
                    pass
                return
            except Interrupted:
                continue


def supervised(
    work: Callable[[], object],
    seconds: float,
    call_seconds: float,
    under_way: Callable[[], Call | None],
    stuck: Callable[[TooLong], object],
) -> None:
    """Run ``work`` for at most ``seconds``, with at most ``call_seconds`` for each call of the agent.

    Raise what ``work`` raises. Raise TooLong if it exceeds a limit, after interrupting it. If it does not react to
    interrupts, call ``stuck`` in another thread.
    """
    watch = _Watch(seconds, call_seconds, under_way, stuck)
    watch.start()
    try:
        try:
            work()
        finally:
            watch.stop()
    except Interrupted:
        watch.stop()
        assert watch.late is not None
        raise watch.late from None
