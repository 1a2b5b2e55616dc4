"""Replace the functions that make environments, so that a program gets tracer environments."""

from __future__ import annotations

import ast
import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gymnasium
import gymnasium.vector
import gymnasium.wrappers
import numpy as np

from perilune.doctor.program.instrument import Node
from perilune.doctor.program.recorder import Window
from perilune.doctor.program.tracer import Limited, Log, Plain, TracerEnv, replaceable, unobservable

# Entries of an observation and actions of environments whose packages may be missing.
KNOWN = {"LunarLander": (8, 4)}
N_STEP = 5  # time steps of the longest usual n-step return
BATCH, LARGEST_BATCH = 4, 1024  # earlier transitions that one update uses


def compares(trees: Iterable[ast.AST]) -> Callable[[int], bool]:
    """Return a function that tells whether a program compares something with a time limit.

    Args:
        trees: Syntax trees of the program.
    """
    values: set[float] = set()
    reads = False
    for tree in trees:
        named: dict[str, float] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(value := getattr(node.value, "value", None), int | float):
                named.update(dict.fromkeys(map(ast.unparse, node.targets), value))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Compare) or not any(
                isinstance(one, ast.Eq | ast.GtE | ast.Gt) for one in node.ops
            ):
                continue
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, int | float):
                    values.add(part.value)
                elif isinstance(part, ast.Name | ast.Attribute):
                    reads |= ast.unparse(part).endswith("max_episode_steps")
                    values |= {named[name] for name in [ast.unparse(part)] if name in named}
    return lambda limit: reads or bool({limit, limit - 1} & values)


def replays(log: Log, window: Window, nodes: list[Node]) -> bool:
    """Return whether the expressions in a window have earlier transitions as values.

    An n-step return also contains a few earlier ones, so the last time steps do not count. The variables to which a
    program assigns an item are its memory. Rewards count if they are not those of consecutive time steps, because
    many programs add up the rewards of an episode.
    """
    rows, rewards = [], []
    for value in window.values:
        array = value.array
        memory = value.node >= 0 and nodes[value.node].kind == "variable"
        if array is None or memory or array.ndim == 0 or array.ndim > 2:
            continue
        if array.shape[-1] == log.size and not log.discrete:
            rows.append(array.reshape(-1, log.size))
        elif array.dtype.kind == "f" and BATCH <= array.size <= LARGEST_BATCH:
            rewards.append(array.reshape(-1))
    if rewards:
        indices = log.by_reward(np.concatenate(rewards).astype(np.float64))
        earlier = np.unique(indices[(indices >= 0) & (indices < len(log.steps) - N_STEP)])
        if len(earlier) >= BATCH and np.ptp(earlier) >= 2 * len(earlier):
            return True
    recent = {number for step in log.steps[-N_STEP:] for number in (step.before, step.after)} | {log.last, -1}
    return bool(rows) and len(set(log.states(np.concatenate(rows)).tolist()) - recent) >= BATCH


@contextlib.contextmanager
def replaced(
    log: Log,
    made: Callable[[TracerEnv], object],
    observe: Callable[[Any], object],
    notes: list[str],
    same_step: bool = False,
    plain: bool = False,
) -> Iterator[None]:
    """Replace the functions that make environments.

    Args:
        log: Receives the time steps.
        made: Called with each tracer environment.
        observe: Called with each environment that a tracer environment cannot replace.
        notes: Receives why an environment is the plain one.
        plain: Whether to leave the environments of the program as they are.
        same_step: Whether vector environments reset in the time step that ends an episode, as before Gymnasium 1.0.
    """
    real = gymnasium.make

    def make(name: Any, *args: Any, **keywords: Any) -> Any:
        mode = keywords.pop("render_mode", None)
        space, actions, spec, original = _spaces(real, name, args, keywords)
        if original is not None and plain:
            return Plain(original, log)
        if original is not None and not replaceable(original):
            if why := unobservable(original):
                notes.append(f"the transitions of {getattr(spec, 'id', name)} cannot be observed: {why}")
                return Plain(original, log)
            observe(original.unwrapped)
            return original
        env = TracerEnv(log, space, actions, spec, original, mode)
        made(env)
        return Limited(env)

    def make_vec(name: Any, num_envs: int = 1, *_: Any, wrappers: Any = (), **keywords: Any) -> Any:
        for key in ("vectorization_mode", "vector_kwargs", "asynchronous"):
            keywords.pop(key, None)

        def one() -> Any:
            env = make(name, **keywords)
            for wrapper in wrappers or ():
                env = wrapper(env)
            return env

        return vector([one] * num_envs)

    vector = _SameStep if same_step else _Sync
    patches = [
        (gymnasium, "make", make),
        (gymnasium, "make_vec", make_vec),
        (gymnasium.vector, "SyncVectorEnv", vector),
        (gymnasium.vector, "AsyncVectorEnv", vector),
        (gymnasium.wrappers, "RecordVideo", _RecordVideo),
    ]
    with contextlib.ExitStack() as stack:
        for owner, key, value in patches:
            stack.callback(setattr, owner, key, getattr(owner, key))
            setattr(owner, key, value)
        yield


class _Sync(gymnasium.vector.SyncVectorEnv):
    """A vector environment in this process, for any options."""

    def __init__(self, functions: Any, **keywords: Any) -> None:
        mode = keywords.get("autoreset_mode")
        super().__init__(functions, **({} if mode is None else {"autoreset_mode": mode}))


class _SameStep(_Sync):
    """A vector environment with the results of Gymnasium before 1.0."""

    def __init__(self, functions: Any, **_: Any) -> None:
        super().__init__(functions, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)

    def step(self, actions: Any) -> Any:
        """Take a time step in each environment."""
        *results, infos = super().step(actions)
        if "final_obs" in infos:
            infos["final_observation"] = infos["final_obs"]
            ended = infos["_final_obs"]
            infos["final_info"] = [_row(infos["final_info"], i) if one else None for i, one in enumerate(ended)]
        return *results, infos


def _row(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """Return what the info of a vector environment has for one of its environments."""
    return {
        key: _row(value, index) if isinstance(value, dict) else value[index]
        for key, value in infos.items()
        if not key.startswith("_")
    }


class _RecordVideo(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records nothing."""

    def __init__(self, env: Any, *_: Any, **__: Any) -> None:
        super().__init__(env)


def _spaces(real: Callable[..., Any], name: Any, args: Any, keywords: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return the spaces, the specification and the instance of the environment with this id, in its newest version."""
    base = re.sub(r"-v\d+$", "", name) if isinstance(name, str) else ""
    versions = [spec for spec in gymnasium.registry.values() if re.sub(r"-v\d+$", "", spec.id) == base]
    newest = max(versions, key=lambda spec: spec.version or 0, default=None)
    try:
        if isinstance(name, str) and name not in gymnasium.registry and newest is not None:
            name = newest.id
        with warnings.catch_warnings(action="ignore"):
            original = real(name, *args, **keywords)
    except gymnasium.error.DependencyNotInstalled:
        if base not in KNOWN:
            raise
        size, actions = KNOWN[base]
        space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        return space, gymnasium.spaces.Discrete(actions), newest, None
    return original.observation_space, original.action_space, original.spec, original
