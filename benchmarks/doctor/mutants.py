"""Agents with a fault put in: the text of a host, changed in places, as a module of its own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib import resources
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from perilune.errors import PeriluneError


class MutationError(PeriluneError, ValueError):
    """A change does not fit the host's text."""


def text(host: str) -> str:
    return (resources.files("perilune.bench") / "hosts" / f"{host}.py").read_text(encoding="utf-8")


def mutated(source: str, changes: tuple[tuple[str, str], ...]) -> str:
    """``source`` with each old text, which must be there, replaced by the new one."""
    for old, new in changes:
        if old not in source:
            raise MutationError(f"the host's text has no {old!r}")
        source = source.replace(old, new)
    return source


def copied(name: str, changes: tuple[tuple[str, str, str], ...], directory: Path) -> ModuleType:
    """The module ``bench.hosts.own`` of a copy of this package called ``name``, with (file, old, new) changed in it."""
    package = directory / name
    root = Path(str(resources.files("perilune")))
    for path in sorted(root.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        file = path.relative_to(root).as_posix()
        source = mutated(source, tuple((old, new) for changed, old, new in changes if changed == file))
        source = source.replace("from perilune", f"from {name}").replace("import perilune", f"import {name}")
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(source, encoding="utf-8")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    return importlib.import_module(f"{name}.bench.hosts.own")


def load(name: str, source: str, directory: Path) -> ModuleType:
    """``source`` as the module ``name``, from a file in ``directory``, so that its lines can be shown."""
    path = directory / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, str(path)))
    if spec is None or spec.loader is None:
        raise MutationError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
