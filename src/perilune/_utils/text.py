"""Words that others chose, made fit to be shown."""

from __future__ import annotations

import math

WIDTH = 9  # characters of a number in a table; none is longer


def printable(text: str) -> str:
    r"""``text`` with the escape of every character that does not show as itself: ``\x1b``, ``\n``, ``\ud800``.

    A directory's name may hold any of them; a terminal would obey them, and XML has no place for them.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def number(value: float | None, decimals: int | None = None) -> str:
    """``value`` in at most 9 characters; a dash where there is none. Small ones get more decimals if none are given."""
    if value is None or not math.isfinite(value):
        return "-"
    size = abs(value)
    text = f"{value:,.{(3 if size < 10 else 1) if decimals is None else decimals}f}"
    lost = decimals is None and 0 < size < 0.001
    return f"{value:.1e}" if lost or len(text) > WIDTH else text


def whole(count: int) -> str:
    """A count in at most 9 characters."""
    text = f"{count:,}"
    return text if len(text) <= WIDTH else f"{count / 1e6:,.0f}M"


def clock(seconds: float) -> str:
    """Seconds as M:SS, or H:MM:SS from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
