"""A module ``gym`` on top of Gymnasium, with the interface of old versions of Gym.

Up to version 0.25, ``env.reset()`` returned the observation alone and ``env.step()`` returned four values. Version 0.26
has the interface of Gymnasium. The source of the program shows which one it expects.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import gymnasium
import gymnasium.wrappers
import numpy as np

VERSIONS = {True: "0.21.0", False: "0.26.2"}


def is_old(trees: Iterable[ast.AST]) -> bool:
    """Return whether a program with these syntax trees expects the old interface.

    It does if it takes four values from ``step``, or takes the result of ``reset`` as one value.
    """
    steps, resets = {4: 0, 5: 0}, {True: 0, False: 0}
    for tree in trees:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign):
                continue
            target, called = node.targets[0], _called(node.value)
            count = len(target.elts) if isinstance(target, ast.Tuple) else 1
            if called == "step" and count in steps:
                steps[count] += 1
            elif called == "reset" and not isinstance(node.value, ast.Subscript):
                resets[count == 1] += 1
    if any(steps.values()):
        return steps[4] >= steps[5]
    return resets[True] >= resets[False]


def _called(value: ast.expr) -> str:
    """Return the name of the method that an expression such as ``env.step(action)[:4]`` calls, or ""."""
    if isinstance(value, ast.Subscript):
        value = value.value
    return value.func.attr if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else ""


class Env(gymnasium.Env[Any, Any]):
    """Base class of environments, which also has the methods of old environments."""

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Return the seed. Subclasses use it."""
        return [seed]

    @property
    def unwrapped(self) -> Any:
        """Return the environment itself."""
        return self


class Wrapper(Env):
    """An environment around another one. Attributes that it does not have are those of the inner environment."""

    def __init__(self, env: Any, *_: Any, **__: Any) -> None:
        self.env = env

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def unwrapped(self) -> Any:
        """Return the innermost environment."""
        return self.env.unwrapped

    def reset(self, **options: Any) -> Any:
        """Start an episode."""
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        """Take a time step."""
        return self.env.step(action)

    def render(self, *args: Any, **keywords: Any) -> Any:
        """Return a picture."""
        return self.env.render(*args, **keywords)

    def seed(self, seed: int | None = None) -> Any:
        """Seed the inner environment."""
        return self.env.seed(seed)

    def close(self) -> None:
        """Close the inner environment."""
        self.env.close()


# Gymnasium defines these on its Env. They are looked up in the inner environment.
for _name in ("observation_space", "action_space", "reward_range", "spec", "metadata", "render_mode"):

    def _read(self: Wrapper, _name: str = _name) -> Any:
        own = vars(self).get(f"_{_name}")
        return getattr(self.env, _name) if own is None else own

    def _write(self: Wrapper, value: Any, _name: str = _name) -> None:
        vars(self)[f"_{_name}"] = value

    setattr(Wrapper, _name, property(_read, _write))


class ObservationWrapper(Wrapper):
    """A wrapper that changes observations. Subclasses define ``observation``."""

    def reset(self, **options: Any) -> Any:
        """Start an episode."""
        result = self.env.reset(**options)
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
            return self.observation(result[0]), result[1]
        return self.observation(result)

    def step(self, action: Any) -> Any:
        """Take a time step."""
        obs, *others = self.env.step(action)
        return self.observation(obs), *others

    def observation(self, observation: Any) -> Any:
        """Return the changed observation."""
        raise NotImplementedError  # as in Gym: a subclass of the program defines it


class RewardWrapper(Wrapper):
    """A wrapper that changes rewards. Subclasses define ``reward``."""

    def step(self, action: Any) -> Any:
        """Take a time step."""
        obs, reward, *others = self.env.step(action)
        return obs, self.reward(reward), *others

    def reward(self, reward: Any) -> Any:
        """Return the changed reward."""
        raise NotImplementedError  # as in Gym: a subclass of the program defines it


class ActionWrapper(Wrapper):
    """A wrapper that changes actions. Subclasses define ``action``."""

    def step(self, action: Any) -> Any:
        """Take a time step."""
        return self.env.step(self.action(action))

    def action(self, action: Any) -> Any:
        """Return the changed action."""
        raise NotImplementedError  # as in Gym: a subclass of the program defines it


class _Discrete(gymnasium.spaces.Discrete):
    """A space whose samples are Python integers, as in old versions."""

    def sample(self, *args: Any, **keywords: Any) -> Any:
        """Return a random action."""
        return int(super().sample(*args, **keywords))


class OldInterface(Wrapper):
    """Gives an environment of Gymnasium the old interface."""

    def __init__(self, base: Any) -> None:
        self._base = base
        self._seed: int | None = None
        self._inner: OldInterface | None = None
        if type(base.action_space) is gymnasium.spaces.Discrete:
            self.action_space = _Discrete(base.action_space.n)

    def __getattr__(self, name: str) -> Any:
        if name in ("env", "_base") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._base, name)

    @property
    def env(self) -> Any:
        """Return the environment without a time limit: ``gym.make(name).env`` is a usual way to remove it."""
        if self.unwrapped is self:
            raise AttributeError("env")
        return self.unwrapped

    @property
    def unwrapped(self) -> Any:
        """Return the environment without a time limit, with the old interface."""
        if self._inner is None:
            inner = self._base.unwrapped
            self._inner = self if inner is self._base else OldInterface(inner)
        return self._inner

    def reset(self, *, return_info: bool = False, **options: Any) -> Any:
        """Start an episode. Return the observation."""
        if self._seed is not None:
            options.setdefault("seed", self._seed)
            self._seed = None
        obs, info = self._base.reset(**options)
        return (obs, info) if return_info else obs

    def step(self, action: Any) -> Any:
        """Take a time step. Return the observation, the reward, whether the episode ended, and a dictionary."""
        obs, reward, terminated, truncated, info = self._base.step(action)
        if truncated:
            info = {**info, "TimeLimit.truncated": not terminated}
        return obs, reward, bool(terminated or truncated), info

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seed the next ``reset``."""
        self._seed = seed
        return [seed]

    def render(self, mode: str = "rgb_array", *_: Any, **__: Any) -> Any:
        """Return a picture, or None if a window would show it."""
        return None if mode == "human" else self._base.render()

    def close(self) -> None:
        """Close the environment."""
        self._base.close()


class OldVector:
    """Several environments with the old interface. Those that end are reset in the same time step."""

    def __init__(self, functions: Any, **_: Any) -> None:
        self.envs = [function() for function in functions]
        self.num_envs = len(self.envs)
        self.single_observation_space = self.observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.action_space = gymnasium.spaces.MultiDiscrete([self.single_action_space.n] * self.num_envs)
        self.is_vector_env = True

    def reset(self, **_: Any) -> Any:
        """Start an episode in each environment."""
        return np.array([env.reset() for env in self.envs])

    def step(self, actions: Any) -> Any:
        """Take a time step in each environment."""
        results = [list(env.step(action)) for env, action in zip(self.envs, actions, strict=True)]
        for env, result in zip(self.envs, results, strict=True):
            if result[2]:
                result[3] = {**result[3], "terminal_observation": result[0]}
                result[0] = env.reset()
        obs, rewards, ended, infos = zip(*results, strict=True)
        return np.array(obs), np.array(rewards), np.array(ended), list(infos)

    def seed(self, seed: Any = None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


def _quiet(*_: Any, **__: Any) -> None:
    """Do nothing: a function of ``gym.logger``."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``gym`` and its submodules. Those that are not changed have the content of Gymnasium's."""

    def __init__(self, old: bool) -> None:
        self.old = old

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Return how to load the module."""
        del path, target
        if name.partition(".")[0] != "gym" or name.rpartition(".")[2][:1].isupper():  # a class that gym may lack
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        """Use the default module."""
        return None

    def exec_module(self, module: Any) -> None:
        """Copy the content of Gymnasium's module, and add what differs."""
        name = module.__name__.partition(".")[2]
        try:
            source: Any = importlib.import_module(f"gymnasium.{name}" if name else "gymnasium")
        except ImportError:
            source = ModuleType(name)
        vars(module).update({key: value for key, value in vars(source).items() if not key.startswith("__")})
        vars(module).update(self._changed(name))

    def _changed(self, name: str) -> dict[str, Any]:
        if name in ("", "core"):
            changed: dict[str, Any] = {
                "Env": Env,
                "Wrapper": Wrapper,
                "ObservationWrapper": ObservationWrapper,
                "RewardWrapper": RewardWrapper,
                "ActionWrapper": ActionWrapper,
                "make": self.make,
                "__version__": VERSIONS[self.old],
            }
            if not name:  # modules that programs use without importing them
                for one in ("spaces", "wrappers", "logger", "envs", "utils", "error", "core", "vector"):
                    changed[one] = importlib.import_module(f"gym.{one}")
            return changed
        if name == "logger":
            return dict.fromkeys(("set_level", "setLevel", "info", "debug", "warn", "error"), _quiet)
        if name.startswith("wrappers") and self.old:
            passive = ("Monitor", "RecordVideo", "RecordEpisodeStatistics", "OrderEnforcing", "TimeLimit")
            return {**dict.fromkeys(passive, Wrapper), "monitor": ModuleType("gym.wrappers.monitor")}
        if name == "vector" and self.old:
            return {"make": self.make_vec, "SyncVectorEnv": OldVector, "AsyncVectorEnv": OldVector}
        if name in ("envs", "envs.registration"):
            return {"make": self.make}
        return {}

    def make(self, name: Any, *args: Any, **keywords: Any) -> Any:
        """Return the environment with this id, with the interface that the program expects."""
        for key in ("new_step_api", "apply_api_compatibility"):
            keywords.pop(key, None)
        env = gymnasium.make(name, *args, **keywords)
        return OldInterface(env) if self.old else Wrapper(env)

    def make_vec(self, name: Any, num_envs: int = 1, **_: Any) -> OldVector:
        """Return several environments with this id."""
        return OldVector([lambda: self.make(name)] * num_envs)


@contextlib.contextmanager
def installed(old: bool) -> Iterator[None]:
    """Make ``import gym`` give the module.

    Args:
        old: Whether environments have the interface before version 0.26.
    """
    finder = _Finder(old)
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "gym"}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gym"]:
            del sys.modules[name]
        sys.modules.update(before)
