"""The videos of runs that go into a report, and a still of each for print."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perilune.errors import FileFormatError, PeriluneError
from perilune.runs import files, telemetry
from perilune.runs.logs import Run

MAX_VIDEOS = 6
MAX_BYTES = 12 * 2**20  # of all videos together; a third more as text
# Before its episodes, each run shows the first that it has of each of these.
FIRST = (("stages-overlay", "stages"), ("best", "best-overlay"))
STILL_AT = 0.6  # of a video's length: by then there is something to see
MAX_SIDE, MAX_FRAMES = 4_096, 3_000  # pixels and frames; a still is not searched for beyond


@dataclass(frozen=True)
class Video:
    """An MP4, its caption, and one of its frames as PNG (None if it cannot be extracted)."""

    path: Path
    caption: str
    content: bytes
    still: bytes | None

    @property
    def stages(self) -> bool:
        """Whether it shows several agents side by side."""
        return self.path.stem in FIRST[0]


@dataclass(frozen=True)
class Selection:
    """The videos of a report, how many more there are, and a sentence for each file that is not a valid video."""

    videos: list[Video]
    omitted: int
    invalid: list[str]


def select(runs: Sequence[Run]) -> Selection:
    """Select how each run learned, its best agent, and training episodes spread over the run."""
    found: list[tuple[Run, dict[str, Path]]] = []
    invalid: list[str] = []

    def reject(run: Run, reason: object) -> None:
        invalid.append(f"{run.directory.name}: a video is left out: {reason}")

    for run in runs:
        valid = {}
        for path in sorted((run.directory / "videos").glob("*.mp4")):
            try:
                _check_mp4(path)
                valid[path.stem] = path
            except PeriluneError as error:
                reject(run, error)
        found.append((run, valid))
    videos: list[Video] = []
    omitted, room = sum(len(paths) for _, paths in found), MAX_BYTES
    for run, path in _pick(found):
        try:
            content = files.read(path, room)
        except PeriluneError:  # larger than the room that is left
            continue
        omitted -= 1
        try:
            still = _still(content)
        except ValueError:
            reject(run, f"{path} cannot be decoded")
            continue
        room -= len(content)
        prefix = f"{run.directory.name}, " if len(runs) > 1 else ""
        videos.append(Video(path, prefix + _caption(run, path), content, still))
    return Selection(videos, omitted, invalid)


def _check_mp4(path: Path) -> None:
    with files.opened(path) as file:
        if file.read(8)[4:] != b"ftyp":
            raise FileFormatError(f"{path} is not an MP4 file")


def _pick(found: Sequence[tuple[Run, dict[str, Path]]]) -> list[tuple[Run, Path]]:
    """Return the videos to show, in order. The runs share the places evenly."""
    picked = []
    for names in FIRST:
        for run, paths in found:
            picked += [(run, paths[name]) for name in names if name in paths][:1]
    episodes = [[path for name, path in paths.items() if re.fullmatch(r"episode-\d+", name)] for _, paths in found]
    places = [0] * len(found)
    for _ in range(min(MAX_VIDEOS - len(picked), sum(map(len, episodes)))):
        places[min((count, run) for run, count in enumerate(places) if count < len(episodes[run]))[1]] += 1
    for (run, _), own, count in zip(found, episodes, places, strict=True):
        # A single episode is the last one.
        index = [-1] if count == 1 else np.linspace(0, len(own) - 1, count).round().astype(int).tolist()
        picked += [(run, own[place]) for place in index]
    return picked[:MAX_VIDEOS]


def _caption(run: Run, path: Path) -> str:
    if path.stem.startswith("episode-"):
        number = int(path.stem.removeprefix("episode-"))
        played = next((episode for episode in run.episodes if episode.episode == number), None)
        if played is None:
            return f"training, episode {number}"
        outcome = f", {played.outcome}" if played.outcome else ""
        reward = "" if played.reward is None else f": return {played.reward:.0f}"
        return f"training, episode {number}, after {played.env_steps:,} steps{reward}{outcome}"
    name = path.stem.removesuffix("-overlay")
    if name == "stages":
        return "learning progress: greedy episodes from one start state, from the initial to the best weights"
    try:
        steps = telemetry.read(telemetry.path_of(path))
    except PeriluneError:  # missing or damaged: the caption does without it
        steps = []
    returns = list({step.episode: step.reward for step in steps}.values())
    caption = f"{name} weights, greedy"
    if len(returns) == 1:
        return f"{caption}: return {returns[0]:.0f}" + (f", {steps[-1].outcome}" if steps[-1].outcome else "")
    return f"{caption}: {len(returns)} episodes, mean return {np.mean(returns):.0f}" if returns else caption


def _still(content: bytes) -> bytes | None:
    """Return a frame of an MP4 as PNG; None if there is none, or if PyAV or matplotlib is not installed.

    Raises:
        ValueError: ``content`` is not a video.
    """
    try:
        import av  # noqa: PLC0415 -- heavy, and optional
        from matplotlib.image import imsave  # noqa: PLC0415
    except ImportError:
        return None
    try:
        with av.open(io.BytesIO(content), "r", format="mp4") as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            if context.name != "h264" or max(context.width, context.height) > MAX_SIDE:
                return None
            wanted = min(int(STILL_AT * stream.frames), MAX_FRAMES)
            frame = next(itertools.islice(container.decode(stream), wanted, None), None)
            image = None if frame is None else frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(str(error)) from error
    if image is None:
        return None
    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    return buffer.getvalue()
