"""The command line. A command imports its module only when it runs, so that help and completion are fast."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import warnings
from argparse import Namespace
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from perilune._utils.console import aside, say
from perilune._utils.text import suggestion
from perilune.cli.commands import COMMANDS, completion
from perilune.cli.parser import CommandLineError, Parser
from perilune.errors import ConfigError, PeriluneError, PeriluneWarning

USAGE = "usage: perilune COMMAND [OPTIONS]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exit with status 1 after an error, 2 after a usage error, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed, as by >&-
            setattr(sys, stream, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 -- open until exit
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a pipe on Windows cannot encode every path
    failed = 2 if arguments[:1] == ["doctor"] else 1  # for the doctor, 1 means faults
    aside_once = cache(aside)

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, PeriluneWarning):  # hide warnings of other libraries
            aside_once(f"perilune: {message}")

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            _run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as in `perilune --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(failed)
    except CommandLineError as error:
        aside(str(error))
        sys.exit(2)
    except (PeriluneError, OSError) as error:
        aside("\n".join([f"perilune: {_words(error)}", *getattr(error, "__notes__", ())]))
        sys.exit(failed)
    except KeyboardInterrupt as error:
        several = any(word.partition("=")[0] == "--seeds" for word in arguments)
        resumable = several or arguments[:1] in (["bench"], ["tune"])
        kept = " All results so far are kept. Run the same command to resume." if resumable else ""
        aside("\n".join([f"perilune: interrupted.{kept}", *_notes(error)]))
        sys.exit(130)


def _notes(error: BaseException | None) -> list[str]:
    """Return the notes of an error, or of the error that was being handled when it was raised."""
    while error is not None:
        if notes := getattr(error, "__notes__", None):
            return list(notes)
        error = error.__context__
    return []


def _words(error: PeriluneError | OSError) -> str:
    """Return the message of an error. An OSError of Python itself is for example a full disk or a lack of rights."""
    if isinstance(error, ConfigError):
        return str(error).replace(", or None", ", or none")  # as the option is written
    if isinstance(error, PeriluneError) or error.filename is None:
        return str(error)
    return f"{error.filename} cannot be accessed: {error.strerror}."


def _run(arguments: list[str]) -> None:
    match arguments:
        case ["--version"]:
            say(f"perilune {import_module('perilune').__version__}")
        case ["--print-completion", shell]:
            say(completion(shell, {name: parser_of(name).options for name in COMMANDS}))
        case ["-h" | "--help" | "help"]:
            say(overview())
        case ["help", *command]:
            _run([*command, "--help"])
        case ["bench", "-h" | "--help"]:
            say(overview("bench "))
        case _:
            name, words = _split(arguments)
            if any(re.fullmatch(r"[\w.]+:[\w/.-]+", word) for word in words) and str(Path.cwd()) not in sys.path:
                sys.path.append(str(Path.cwd()))  # for my_module:MyEnv-v0: the module is often in this directory
            if {"-h", "--help"}.isdisjoint(_before_program_arguments(name, words)[0]):
                options = parse(arguments)
                module = import_module(f"perilune.cli.{COMMANDS[name].module}")
                if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by perilune.__main__ during imports
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                getattr(module, f"run_{name.replace(' ', '_')}")(options)
            else:
                say(help_of(name, words))


def overview(prefix: str = "") -> str:
    """Return the help that lists the commands whose names start with ``prefix``."""
    rows = [
        f"  {name:<18}{command.summary.partition('. ')[0].removesuffix('.')}."
        for name, command in COMMANDS.items()
        if name.startswith(prefix)
    ]
    usage = USAGE.replace("COMMAND", f"{prefix}COMMAND")
    hint = "perilune COMMAND --help describes a command. perilune --version prints the version."
    return "\n".join(
        [usage, "", "Deep Q-learning with a neural network written from scratch in NumPy.", "", *rows, "", hint]
    )


def parse(arguments: Sequence[str]) -> Namespace:
    """Return the options of the command in ``arguments``. Raise CommandLineError if one is invalid."""
    name, words = _split(arguments)
    words, rest = _before_program_arguments(name, words)
    options = parser_of(name).read(words)
    if name == "doctor":
        options.arguments = rest
    return options


def _before_program_arguments(name: str, words: list[str]) -> tuple[list[str], list[str]]:
    """Split off the command-line arguments of the examined program, which follow ``--``."""
    if name != "doctor" or "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]


def _split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name of a command and the arguments after it."""
    words = list(arguments)
    size = 2 if words[:1] == ["bench"] else 1
    name = " ".join(words[:size])
    if name not in COMMANDS:
        known = [command for command in COMMANDS if size == 1 or command.startswith("bench ")]
        missing = len(words) < size
        given = "no command was given." if missing else f"unknown command {name!r}. {suggestion(name, known)}".rstrip()
        raise CommandLineError(f"perilune: {given} Commands: {', '.join(known)}. See perilune --help.")
    return name, words[size:]


def parser_of(name: str) -> Parser:
    """Return the parser of a command."""
    command = COMMANDS[name]
    parser = Parser(name, command.summary)
    for option, how in command.options:
        parser.add_argument(option, **how)
    if command.settings:
        import_module("perilune.cli.settings").add_settings(parser)
    return parser


def help_of(name: str, words: Sequence[str]) -> str:
    """Return the help of a command, with the defaults of the environment and preset in ``words``."""
    parser = parser_of(name)
    if COMMANDS[name].settings:
        import_module("perilune.cli.settings").show_defaults(parser, words)
    return parser.format_help().rstrip()
