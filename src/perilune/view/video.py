"""Films of episodes: a training's own, and those of an agent that plays greedily."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from perilune import envs
from perilune.camera import drawing
from perilune.errors import ConfigError, MissingDependencyError
from perilune.evaluate import SCORE_SEEDS, Evaluation, evaluate
from perilune.events import Episode, Event, Frame, Started
from perilune.nn.layers import Array
from perilune.telemetry import TelemetryWriter
from perilune.telemetry import path_of as telemetry_path
from perilune.view.encoding import FORMATS, VideoWriter, check_codec, closed, format_of, thinning
from perilune.view.overlay import Panel, Reading, drawn, following, resized
from perilune.view.plots import matplotlib_figure, save_image

QValues = Callable[[Array], Array]
"""Q(obs, a) of every action: [N, A] for obs[N, O]."""


def check_available() -> None:
    """Raise MissingDependencyError where pictures and videos cannot be written."""
    check_codec(FORMATS[".mp4"])
    matplotlib_figure(1, 1)


def frames_per_second(env: envs.Env) -> int:
    """The speed at which the environment looks right."""
    return int(env.metadata.get("render_fps") or 30)


class View:
    """Makes pictures of the frames of a flight: with a panel beneath, and fewer and smaller where the format is small.

    Args:
        path: of the film, whose ending is the format.
        fps: frames per second of what is filmed.
        panel: what is to be beneath the pictures, if anything.
        widest: of a picture in pixels, before it is halved for a small format.
    """

    def __init__(self, path: Path, fps: int, panel: Panel | None = None, widest: int | None = None) -> None:
        self._small, self._every = format_of(path).small, thinning(path, fps)
        self._panel, self._widest = panel, widest
        self._count = 0
        self._reading: Reading | None = None

    def picture(self, frame: Frame, q_values: Array) -> Array | None:
        """The picture of the next frame, whose state has q[A]: uint8 [height, width, 3]. None where it is left out."""
        if self._panel is not None:
            self._reading = following(self._reading, frame, q_values, self._panel.memory)
        self._count += 1
        if (self._count - 1) % self._every and frame.action is not None:
            return None
        image = frame.image
        width = min(image.shape[1], self._widest or image.shape[1]) // (2 if self._small else 1)
        if width < image.shape[1]:
            image = resized(image, width)
        return image if self._panel is None or self._reading is None else drawn(image, self._reading, self._panel)


class Film:
    """A film of frames, and beside an MP4 its telemetry: what the agent thought of every state.

    Args:
        path: where to; its ending is the format.
        fps: frames per second of what is filmed. A GIF has fewer, and half the size.
        q_values: of whoever plays; without them there are no bars and no telemetry.
        panel: what is to be beneath the pictures, if anything. With it, or where the film begins again by itself, every
            episode's end stays for a second.
    """

    def __init__(self, path: Path, fps: int, q_values: QValues | None = None, panel: Panel | None = None) -> None:
        small, every = format_of(path).small, thinning(path, fps)
        self._view = View(path, fps, panel)
        self._rest = fps // every if small or panel is not None else 0
        self._video = VideoWriter(path, Fraction(fps, every))
        self._telemetry = None if q_values is None or small else TelemetryWriter(telemetry_path(path))
        self._q_values = q_values

    def add(self, frame: Frame) -> None:
        """Encode one frame, and write down what goes with it."""
        q_values = np.zeros(0) if self._q_values is None else self._q_values(frame.obs[None])[0]
        picture = self._view.picture(frame, q_values)
        if picture is None:
            return
        for _ in range(1 if frame.action is not None else 1 + self._rest):
            self._video.add(picture)
            if self._telemetry is not None:
                self._telemetry.add(frame, q_values)

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
            case Frame(episode):
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

    Raises:
        ConfigError: the environment cannot draw, or ``path`` has another ending than those that are written.
        RunDirectoryError: nothing can be written there.
        MissingDependencyError: the video library is not installed.
    """
    format_of(path)
    filmed = drawing(env)
    if filmed is None:
        raise cannot_draw(env)
    try:
        with closed(Film(path, frames_per_second(env), q_values, panel)) as written:
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
