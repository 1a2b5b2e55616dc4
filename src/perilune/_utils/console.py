"""Printing to a terminal that may disappear, without control characters from files and names."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from perilune._utils.text import printable


class _SafeStream:
    """A stream that ignores errors when it is broken."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _broken():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _broken():
            self._stream.flush()


def _broken() -> suppress:
    # A pipe without a reader, a closed terminal or file, or a signal handler that prints during another print.
    return suppress(OSError, ValueError, RuntimeError)


def stderr() -> TextIO | None:
    """Return standard error, if there is one. Errors are ignored: training must not end with its terminal."""
    return None if sys.stderr is None else cast("TextIO", _SafeStream(sys.stderr))


def aside(words: str) -> None:
    """Print ``words`` on standard error, with control characters escaped."""
    if out := stderr():
        _print(words, out)


def say(words: object = "") -> None:
    """Print ``words`` on standard output, with control characters escaped."""
    _print(str(words), sys.stdout)


def _print(words: str, out: TextIO) -> None:
    print("\n".join(printable(line) for line in words.split("\n")), file=out, flush=True)
