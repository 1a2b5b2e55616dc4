"""Follow a growing log of a run, as columns of arrays, for the page of ``perilune watch``.

The log may grow, be truncated and continued, be replaced, or not exist.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files
from perilune.runs.lines import Integer, Lines

MOST_ROWS = 10_000_000  # of a table; several hundred megabytes
MOST_TEXTS = 200  # different strings in a column of a table
LONGEST_TEXT = 1_000  # characters
GENERATIONS = count(1)  # a new number each time that a log is read from its start
NUMBERS = (Integer, float | None, bool)


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
        self._lines = Lines(self._kind)
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
