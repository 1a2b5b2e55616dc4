"""A training for TensorBoard: its figures and films as event files, written without torch and TensorFlow."""

from __future__ import annotations

import io
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perilune._utils.arrays import Array
from perilune.errors import MissingDependencyError
from perilune.runs import files
from perilune.training.events import Episode, Evaluated, Event, Metrics, Timestep
from perilune.viz.summary import RECENT, finite

if TYPE_CHECKING:
    from PIL.Image import Image

DIRECTORY = "tensorboard"  # in the run directory
LONGEST_SIDE = 240  # pixels of an animation
FRAMES = 100  # of an animation, at most; between half of them and all of them in a long one
SLOWEST = 100  # milliseconds from one frame to the next; where more would have to pass, the animation runs faster


def check_available() -> None:
    """Raise MissingDependencyError where event files cannot be written."""
    try:
        import tensorboardX  # type: ignore[import-untyped]  # noqa: F401, PLC0415 -- heavy, and optional
    except ImportError as error:
        raise MissingDependencyError("event files need tensorboardX: pip install 'perilune[tensorboard]'") from error


@contextmanager
def written(
    directory: Path,
    fps: int,
    env_steps: int,
    outcomes: Sequence[str] = (),
    earlier: Iterable[Event] = (),
) -> Iterator[Callable[[Event], None]]:
    """A function that takes every event of a training and writes it into an event file in DIRECTORY/tensorboard.

    Steps are environment steps. Every event is flushed before the training goes on, so that what a checkpoint knows is
    there, and TensorBoard drops from the files of before what came after the checkpoint that is gone on from.

    Args:
        directory: the run.
        fps: frames per second of its films.
        env_steps: the agent's, now.
        outcomes: what an episode can come to, where that has names.
        earlier: what happened before, for a run that has no event files yet.

    Raises:
        RunDirectoryError: nothing can be written there.
        MissingDependencyError: tensorboardX is not installed.
    """
    check_available()
    from tensorboardX.event_file_writer import EventsWriter  # type: ignore[import-untyped]  # noqa: PLC0415
    from tensorboardX.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]  # noqa: PLC0415

    target, Value = directory / DIRECTORY, summary_pb2.Summary.Value  # noqa: N806 -- a class
    recent: deque[str | None] = deque(maxlen=RECENT)
    films: dict[int, Animation] = {}

    def write(record: Any) -> None:
        record.wall_time = began + time.perf_counter()
        try:
            events.write_event(record)
            events.flush()
        except OSError as error:
            raise files.cannot("written", target, error) from error

    def read(event: Event) -> None:
        if isinstance(event, Timestep) and event.image is not None:
            films.setdefault(event.episode, Animation(fps)).add(event.image)
            return
        if isinstance(event, Episode) and event.ended != "budget":
            recent.append(event.outcome)
        values = [Value(tag=tag, simple_value=value) for tag, value in scalars(event, recent, outcomes)]
        if isinstance(event, Episode) and event.episode in films:
            film = films.pop(event.episode)
            image = summary_pb2.Summary.Image(
                width=film.size[0], height=film.size[1], colorspace=3, encoded_image_string=film.gif()
            )
            values.append(Value(tag="video", image=image))
        if values and isinstance(event, Episode | Metrics | Evaluated):
            write(event_pb2.Event(step=event.env_steps, summary=summary_pb2.Summary(value=values)))

    try:
        target.mkdir(exist_ok=True)
        before = set(target.iterdir())
        # With a number, or two files of one second would be one.
        events = EventsWriter(str(target / "events"), f".{len(before)}")
        (path,) = set(target.iterdir()) - before
        began = path.stat().st_mtime - time.perf_counter()  # TensorBoard wants the time of day
    except OSError as error:
        raise files.cannot("written", target, error) from error
    try:
        if before:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            write(event_pb2.Event(step=env_steps + 1, session_log=start))
        for event in earlier:
            if before:
                recent.extend([event.outcome] if isinstance(event, Episode) and event.ended != "budget" else [])
            else:
                read(event)
        yield read
    finally:
        events.close()


def scalars(event: Event, recent: Iterable[str | None], outcomes: Sequence[str]) -> Iterator[tuple[str, float]]:
    """What an event has in numbers, by tag; of an episode also how often each outcome was among the recent ones."""
    if isinstance(event, Episode):
        if event.ended == "budget":
            return
        named = {name: getattr(event, name) for name in ("reward", "length", "loss", "epsilon")}
        group = "episode"
        counts = Counter(recent)
        for label in outcomes:
            yield f"outcomes/{label.replace(' ', '_')}", counts[label] / counts.total()
    elif isinstance(event, Metrics):
        named, group = event._asdict(), "update"
    elif isinstance(event, Evaluated):
        named, group = event._asdict(), "evaluation"
    else:
        return
    for name, value in named.items():
        if name not in ("env_steps", "best") and finite(value):
            yield f"{group}/{name}", value


class Animation:
    """A film as a small GIF of at most ``FRAMES`` frames, in memory that does not grow with the film's length."""

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._every = 1
        self._seen = 0
        self._frames: list[Image] = []
        self.size = (0, 0)

    def add(self, image: Array) -> None:
        """Take the next frame, uint8 [height, width, 3], if it is one that is kept."""
        if self._seen % self._every == 0:
            if len(self._frames) == FRAMES:
                self._frames = self._frames[::2]
                self._every *= 2
            self._frames.append(_small(image))
            self.size = self._frames[0].size
        self._seen += 1

    def gif(self) -> bytes:
        """All of it."""
        buffer = io.BytesIO()
        duration = min(SLOWEST, max(20, 1000 * self._every // self._fps))  # faster ones are slowed down by browsers
        first, *others = self._frames
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
        return buffer.getvalue()


def _small(image: Array) -> Image:
    from PIL import Image  # noqa: PLC0415

    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), reducing_gap=2.0)
    return picture.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
