"""Print to a terminal that may close, with control characters escaped."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from perilune._utils.text import printable


class _SafeStream:
    """A stream that ignores the errors of a closed terminal."""

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
    # Raised by a closed pipe, terminal or file, or by a signal handler that prints while the program prints.
    return suppress(OSError, ValueError, RuntimeError)


def stderr() -> TextIO | None:
    """Return standard error, if any. Writing to it ignores errors, so that training survives a closed terminal."""
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
