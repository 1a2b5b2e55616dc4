"""Load reference agents with faults: change the source of an agent and import it as a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import perilune
from perilune.errors import PeriluneError

AGENTS = Path(__file__).parent / "agents"
PACKAGE = Path(perilune.__file__).parent


class MutationError(PeriluneError, ValueError):
    """The old text of a change does not occur in the source."""


def text(agent: str) -> str:
    """Return the source of a reference agent."""
    return (AGENTS / f"{agent}.py").read_text(encoding="utf-8")


def mutated(source: str, changes: tuple[tuple[str, str], ...]) -> str:
    """Return ``source`` with each (old, new) replaced. Raise MutationError if an old text does not occur."""
    for old, new in changes:
        if old not in source:
            raise MutationError(f"the text to change does not occur: {old!r}")
        source = source.replace(old, new)
    return source


def copied(name: str, changes: tuple[tuple[str, str, str], ...], directory: Path) -> ModuleType:
    """Copy the package perilune as ``name`` into ``directory``, and load own.py with this copy.

    Args:
        name: Name of the copy.
        changes: (file in the package or "own.py", old text, new text).
        directory: Added to ``sys.path``.
    """

    def renamed(source: str, file: str) -> str:
        source = mutated(source, tuple((old, new) for changed, old, new in changes if changed == file))
        return source.replace("from perilune", f"from {name}").replace("import perilune", f"import {name}")

    for path in sorted(PACKAGE.rglob("*.py")):
        file = path.relative_to(PACKAGE).as_posix()
        copy = directory / name / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(renamed(path.read_text(encoding="utf-8"), file), encoding="utf-8")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    return load(f"{name}_own", renamed(text("own"), "own.py"), directory)


def load(name: str, source: str, directory: Path) -> ModuleType:
    """Load ``source`` as the module ``name``, from a file in ``directory`` so that reports can show its lines."""
    path = directory / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
