"""Read settings from command-line options and from a settings file."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from perilune._utils import toml
from perilune.agent import config as config_module
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import check_names
from perilune.cli.parser import (
    CommandLineError,
    Joined,
    Parser,
    layers,
    named,
    number,
    optional,
    pair,
    path,
    scale,
    scales,
    whole,
)
from perilune.envs.known import presets
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError
from perilune.runs.layout import resume_command

Config = type[DQNConfig] | type[TrainConfig]
# Groups of options in the help. The last group has the settings that no other group lists.
GROUPS = {
    "budget and evaluation": "steps episodes max_episode_steps num_envs workers envpool eval_every eval_episodes "
    "stop_at_return video_every metrics_every checkpoint_seconds keep_checkpoints",
    "common agent settings": "hidden learning_rate gamma batch_size buffer_size learning_starts n_step "
    "epsilon_start epsilon_end epsilon_decay_steps target_update_interval tau",
    "network": "activation layer_norm initializer noisy dueling head atoms value_range quantiles output_scale "
    "observation_scale reward_scale",
    "updates": "loss huber_delta optimizer learning_rate_schedule learning_rate_end learning_rate_decay_steps "
    "momentum weight_decay max_grad_norm train_freq gradient_steps td_lambda epochs mirror double munchausen "
    "munchausen_temperature munchausen_floor ema_decay ema_acts",
    "prioritized replay and exploration": "",
}

# Settings with several values: the function that converts their words, and the name of a value in the help.
LISTS: dict[str, tuple[Callable[[Sequence[str]], Any], str]] = {
    "hidden": (layers, "UNITS"),
    "value_range": (pair, "X"),
    "observation_scale": (scales, "X"),
}


class Chosen(Struct, forbid_unknown_fields=True):
    """The user's choices, without defaults. A settings file has the same format."""

    env: str = ""
    preset: str | None = presets.RECOMMENDED
    seed: int = 0
    env_kwargs: dict[str, Any] = {}
    agent: dict[str, Any] = {}
    train: dict[str, Any] = {}

    def configs(self) -> tuple[DQNConfig, TrainConfig]:
        """Return all agent and training settings."""
        return presets.resolve(self.env, self.preset, self.agent, self.train)


def add_settings(parser: Parser) -> None:
    """Add ENV, ``--preset``, ``--config`` and an option for every setting."""
    parser.usage = f"{parser.prog} ENV [OPTIONS]"
    parser.add_argument(
        "env",
        metavar="ENV",
        type=named,
        nargs="?",
        help="ID of a Gymnasium environment, such as LunarLander-v3 or my_module:MyEnv-v0.",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        type=optional(str),
        help="Preset to start from: recommended (reliable, high final return), fast (least CPU time until solved), "
        "plain (Mnih et al., 2015), default, none, or the ID of an environment with a preset. Default: recommended.",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=path,
        help="Settings file (TOML), such as RUN/settings.toml. Options override its settings.",
    )
    docs = field_docs(TrainConfig) | field_docs(DQNConfig)
    hints = get_type_hints(TrainConfig) | get_type_hints(DQNConfig)
    others = [name for name in docs if name not in " ".join(GROUPS.values()).split()]
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names.split() or others:
            # The docstrings use Python names: on the command line, epsilon_decay is --epsilon-decay and None is none.
            text = re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda found: _option(found[0]), docs[name]).replace("None", "none")
            group.add_argument(_option(name), help=text, **_how(name, hints[name]))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _how(name: str, hint: Any) -> dict[str, Any]:
    """Return the arguments of ``add_argument`` for a setting whose type is ``hint``."""
    if name in LISTS:
        convert, metavar = LISTS[name]
        return {"nargs": "+", "action": Joined, "const": convert, "metavar": metavar}
    if name == "reward_scale":
        return {"type": scale, "metavar": "X"}
    none = NoneType in get_args(hint)
    kind = next(each for each in get_args(hint) if each is not NoneType) if none else hint
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    one, metavar = (whole, "N") if kind is int else (number, "X")
    return {"type": optional(one) if none else one, "metavar": metavar}


def field_docs(cls: Config) -> dict[str, str]:
    """Return the docstring below each field of ``cls``, from its source."""
    tree = ast.parse(inspect.getsource(config_module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    found = {}
    for above, below in pairwise(body):
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
            found[above.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


def show_defaults(parser: Parser, arguments: Sequence[str]) -> None:
    """Show the defaults of the environment and preset in ``arguments`` in the help of ``parser``."""
    chosen, hint = Chosen(), f"To show the defaults for an environment, run {parser.prog} ENV --help."
    with suppress(Exception):  # show the help even if an argument is invalid or a module cannot be imported
        found = choose(parser.parse_known_args([word for word in arguments if word not in ("-h", "--help")])[0])
        if ":" in found.env:
            import_module(found.env.partition(":")[0])  # it may register a preset
        presets.preset(found.env, found.preset)  # raises for an unknown name
        chosen, hint = found, f"The defaults shown are those for {found.env}."
    parser.description = f"{parser.description} {hint}"
    agent, train = presets.resolve(chosen.env, chosen.preset, {}, {})
    parser.set_defaults(**vars(train) | vars(agent))


def choose(options: argparse.Namespace) -> Chosen:
    """Return the user's choices. Options override the settings file.

    Raises:
        CommandLineError: the environment is missing.
        UsageError: a setting in the file does not exist.
    """
    given = vars(options)
    chosen = _read(given["config"]) if "config" in given else Chosen()
    for name in {"env", "preset", "seed"} & given.keys():
        setattr(chosen, name, given[name])
    chosen.env_kwargs.update(given.get("env_kwargs", ()))
    for cls, table in ((DQNConfig, chosen.agent), (TrainConfig, chosen.train)):
        check_names(cls, table)
        table.update({field.name: given[field.name] for field in fields(cls) if field.name in given})
    if not chosen.env:
        raise CommandLineError(
            "perilune: ENV is missing. Pass the ID of a Gymnasium environment, such as LunarLander-v3, or --config."
        )
    if (Path(chosen.env) / "config.json").exists():
        resume = resume_command(Path(chosen.env))
        raise ConfigError("env", chosen.env, f"the ID of an environment, or `{resume}` to resume this run")
    if chosen.preset == "none":
        chosen.preset = None
    return chosen


def choose_registered(options: argparse.Namespace) -> Chosen:
    """Return the user's choices for worker processes, which make the environment from its ID alone.

    Raises:
        ConfigError: there are keyword arguments of the environment.
    """
    chosen = choose(options)
    if chosen.env_kwargs:
        expected = "no arguments. Register an environment ID with these arguments and pass that ID"
        raise ConfigError("env_kwargs", chosen.env_kwargs, expected)
    return chosen


def _read(path: Path) -> Chosen:
    """Read a settings file."""
    try:
        chosen = msgspec.toml.decode(path.read_bytes(), type=Chosen)
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # UnicodeDecodeError, too many digits or levels
        raise FileFormatError(f"{path} is not a settings file: {error}") from error
    for table in (chosen.env_kwargs, chosen.agent, chosen.train):
        table.update({name: None for name, value in table.items() if value == toml.NONE})
    return chosen
