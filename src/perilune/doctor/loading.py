"""A factory by the name of its file: ``agent.py:make`` or ``notebook.ipynb:make``."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import math
import re
import sys
from collections.abc import Callable
from importlib.abc import InspectLoader
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from perilune.doctor.supervise import TooLong, supervised
from perilune.errors import ExaminationError


def load_factory(name: str, seconds: float = 60.0) -> Callable[..., Any]:
    """The callable that ``FILE:FACTORY`` names. Loading runs the file, as importing it would, for that long at most.

    A notebook's cells are run in their order, as far as the one that defines the factory; lines of a notebook's own
    language (``%matplotlib``, ``!pip``) are left out.

    Raises:
        ExaminationError: there is no such file, it raises or does not end, or there is no such callable in it.
    """
    file, colon, factory = name.rpartition(":")
    path = Path(file)
    if not colon or not factory.isidentifier() or path.suffix not in (".py", ".ipynb"):
        raise ExaminationError(f"{name!r} names no factory: FILE.py:FACTORY or FILE.ipynb:FACTORY is wanted")
    if not path.is_file():
        raise ExaminationError(f"there is no file {file!r}")
    modules: list[ModuleType] = []
    cells = _Cells(path, factory) if path.suffix == ".ipynb" else None
    try:
        supervised(lambda: modules.append(_module(path, cells)), seconds, math.inf, lambda: None)
    except ExaminationError:
        raise
    except TooLong as late:
        raise ExaminationError(
            f"running {file} took longer than {seconds:g} s. If it trains when it is imported, put that under "
            'if __name__ == "__main__":, or in a notebook behind the factory'
        ) from late
    except (Exception, SystemExit) as error:
        raise ExaminationError(f"running {file} raised {type(error).__name__}: {error}") from error
    (module,) = modules
    made = getattr(module, factory, None)
    if not callable(made):
        there = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ExaminationError(f"{file} has no callable {factory!r}; it has {', '.join(there) or 'none'}")
    return made  # type: ignore[no-any-return]


def _module(path: Path, loader: InspectLoader | None) -> ModuleType:
    sys.argv = [str(path)]  # our arguments are not the file's
    package = path.resolve().parent
    while (package / "__init__.py").is_file():
        package = package.parent
    sys.path.insert(0, str(package))  # for good: the factory, too, may import what lies beside it
    if package != path.resolve().parent and loader is None:
        return importlib.import_module(".".join(path.resolve().relative_to(package).with_suffix("").parts))
    name = f"examined_{path.stem}" if path.stem in sys.modules else path.stem
    spec = importlib.util.spec_from_loader(name, loader or SourceFileLoader(name, str(path)), origin=str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class _Cells(InspectLoader):
    """A notebook's code as one module, whose line numbers count through all cells."""

    def __init__(self, path: Path, factory: str) -> None:
        self.path, self.factory = path, factory

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_source(fullname), f"{self.path} (all cells)")

    def get_source(self, fullname: str) -> str:
        try:
            cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
            code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        except (ValueError, KeyError, TypeError) as error:
            raise ExaminationError(f"{self.path} is no notebook: {type(error).__name__}: {error}") from error
        kept: list[str] = []
        for number, cell in enumerate(code, start=1):
            kept.append(f"# cell {number}")
            lines = _python(cell)
            kept += lines
            if _defines("\n".join(lines), self.factory):
                break
        return "\n".join(kept) + "\n"


def _python(cell: str) -> list[str]:
    """A cell's lines, without those that only a notebook understands; each leaves a line in its place."""
    lines = cell.splitlines()
    words = lines[0].split() if lines else []
    if words and words[0].startswith("%%") and words[0] not in ("%%time", "%%timeit", "%%capture"):
        return [f"# {line}" for line in lines]  # another language
    lines = [re.sub(r"^(\s*)([%!].*|.*\?)$", r"\1pass  # \2", line) for line in lines]
    return [re.sub(r"^(\s*[\w, ]+=\s*)([%!].*)$", r"\1None  # \2", line) for line in lines]


def _defines(code: str, name: str) -> bool:
    """Whether ``code`` gives ``name`` a value at its top level."""
    try:
        statements = ast.parse(code).body
    except SyntaxError:  # told when it is run
        return False
    for statement in statements:
        names = [getattr(statement, "name", None)]
        names += [getattr(target, "id", None) for target in getattr(statement, "targets", [])]
        names += [alias.asname or alias.name for alias in getattr(statement, "names", []) if hasattr(alias, "asname")]
        if name in names:
            return True
    return False
