"""Write and read the telemetry of a video: VIDEO.jsonl has one line per frame of VIDEO.mp4."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from perilune.errors import FileFormatError
from perilune.runs import files
from perilune.training.events import Timestep

LARGEST = 2**28  # bytes of a file
LONGEST = 2**22  # bytes of a line, which contains an observation


class _Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A time step as stored. Non-finite Q-values are null."""

    episode: int
    step: int
    action: int | None
    reward: float
    q_values: list[float | None]
    obs: list[float]
    outcome: str | None = None


_DECODER = msgspec.json.Decoder(_Line)


def path_of(video: Path) -> Path:
    """Return the path of a video's telemetry."""
    return video.with_suffix(".jsonl")


class TelemetryWriter:
    """Collect one line per frame, and write the file when the video is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[bytes] = []

    def add(self, timestep: Timestep) -> None:
        """Append a time step with Q-values."""
        assert timestep.q_values is not None
        q_values = [round(q, 4) for q in timestep.q_values.tolist()]
        obs = [round(value, 5) for value in timestep.obs.tolist()]
        step, reward = timestep.step, round(timestep.reward, 4)
        line = _Line(timestep.episode, step, timestep.action, reward, q_values, obs, timestep.outcome)
        self._lines.append(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Write the file."""
        files.write(self._path, *self._lines)


def read(path: Path, largest: int = LARGEST) -> list[Timestep]:
    """Return all time steps of a video. The file may have at most ``largest`` bytes."""
    lines = files.read(path, largest).splitlines()
    return [parse(line, f"{path}, line {number},") for number, line in enumerate(lines, 1)]


def parse(line: bytes, where: str) -> Timestep:
    """Return the time step in one line of telemetry. Error messages start with ``where``."""
    try:
        if len(line) > LONGEST:
            raise ValueError(f"it has {len(line):,} bytes, but at most {LONGEST:,} are allowed")
        stored = _DECODER.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{where} is damaged: {error}") from error
    obs, q_values = np.array(stored.obs, np.float64), np.array(stored.q_values, np.float64)  # None becomes NaN
    return Timestep(stored.episode, stored.step, obs, stored.action, stored.reward, stored.outcome, q_values=q_values)
