"""Write and read the logs of a run: JSON Lines files that grow during training.

A run that resumes first truncates each log to its size at the checkpoint. Readers accept a log that grows, is truncated
and continued, is replaced, or does not exist. They ignore an unfinished last line.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock
from typing import IO, Annotated, Any, NamedTuple, TypeVar, get_type_hints

import msgspec
import numpy as np
from msgspec import Meta

from perilune._utils.arrays import Array
from perilune._utils.validation import EXACT, Natural
from perilune.errors import FileFormatError, PeriluneWarning, RunDirectoryError
from perilune.runs import failure, files, manifest
from perilune.runs.layout import FILES
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics

LARGEST_LOG = 2**32  # bytes
MOST_ROWS = 10_000_000  # of a table; several hundred megabytes
MOST_TEXTS = 200  # different strings in a column of a table
LONGEST_TEXT = 1_000  # characters
TAIL = 4096  # bytes; the last bytes read identify a file
GENERATIONS = count(1)  # a new number each time that a log is read from its start
Integer = Annotated[int, Meta(ge=0, le=EXACT)]  # float64 represents all of these
READ_AS: dict[Any, Any] = {int: Integer, float: float | None}  # non-finite numbers are stored as null
NUMBERS = (Integer, float | None, bool)
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
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
        file.truncate(log.size)
    return sha256


class _Lines:
    """Decode the lines of one log, starting where the previous call stopped. Skip and count damaged lines."""

    def __init__(self, kind: type[NamedTuple]) -> None:
        self.hints = {name: READ_AS.get(hint, hint) for name, hint in get_type_hints(kind).items()}
        defaults = kind._field_defaults
        fields: list[Any] = [
            (name, hint, *([defaults[name]] if name in defaults else [])) for name, hint in self.hints.items()
        ]
        struct = msgspec.defstruct(kind.__name__, fields, gc=False, forbid_unknown_fields=True)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)
        self.offset = self.bad = self.first_bad = self._line = 0
        self.error = ""  # of the first damaged line
        self._tail = b""

    def is_continued(self, file: IO[bytes]) -> bool:
        """Return whether ``file`` still contains what was read last."""
        if os.fstat(file.fileno()).st_size < self.offset:
            return False
        file.seek(self.offset - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def read(self, file: IO[bytes]) -> Iterator[list[Any]]:
        """Yield the new complete lines in batches, as objects that have the fields of the event."""
        while True:
            file.seek(self.offset)
            piece = file.read(files.PIECE)
            end = piece.rfind(b"\n") + 1
            if end == 0 and len(piece) < files.PIECE:
                return  # the line is being written
            lines = piece[: end or None]
            self.offset += len(lines)
            self._tail = (self._tail + lines)[-TAIL:]
            if end:  # otherwise the line is longer than any valid line, and its end counts as a damaged line
                yield self.decode(lines)

    def decode(self, lines: bytes) -> list[Any]:
        """Return the objects in complete lines."""
        ends = lines.count(b"\n")
        with suppress(*DECODE_ERRORS):
            rows = self._decoder.decode_lines(lines)
            if len(rows) == ends == (b"\n" + lines).count(b"\n{"):  # each line is one object
                self._line += ends
                return rows
        rows = []
        for line in lines.split(b"\n")[:-1]:
            self._line += 1
            try:
                rows.append(self._decoder.decode(line))
            except DECODE_ERRORS as error:
                if not self.bad:
                    self.first_bad, self.error = self._line, str(error)
                self.bad += 1
        return rows


@dataclass(frozen=True)
class Table:
    """A log as columns.

    Attributes:
        version: identifies the rows. Tables with different rows have different versions, even across logs.
        columns: a column for each field of the event, float64 [rows] for numbers and object [rows] for strings. In
            a column of numbers, null becomes NaN.
        fault: what could not be read; None if the whole log was read.
    """

    version: tuple[int, int]
    columns: Mapping[str, Array]
    fault: str | None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.version[1]


class LogReader:
    """Follow a log that may still be growing. Skip and count damaged lines.

    Args:
        path: the log.
        kind: the type of its events, such as ``Episode``.
    """

    def __init__(self, path: Path, kind: type[NamedTuple]) -> None:
        self._path, self._kind = path, kind
        self._lock = Lock()
        self._begin()

    def _begin(self) -> None:
        self._generation, self._rows = next(GENERATIONS), 0
        self._lines = _Lines(self._kind)
        hints = self._lines.hints.items()
        self._columns: dict[str, Array] = {
            name: np.empty(0, np.float64 if hint in NUMBERS else object) for name, hint in hints
        }
        self._texts: dict[str, dict[str, str]] = {name: {} for name, hint in hints if hint not in NUMBERS}

    def read(self) -> Table:
        """Read the new lines.

        Returns:
            All lines read so far. If the log is damaged, ``fault`` describes the damage.
        """
        with self._lock:
            fault = None
            try:
                with files.opened(self._path) as file:
                    if not self._lines.is_continued(file):
                        self._begin()
                    if self._rows < MOST_ROWS:
                        for rows in self._lines.read(file):
                            self._append(rows)
                            if self._rows >= MOST_ROWS:
                                break
            except (RunDirectoryError, FileFormatError) as error:
                if self._lines.offset:
                    self._begin()
                fault = str(error) if os.path.lexists(self._path) else None
            return Table(
                (self._generation, self._rows),
                {name: column[: self._rows] for name, column in self._columns.items()},
                fault or self._fault(),
            )

    def _fault(self) -> str | None:
        if self._rows >= MOST_ROWS:
            return f"{self._path.name}: only the first {MOST_ROWS:,} lines are read"
        if not self._lines.bad:
            return None
        if self._lines.bad == 1:
            return f"{self._path.name}: damaged line {self._lines.first_bad:,} was skipped"
        return (
            f"{self._path.name}: {self._lines.bad:,} damaged lines were skipped, "
            f"starting at line {self._lines.first_bad:,}"
        )

    def _append(self, rows: list[Any]) -> None:
        stop = self._rows + len(rows)
        for name, column in self._columns.items():
            values = [getattr(row, name) for row in rows]
            if name in self._texts:
                values = [_shared(text, self._texts[name]) for text in values]
            if stop > len(column):  # earlier tables keep the old array
                self._columns[name] = np.empty(max(1024, 2 * stop), column.dtype)
                self._columns[name][: self._rows] = column[: self._rows]
            self._columns[name][self._rows : stop] = np.array(values, column.dtype)
        self._rows = stop


def _shared(text: str | None, known: dict[str, str]) -> str | None:
    """Return the shared copy of a string, which saves memory; None if the column has too many different strings."""
    if text is None:
        return None
    short = text[:LONGEST_TEXT]
    return known.setdefault(short, short) if len(known) < MOST_TEXTS else known.get(short)


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
    path, lines = directory / FILES[kind], _Lines(kind)
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
        The record; None if the log has no complete line, or the last line is damaged.
    """
    try:
        with files.opened(directory / FILES[kind]) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            *lines, _ = file.read(TAIL).split(b"\n")
    except (OSError, FileFormatError):
        return None
    rows = _Lines(kind).decode(lines[-1] + b"\n") if lines else []
    return kind(*msgspec.structs.astuple(rows[0])) if rows else None


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
