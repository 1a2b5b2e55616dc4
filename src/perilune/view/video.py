"""Episodes as H.264 videos, encoded frame by frame so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from perilune import envs
from perilune.camera import drawing
from perilune.errors import ConfigError, MissingDependencyError, RunDirectoryError
from perilune.evaluate import SCORE_SEEDS, Evaluation, evaluate
from perilune.events import Episode, Event, Frame, Started
from perilune.nn.layers import Array
from perilune.telemetry import TelemetryWriter
from perilune.telemetry import path_of as telemetry_path
from perilune.view.plots import matplotlib_figure, save_image

QValues = Callable[[Array], Array]
"""Q(obs, a) of every action: [N, A] for obs[N, O]."""


def _av() -> Any:
    try:
        import av  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise MissingDependencyError("videos need PyAV: pip install 'perilune[view]'") from error
    return av


def check_available() -> None:
    """Raise MissingDependencyError where pictures and videos cannot be written."""
    _av()
    matplotlib_figure(1, 1)


class VideoWriter:
    """Writes frames into an MP4. The file appears under its name when it is complete.

    Args:
        path: where to, ending in .mp4.
        fps: frames per second.

    Raises:
        RunDirectoryError: nothing can be written there.
    """

    def __init__(self, path: Path, fps: int) -> None:
        self.path = path
        self._beside = path.with_name(path.name + ".partial")
        self._av = _av()
        with self._named():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._beside.touch()
        self._container = self._av.open(str(self._beside), "w", format="mp4")
        # Without "zerolatency" the encoder looks ahead, and 30 MB of frames wait in it for 14 kB less.
        options = {"crf": "23", "preset": "veryfast", "tune": "zerolatency", "threads": "1"}
        self._stream = self._container.add_stream("libx264", rate=fps, options=options)
        self._stream.pix_fmt = "yuv420p"  # the one that every player shows
        self._started = False

    def add(self, image: Array) -> None:
        """Encode one frame, uint8 [height, width, 3]. An odd last row or column is left out: H.264 wants even sizes."""
        height, width = (side - side % 2 for side in image.shape[:2])
        if not self._started:
            self._stream.height, self._stream.width = height, width
            self._started = True
        frame = self._av.VideoFrame.from_ndarray(image[:height, :width], format="rgb24")
        with self._named():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        with self._named():
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._beside.replace(self.path)

    def discard(self) -> None:
        """Give the file up."""
        with suppress(OSError, self._av.FFmpegError):  # a full disk, say, of which the first error already tells
            self._container.close()
            self._beside.unlink(missing_ok=True)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunDirectoryError(f"the video {self.path} cannot be written: {reason}") from error


def frames_per_second(env: envs.Env) -> int:
    """The speed at which the environment looks right."""
    return int(env.metadata.get("render_fps") or 30)


class Film:
    """A video of frames, and its telemetry beside it: what the agent thought of every state.

    Args:
        path: where to, ending in .mp4.
        fps: frames per second.
        q_values: of whoever plays; without them there is no telemetry.
    """

    def __init__(self, path: Path, fps: int, q_values: QValues | None = None) -> None:
        self._video = VideoWriter(path, fps)
        self._telemetry = None if q_values is None else TelemetryWriter(telemetry_path(path))
        self._q_values = q_values

    def add(self, frame: Frame) -> None:
        """Encode one frame, and write down what goes with it."""
        self._video.add(frame.image)
        if self._telemetry is not None and self._q_values is not None:
            self._telemetry.add(frame, self._q_values(frame.obs[None])[0])

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


Written = TypeVar("Written", VideoWriter, Film)


@contextmanager
def closed(writer: Written) -> Iterator[Written]:
    """``writer``, closed at the end; it leaves no file behind where an error comes between."""
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.discard()
        raise


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
) -> Evaluation:
    """Play ``episodes`` episodes with ``policy`` into one video at ``path``, with its telemetry beside it.

    Raises:
        ConfigError: the environment cannot draw.
        RunDirectoryError: nothing can be written there.
        MissingDependencyError: the video library is not installed.
    """
    drawn = drawing(env)
    if drawn is None:
        allowed = f"'rgb_array', or this {envs.name(env)} cannot be filmed: gym.make(..., render_mode=\"rgb_array\")"
        raise ConfigError("render_mode", env.render_mode, allowed)
    try:
        with closed(Film(path, frames_per_second(env), q_values)) as written:
            return evaluate(
                policy,
                drawn,
                episodes,
                first_seed=first_seed,
                max_episode_steps=max_episode_steps,
                show=written.add,
            )
    finally:
        if drawn is not env:
            drawn.close()
