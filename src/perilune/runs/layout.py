"""The run directory: a contract that pictures, benchmarks and people read.

settings.toml       every setting, for ``perilune train --config``
config.json         what was trained, with every setting; it is there as soon as there is a run
host.json           the machine and the versions that made it
episodes.jsonl      a line per episode      (events.Episode)
metrics.jsonl       a line now and then     (events.Metrics)
evaluations.jsonl   a line per evaluation   (events.Evaluated)
notices.jsonl       a line per thing that is off (events.HealthWarning)
best.safetensors    weights at the best evaluation, final.safetensors those at the end
snapshots/          weights on the way (snapshots)
checkpoints/        all that is needed to go on (checkpoint)
.lock, owner.json   which process it belongs to now
initial_state.png, plots/, maps/, report.html
videos/             films, and beside each its telemetry
tensorboard/        the same for TensorBoard, where it was asked for
score.json          what a benchmark made of it (bench.learning)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np
from threadpoolctl import threadpool_info

from perilune._utils.validation import LARGEST, check_fields
from perilune.errors import ConfigError, FileFormatError, PeriluneWarning, RunDirectoryError
from perilune.runs import files
from perilune.runs.files import Stored
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics

FORMAT = 1
FILES: dict[type[NamedTuple], str] = {
    Episode: "episodes.jsonl",
    Metrics: "metrics.jsonl",
    Evaluated: "evaluations.jsonl",
    HealthWarning: "notices.jsonl",
}
WEIGHTS = {"best": "best.safetensors", "final": "final.safetensors"}
Kinds = tuple[type, ...]
NUMBER: Kinds = (float, int, type(None))
CONFIG: dict[str, Kinds] = {
    "environment": (str,), "reward_threshold": NUMBER, "seed": (int,), "agent": (dict,), "train": (dict,),
}  # fmt: skip
# What JSON has for each kind of field; a number that was not finite is null.
JSON_KINDS: dict[Any, Kinds] = {
    int: (int,), float: NUMBER, float | None: NUMBER, bool: (bool,), str | None: (str, type(None)),
}  # fmt: skip
LARGEST_LOG = 2**32  # bytes
LONGEST = 2**18  # bytes of a line
LOCK, OWNER = ".lock", "owner.json"
PARTIAL = (
    "*.partial",
    "videos/*.partial",
    "snapshots/*.partial",
    "checkpoints/*.partial",
)  # of a process that was killed
RUN_FILES = (
    *("host.json", "settings.toml", "initial_state.png", "score.json", *FILES.values(), *WEIGHTS.values()),
    *("plots/curves.png", "plots/curves.svg", "videos/episode-*.mp4", "videos/best.mp4", "videos/final.mp4"),
    *("videos/episode-*.jsonl", "videos/best.jsonl", "videos/final.jsonl", "videos/*.gif"),
    *("videos/*-overlay.mp4", "videos/*-overlay.jsonl", "videos/stages.mp4"),
    *("maps/*.png", "maps/*.svg", "report.html", "tensorboard/events.out.tfevents.*"),
    *("snapshots/*.safetensors", "checkpoints/*.json", "checkpoints/objects/*", OWNER),
    *PARTIAL,
    "config.json",  # last, so that a run half removed is still one
)
DIRECTORIES = ("plots", "videos", "maps", "tensorboard", "snapshots", "checkpoints/objects", "checkpoints")


def free_directory(environment: str, seed: int, parent: Path = Path("runs")) -> Path:
    """The first of runs/ENV-seedS, runs/ENV-seedS-2, ... that does not exist."""
    base = parent / f"{environment.replace('/', '_').replace(':', '_')}-seed{seed}"
    number, directory = 1, base
    while directory.exists():
        number += 1
        directory = base.with_name(f"{base.name}-{number}")
    return directory


def check_free(directory: Path, overwrite: bool = False) -> None:
    """Refuse a directory that a new run cannot be put into.

    Raises:
        RunDirectoryError: it is a file, or holds a run (which may be replaced only where ``overwrite`` says so) or
            anything else.
    """
    if (directory / "config.json").exists():
        if not overwrite:
            raise RunDirectoryError(
                f"{directory} already holds a run. Go on with it (perilune resume), choose another directory, or ask "
                "to overwrite it (--overwrite)."
            )
    elif _foreign(directory):
        raise RunDirectoryError(
            f"{directory} holds files that are not a run's, so no run is put there. Choose an empty directory."
        )


def create(directory: Path, overwrite: bool = False) -> None:
    """Make ``directory``, which is claimed, ready for a new run.

    Raises:
        RunDirectoryError: it cannot be written, or ``check_free`` refuses it.
    """
    check_free(directory, overwrite)
    try:
        _remove_run(directory)
    except OSError as error:
        raise files.cannot("written", directory, error) from error


def _foreign(directory: Path) -> bool:
    """Whether there is anything in ``directory`` that is not a run's."""
    ours = {path for pattern in RUN_FILES for path in directory.glob(pattern)} | {directory / LOCK}
    return any(path not in ours for path in directory.rglob("*") if not path.is_dir())


def _remove_run(directory: Path) -> None:
    """Remove what a run consists of, finished or not, and nothing that somebody else put beside it."""
    for pattern in RUN_FILES:
        for path in directory.glob(pattern):
            if path != directory / OWNER:
                path.unlink()
    for name in DIRECTORIES:
        if (directory / name).is_dir() and not any((directory / name).iterdir()):
            (directory / name).rmdir()


def sweep(directory: Path) -> None:
    """Remove what a process that was killed did not write to its end."""
    for pattern in PARTIAL:
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def write_config(directory: Path, content: dict[str, Any]) -> None:
    """Write config.json, after host.json: where there is a config.json, there is all that makes a run."""
    files.write_json(directory / "host.json", host())
    files.write_json(directory / "config.json", content)


def version() -> str:
    """Perilune's own version."""
    try:
        return metadata.version("perilune")
    except metadata.PackageNotFoundError:
        return "not installed"


def host() -> dict[str, Any]:
    """What machine and which versions this process runs on."""
    every = [library for library in threadpool_info() if library["user_api"] == "blas"]
    every.sort(key=lambda library: "numpy" not in library["filepath"])  # others may have brought one too
    blas: dict[str, Any] = every[0] if every else {}
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


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log of the run, and what of it there was."""

    name: str
    stored: Stored

    def __post_init__(self) -> None:
        check_fields(self)
        if self.name not in FILES.values():
            raise ConfigError("name", self.name, f"one of {', '.join(FILES.values())}")


class RunLog:
    """Appends events to a run's JSON lines, each line flushed before the training goes on.

    Args:
        directory: the run.
        logs: what there was of each log at the checkpoint that the training goes on from; what was written after that
            is cut off, for it will be written again. Empty for a new run.

    Raises:
        RunDirectoryError: they cannot be written, or one is not there any more.
        FileFormatError: a log does not begin with what it was.
    """

    def __init__(self, directory: Path, logs: Sequence[Log] = ()) -> None:
        known = {log.name: log.stored for log in logs}
        self._directory = directory
        self._digests = {name: _cut(directory / name, known.get(name)) for name in FILES.values()}
        try:
            self._files = {name: (directory / name).open("a+b") for name in FILES.values()}
        except OSError as error:
            raise files.cannot("written", directory, error) from error

    def write(self, event: Event) -> None:
        """Append ``event`` where it is of a kind that is logged. Numbers that are not finite become null."""
        name = FILES.get(type(event))
        if name is None:
            return
        record = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in event._asdict().items()
        }
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        self._digests[name].update(line)
        try:
            self._files[name].write(line)
            self._files[name].flush()
        except OSError as error:
            raise files.cannot("written", self._directory / name, error) from error

    def flushed(self) -> list[Log]:
        """What there is of each log, now on disk for certain. One that somebody removed meanwhile is written again."""
        logs = []
        for name in self._files:
            self._put_back(name)
            file = self._files[name]
            try:
                os.fsync(file.fileno())
                size = os.fstat(file.fileno()).st_size
            except OSError as error:
                raise files.cannot("written", self._directory / name, error) from error
            logs.append(Log(name=name, stored=Stored(sha256=self._digests[name].hexdigest(), size=size)))
        return logs

    def _put_back(self, name: str) -> None:
        """Where a log is not the file any more that is open, write it again: no checkpoint goes on without it."""
        path, file = self._directory / name, self._files[name]
        try:
            with suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), os.fstat(file.fileno())):
                    return
            file.seek(0)
            content = file.read()
        except OSError as error:
            raise files.cannot("read", path, error) from error
        files.write(path, content)
        file.close()
        try:
            self._files[name] = path.open("a+b")
        except OSError as error:
            raise files.cannot("written", path, error) from error
        words = f"{path} was removed, or replaced, while the training wrote it. It is written again, as it was."
        warnings.warn(words, PeriluneWarning, stacklevel=2)

    def close(self) -> None:
        for file in self._files.values():
            with suppress(OSError):  # of a full disk the line that did not fit has told already
                file.close()


def _cut(path: Path, stored: Stored | None) -> hashlib._Hash:
    """Cut a log off behind what it was, which must be there still; the digest of that."""
    if stored is None or (stored.size == 0 and not path.exists()):
        return hashlib.sha256()
    remedy = (
        "Put the log back as it was; without it this run cannot be gone on with. Its weights can begin another one, in "
        f"Python: DQN.load({str(path.parent)!r}).train(...)"
    )
    if not path.exists():
        raise RunDirectoryError(f"{path} is not there any more. {remedy}")
    found, sha256 = files.digest(path, stored.size)
    if found != stored:
        raise FileFormatError(
            f"{path} does not begin any more with the {stored.size:,} bytes that the checkpoint knows. {remedy}"
        )
    with files.opened(path, "r+b") as file:
        try:
            file.truncate(stored.size)
        except OSError as error:
            raise files.cannot("written", path, error) from error
    return sha256


def open_log(directory: Path, logs: Sequence[Log] = ()) -> closing[RunLog]:
    """A RunLog for a ``with`` block, closed whatever happens."""
    return closing(RunLog(directory, logs))


@dataclass(frozen=True)
class Run:
    """A run directory, read."""

    directory: Path
    config: dict[str, Any]
    episodes: list[Episode]
    metrics: list[Metrics]
    evaluations: list[Evaluated]
    notices: list[HealthWarning]


Record = TypeVar("Record", Episode, Metrics, Evaluated, HealthWarning)


def read(directory: Path) -> Run:
    """Read a run, also one that is still being written: an unfinished last line is left out.

    Raises:
        RunDirectoryError: there is no run there.
        FileFormatError: a file is damaged or of another format.
    """
    config = read_config(directory)
    return Run(
        directory,
        config,
        read_log(directory, Episode),
        read_log(directory, Metrics),
        read_log(directory, Evaluated),
        read_log(directory, HealthWarning),
    )


def read_config(directory: Path) -> dict[str, Any]:
    """config.json of a run.

    Raises:
        RunDirectoryError: there is no run there.
        FileFormatError: it is damaged or of another format.
    """
    path = directory / "config.json"
    if not path.exists():
        raise RunDirectoryError(f"{directory} holds no run: there is no config.json. Give a run directory.")
    config = files.read_json(path)
    if config.get("format") != FORMAT:
        raise FileFormatError(f"{path} has format {config.get('format')!r}; this version of Perilune reads {FORMAT}")
    for key, kinds in CONFIG.items():
        if key not in config or not _is(config[key], kinds):
            raise FileFormatError(f"{path}: {key} is {config.get(key)!r}"[:300] + ", which is not what a run has there")
    return config


def family(config: dict[str, Any]) -> str:
    """A short text that is the same for exactly those runs whose config.json differs in the seed alone.

    Raises:
        FileFormatError: ``config`` is nested more deeply than a run's is.
    """
    settings = {name: value for name, value in config.items() if name != "seed"}
    try:
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    except RecursionError as error:
        raise FileFormatError("config.json is nested too deeply to be compared") from error


def _is(value: Any, kinds: Kinds) -> bool:
    """Whether a value from JSON is of one of the kinds, and no whole number that is too large for any."""
    return type(value) in kinds and (type(value) is not int or abs(value) < LARGEST)


def read_log(directory: Path, kind: type[Record]) -> list[Record]:
    """One of a run's logs; empty where there is none.

    Raises:
        FileFormatError: a line is damaged.
    """
    path = directory / FILES[kind]
    if not path.exists():
        return []
    kinds = [JSON_KINDS.get(hint, (str,)) for hint in get_type_hints(kind).values()]
    records = []
    for number, line in enumerate(_lines(path), 1):
        try:
            files.check_json(line, path, LONGEST)
            record = kind(**json.loads(line.decode()))
            for name, value, allowed in zip(kind._fields, record, kinds, strict=True):
                if not _is(value, allowed):
                    raise TypeError(f"{name} is {str(value)[:100]}")
        except (ValueError, TypeError, RecursionError) as error:
            raise FileFormatError(
                f"{path}, line {number}, is not a record of this format: {error}. Delete that line to read the rest."
            ) from error
        records.append(record)
    return records


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a log one by one, each without its end; what follows the last end is unfinished, and left out."""
    with files.opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST_LOG:
            raise FileFormatError(f"{path} has {size:,} bytes; at most {LARGEST_LOG:,} are read")
        try:
            while (line := file.readline(LONGEST + 2)).endswith(b"\n") or len(line) > LONGEST + 1:
                yield line.removesuffix(b"\n")
        except OSError as error:
            raise files.cannot("read", path, error) from error
