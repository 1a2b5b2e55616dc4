"""Select the videos of a report, and a still image of each for print."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perilune.errors import PeriluneError
from perilune.runs import files, telemetry
from perilune.runs.logs import Run

MAX_VIDEOS = 6
MAX_BYTES = 12 * 2**20  # of all videos; Base64 increases it by a third
# For each run, the report shows the first existing video of each group, and then videos of training episodes.
FIRST = (("stages-overlay", "stages"), ("best", "best-overlay"))
STILL_AT = 0.6  # position of the still image, as a share of the video's length
MAX_SIDE, MAX_FRAMES = 4_096, 3_000  # pixels, and frames to decode at most


class Video(NamedTuple):
    """An MP4, its caption, and one of its frames as PNG (None if it cannot be extracted)."""

    path: Path
    caption: str
    content: bytes
    still: bytes | None


class Selection(NamedTuple):
    """Videos of a report, the number of omitted videos, and a sentence about each invalid file."""

    videos: list[Video]
    omitted: int
    invalid: list[str]


def select(runs: Sequence[Run]) -> Selection:
    """Select videos of the stages of each run, of its best agent, and of training episodes spread over the run."""
    videos: list[Video] = []
    invalid: list[str] = []
    found: list[dict[str, Path]] = [{} for _ in runs]
    for run, paths in zip(runs, found, strict=True):
        for path in sorted((run.directory / "videos").glob("*.mp4")):
            try:
                with files.opened(path):
                    paths[path.stem] = path
            except PeriluneError as error:
                invalid.append(f"{run.directory.name}: video skipped: {error}")
    omitted, room = sum(map(len, found)), MAX_BYTES
    for run, path in ((runs[place], path) for place, path in _pick(found)):
        try:
            content = files.read(path, room)
            still = still_image(content)
        except PeriluneError:  # larger than the remaining space
            continue
        except ValueError:
            omitted -= 1
            invalid.append(f"{run.directory.name}: video skipped: {path} cannot be decoded")
            continue
        omitted -= 1
        room -= len(content)
        prefix = f"{run.directory.name}, " if len(runs) > 1 else ""
        videos.append(Video(path, prefix + _caption(run, path), content, still))
    return Selection(videos, omitted, invalid)


def _pick(found: Sequence[dict[str, Path]]) -> list[tuple[int, Path]]:
    """Return the videos to show, each with the index of its run. All runs get about the same number."""
    picked = []
    for names in FIRST:
        for run, paths in enumerate(found):
            picked += [(run, paths[name]) for name in names if name in paths][:1]
    episodes = [[path for name, path in paths.items() if re.fullmatch(r"episode-\d+", name)] for paths in found]
    turns = (run for turn in range(MAX_VIDEOS) for run, own in enumerate(episodes) if turn < len(own))
    places = Counter(islice(turns, max(0, MAX_VIDEOS - len(picked))))
    for run, own in enumerate(episodes):
        # A single video shows the last episode.
        index = [-1] if places[run] == 1 else np.linspace(0, len(own) - 1, places[run]).round().astype(int).tolist()
        picked += [(run, own[place]) for place in index]
    return picked[:MAX_VIDEOS]


def _caption(run: Run, path: Path) -> str:
    name = path.stem.removesuffix("-overlay")
    if name == "stages":
        return "learning progress: greedy episodes from one start state, from the initial to the best weights"
    if name.startswith("episode-"):
        number = int(name.removeprefix("episode-"))
        caption = f"training, episode {number}"
        played = next((episode for episode in run.episodes if episode.episode == number), None)
        if played is None:
            return caption
        reward = "" if played.reward is None else f": return {played.reward:.0f}"
        return f"{caption}, after {played.env_steps:,} steps{reward}" + _suffix(played.outcome)
    try:
        steps = telemetry.read(telemetry.path_of(path))
    except PeriluneError:  # missing or damaged
        steps = []
    returns = list({step.episode: step.reward for step in steps}.values())
    caption = f"{name} weights, greedy"
    if len(returns) == 1:
        return f"{caption}: return {returns[0]:.0f}" + _suffix(steps[-1].outcome)
    return f"{caption}: {len(returns)} episodes, mean return {np.mean(returns):.0f}" if returns else caption


def _suffix(outcome: str | None) -> str:
    return f", {outcome}" if outcome else ""


def still_image(content: bytes) -> bytes | None:
    """Return a frame of an MP4 as PNG. None if PyAV or Pillow is missing. Raise ValueError if decoding fails."""
    try:
        import av  # noqa: PLC0415 -- heavy, and optional
        from PIL import Image  # noqa: PLC0415
    except ImportError:
        return None
    buffer = io.BytesIO()
    try:
        with av.open(io.BytesIO(content), "r", format="mp4") as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            if context.name != "h264" or max(context.width, context.height) > MAX_SIDE:
                return None
            wanted = min(int(STILL_AT * stream.frames), MAX_FRAMES)
            for frame in islice(container.decode(stream), wanted, wanted + 1):
                Image.fromarray(frame.to_ndarray(format="rgb24")).save(buffer, "PNG")
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(str(error)) from error
    return buffer.getvalue() or None
