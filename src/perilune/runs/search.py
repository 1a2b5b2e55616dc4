"""Find the runs in a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from perilune.runs import files

MAX_DEPTH = 8  # levels of directories below the root
MAX_DIRECTORIES = 20_000
MAX_RUNS = 1_000
SEARCH_REPORT, SEARCH_SPACE = "report.html", "space.toml"  # of a search for settings
LISTED = 8  # runs that an error lists


def find_runs(root: Path, depth: int = MAX_DEPTH) -> tuple[list[Path], str | None]:
    """Return the run directories at or at most ``depth`` levels below ``root``, and a message about what is missing.

    The search does not follow links and skips hidden directories.
    """
    runs: list[Path] = []
    errors: list[OSError] = []
    is_cut = False
    for searched, (name, below, found) in enumerate(os.walk(root, onerror=errors.append)):
        if searched >= MAX_DIRECTORIES or len(runs) >= MAX_RUNS:
            return runs, f"The search stopped after {MAX_DIRECTORIES:,} directories or {MAX_RUNS:,} runs."
        directory = Path(name)
        below[:] = [one for one in below if not one.startswith(".") and not files.is_link(directory / one)]
        if "config.json" in found and not files.is_link(directory / "config.json"):
            runs.append(directory)
            below.clear()
        elif len(directory.relative_to(root).parts) == depth:
            is_cut |= bool(below)
            below.clear()
    unreadable = sum(not isinstance(error, FileNotFoundError) for error in errors)  # the others were just removed
    noun = "directory" if unreadable == 1 else "directories"
    messages = [f"{unreadable} {noun} cannot be read."] if unreadable else []
    if is_cut:
        messages.append(f"Directories more than {depth} levels deep are not searched.")
    return runs, " ".join(messages) or None


def find_searches(runs: Iterable[Path], root: Path) -> list[Path]:
    """Return the directories at or below ``root`` of searches for settings that have a report and some of ``runs``."""
    directories = dict.fromkeys(run.parent.parent for run in runs if len(run.relative_to(root).parts) >= 2)
    return [one for one in directories if all(_is_file(one / name) for name in (SEARCH_REPORT, SEARCH_SPACE))]


def _is_file(path: Path) -> bool:
    return path.is_file() and not files.is_link(path)


def choice_of(directory: Path) -> str:
    """Return a sentence that lists the runs in ``directory`` to choose from; "" if there are none."""
    runs = [str(run) for run in sorted(find_runs(directory, depth=2)[0])]
    if not runs:
        return ""
    more = f" and {len(runs) - LISTED} more (perilune list {directory})" if len(runs) > LISTED else ""
    which = f"one of its {len(runs)} runs" if len(runs) > 1 else "its run"
    return f"Pass {which}: {', '.join(runs[:LISTED])}{more}."
