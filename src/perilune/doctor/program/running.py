"""Run a program on the tracer environment, with recorded values."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from perilune.doctor.program import (
    environments,
    failures,
    keras_hooks,
    old_gym,
    old_keras,
    own_env,
    sandbox,
    sources,
    torch_hooks,
)
from perilune.doctor.program.changes import Changes
from perilune.doctor.program.instrument import Function, Node, install, instrumented
from perilune.doctor.program.own_env import OwnEnv
from perilune.doctor.program.recorder import Recorder, Window
from perilune.doctor.program.tracer import Log, TracerEnv
from perilune.doctor.supervise import Interrupted
from perilune.errors import ExaminationError

FROM_ENV = re.compile(r"\.(step|reset)\([^()]*\)+$")

FIRST_STEPS = 300  # time steps that are all recorded
EVERY_UPDATE = 20  # of these first updates, each is recorded
MOST_VALUES = 250_000  # recorded values, after which programs that learn row by row are not recorded any more
FEW_UPDATES = 8
UNRECORDED = 120  # further time steps of such a program, to compare its weights
SHARE = 0.1  # of the later time steps
GOLDEN = 0.6180339887
MOST_PLAIN = 2000  # time steps in environments whose values cannot be observed


class Enough(Interrupted):
    """Ends the program, because enough was observed."""


class Trace:
    """A program that runs on a tracer environment.

    Attributes:
        name: The program, as the user names it.
        path: Its file.
        files: Its files that ran, also those of its modules.
        arguments: Its command-line arguments.
        nodes: What is recorded.
        functions: The functions of the program, by the number of their "enter" node.
        envs: The tracer environments that the program made.
        log: Their time steps, or None before the program makes the first one.
        namespace: Global variables of the program.
        modules: Variables of the user's modules that it imported, by name.
        error: The exception that ended it, or None.
        end: What ended it after enough was observed, with the frames of its functions, or None.
        enough: Whether the program was ended because enough was observed.
        read: Number of windows with an update that were read.
        recorded: Number of values that were recorded.
        costly: Number of time steps after which recording ended, because it is costly, or None.
        notes: What cannot be observed, and why.
        old: Whether the program uses the old interface of Gym, whose ``step`` returns one flag for all ends.
    """

    def __init__(
        self, program: str | Path, arguments: list[str], analyze: Callable[[Trace, Window], bool], plain: int = 0
    ) -> None:
        """Prepare a run.

        Args:
            program: FILE.py, FILE.ipynb or MODULE:CLASS.
            arguments: The program's command-line arguments.
            analyze: Called with each window. Returns whether enough was observed.
            plain: If positive, the program runs unchanged in its own environments for at most so many time steps.

        Raises:
            ExaminationError: If the program does not exist.
        """
        self.name, self.program = str(program), sources.find(str(program))
        self.plain = plain
        self.path, self.arguments, self.analyze = self.program.path, arguments, analyze
        self.files: list[str] = []
        self.nodes: list[Node] = []
        self.functions: dict[int, Function] = {}
        self.recorder = Recorder(self.nodes)
        self.envs: list[TracerEnv | OwnEnv] = []
        self.log: Log | None = None
        self.namespace: dict[str, Any] = {}
        self.modules: dict[str, dict[str, Any]] = {}
        self.error: BaseException | None = None
        self.end: BaseException | None = None
        self.enough = False
        self.read = 0  # windows with an update that were read
        self.recorded = 0
        self.costly: int | None = None
        self.notes: list[str] = []
        self.old = False
        self._environments: dict[type, bool] = {}  # class -> whether its objects are environments
        self._from_env: set[int] = set()  # nodes that call step or reset
        self._hooked: set[str] = set()  # packages that the program imports
        self._changes = Changes()
        self._new_log = Log(self.step)

    def compile(self, source: str, file: str) -> Any:
        """Return the instrumented code of a file."""
        self.files.append(file)
        tree = sources.Modern().visit(ast.parse(source, file))
        if self.plain:
            return compile(tree, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        self._hook({name.partition(".")[0] for name in sources.imported(tree)}, source)
        first = len(self.nodes)
        tree = instrumented(tree, file, self.nodes, self.functions)
        for number, node in enumerate(self.nodes[first:], first):
            if node.operator == "Call" and FROM_ENV.search(node.text):
                self._from_env.add(number)
        return compile(tree, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)

    def _hook(self, imported: set[str], source: str) -> None:
        """Observe the libraries that a file imports. If one is missing, the import of the program raises an error."""
        if "torch" in imported - self._hooked:
            torch_hooks.install(self.recorder)
            sandbox.limit_torch(sys.modules["torch"], self._scratch, self._trees)
        if {"keras", "tensorflow"} & imported and not {"keras", "tensorflow"} & self._hooked:
            old_keras.prepare(source)
            with contextlib.suppress(ImportError):
                if "tensorflow" in imported:
                    importlib.import_module("tensorflow")
                keras_hooks.install(self.recorder, self._scratch)
        self._hooked |= imported

    def record(self, number: int, value: Any) -> Any:
        """Record the value of an expression, and return it."""
        if (number in self._from_env or number in self._changes.nodes) and self.log is not None:
            self.log.seen(value)
        kind = type(value)
        if self._environments.get(kind, True) and self.nodes[number].operator == "Call":
            self._observe(kind, value)
        return self.recorder.record(number, value)

    def _observe(self, kind: type, value: Any) -> None:
        """Observe an environment that the program makes itself."""
        if kind not in self._environments:
            self._environments[kind] = own_env.is_environment(kind, {node.file for node in self.nodes}.__contains__)
        if self._environments[kind] and "step" not in getattr(value, "__dict__", {"step": None}):
            self._watch(value)

    def _watch(self, env: Any) -> None:
        OwnEnv(env, self._new_log, self._made, self.notes, self.recorder.quiet)

    def run(self) -> None:
        """Run the program until it ends or enough was observed."""
        install(self.record, self.recorder.enter, self.recorder.leave)
        with self._patched():
            try:
                self._run()
            except Interrupted as end:
                if not self.enough:
                    raise
                self.end = end
            except BaseException as error:  # a result
                ended = isinstance(error, SystemExit) and not error.code and self._new_log.calls
                why = old_keras.explained(error) or failures.explained(error)
                self.error = ExaminationError(why).with_traceback(error.__traceback__) if why else error
                self.error = None if ended else self.error
        if self.enough:
            self.error = None

    def _run(self) -> None:
        if self.program.module:
            self.namespace = vars(importlib.import_module(self.program.module))
            sources.started(self.namespace, self.program.attribute)()
            return
        main = type(sys)("__main__")
        main.__dict__.update(__file__=str(self.path), __builtins__=__builtins__)
        self.namespace = vars(main)
        sys.modules["__main__"] = main
        if len(self.program.units) > 1 or self.path.suffix == ".ipynb":
            self.namespace.update(sandbox.NOTEBOOK)
        for unit in self.program.units:
            self._exec(self.compile(*unit))
        if not self._new_log.steps and not self._new_log.plain and not self.notes:
            sources.started(self.namespace, "")()

    def _exec(self, code: Any) -> None:
        """Run the code of a file or cell, which may have ``await`` outside functions."""
        if code.co_flags & inspect.CO_COROUTINE:
            import asyncio  # noqa: PLC0415 -- takes time to import, and few programs need it

            asyncio.run(eval(code, self.namespace))  # noqa: S307 -- the user's own notebook
        else:
            exec(code, self.namespace)  # noqa: S102 -- the user's own program

    def problems(self) -> list[str]:
        """Return why the program, or a part of it, could not be observed."""
        found = [*self.notes]
        if self.error is not None:
            line = next(
                (one for one in reversed(traceback.extract_tb(self.error.__traceback__)) if self._own(one)), None
            )
            where = f" ({Path(line.filename).name}:{line.lineno})" if line else ""
            error = (
                "" if isinstance(self.error, ExaminationError) else f"the program raised {type(self.error).__name__}: "
            )
            found.append(f"{error}{self.error}{where}")
        return found

    def _own(self, frame: traceback.FrameSummary) -> bool:
        return frame.filename in self.files

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        self._trees = trees = list(sources.trees(self.program))
        words = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        same_step = not words.isdisjoint({"final_observation", "final_info"})
        self.old = old_gym.is_old(trees)
        self._new_log.compares = environments.compares(trees)
        before = sys.argv, sys.path[:], sys.modules["__main__"]
        sys.argv = [str(self.path), *self.arguments]
        sys.path[:0] = [str(self.path.parent), *([""] if self.program.module else [])]
        try:
            with (
                old_gym.installed(self.old),
                environments.replaced(self._new_log, self._made, self._watch, self.notes, same_step, self.plain > 0),
                sandbox.harmless(self.path.parent) as self._scratch,
                old_keras.served(),
            ):
                sys.meta_path.insert(0, finder := _Finder(self))  # the first, because modules of the user hide others
                try:
                    yield
                finally:
                    sys.meta_path.remove(finder)
        finally:
            sys.argv, sys.path[:], sys.modules["__main__"] = before
            for name in [name for name, one in sys.modules.items() if isinstance(_loader(one), _Finder)]:
                del sys.modules[name]

    def _made(self, env: TracerEnv | OwnEnv) -> None:
        self.envs.append(env)
        if self.log is None:
            self.log = self._new_log
            self.recorder.begin(0, True)

    def step(self) -> None:
        """Close the window, before each time step and each reset."""
        log, window = self._new_log, self.recorder.window
        if self.enough:  # the program caught the exception
            raise Enough
        if log.plain > (self.plain or MOST_PLAIN) and not log.steps:
            self.enough = True
            raise Enough
        if self.log is None:
            return
        if self.recorder.on and not window.values:  # another environment of the same vector, or reset after the end
            window.step = len(log.steps)
            return
        if len(log.steps) < FIRST_STEPS:
            self._changes.window(self.nodes, log, window)
        if not log.learning:
            log.learning = window.updates > 0 or self.read > 0 or environments.replays(log, window, self.nodes)
        self.recorded += len(window.values)
        costly = self.costly is not None and len(log.steps) >= self.costly + UNRECORDED
        if self.analyze(self, window) or costly:
            self.enough = True
            raise Enough
        # The first updates use equal networks, so later ones are also read, at irregular intervals.
        steps = len(log.steps)
        often = steps < FIRST_STEPS or 0 < self.read < EVERY_UPDATE
        if self.costly is None and self.recorded > MOST_VALUES and self.read >= FEW_UPDATES:
            self.costly = steps
        self.recorder.begin(steps, self.costly is None and (often or (steps * GOLDEN) % 1.0 < SHARE))


def _loader(module: Any) -> Any:
    return getattr(getattr(module, "__spec__", None), "loader", None)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Instruments the modules beside the program when it imports them."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.directories = [trace.path.resolve().parent]
        if trace.program.module:
            self.directories.append(Path.cwd())
        self.directories_of: dict[str, list[Path]] = {}  # where the top-level modules with these names may be

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Return how to load a module of the user."""
        del path, target
        first = name.partition(".")[0]
        if first not in self.directories_of:
            places = [one for one in self.directories if any((one / f"{first}{end}").exists() for end in ("", ".py"))]
            self.directories_of[first] = places
        for directory in self.directories_of[first]:
            base = directory.joinpath(*name.split("."))
            for file in (base.with_suffix(".py"), base / "__init__.py"):
                if file.is_file():
                    package = [str(base)] if file.name == "__init__.py" else None
                    return importlib.util.spec_from_file_location(
                        name, file, loader=self, submodule_search_locations=package
                    )
        return None

    def create_module(self, spec: Any) -> Any:
        """Use the default module."""
        return None

    def exec_module(self, module: Any) -> None:
        """Run the instrumented code of the module."""
        file = module.__spec__.origin
        self.trace.modules[module.__name__] = vars(module)
        exec(self.trace.compile(sources.text(Path(file)), file), vars(module))  # noqa: S102
