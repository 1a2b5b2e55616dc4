"""Keep snapshots of the weights: the initial ones, and those at evenly spaced evaluations.

RUN/snapshots/00000.safetensors holds the initial weights, and NNNNN.safetensors the weights at evaluation NNNNN.
"""

from __future__ import annotations

import re
from pathlib import Path

from perilune.agent.dqn import Agent
from perilune.runs import files
from perilune.runs.weights import save_weights

DIRECTORY = "snapshots"
MOST = 16  # snapshots per run


def is_kept(number: int, newest: int) -> bool:
    """Return whether snapshot ``number`` is kept after evaluation ``newest``: first all, then every 2nd, 4th, ..."""
    stride = 1
    while newest // stride >= MOST:
        stride *= 2
    return number % stride == 0


def take(directory: Path, agent: Agent, environment: str, number: int) -> None:
    """Write the snapshot of evaluation ``number`` if ``is_kept``, and remove snapshots that are no longer kept."""
    if not is_kept(number, number):
        return
    with files.reported("written", directory / DIRECTORY):
        (directory / DIRECTORY).mkdir(exist_ok=True)
        save_weights(directory / DIRECTORY / f"{number:05d}.safetensors", agent, environment)
        for path in paths(directory):
            if not is_kept(int(path.stem), number):
                path.unlink()


def cut(directory: Path, newest: int) -> None:
    """Remove the snapshots after evaluation ``newest``, which the resumed run writes again."""
    for path in paths(directory):
        if int(path.stem) > newest:
            path.unlink(missing_ok=True)


def paths(directory: Path) -> list[Path]:
    """Return the paths of all snapshots of a run, oldest first."""
    found = [path for path in (directory / DIRECTORY).glob("*.safetensors") if re.fullmatch(r"\d{5,9}", path.stem)]
    return sorted(found, key=lambda path: int(path.stem))
