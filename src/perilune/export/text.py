"""Fill the templates of exported files, and describe a policy in their comments."""

from __future__ import annotations

import base64
import math
import string
from importlib import resources

import numpy as np

from perilune._utils.arrays import Array
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
    entries = [f"    {index}: {describe(entry)}" for index, entry in enumerate(policy.entries)]
    actions = [f"    {policy.first_action + index}: {name}" for index, name in enumerate(policy.actions)]
    return "\n".join(["An observation has these numbers, in this order:", *entries, "The actions are:", *actions])


def describe(entry: Entry) -> str:
    """Return the name and the range of a number of an observation."""
    if entry.categories:
        return f"{entry.name}, a category from {entry.start} to {entry.start + entry.categories - 1}"
    if math.isinf(entry.low) and math.isinf(entry.high):
        return f"{entry.name} (no limits)"
    return f"{entry.name}, from {entry.low:g} to {entry.high:g}"


def base64_floats(array: Array) -> str:
    """Return numbers as little-endian float32 in base64."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()
