"""Format names, numbers and times for display."""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
import subprocess
from collections.abc import Iterable

WIDTH = 9  # largest number of characters of a number in a table


def printable(text: str) -> str:
    r"""Escape each non-printable character in ``text``: ``\x1b``, ``\n``, ``\ud800``.

    Directory names may contain control characters, which a terminal executes and XML forbids.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def nearest(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the ``known`` words whose initials are ``word`` (learning_rate for lr), or else similar words."""
    words, plain = list(known), word.lstrip("-")
    initials = [each for each in words if "".join(part[0] for part in re.findall(r"[^\W_]+", each)) == plain]
    return initials or difflib.get_close_matches(word, words, n=most, cutoff=0.6)


def quoted(words: Iterable[str]) -> str:
    """Return ``words`` as a command line that the user can paste into a shell of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def number(value: float | None, decimals: int | None = None) -> str:
    """Format ``value`` in at most 9 characters; None becomes a dash. By default, small values have more decimals."""
    if value is None or not math.isfinite(value):
        return "-"
    size = abs(value)
    text = f"{value:,.{(3 if size < 10 else 1) if decimals is None else decimals}f}"
    lost = decimals is None and 0 < size < 0.001
    return f"{value:.1e}" if lost or len(text) > WIDTH else text


def whole(count: int) -> str:
    """Format a count in at most 9 characters."""
    text = f"{count:,}"
    return text if len(text) <= WIDTH else f"{count / 1e6:,.0f}M"


def clock(seconds: float) -> str:
    """Format seconds as M:SS, or as H:MM:SS from one hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
