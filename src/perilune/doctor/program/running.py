"""Run a program on the tracer environment, with recorded values."""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium

from perilune.doctor.program import torch_hooks
from perilune.doctor.program.instrument import Function, Node, install, instrumented
from perilune.doctor.program.recorder import Recorder, Window
from perilune.doctor.program.tracer import Log, TracerEnv
from perilune.doctor.supervise import Interrupted


FIRST_STEPS = 300  # time steps that are all recorded
EVERY_UPDATE = 20  # of these first updates, each is recorded
SHARE = 0.1  # of the later time steps
GOLDEN = 0.6180339887


class Enough(Interrupted):
    """Ends the program, because enough was observed."""


class Trace:
    """A program that runs on a tracer environment.

    Attributes:
        path: The program.
        arguments: Its command-line arguments.
        nodes: What is recorded.
        envs: The tracer environments that the program made.
        namespace: Global variables of the program.
        error: The exception that ended it, or None.
    """

    def __init__(self, path: Path, arguments: list[str], analyze: Callable[[Trace, Window], bool]) -> None:
        self.path, self.arguments, self.analyze = path, arguments, analyze
        self.nodes: list[Node] = []
        self.functions: dict[int, Function] = {}
        self.recorder = Recorder(self.nodes, self.functions)
        self.envs: list[TracerEnv] = []
        self.log: Log | None = None
        self.namespace: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.enough = False
        self.read = 0  # windows with an update that were read

    def compile(self, source: str, file: str) -> Any:
        """Return the instrumented code of a file."""
        tree = ast.parse(source, file)
        imported = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            for name in (
                [one.name for one in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if "torch" in imported and not getattr(self, "_torch", False):
            self._torch = True
            torch_hooks.install(self.recorder)
        return compile(instrumented(tree, file, self.nodes, self.functions), file, "exec")

    def run(self) -> None:
        """Run the program until it ends or enough was observed."""
        install(self.recorder.record, self.recorder.enter, self.recorder.leave)
        self.namespace.update(__name__="__main__", __file__=str(self.path), __builtins__=__builtins__)
        main = type(sys)("__main__")
        main.__dict__.update(self.namespace)
        self.namespace = vars(main)
        with self._patched(main):
            try:
                exec(self.compile(self.path.read_text(encoding="utf-8"), str(self.path)), self.namespace)  # noqa: S102
            except Enough:
                self.enough = True
            except SystemExit as end:
                self.error = end if end.code else None
            except BaseException as error:  # noqa: BLE001 -- a result
                self.error = error

    @contextlib.contextmanager
    def _patched(self, main: Any) -> Iterator[None]:
        sys.argv = [str(self.path), *self.arguments]
        sys.path.insert(0, str(self.path.parent))
        sys.modules["__main__"] = main
        sys.meta_path.insert(0, _Finder(self))
        real = gymnasium.make

        def make(name: Any, *args: Any, **keywords: Any) -> Any:
            keywords.pop("render_mode", None)
            original = real(name, *args, **keywords)
            env = TracerEnv(original, self.step)
            env.on_reset = self.step
            self.envs.append(env)
            if self.log is None:
                self.log = Log(env)
                self.recorder.begin(0, True)
            return env

        gymnasium.make = make
        try:
            yield
        finally:
            gymnasium.make = real

    def step(self) -> None:
        """Close the window, before each time step and each reset."""
        env = self.envs[0]
        env.learning |= bool(self.recorder.window.updates or self.read)
        if self.analyze(self, self.recorder.window):
            raise Enough
        # The first updates use equal networks, so later ones are also read, at irregular intervals.
        steps = len(env.steps)
        often = steps < FIRST_STEPS or 0 < self.read < EVERY_UPDATE
        self.recorder.begin(steps, often or (steps * GOLDEN) % 1.0 < SHARE)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Instruments the modules beside the program when it imports them."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.directory = trace.path.resolve().parent

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Return how to load a module of the user."""
        base = self.directory.joinpath(*name.split("."))
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                package = [str(base)] if file.name == "__init__.py" else None
                spec = importlib.util.spec_from_file_location(
                    name, file, loader=self, submodule_search_locations=package
                )
                return spec
        return None

    def create_module(self, spec: Any) -> Any:
        """Use the default module."""
        return None

    def exec_module(self, module: Any) -> None:
        """Run the instrumented code of the module."""
        file = module.__spec__.origin
        exec(self.trace.compile(Path(file).read_text(encoding="utf-8"), file), vars(module))  # noqa: S102
