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
from pathlib import Path
from typing import Any, NoReturn, get_args

from perilune.nn.base import Activation


class CommandLineError(Exception):
    """The arguments of a command are wrong. The message says how."""


class _Formatter(argparse.HelpFormatter):
    """Help with the default of each option, no wider than a page."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=min(100, shutil.get_terminal_size().columns - 2))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        flag = action.nargs == 0 and not isinstance(action, argparse.BooleanOptionalAction)
        if default in (argparse.SUPPRESS, "") or flag or not action.option_strings:
            return action.help
        if default is None:
            return f"{action.help} (default: none)" if "None" in (action.help or "") else action.help
        words = default if isinstance(default, tuple | list) else [default]
        return f"{action.help} (default: {' '.join(map(str, words))})".replace("%", "%%")


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

    def flag(self, name: str, text: str) -> None:
        """Add an option without a value, which is False by default."""
        self.add_argument(name, action="store_true", default=False, help=text)

    def option(self, name: str, convert: Callable[[str], Any], default: Any, text: str) -> None:
        """Add an option with one value."""
        metavar = {whole: "N", number: "X", Path: "PATH"}.get(convert)
        self.add_argument(name, type=convert, default=default, metavar=metavar, help=text)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options in ``arguments``: those that were given, and defaults of those that have one.

        Raises:
            CommandLineError: an argument is unknown, missing or malformed.
        """
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0])
            known = [name for action in self._actions for name in action.option_strings]
            kind = "option" if word.startswith("-") else "argument"
            self.error(f"unknown {kind} {word}.{nearest(word.partition('=')[0], known)}")
        return options

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (\S+?)(/\S+)?: ", r"\1: ", message)
        message = message.replace("the following arguments are required", "missing")
        end = "" if message.endswith((".", "?")) else "."
        raise CommandLineError(f"{self.prog}: {message}{end} See {self.prog} --help.")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest of the ``known`` words, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(found)}?" if found else ""


def whole(text: str) -> int:
    """Return a whole number; 1e5 and 15_000 are allowed."""
    try:
        value = float(text)
        return int(text) if text.lstrip("+-").replace("_", "").isdecimal() else _exact(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is invalid: expected a whole number, such as 15000 or 1e5"
        ) from None


def _exact(value: float) -> int:
    if not value.is_integer():  # also of nan and inf
        raise ValueError
    return int(value)


def number(text: str) -> float:
    """Return a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected a number, such as 0.5 or 1e-3") from None


def optional(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function that converts a text, and the word none to None."""
    return lambda text: None if text.lower() == "none" else convert(text)


def choice(known: Sequence[str]) -> Callable[[str], str]:
    """Return a function that accepts the ``known`` words only."""

    def convert(text: str) -> str:
        if text in known:
            return text
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected {', '.join(known)}.{nearest(text, known)}")

    return convert


def assignment(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``. The value is JSON, True, False, None, or else a string."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected NAME=VALUE, such as learning_rate=1e-4")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        return name, json.loads(value)
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
        words = [word for word in ",".join(values).split(",") if word]
        try:
            found = None if [word.lower() for word in words] == ["none"] else tuple(float(word) for word in words)
        except ValueError:
            found = ()
        if found is not None and len(found) != 2:
            raise argparse.ArgumentError(
                self, f"{' '.join(values)!r} is invalid: expected two numbers, such as -500 300"
            )
        setattr(namespace, self.dest, found)
