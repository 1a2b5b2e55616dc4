"""The runs below a directory: found, and looked at no more often than is useful."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from threading import Lock
from typing import Any

from perilune.web.run import Run
from perilune.web.videos import text

DEEPEST = 8  # directories below the one that is watched
MOST_DIRECTORIES = 20_000
MOST_ENTRIES = 20_000  # of a directory
MOST_RUNS = 1_000
AT_ONCE = 0.3  # seconds of reading before there is an answer
FRESH = 0.5  # seconds that a look at the files is good for
PATIENCE = 20  # times as long as a look took passes before the next, so that it takes no more than a twentieth


class Watched:
    """The runs below ``root``, looked at when somebody asks, and no more often than is useful."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: dict[str, Run] = {}
        self.words: str | None = None
        self._versions = itertools.count(1)
        self._lock = Lock()
        self._due = 0.0

    def look(self) -> dict[str, Run]:
        """The runs that there are now, by name."""
        with self._lock:
            began = time.monotonic()
            if began >= self._due:
                self._look()
                now = time.monotonic()
                self._due = now + max(FRESH, PATIENCE * (now - began))
            return self.runs

    def told(self) -> list[dict[str, Any]]:
        """What there is to say of every run, within about ``AT_ONCE``: ``catch_up`` reads what was left out."""
        until = time.monotonic() + AT_ONCE
        return [
            run.told() if run.is_told or time.monotonic() < until else run.outlined() for run in self.look().values()
        ]

    def catch_up(self) -> dict[str, Run]:
        """The runs that there are now; those of which not all was told are read, for ``AT_ONCE``, and have changed."""
        until = time.monotonic() + AT_ONCE
        for run in self.look().values():
            if run.behind and time.monotonic() < until:
                run.version = next(self._versions)
                run.told()
        return self.runs

    def _look(self) -> None:
        directories, self.words = find(self.root)
        found = {}
        for directory in directories:
            name = text(directory.relative_to(self.root).as_posix())
            run = self.runs.get(name)
            found[name] = run if run is not None and run.directory == directory else Run(directory, name)
        for run in found.values():
            run.look(self._versions)
        self.runs = dict(sorted(found.items()))


def find(root: Path) -> tuple[list[Path], str | None]:
    """The runs at or below ``root``, and what there is to say of the search. Links are not followed."""
    runs: list[Path] = []
    level, looked, unread = [root], 0, 0
    for _ in range(DEEPEST + 1):
        below = []
        for directory in level:
            looked += 1
            if looked > MOST_DIRECTORIES or len(runs) >= MOST_RUNS:
                return runs, f"There is more than is searched: {MOST_DIRECTORIES:,} directories, {MOST_RUNS:,} runs."
            try:
                with os.scandir(directory) as entries:
                    inside = list(itertools.islice(entries, MOST_ENTRIES))
                if any(one.name == "config.json" and one.is_file(follow_symlinks=False) for one in inside):
                    runs.append(directory)
                    continue
                below += [
                    directory / one.name
                    for one in inside
                    if not one.name.startswith(".") and one.is_dir(follow_symlinks=False)
                ]
            except FileNotFoundError:  # removed just now, or still to come
                continue
            except OSError:
                unread += 1
        level = below
    words = [f"{unread} of the directories cannot be read."] if unread else []
    if level:
        words.append(f"What is more than {DEEPEST} directories deep is not searched.")
    return runs, " ".join(words) or None
