"""Make, copy and describe Gymnasium environments, and flatten their observations."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any, TypeGuard

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from perilune._utils import extras
from perilune._utils.arrays import Array
from perilune.envs.faults import Env, masked, name, safe_str
from perilune.envs.stepping import Spaces, as_obs, call
from perilune.errors import (
    ConfigError,
    EnvironmentFaultError,
    FileFormatError,
    MissingDependencyError,
    PeriluneWarning,
    UnsupportedEnvironmentError,
)

NORMALIZE = (gym.wrappers.NormalizeObservation, gym.wrappers.NormalizeReward)  # depend on earlier episodes
RESET = (gym.wrappers.OrderEnforcing, gym.wrappers.TimeLimit, gym.wrappers.FlattenObservation)
LARGEST_FLAT = 2**16  # entries of a flattened observation; the replay buffer stores two observations for every step


ENVIRONMENT_ID = r"(\w+(\.\w+)*:)?([\w-]+/)*[\w.-]*\w[\w.-]*"


def make(env_id: str, **kwargs: Any) -> Env:
    """Make an environment without rendering, which makes LunarLander three times as fast.

    Args:
        env_id: ID such as "CartPole-v1", or "my_module:MyEnv-v0" to import my_module first.
        kwargs: keyword arguments of the environment, such as ``enable_wind=True``.

    Raises:
        UnsupportedEnvironmentError: the ID does not exist or is retired, or the module cannot be imported.
        ConfigError: the environment does not accept ``kwargs``.
        MissingDependencyError: the environment needs a library that is not installed.
    """
    if ".py" in env_id:
        module = env_id.partition(".py")[0]
        raise UnsupportedEnvironmentError(
            f"environment {env_id!r} cannot be made: expected an ID, not a file. Pass {module}:ID, with the ID that "
            f"{module}.py registers, such as {module}:MyEnv-v0."
        )
    if not re.fullmatch(ENVIRONMENT_ID, env_id):
        raise UnsupportedEnvironmentError(
            f"environment {env_id!r} cannot be made: expected an ID, such as LunarLander-v3 or my_module:MyEnv-v0."
        )
    try:
        return _make(env_id, **kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise missing(f"the environment {env_id!r}", error) from error
    except gym.error.Error as error:
        raise UnsupportedEnvironmentError(
            f"environment {env_id!r} cannot be made: {error} "
            "Pass the ID of an installed environment, for example LunarLander-v3 or CartPole-v1"
            f"{'' if ':' in env_id else f', or my_module:{env_id} if your module my_module registers it'}."
        ) from error
    except ImportError as error:
        raise UnsupportedEnvironmentError(
            f"environment {env_id!r} cannot be made: {_failed_import(env_id.partition(':')[0], error)}"
        ) from error
    except Exception as error:  # a constructor may raise anything
        if kwargs and isinstance(error, TypeError | ValueError):
            raise ConfigError("env_kwargs", kwargs, f"arguments of {env_id}; it raised: {safe_str(error)}") from error
        raise UnsupportedEnvironmentError(
            f"environment {env_id!r} cannot be made: it raised {type(error).__name__}: {safe_str(error)}"
        ) from error


def _failed_import(module: str, error: ImportError) -> str:
    """Explain why the module that registers an environment cannot be imported."""
    cause = error.__cause__ or error.__context__
    cause = cause if isinstance(cause, Exception) else error  # Gymnasium raises another ImportError from the first
    top = module.partition(".")[0]
    if isinstance(cause, ModuleNotFoundError) and cause.name == top:
        return (
            f"there is no module {top!r}. Run the command in the directory that contains it, add this "
            "directory to the environment variable PYTHONPATH, or install the package that has the module."
        )
    return f"importing the module {module!r} failed: {type(cause).__name__}: {safe_str(cause)}"


def _make(what: str | EnvSpec, **kwargs: Any) -> Env:
    with warnings.catch_warnings():
        # Gymnasium warns before it raises, and about newer versions.
        warnings.simplefilter("ignore")
        return gym.make(what, **kwargs)


def make_named(env_id: str, **kwargs: Any) -> Env:
    """Make an environment named in a file. If it is unknown, the error explains how to provide it.

    Args:
        env_id: the ID in the file.
        kwargs: keyword arguments of the environment.

    Raises:
        FileFormatError: the ID names a module, which Gymnasium would import.
        UnsupportedEnvironmentError: the environment cannot be made.
    """
    if ":" in env_id:
        raise FileFormatError(
            f"the environment {env_id!r} names a module, and Perilune does not import modules named in files. If you "
            f"trust this module, pass --env {env_id} on the command line, or the environment itself in Python."
        )
    try:
        return make(env_id, **kwargs)
    except UnsupportedEnvironmentError as error:
        raise UnsupportedEnvironmentError(
            f"{error} On the command line, pass --env my_module:{env_id}, with my_module in the current directory or "
            "PYTHONPATH. In Python, pass the environment itself."
        ) from error


def again(env: Env, render_mode: str | None = None) -> Env:
    """Make a copy of ``env`` with its wrappers. The same seed and actions give the same episode.

    Changes to ``env`` after its construction are not copied.

    Args:
        env: the environment.
        render_mode: the render mode of the copy.

    Raises:
        UnsupportedEnvironmentError: Gymnasium does not know how ``env`` or one of its wrappers was made.
    """
    spec = env.unwrapped.spec
    if spec is None:
        raise UnsupportedEnvironmentError(
            f"{name(env)} cannot be made a second time, because it has no ID. Register it with gymnasium.register"
        )
    mode: dict[str, Any] = {} if spec.kwargs.get("render_mode") == render_mode else {"render_mode": render_mode}
    try:
        # Not env.spec: it merges several time limits into one.
        made = _make(spec, **mode)
        wrappers = _wrappers(env)
        for wrapper in reversed(wrappers[: len(wrappers) - len(_wrappers(made))]):  # the ID may add some
            if isinstance(wrapper, NORMALIZE):
                raise TypeError(f"{type(wrapper).__name__} depends on earlier episodes")
            if not isinstance(wrapper, gym.utils.RecordConstructorArgs):
                raise TypeError(
                    f"its wrapper {type(wrapper).__name__} does not store its arguments. Let it inherit from "
                    "gymnasium.utils.RecordConstructorArgs, or register a function that returns the wrapped environment"
                )
            kind: Any = type(wrapper)
            made = kind(made, **wrapper._saved_kwargs)
        return made
    except Exception as error:  # a constructor may raise anything
        raise UnsupportedEnvironmentError(f"{name(env)} cannot be made a second time: {safe_str(error)}") from error


def _wrappers(env: Env) -> list[gym.Wrapper[Any, Any, Any, Any]]:
    """Return the wrappers of an environment, outermost first, without Gymnasium's checker."""
    wrappers = [env, *_wrappers(env.env)] if isinstance(env, gym.Wrapper) else []
    return [each for each in wrappers if not isinstance(each, gym.wrappers.PassiveEnvChecker)]


def unsaved_wrappers(env: Env) -> list[str]:
    """Return the names of the wrappers whose state, if any, a checkpoint does not contain, outermost first.

    Args:
        env: the environment.
    """
    return [type(each).__name__ for each in _wrappers(env) if not isinstance(each, (*NORMALIZE, *RESET))]


def description(env: Env) -> str:
    """Describe an environment and its arguments, but not how it renders.

    Two environments with the same description are the same task.

    Args:
        env: the environment.
    """
    spec = env.unwrapped.spec
    arguments = {} if spec is None else {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
    parts = [name(env), f"{arguments}"]
    for wrapper in reversed(_wrappers(env)):
        given = wrapper._saved_kwargs if isinstance(wrapper, gym.utils.RecordConstructorArgs) else {}
        parts.append(f"{type(wrapper).__name__}{given}")
    parts += [f"{env.observation_space}", f"{env.action_space}"]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(" ".join(part.split()) for part in parts))


def flattened(env: Env) -> Env:
    """Return ``env`` with one-dimensional observations: Discrete one-hot encoded, Tuple and Dict concatenated.

    Use Gymnasium's FlattenObservation if necessary. If the observations cannot be flattened, return ``env`` unchanged;
    ``space_sizes`` then explains why.

    Args:
        env: the environment.
    """
    if not isinstance(env, gym.Env) or _is_flat(env.observation_space) or _fault(env.observation_space) is not None:
        return env
    wrapper = gym.wrappers.FlattenObservation(env)
    flatten, parts = wrapper.func, list(space_parts(env.observation_space))

    def checked(observation: Any) -> Array:
        for part, path in parts:
            _check_entry(part, reduce(getitem, path, observation), _position(path))
        flat: Array = flatten(observation)
        return flat

    wrapper.func = checked
    return wrapper


def _check_entry(space: spaces.Space[Any], value: Any, where: str) -> None:
    """Raise EnvironmentFaultError if a value would be encoded as another one."""
    if isinstance(value, np.ma.MaskedArray):
        raise masked(where)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        low, high = space.start, space.start + (space.n if isinstance(space, spaces.Discrete) else space.nvec) - 1
    elif isinstance(space, spaces.MultiBinary):
        low, high = 0, 1
    else:
        return
    given = np.asarray(value)
    whole = given.dtype.kind in "biu" or (given.dtype.kind == "f" and (given == np.floor(given)).all())
    if given.size != math.prod(space.shape or ()) or not whole or not ((low <= given) & (given <= high)).all():
        raise EnvironmentFaultError(
            f"The environment returned the observation {safe_str(value)}{where}, which is not in its space, "
            f"{_brief(space)}. Correct reset and step, or the observation space."
        )


def space_sizes(env: Env) -> Spaces:
    """Return the sizes of the spaces of an environment.

    Args:
        env: the environment.

    Raises:
        UnsupportedEnvironmentError: it is not a Gymnasium environment, its observations are not a one-dimensional Box,
            or its actions are not Discrete.
    """
    if not isinstance(env, gym.Env):
        raise UnsupportedEnvironmentError(_not_an_environment(env))
    obs, action = env.observation_space, env.action_space
    if not isinstance(action, spaces.Discrete):
        kind = "continuous" if isinstance(action, spaces.Box) else type(action).__name__
        raise UnsupportedEnvironmentError(
            f"{name(env)} has {kind} actions, {action}. DQN needs a Discrete action space."
        )
    if not _is_flat(obs):
        unflattened = f"{type(obs).__name__} observations, {_brief(obs)}. perilune.DQN and envs.flattened flatten them."
        raise UnsupportedEnvironmentError(f"{name(env)} has {_fault(obs) or unflattened}")
    return Spaces(int(obs.shape[0]), int(action.n), int(action.start))


def _not_an_environment(thing: Any) -> str:
    """Explain what to pass instead of an object that is not a Gymnasium environment."""
    kind = type(thing).__name__
    start = f"{kind} is not an environment: expected a Gymnasium environment or its ID."
    if isinstance(thing, type):
        return f"{thing.__name__} is a class: expected a Gymnasium environment or its ID. Pass {thing.__name__}()."
    if isinstance(thing, gym.vector.VectorEnv):
        return f"{start} Pass a single environment; to use several side by side, set num_envs."
    if any(cls.__module__.partition(".")[0] == "gym" for cls in type(thing).__mro__):
        return (
            f"{start} It comes from the old gym package: use gymnasium.make, or convert it with "
            "gymnasium.make('GymV21Environment-v0', env=env) from the package shimmy."
        )
    if hasattr(thing, "reset") and hasattr(thing, "step"):
        return f"{start} Let the class {kind} inherit from gymnasium.Env and define its spaces."
    return start


def _is_flat(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


def _fault(space: spaces.Space[Any]) -> str | None:
    """Explain why observations from ``space`` cannot be flattened, and what to do. None if they can."""
    for part, path in space_parts(space):
        where = _position(path)
        if isinstance(part, spaces.Box) and len(part.shape) > 1:
            return (
                f"image or array observations{where}, {_brief(part)}. Perilune supports only one dimension. "
                "Flatten a small array with gymnasium.wrappers.FlattenObservation."
            )
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            return (
                f"{type(part).__name__} observations{where}, {_brief(part)}. Perilune supports one-dimensional Box, "
                "Discrete, MultiDiscrete, MultiBinary, and Tuple and Dict of these."
            )
    size = spaces.flatdim(space)
    if not 1 <= size <= LARGEST_FLAT:
        return (
            f"{type(space).__name__} observations with {size:,} numbers when flattened, {_brief(space)}. Perilune "
            f"supports 1 to {LARGEST_FLAT:,}. Describe a state with a few numbers, such as coordinates, with "
            "gymnasium.wrappers.TransformObservation."
        )
    return None


def space_parts(
    space: spaces.Space[Any], path: tuple[Any, ...] = ()
) -> Iterator[tuple[spaces.Space[Any], tuple[Any, ...]]]:
    """Yield the parts of a Tuple or Dict space at any depth, with their keys. Yield any other space itself."""
    if isinstance(space, spaces.Tuple | spaces.Dict):
        named = space.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in named:
            yield from space_parts(part, (*path, key))
    else:
        yield space, path


def _position(path: tuple[Any, ...]) -> str:
    """Return the position of a part for an error message."""
    return " at " + "".join(f"[{key!r}]" for key in path) if path else ""


def _brief(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box):
        return f"Box of shape {space.shape} and dtype {space.dtype}"
    return " ".join(str(space).split())  # the bounds of a Box in a Dict may take many lines


def time_limit(env: Env) -> int | None:
    """Return the number of steps after which the environment truncates an episode, or None.

    Args:
        env: the environment.
    """
    return env.spec.max_episode_steps if env.spec is not None else None


def reward_threshold(env: Env) -> float | None:
    """Return the mean return at which the environment counts as solved, or None.

    Args:
        env: the environment.
    """
    threshold = env.spec.reward_threshold if env.spec is not None else None
    return None if threshold is None else float(threshold)


def reset(env: Env, seed: int) -> Array:
    """Begin an episode and return its first observation, float32 [O].

    Args:
        env: the environment.
        seed: seed of the episode.

    Raises:
        EnvironmentFaultError: the environment raised an exception, or did not return (obs, info).
    """
    given = call(env, "reset", lambda: env.reset(seed=seed))
    try:
        observation, _ = given
    except Exception as error:  # an __iter__ may raise anything
        raise EnvironmentFaultError(
            f"{name(env)}.reset returned {type(given).__name__}: expected (obs, info)"
        ) from error
    return as_obs(observation, space_sizes(env).observation_size)


def close(env: Env) -> None:
    """Close an environment that Perilune made. A failure causes only a warning.

    Args:
        env: the environment.
    """
    try:
        env.close()
    except Exception as error:  # an environment may raise anything
        warnings.warn(
            f"{name(env)}.close raised {type(error).__name__}: {safe_str(error)}. No results are lost.",
            PeriluneWarning,
            stacklevel=2,
        )


def missing(what: str, error: Exception) -> MissingDependencyError:
    """Return the error with the install command for a missing library.

    Args:
        what: the feature that needs the library.
        error: the error that the import raised.
    """
    text = safe_str(error).lower()
    if "box2d" in text:
        return extras.missing(f"{what} needs Box2D and pygame", "lunar")
    if "pygame" in text:
        return extras.missing(f"{what} needs pygame", "view")
    return MissingDependencyError(f"{what} needs a library that is not installed: {safe_str(error)}")


def recipe(env: Env) -> Env | EnvSpec:
    """Return the specification from which ``env`` can be made again, or ``env`` itself if there is none.

    There is no specification if the environment has no ID, or has a wrapper with a state or with unknown arguments.

    Args:
        env: the environment.
    """
    spec = env.spec
    wrappers = () if spec is None else spec.additional_wrappers
    stateful = any(each.kwargs is None or each.name.startswith("Normalize") for each in wrappers)
    return env if spec is None or stateful else spec


def from_recipe(given: Env | EnvSpec) -> Env:
    """Return the environment of a recipe.

    Args:
        given: the result of ``recipe``.
    """
    return given if isinstance(given, gym.Env) else _make(given)


def as_rows(env: Env, observations: Any) -> Array:
    """Return one observation as float32 [O], or several as float32 [N, O].

    Invalid input becomes an array with another shape, which the caller must reject.

    Args:
        env: the environment.
        observations: one observation or several, flattened or as the environment returns them.
    """
    if isinstance(env, gym.wrappers.FlattenObservation):
        space = env.env.observation_space
        is_number = isinstance(space, spaces.Box) and space.shape == () and np.ndim(observations) == 0
        if is_number or space.contains(observations):
            return np.asarray(env.observation(observations), np.float32)
        sequence = isinstance(observations, list | tuple) or (
            isinstance(observations, np.ndarray) and observations.ndim
        )
        if sequence and len(observations) and all(space.contains(each) for each in observations):
            return np.asarray([env.observation(each) for each in observations], np.float32)
    try:
        return np.asarray(observations, np.float32)
    except (TypeError, ValueError):
        return np.empty((0, 0, 0), np.float32)
