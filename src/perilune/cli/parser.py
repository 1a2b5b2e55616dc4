"""An argument parser that suggests the nearest known word, and accepts numbers such as 1e5 and 15_000."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, get_args

from perilune._utils.text import suggestion
from perilune.agent.config import AUTO
from perilune.nn.base import Activation


class CommandLineError(Exception):
    """The arguments of a command are invalid."""


class _Formatter(argparse.HelpFormatter):
    """Format help with the default of each option, at most 100 columns wide."""

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


ONCE = ("--env",)  # two environments are a mistake. Of other options, the last value counts


class Parser(argparse.ArgumentParser):
    """Parse the arguments of one command, and return only the options that are given or have a default."""

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

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options in ``arguments``. Raise CommandLineError if one is unknown, missing or malformed."""
        given = [word.partition("=")[0] for word in arguments]
        if twice := next((name for name in ONCE if given.count(name) > 1), None):
            self.error(f"{twice} is given {given.count(twice)} times, but it is allowed once")
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0])
            kind = "option" if word.startswith("-") else "argument"
            if "--" in arguments and word in arguments[arguments.index("--") :]:
                self.error(f"{word} is not read as an option, because it follows --. Remove --")
            self.error(f"unknown {kind} {word}. {suggestion(word.partition('=')[0], self.options)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Raise CommandLineError."""
        message = re.sub(r"^argument (\S+?)(/\S+)?: ", r"\1: ", message)
        if found := re.fullmatch("the following arguments are required: (.+)", message):
            message = "; ".join(f"{name} is missing: {self._meaning(name)}" for name in found[1].split(", "))
        message = message.rstrip()
        end = "" if message.endswith((".", "?")) else "."
        raise CommandLineError(f"{self.prog}: {message}{end} See {self.prog} --help.")

    def _meaning(self, metavar: str) -> str:
        """Return the help of a required argument, by its metavar or option."""
        named = (action for action in self._actions if metavar in (action.metavar, *action.option_strings))
        text = next(action.help or "" for action in named)
        start = text[:2] if text[:2].isupper() else text[:2].lower()  # keep "ID"
        return start + text[2:].rstrip(".")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            *words, last = action.choices
            expected = f"expected {', '.join(words)} or {last}. {suggestion(value, action.choices)}"
            raise argparse.ArgumentError(action, f"{value!r} is invalid: {expected}")


def named(text: str) -> str:
    """Return ``text``, which must not be empty, as a variable of a shell script may be."""
    if not text:
        raise argparse.ArgumentTypeError("'' is invalid: expected a name, but the argument is empty")
    return text


def path(text: str) -> Path:
    """Parse a path, which must not be empty."""
    if not text:
        raise argparse.ArgumentTypeError("'' is invalid: expected a path, but the argument is empty")
    return Path(text)


def whole(text: str) -> int:
    """Parse a whole number, such as 15_000 or 1e5."""
    for convert in (int, float):  # float would round a large integer
        with suppress(ValueError, OverflowError):
            value = convert(text)
            if value == int(value):
                return int(value)
    raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected a whole number, such as 15000 or 1e5")


def count(text: str) -> int:
    """Parse a whole number >= 1."""
    if (value := whole(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected a whole number >= 1")
    return value


def number(text: str) -> float:
    """Parse a number."""
    with suppress(ValueError):
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected a number, such as 0.5 or 1e-3")


def scale(text: str) -> float | str:
    """Parse a number, or the word auto."""
    if text.lower() == AUTO:
        return AUTO
    with suppress(ValueError):
        return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected a number, such as 100, or auto")


def optional(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function that converts the word none to None and any other word with ``convert``."""
    return lambda text: None if text.lower() == "none" else convert(text)


def assignment(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``. The value is JSON, True, False or None; any other value is a string."""
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


class Joined(argparse.Action):
    """Convert the words of an option with the function ``const``. Commas may also separate the words."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Store the converted words."""
        try:
            setattr(namespace, self.dest, self.const(",".join(values).split(",")))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None


def layers(words: Sequence[str]) -> tuple[int | tuple[int, str], ...]:
    """Parse the units of hidden layers. An activation applies to the layer before it: ``32 relu 64 tanh``."""
    found: list[int | tuple[int, str]] = []
    activations = get_args(Activation)
    for word in words:
        if word in activations and found and isinstance(found[-1], int):
            found[-1] = (found[-1], word)
            continue
        try:
            found.append(whole(word))
        except argparse.ArgumentTypeError:
            expected = f"numbers of units, each optionally followed by an activation ({', '.join(activations)})"
            hint = suggestion(word, activations)
            raise argparse.ArgumentTypeError(f"{word!r} is invalid: expected {expected}. {hint}") from None
    return tuple(found)


def pair(words: Sequence[str]) -> tuple[float, ...] | None:
    """Parse two numbers, or the word none."""
    if [word.lower() for word in words] == ["none"]:
        return None
    if len(words) != 2:
        raise argparse.ArgumentTypeError(f"{' '.join(words)!r} is invalid: expected two numbers, such as -500 300")
    return tuple(map(number, words))


def scales(words: Sequence[str]) -> tuple[float, ...] | str | None:
    """Parse one or more numbers, or one of the words auto and none."""
    if [word.lower() for word in words] == [AUTO]:
        return AUTO
    if [word.lower() for word in words] == ["none"]:
        return None
    try:
        return tuple(map(number, words))
    except argparse.ArgumentTypeError:
        expected = "numbers, one for each entry of an observation, or auto, or none"
        raise argparse.ArgumentTypeError(f"{' '.join(words)!r} is invalid: expected {expected}") from None
