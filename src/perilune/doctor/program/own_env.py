"""Environments that cannot be replaced: of the program itself, or with observations that need not be vectors.

Their dynamics stay. Rewards become unique, and observations too if they are vectors of floating-point numbers. Episodes
end as those of the tracer environment, or earlier.
"""

from __future__ import annotations

import ast
import copy
import inspect
import random
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import gymnasium
import numpy as np

from perilune.doctor.program import old_gym
from perilune.doctor.program.recorder import keep
from perilune.doctor.program.rows import like
from perilune.doctor.program.tracer import Log, TracerEnv

ACTIONS = re.compile(r"_?(n|num|number_of)?_?actions?(_?(space|size|dim|count|n|num|list|set|names))?", re.IGNORECASE)
STATES = re.compile(r"_?(n|num)_?(states?|obs)|_?(state|obs|observation)_?(size|dim|space|n|count)", re.IGNORECASE)
PROBED = 3  # time steps of a copy that show what observations look like
LARGEST = 10_000  # entries of an observation that is read


def is_environment(kind: type, own_file: Callable[[str], bool]) -> bool:
    """Return whether objects of a class are environments, and not wrappers of others.

    Args:
        kind: The class.
        own_file: Returns whether a file belongs to the program.
    """
    step, reset = getattr(kind, "step", None), getattr(kind, "reset", None)
    gym = issubclass(kind, gymnasium.Env)
    if issubclass(kind, gymnasium.Wrapper | gymnasium.vector.VectorEnv | old_gym.Wrapper | TracerEnv):
        return False
    if not inspect.isfunction(step) or not inspect.isfunction(reset):
        return False
    if not gym and not own_file(step.__code__.co_filename):
        return False
    parameters = list(inspect.signature(step).parameters.values())
    needed = [one for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    tree = _tree(step)
    if len(needed) != 2 or tree is None or _delegates(tree):
        return False
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    return gym or any(isinstance(one, ast.Tuple) and 3 <= len(one.elts) <= 5 for one in values)


def _tree(function: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None


def _delegates(tree: ast.AST) -> bool:
    """Return whether a method ``step`` calls that of another object: the class wraps an environment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step":
            inherited = ast.unparse(node.func.value).startswith("super(")
            if not inherited and not (node.args and ast.unparse(node.args[0]) == "self"):
                return True
    return False


def _terminates(step: Any) -> bool:
    """Return whether the third value that a method ``step`` returns may be true."""
    tree = _tree(step)
    ends = [
        node.value.elts[2]
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) >= 3
    ]
    names = {one.id for one in ends if isinstance(one, ast.Name)}
    ends += [
        node.value
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.Assign) and any(ast.unparse(one) in names for one in node.targets)
    ]
    ends = [one for one in ends if not isinstance(one, ast.Name) or one.id not in names]
    return not ends or any(not isinstance(one, ast.Constant) or bool(one.value) for one in ends)


def _count(env: Any, pattern: re.Pattern[str]) -> int:
    """Return the number of actions or states that the attributes of an environment or its module declare, or 0."""
    module = inspect.getmodule(type(env))
    names = [(env, name) for name in dir(env)] + [(module, name) for name in vars(module or object())]
    for owner, name in names:
        if pattern.fullmatch(name):
            value = getattr(owner, name, None)
            value = getattr(value, "n", value)
            if isinstance(value, int | np.integer) and value > 1:
                return int(value)
            if isinstance(value, list | tuple | dict | range | np.ndarray) and len(value) > 1:
                return len(value)
    return 0


def number_of_actions(env: Any) -> int:
    """Return how many actions an environment has, or 0 if it is not known."""
    space: Any = getattr(env, "action_space", None)
    return int(space.n) if hasattr(space, "n") else 0 if hasattr(space, "shape") else _count(env, ACTIONS)


class OwnEnv:
    """Replaces the methods ``reset`` and ``step`` of an environment.

    Attributes:
        env: The environment.
        tracer: Gives the numbers, rewards and ends, or None before the first reset.
    """

    def __init__(
        self,
        env: Any,
        log: Log,
        made: Callable[[OwnEnv], object],
        notes: list[str],
        quiet: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Replace the methods.

        Args:
            env: The environment.
            log: Receives the time steps.
            made: Called with this object if the environment can be observed, at the first reset.
            notes: Receives why the environment cannot be observed.
            quiet: Returns a context in which nothing is recorded, for the code of the environment.
        """
        self.env, self.log, self.made, self.notes, self.quiet = env, log, made, notes, quiet
        self.tracer: TracerEnv | None = None
        self._reset, self._step = env.reset, env.step
        self._unique = self._plain = False
        self._endless = not _terminates(type(env).step)
        self._inside = False
        env.reset, env.step = self.reset, self.step

    @contextmanager
    def _own(self) -> Iterator[None]:
        """Mark that the environment's own code runs, which may call its own methods."""
        self._inside = True
        try:
            with self.quiet():
                yield
        finally:
            self._inside = False

    def reset(self, *args: Any, **keywords: Any) -> Any:
        """Start an episode."""
        if self._inside:
            return self._reset(*args, **keywords)
        with self._own():
            result = self._reset(*args, **keywords)
        with_info = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
        obs = result[0] if with_info else result
        if self.tracer is None and not self._plain:
            self._start(obs)
        if self.tracer is None:
            return result
        self.tracer.seed(keywords.get("seed"))
        self.tracer.begin(limited=False, kept=None if self._unique else self._flat(obs))
        if self._endless:
            self.tracer.endless()
        obs = self._seen(obs)
        return (obs, result[1]) if with_info else obs

    def step(self, action: Any, *args: Any, **keywords: Any) -> Any:
        """Take a time step."""
        if self._inside:
            return self._step(action, *args, **keywords)
        with self._own():
            result = self._step(action, *args, **keywords)
        if self.tracer is None or not isinstance(result, tuple) or not 3 <= len(result) <= 5:
            self.log.plain += 1
            self.log.on_step()
            return result
        obs, reward, terminated, *others = result
        truncated = len(result) == 5 and bool(others[0])
        if len(result) == 4 and isinstance(others[0], dict) and others[0].get("TimeLimit.truncated"):
            terminated, truncated = False, True
        kept = None if self._unique else self._flat(obs)
        taken = self.tracer.take(int(np.asarray(action).item()), bool(terminated), truncated, kept)
        reward = like(reward, taken.reward) if isinstance(reward, np.floating) else taken.reward
        ended = taken.terminated if len(result) == 5 else taken.ended
        return self._seen(obs), reward, ended, *others

    def _seen(self, obs: Any) -> Any:
        """Return the observation that the program sees."""
        return like(obs, self.tracer.state) if self._unique and self.tracer is not None else obs

    def _flat(self, obs: Any) -> Any:
        """Return an observation as an integer or a vector, or None."""
        kept = keep(obs)
        if kept is None and isinstance(obs, dict | tuple) and hasattr(self.env, "observation_space"):
            return gymnasium.spaces.flatten(self.env.observation_space, obs)
        return None if kept is None else kept[0]

    def _start(self, obs: Any) -> None:
        """Decide how the environment is observed."""
        actions, flat = number_of_actions(self.env), self._flat(obs)
        why = ""
        if not actions:
            why = "its number of actions is unknown: give it an attribute action_space = gymnasium.spaces.Discrete(n)"
        elif flat is None or (flat.ndim and max(flat.shape) != flat.size) or not 0 < flat.size <= LARGEST:
            why = "its observations are neither vectors nor integers"
        if why:
            self._plain = True
            self.notes.append(f"the transitions of {type(self.env).__name__} cannot be observed: {why}")
            return
        self._unique = flat.dtype.kind == "f" and keep(obs) is not None and flat.ndim > 0 and not self._whole(flat)
        if self._unique:
            space: Any = gymnasium.spaces.Box(-1.0, 1.0, (flat.size,), np.float32)
        else:
            space = gymnasium.spaces.Discrete((_count(self.env, STATES) or 1) if flat.ndim == 0 else flat.size)
        self.tracer = TracerEnv(self.log, space, gymnasium.spaces.Discrete(actions), None, None, None)
        self.log.vectors = not self._unique and flat.ndim > 0
        self.made(self)

    def _whole(self, first: Any) -> bool:
        """Return whether observations consist of whole numbers, on whose meaning the program may depend."""
        seen = [first]
        states = random.getstate(), np.random.get_state()  # noqa: NPY002 -- the program may use it
        try:
            with self._own():
                env = copy.deepcopy(self.env)
                for name in ("reset", "step"):
                    vars(env).pop(name, None)
                for action in range(PROBED):
                    seen.append(self._flat(env.step(action % 2)[0]))
        except Exception:  # noqa: S110 -- the first observation must do
            pass
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        return all(one is None or bool((one == np.round(one)).all()) for one in seen)
