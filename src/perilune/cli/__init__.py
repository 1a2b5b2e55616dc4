"""The command line. A command imports its module when it is used, so that help and completion are immediate."""

from __future__ import annotations

import os
import re
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from perilune._utils.console import aside, say
from perilune.cli.completion import script
from perilune.cli.parser import CommandLineError, Parser, nearest
from perilune.errors import PeriluneError, PeriluneWarning

# Module and summary of every command. The module has its functions ``add_NAME``, for the options, and ``run_NAME``.
COMMANDS = {
    "train": ("training", "Train a DQN and record it in a run directory."),
    "resume": ("training", "Continue a run exactly from its last checkpoint."),
    "evaluate": ("runs", "Play greedily from fixed start states and report returns and outcomes."),
    "list": ("runs", "List runs, presets and known environments."),
    "info": ("runs", "Show counters, settings and machine of a run or weights file."),
    "verify": ("runs", "Check every checksum of a run."),
    "watch": ("viewing", "Show runs in a browser while they train and after."),
    "plot": ("viewing", "Draw the learning curves of one or more runs."),
    "video": ("viewing", "Record a video of a trained agent."),
    "report": ("viewing", "Write one HTML file about runs."),
    "maps": ("viewing", "Draw what a run learned: values, actions, units, gradients."),
    "play": ("viewing", "Play an environment yourself, against an agent if you like."),
    "doctor": ("doctor", "Examine a DQN program and report its faults."),
    "bench learning": ("bench", "Train several seeds and score each on 100 fixed episodes."),
    "bench compare": ("bench", "Compare two results of bench learning."),
    "bench speed": ("bench", "Time updates and training."),
    "bench doctor": ("bench", "Count which injected faults the doctor finds."),
}
USAGE = "usage: perilune COMMAND [OPTIONS]"


@dataclass(frozen=True)
class Command:
    """A parsed command: its name, its options, and the function that runs it."""

    name: str
    options: Namespace
    function: Callable[[Namespace], None]

    def run(self) -> None:
        """Run the command."""
        self.function(self.options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exit with status 1 after an error of Perilune, 2 after a usage error."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # it was closed, as by >&-
            setattr(sys, stream, Path(os.devnull).open("w"))  # noqa: SIM115 -- until the end
    failed = 2 if arguments[:1] == ["doctor"] else 1  # for the doctor, 1 means faults
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _showing()
            _run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has stopped, as in `perilune --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(failed)
    except CommandLineError as error:
        aside(str(error))
        sys.exit(2)
    except (PeriluneError, OSError) as error:  # an OSError such as a full disk
        aside("\n".join([f"perilune: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(failed)
    except KeyboardInterrupt as error:
        kept = " Everything written is kept; run the same command to continue." if arguments[:1] == ["bench"] else ""
        aside("\n".join([f"perilune: interrupted.{kept}", *getattr(error, "__notes__", ())]))
        sys.exit(130)


def _run(arguments: Sequence[str]) -> None:
    match list(arguments):
        case ["--version"]:
            say(f"perilune {import_module('perilune').__version__}")
        case ["--print-completion", shell]:
            say(script(shell, {name: parser_of(name) for name in COMMANDS}))
        case ["-h" | "--help"]:
            say(overview())
        case ["bench", "-h" | "--help"]:
            say(overview("bench "))
        case _:
            parse(arguments).run()


def overview(prefix: str = "") -> str:
    """Return the list of commands that begin with ``prefix``."""
    rows = [f"  {name:<18}{text}" for name, (_, text) in COMMANDS.items() if name.startswith(prefix)]
    usage = USAGE.replace("COMMAND", f"{prefix}COMMAND")
    hint = "Every command has --help. --version prints the version."
    return "\n".join(
        [usage, "", "Deep Q-learning with the neural network written from scratch on NumPy.", "", *rows, "", hint]
    )


def parse(arguments: Sequence[str]) -> Command:
    """Return the command in ``arguments``.

    Raises:
        CommandLineError: there is no such command, or an argument is wrong.
    """
    words = list(arguments)
    name = " ".join(words[:2]) if words[:1] == ["bench"] else " ".join(words[:1])
    if name not in COMMANDS:
        commands = ", ".join(COMMANDS)
        given = f"unknown command {name!r}.{nearest(name, COMMANDS)}" if words else "a command is missing."
        raise CommandLineError(f"perilune: {given} Commands: {commands}. See perilune --help.")
    rest = words[len(name.split()) :]
    if not {"-h", "--help"}.isdisjoint(rest):
        return Command(name, Namespace(words=rest), lambda options: _help(name, options.words))
    if any(re.fullmatch(r"[\w.]+:[\w/.-]+", word) for word in rest) and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # for my_module:MyEnv-v0, whose module is often here
    return Command(name, parser_of(name).read(rest), _function(name, "run_"))


def parser_of(name: str) -> Parser:
    """Return the parser of a command."""
    parser = Parser(name, (_function(name, "run_").__doc__ or "").partition("\n")[0])
    _function(name, "add_")(parser)
    return parser


def _function(name: str, prefix: str) -> Callable[[Any], None]:
    function: Callable[[Any], None] = getattr(
        import_module(f"perilune.cli.{COMMANDS[name][0]}"), prefix + name.replace(" ", "_").replace("-", "_")
    )
    return function


def _help(name: str, words: Sequence[str]) -> None:
    parser = parser_of(name)
    if name in ("train", "bench learning"):
        import_module("perilune.cli.settings").show_defaults(parser, words)
    say(parser.format_help().rstrip())


def _showing() -> Callable[..., None]:
    """Return a function that shows each warning of Perilune once, in one line, and none of other libraries."""
    shown = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, PeriluneWarning) and str(message) not in shown:
            shown.add(str(message))
            aside(f"perilune: {message}")

    return show
