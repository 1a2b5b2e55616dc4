"""The way to whoever reads along in a terminal, who may go away, and whom no stranger may command."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from perilune._utils.text import printable


class _Lasting:
    """A stream that says nothing where it is broken."""

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
    # A pipe that nobody reads, a terminal that is gone, a closed file; a signal's words in the middle of others.
    return suppress(OSError, ValueError, RuntimeError)


def stderr() -> TextIO | None:
    """Standard error, if there is one. Where it breaks, nothing happens: no training ends with those who watched it."""
    return None if sys.stderr is None else cast("TextIO", _Lasting(sys.stderr))


def aside(words: str) -> None:
    """Print ``words`` on standard error, with the escapes of what a terminal would obey."""
    if out := stderr():
        _print(words, out)


def say(words: object = "") -> None:
    """Print ``words`` on standard output, likewise."""
    _print(str(words), sys.stdout)


def _print(words: str, out: TextIO) -> None:
    print("\n".join(printable(line) for line in words.split("\n")), file=out, flush=True)
