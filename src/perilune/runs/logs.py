"""Write and read the logs of a run: JSON Lines files that grow during training.

A run that resumes first truncates each log to its size at the checkpoint. Readers ignore an unfinished last line.
``runs/tables.py`` follows a log that is growing.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from perilune._utils.validation import Natural
from perilune.errors import FileFormatError, PeriluneWarning, RunDirectoryError
from perilune.runs import failure, files, manifest
from perilune.runs.layout import FILES
from perilune.runs.lines import TAIL, Lines
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics

LARGEST_LOG = 2**32  # bytes
ENCODER = msgspec.json.Encoder(enc_hook=lambda value: value.item())  # NumPy scalars
Record = TypeVar("Record", Episode, Metrics, Evaluated, HealthWarning)


class LogState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The size and checksum of a log at a checkpoint.

    Attributes:
        name: file name of the log.
        size: bytes.
        sha256: SHA-256 of these bytes, in hexadecimal.
    """

    name: str
    size: Natural
    sha256: str


class LogWriter(AbstractContextManager["LogWriter"]):
    """Append events to a run's logs. Each line reaches the operating system before training continues.

    Args:
        directory: the run directory.
        logs: the logs at the checkpoint from which training resumes, empty for a new run. Later lines are
            removed, because training writes them again.

    Raises:
        RunDirectoryError: a log cannot be written, or no longer exists.
        FileFormatError: a log does not start with the content that it had at the checkpoint.
    """

    def __init__(self, directory: Path, logs: Sequence[LogState] = ()) -> None:
        known = {log.name: log for log in logs}
        self._directory = directory
        self._digests = {name: _truncate(directory / name, known.get(name)) for name in FILES.values()}
        self._files = {name: files.open_log(directory / name) for name in FILES.values()}

    def write(self, event: Event) -> None:
        """Append an event if its type is logged. A number that is not finite becomes null.

        Args:
            event: any training event. Only Episode, Metrics, Evaluated and HealthWarning are logged.
        """
        name = FILES.get(type(event))
        if name is None:
            return
        line = ENCODER.encode(event._asdict()) + b"\n"
        self._digests[name].update(line)
        with files.reported("written", self._directory / name):
            self._files[name].write(line)
            self._files[name].flush()

    def flush(self) -> list[LogState]:
        """Flush the logs to disk. Restore logs that were removed or replaced during training.

        Returns:
            The size and checksum of each log.
        """
        logs = []
        for name in self._files:
            self._put_back(name)
            with files.reported("written", self._directory / name):
                descriptor = self._files[name].fileno()
                os.fsync(descriptor)
                size = os.fstat(descriptor).st_size
            logs.append(LogState(name=name, size=size, sha256=self._digests[name].hexdigest()))
        return logs

    def _put_back(self, name: str) -> None:
        """Restore a log if its path no longer leads to the open file, because resuming requires the log."""
        path, file = self._directory / name, self._files[name]
        with files.reported("read", path):
            with suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), os.fstat(file.fileno())):
                    return
            file.seek(0)
            content = file.read()
        files.write(path, content)
        file.close()
        self._files[name] = files.open_log(path)
        message = f"{path} was removed or replaced during training. Perilune has restored it."
        warnings.warn(message, PeriluneWarning, stacklevel=2)

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            with suppress(OSError):  # a full disk has already been reported
                file.close()


def check_start(path: Path, log: LogState) -> hashlib._Hash:
    """Check that a log starts with the content that it had at a checkpoint.

    Args:
        path: the log.
        log: its size and checksum at the checkpoint.

    Returns:
        The hash of that content, which can be updated with more bytes.

    Raises:
        RunDirectoryError: the log does not exist or cannot be read.
        FileFormatError: the log does not start with that content.
    """
    sha256 = files.digest(path, log.size)
    if sha256.hexdigest() != log.sha256:
        raise FileFormatError(f"{path} does not start with the {log.size:,} bytes that it had at the checkpoint")
    return sha256


def _truncate(path: Path, log: LogState | None) -> hashlib._Hash:
    """Truncate a log to its size at a checkpoint, and return the hash of what remains."""
    if log is None or (log.size == 0 and not path.exists()):
        return hashlib.sha256()
    try:
        sha256 = check_start(path, log)
    except (FileFormatError, RunDirectoryError) as error:
        if files.is_link(path):
            raise
        raise type(error)(
            f"{error}. This run cannot be resumed without this log. Restore it, or start a new run from the weights "
            f"in Python: DQN.load({str(path.parent)!r}).train(...)"
        ) from error
    with files.opened(path, "r+b") as file:
        if os.fstat(file.fileno()).st_size > log.size:  # truncating would change the time of an unchanged log
            file.truncate(log.size)
    return sha256


def read_log(directory: Path, kind: type[Record]) -> list[Record]:
    """Read all complete records of a log.

    Args:
        directory: the run directory.
        kind: the type of the records: ``Episode``, ``Metrics``, ``Evaluated`` or ``HealthWarning``.

    Returns:
        The records in order; an empty list if the log does not exist.

    Raises:
        RunDirectoryError: the log cannot be read.
        FileFormatError: a line is damaged, or the log is not a regular file or is too large.
    """
    path, lines = directory / FILES[kind], Lines(kind)
    if not path.exists():
        return []
    with files.opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST_LOG:
            raise FileFormatError(f"{path} has {size:,} bytes, but at most {LARGEST_LOG:,} are allowed")
        records = [kind(*msgspec.structs.astuple(row)) for rows in lines.read(file) for row in rows]
    if lines.bad:
        raise FileFormatError(
            f"{path}, line {lines.first_bad}, is damaged: {lines.error}. Delete this line to read the others."
        )
    return records


def last_record(directory: Path, kind: type[Record]) -> Record | None:
    """Read the last complete record of a log that may be growing.

    Args:
        directory: the run directory.
        kind: the type of the records, as in ``read_log``.

    Returns:
        The record; None if the end of the log has no readable line.
    """
    try:
        with files.opened(directory / FILES[kind]) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            end = file.read(TAIL)
    except (OSError, FileFormatError):
        return None
    rows = Lines(kind).decode(end[: end.rfind(b"\n") + 1])
    return kind(*msgspec.structs.astuple(rows[-1])) if rows else None


def env_steps(directory: Path) -> int:
    """Return the environment steps of the newest record in the logs of a run that may be growing; 0 without records.

    Args:
        directory: the run directory.
    """
    kinds: tuple[Any, ...] = (Episode, Metrics, Evaluated)
    return max(record.env_steps if (record := last_record(directory, kind)) else 0 for kind in kinds)


@dataclass(frozen=True)
class Run:
    """The settings and all logged events of a run.

    Attributes:
        directory: the run directory.
        config: content of config.json: environment, seed, reward threshold, and all settings.
        episodes: the episodes, in the order in which they ended.
        metrics: the training metrics, one record every ``metrics_every`` environment steps.
        evaluations: the greedy evaluations during training.
        notices: the health warnings.
        failure: the error that ended the run, or None if it has not failed.
    """

    directory: Path
    config: dict[str, Any]
    episodes: list[Episode]
    metrics: list[Metrics]
    evaluations: list[Evaluated]
    notices: list[HealthWarning]
    failure: str | None = None


def read_run(directory: Path) -> Run:
    """Read a run directory. The run may still be training.

    Example::

        from pathlib import Path

        from perilune.runs.logs import read_run

        run = read_run(Path("runs/moon"))
        print([evaluation.mean_return for evaluation in run.evaluations])

    Args:
        directory: the run directory.

    Returns:
        The settings and all logged events.

    Raises:
        RunDirectoryError: the directory is not a run.
        FileFormatError: a file is damaged or has another format.
    """
    config = manifest.read_config(directory)
    return Run(
        directory,
        config,
        episodes=read_log(directory, Episode),
        metrics=read_log(directory, Metrics),
        evaluations=read_log(directory, Evaluated),
        notices=read_log(directory, HealthWarning),
        failure=failure.read(directory),
    )
