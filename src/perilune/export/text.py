"""Fill the templates of exported files, and describe a policy in their comments."""

from __future__ import annotations

import math
import string
from importlib import resources

from perilune.export.policy import Entry, Policy
from perilune.runs.manifest import version


class _Template(string.Template):
    delimiter = "@"


def fill(template: str, **values: str) -> str:
    """Return a file of ``templates`` with its placeholders (@name) replaced.

    ``@at`` and ``@version`` are always defined: the character @ and the version of Perilune.

    Args:
        template: name of the file.
        values: the text for each placeholder.
    """
    text = (resources.files("perilune.export") / "templates" / template).read_text(encoding="utf-8")
    return _Template(text).substitute({"at": "@", "version": version(), **values})


def title(policy: Policy) -> str:
    """Return the first line of an exported file."""
    return f"A greedy Q-network policy for {policy.environment}."


def describe_inputs(policy: Policy) -> str:
    """Return one line for each number of an observation and for each action."""
    entries = [f"    {index}: {_describe(entry)}" for index, entry in enumerate(policy.entries)]
    actions = [f"    {policy.first_action + index}: {name}" for index, name in enumerate(policy.actions)]
    return "\n".join(["An observation has these numbers, in this order:", *entries, "The actions are:", *actions])


def _describe(entry: Entry) -> str:
    if entry.categories:
        return f"{entry.name}, a category from {entry.start} to {entry.start + entry.categories - 1}"
    return f"{entry.name}{limits(entry)}"


def limits(entry: Entry) -> str:
    """Return the range of a number as the end of a phrase."""
    if math.isinf(entry.low) and math.isinf(entry.high):
        return " (no limits)"
    return f", from {entry.low:g} to {entry.high:g}"
