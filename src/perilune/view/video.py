"""Episodes as H.264 videos, encoded frame by frame so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perilune import envs
from perilune.camera import drawing
from perilune.errors import ConfigError, MissingDependencyError, RunDirectoryError
from perilune.evaluate import SCORE_SEEDS, Evaluation, evaluate
from perilune.events import Episode, Event, Frame, Started
from perilune.nn.layers import Array
from perilune.view.plots import matplotlib_figure, save_image


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


@contextmanager
def writing(path: Path, fps: int) -> Iterator[VideoWriter]:
    """A VideoWriter that is closed at the end, and leaves no file behind where an error comes between."""
    writer = VideoWriter(path, fps)
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.discard()
        raise


def frames_per_second(env: envs.Env) -> int:
    """The speed at which the environment looks right."""
    return int(env.metadata.get("render_fps") or 30)


class Recorder:
    """Reads a training's events: draws its initial state, and writes each filmed episode as a video.

    Args:
        directory: the run directory; gets initial_state.png and videos/episode-NNNNN.mp4.
        fps: frames per second.
    """

    def __init__(self, directory: Path, fps: int) -> None:
        self._directory = directory
        self._fps = fps
        self._writers: dict[int, VideoWriter] = {}  # by episode: with several environments, films overlap

    def read(self, event: Event) -> None:
        """Draw or encode what the event shows; the end of an episode ends its video."""
        match event:
            case Started(image) if image is not None:
                with suppress(MissingDependencyError):  # as for the curves, of which the training's end will tell
                    save_image(image, self._directory / "initial_state.png")
            case Frame(episode, image):
                if episode not in self._writers:
                    path = self._directory / "videos" / f"episode-{episode:05d}.mp4"
                    self._writers[episode] = VideoWriter(path, self._fps)
                self._writers[episode].add(image)
            case Episode(episode) if episode in self._writers:
                self._writers.pop(episode).close()

    def discard(self) -> None:
        """Give up the videos that were not finished."""
        for writer in self._writers.values():
            writer.discard()


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
) -> Evaluation:
    """Play ``episodes`` episodes with ``policy`` into one video at ``path``.

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
        with writing(path, frames_per_second(env)) as writer:
            return evaluate(
                policy, drawn, episodes, first_seed=first_seed, max_episode_steps=max_episode_steps, show=writer.add
            )
    finally:
        if drawn is not env:
            drawn.close()
