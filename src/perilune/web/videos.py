"""Find and describe the videos of a run, with their telemetry."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perilune._utils.text import printable
from perilune.envs.known import lookup
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files, telemetry
from perilune.runs.tables import Table

MAX_VIDEOS = 10_000  # files in the videos directory of a run
MAX_TELEMETRY = 2**24  # bytes; about half an hour of video
MAX_LINE = 2**18  # bytes
TITLES = {
    "best": "Best weights",
    "best-overlay": "Best weights, overlay",
    "final": "Final weights",
    "final-overlay": "Final weights, overlay",
    "stages": "Stages of training",
    "stages-overlay": "Stages of training, overlay",
}  # in the order of the page, before the training episodes


class Video(NamedTuple):
    """A video file. ``episode`` is the number of the recorded training episode, or None."""

    path: Path
    episode: int | None
    size: int

    @property
    def name(self) -> str:
        """The printable file name."""
        return printable(self.path.name)


def find_videos(directory: Path) -> list[Video]:
    """Return the videos of a run in the order of the page. Ignore links."""
    videos, found = directory / "videos", []
    if not is_directory(videos):
        return []
    try:
        with os.scandir(videos) as entries:
            for entry in islice(entries, MAX_VIDEOS):
                if entry.name.endswith(".mp4") and entry.is_file(follow_symlinks=False):
                    match = re.fullmatch(r"episode-(\d{5,9})\.mp4", entry.name, re.ASCII)
                    episode = int(match[1]) if match else None
                    found.append(Video(videos / entry.name, episode, entry.stat(follow_symlinks=False).st_size))
    except OSError:  # the directory was just removed
        return []
    return sorted(found, key=_order)


def _order(video: Video) -> tuple[int, int, str]:
    """Return a sort key: first titled videos, then episodes from the newest to the oldest, then others by name."""
    name = video.path.stem
    if name in TITLES:
        return list(TITLES).index(name), 0, name
    return len(TITLES), 1 if video.episode is None else -video.episode, name


def video_info(video: Video, episodes: Table, evaluations: Table) -> dict[str, object]:
    """Return the description of a video for the page. Unknown values are None."""
    stem = video.path.stem
    timesteps = telemetry.path_of(video.path)
    has_telemetry = timesteps.is_file() and not files.is_link(timesteps)
    env_steps = reward = outcome = None
    if video.episode is not None:
        rows = (episodes.columns["episode"] == video.episode).nonzero()[0]
        if len(rows):
            env_steps, reward = (float(episodes.columns[name][rows[-1]]) for name in ("env_steps", "reward"))
            outcome = episodes.columns["outcome"][rows[-1]]
    elif stem in TITLES and has_telemetry:
        reward, outcome = _result(video)
    if stem == "best" and (best := best_evaluation(evaluations)):  # other videos may show earlier weights
        env_steps = best["env_steps"]
    return {
        "name": video.name,
        "title": TITLES.get(stem, printable(stem)) if video.episode is None else f"Episode {video.episode}",
        "episode": video.episode,
        "env_steps": env_steps,
        "reward": reward,
        "outcome": outcome,
        "telemetry": has_telemetry,
        "bytes": video.size,
    }


def best_evaluation(evaluations: Table) -> dict[str, float] | None:
    """Return steps, episodes, seconds and mean return of the best evaluation so far; None if there is none."""
    rows = np.flatnonzero(evaluations.columns["best"])
    names = ("env_steps", "episodes", "seconds", "mean_return")
    return {name: evaluations.columns[name][rows[-1]].item() for name in names} if len(rows) else None


def _result(video: Video) -> tuple[float | None, str | None]:
    """Return (return, outcome) of a video of one greedy episode, from the last line of its telemetry."""
    try:
        with files.opened(telemetry.path_of(video.path)) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_LINE))
            lines = file.read(MAX_LINE).splitlines()
        last = telemetry.parse(lines[-1] if lines else b"", "the last line of telemetry")
    except (OSError, FileFormatError, RunDirectoryError):  # telemetry_columns reports this error
        return None, None
    return (last.reward, last.outcome) if last.episode == 1 else (None, None)


def telemetry_columns(video: Video, environment: str) -> dict[str, object]:
    """Return the telemetry of a video as columns, with the names of observation entries and actions."""
    path = telemetry.path_of(video.path)
    rows = telemetry.read(path, MAX_TELEMETRY)
    q_values = [[] if row.q_values is None else row.q_values.tolist() for row in rows]
    obs = [row.obs.tolist() for row in rows]
    sizes = {(len(q), len(values)) for q, values in zip(q_values, obs, strict=True)}
    if len(sizes) != 1:
        raise FileFormatError(f"{path} is damaged: expected one or more lines with the same number of values")
    actions, size = sizes.pop()
    return {
        "obs_names": lookup(environment).observation_names(size),
        "action_names": lookup(environment).action_names(actions),
        "obs": obs,
        "q_values": q_values,
        **{name: [getattr(row, name) for row in rows] for name in ("episode", "step", "action", "reward")},
    }


def is_directory(path: Path) -> bool:
    """Return whether ``path`` is a directory, and not a link to one."""
    return path.is_dir() and not files.is_link(path)
