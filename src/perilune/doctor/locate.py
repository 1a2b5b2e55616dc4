"""Locate a fault: trace the lines of the user's files that a call runs, and select the likeliest line."""

from __future__ import annotations

import contextlib
import linecache
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from perilune.doctor.report import Finding, Line

PACKAGE = str(Path(__file__).resolve().parents[1])
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def lines_run(call: Callable[[], object]) -> list[Line]:
    """Run ``call`` and return the lines of the user's files that ran, in the order of their first run."""
    seen: dict[tuple[str, int], Line] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if not is_own(file):
            return None if event == "call" else trace
        if event == "line" and (file, frame.f_lineno) not in seen:
            text = linecache.getline(file, frame.f_lineno, frame.f_globals).strip()
            seen[file, frame.f_lineno] = Line(_place(file, frame.f_lineno), text)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    with contextlib.suppress(Exception):  # the lines before an exception are also useful
        call()
    sys.settrace(before)
    return list(seen.values())


@cache
def is_own(file: str) -> bool:
    """Return whether ``file`` belongs to the user, and not to Python, Perilune or an installed library."""
    return not file.startswith(("<", PACKAGE, *LIBRARIES)) and not re.search(r"[/\\](site|dist)-packages[/\\]", file)


def _place(file: str, line: int | None) -> str:
    return f"{file}:{line}"


def likeliest(finding: Finding, lines_by_call: dict[str, list[Line]]) -> Line | None:
    """Return the first line that matches the most specific clue, or None if no clue matches."""
    lines = [line for call in finding.calls for line in lines_by_call.get(call, [])]
    for clue in finding.clues:
        for line in lines:
            if re.search(clue, line.text) and not line.text.startswith(("def ", "class ", "#", '"')):
                return line
    return None


def raised_at(error: BaseException | None) -> Line | None:
    """Return the innermost line of the user's code in the traceback of ``error``."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    own = [frame for frame in frames if is_own(frame.filename)]
    return Line(_place(own[-1].filename, own[-1].lineno), (own[-1].line or "").strip()) if own else None


def crashed_at(output: str) -> Line | None:
    """Return the innermost line of the user's code in the traceback of a crash, which Python printed."""
    for file, number in re.findall(r'^ +File "(.+)", line (\d+) in ', output, re.MULTILINE):
        if is_own(file):
            return Line(_place(file, int(number)), linecache.getline(file, int(number)).strip())
    return None
