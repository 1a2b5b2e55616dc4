"""Load the factory of an agent from a Python file or a notebook, or write an adapter template."""

from __future__ import annotations

import importlib
import json
import linecache
import math
import re
import sys
from collections.abc import Callable
from importlib import resources
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from perilune.doctor.report import ALL_CELLS
from perilune.doctor.supervise import TooLong, supervised
from perilune.errors import ExaminationError


def write_adapter(path: Path) -> None:
    """Write a commented adapter template. Raise ExaminationError if ``path`` is not a new .py file."""
    require_new(path)
    template = (resources.files("perilune.doctor") / "adapter_template.txt").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.replace("FILE.py", path.as_posix()))
    except FileExistsError as error:
        raise ExaminationError(f"{path} already exists. Pass another name, or remove the file") from error
    except OSError as error:
        raise ExaminationError(f"{path} cannot be written: {error.strerror}") from error


def require_new(path: Path) -> None:
    """Raise ExaminationError if ``path`` is not a new .py file in an existing directory."""
    if path.suffix != ".py":
        raise ExaminationError(f"{str(path)!r} is invalid: expected the name of a new Python file, FILE.py")
    if path.exists():
        raise ExaminationError(f"{path} already exists. Pass another name, or remove the file")
    if not path.parent.is_dir():
        raise ExaminationError(f"directory {str(path.parent)!r} does not exist")


def names_factory(name: str) -> bool:
    """Return whether ``name`` is FILE:FACTORY, and not a program: FILE.py, FILE.ipynb or MODULE:CLASS.

    Raise ExaminationError if there is no such file.
    """
    file, colon, member = name.rpartition(":")
    if Path(name).is_dir():
        raise ExaminationError(f"{name!r} is a directory: pass the file that trains, such as {Path(name, 'train.py')}")
    if colon and Path(file).suffix in (".py", ".ipynb"):
        split_name(name)
        return True
    if Path(name).suffix in (".py", ".ipynb"):
        if not Path(name).is_file():
            raise ExaminationError(f"file {name!r} does not exist")
    elif not (file.replace(".", "").isidentifier() and member.isidentifier()):
        raise ExaminationError(f"{name!r} is invalid: expected FILE.py, FILE.ipynb, MODULE:CLASS or FILE.py:FACTORY")
    return False


def split_name(name: str) -> tuple[Path, str]:
    """Return the absolute path and the factory in ``FILE:FACTORY``. Raise ExaminationError if there is no such file."""
    file, colon, factory = name.rpartition(":")
    path = Path(file)
    if not colon or not factory.isidentifier() or path.suffix not in (".py", ".ipynb"):
        raise ExaminationError(f"{name!r} is invalid: expected FILE.py:FACTORY or FILE.ipynb:FACTORY")
    if not path.is_file():
        raise ExaminationError(f"file {file!r} does not exist")
    return path.absolute(), factory


def load_factory(
    name: str, seconds: float = 60.0, stuck: Callable[[TooLong], object] = lambda late: None
) -> Callable[..., Any]:
    """Run the file in ``FILE:FACTORY`` and return its callable ``FACTORY``.

    The cells of a notebook run in order, up to the one that defines the factory, without its magic commands
    (``%matplotlib``, ``!pip``).

    Raise ExaminationError if the file does not exist, raises an exception, takes longer than ``seconds`` of CPU time,
    or has no such callable. Call ``stuck`` in another thread if it does not react to interrupts.
    """
    file = name.rpartition(":")[0]
    path, factory = split_name(name)
    modules: list[ModuleType] = []
    try:
        supervised(lambda: modules.append(_import(path, factory)), seconds, math.inf, lambda: None, stuck)
    except ExaminationError:
        raise
    except TooLong as late:
        raise ExaminationError(
            f"running {file} did not end within {late.limit}. If it trains an agent, move that code under "
            'if __name__ == "__main__":. In a notebook, move it below the cell that defines the factory'
        ) from late
    except BaseException as error:
        raise ExaminationError(f"running {file} raised {type(error).__name__}: {error}") from error
    (module,) = modules
    made = getattr(module, factory, None)
    if not callable(made):
        names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ExaminationError(
            f"{file} has no callable {factory!r}. It has these callables: {', '.join(names) or 'none'}"
        )
    return made  # type: ignore[no-any-return]


def _import(path: Path, factory: str) -> ModuleType:
    sys.argv = [str(path)]  # hides Perilune's command-line arguments from the file
    package = path.resolve().parent
    while (package / "__init__.py").is_file():
        package = package.parent
    sys.path.insert(0, str(package))  # not removed, because the factory may import other files
    if package != path.resolve().parent and path.suffix == ".py":
        return importlib.import_module(".".join(path.resolve().relative_to(package).with_suffix("").parts))
    name = f"examined_{path.stem}" if path.stem in sys.modules else path.stem
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    if path.suffix == ".py":
        SourceFileLoader(name, str(path)).exec_module(module)
    else:
        _run_cells(path, factory, module)
    return module


def _run_cells(path: Path, factory: str, module: ModuleType) -> None:
    """Run the cells of a notebook until ``factory`` is defined."""
    file, cells = notebook_cells(path)
    for code in cells:
        exec(compile(code, file, "exec"), vars(module))  # noqa: S102 -- the user's own notebook
        if hasattr(module, factory):
            break


def notebook_cells(path: Path) -> tuple[str, list[str]]:
    """Return the file name of a notebook's code, and its code cells without magic commands.

    Lines are numbered across all cells: each cell begins with empty lines for those before it. Tracebacks show the
    lines.

    Raises:
        ExaminationError: If the file is not a notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExaminationError(f"{path} is not a notebook: {type(error).__name__}: {error}") from error
    file, lines, codes = f"{path}{ALL_CELLS}", list[str](), list[str]()
    for number, source in enumerate(sources, start=1):
        cell = [f"# cell {number}", *_python_lines(source)]
        codes.append("\n" * len(lines) + "\n".join(cell))
        lines += cell
    linecache.cache[file] = len(lines), None, [f"{line}\n" for line in lines], file
    return file, codes


def _python_lines(cell: str) -> list[str]:
    """Return the lines of a cell, with magic commands replaced by comments."""
    lines = cell.splitlines()
    words = lines[0].split() if lines else []
    if words and words[0].startswith("%%") and words[0] not in ("%%time", "%%timeit", "%%capture"):
        return [f"# {line}" for line in lines]  # a cell in another language
    continues = False
    for index, line in enumerate(lines):
        magic = r"\1pass  # \2" if not continues else r"\1# \2"
        pattern = r"^(\s*)(.*)$" if continues else r"^(\s*)([%!].*|\?{1,2}[\w.]+|[\w.]+\?{1,2})$"
        lines[index] = re.sub(r"^(\s*[\w, ]+=\s*)([%!].*)$", r"\1None  # \2", re.sub(pattern, magic, line))
        continues = line.endswith("\\") and (continues or bool(re.match(r"\s*[\w, =]*[%!]", line)))
    return lines
