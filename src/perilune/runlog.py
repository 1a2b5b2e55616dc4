"""The run directory: a contract that pictures, benchmarks and people read.

config.json         what was trained, with every setting
host.json           the machine and the versions that made it
episodes.jsonl      a line per episode      (train.Episode)
metrics.jsonl       a line now and then     (train.Metrics)
evaluations.jsonl   a line per evaluation   (train.Evaluated)
best.safetensors    weights at the best evaluation, final.safetensors those at the end
initial_state.png, plots/, videos/
score.json          what a benchmark made of it (bench.learning)
"""

from __future__ import annotations

import json
import math
import os
import platform
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np
from threadpoolctl import threadpool_info

from perilune.config import DQNConfig, TrainConfig, to_json
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.train import Episode, Evaluated, Event, Metrics

FORMAT = 1
FILES: dict[type[NamedTuple], str] = {
    Episode: "episodes.jsonl",
    Metrics: "metrics.jsonl",
    Evaluated: "evaluations.jsonl",
}
CHECKPOINTS = {"best": "best.safetensors", "final": "final.safetensors"}
CONFIG: dict[str, Any] = {
    "environment": str, "solved_mark": int | float | None, "seed": int, "agent": dict, "train": dict,
}  # fmt: skip
# What JSON has for each kind of field; a number that was not finite is null.
JSON_KINDS: dict[Any, Any] = {int: int, float: int | float | None, float | None: int | float | None, bool: bool}
RUN_FILES = (
    *("host.json", "initial_state.png", "score.json", *FILES.values(), *CHECKPOINTS.values()),
    *("plots/curves.png", "plots/curves.svg", "videos/episode-*.mp4", "videos/best.mp4", "videos/final.mp4"),
    *("*.safetensors.partial", "videos/*.mp4.partial"),  # of a process that was killed
    "config.json",  # last, so that a run half removed is still one
)


def free_directory(environment: str, seed: int, parent: Path = Path("runs")) -> Path:
    """The first of runs/ENV-seedS, runs/ENV-seedS-2, ... that does not exist."""
    base = parent / f"{environment.replace('/', '_').replace(':', '_')}-seed{seed}"
    number, directory = 1, base
    while directory.exists():
        number += 1
        directory = base.with_name(f"{base.name}-{number}")
    return directory


def create(directory: Path, overwrite: bool = False) -> None:
    """Make ``directory`` ready for a new run.

    Raises:
        RunDirectoryError: it cannot be written, is a file, or holds a run (removed only where ``overwrite`` says so)
            or anything else.
    """
    try:
        if (directory / "config.json").exists():
            if not overwrite:
                raise RunDirectoryError(
                    f"{directory} already holds a run. Choose another directory, or ask to overwrite it (--overwrite)."
                )
            _remove_run(directory)
        elif directory.is_dir() and any(directory.iterdir()):
            raise RunDirectoryError(
                f"{directory} holds files that are not a run's, so no run is put there. Choose an empty directory."
            )
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except RunDirectoryError:
        raise
    except OSError as error:
        raise RunDirectoryError(
            f"the run directory {directory} cannot be written: {error.strerror or error}. Choose another one."
        ) from error


def _remove_run(directory: Path) -> None:
    """Remove what a run consists of, finished or not, and nothing that somebody else put beside it."""
    for pattern in RUN_FILES:
        for path in directory.glob(pattern):
            path.unlink()
    for name in ("plots", "videos"):
        if (directory / name).is_dir() and not any((directory / name).iterdir()):
            (directory / name).rmdir()


def write_header(
    directory: Path,
    *,
    environment: str,
    seed: int,
    agent: DQNConfig,
    train: TrainConfig,
    solved_mark: float | None,
) -> None:
    """Write config.json and host.json."""
    config = {
        "format": FORMAT,
        "environment": environment,
        "solved_mark": solved_mark,
        "seed": int(seed),
        "agent": to_json(agent),
        "train": to_json(train),
    }
    _write_json(directory / "config.json", config)
    _write_json(directory / "host.json", host())


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def version() -> str:
    """Perilune's own version."""
    try:
        return metadata.version("perilune")
    except metadata.PackageNotFoundError:
        return "not installed"


def host() -> dict[str, Any]:
    """What machine and which versions this process runs on."""
    blas: dict[str, Any] = next((library for library in threadpool_info() if library["user_api"] == "blas"), {})
    return {
        "perilune": version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "gymnasium": metadata.version("gymnasium"),
        "blas": {key: blas.get(key) for key in ("internal_api", "version", "architecture", "num_threads")},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


class RunLog:
    """Appends events to a run's JSON lines, each line flushed before the training goes on."""

    def __init__(self, directory: Path) -> None:
        self._files = {kind: (directory / name).open("a", encoding="utf-8") for kind, name in FILES.items()}

    def write(self, event: Event) -> None:
        """Append ``event`` where it is of a kind that is logged. Numbers that are not finite become null."""
        file = self._files.get(type(event))
        if file is not None:
            record = {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in event._asdict().items()
            }
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def open_log(directory: Path) -> closing[RunLog]:
    """A RunLog for a ``with`` block, closed whatever happens."""
    return closing(RunLog(directory))


@dataclass(frozen=True)
class Run:
    """A run directory, read."""

    directory: Path
    config: dict[str, Any]
    episodes: list[Episode]
    metrics: list[Metrics]
    evaluations: list[Evaluated]


Record = TypeVar("Record", Episode, Metrics, Evaluated)


def read(directory: Path) -> Run:
    """Read a run, also one that is still being written: an unfinished last line is left out.

    Raises:
        RunDirectoryError: there is no run there.
        FileFormatError: a file is damaged or of another format.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise RunDirectoryError(f"{directory} holds no run: there is no config.json. Give a run directory.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise FileFormatError(f"{path} has format {found!r}; this version of Perilune reads {FORMAT}")
    for key, kind in CONFIG.items():
        if key not in config or not isinstance(config[key], kind):
            raise FileFormatError(f"{path}: {key} is {config.get(key)!r}, which is not what a run has there")
    return Run(directory, config, _lines(directory, Episode), _lines(directory, Metrics), _lines(directory, Evaluated))


def _lines(directory: Path, kind: type[Record]) -> list[Record]:
    path = directory / FILES[kind]
    if not path.exists():
        return []
    hints = get_type_hints(kind)
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):  # what follows the last \n is unfinished
        try:
            record = kind(**json.loads(line))
            for name, value in record._asdict().items():
                if not isinstance(value, JSON_KINDS.get(hints[name], str)):
                    raise TypeError(f"{name} is {value!r}")
        except (ValueError, TypeError, RecursionError) as error:
            raise FileFormatError(f"{path}, line {number}, is not a record of this format: {error}") from error
        records.append(record)
    return records
