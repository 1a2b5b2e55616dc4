"""Record in failure.json that a training run failed. A run that is resumed removes the file."""

from __future__ import annotations

from pathlib import Path

from perilune.errors import PeriluneError
from perilune.runs import files

FILE = "failure.json"
LONGEST = 2_000  # characters of the error


def write(directory: Path, error: Exception, env_steps: int) -> None:
    """Record the error that ended a run.

    Args:
        directory: the run directory.
        error: the error.
        env_steps: environment steps so far.
    """
    if (directory / "config.json").exists():  # the directory is still a run
        message = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
        files.write_json(directory / FILE, {"error": message, "env_steps": env_steps})


def read(directory: Path) -> str | None:
    """Return the error that ended a run, or None if the run has not failed.

    Args:
        directory: the run directory.
    """
    if not (directory / FILE).exists():
        return None
    try:
        found = files.read_json(directory / FILE)
        return f"{str(found['error'])[:LONGEST]} (after {int(found['env_steps']):,} environment steps)"
    except (PeriluneError, KeyError, TypeError, ValueError, OverflowError):
        return f"the error cannot be read, because {FILE} is damaged"


def clear(directory: Path) -> None:
    """Remove the record, because the run is resumed.

    Args:
        directory: the run directory.
    """
    with files.reported("written", directory / FILE):
        (directory / FILE).unlink(missing_ok=True)
