"""Decode the lines of a log, each of which is one training event as a JSON object."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Annotated, Any, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta

from perilune._utils.validation import EXACT
from perilune.runs import files

TAIL = 4096  # bytes; the last bytes read identify a file
Integer = Annotated[int, Meta(ge=0, le=EXACT)]  # float64 represents all of these
READ_AS: dict[Any, Any] = {int: Integer, float: float | None}  # non-finite numbers are stored as null
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Lines:
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
