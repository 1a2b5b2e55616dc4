"""The command line: read off the settings' dataclasses, one class per command."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from perilune._utils.console import aside, say
from perilune.cli.bench import Bench, BenchCompare, BenchDoctor, BenchLearning, BenchSpeed
from perilune.cli.doctor import Doctor
from perilune.cli.looking import Maps, Play, Plot, Report, Video, Watch
from perilune.cli.options import AgentOptions, TrainOptions
from perilune.cli.runs import Evaluate, Info, Verify
from perilune.cli.training import Resume, Train
from perilune.envs.known import Preset
from perilune.envs.known.presets import RECOMMENDED, preset
from perilune.errors import PeriluneError, PeriluneWarning
from perilune.runs import runlog


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Errors of ours end in one line and status 1, usage errors in status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # it was closed, as by >&-
            setattr(sys, stream, Path(os.devnull).open("w"))  # noqa: SIM115 -- until the end
    failed = 1
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _showing()
            if arguments == ["--version"]:
                say(f"perilune {runlog.version()}")
            else:
                command = parse(arguments)
                failed = 2 if isinstance(command, Doctor) else 1  # the doctor's 1 says that there are faults
                command.run()
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read along has seen enough, as in `perilune --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(failed)
    except (PeriluneError, OSError) as error:  # an OSError that is not ours: a full disk
        aside("\n".join([f"perilune: {error}", *getattr(error, "__notes__", ())]))
        sys.exit(failed)
    except KeyboardInterrupt as error:
        kept = " What is written is kept, and the same command goes on." if arguments[:1] == ["bench"] else ""
        aside("\n".join([f"perilune: interrupted.{kept}", *getattr(error, "__notes__", ())]))
        sys.exit(130)


HELP = {"-h", "--help"}


Command = (
    Train
    | Resume
    | Evaluate
    | Video
    | Info
    | Verify
    | Plot
    | Maps
    | Watch
    | Report
    | Play
    | Doctor
    | Bench[BenchSpeed | BenchLearning | BenchCompare | BenchDoctor]
)


def parse(arguments: Sequence[str]) -> Command:
    """The command that ``arguments`` ask for.

    What trains is parsed twice: its first reading tells the preset, whose settings are the second's defaults.
    """
    helps = not HELP.isdisjoint(arguments)
    try:
        command = _parse([argument for argument in arguments if argument not in HELP], preset(""), say=not helps)
    except SystemExit:
        if not helps:
            raise
        return _parse(arguments, preset(""))
    trains = command.what if isinstance(command, Bench) else command
    settings = (
        preset(trains.env, trains.preset or RECOMMENDED) if isinstance(trains, Train | BenchLearning) else preset("")
    )
    return _parse(arguments, settings)


def _parse(arguments: Sequence[str], settings: Preset, say: bool = True) -> Command:
    train, agent = TrainOptions(**vars(settings.train)), AgentOptions(**vars(settings.agent))
    learning = BenchLearning(env=tyro.MISSING, train=train, agent=agent)
    command: Command = tyro.cli(
        Annotated[Train, tyro.conf.subcommand("train", default=Train(env=tyro.MISSING, train=train, agent=agent))]
        | Annotated[Resume, tyro.conf.subcommand("resume")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Video, tyro.conf.subcommand("video")]
        | Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Plot, tyro.conf.subcommand("plot")]
        | Annotated[Maps, tyro.conf.subcommand("maps")]
        | Annotated[Watch, tyro.conf.subcommand("watch")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Play, tyro.conf.subcommand("play")]
        | Annotated[Doctor, tyro.conf.subcommand("doctor")]
        | Annotated[
            Bench[
                Annotated[BenchSpeed, tyro.conf.subcommand("speed")]
                | Annotated[BenchLearning, tyro.conf.subcommand("learning", default=learning)]
                | Annotated[BenchCompare, tyro.conf.subcommand("compare")]
                | Annotated[BenchDoctor, tyro.conf.subcommand("doctor")]
            ],
            tyro.conf.subcommand("bench"),
        ],
        prog="perilune",
        description="Deep Q-learning with the neural network written from scratch on NumPy.",
        args=arguments,
        console_outputs=say,
    )
    return command


def _showing() -> Callable[..., None]:
    """What shows our own warnings, each once and in one line; those of libraries are for their developers."""
    shown = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, PeriluneWarning) and str(message) not in shown:
            shown.add(str(message))
            aside(f"perilune: {message}")

    return show
