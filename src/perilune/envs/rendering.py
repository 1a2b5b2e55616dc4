"""Images of an environment: its own if it renders, else those of a shadow environment."""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune.errors import EnvironmentFaultError, PeriluneWarning, UnsupportedEnvironmentError

LEAST = 2  # pixels per side; a video needs at least two


class ShadowRendered(gym.Wrapper[Any, Any, Any, Any]):
    """An environment with the images of a shadow environment, which receives the same seeds and actions.

    Observations and rewards come from the environment itself, so rendering does not change them. If the shadow
    environment reaches another state, because not all of its state depends on the seed, rendering stops with a warning.
    """

    def __init__(self, env: envs.Env, shadow: envs.Env) -> None:
        super().__init__(env)
        self.shadow = shadow
        self.follows = False

    @property
    def render_mode(self) -> str | None:  # type: ignore[override]  # as gym.Wrapper does
        """The render mode of the shadow environment."""
        return self.shadow.render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset both environments."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.follows = True
        self._follow([observation], lambda: self.shadow.reset(seed=seed, options=options)[:1])
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step both environments and return the result of the first."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.follows:
            self._follow(
                [observation, terminated, truncated], lambda: operator.itemgetter(0, 2, 3)(self.shadow.step(action))
            )
        return observation, reward, terminated, truncated, info

    def _follow(self, expected: list[Any], move: Callable[[], Sequence[Any]]) -> None:
        """Move the shadow environment. If it does not return the ``expected`` observation and flags, stop rendering."""
        try:
            observation, *ends = move()
            if np.array_equal(expected[0], observation, equal_nan=True) and ends == expected[1:]:
                return
            why = "the copy that renders reached another state from the same seed and actions"
        except Exception as error:  # an environment may raise anything
            why = f"the copy that renders raised {type(error).__name__}: {envs.safe_str(error)}"
        self.follows = False
        warnings.warn(
            f"the images of {envs.name(self.env)} stop in the middle of an episode, because {why}. Make the "
            'environment with render_mode="rgb_array" instead.',
            PeriluneWarning,
            stacklevel=3,
        )

    def render(self) -> Any:
        """Return the image of the shadow environment."""
        return self.shadow.render()

    def close(self) -> None:
        """Close the shadow environment. The environment itself belongs to the caller."""
        envs.close(self.shadow)


def drawing(env: envs.Env) -> envs.Env | None:
    """Return ``env`` with images, or None if it cannot render.

    Args:
        env: the environment.

    Returns:
        ``env`` itself if it renders, else a wrapper with a shadow environment, which you must close.
    """
    if env.render_mode == "rgb_array":
        return env
    if env.render_mode is not None or "rgb_array" not in env.metadata.get("render_modes", ()):
        return None
    try:
        return ShadowRendered(env, envs.again(env, "rgb_array"))
    except UnsupportedEnvironmentError:
        return None


def can_draw(env: envs.Env) -> bool:
    """Return whether ``env`` can be rendered.

    Args:
        env: the environment.
    """
    drawn = drawing(env)
    if drawn is not None and drawn is not env:
        envs.close(drawn)
    return drawn is not None


def frame(env: envs.Env) -> Array:
    """Return an image of the current state, uint8 [height, width, 3].

    Args:
        env: an environment that renders.

    Raises:
        MissingDependencyError: the drawing library is not installed, or has no display.
        EnvironmentFaultError: rendering failed.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        # Otherwise SDL, which pygame uses, prints that there is no display.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        image = np.asarray(env.render(), np.uint8)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise envs.missing(f"rendering {envs.name(env)}", error) from error
    except Exception as error:  # an environment may raise anything
        message = f"{type(error).__name__}: {envs.safe_str(error)}"
        raise EnvironmentFaultError(f"rendering {envs.name(env)} failed: {message}") from error
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape) < LEAST:
        raise EnvironmentFaultError(
            f"{envs.name(env)}.render returned an array of shape {image.shape}: expected [height, width, 3], at "
            f"least {LEAST} by {LEAST} pixels"
        )
    return image
