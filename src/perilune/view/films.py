"""Which films of some runs go into a report, and a still of each for paper."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perilune import files, telemetry
from perilune.errors import PeriluneError
from perilune.nn.layers import Array
from perilune.runlog import Run
from perilune.telemetry import Moment

MOST = 6  # films in a report
MOST_BYTES = 12 * 2**20  # of all films together; a third more as text
STILL_AT = 0.6  # of a film's length: by then there is something to see
LARGEST_SIDE, LONGEST = 4_096, 3_000  # pixels and frames of a film that is looked into for a still


@dataclass(frozen=True)
class Film:
    """An MP4, what it shows in words, and one of its frames as PNG, None where it cannot be told."""

    path: Path
    words: str
    content: bytes
    still: bytes | None


@dataclass(frozen=True)
class Choice:
    """The films shown, and how many there are that are not."""

    films: list[Film]
    left_out: int


def choose(runs: Sequence[Run]) -> Choice:
    """The best agent of every run, then training episodes spread over it, as many as there is room for."""
    every = [(run, _films(run.directory)) for run in runs]
    best = [(run, path) for run, paths in every for path in paths if path.stem == "best"]
    others = [(run, [path for path in paths if path.stem.startswith("episode-")]) for run, paths in every]
    each = max(1, (MOST - len(best)) // max(1, len(runs)))
    ordered = best + [(run, path) for run, paths in others for path in _spread(paths, each)]
    chosen: list[Film] = []
    room = MOST_BYTES
    for run, path in ordered[:MOST]:
        try:
            content = files.read(path, room)
        except PeriluneError:  # too large, or a link: it is counted among those left out
            continue
        room -= len(content)
        name = f"{run.directory.name}, " if len(runs) > 1 else ""
        chosen.append(Film(path, name + _words(run, path), content, _still(content)))
    return Choice(chosen, sum(len(paths) for _, paths in every) - len(chosen))


def _films(directory: Path) -> list[Path]:
    return sorted(
        path
        for path in (directory / "videos").glob("*.mp4")
        if re.fullmatch(r"best|final|episode-\d+", path.stem) and path.is_file()
    )


def _spread(paths: Sequence[Path], most: int) -> list[Path]:
    """So many of ``paths``, from the first to the last; the last, where it is to be one."""
    if most == 1:
        return list(paths[-1:])
    index = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)
    return [paths[place] for place in index]


def _words(run: Run, path: Path) -> str:
    """What is known of the film's episode."""
    if path.stem.startswith("episode-"):
        number = int(path.stem.removeprefix("episode-"))
        played = next((episode for episode in run.episodes if episode.episode == number), None)
        if played is None:
            return f"training, episode {number}"
        outcome = f", {played.outcome}" if played.outcome else ""
        came_to = "" if played.reward is None else f": return {played.reward:.0f}"
        return f"training, episode {number}, after {played.env_steps:,} steps{came_to}{outcome}"
    try:
        moments = telemetry.read(telemetry.path_of(path))
    except PeriluneError:  # films of earlier versions have none
        moments = []
    return f"{path.stem} weights, greedy{_came_to(moments)}"


def _came_to(moments: Sequence[Moment]) -> str:
    """What a greedy film comes to."""
    returns = list({moment.episode: moment.reward for moment in moments}.values())
    if len(returns) != 1:
        return f": {len(returns)} episodes, mean return {np.mean(returns):.0f}" if returns else ""
    return f": return {returns[0]:.0f}" + (f", {moments[-1].outcome}" if moments[-1].outcome else "")


def _still(content: bytes) -> bytes | None:
    """A frame of an MP4 as PNG; None where it cannot be read, or the libraries for it are not installed."""
    try:
        import av  # noqa: PLC0415 -- heavy, and optional
        from matplotlib.image import imsave  # noqa: PLC0415
    except ImportError:
        return None
    try:
        image = _frame(content)
    except (av.error.FFmpegError, ValueError, IndexError):
        return None
    if image is None:
        return None
    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    return buffer.getvalue()


def _frame(content: bytes) -> Array | None:
    import av  # noqa: PLC0415

    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        if context.name != "h264" or max(context.width, context.height) > LARGEST_SIDE:
            return None
        wanted = min(int(STILL_AT * stream.frames), LONGEST)
        return next(_from(wanted, container.decode(stream)), None)


def _from(wanted: int, frames: Iterator[object]) -> Iterator[Array]:
    for number, frame in enumerate(frames):
        if number >= wanted:
            yield np.asarray(frame.to_ndarray(format="rgb24"))  # type: ignore[attr-defined]
