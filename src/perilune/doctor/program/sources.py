"""Find the code of a program: a Python file, a notebook, or a class or function of a module."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from perilune.doctor.loading import notebook_cells
from perilune.errors import ExaminationError

STARTS = ("main", "train", "run", "learn", "fit", "start")  # functions and methods that train, the likeliest first
MOST_FILES = 200  # files of one program that are read


class Unit(NamedTuple):
    """A piece of code that runs at once: a file, or a cell of a notebook."""

    source: str
    file: str


class Program(NamedTuple):
    """A program to run.

    Attributes:
        path: Its file.
        units: Its code, in order.
        module: Name of the module whose class or function is called, or "" to run the file itself.
        attribute: Name of this class or function, or "".
    """

    path: Path
    units: list[Unit]
    module: str = ""
    attribute: str = ""


def find(name: str) -> Program:
    """Return the program with this name.

    Args:
        name: FILE.py, FILE.ipynb, MODULE:CLASS or MODULE:FUNCTION.

    Raises:
        ExaminationError: If there is no such file, or it contains no code.
    """
    if name.endswith(".ipynb"):
        path = _existing(Path(name))
        file, cells = notebook_cells(path)
        return _with_code(Program(path, [Unit(cell, file) for cell in cells]))
    module, colon, attribute = name.rpartition(":")
    if colon and attribute.isidentifier() and not module.endswith((".py", ".ipynb")):
        path = _module_file(module)
    elif name.endswith(".py"):
        path, module, attribute = _existing(Path(name)), "", ""
    else:
        raise ExaminationError(f"{name!r} is invalid: expected FILE.py, FILE.ipynb or MODULE:CLASS")
    try:
        unit = Unit(text(path), str(path))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ExaminationError(f"{path.name} is not a text file with Python code: {error}") from error
    return _with_code(Program(path, [unit], module, attribute))


def _with_code(program: Program) -> Program:
    """Return the program. Raise ExaminationError if it contains no statement."""
    for unit in program.units:
        with suppress(SyntaxError):  # is raised again when the code runs
            if not ast.parse(unit.source).body:
                continue
        return program
    raise ExaminationError(f"{program.path.name} contains no code: pass the file that trains")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ExaminationError(f"file {str(path)!r} does not exist")
    return path.absolute()


def _module_file(name: str) -> Path:
    base = Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path.absolute()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.origin or "").endswith(".py"):
        raise ExaminationError(
            f"module {name!r} was not found: run the command in the directory that contains it, or install its package"
        )
    return Path(spec.origin or "")


def text(path: Path) -> str:
    """Return the source of a file, in the encoding that it declares."""
    return importlib.util.decode_source(path.read_bytes())


def trees(program: Program) -> Iterator[ast.Module]:
    """Return the syntax trees of the program and of the files beside it that it imports, directly or not."""
    waiting: list[Unit] = list(program.units)
    seen: set[str] = set()
    root = program.path.parent
    while waiting and len(seen) < MOST_FILES:
        unit = waiting.pop(0)
        try:
            tree = ast.parse(unit.source)
        except SyntaxError:
            continue
        yield tree
        for name in imported(tree):
            for path in (
                root.joinpath(*name.split(".")).with_suffix(".py"),
                root.joinpath(*name.split("."), "__init__.py"),
            ):
                if str(path) not in seen and path.is_file():
                    seen.add(str(path))
                    waiting.append(Unit(text(path), str(path)))


class Modern(ast.NodeTransformer):
    """Makes ``loss.data[0]`` work, which was the way to read a number from a tensor before PyTorch 0.4."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Replace the index 0 by ``...`` if the tensor has no dimensions."""
        self.generic_visit(node)
        index, data = node.slice, node.value
        if not isinstance(index, ast.Constant) or index.value != 0 or not isinstance(data, ast.Attribute):
            return node
        if data.attr == "data" and isinstance(data.value, ast.Name):
            shape = f"getattr({data.value.id}, 'shape', None)"
            node.slice = ast.parse(f"... if {shape} == () else 0", mode="eval").body
            for one in ast.walk(node.slice):
                ast.copy_location(one, index)
        return node


def imported(tree: ast.AST) -> Iterator[str]:
    """Return the names of the modules that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)
        elif isinstance(node, ast.ImportFrom):  # from . import name
            yield from (one.name for one in node.names)


def started(namespace: dict[str, Any], attribute: str) -> Callable[[], object]:
    """Return a call that trains.

    Args:
        namespace: Global variables of the program.
        attribute: The class or function to call. If "", the likeliest function of the program.

    Raises:
        ExaminationError: If nothing can be called without arguments that the program does not give.
    """
    if not attribute:
        return _likeliest(namespace)
    if attribute not in namespace:
        names = sorted(key for key, value in namespace.items() if callable(value) and not key.startswith("_"))
        raise ExaminationError(f"the module has no {attribute!r}. It has {', '.join(names) or 'no callables'}")
    what = namespace[attribute]
    if missing := _required(what):
        raise ExaminationError(
            f"{attribute} cannot be called: it requires {', '.join(missing)}. Give these parameters defaults, or pass "
            "a file that creates and trains the agent"
        )
    if not inspect.isclass(what):
        return what  # type: ignore[no-any-return]

    def train() -> object:
        agent = what()
        for name in STARTS:
            method = getattr(agent, name, None)
            if callable(method) and not _required(method):
                return method()
        raise ExaminationError(
            f"{attribute} has no method {', '.join(STARTS[:-1])} or {STARTS[-1]} that can be called without arguments. "
            "Pass a file that creates and trains the agent"
        )

    return train


def _likeliest(namespace: dict[str, Any]) -> Callable[[], object]:
    own = {key: value for key, value in namespace.items() if inspect.isfunction(value)}
    own = {key: value for key, value in own.items() if value.__globals__ is namespace}
    ready = [key for key, value in own.items() if not _required(value)]
    for start in STARTS:
        for key in (start, *(key for key in ready if start in key.lower())):
            if key in ready:
                return own[key]
    if not any(getattr(value, "__module__", "") == namespace["__name__"] for value in namespace.values()):
        raise ExaminationError("the program takes no time step in an environment: pass the file that trains")
    found = [
        f"{key} requires {', '.join(_required(own[key]))}" for key in own if any(one in key.lower() for one in STARTS)
    ]
    raise ExaminationError(
        "the program defines classes or functions but does not run them: add a function main() that makes the "
        "environment and trains the agent, or name a function that returns an adapter of the agent (FILE.py:make)"
        + "".join(f". {one}" for one in found[:3])
    )


def _required(what: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters without a default."""
    try:
        parameters = inspect.signature(what).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
