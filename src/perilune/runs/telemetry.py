"""What a film cannot show: beside each video VIDEO.mp4 there is VIDEO.jsonl, with a line for every frame of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from perilune._utils.arrays import Array
from perilune.errors import FileFormatError
from perilune.runs import files
from perilune.training.events import Frame

LARGEST = 2**28  # bytes
LONGEST = 2**22  # bytes of a line, in which every reading has a number


class Moment(NamedTuple):
    """One frame's instant: its episode, the action chosen there (None at the end), rewards so far, q[A] and obs[O].

    ``q_values`` are those of the network that is evaluated; None where one is not finite. ``outcome`` is what the
    episode came to, at its end and where that has a name; other lines do without.
    """

    episode: int
    action: int | None
    reward: float
    q_values: list[float | None]
    obs: list[float]
    outcome: str | None = None


def path_of(video: Path) -> Path:
    """Where the telemetry of a video is."""
    return video.with_suffix(".jsonl")


class TelemetryWriter:
    """Writes a line per frame. The file appears under its name when it is complete.

    Raises:
        RunDirectoryError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = path.with_name(path.name + ".partial")
        try:
            self._file: IO[str] = self._beside.open("w", encoding="utf-8")
        except OSError as error:
            raise files.cannot("written", path, error) from error

    def add(self, frame: Frame, q_values: Array) -> None:
        """Write down ``frame``, and q[A] of its state."""
        moment = Moment(
            frame.episode, frame.action, round(frame.reward, 4), [_short(q) for q in q_values.tolist()],
            [round(value, 5) for value in frame.obs.tolist()], frame.outcome,
        )  # fmt: skip
        said = {name: value for name, value in moment._asdict().items() if name != "outcome" or value is not None}
        try:
            self._file.write(json.dumps(said, allow_nan=False) + "\n")
        except OSError as error:
            raise files.cannot("written", self._path, error) from error

    def close(self) -> None:
        """Finish the file."""
        try:
            self._file.close()
            self._beside.replace(self._path)
        except OSError as error:
            raise files.cannot("written", self._path, error) from error

    def discard(self) -> None:
        """Give the file up."""
        with suppress(OSError):  # of which the first error already tells
            self._file.close()
        with suppress(OSError):
            self._beside.unlink(missing_ok=True)


def _short(q: float) -> float | None:
    return round(q, 4) if math.isfinite(q) else None


def read(path: Path) -> list[Moment]:
    """All moments of a film, in order.

    Raises:
        FileFormatError: it is damaged, or no telemetry.
        RunDirectoryError: it is not there, or cannot be read.
    """
    return list(_moments(path))


def _moments(path: Path) -> Iterator[Moment]:
    for number, line in enumerate(files.read(path, LARGEST).splitlines(), 1):
        try:
            files.check_json(line, path, LONGEST)
            moment = Moment(**json.loads(line))
            if not (
                type(moment.episode) is int
                and (moment.action is None or type(moment.action) is int)
                and isinstance(moment.reward, int | float)
                and all(value is None or isinstance(value, int | float) for value in moment.q_values)
                and all(isinstance(value, int | float) for value in moment.obs)
                and isinstance(moment.outcome, str | None)
            ):
                raise TypeError(f"{moment}"[:200])
        except (ValueError, TypeError, RecursionError) as error:
            raise FileFormatError(f"{path}, line {number}, is no moment of a film: {error}") from error
        yield moment
