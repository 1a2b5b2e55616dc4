"""Locate a fault: trace the lines of the user's files that a call runs, and select the likeliest line."""

from __future__ import annotations

import ast
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

# Lines that may contain the words of a clue but no fault.
NO_FAULT = re.compile(
    r"""def |class |import |from |[#"'@]"""  # definitions and texts
    r"""|print\(|(self\.)?(log|logg\w*|\w*writer|wandb|mlflow|tqdm)\."""  # logs
    r"""|\w+( *:[^=]*)? *=[^=(\[]*,$"""  # keyword arguments
)


ADVANCE = re.compile(r"(self\.)?(s|x|o|\w*(obs|state)\w*) *= *(copy\()?(\w*(next|new)\w*|s_|s2|o2|s1)\b")
STORE = re.compile(r"(add|append|cache|insert|memorize|push|put|record|remember|save|store)\w*\(", re.IGNORECASE)


def lines_run(call: Callable[[], object]) -> list[Line]:
    """Run ``call`` and return the lines of the user's files that ran, in the order of their first run."""
    seen: dict[tuple[str, int], Line] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if not is_own(file):
            return None if event == "call" else trace
        if event == "line" and (file, frame.f_lineno) not in seen and frame.f_lineno not in _forwarding(file):
            text = linecache.getline(file, frame.f_lineno, frame.f_globals).strip()
            seen[file, frame.f_lineno] = Line(_place(file, frame.f_lineno), text)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with contextlib.suppress(Exception):  # the lines before an exception are also useful
            call()
    finally:
        sys.settrace(before)
    return list(seen.values())


@cache
def _forwarding(file: str) -> set[int]:
    """Return the lines of functions that only pass their arguments to a method of an object that ``self`` holds."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return set()
    lines: set[int] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            body = [one for one in function.body if not isinstance(getattr(one, "value", None), ast.Constant)]
            if len(body) == 1 and isinstance(body[0], ast.Expr | ast.Return) and _forwards(body[0].value):
                lines.update(range(body[0].lineno, (body[0].end_lineno or body[0].lineno) + 1))
    return lines


def _forwards(call: ast.expr | None) -> bool:
    if not isinstance(call, ast.Call):
        return False
    arguments = [*call.args, *(one.value for one in call.keywords)]
    plain = (ast.Name, ast.Attribute, ast.Constant, ast.Starred)
    held = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Attribute)
    return held and all(isinstance(one, plain) for one in arguments)


@cache
@cache
def is_own(file: str) -> bool:
    """Return whether ``file`` belongs to the user, and not to Python, Perilune or an installed library."""
    return not file.startswith(("<", PACKAGE, *LIBRARIES)) and not re.search(r"[/\\](site|dist)-packages[/\\]", file)


def _place(file: str, line: int | None) -> str:
    return f"{file}:{line}"


def likeliest(finding: Finding, lines_by_call: dict[str, list[Line]]) -> Line | None:
    """Return the first line that matches the most specific clue, or None if no clue matches."""
    lines = [line for call in finding.calls for line in lines_by_call.get(call, []) if not NO_FAULT.match(line.text)]
    for clue in finding.clues:
        for flags in (re.NOFLAG, re.IGNORECASE):  # for constants such as GAMMA
            for line in lines:
                if re.search(clue, line.text, flags):
                    return line
    return None


def advanced_too_early(lines: list[Line]) -> Line | None:
    """Return the line that sets obs to next_obs before the first line that stores a transition, or None."""
    for line in lines:
        if STORE.search(line.text) and not NO_FAULT.match(line.text):
            return None
        if ADVANCE.match(line.text):
            return line
    return None


def raised_at(error: BaseException | None) -> Line | None:
    """Return the innermost line of the user's code in the traceback of ``error``."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    own = [frame for frame in frames if is_own(frame.filename)]
    return Line(_place(own[-1].filename, own[-1].lineno), (own[-1].line or "").strip()) if own else None


def crashed_at(output: str) -> Line | None:
    """Return the innermost line of the user's code in the traceback that Python printed in a crash."""
    for file, number in re.findall(r'^ +File "(.+)", line (\d+) in ', output, re.MULTILINE):
        if is_own(file):
            return Line(_place(file, int(number)), linecache.getline(file, int(number)).strip())
    return None
