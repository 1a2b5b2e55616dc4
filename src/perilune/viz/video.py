"""Films of episodes: a training's own, and those of an agent that plays greedily."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune.envs.rendering import drawing
from perilune.errors import ConfigError, MissingDependencyError
from perilune.runs.telemetry import TelemetryWriter
from perilune.runs.telemetry import path_of as telemetry_path
from perilune.training.evaluation import SCORE_SEEDS, Evaluation, evaluate, play_episode
from perilune.training.events import Episode, Event, Started, Timestep
from perilune.viz.encoding import FORMATS, VideoWriter, check_codec, closed, format_of, thinning
from perilune.viz.overlay import NO_SCALE, Panel, Reading, Scale, drawn, following, widened
from perilune.viz.pixels import resized
from perilune.viz.plots import matplotlib_figure, save_image

QValues = Callable[[Array], Array]
"""Q(obs, a) of every action: [N, A] for obs[N, O]."""


def check_available() -> None:
    """Raise MissingDependencyError where pictures and videos cannot be written."""
    check_codec(FORMATS[".mp4"])
    matplotlib_figure(1, 1)


def frames_per_second(env: envs.Env) -> int:
    """The speed at which the environment looks right."""
    return int(env.metadata.get("render_fps") or 30)


def fitted(image: Array, path: Path, widest: int | None = None) -> Array:
    """``image`` as wide as it is to be in a film at ``path``: no wider than ``widest``, half in a small format."""
    width = min(image.shape[1], widest or image.shape[1]) // (2 if format_of(path).small else 1)
    return resized(image, width) if width < image.shape[1] else image


class Beforehand(NamedTuple):
    """What is known of episodes that were played unseen, before they are filmed: it makes one scale for all of a film.

    ``scale`` holds every Q-value; ``steps`` are those of each episode.
    """

    scale: Scale
    steps: tuple[int, ...]


def beforehand(
    policy: Callable[[Array], int],
    q_values: QValues,
    env: envs.Env,
    seeds: Sequence[int],
    max_episode_steps: int | None,
) -> Beforehand:
    """Play the episodes from ``seeds`` unseen. The arguments are ``evaluate``'s."""
    low, high, steps = 0.0, 0.0, []
    for seed in seeds:
        for instant in play_episode(policy, env, seed, max_episode_steps):
            finite = [float(q) for q in q_values(instant.obs[None])[0] if math.isfinite(q)]
            low, high = min([low, *finite]), max([high, *finite])
        steps.append(instant.step)
    return Beforehand(widened(NO_SCALE, (low, high)), tuple(steps))


class Film:
    """A film of frames, and beside an MP4 its telemetry: what the agent thought of every state.

    Args:
        path: where to; its ending is the format.
        fps: frames per second of what is filmed. A GIF has fewer, and half the size.
        q_values: of whoever plays; without them there are no bars and no telemetry.
        panel: what is to be beneath the pictures, if anything. With it, or where the film begins again by itself, every
            episode's end stays for a second.
        scale: of the bars. It grows where a Q-value does not fit into it.
    """

    def __init__(
        self,
        path: Path,
        fps: int,
        q_values: QValues | None = None,
        panel: Panel | None = None,
        scale: Scale = NO_SCALE,
    ) -> None:
        small, self._every = format_of(path).small, thinning(path, fps)
        self._panel, self._scale = panel, scale
        self._rest = fps // self._every if small or panel is not None else 0
        self._count = 0
        self._reading: Reading | None = None
        self._video = VideoWriter(path, Fraction(fps, self._every))
        self._telemetry = None if q_values is None or small else TelemetryWriter(telemetry_path(path))
        self._q_values = q_values

    def add(self, timestep: Timestep) -> None:
        """Encode one frame, and write down what goes with it."""
        q_values = np.zeros(0) if self._q_values is None else self._q_values(timestep.obs[None])[0]
        if self._panel is not None:
            self._reading = following(self._reading, timestep, q_values, self._panel.memory)
            self._scale = widened(self._scale, q_values)
        self._count += 1
        if (self._count - 1) % self._every and timestep.action is not None:
            return
        assert timestep.image is not None
        picture = fitted(timestep.image, self._video.path)
        if self._panel is not None and self._reading is not None:
            picture = drawn(picture, self._reading, self._panel, self._scale)
        for _ in range(1 if timestep.action is not None else 1 + self._rest):
            self._video.add(picture)
            if self._telemetry is not None:
                self._telemetry.add(timestep._replace(q_values=q_values))

    def close(self) -> None:
        """Finish both files."""
        if self._telemetry is not None:
            self._telemetry.close()
        self._video.close()

    def discard(self) -> None:
        """Give both up."""
        if self._telemetry is not None:
            self._telemetry.discard()
        self._video.discard()


class Recorder:
    """Reads a training's events: draws its initial state, and films episodes.

    Args:
        directory: the run directory; gets initial_state.png, videos/episode-NNNNN.mp4 and their telemetry.
        fps: frames per second.
        q_values: of the agent that is trained.
    """

    def __init__(self, directory: Path, fps: int, q_values: QValues | None = None) -> None:
        self._directory = directory
        self._fps = fps
        self._q_values = q_values
        self._films: dict[int, Film] = {}  # by episode: with several environments, films overlap

    def read(self, event: Event) -> None:
        """Draw or encode what the event shows; the end of an episode ends its video."""
        match event:
            case Started(image) if image is not None:
                with suppress(MissingDependencyError):  # as for the curves, of which the training's end will tell
                    save_image(image, self._directory / "initial_state.png")
            case Timestep(episode):
                if episode not in self._films:
                    path = self._directory / "videos" / f"episode-{episode:05d}.mp4"
                    self._films[episode] = Film(path, self._fps, self._q_values)
                self._films[episode].add(event)
            case Episode(episode) if episode in self._films:
                self._films.pop(episode).close()

    def discard(self) -> None:
        """Give up the videos that were not finished."""
        for film in self._films.values():
            film.discard()


def episodes(directory: Path) -> list[Path]:
    """The videos of a run's episodes, in their order."""
    return sorted((directory / "videos").glob("episode-*.mp4"), key=lambda path: (len(path.name), path.name))


def film(
    policy: Callable[[Array], int],
    env: envs.Env,
    path: Path,
    *,
    episodes: int = 1,
    first_seed: int = SCORE_SEEDS,
    max_episode_steps: int | None = None,
    q_values: QValues | None = None,
    panel: Panel | None = None,
) -> Evaluation:
    """Play ``episodes`` episodes with ``policy`` into one film at ``path``, beside an MP4 its telemetry.

    With a panel they are played unseen before, so that the bars have one scale from the first frame to the last.

    Raises:
        ConfigError: the environment cannot draw, or ``path`` has another ending than those that are written.
        RunDirectoryError: nothing can be written there.
        MissingDependencyError: the video library is not installed.
    """
    format_of(path)
    filmed = drawing(env)
    if filmed is None:
        raise cannot_draw(env)
    scale = NO_SCALE
    try:
        if q_values is not None and panel is not None and panel.actions:
            seeds = range(first_seed, first_seed + episodes)
            scale = beforehand(policy, q_values, env, seeds, max_episode_steps).scale
        with closed(Film(path, frames_per_second(env), q_values, panel, scale)) as written:
            return evaluate(
                policy,
                filmed,
                episodes,
                first_seed=first_seed,
                max_episode_steps=max_episode_steps,
                show=written.add,
            )
    finally:
        if filmed is not env:
            envs.close(filmed)


def cannot_draw(env: envs.Env) -> ConfigError:
    """The error that says how an environment could be filmed."""
    allowed = f"'rgb_array', or this {envs.name(env)} cannot be filmed: gym.make(..., render_mode=\"rgb_array\")"
    return ConfigError("render_mode", env.render_mode, allowed)
