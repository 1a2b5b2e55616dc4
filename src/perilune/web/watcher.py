"""Find the runs below a directory and poll them for changes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Lock

from perilune._utils.text import printable
from perilune.web.run import WatchedRun

MAX_DEPTH = 8  # directories below the root
MAX_DIRECTORIES = 20_000
MAX_RUNS = 1_000
POLL_SECONDS = 0.5
MAX_LOAD = 0.05  # share of the time that polling may take


class Watcher:
    """The runs below ``root``. They are polled only while pages ask."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.message: str | None = None
        self._runs: dict[str, WatchedRun] = {}
        self._lock = Lock()
        self._next_poll = 0.0

    def poll(self) -> dict[str, WatchedRun]:
        """Return the runs by name, after a search for new runs and changes if the last search is old enough."""
        with self._lock:
            start = time.monotonic()
            if start >= self._next_poll:
                self._search()
                now = time.monotonic()
                self._next_poll = now + max(POLL_SECONDS, (now - start) / MAX_LOAD)
            return self._runs

    def _search(self) -> None:
        directories, self.message = find_runs(self.root)
        found = {}
        for directory in directories:
            name = printable(directory.relative_to(self.root).as_posix())
            run = self._runs.get(name)
            found[name] = run if run is not None and run.directory == directory else WatchedRun(directory, name)
            found[name].poll()
        self._runs = dict(sorted(found.items()))


def find_runs(root: Path) -> tuple[list[Path], str | None]:
    """Return the run directories at or below ``root``, and a message if the search was cut short.

    The search does not follow links and skips hidden directories.
    """
    runs: list[Path] = []
    errors: list[OSError] = []
    is_cut = False
    for searched, (name, below, files) in enumerate(os.walk(root, onerror=errors.append)):
        if searched >= MAX_DIRECTORIES or len(runs) >= MAX_RUNS:
            return runs, f"The search stopped after {MAX_DIRECTORIES:,} directories or {MAX_RUNS:,} runs."
        directory = Path(name)
        below[:] = [one for one in below if not one.startswith(".") and not (directory / one).is_symlink()]
        if "config.json" in files and not (directory / "config.json").is_symlink():
            runs.append(directory)
            below.clear()
        elif len(directory.relative_to(root).parts) == MAX_DEPTH:
            is_cut |= bool(below)
            below.clear()
    unreadable = sum(not isinstance(error, FileNotFoundError) for error in errors)  # others were just removed
    messages = [f"{unreadable} directories cannot be read."] if unreadable else []
    if is_cut:
        messages.append(f"Directories more than {MAX_DEPTH} levels deep are not searched.")
    return runs, " ".join(messages) or None
