"""An agent adapter that calls the functions of a stopped program."""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.module_state import SeparateAgent
from perilune.doctor.program.draws import Draws
from perilune.doctor.program.pieces import Form, Missing, parsed
from perilune.doctor.program.rerun import Pieces, Stopping, rerun
from perilune.doctor.program.rows import Columns, Rows
from perilune.doctor.program.state import Stopped, function_of, scope, walk
from perilune.doctor.protocol import Transitions
from perilune.doctor.session import as_array

MOST_PAUSES = 7  # calls that do not learn, between calls that learn


class ProgramAgent:
    """The adapter: calls the functions of a stopped program. Wrapped in a SeparateAgent, which holds its variables.

    Attributes:
        gamma: Discount.
        observation_size: Number of entries of an observation.
    """

    def __init__(self, pieces: Pieces, stopped: Stopped, trace: Any, draws: Draws) -> None:
        self.gamma, self.observation_size = pieces.gamma, pieces.observation_size
        self.locals = stopped.locals
        self._fixed = _Fixed(pieces, stopped, trace, draws)
        if pieces.target_q_values is None:
            self.target_q_values = None  # type: ignore[assignment, method-assign]

    def __deepcopy__(self, memo: dict[int, Any]) -> ProgramAgent:
        """Copy the local variables; share what cannot be copied."""
        fixed = self._fixed
        memo.update({id(one): one for one in (fixed, *fixed.shared)})
        new = object.__new__(ProgramAgent)
        memo[id(self)] = new
        for name, value in vars(self).items():
            setattr(new, name, copy.deepcopy(value, memo))
        return new

    def q_values(self, obs: Array) -> Array:
        """Return Q(obs, a) of the online network, (N, A)."""
        return self._fixed.ask(self._fixed.pieces.q_values, obs, self.locals)

    def target_q_values(self, obs: Array) -> Array:
        """Return Q(obs, a) of the target network, (N, A)."""
        return self._fixed.ask(self._fixed.pieces.target_q_values or "", obs, self.locals)

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        """Run the program's update once on a batch."""
        batch = Transitions(obs, action, reward, next_obs, terminated)
        before = self.q_values(obs) if self._fixed.pauses else None
        self._fixed.learn(batch, self.locals)
        for _ in range(MOST_PAUSES):
            if before is None or not np.array_equal(self.q_values(obs), before):
                return
            self._fixed.learn(batch, self.locals)


class _Fixed:
    """What all copies of an agent share: code, and where things are."""

    def __init__(self, pieces: Pieces, stopped: Stopped, trace: Any, draws: Draws) -> None:
        self.pieces, self.draws = pieces, draws
        self.namespaces, self.form = stopped.namespaces, Form.parse(pieces.obs)
        self.one_at_a_time = self.form.single
        self.function: FunctionType | None = None
        self.code: CodeType | None = None
        if pieces.lines is None:
            frame = stopped.frames[-1]
            self.function = function_of(frame.f_code)
            if self.function is None:
                raise Missing(f"the function {pieces.learn}() is no longer reachable")
            code = frame.f_code
            self.parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            self.positional = code.co_argcount
            self.names = {*code.co_varnames, *code.co_names}
        else:
            block = _block(parsed(trace, pieces.file), pieces.file, *pieces.lines)
            self.code = _once(block, pieces.file)
            self.names = {one.id for part in block for one in ast.walk(part) if isinstance(one, ast.Name)}
            name = pieces.learn.rpartition(".")[2]
            self.frame = next((i for i, one in enumerate(stopped.frames) if one.f_code.co_name == name), None)
            if name and self.frame is None:
                raise Missing(f"the function {name}() was not running when the program first learned")
        self.memory, self.stored = _memory(stopped, trace.log)
        self.pauses = False  # whether only some of its calls learn
        self.size = 1  # of the program's own batches
        self.sizes: list[tuple[str, str]] = []  # (expression of an owner, name) of variables that contain it
        self.shared = stopped.shared()

    def scope(self, frames: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the variables by name."""
        return scope(self.namespaces, frames)

    def ask(self, call: str, obs: Array, frames: list[dict[str, Any]]) -> Array:
        """Return Q(obs, a) (N, A)."""
        known = self.scope(frames)
        code = compile(call, "<perilune>", "eval")

        def one(rows: Array) -> Array:
            found = eval(code, known, {"obs": self.form.make(rows)})  # noqa: S307 -- the user's program
            actions = self.pieces.actions
            arrays = [one for one in found if hasattr(one, "shape")] if isinstance(found, list | tuple) else []
            sized = [part for part in map(as_array, arrays or [found]) if part.size == len(rows) * actions]
            if not sized:
                raise ValueError(f"{call} returns no {len(rows) * actions} values for {len(rows)} observations")
            values = sized[-1 if isinstance(found, list) else 0]  # a list contains the outputs of all layers
            turned = values.ndim == 2 and values.shape != (len(rows), actions) and values.shape[0] == actions
            return np.asarray(values.T if turned else values).reshape(len(rows), actions)

        if self.one_at_a_time:
            return np.concatenate([one(row[None]) for row in obs])
        return one(obs)

    def learn(self, batch: Transitions, frames: list[dict[str, Any]]) -> None:
        """Put a batch into the memory, and run the code that learns."""
        count = len(batch.action)
        known = self.scope(frames)
        container = _owner(self.memory, known, self.namespaces, frames)
        fill = max(count, self.stored.count)
        if self.sizes and isinstance(self.stored, Rows):  # programs may wait for a number of batches
            fill = max(fill, self.stored.count * count // self.size)
        owners = [(_owner(path, known, self.namespaces, frames), name) for path, name in self.sizes]
        with _resized(owners, count):
            self.stored.write(container, batch, fill)
            try:
                with self.draws.forced(count, fill):
                    self._run(frames)
            finally:
                self.stored.write(container, batch.rows(slice(0, 0)), 0)

    def _run(self, frames: list[dict[str, Any]]) -> None:
        if self.function is not None:
            values = [frames[-1][name] for name in self.parameters]
            names = self.parameters[self.positional :]
            self.function(*values[: self.positional], **dict(zip(names, values[self.positional :], strict=True)))
            return
        assert self.code is not None
        variables = self.namespaces[""] if self.frame is None else frames[self.frame]
        if self.frame is None:
            exec(self.code, variables)  # noqa: S102 -- the user's program
        else:
            merged = {**self.namespaces[""], **variables}
            exec(self.code, merged)  # noqa: S102
            variables.update({name: merged[name] for name in variables if name in merged})


def _owner(path: str, known: dict[str, Any], namespaces: Any, frames: list[dict[str, Any]]) -> Any:
    if path == "globals":
        return namespaces[""]
    if path.startswith("locals"):
        return frames[int(path[6:])]
    return eval(path, known)  # noqa: S307 -- the user's program


@contextlib.contextmanager
def _resized(places: list[tuple[Any, str]], count: int) -> Iterator[None]:
    """Set batch sizes, and restore them on exit."""
    kept = [owner[name] if isinstance(owner, dict) else getattr(owner, name) for owner, name in places]
    try:
        for owner, name in places:
            _assign(owner, name, count)
        yield
    finally:
        for (owner, name), value in zip(places, kept, strict=True):
            _assign(owner, name, value)


def _assign(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        object.__setattr__(owner, name, value)


def _block(tree: ast.Module, file: str, first: int, last: int) -> list[ast.stmt]:
    """Return the statements of these lines."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                chosen = [one for one in body if one.lineno >= first and (one.end_lineno or one.lineno) <= last]
                if chosen and chosen[0].lineno == first and (chosen[-1].end_lineno or 0) == last:
                    return chosen
    raise Missing(f"lines {first} to {last} of {file} are not a block of statements")


def _once(block: list[ast.stmt], file: str) -> CodeType:
    """Compile statements as a loop that runs once, because they may contain ``continue`` or ``break``."""
    loop = ast.For(ast.Name("_", ast.Store()), ast.Tuple([ast.Constant(0)], ast.Load()), block, [])
    return compile(ast.fix_missing_locations(ast.Module([loop], [])), file, "exec")


def _memory(stopped: Stopped, log: Any) -> tuple[str, Rows | Columns]:
    """Find the replay memory: its path, and how transitions are stored in it."""
    best: tuple[str, Rows | Columns] | None = None
    for path, value in (*namespaces(stopped), *walk(stopped.scope)):
        for form in (Rows, Columns):
            try:
                if form is Rows and not _is_container(value):
                    continue
                if form is Columns and not _has_columns(value):
                    continue
                found = form(value, log)
            except (ValueError, TypeError, AttributeError, IndexError, KeyError, RuntimeError):
                continue
            if best is None or found.count > best[1].count:
                best = path, found
    if best is None:
        raise Missing(
            "no container of transitions with obs, action, reward and next_obs was found in the program's variables"
        )
    return best


def namespaces(stopped: Stopped) -> list[tuple[str, dict[str, Any]]]:
    """Return the variables of the program and of its running functions, each with an expression for ``_owner``."""
    return [("globals", stopped.namespaces[""]), *((f"locals{place}", one) for place, one in enumerate(stopped.locals))]


def _has_columns(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.names is not None
    return isinstance(value, dict) or hasattr(value, "__dict__")


def _is_container(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype == object and value.ndim == 1
    return not isinstance(value, str | bytes | dict) and hasattr(value, "__len__") and hasattr(value, "__iter__")


class Program:
    """A program that was run until it first learns. ``agent`` returns agents in this state.

    Args:
        pieces: The pieces of the adapter.
    """

    def __init__(self, pieces: Pieces) -> None:
        draws = Draws()
        with draws.patched():
            trace = rerun(pieces.program, pieces.arguments, lambda trace: Stopping(trace, pieces), pieces.reached)
        stopped = Stopped(trace)
        if pieces.lines is None and (
            not stopped.frames or stopped.frames[-1].f_code.co_name != pieces.learn.split(".")[-1]
        ):
            raise Missing(f"{pieces.learn}() did not run again when the program was run a second time")
        agent = ProgramAgent(pieces, stopped, trace, draws)
        fixed = agent._fixed
        container = _owner(fixed.memory, stopped.scope, stopped.namespaces, stopped.locals)
        if isinstance(fixed.stored, Columns):
            fixed.stored.shorten(container)
        elif not isinstance(container, np.ndarray):
            fixed.stored.write(container, _none(pieces), 0)
        self.fixed, self.stopped = fixed, stopped
        _copy_tensors()
        variables = stopped.variables()
        self._initial = SeparateAgent(agent, variables, [])

    def remove_target(self) -> None:
        """Remove the target network from the agent."""
        self.fixed.pieces.target_q_values = None
        self._initial.agent.target_q_values = None

    def agent(self) -> Any:
        """Return a copy of the agent in its initial state."""
        return copy.deepcopy(self._initial)


def _copy_tensors() -> None:
    """Let tensors that are not leaves of a graph, such as the latest loss, be copied too, without their graph."""
    torch = sys.modules.get("torch")
    if torch is None or hasattr(torch.Tensor.__deepcopy__, "__wrapped__"):
        return
    original = torch.Tensor.__deepcopy__

    @functools.wraps(original)
    def copied(tensor: Any, memo: dict[int, Any]) -> Any:
        return original(tensor, memo) if tensor.is_leaf else tensor.detach().clone()

    torch.Tensor.__deepcopy__ = copied


def _none(pieces: Pieces) -> Transitions:
    obs = np.zeros((0, pieces.observation_size), np.float32)
    return Transitions(obs, np.zeros(0, np.int64), np.zeros(0, np.float32), obs.copy(), np.zeros(0, bool))
