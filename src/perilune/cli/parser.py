"""An argument parser with plain messages, suggestions for misspelled words, and numbers such as 1e5 and 15_000.

It is argparse of the standard library: it reports exactly the options that were given, so that an option counts even
if its value is the default, and it starts in a few milliseconds.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, get_args

from perilune.nn.base import Activation


class CommandLineError(Exception):
    """The arguments of a command are wrong. The message says how."""


class _Formatter(argparse.HelpFormatter):
    """Help with the default of each option, no wider than a page."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=min(100, shutil.get_terminal_size().columns - 2))

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        flag = action.nargs == 0 and not isinstance(action, argparse.BooleanOptionalAction)
        optional = "none" in text
        if flag or default in (argparse.SUPPRESS, "", (), []) or (default is None and not optional):
            return text
        words = default if isinstance(default, tuple) else [default]
        shown = " ".join({"None": "none", "True": "on", "False": "off"}.get(word, word) for word in map(str, words))
        return f"{text} Default: {shown}."


class Parser(argparse.ArgumentParser):
    """The parser of one command.

    Args:
        command: name of the command, such as "train".
        description: what it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"perilune {command}",
            description=description,
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=_Formatter,
        )
        self._negative_number_matcher = re.compile(r"-\.?\d")  # -1e-3 is a value, not an option
        self.add_argument("-h", "--help", action="store_true", help="Show this help.")

    @property
    def options(self) -> list[str]:
        """The names of all options."""
        return [name for action in self._actions for name in action.option_strings]

    def set_default(self, values: dict[str, Any]) -> None:
        """Let the help show ``values`` as defaults."""
        for action in self._actions:
            action.default = values.get(action.dest, action.default)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options in ``arguments``: those that were given, and defaults of those that have one.

        Raises:
            CommandLineError: an argument is unknown, missing or malformed.
        """
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0])
            kind = "option" if word.startswith("-") else "argument"
            self.error(f"unknown {kind} {word}.{nearest(word.partition('=')[0], self.options)}")
        return options

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (\S+?)(/\S+)?: ", r"\1: ", message)
        message = message.replace("the following arguments are required", "missing")
        end = "" if message.endswith((".", "?")) else "."
        raise CommandLineError(f"{self.prog}: {message}{end} See {self.prog} --help.")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            expected = f"expected {', '.join(action.choices)}.{nearest(value, action.choices)}"
            raise argparse.ArgumentError(action, f"{value!r} is invalid: {expected}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest of the ``known`` words, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(found)}?" if found else ""


def whole(text: str) -> int:
    """Return a whole number; 1e5 and 15_000 are allowed."""
    try:
        return int(text)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            value = 0.5
    if value.is_integer():
        return int(value)
    raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected a whole number, such as 15000 or 1e5")


def number(text: str) -> float:
    """Return a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected a number, such as 0.5 or 1e-3") from None


def optional(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function that converts a text, and the word none to None."""
    return lambda text: None if text.lower() == "none" else convert(text)


def assignment(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``. The value is JSON, True, False, None, or else a string."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected NAME=VALUE, such as learning_rate=1e-4")
    word = {"True": "true", "False": "false", "None": "null", "none": "null"}.get(value, value)
    try:
        return name, json.loads(word)
    except ValueError:
        return name, value
    except RecursionError:
        raise argparse.ArgumentTypeError(f"{text[:40]}... is invalid: its value is nested too deeply") from None


class Layers(argparse.Action):
    """Hidden layers: ``64 64``, ``64,64``, and an activation after the layer that has its own: ``32 relu 64 tanh``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        layers: list[int | tuple[int, str]] = []
        activations = get_args(Activation)
        for word in ",".join(values).split(","):
            if word in activations and layers and isinstance(layers[-1], int):
                layers[-1] = (layers[-1], word)
                continue
            try:
                layers.append(whole(word))
            except argparse.ArgumentTypeError:
                expected = f"numbers of units, each with an activation after it if you like ({', '.join(activations)})"
                message = f"{word!r} is invalid: expected {expected}.{nearest(word, activations)}"
                raise argparse.ArgumentError(self, message) from None
        setattr(namespace, self.dest, tuple(layers))


class Pair(argparse.Action):
    """Two numbers, or none."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        words = ",".join(values).lower().split(",")
        try:
            low, high = (None, None) if words == ["none"] else map(float, words)
        except ValueError:
            message = f"{' '.join(values)!r} is invalid: expected two numbers, such as -500 300"
            raise argparse.ArgumentError(self, message) from None
        setattr(namespace, self.dest, None if low is None else (low, high))
