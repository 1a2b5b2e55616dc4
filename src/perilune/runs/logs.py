"""A log that is being written, followed: what is new in it is read, in pieces, into columns of numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import IO, Annotated, Any, NamedTuple, get_type_hints

import msgspec
import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files

MOST_ROWS = 10_000_000  # of a log; some hundred megabytes
MOST_LABELS = 200  # different texts in a column of a log
LONGEST_LABEL = 1_000  # characters
REMEMBERED = 4096  # bytes before the place that a log was read to, by which it is known again
GENERATIONS = count(1)  # every time that a log is begun anew has its own
Count = Annotated[float, msgspec.Meta(ge=0, le=2**53)]  # which float64 has all of
READ_AS: dict[Any, Any] = {int: Count, float: float | None}  # None becomes NaN


@dataclass(frozen=True)
class Table:
    """A log, as far as it was read. ``columns`` are [rows]; a column of texts has their places in ``labels``.

    ``version`` is that of no other rows, of any log. ``words`` says what could not be read, None where all could.
    """

    version: tuple[int, int]
    columns: Mapping[str, Array]
    labels: Mapping[str, Sequence[str | None]]
    words: str | None

    @property
    def rows(self) -> int:
        return self.version[1]

    def code(self, column: str, text: str) -> int:
        """The number that stands for a text, -1 where there is no such text."""
        return self.labels[column].index(text) if text in self.labels[column] else -1

    def texts(self, column: str) -> list[str | None]:
        """A column of texts, row by row."""
        return [self.labels[column][code] for code in self.columns[column]]


def struct(kind: type[NamedTuple], hints: Mapping[str, Any]) -> Any:
    """How msgspec reads a line that is a ``kind``, with the types in ``hints``; what has a default may be left out."""
    defaults = kind._field_defaults
    fields: list[Any] = [
        (name, hint, defaults[name]) if name in defaults else (name, hint) for name, hint in hints.items()
    ]
    return msgspec.defstruct(kind.__name__, fields, gc=False)


class Log:
    """A log of a run; it may grow, be cut off and go on, be replaced, or not be there.

    Args:
        path: the file.
        kind: the event that a line is.
    """

    def __init__(self, path: Path, kind: type[NamedTuple]) -> None:
        hints = {name: READ_AS.get(hint, hint) for name, hint in get_type_hints(kind).items()}
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct(kind, hints))
        self._path = path
        self._texts = [name for name, hint in hints.items() if hint not in {Count, float | None, bool}]
        self._names = list(hints)
        self._lock = Lock()
        self._begin()

    def _begin(self) -> None:
        self._generation = next(GENERATIONS)
        self._rows = 0
        self._columns: dict[str, Array] = {
            name: np.empty(0, np.int16 if name in self._texts else np.float64) for name in self._names
        }
        self._codes: dict[str, dict[str | None, int]] = {name: {None: 0} for name in self._texts}
        self._lines = 0
        self._bad: list[int] = []  # the number of bad lines, and that of the first: [count, first], empty for none
        self._offset = 0
        self._tail = b""
        self._overlong = False

    def read(self) -> Table:
        """What there is of the log now."""
        with self._lock:
            words = None
            try:
                with files.opened(self._path) as file:
                    if os.fstat(file.fileno()).st_size < self._offset or not self._is_known(file):
                        self._begin()
                    self._go_on(file)
            except (RunDirectoryError, FileFormatError) as error:
                if self._offset:
                    self._begin()
                words = str(error) if os.path.lexists(self._path) else None
            except OSError as error:
                words = str(files.cannot("read", self._path, error))
            return Table(
                (self._generation, self._rows),
                {name: column[: self._rows] for name, column in self._columns.items()},
                {name: list(codes) for name, codes in self._codes.items()},
                words or self._words(),
            )  # fmt: skip

    def _words(self) -> str | None:
        if self._rows >= MOST_ROWS:
            return f"{self._path.name} is read no further than {MOST_ROWS:,} lines"
        if not self._bad:
            return None
        bad, first = self._bad
        lines = "1 line is" if bad == 1 else f"{bad:,} lines are"
        return f"{self._path.name}: {lines} damaged and left out, the first is line {first:,}"

    def _is_known(self, file: IO[bytes]) -> bool:
        """Whether there stands still what stood before the place that was read to."""
        file.seek(self._offset - len(self._tail))
        return file.read(len(self._tail)) == self._tail

    def _go_on(self, file: IO[bytes]) -> None:
        """Read whole lines from the place that was read to."""
        while self._rows < MOST_ROWS:
            file.seek(self._offset)
            piece = file.read(files.PIECE)
            end = piece.rfind(b"\n") + 1
            if end == 0 and len(piece) < files.PIECE:
                return  # a line that is being written
            lines = piece[: end or None]
            self._offset += len(lines)
            self._tail = (self._tail + lines)[-REMEMBERED:]
            if end == 0:  # no line is so long; what follows it is read again
                self._overlong = True
                continue
            if self._overlong:
                lines = lines[lines.find(b"\n") + 1 :]
                self._overlong = False
                self._lines += 1
                self._miss()
            self._take(lines)

    def _take(self, lines: bytes) -> None:
        ends = lines.count(b"\n")
        try:
            rows = self._decoder.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            rows = []
        if len(rows) == ends == (b"\n" + lines).count(b"\n{"):  # else an object may not be a line
            self._lines += ends
        else:
            rows = []
            for line in lines.split(b"\n")[:-1]:
                self._lines += 1
                try:
                    rows.append(self._decoder.decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    self._miss()
        if rows:
            self._append(rows)

    def _miss(self) -> None:
        bad, first = self._bad or (0, self._lines)
        self._bad = [bad + 1, first]

    def _append(self, rows: list[Any]) -> None:
        stop = self._rows + len(rows)
        for name, column in self._columns.items():
            values: list[Any] = list(map(attrgetter(name), rows))
            if name in self._texts:
                values = _encode(values, self._codes[name])
            if stop > len(column):  # those who hold views of the old one keep it
                self._columns[name] = np.empty(max(1024, 2 * stop), column.dtype)
                self._columns[name][: self._rows] = column[: self._rows]
            self._columns[name][self._rows : stop] = np.array(values, column.dtype)
        self._rows = stop


def _encode(texts: list[str | None], codes: dict[str | None, int]) -> list[int]:
    """The number of each text; one that is new gets the next, and where there are too many, None's."""
    texts = [text and text[:LONGEST_LABEL] for text in texts]
    for text in dict.fromkeys(texts):
        if text not in codes and len(codes) < MOST_LABELS:
            codes[text] = len(codes)
    return [codes.get(text, 0) for text in texts]


def number(value: Any) -> float | int | None:
    """A number for JSON, which has no word for one that is not finite."""
    value = float(value)
    if not np.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
