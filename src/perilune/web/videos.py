"""The films of a run, and what goes with each frame."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perilune.envs.known import lookup
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files, telemetry
from perilune.web.logs import Table, number

MOST = 10_000  # files looked at in a run's directory of videos
LARGEST_TELEMETRY = 2**24  # bytes; half an hour of frames
LONGEST_LINE = 2**18  # bytes of telemetry, of a frame
TITLES = {
    "best": "Best weights",
    "best-overlay": "Best weights, overlay",
    "final": "Final weights",
    "final-overlay": "Final weights, overlay",
    "stages": "Stages of learning",
    "stages-overlay": "Stages of learning, overlay",
}  # in their order; then come the episodes, newest first


class Film(NamedTuple):
    """A film of a run. ``episode`` is the training episode that it shows, None where it shows none."""

    path: Path
    episode: int | None
    size: int


def films(directory: Path) -> list[Film]:
    """The films of a run, as they are to be listed; only ordinary files."""
    videos = directory / "videos"
    found = []
    try:
        if not is_directory(videos):
            return []
        with os.scandir(videos) as entries:
            for _, entry in zip(range(MOST), entries, strict=False):
                if entry.name.endswith(".mp4") and entry.is_file(follow_symlinks=False):
                    match = re.fullmatch(r"episode-(\d{5,9})\.mp4", entry.name, re.ASCII)
                    episode = int(match[1]) if match else None
                    found.append(Film(videos / entry.name, episode, entry.stat(follow_symlinks=False).st_size))
    except OSError:  # there are none yet, or they are just being removed
        return []
    return sorted(found, key=_place)


def _place(film: Film) -> tuple[int, int, str]:
    name = film.path.stem
    if name in TITLES:
        return list(TITLES).index(name), 0, name
    return len(TITLES), -1 if film.episode is None else -film.episode, name


def listed(found: list[Film], episodes: Table, best: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What is known of each film, as plain JSON values."""
    return [
        {
            "name": text(film.path.name),
            "title": text(_title(film)),
            "episode": film.episode,
            **_came_to(film, episodes, best),
            "telemetry": is_ordinary(telemetry.path_of(film.path)),
            "bytes": film.size,
        }
        for film in found
    ]


def _title(film: Film) -> str:
    stem = film.path.stem
    return TITLES.get(stem, stem) if film.episode is None else f"Episode {film.episode}"


def _came_to(film: Film, episodes: Table, best: dict[str, Any] | None) -> dict[str, Any]:
    unknown = {"env_steps": None, "reward": None, "outcome": None}
    if film.episode is None:
        stem = film.path.stem  # those that were asked for may be of earlier weights; they say it in their pictures
        env_steps = best["env_steps"] if best and stem == "best" else None
        return unknown | {"env_steps": env_steps} | (_played(film) if stem in TITLES else {})
    rows = (episodes.columns["episode"] == film.episode).nonzero()[0]
    if not len(rows):
        return unknown
    row = rows[-1]
    outcome = episodes.labels["outcome"][episodes.columns["outcome"][row]]
    return {name: number(episodes.columns[name][row]) for name in ("env_steps", "reward")} | {"outcome": outcome}


def _played(film: Film) -> dict[str, Any]:
    """What a film of one greedy episode came to, which no log has: the telemetry's last line has it."""
    try:
        with files.opened(telemetry.path_of(film.path)) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_LINE))
            lines = file.read(LONGEST_LINE).splitlines()
        last = telemetry.parse(lines[-1] if lines else b"", f"{film.path.name}: the last line")
    except (OSError, FileFormatError, RunDirectoryError):
        return {}  # there is none, or the player says what is wrong with it
    return {"reward": last.reward, "outcome": last.outcome} if last.episode == 1 else {}


def moments(film: Film, environment: str) -> dict[str, Any]:
    """What goes with each frame of a film, in columns; without an error also where it is not finite.

    Raises:
        RunDirectoryError: there is no telemetry.
        FileFormatError: it is damaged, or too large.
    """
    path = telemetry.path_of(film.path)
    rows = telemetry.read(path, LARGEST_TELEMETRY)
    if not rows:
        raise FileFormatError(f"{path} is damaged: it has no line")
    sizes = {(0 if row.q_values is None else len(row.q_values), len(row.obs)) for row in rows}
    if len(sizes) > 1:
        raise FileFormatError(f"{path} is damaged: its lines have different numbers of values")
    actions, observation_size = sizes.pop()
    known = lookup(environment)
    return {
        "readings": known.observation_names(observation_size),
        "actions": known.action_names(actions),
        **{name: [getattr(row, name) for row in rows] for name in ("episode", "step", "action", "reward", "outcome")},
        **{name: np.array([getattr(row, name) for row in rows]).tolist() for name in ("obs", "q_values")},
    }


def is_ordinary(path: Path) -> bool:
    """Whether there is a file of that name, and no link, pipe or directory."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_directory(path: Path) -> bool:
    """Whether there is a directory of that name, and no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def text(name: str) -> str:
    """A file's name, or a sentence with one in it, as Unicode that can be sent: the rest is written as \\udcNN."""
    return name.encode("utf-8", "backslashreplace").decode()
