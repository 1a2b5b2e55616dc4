"""The settings as options of the command line, from a settings file, or both."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct, structs

from perilune.agent import config as config_module
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import check_names
from perilune.cli.parser import CommandLineError, Layers, Pair, Parser, number, optional, whole
from perilune.envs.known import presets
from perilune.errors import ConfigError, FileFormatError, PeriluneError, RunDirectoryError

Config = type[DQNConfig] | type[TrainConfig]
# Groups of the help, in order. Settings that stand in no group are in the last one.
GROUPS = {
    "budget and evaluation": "steps episodes max_episode_steps num_envs eval_every eval_episodes stop_at_return "
    "video_every metrics_every checkpoint_seconds keep_checkpoints",
    "common settings of the agent": "hidden learning_rate gamma batch_size buffer_size learning_starts n_step "
    "epsilon_start epsilon_end epsilon_decay_steps target_update_interval tau",
    "network": "activation layer_norm initializer noisy dueling head atoms value_range quantiles",
    "updates": "loss huber_delta optimizer learning_rate_schedule learning_rate_end learning_rate_decay_steps "
    "momentum weight_decay max_grad_norm train_freq gradient_steps mirror double munchausen munchausen_temperature "
    "munchausen_floor ema_decay ema_acts",
    "prioritized replay and exploration": "",
}


class Chosen(Struct, frozen=True, forbid_unknown_fields=True):
    """What the user chose, in options and in the settings file, whose format this is: no defaults of settings."""

    env: str = ""
    preset: str | None = presets.RECOMMENDED
    seed: int = 0
    env_kwargs: dict[str, Any] = {}
    agent: dict[str, Any] = {}
    train: dict[str, Any] = {}

    def configs(self) -> tuple[DQNConfig, TrainConfig]:
        """Return all settings of the agent and of the training."""
        return presets.resolve(self.env, self.preset, self.agent, self.train)


def add_settings(parser: Parser) -> None:
    """Add ENV, ``--preset``, ``--config`` and an option for every setting."""
    parser.usage = f"{parser.prog} ENV [OPTIONS]"
    parser.add_argument("env", metavar="ENV", nargs="?", help="ID of a Gymnasium environment, such as LunarLander-v3.")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        type=optional(str),
        help="Settings to start from: recommended, plain (the DQN of Mnih et al.), none, or the ID of an environment "
        "that has a preset. Default: recommended.",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="Settings file (TOML), such as RUN/settings.toml. Options override it.",
    )
    docs = field_docs(TrainConfig) | field_docs(DQNConfig)
    hints = get_type_hints(TrainConfig) | get_type_hints(DQNConfig)
    others = [name for name in docs if name not in " ".join(GROUPS.values()).split()]
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names.split() or others:
            # The docstrings are about Python: on the command line, epsilon_decay is --epsilon-decay and None is none.
            text = re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda found: _option(found[0]), docs[name]).replace("None", "none")
            group.add_argument(_option(name), help=text, **_how(name, hints[name]))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _how(name: str, hint: Any) -> dict[str, Any]:
    """Return the arguments of ``add_argument`` for a setting whose type is ``hint``."""
    if name == "hidden":
        return {"nargs": "+", "action": Layers, "metavar": "UNITS"}
    if name == "value_range":
        return {"nargs": "+", "action": Pair, "metavar": "X"}
    none = NoneType in get_args(hint)
    kind = next(each for each in get_args(hint) if each is not NoneType) if none else hint
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    convert, metavar = (whole, "N") if kind is int else (number, "X")
    return {"type": optional(convert) if none else convert, "metavar": metavar}


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
    """Let the help of ``parser`` show the defaults of the environment and preset in ``arguments``."""
    env, preset = Chosen().env, Chosen().preset
    # The arguments may be anything, and the help is what was asked for.
    with suppress(CommandLineError, PeriluneError):
        chosen = choose(parser.parse_known_args([word for word in arguments if word not in ("-h", "--help")])[0])
        presets.preset(chosen.env, chosen.preset)  # refuses an unknown name
        env, preset = chosen.env, chosen.preset
        parser.description = f"{parser.description} The defaults shown are those of {env}."
    agent, train = presets.resolve(env, preset, {}, {})
    parser.set_default(vars(train) | vars(agent))


def choose(options: argparse.Namespace) -> Chosen:
    """Return what the user chose. An option replaces the same setting in the settings file.

    Raises:
        ConfigError: the environment is missing, or the file has a setting that does not exist.
    """
    given = vars(options)
    file = _read(given["config"]) if "config" in given else Chosen()
    chosen = structs.replace(
        file,
        **{name: given[name] for name in ("env", "preset", "seed") if name in given},
        env_kwargs=_values(file.env_kwargs) | dict(given.get("env_kwargs", ())),
        agent=_values(file.agent) | {each.name: given[each.name] for each in fields(DQNConfig) if each.name in given},
        train=_values(file.train) | {each.name: given[each.name] for each in fields(TrainConfig) if each.name in given},
    )
    if not chosen.env:
        raise ConfigError("env", None, "the ID of a Gymnasium environment, such as LunarLander-v3")
    check_names(DQNConfig, chosen.agent)
    check_names(TrainConfig, chosen.train)
    return structs.replace(chosen, preset=None) if chosen.preset == "none" else chosen


def _values(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table of the settings file. TOML has no null: "none" stands for it."""
    return {name: None if value == "none" else value for name, value in table.items()}


def _read(path: Path) -> Chosen:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Chosen)
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is not a settings file: {error}") from error
