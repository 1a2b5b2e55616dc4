"""Weights on the way: what the agent was before it learned anything, and at evaluations spread evenly over the run.

RUN/snapshots/00000.safetensors is before the first step, NNNNN that of evaluation number NNNNN. Learning can be looked
at in them afterwards; nothing in a training reads them.
"""

from __future__ import annotations

import re
from pathlib import Path

from perilune.agent.dqn import Agent
from perilune.runs import files
from perilune.runs.weights import save_weights

DIRECTORY = "snapshots"
MOST = 16  # in a run, however long it is


def is_kept(number: int, newest: int) -> bool:
    """Whether evaluation ``number`` is kept once there are ``newest``: every one, or every second, fourth, ..."""
    stride = 1
    while newest // stride >= MOST:
        stride *= 2
    return number % stride == 0


def take(directory: Path, agent: Agent, environment: str, number: int) -> None:
    """Write the weights as they are after evaluation ``number``, unless others stand for it; drop those too many.

    Raises:
        RunDirectoryError: they cannot be written.
    """
    if not is_kept(number, number):
        return
    try:
        (directory / DIRECTORY).mkdir(exist_ok=True)
        save_weights(directory / DIRECTORY / f"{number:05d}.safetensors", agent, environment)
        for path in paths(directory):
            if not is_kept(int(path.stem), number):
                path.unlink()
    except OSError as error:
        raise files.cannot("written", directory / DIRECTORY, error) from error


def cut(directory: Path, newest: int) -> None:
    """Remove those after evaluation ``newest``, where a run goes on from: they will be taken again."""
    for path in paths(directory):
        if int(path.stem) > newest:
            path.unlink(missing_ok=True)


def paths(directory: Path) -> list[Path]:
    """All snapshots of a run, in their order."""
    found = [path for path in (directory / DIRECTORY).glob("*.safetensors") if re.fullmatch(r"\d{5,9}", path.stem)]
    return sorted(found, key=lambda path: int(path.stem))
