"""Make what a program does apart from learning harmless: windows, prompts, files, processes, network calls."""

from __future__ import annotations

import ast
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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from perilune.doctor.program import standins
from perilune.doctor.program.files import Scratch

NOTEBOOK: dict[str, Any] = {"display": lambda *_, **__: None, "get_ipython": standins.StandIn}
ANSWERS = ("", "y", "1", "train", "0", "q", "yes")  # to a prompt that the program repeats
MOST_PROMPTS = 30  # with the same text
NUMPY_ALIASES = {"float": float, "int": int, "object": object, "str": str, "bool8": np.bool_, "float_": np.float64}
REFUSED = "the doctor runs the program in one process and without network access"


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


def limit_torch(torch: Any, scratch: Scratch, trees: Iterable[ast.AST]) -> None:
    """Make a PyTorch program use the CPU, and write its files to the scratch directory.

    Args:
        torch: The package.
        scratch: The scratch directory.
        trees: Syntax trees of the program.
    """
    torch.cuda.is_available = torch.backends.mps.is_available = lambda: False
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self
    if "torch._dynamo" not in sys.modules:  # its import takes seconds, and optimizers only tell it to do nothing
        torch._dynamo = sys.modules["torch._dynamo"] = standins.module("torch._dynamo")
    save = torch.save
    torch.save = lambda what, file, *args, **keywords: save(what, scratch.writing(file), *args, **keywords)

    def on_cpu(value: Any) -> Any:
        device = value if isinstance(value, str) else value.type if isinstance(value, torch.device) else ""
        return "cpu" if device.startswith(("cuda", "mps")) else value

    class OnCpu(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), keywords: Any = None) -> Any:
            keywords = {key: on_cpu(value) for key, value in (keywords or {}).items()}
            return function(*map(on_cpu, args), **keywords)

    if any(_asks_for_gpu(tree) for tree in trees):
        OnCpu().__enter__()


def _asks_for_gpu(tree: ast.AST) -> bool:
    """Return whether a program names a GPU, other than as in ``"cuda" if torch.cuda.is_available() else "cpu"``."""
    if isinstance(tree, ast.IfExp):
        return False
    if isinstance(tree, ast.Constant):
        return isinstance(tree.value, str) and bool(re.fullmatch(r"(cuda|mps)(:\d)?", tree.value))
    return any(_asks_for_gpu(one) for one in ast.iter_child_nodes(tree))


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
def harmless(beside: Path) -> Iterator[Scratch]:
    """Replace functions with an effect outside the program. Return where its files are written.

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
        yield scratch
