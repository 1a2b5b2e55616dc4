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
    lower = {each.lower(): each for each in words}
    return initials or [lower[each] for each in difflib.get_close_matches(word.lower(), lower, n=most, cutoff=0.6)]


def suggestion(word: str, known: Iterable[str], most: int = 2) -> str:
    """Return a question that suggests the nearest ``known`` words, or an empty string."""
    found = nearest(word, known, most)
    return f"Did you mean {' or '.join(found)}?" if found else ""


def quoted(words: Iterable[str]) -> str:
    """Return ``words`` as a command line that the user can paste into a shell of this system."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


# The page of ``perilune watch`` formats numbers and durations in the same way, in text.js.


def number(value: float | None, decimals: int | None = None) -> str:
    """Format ``value`` in at most 9 characters: 12,345, 312.4, 0.0123 or 2.1e-6; None becomes a dash."""
    if value is None or not math.isfinite(value):
        return "-"
    size = abs(value)
    if decimals is not None:
        text = f"{value:,.{decimals}f}"
    elif size >= 1000 or value == int(value):
        text = f"{int(value) if value == int(value) else value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}".removesuffix(".0")
    else:
        text = f"{value:.3g}"
    lost = decimals is None and 0 < size < 0.001
    return re.sub(r"e([+-])0", r"e\1", f"{value:.1e}") if lost or len(text) > WIDTH else text


def decimals(*returns: float) -> int:
    """Return the number of decimals with which to show returns together: 1, or up to 3 if all of them are small."""
    size = max(map(abs, returns))
    return 1 if size >= 10 else 2 if size >= 1 else 3


def show_return(value: float) -> str:
    """Format a return: 286.5, 9.25 or 0.958."""
    return f"{value:.{decimals(value)}f}"


def percent(share: float) -> str:
    """Format a share as a percentage."""
    return f"{share:.0%}"


def whole(count: int) -> str:
    """Format a count in at most 9 characters."""
    text = f"{count:,}"
    return text if len(text) <= WIDTH else f"{count / 1e6:,.0f}M"


def duration(seconds: float) -> str:
    """Format seconds as 31.4 s, 2 min 05 s or 1 h 02 min."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    units, count = (("min", "s"), rounded) if rounded < 3600 else (("h", "min"), round(seconds / 60))
    large, small = divmod(count, 60)
    return f"{large:,} {units[0]}" + (f" {small:02} {units[1]}" if small else "")
