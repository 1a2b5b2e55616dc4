"""Make what a program does apart from learning harmless: windows, prompts, files, processes, network calls."""

from __future__ import annotations

import builtins
import contextlib
import io
import linecache
import multiprocessing.process
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from perilune.doctor.program import standins
from perilune.doctor.program.files import Scratch

NOTEBOOK: dict[str, Any] = {"display": lambda *_, **__: None, "get_ipython": standins.StandIn}
ANSWERS = ("", "y", "1", "train", "0", "q", "yes")  # to a prompt that the program repeats
MOST_PROMPTS = 30  # with the same text
NUMPY_ALIASES = {"float": float, "int": int, "object": object, "str": str, "bool8": np.bool_, "float_": np.float64}
REFUSED = "Perilune runs the program without network and in one process"


def answer(prompt: str, line: str, repeated: int) -> str:
    """Return an answer to a prompt.

    Args:
        prompt: Its text.
        line: The line of code that asks.
        repeated: How often the same prompt was answered before.

    Raises:
        EOFError: If the program asks the same again and again.
    """
    if repeated > MOST_PROMPTS:
        raise EOFError("no more answers to the prompt")
    option = re.search(r"(\w+)\s*[-:.)=]+\s*train", prompt, re.IGNORECASE)
    if repeated:
        return ANSWERS[repeated % len(ANSWERS)]
    if option:
        return option[1]
    if re.search(r"\by(es)?\s*(/|or|\|)\s*n", prompt, re.IGNORECASE):
        return "n"
    if re.search(r"\b(int|float)\s*\(\s*(builtins\.)?input", line):
        return "1000" if re.search(r"episode|step|epoch|iteration", prompt, re.IGNORECASE) else "1"
    return "n" if "?" in prompt else ""


def _refuse(*_: Any, **__: Any) -> Any:
    raise OSError(REFUSED)


def _nothing(*_: Any, **__: Any) -> Any:
    """Do nothing."""


def _succeed(command: Any = "", *_: Any, text: Any = None, encoding: Any = None, **keywords: Any) -> Any:
    """Return the result of a process that printed nothing."""
    output = "" if text or encoding or keywords.get("universal_newlines") else b""
    return subprocess.CompletedProcess(command, 0, output, output)


def _leave(code: int = 0) -> None:
    raise SystemExit(code)


def _patches() -> list[tuple[Any, str, Any]]:
    asked: Counter[str] = Counter()

    def ask(prompt: object = "", /) -> str:
        text, frame = str(prompt), sys._getframe(1)
        asked[text] += 1
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        return answer(text, line, asked[text] - 1)

    patches: list[tuple[Any, str, Any]] = [
        (builtins, "input", ask),
        (time, "sleep", _nothing),
        (os, "system", lambda *_: 0),
        (os, "popen", lambda *_, **__: io.StringIO()),
        (os, "_exit", _leave),
        (os, "abort", _leave),
        (os, "kill", _nothing),
        (subprocess, "Popen", _refuse),
        (subprocess, "run", _succeed),
        (subprocess, "call", lambda *_, **__: 0),
        (subprocess, "check_call", lambda *_, **__: 0),
        (subprocess, "check_output", lambda *args, **keywords: _succeed(*args, **keywords).stdout),
        (multiprocessing.process.BaseProcess, "start", _refuse),
        (socket.socket, "connect", _refuse),
        (socket.socket, "connect_ex", _refuse),
        (socket, "getaddrinfo", _refuse),
        (socket, "create_connection", _refuse),
        (signal, "signal", lambda *_: signal.SIG_DFL),
        (sys, "setrecursionlimit", _nothing),
        (webbrowser, "open", lambda *_, **__: False),
    ]
    patches += [
        (os, name, _refuse) for name in ("fork", "startfile", "execv", "execve", "posix_spawn") if hasattr(os, name)
    ]
    patches += [(signal, name, _nothing) for name in ("alarm", "setitimer", "pause") if hasattr(signal, name)]
    return patches


@contextlib.contextmanager
def harmless(beside: Path) -> Iterator[None]:
    """Replace functions with an effect outside the program.

    Args:
        beside: Directory of the program, for the files that it reads.
    """
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="perilune-", ignore_cleanup_errors=True))
        scratch = Scratch(Path(directory), beside)
        stack.callback(os.chdir, Path.cwd())
        stack.enter_context(standins.imported())
        variables = os.environ.copy()
        stack.callback(os.environ.update, variables)
        stack.callback(os.environ.clear)
        os.environ.update(SDL_VIDEODRIVER="dummy", SDL_AUDIODRIVER="dummy", MPLBACKEND="Agg", WANDB_MODE="disabled")
        for name, kind in NUMPY_ALIASES.items():  # removed in NumPy 1.24 and 2.0
            if name not in vars(np):
                setattr(np, name, kind)
                stack.callback(delattr, np, name)
        for owner, name, value in (*_patches(), *scratch.patches()):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield
