"""Build an AgentAdapter from a running program, so that the checks that change an agent's batch can run on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from perilune.doctor.program.agent import Program, namespaces
from perilune.doctor.program.keras_hooks import is_model
from perilune.doctor.program.pieces import Finder, Missing, Query
from perilune.doctor.program.rerun import Counting, Pieces, rerun
from perilune.doctor.program.state import walk
from perilune.doctor.protocol import Transitions
from perilune.doctor.session import seed_global_generators
from perilune.errors import ExaminationError

NO_TARGET = "no comparison of Q(obs, action) with a target was found, so the code that learns is not known"
KERAS = "models of Keras cannot be copied and given other batches"
SECONDS = 15.0  # CPU time until the first update

FILE = '''"""Agent adapter for {program}, as the doctor found it. Check each line, then pass FILE.py:make to the doctor.

{found}
"""

from perilune.doctor.program.adapter import program
from perilune.doctor.program.rerun import Pieces

# Runs the program on an artificial environment until it first learns.
PROGRAM = program(Pieces(
{entries},
))


def make():
    """Return an agent in this state."""
    return PROGRAM.agent()
'''


@dataclass
class Built:
    """An adapter that was built from a program.

    Attributes:
        factory: Returns an agent; for a Session.
        description: What was found, one line each.
    """

    program: Program
    pieces: Pieces
    description: list[str] = field(default_factory=list)

    def source(self) -> str:
        """Return the text of an adapter file."""
        entries = ",\n".join(f"    {name}={value!r}" for name, value in vars(self.pieces).items() if value is not None)
        found = "\n".join(f"- {line}" for line in self.description)
        return FILE.format(program=self.pieces.program, found=found, entries=entries)

    @property
    def factory(self) -> Callable[[], Any]:
        """Return the function that makes agents."""
        return self.program.agent


def program(pieces: Pieces) -> Program:
    """Run a program until it first learns, for an adapter file.

    Args:
        pieces: What the adapter needs to know.

    Returns:
        The program, whose method ``agent`` returns agents.

    Raises:
        ExaminationError: If a piece is missing.
    """
    try:
        made = Program(pieces)
        _verify(made, None)
    except Missing as missing:
        raise ExaminationError(f"{pieces.program}: {missing}") from missing
    return made


def build(trace: Any, targets: Any) -> Built | str:
    """Build an adapter for a program that was traced.

    Args:
        trace: The finished trace of the program.
        targets: What was read off its targets.

    Returns:
        The adapter, or the reason why there is none.
    """
    trace.recorder.on = False
    if targets is not None and not targets.sites:
        return NO_TARGET
    if any(is_model(network) for network in trace.recorder.networks.values()):
        return KERAS
    try:
        return _build(trace, targets)
    except Missing as missing:
        return str(missing)
    except Exception as error:  # of the user's program
        return f"the program cannot learn from a given batch: {type(error).__name__}: {error}"


def _build(trace: Any, targets: Any) -> Built:
    finder = Finder()
    name = _name(trace.program)
    found = rerun(name, trace.arguments, Counting, finder.window)
    if finder.reading is None or found.log is None:
        raise Missing(NO_TARGET)
    query = finder.query(found, finder.pair.forward)
    forward = finder.target()
    target = None
    if forward is not None:
        try:
            target = finder.query(found, forward)
        except Missing:
            target = None
    if target is not None and target.call == query.call:
        target = None
    gamma = targets.discount if targets is not None and targets.discount else _gamma(finder.scope)
    reasons = []
    for learn in finder.learners(found):
        pieces = Pieces(
            name, list(trace.arguments), learn.name, learn.calls, query.call, str(query.form), gamma,
            found.log.size, found.log.actions, target.call if target else None, learn.lines, learn.file,
        )  # fmt: skip
        try:
            program = Program(pieces)
            _verify(program, query)
        except Missing as missing:
            reasons.append(f"{learn.name or 'the training loop'}: {missing}")
            continue
        return Built(program, pieces, _describe(program))
    raise Missing("; ".join(reasons) or "no function or block of statements that learns from a batch was found")


def _name(program: Any) -> str:
    return f"{program.module}:{program.attribute}" if program.module else program.path.as_posix()


def _gamma(known: dict[str, Any]) -> float:
    if (value := next(_discounts(known), None)) is not None:
        return value
    raise Missing("the discount is not known. Name it gamma or discount")


def _discounts(known: dict[str, Any]) -> Iterator[float]:
    """Yield the values of variables that are named like a discount."""
    owners = [known, *(one if isinstance(one, dict) else vars(one) for _, one in walk(known) if _has_variables(one))]
    for variables in owners:
        for name, value in variables.items():
            word = str(name).lower()
            if ("gamma" in word or "discount" in word) and isinstance(value, float) and 0 < value <= 1:
                yield value


def _has_variables(value: Any) -> bool:
    return isinstance(value, dict) or hasattr(value, "__dict__")


def _verify(program: Program, query: Query | None) -> None:
    """Check that the adapter computes what the program computes, and that its copies are independent.

    Raises:
        Missing: It does not.
    """
    fixed = program.fixed
    if query is not None:
        agent = program.agent()
        values = _attempt(lambda: np.asarray(agent.q_values(query.obs), np.float64), "asking for Q-values")
        if not np.allclose(values, query.q, rtol=1e-3, atol=1e-4 * np.abs(query.q).max() + 1e-6):
            raise Missing(f"{fixed.pieces.q_values} does not return the values that the program computed")
    rng = np.random.default_rng(0)
    with contextlib.suppress(Missing):  # the batch size is not yet set
        _train(program, rng, 8)
    requested = list(fixed.draws.requested)
    if not requested:
        raise Missing("the program drew no random batch from its memory, so the doctor cannot choose the batch")
    fixed.size = requested[0] if requested[0] > 1 else len(requested)
    fixed.sizes = _batch_sizes(program, fixed.size)
    for count in (3, 40):
        try:
            _train(program, rng, count)
        except Missing as error:
            if "raised" not in str(error):
                raise
            raise Missing(f"{error}. It may need exactly {fixed.size}: use the length of the batch instead") from error
    if not _learns_each_time(program, rng):
        fixed.pauses = True
        if not _learns_each_time(program, rng):
            raise Missing("only some of its calls change the network")
    _check_target(program, rng)


def _train(program: Program, rng: np.random.Generator, count: int) -> None:
    """Train two copies on a batch. Raise Missing if the batch does not change the network, or other copies too."""
    fixed = program.fixed
    size, actions = fixed.pieces.observation_size, fixed.pieces.actions
    obs, next_obs = rng.uniform(-1, 1, (2, count, size)).astype(np.float32)
    batch = Transitions(
        obs,
        np.arange(count) % actions,
        rng.uniform(-1, 1, count).astype(np.float32),
        next_obs,
        np.arange(count) % 2 == 0,
    )
    first, second = program.agent(), program.agent()
    before = first.q_values(obs)
    for agent in (first, second):
        seed_global_generators(1)
        for _ in range(8):
            _attempt(partial(agent.train_batch, *batch), f"learning from {count} transitions")
            if not np.array_equal(agent.q_values(obs), before):
                break
        else:
            raise Missing("calling it does not change the network")
    if not np.allclose(first.q_values(obs), second.q_values(obs), atol=1e-6):
        raise Missing("equal agents learn different values from equal transitions")
    if not np.array_equal(program.agent().q_values(obs), before):
        raise Missing("copies of the agent share their weights")


def _learns_each_time(program: Program, rng: np.random.Generator) -> bool:
    """Return whether each of some calls of train_batch changes the network."""
    agent, pieces = program.agent(), program.fixed.pieces
    obs = rng.uniform(-1, 1, (40, pieces.observation_size)).astype(np.float32)
    count = np.arange(40)
    for _ in range(5):
        before = agent.q_values(obs)
        agent.train_batch(obs, count % pieces.actions, np.full(40, 3, np.float32), obs, count % 2 == 0)
        if np.array_equal(agent.q_values(obs), before):
            return False
    return True


def _method(call: str) -> str:
    """Return the method of a call ``object.method(...)`` and its arguments, or "" for other calls."""
    return call.rpartition("(")[0].rpartition(".")[2] + call.rpartition("(")[2] if "." in call.partition("(")[0] else ""


def _check_target(program: Program, rng: np.random.Generator) -> None:
    """Remove the target network if it is the online network. Another object with the same method is a network."""
    agent, size, pieces = program.agent(), program.fixed.pieces.observation_size, program.fixed.pieces
    if agent.target_q_values is None or _method(pieces.q_values) == _method(pieces.target_q_values or ""):
        return
    obs = rng.uniform(-1, 1, (40, size)).astype(np.float32)
    count = np.arange(40)
    before = _attempt(partial(agent.target_q_values, obs), "asking for Q-values of the target network")
    agent.train_batch(obs, count % program.fixed.pieces.actions, np.ones(40, np.float32), obs, count % 2 == 0)
    after = agent.target_q_values(obs)
    if not np.array_equal(before, after) and np.allclose(after, agent.q_values(obs)):
        program.remove_target()


def _attempt(call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except Exception as error:
        raise Missing(f"{what} raised {type(error).__name__}: {str(error).strip()}") from error


def _batch_sizes(program: Program, size: int) -> list[tuple[str, str]]:
    """Return the variables that contain the batch size: named like one, or used by the code that learns."""
    used, found = program.fixed.names, []
    for path, owner in (*namespaces(program.stopped), *walk(program.stopped.scope)):
        values = owner if isinstance(owner, dict) else {**vars(type(owner)), **getattr(owner, "__dict__", {})}
        for name, value in list(values.items()):
            if type(value) is int and value == size and ("batch" in str(name).lower() or name in used):
                found.append((path, name))
    return found


def _describe(program: Program) -> list[str]:
    fixed, pieces = program.fixed, program.fixed.pieces
    where = f"lines {pieces.lines[0]}-{pieces.lines[1]}" if pieces.lines else f"{pieces.learn}()"
    return [
        f"Q-values: {pieces.q_values}, obs as {pieces.obs}",
        f"target network: {pieces.target_q_values or 'none'}",
        f"update: {where}",
        f"memory: {fixed.memory}, {fixed.stored.describe()}",
        f"discount: {pieces.gamma:g}",
    ]
