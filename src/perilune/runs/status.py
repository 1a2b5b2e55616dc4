"""Determine whether a run is running, finished, failed or interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perilune.errors import PeriluneError
from perilune.runs import checkpoint, failure, lock
from perilune.runs.checkpoint import Checkpoint

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
UNREADABLE = "unreadable"  # config.json cannot be read


@dataclass(frozen=True)
class Status:
    """The status of a run.

    Attributes:
        state: "running", "finished", "failed" or "interrupted".
        owner: the process that uses the run, or None.
        error: the error that ended training, or None.
        newest: the newest readable checkpoint, or None.
        damaged: a sentence about each newer checkpoint that cannot be read.
    """

    state: str
    owner: str | None
    error: str | None
    newest: Checkpoint | None
    damaged: tuple[str, ...]


def read_status(directory: Path) -> Status:
    """Return the status of a run. Checkpoints that are damaged or were just removed are skipped.

    Args:
        directory: the run directory.
    """
    newest, damaged = None, []
    for path in reversed(checkpoint.paths(directory)):
        try:
            newest = checkpoint.read(path)
            break
        except (PeriluneError, FileNotFoundError) as fault:
            damaged.append(str(fault))
    owner, error = lock.owner(directory), failure.read(directory)
    if owner is not None:
        state = RUNNING
    elif newest is not None and newest.training.finished:
        state = FINISHED
    else:
        state = INTERRUPTED if error is None else FAILED
    return Status(state, owner, error, newest, tuple(damaged))
