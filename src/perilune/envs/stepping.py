"""The only door to Gymnasium: making environments, flattening observations, stepping them and naming their faults."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from perilune._utils.arrays import Array
from perilune.errors import (
    ConfigError,
    EnvironmentFaultError,
    MissingDependencyError,
    PeriluneError,
    PeriluneWarning,
    UnsupportedEnvironmentError,
)
from perilune.replay.buffer import LARGEST_REWARD

Env = gym.Env[Any, Any]

LARGEST_FLAT = 2**16  # entries of an observation that is flattened; the replay holds two for every step

# float() would make a number of these, of the last by dropping half of it.
NO_REWARDS = (str, bytes, bytearray, np.complexfloating)


class Spaces(NamedTuple):
    """Sizes of an environment: O, A, and the number of its first action (0 almost everywhere)."""

    observation_size: int
    actions: int
    first_action: int


def make(env_id: str, **kwargs: Any) -> Env:
    """Return the environment registered as ``env_id``. It does not render, which makes LunarLander three times as fast.

    Args:
        env_id: the id, with the module that registers it if that must be imported: my_module:MyEnv-v0.
        kwargs: arguments of the environment.

    Raises:
        UnsupportedEnvironmentError: no such id, or one that Gymnasium has retired.
        MissingDependencyError: the environment needs a library that is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Gymnasium warns and then raises, or warns of a newer version: the error or the run's log says it.
            warnings.simplefilter("ignore")
            return gym.make(env_id, **kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise missing(f"the environment {env_id!r}", error) from error
    except gym.error.Error as error:
        raise UnsupportedEnvironmentError(
            f"environment {env_id!r} cannot be made: {error} "
            "Give the id of an installed environment, for example LunarLander-v3 or CartPole-v1."
        ) from error
    except ImportError as error:
        raise UnsupportedEnvironmentError(f"environment {env_id!r} cannot be made: {error}") from error
    except (TypeError, ValueError) as error:
        if not kwargs:
            raise
        raise ConfigError("env_kwargs", kwargs, f"arguments of {env_id}; it raised: {error}") from error


def make_named(env_id: str, **kwargs: Any) -> Env:
    """The environment that a file of ours names, which may be one of somebody's own.

    Raises:
        UnsupportedEnvironmentError, MissingDependencyError: as from ``make``, with how to say where it comes from.
    """
    try:
        return make(env_id, **kwargs)
    except UnsupportedEnvironmentError as error:
        raise UnsupportedEnvironmentError(
            f"{error} Or say where it comes from: --env my_module:{env_id} on the command line, with my_module in "
            "the current directory or PYTHONPATH; in Python, give the environment itself."
        ) from error


def again(env: Env, render_mode: str | None = None) -> Env:
    """Another environment like ``env``, wrappers included: the same seed and actions give the same episode.

    What was changed in ``env`` by hand after it was made, the other does not have.

    Raises:
        UnsupportedEnvironmentError: Gymnasium does not know how ``env`` was made, or one of its wrappers.
    """
    spec = env.unwrapped.spec
    if spec is None:
        raise UnsupportedEnvironmentError(
            f"{name(env)} cannot be made a second time, because it has no id: gymnasium.register gives it one"
        )
    mode: dict[str, Any] = {} if spec.kwargs.get("render_mode") == render_mode else {"render_mode": render_mode}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were shown when ``env`` was made
            made = gym.make(spec, **mode)
            wrappers = _wrappers(env)
            for wrapper in reversed(wrappers[: len(wrappers) - len(_wrappers(made))]):  # some come with the id
                if not isinstance(wrapper, gym.wrappers.PassiveEnvChecker):
                    made = type(wrapper)(made, **_arguments(wrapper))
            return made
    except Exception as error:  # whatever the constructors of others may raise
        raise UnsupportedEnvironmentError(f"{name(env)} cannot be made a second time: {said(error)}") from error


def _wrappers(env: Env) -> list[gym.Wrapper[Any, Any, Any, Any]]:
    """What is around the environment, the outermost first."""
    return [env, *_wrappers(env.env)] if isinstance(env, gym.Wrapper) else []


def _arguments(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> dict[str, Any]:
    """What ``wrapper`` was made with, beside the environment in it."""
    kind = type(wrapper).__name__
    if isinstance(wrapper, gym.wrappers.NormalizeObservation | gym.wrappers.NormalizeReward):
        raise UnsupportedEnvironmentError(f"{kind} has learned from the episodes so far, which another has not seen")
    if not isinstance(wrapper, gym.utils.RecordConstructorArgs):
        raise UnsupportedEnvironmentError(
            f"its wrapper {kind} does not keep what it was made with. Let it inherit from "
            "gymnasium.utils.RecordConstructorArgs, or register a function that makes the environment with it"
        )
    return wrapper._saved_kwargs


def name(env: Env) -> str:
    """The registered id, or the class's name where there is none."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def description(env: Env) -> str:
    """What ``env`` is and what it was made with, but for how it draws: two of one description are the same task."""
    spec = env.unwrapped.spec
    arguments = {} if spec is None else {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
    parts = [name(env), f"{arguments}"]
    for wrapper in reversed(_wrappers(env)):
        if not isinstance(wrapper, gym.wrappers.PassiveEnvChecker):
            given = wrapper._saved_kwargs if isinstance(wrapper, gym.utils.RecordConstructorArgs) else {}
            parts.append(f"{type(wrapper).__name__}{given}")
    parts += [f"{env.observation_space}", f"{env.action_space}"]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(" ".join(part.split()) for part in parts))


def flattened(env: Env) -> Env:
    """``env`` with observations of one dimension: Discrete one-hot encoded, Tuple and Dict of such laid end to end.

    Gymnasium's own wrapper does it, where it has to be done. What cannot be flattened stays as it is, for ``check`` to
    name.
    """
    if not isinstance(env, gym.Env) or _is_flat(env.observation_space) or _fault(env.observation_space) is not None:
        return env
    return gym.wrappers.FlattenObservation(env)


def check(env: Env) -> Spaces:
    """The sizes of a supported environment.

    Raises:
        UnsupportedEnvironmentError: observations are not a one-dimensional Box, or actions are not Discrete.
    """
    if not isinstance(env, gym.Env):
        raise UnsupportedEnvironmentError(
            f"a Gymnasium environment or its id is needed, got {type(env).__name__}. "
            "Vector environments, old gym environments and plain classes are not supported."
        )
    obs, action = env.observation_space, env.action_space
    if not isinstance(action, spaces.Discrete):
        kind = "continuous" if isinstance(action, spaces.Box) else type(action).__name__
        raise UnsupportedEnvironmentError(
            f"{name(env)} has {kind} actions, {action}. Deep Q-learning needs a Discrete action space."
        )
    if not _is_flat(obs):
        unflattened = f"{type(obs).__name__} observations, {_brief(obs)}. perilune.DQN and envs.flattened flatten them."
        raise UnsupportedEnvironmentError(f"{name(env)} has {_fault(obs) or unflattened}")
    return Spaces(int(obs.shape[0]), int(action.n), int(action.start))


def _is_flat(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 0


def _fault(space: spaces.Space[Any]) -> str | None:
    """Why observations from ``space`` cannot be flattened, and what to do; None where they can."""
    for part, where in _parts(space):
        if isinstance(part, spaces.Box) and len(part.shape) > 1:
            return (
                f"image or array observations{where}, {_brief(part)}. Only one dimension is supported; "
                "gymnasium.wrappers.FlattenObservation makes one of a small array."
            )
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            return (
                f"{type(part).__name__} observations{where}, {_brief(part)}. Supported are a one-dimensional Box, "
                "Discrete, MultiDiscrete, MultiBinary, and Tuple and Dict of these."
            )
    size = spaces.flatdim(space)
    if not 1 <= size <= LARGEST_FLAT:
        return (
            f"{type(space).__name__} observations that are {size:,} numbers when flattened, {_brief(space)}. From 1 to "
            f"{LARGEST_FLAT:,} are supported; describe a state by a few numbers (coordinates, say, and not their "
            "number) with gymnasium.wrappers.TransformObservation."
        )
    return None


def _parts(space: spaces.Space[Any], where: str = "") -> Iterator[tuple[spaces.Space[Any], str]]:
    """What a Tuple or Dict is made of, however deep, and where in it; of any other space the space itself."""
    if isinstance(space, spaces.Tuple | spaces.Dict):
        named = space.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in named:
            yield from _parts(part, f"{where or ' at '}[{key!r}]")
    else:
        yield space, where


def _brief(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box):
        return f"Box of shape {space.shape} and dtype {space.dtype}"
    return " ".join(str(space).split())  # the bounds of a Box in a Dict may go over many lines


def time_limit(env: Env) -> int | None:
    """Steps after which the environment truncates an episode by itself, where it says so."""
    return env.spec.max_episode_steps if env.spec is not None else None


def reward_threshold(env: Env) -> float | None:
    """The mean return from which the environment's makers call it solved, where they name one."""
    mark = env.spec.reward_threshold if env.spec is not None else None
    return None if mark is None else float(mark)


def as_obs(observation: Any, size: int) -> Array:
    """One observation as a fresh float32 array [O], so that an environment that reuses its buffer does no harm.

    Raises:
        EnvironmentFaultError: it is no array of numbers, has another shape than the environment's observation space
            says, or holds a number that is not finite in single precision.
    """
    try:
        if getattr(observation, "dtype", None) == np.float32:
            obs = np.array(observation)
        else:
            given = np.asarray(observation)
            if given.dtype.kind not in "biufO":  # of text numbers would be made, and of a complex one half dropped
                raise TypeError(f"it is of {given.dtype}")
            with np.errstate(over="ignore"):  # of which the infinity tells, below
                obs = given.astype(np.float32)
    except Exception as error:  # whatever its __array__ may raise
        raise EnvironmentFaultError(
            f"the environment gave an observation that is no array of numbers: {said(error)}"
        ) from error
    if obs.shape != (size,):
        raise EnvironmentFaultError(
            f"the environment gave an observation of shape {obs.shape}, but its observation space says ({size},)"
        )
    if not np.isfinite(obs).all():
        entries = ", ".join(f"obs[{index}] = {obs[index]}" for index in np.flatnonzero(~np.isfinite(obs))[:4])
        raise EnvironmentFaultError(
            f"the environment gave an observation that is not finite in single precision: {entries}. One such number "
            "spoils every weight: see where it comes from (a division by zero, a bound that is infinite), or clip it "
            "with gymnasium.wrappers.TransformObservation"
        )
    return obs


def reset(env: Env, seed: int) -> Array:
    """Begin an episode: its first obs[O].

    Raises:
        EnvironmentFaultError: the environment raised, or what it gave is not (obs, info).
    """
    given = _asked(env, "reset", lambda: env.reset(seed=seed))
    try:
        observation, _ = given
    except Exception as error:  # whatever its __iter__ may raise
        raise EnvironmentFaultError(
            f"{name(env)}.reset gave {type(given).__name__}, not (obs, info): Gymnasium's reset gives both"
        ) from error
    return as_obs(observation, check(env).observation_size)


def step(env: Env, sizes: Spaces, action: int) -> tuple[Array, float, bool, bool]:
    """One step with an ``action`` from 0 to A - 1: next_obs[O], reward, terminated, truncated.

    Raises:
        EnvironmentFaultError: the environment raised, or what it gave is not (obs, reward, terminated, truncated, info)
            with a finite reward and a finite obs[O].
    """
    given = _asked(env, "step", lambda: env.step(sizes.first_action + action))
    try:
        observation, reward, terminated, truncated, _ = given
    except Exception as error:  # as above
        what = f"{len(given)} values" if isinstance(given, tuple) else type(given).__name__
        raise EnvironmentFaultError(
            f"{name(env)}.step gave {what}, not (obs, reward, terminated, truncated, info). The old Gym's done is "
            "terminated or truncated: the one is the end of the task, the other a time limit"
        ) from error
    value = reward if type(reward) is float else _number(env, reward)
    if not -LARGEST_REWARD <= value <= LARGEST_REWARD:  # nor is NaN
        raise EnvironmentFaultError(
            f"{name(env)}.step gave the reward {value}, which is not finite in single precision. One such number "
            "spoils every weight: see where it comes from (a division by zero, a logarithm of zero, a penalty without "
            "measure), or clip it with gymnasium.wrappers.TransformReward"
        )
    for word, flag in (("terminated", terminated), ("truncated", truncated)):
        if flag is not False and flag is not True and not (isinstance(flag, np.bool_ | int) and flag in (0, 1)):
            raise EnvironmentFaultError(
                f"{name(env)}.step gave {word} = {_shown(flag)}, which is neither True nor False"
            )
    return as_obs(observation, sizes.observation_size), value, bool(terminated), bool(truncated)


def _number(env: Env, reward: Any) -> float:
    """A reward of another type than Python's own float."""
    try:
        if isinstance(reward, NO_REWARDS) or (isinstance(reward, np.ndarray) and reward.dtype.kind not in "biufO"):
            raise TypeError
        return float(reward)
    except Exception as error:  # whatever its __float__ may raise; of a whole number that is too large, OverflowError
        raise EnvironmentFaultError(f"{name(env)}.step gave the reward {_shown(reward)}, which is no number") from error


def _asked(env: Env, what: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except PeriluneError:
        raise
    except Exception as error:  # whatever environments may raise
        raise EnvironmentFaultError(f"{name(env)}.{what} raised {type(error).__name__}: {said(error)}") from error


def close(env: Env) -> None:
    """Close an environment that was made beside somebody's own. What goes wrong is told, and costs nothing."""
    try:
        env.close()
    except Exception as error:  # whatever environments may raise
        warnings.warn(
            f"{name(env)}.close raised {type(error).__name__}: {said(error)}. Nothing is lost by it.",
            PeriluneWarning,
            stacklevel=2,
        )


def said(error: Exception) -> str:
    """What an exception says, which is anybody's: its __str__ may raise as well."""
    try:
        return str(error)
    except Exception as failed:
        return f"(its __str__ raised {type(failed).__name__})"


def _shown(value: Any) -> str:
    """What an environment gave, in no more words than fit into a message."""
    try:
        shown = repr(value)
    except Exception:  # a __repr__ that raises, or a whole number of thousands of digits
        return f"of type {type(value).__name__}"
    return shown if len(shown) <= 100 else f"{shown[:100]}..."


def missing(what: str, error: Exception) -> MissingDependencyError:
    """The error that says what to install so that ``what`` can be done."""
    text = said(error).lower()
    if "box2d" in text or "pygame" in text:
        return MissingDependencyError(f"{what} needs Box2D and pygame: pip install 'perilune[lunar]'")
    return MissingDependencyError(f"{what} needs a library that is not installed: {said(error)}")


def recipe(env: Env) -> Env | gym.envs.registration.EnvSpec:
    """Return the specification from which ``env`` can be made again, or ``env`` itself if there is none.

    An environment is its own recipe if it has no id, or a wrapper whose state or arguments a specification lacks.
    """
    spec = env.spec
    wrappers = () if spec is None else spec.additional_wrappers
    stateful = any(each.kwargs is None or each.name.startswith("Normalize") for each in wrappers)
    return env if spec is None or stateful else spec


def from_recipe(given: Env | gym.envs.registration.EnvSpec) -> Env:
    """Return the environment of a ``recipe``."""
    if isinstance(given, gym.Env):
        return given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were shown when the first one was made
        return gym.make(given)


def as_rows(env: Env, observations: Any) -> Array:
    """Return one observation as float32 [O], or several as [N, O]. They may be flattened, or as ``env`` gives them.

    Arrays of another shape, and objects that are not observations, become arrays of another shape than these.
    """
    if isinstance(env, gym.wrappers.FlattenObservation):
        space = env.env.observation_space
        if space.contains(observations):
            return np.asarray(env.observation(observations), np.float32)
        sequence = isinstance(observations, list | tuple | np.ndarray) and len(observations) > 0
        if sequence and all(space.contains(each) for each in observations):
            return np.asarray([env.observation(each) for each in observations], np.float32)
    try:
        return np.asarray(observations, np.float32)
    except (TypeError, ValueError):
        return np.empty((0, 0, 0), np.float32)
