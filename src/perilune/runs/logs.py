"""A run's logs: JSON lines that training appends, read as records or as a table, also while they grow.

A run that resumes cuts its logs where they were at the checkpoint. A reader accepts a log that grows, is cut off and
continued, is replaced, or is missing. It ignores an unfinished last line.
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
from perilune.runs import files, manifest
from perilune.runs.layout import FILES
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics

LARGEST_LOG = 2**32  # bytes
MOST_ROWS = 10_000_000  # of a table; several hundred megabytes
MOST_TEXTS = 200  # different strings in a column of a table
LONGEST_TEXT = 1_000  # characters
TAIL = 4096  # bytes before the position reached, by which a file is recognized
GENERATIONS = count(1)  # one for every time that a log is read from its start
Integer = Annotated[int, Meta(ge=0, le=EXACT)]  # float64 represents all of these
READ_AS: dict[Any, Any] = {int: Integer, float: float | None}  # a number that was not finite is null
NUMBERS = (Integer, float | None, bool)
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
ENCODER = msgspec.json.Encoder(enc_hook=lambda value: value.item())  # NumPy scalars
Record = TypeVar("Record", Episode, Metrics, Evaluated, HealthWarning)


class LogState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size and checksum that a log had at some time."""

    name: str
    size: Natural
    sha256: str


class LogWriter(AbstractContextManager["LogWriter"]):
    """Append events to a run's logs. Each line reaches the operating system before training continues.

    Args:
        directory: the run.
        logs: the logs at the checkpoint from which training resumes. Later lines are cut off, because training writes
            them again. Empty for a new run.
    """

    def __init__(self, directory: Path, logs: Sequence[LogState] = ()) -> None:
        known = {log.name: log for log in logs}
        self._directory = directory
        self._digests = {name: _truncate(directory / name, known.get(name)) for name in FILES.values()}
        with files.reported("written", directory):
            self._files = {name: (directory / name).open("a+b") for name in FILES.values()}

    def write(self, event: Event) -> None:
        """Append ``event`` if its type is logged. A number that is not finite becomes null."""
        name = FILES.get(type(event))
        if name is None:
            return
        line = ENCODER.encode(event._asdict()) + b"\n"
        self._digests[name].update(line)
        with files.reported("written", self._directory / name):
            self._files[name].write(line)
            self._files[name].flush()

    def flush(self) -> list[LogState]:
        """Flush the logs to disk and return their states. A log that was removed meanwhile is written again."""
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
        """Write a log again if its name does not lead to the open file any more: a checkpoint needs it."""
        path, file = self._directory / name, self._files[name]
        with files.reported("read", path):
            with suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), os.fstat(file.fileno())):
                    return
            file.seek(0)
            content = file.read()
        files.write(path, content)
        file.close()
        with files.reported("written", path):
            self._files[name] = path.open("a+b")
        message = f"{path} was removed or replaced during training. Its lines have been written again."
        warnings.warn(message, PeriluneWarning, stacklevel=2)

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            with suppress(OSError):  # the line that did not fit on a full disk has been reported already
                file.close()


def check_start(path: Path, log: LogState) -> hashlib._Hash:
    """Return the checksum of the part of a log that a checkpoint knows. Raise FileFormatError if it has changed."""
    sha256 = files.digest(path, log.size)
    if sha256.hexdigest() != log.sha256:
        raise FileFormatError(f"{path} does not start with the {log.size:,} bytes that it had at the checkpoint")
    return sha256


def _truncate(path: Path, log: LogState | None) -> hashlib._Hash:
    """Cut a log to its size at a checkpoint, and return the checksum of the rest."""
    if log is None or (log.size == 0 and not path.exists()):
        return hashlib.sha256()
    try:
        sha256 = check_start(path, log)
    except (FileFormatError, RunDirectoryError) as error:
        if path.is_symlink():
            raise
        raise type(error)(
            f"{error}. Restore the log; without it this run cannot be resumed. To start a new run from its weights, "
            f"use Python: DQN.load({str(path.parent)!r}).train(...)"
        ) from error
    with files.opened(path, "r+b") as file:
        file.truncate(log.size)
    return sha256


class _Lines:
    """Decode the lines of one log, from where the previous call stopped. Damaged lines are skipped and counted."""

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
        """Return whether ``file`` still has the content that was read last."""
        if os.fstat(file.fileno()).st_size < self.offset:
            return False
        file.seek(self.offset - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def read(self, file: IO[bytes]) -> Iterator[list[Any]]:
        """Yield the new complete lines in batches, as objects with the fields of the event."""
        while True:
            file.seek(self.offset)
            piece = file.read(files.PIECE)
            end = piece.rfind(b"\n") + 1
            if end == 0 and len(piece) < files.PIECE:
                return  # a line that is being written
            lines = piece[: end or None]
            self.offset += len(lines)
            self._tail = (self._tail + lines)[-TAIL:]
            if end:  # else the line is longer than any valid one, and its end will be a damaged line
                yield self.decode(lines)

    def decode(self, lines: bytes) -> list[Any]:
        """Return the objects in complete lines."""
        ends = lines.count(b"\n")
        with suppress(*DECODE_ERRORS):
            rows = self._decoder.decode_lines(lines)
            if len(rows) == ends == (b"\n" + lines).count(b"\n{"):  # each object is one line
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
        version: identifies the rows: no other rows of any log have it.
        columns: float64 [rows] or, for strings, object [rows]. Null is NaN in a column of numbers.
        fault: what could not be read; None if everything could.
    """

    version: tuple[int, int]
    columns: Mapping[str, Array]
    fault: str | None

    @property
    def rows(self) -> int:
        return self.version[1]


class LogReader:
    """Follow the log of events of one ``kind``, which may be written at the same time. Skip and count damaged lines."""

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
        """Read what is new and return the whole log."""
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
        count = "1 damaged line was" if self._lines.bad == 1 else f"{self._lines.bad:,} damaged lines were"
        return f"{self._path.name}: {count} skipped, the first is line {self._lines.first_bad:,}"

    def _append(self, rows: list[Any]) -> None:
        stop = self._rows + len(rows)
        for name, column in self._columns.items():
            values = [getattr(row, name) for row in rows]
            if name in self._texts:
                values = [_shared(text, self._texts[name]) for text in values]
            if stop > len(column):  # tables returned before keep the old array
                self._columns[name] = np.empty(max(1024, 2 * stop), column.dtype)
                self._columns[name][: self._rows] = column[: self._rows]
            self._columns[name][self._rows : stop] = np.array(values, column.dtype)
        self._rows = stop


def _shared(text: str | None, known: dict[str, str]) -> str | None:
    """Return the one copy of a string, so that a column takes little memory; None if it has too many strings."""
    if text is None:
        return None
    short = text[:LONGEST_TEXT]
    return known.setdefault(short, short) if len(known) < MOST_TEXTS else known.get(short)


def read_log(directory: Path, kind: type[Record]) -> list[Record]:
    """Return all records of a log; none if the file does not exist.

    Raises:
        FileFormatError: a line is damaged, or the file is not a regular one or too large.
    """
    path, lines = directory / FILES[kind], _Lines(kind)
    if not path.exists():
        return []
    with files.opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST_LOG:
            raise FileFormatError(f"{path} has {size:,} bytes; at most {LARGEST_LOG:,} are read")
        records = [kind(*msgspec.structs.astuple(row)) for rows in lines.read(file) for row in rows]
    if lines.bad:
        raise FileFormatError(
            f"{path}, line {lines.first_bad}, is damaged: {lines.error}. Delete that line to read the others."
        )
    return records


def last_record(directory: Path, kind: type[Record]) -> Record | None:
    """Return the last complete record of a log that may be growing, None if there is none."""
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
    """The settings and every logged event of a run."""

    directory: Path
    config: dict[str, Any]
    episodes: list[Episode]
    metrics: list[Metrics]
    evaluations: list[Evaluated]
    notices: list[HealthWarning]


def read_run(directory: Path) -> Run:
    """Read a run, also while it is being trained.

    Raises:
        RunDirectoryError: there is no run.
        FileFormatError: a file is damaged or has another format.
    """
    config = manifest.read_config(directory)
    kept: list[list[Any]] = [read_log(directory, kind) for kind in (Episode, Metrics, Evaluated, HealthWarning)]
    return Run(directory, config, *kept)
