"""The house as docs/architecture.md draws it, read off the imports of every file in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import perilune

ROOT = Path(perilune.__file__).parent

# A package stands for all its modules; each module of the house is on one floor.
LAYERS: tuple[set[str], ...] = (
    {"errors", "plain", "config", "seeding", "blas", "text"},
    {"nn", "td", "replay", "prioritized", "exploration", "stats", "symmetry", "presets"},
    {"heads", "parts", "dqn", "state", "watch"},
    {
        "files",
        "envs",
        "camera",
        "outcomes",
        "evaluate",
        "course",
        "events",
        "train",
        "names",
        "telemetry",
        "runlog",
        "snapshots",
        "claim",
        "console",
        "weights",
        "checkpoint",
        "keeper",
    },
    {"view", "history", "api", "bench", "doctor", "inspection"},
    {"cli"},
)
DOORS = {"__init__", "__main__"}  # what the package shows, and ``python -m perilune``

# The one import upwards: config takes the names of the choices from where the choices are.
CHOICES = {
    "heads": {"HeadName"},
    "nn.initializers": {"Initializer"},
    "nn.layers": {"Activation"},
    "nn.losses": {"Loss"},
    "nn.optimizers": {"OptimizerName"},
    "nn.schedules": {"Schedule"},
}
# The one thing that the modules of the equations' floor know of each other: what an array is.
SHARED = {"nn.layers": {"Array"}}

ONLY_IN = {
    "gymnasium": {"envs", "camera", "doctor.worlds", "view.play"},
    "random": {"doctor.ward"},  # whose patients may draw from it
    "matplotlib": {"view"},
    "av": {"view"},
    "rich": {"view"},
    "PIL": {"view"},
    "IPython": {"view"},
    "tensorboardX": {"view"},
    "starlette": {"view"},
    "uvicorn": {"view"},
    "msgspec": {"view"},
    "tyro": {"cli"},
    "scipy": {"bench"},
    "torch": {"bench.speed", "bench.peers"},
    "stable_baselines3": {"bench.speed", "bench.peers"},
}
NOWHERE = {
    "tensorflow",
    "jax",
    "sklearn",
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "yaml",
    "gym",
}
LAZY = {
    *("matplotlib", "av", "PIL", "IPython", "tensorboardX", "starlette", "uvicorn", "msgspec"),
    *("rich", "scipy", "torch", "stable_baselines3"),
}
LOADED_LATE = "view.web."  # modules that nobody loads before they are used, so that they may load what they need
GENERATORS = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64"}


class Import(NamedTuple):
    """``from module import name``, or ``import module`` with no name."""

    module: str
    name: str | None
    line: int
    inside: bool  # a function


def file_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


SPECIMENS = ROOT / "bench" / "hosts"  # agents as other people write them, for the doctor to be measured on
FILES = {
    file_name(path): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
    if SPECIMENS not in path.parents
}


def imports(tree: ast.AST, inside: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno, inside)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read"
            for alias in node.names:
                yield Import(node.module or "", alias.name, node.lineno, inside)
        else:
            yield from imports(node, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def own(found: Import) -> tuple[str, str | None]:
    """Module of ours and name in it: ("nn.layers", "Array"), or ("td", None) for ``from perilune import td``."""
    path = [*found.module.split("."), *([found.name] if found.name else [])][1:]
    for length in range(len(path), 0, -1):
        if ".".join(path[:length]) in FILES:
            return ".".join(path[:length]), ".".join(path[length:]) or None
    raise AssertionError(f"{found} is of no file")


def room(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def floor(module: str) -> int:
    (number,) = (number for number, rooms in enumerate(LAYERS) if room(module) in rooms)
    return number


def inside_the_house(file: str) -> Iterator[tuple[Import, str, str | None]]:
    for found in imports(FILES[file]):
        if found.module.split(".")[0] == "perilune":
            yield found, *own(found)


HOUSE = sorted(set(FILES) - DOORS)


def test_every_file_has_its_floor_and_every_room_its_files() -> None:
    rooms = [name for rooms in LAYERS for name in rooms]
    assert len(rooms) == len(set(rooms))
    assert {room(file) for file in HOUSE} == set(rooms)


@pytest.mark.parametrize("file", HOUSE)
def test_imports_run_downwards(file: str) -> None:
    upwards = [
        (found.line, module, name)
        for found, module, name in inside_the_house(file)
        if floor(module) > floor(file) and not (file == "config" and name in CHOICES.get(module, ()))
    ]
    assert not upwards


def test_what_config_takes_from_above_are_names_of_choices_and_no_code() -> None:
    taken = {(module, name) for _, module, name in inside_the_house("config") if floor(module) > 0}
    assert taken == {(module, name) for module, names in CHOICES.items() for name in names}
    for module, names in CHOICES.items():
        # X = Literal["...", ...]
        literals = {
            node.targets[0].id
            for node in FILES[module].body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Subscript)
            and isinstance(node.value.value, ast.Name)
            and node.value.value.id == "Literal"
        }
        assert names <= literals


@pytest.mark.parametrize("file", [file for file in HOUSE if floor(file) == 1])
def test_equations_do_not_know_each_other(file: str) -> None:
    others = [
        (found.line, module, name)
        for found, module, name in inside_the_house(file)
        if floor(module) == 1 and room(module) != room(file) and name not in SHARED.get(module, ())
    ]
    assert not others


@pytest.mark.parametrize("file", [file for file in HOUSE if floor(file) <= 2])
def test_the_learning_knows_no_files_clocks_processes_or_environments(file: str) -> None:
    world = {
        "gymnasium",
        "os",
        "io",
        "sys",
        "pathlib",
        "time",
        "datetime",
        "subprocess",
        "multiprocessing",
        "threading",
    }
    assert not {found.module.split(".")[0] for found in imports(FILES[file])} & world
    calls = {
        node.func.id for node in ast.walk(FILES[file]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}


@pytest.mark.parametrize("file", sorted(FILES))
def test_every_library_stays_in_its_room(file: str) -> None:
    for found in imports(FILES[file]):
        library = found.module.split(".")[0]
        assert library not in NOWHERE, f"{file}, line {found.line}"
        if library in ONLY_IN:
            assert {file, room(file)} & ONLY_IN[library], f"{library} in {file}, line {found.line}"
        if library in LAZY and not file.startswith(LOADED_LATE):
            assert found.inside or type_checking_only(FILES[file], found), f"{library} in {file}, line {found.line}"


def type_checking_only(tree: ast.Module, found: Import) -> bool:
    """Whether the import stands under ``if TYPE_CHECKING``, which never runs."""
    return any(
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and node.lineno < found.line <= max(statement.end_lineno or 0 for statement in node.body)
        for node in tree.body
    )


@pytest.mark.parametrize("file", sorted(FILES))
def test_no_text_is_run_as_code(file: str) -> None:
    for node in ast.walk(FILES[file]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}, f"{file}, line {node.lineno}"


@pytest.mark.parametrize("file", sorted(set(FILES) - {"doctor.ward"}))  # whose patients may draw from it
def test_nothing_draws_from_numpys_global_generator(file: str) -> None:
    for found in imports(FILES[file]):
        assert not found.module.startswith("numpy.random"), f"{file}, line {found.line}"
        assert (found.module, found.name) != ("numpy", "random"), f"{file}, line {found.line}"
    for node in ast.walk(FILES[file]):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"np.random", "numpy.random"}:
            assert node.attr in GENERATORS, f"{file}, line {node.lineno}"


def test_importing_the_library_loads_nothing_heavy_or_optional() -> None:
    script = "import sys, perilune; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    loaded = set(done.stdout.split())
    assert {"perilune", "numpy", "gymnasium"} <= loaded
    assert not loaded & (LAZY | {"tyro", "pygame", "Box2D"})


def test_the_command_line_loads_the_web_server_only_to_serve() -> None:
    script = "import sys, perilune.cli; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    loaded = set(done.stdout.split())
    assert "perilune.cli" in loaded
    assert not {name for name in loaded if name.startswith(("perilune.web", "starlette", "matplotlib", "av."))}


# What would run what is in a file. `perilune doctor FILE.py` runs the user's own agent, as an import does.
RUNS_TEXT = {"eval", "exec", "compile", "execfile", "__import__"}
RUNS_FILES = {("np", "load"), ("numpy", "load"), ("torch", "load"), ("yaml", "load"), ("pickle", "loads")}


def test_nothing_in_the_package_runs_what_is_in_a_file() -> None:
    for file, tree in FILES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name):
                assert called.id not in RUNS_TEXT, f"{called.id}() in {file}, line {node.lineno}"
            elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                assert (called.value.id, called.attr) not in RUNS_FILES, f"{file}, line {node.lineno}"
                assert called.value.id != "builtins" or called.attr not in RUNS_TEXT, f"{file}, line {node.lineno}"


def test_nobody_asks_for_the_time_of_day() -> None:
    # Which somebody may set while a training goes on; what is measured is measured by a clock that only runs.
    for file, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                asked = (node.value.id, node.attr)
                assert asked not in {("time", "time"), ("time", "time_ns"), ("datetime", "now")}, f"{asked} in {file}"
        assert not [found for found in imports(tree) if found.module == "datetime"], file


def test_what_a_terminal_is_told_goes_by_one_way() -> None:
    printing = {
        file
        for file in HOUSE
        for node in ast.walk(FILES[file])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"console", "cli.options"}  # the latter JSON, which has escapes of its own
