"""Agents that are scripts: their training loop is not in a function, as in CleanRL's programs."""

from __future__ import annotations

import ast
import contextlib
import copy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any


class Script:
    """A script that has run up to its training loop. Its global variables are attributes.

    The training loop is the first loop outside functions that calls a method ``step``. If this loop samples batches
    itself, ``update`` runs the part that samples a batch and learns from it. The file is not modified. Pass the script
    to ``replay_agent``.

    Args:
        path: The script, a Python file.
        memory: Name of the variable whose method ``sample`` the training loop calls, or None if a function calls it.
        arguments: Command-line arguments of the script.

    Raises:
        ValueError: The script has no training loop, or the loop does not sample from ``memory``.

    Example:
        An adapter for CleanRL's ``dqn.py``::

            def make(seed=0):
                script = Script("dqn.py", "rb", [f"--seed={seed}", "--no-cuda"])
                return replay_agent(script, memory="rb", learn="update", ...)
    """

    def __init__(self, path: str | Path, memory: str | None = None, arguments: Sequence[str] = ()) -> None:
        file = Path(path).resolve()
        before, loop = _split(_unguarded(ast.parse(file.read_bytes(), file).body), file)
        if memory is not None and not _calls(loop, "sample", memory):
            raise ValueError(
                f"memory={memory!r} is invalid: the training loop of {file.name} does not call {memory}.sample(). Pass "
                "the name of the variable that it samples from, or None if a function samples."
            )
        vars(self).update(__name__="__main__", __file__=str(file))
        with _started_as(file, arguments):
            exec(compile(ast.Module(before, []), file, "exec"), vars(self))  # noqa: S102 -- the user's program
        if isinstance(loop, ast.For):
            vars(self).update({node.id: 1 for node in ast.walk(loop.target) if isinstance(node, ast.Name)})
        self._update = _once(_block(loop, memory) if memory else [], file)

    def update(self) -> None:
        """Run the part of the training loop that samples a batch and learns from it."""
        exec(self._update, vars(self))  # noqa: S102 -- the user's program

    def __deepcopy__(self, memo: dict[int, Any]) -> Script:
        """Copy the variables, so that the functions of the copy use them. Share what cannot be copied."""
        new = object.__new__(Script)
        memo[id(self)] = new
        for name, value in vars(self).items():
            if isinstance(value, FunctionType) and value.__globals__ is vars(self):
                copied = FunctionType(value.__code__, vars(new), name, value.__defaults__, value.__closure__)
                copied.__kwdefaults__ = value.__kwdefaults__
                setattr(new, name, copied)
            elif isinstance(value, ModuleType | CodeType) or name == "__builtins__":
                setattr(new, name, value)
            else:
                try:
                    setattr(new, name, copy.deepcopy(value, memo))
                except (TypeError, RuntimeError):  # such as a log writer, or a tensor with its graph
                    setattr(new, name, value)
        return new


def _unguarded(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Replace ``if __name__ == "__main__":`` with its body."""
    found: list[ast.stmt] = []
    for node in statements:
        guarded = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        found += node.body if guarded and isinstance(node, ast.If) else [node]
    return found


def _calls(node: ast.AST, method: str, owner: str | None = None) -> bool:
    """Return whether ``node`` calls a method whose name contains ``method``, of ``owner`` if given."""
    return any(
        isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and method in one.func.attr
        and owner in (None, ast.unparse(one.func.value))
        for one in ast.walk(node)
    )


def _split(statements: list[ast.stmt], file: Path) -> tuple[list[ast.stmt], ast.For | ast.While]:
    """Return the statements before the training loop, and the loop."""
    for index, node in enumerate(statements):
        if isinstance(node, ast.For | ast.While) and _calls(node, "step"):
            return statements[:index], node
    raise ValueError(
        f"{file.name} has no loop outside functions that calls a method `step`. Import the file as a module instead."
    )


def _block(node: ast.stmt, memory: str) -> list[ast.stmt]:
    """Return the innermost block of ``node`` that draws a batch."""
    for name in ("body", "orelse"):
        block: list[ast.stmt] = getattr(node, name, [])
        for one in block:
            if _calls(one, "sample", memory):
                return _block(one, memory) if hasattr(one, "body") else block
    raise AssertionError("only the condition of a loop or an if statement draws a batch")


def _once(block: list[ast.stmt], file: Path) -> CodeType:
    """Compile ``block`` as a loop that runs once, because it may contain ``continue`` or ``break``."""
    loop = ast.For(ast.Name("_", ast.Store()), ast.Tuple([ast.Constant(0)], ast.Load()), block or [ast.Pass()], [])
    return compile(ast.fix_missing_locations(ast.Module([loop], [])), file, "exec")


@contextlib.contextmanager
def _started_as(file: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Set ``sys.argv`` and the import path as for ``python FILE ARGUMENTS``."""
    kept = sys.argv
    sys.argv = [str(file), *arguments]
    sys.path.insert(0, str(file.parent))
    try:
        yield
    finally:
        sys.argv = kept
        sys.path.remove(str(file.parent))
