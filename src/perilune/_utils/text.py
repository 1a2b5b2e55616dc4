"""Words that others chose, made fit to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""``text`` with the escape of every character that does not show as itself: ``\x1b``, ``\n``, ``\ud800``.

    A directory's name may hold any of them; a terminal would obey them, and XML has no place for them.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
