"""Write TensorBoard event files: the scalars of a training run, and its videos as animations.

tensorboardX's ``EventsWriter`` writes the files. Its ``SummaryWriter`` is not suitable: it writes in another thread, so
a checkpoint could be ahead of the event file, and disk errors would be lost.
"""

from __future__ import annotations

import io
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perilune._utils.arrays import Array
from perilune._utils.extras import missing
from perilune.runs import files
from perilune.training.events import Episode, Evaluated, Event, Metrics, Timestep
from perilune.viz.summary import RECENT, finite

if TYPE_CHECKING:
    from PIL.Image import Image

DIRECTORY = "tensorboard"  # in the run directory
MAX_SIDE = 240  # pixels; maximum width and height of an animation
MAX_FRAMES = 100  # of an animation
MAX_DELAY = 100  # milliseconds between two frames; longer episodes are shown faster


def check_available() -> None:
    """Raise MissingDependencyError if event files cannot be written."""
    try:
        import tensorboardX  # type: ignore[import-untyped]  # noqa: F401, PLC0415 -- heavy, and optional
    except ImportError as error:
        raise missing("event files need tensorboardX", "tensorboard") from error


@contextmanager
def event_file(
    directory: Path,
    fps: int,
    env_steps: int,
    outcomes: Sequence[str] = (),
    earlier: Iterable[Event] = (),
) -> Iterator[Callable[[Event], None]]:
    """Write the events of a training run to a new event file in ``directory``/tensorboard.

    The x axis is in environment steps. Each event is flushed at once, so that the file is never behind a checkpoint.
    The file of a resumed run begins with a session start, so that TensorBoard drops the points that earlier files have
    after the resumed step.

    Args:
        directory: The run directory.
        fps: Frames per second of the videos.
        env_steps: Environment steps of the agent so far.
        outcomes: Labels of the outcomes that the environment defines.
        earlier: Earlier events of a resumed run. They are written only if the run has no event file yet.

    Yields:
        A function that takes each event of the training run.

    Raises:
        RunDirectoryError: The file cannot be written.
        MissingDependencyError: tensorboardX is not installed.
    """
    check_available()
    from tensorboardX.event_file_writer import EventsWriter  # type: ignore[import-untyped]  # noqa: PLC0415
    from tensorboardX.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]  # noqa: PLC0415

    target = directory / DIRECTORY
    recent: deque[str | None] = deque(maxlen=RECENT)
    animations: dict[int, Animation] = {}

    def write(record: Any) -> None:
        record.wall_time = began + time.perf_counter()
        with files.reported("written", target):
            writer.write_event(record)
            writer.flush()

    def read(event: Event, needed: bool = True) -> None:
        if isinstance(event, Timestep):
            assert event.image is not None
            animations.setdefault(event.episode, Animation(fps)).add(event.image)
            return
        if isinstance(event, Episode) and event.ended != "budget":
            recent.append(event.outcome)
        if not needed:
            return
        summary = summary_pb2.Summary()
        for tag, value in scalars(event, recent, outcomes):
            summary.value.add(tag=tag, simple_value=value)
        if isinstance(event, Episode) and event.episode in animations:
            animation = animations.pop(event.episode)
            width, height = animation.size
            image = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": animation.gif()}
            summary.value.add(tag="video", image=image)
        if summary.value and isinstance(event, Episode | Metrics | Evaluated):
            write(event_pb2.Event(step=event.env_steps, summary=summary))

    with files.reported("written", target):
        target.mkdir(exist_ok=True)
        before = set(target.iterdir())
        # The suffix is random: the library follows links, so nobody must be able to put one at this path.
        writer = EventsWriter(str(target / "events"), f".{secrets.token_hex(8)}")
        (path,) = set(target.iterdir()) - before
        began = path.stat().st_mtime - time.perf_counter()  # wall-clock time, for TensorBoard
    try:
        if before:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            write(event_pb2.Event(step=env_steps + 1, session_log=start))
        for event in earlier:
            read(event, not before)
        yield read
    finally:
        writer.close()


def scalars(event: Event, recent: Iterable[str | None], outcomes: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield the tags and values of an event.

    Args:
        event: The event. Only episodes, metrics and evaluations have values.
        recent: Outcomes of the most recent episodes.
        outcomes: Labels of the outcomes. For an episode, yield their shares among ``recent``.
    """
    if isinstance(event, Episode):
        if event.ended == "budget":
            return
        group, named = "episode", {name: getattr(event, name) for name in ("reward", "length", "loss", "epsilon")}
        counts = Counter(recent)
        for label in outcomes:
            yield f"outcomes/{label.replace(' ', '_')}", counts[label] / counts.total()
    elif isinstance(event, Metrics | Evaluated):
        group, named = "update" if isinstance(event, Metrics) else "evaluation", event._asdict()
    else:
        return
    for name, value in named.items():
        if name not in ("env_steps", "best") and finite(value):
            yield f"{group}/{name}", value


class Animation:
    """A small GIF of at most ``MAX_FRAMES`` frames. Its memory use does not grow with the episode.

    Args:
        fps: Time steps per second.
    """

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._skip = 1
        self._seen = 0
        self._frames: list[Image] = []
        self.size = (0, 0)

    def add(self, image: Array) -> None:
        """Add a frame. If there are too many frames, drop every second one.

        Args:
            image: uint8 [height, width, 3].
        """
        from PIL import Image  # noqa: PLC0415

        if self._seen % self._skip == 0:
            if len(self._frames) == MAX_FRAMES:
                self._frames = self._frames[::2]
                self._skip *= 2
            picture = Image.fromarray(image)
            picture.thumbnail((MAX_SIDE, MAX_SIDE), reducing_gap=2.0)
            self.size = picture.size
            self._frames.append(picture.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
        self._seen += 1

    def gif(self) -> bytes:
        """Return the encoded animation."""
        buffer = io.BytesIO()
        delay = min(MAX_DELAY, max(20, 1000 * self._skip // self._fps))  # browsers enforce a minimum
        first, *others = self._frames
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=delay, loop=0)
        return buffer.getvalue()
