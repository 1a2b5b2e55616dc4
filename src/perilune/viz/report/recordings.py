"""Which films of some runs go into a report, and a still of each for paper."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import FileFormatError, PeriluneError
from perilune.runs import files, telemetry
from perilune.runs.runlog import Run
from perilune.training.events import Timestep

MOST = 6  # films in a report
MOST_BYTES = 12 * 2**20  # of all films together; a third more as text
# What every run shows before its episodes: the first of each of these that it has.
FIRST = (("stages-overlay", "stages"), ("best", "best-overlay"))
STILL_AT = 0.6  # of a film's length: by then there is something to see
LARGEST_SIDE, LONGEST = 4_096, 3_000  # pixels and frames of a film that is looked into for a still


@dataclass(frozen=True)
class Film:
    """An MP4, what it shows in words, and one of its frames as PNG, None where it cannot be told."""

    path: Path
    words: str
    content: bytes
    still: bytes | None

    @property
    def stages(self) -> bool:
        """Whether it shows several agents side by side."""
        return self.path.stem in FIRST[0]


@dataclass(frozen=True)
class Choice:
    """The films shown, how many there are that are not, and a sentence for each that is no film."""

    films: list[Film]
    left_out: int
    none: list[str]


def choose(runs: Sequence[Run]) -> Choice:
    """How every run learned, its best agent, then training episodes spread over it, as many as there is room for."""
    every: list[tuple[Run, list[Path]]] = []
    none: list[str] = []
    for run in runs:
        found = []
        for path in sorted((run.directory / "videos").glob("*.mp4")):
            try:
                _check(path)
                found.append(path)
            except PeriluneError as error:
                none.append(f"{run.directory.name}: a film is left out: {error}")
        every.append((run, found))
    chosen: list[Film] = []
    left_out, room = sum(len(paths) for _, paths in every), MOST_BYTES
    for run, path in _picked(every):
        try:
            content = files.read(path, room)
        except PeriluneError:  # larger than the room that is left: it is counted among those left out
            continue
        left_out -= 1
        try:
            still = _still(content)
        except ValueError:
            none.append(f"{run.directory.name}: a film is left out: {path} cannot be decoded")
            continue
        room -= len(content)
        name = f"{run.directory.name}, " if len(runs) > 1 else ""
        chosen.append(Film(path, name + _words(run, path), content, still))
    return Choice(chosen, left_out, none)


def _check(path: Path) -> None:
    """Raise FileFormatError where ``path`` is no MP4, by how it begins."""
    with files.opened(path) as file:
        if file.read(8)[4:] != b"ftyp":
            raise FileFormatError(f"{path} is no MP4")


def _picked(every: Sequence[tuple[Run, Sequence[Path]]]) -> list[tuple[Run, Path]]:
    """Which of the films of every run are to be shown, in their order."""
    known = [(run, {path.stem: path for path in paths}) for run, paths in every]
    picked = [
        (run, next(paths[name] for name in names if name in paths))
        for names in FIRST
        for run, paths in known
        if not paths.keys().isdisjoint(names)
    ]
    episodes = [[path for path in paths if re.fullmatch(r"episode-\d+", path.stem)] for _, paths in every]
    shares = _shares(MOST - len(picked), [len(paths) for paths in episodes])
    for (run, _), paths, share in zip(every, episodes, shares, strict=True):
        picked += [(run, path) for path in _spread(paths, share)]
    return picked[:MOST]


def _shares(room: int, wanted: Sequence[int]) -> list[int]:
    """How many of ``room`` places each gets, none more than it wants, and as evenly as that allows."""
    shares = [0] * len(wanted)
    for _ in range(min(room, sum(wanted))):
        shares[min((share, place) for place, share in enumerate(shares) if share < wanted[place])[1]] += 1
    return shares


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
    name = path.stem.removesuffix("-overlay")
    if name == "stages":
        return "how it learned: greedy, from one start state, by weights from before the training to the best there was"
    try:
        moments = telemetry.read(telemetry.path_of(path))
    except PeriluneError:  # films of earlier versions have none
        moments = []
    return f"{name} weights, greedy{_came_to(moments)}"


def _came_to(moments: Sequence[Timestep]) -> str:
    """What a greedy film comes to."""
    returns = list({moment.episode: moment.reward for moment in moments}.values())
    if len(returns) != 1:
        return f": {len(returns)} episodes, mean return {np.mean(returns):.0f}" if returns else ""
    return f": return {returns[0]:.0f}" + (f", {moments[-1].outcome}" if moments[-1].outcome else "")


def _still(content: bytes) -> bytes | None:
    """A frame of an MP4 as PNG; None where none is to be had, or the libraries for it are not installed.

    Raises:
        ValueError: it is no film.
    """
    try:
        import av  # noqa: PLC0415 -- heavy, and optional
        from matplotlib.image import imsave  # noqa: PLC0415
    except ImportError:
        return None
    try:
        image = _frame(content)
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(str(error)) from error
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
