"""Pictures of an environment: of itself where it draws, else of a twin that follows it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune.errors import EnvironmentFaultError, PeriluneWarning, UnsupportedEnvironmentError

LEAST = 2  # pixels of a picture's side: of less no film can be made


class _Filmed(gym.Wrapper[Any, Any, Any, Any]):
    """An environment with pictures from a twin, which follows it with the same seeds and actions.

    Every episode is the environment's own, so that looking on changes nothing. Where the twin goes another way, because
    not everything in it follows from the seed, it says so and stays where it is.
    """

    def __init__(self, env: envs.Env, twin: envs.Env) -> None:
        super().__init__(env)
        self.twin = twin
        self.follows = False

    @property
    def render_mode(self) -> str | None:  # type: ignore[override]  # as gym.Wrapper does
        return self.twin.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self.follows = True

        def same() -> bool:
            drawn, _ = self.twin.reset(seed=seed, options=options)
            return np.array_equal(observation, drawn, equal_nan=True)

        self._follow(same)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.follows:

            def same() -> bool:
                drawn, _, *ends, _ = self.twin.step(action)
                return np.array_equal(observation, drawn, equal_nan=True) and bool(ends == [terminated, truncated])

            self._follow(same)
        return observation, reward, terminated, truncated, info

    def _follow(self, same: Callable[[], bool]) -> None:
        """Let the twin do what was done here; where it does not come to the ``same``, its pictures stop."""
        try:
            if same():
                return
            why = "the same seed and actions lead elsewhere in a second one that draws"
        except Exception as error:  # whatever environments may raise
            why = f"a second one that draws raised {type(error).__name__}: {envs.said(error)}"
        self.follows = False
        warnings.warn(
            f"the pictures of {envs.name(self.env)} stop in the middle of an episode, because {why}. Make it with "
            'render_mode="rgb_array" instead.',
            PeriluneWarning,
            stacklevel=3,
        )

    def render(self) -> Any:
        return self.twin.render()

    def close(self) -> None:
        """Close the twin. The environment is not ours."""
        envs.close(self.twin)


def drawing(env: envs.Env) -> envs.Env | None:
    """``env`` with frames: itself where it draws, else together with one that does. None where there is no such thing.

    Whoever asked closes it, unless it is ``env`` itself.
    """
    if env.render_mode == "rgb_array":
        return env
    if env.render_mode is not None or "rgb_array" not in env.metadata.get("render_modes", ()):
        return None
    try:
        return _Filmed(env, envs.again(env, "rgb_array"))
    except UnsupportedEnvironmentError:
        return None


def can_draw(env: envs.Env) -> bool:
    """Whether ``drawing`` gives an environment."""
    drawn = drawing(env)
    if drawn is not None and drawn is not env:
        envs.close(drawn)
    return drawn is not None


def frame(env: envs.Env) -> Array:
    """The environment as a picture now, uint8 [height, width, 3].

    Raises:
        MissingDependencyError: the drawing library is not installed, or has no display to work with.
        EnvironmentFaultError: the environment says that it can draw, and cannot.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        # SDL, under pygame, would look for a display all the same and complain on standard error that there is none.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        image = np.asarray(env.render(), np.uint8)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise envs.missing(f"drawing {envs.name(env)}", error) from error
    except Exception as error:  # of others, again
        said = f"{type(error).__name__}: {envs.said(error)}"
        raise EnvironmentFaultError(f"drawing {envs.name(env)} failed: {said}") from error
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape) < LEAST:
        raise EnvironmentFaultError(
            f"{envs.name(env)} drew an array of shape {image.shape}, which is no picture [height, width, 3] of "
            f"{LEAST} by {LEAST} pixels or more"
        )
    return image
