"""Tell exceptions of a program from those that the tracer environment causes: run it in its own environment."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable
from types import TracebackType

from perilune.doctor.program import sources
from perilune.doctor.program.observed import observed
from perilune.doctor.program.running import Trace
from perilune.doctor.program.standins import is_stand_in
from perilune.doctor.report import Finding
from perilune.doctor.supervise import TooLong, supervised
from perilune.errors import ExaminationError

LONGER = 3, 1000  # the plain run may take so many times as many time steps, and so many more
OUTSIDE = (OSError, EOFError, ImportError, MemoryError, KeyboardInterrupt, SystemExit, ExaminationError)


def own_exception(trace: Trace, seconds: float, stuck: Callable[[TooLong], object]) -> Finding | None:
    """Return a finding if the exception that ended a program also ends it in its own environment.

    Args:
        trace: The program, which has run.
        seconds: Time limit in seconds of CPU time.
        stuck: Is called if the program does not react to interrupts.
    """
    error, log = trace.error, trace.log
    place = _place(trace, error)
    if error is None or log is None or not log.steps or not place or isinstance(error, OUTSIDE):
        return None
    imported = {name.partition(".")[0] for tree in sources.trees(trace.program) for name in sources.imported(tree)}
    if "gym" in imported or _uses_stand_ins(error.__traceback__, place):
        return None  # the doctor may lack what the program needs
    steps = len(log.steps)
    again = Trace(trace.name, trace.arguments, lambda *_: False, plain=LONGER[0] * steps + LONGER[1])
    with contextlib.suppress(TooLong):
        supervised(again.run, seconds, math.inf, lambda: None, stuck)
    if type(again.error) is not type(error) or _place(again, again.error) != place:
        return None
    evidence = (
        f"{type(error).__name__}: {error}. It occurs after {steps} time steps, and also in the plain environment."
    )
    return observed("loop.exception", evidence, place)


def _place(trace: Trace, error: BaseException | None) -> str:
    """Return the innermost line of the program in a traceback, ``file:line``, or ""."""
    if error is None:
        return ""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename in trace.files]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _uses_stand_ins(trace: TracebackType | None, place: str) -> bool:
    """Return whether a function that raised uses an object that only stands in for one of a missing package."""
    while trace is not None:
        code = trace.tb_frame.f_code
        if place.startswith(code.co_filename):
            values = [*trace.tb_frame.f_locals.values()]
            values += [trace.tb_frame.f_globals.get(name) for name in code.co_names]
            if any(map(is_stand_in, values)):
                return True
        trace = trace.tb_next
    return False
