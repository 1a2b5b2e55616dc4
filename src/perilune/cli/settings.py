"""The settings as options of the command line, from a settings file, or both."""

from __future__ import annotations

import argparse
import ast
import inspect
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from perilune.agent import config as config_module
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import check_names
from perilune.cli.parser import Layers, Pair, Parser, assignment, choice, number, optional, whole
from perilune.envs.known import presets
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError

Config = type[DQNConfig] | type[TrainConfig]
# Groups of the help, in order. Settings that stand in no group are in the last one.
GROUPS: dict[str, tuple[str, ...]] = {
    "budget and evaluation": (
        *("steps", "episodes", "max_episode_steps", "num_envs", "eval_every", "eval_episodes", "stop_at_return"),
        *("video_every", "metrics_every", "checkpoint_seconds", "keep_checkpoints"),
    ),
    "common settings of the agent": (
        *("hidden", "learning_rate", "gamma", "batch_size", "buffer_size", "learning_starts", "n_step"),
        *("epsilon_start", "epsilon_end", "epsilon_decay_steps", "target_update_interval", "tau"),
    ),
    "network": (
        "activation",
        "layer_norm",
        "initializer",
        "noisy",
        "dueling",
        "head",
        "atoms",
        "value_range",
        "quantiles",
    ),
    "updates": (
        *("loss", "huber_delta", "optimizer", "learning_rate_schedule", "learning_rate_end"),
        *("learning_rate_decay_steps", "momentum", "weight_decay", "max_grad_norm", "train_freq", "gradient_steps"),
        *("mirror", "double", "munchausen", "munchausen_temperature", "munchausen_floor", "ema_decay", "ema_acts"),
    ),
    "prioritized replay and exploration": (),
}


@dataclass(frozen=True)
class Chosen:
    """What the user chose, in options and in the settings file: nothing else, and no defaults."""

    env: str
    preset: str | None = presets.RECOMMENDED
    seed: int = 0
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    agent: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    def configs(self) -> tuple[DQNConfig, TrainConfig]:
        """Return all settings of the agent and of the training."""
        return presets.resolve(self.env, self.preset, self.agent, self.train)


def add_settings(parser: Parser) -> None:
    """Add ENV, ``--preset``, ``--config`` and an option for every setting."""
    parser.usage = f"{parser.prog} ENV [OPTIONS]"
    parser.add_argument("env", metavar="ENV", nargs="?", help="Id of a Gymnasium environment, such as LunarLander-v3.")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        type=optional(str),
        help="Settings to start from: recommended, plain (Mnih et al.), none, or the id of an environment that has a "
        "preset (default: recommended).",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="Settings file (TOML), such as RUN/settings.toml. Options replace it.",
    )
    add_env_kwargs(parser)
    docs = {name: text for cls in (TrainConfig, DQNConfig) for name, text in field_docs(cls).items()}
    hints = get_type_hints(TrainConfig) | get_type_hints(DQNConfig)
    listed = {name for names in GROUPS.values() for name in names}
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names or [name for name in docs if name not in listed]:
            _add_setting(group, name, hints[name], docs[name])


def add_env_kwargs(parser: Parser) -> None:
    """Add ``--env-kwargs``."""
    parser.add_argument(
        "--env-kwargs",
        metavar="NAME=VALUE",
        nargs="+",
        type=assignment,
        help="Keyword arguments of the environment, such as enable_wind=True.",
    )


def _add_setting(group: Any, name: str, hint: Any, doc: str) -> None:
    """Add the option of one setting, whose type is ``hint``."""
    option, none = f"--{name.replace('_', '-')}", NoneType in get_args(hint)
    kind = next(each for each in get_args(hint) if each is not NoneType) if none else hint
    if name == "hidden":
        group.add_argument(option, nargs="+", action=Layers, metavar="UNITS", help=doc)
    elif name == "value_range":
        group.add_argument(option, nargs="+", action=Pair, metavar="NUMBER", help=doc)
    elif kind is bool:
        group.add_argument(option, action=argparse.BooleanOptionalAction, help=doc)
    elif get_origin(kind) is Literal:
        words = get_args(kind)
        group.add_argument(option, type=choice(words), metavar="{" + ",".join(words) + "}", help=doc)
    else:
        convert, metavar = (whole, "N") if kind is int else (number, "X")
        group.add_argument(option, type=optional(convert) if none else convert, metavar=metavar, help=doc)


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
    try:
        found = choose(parser.parse_known_args([word for word in arguments if word not in ("-h", "--help")])[0])
        agent, train = presets.resolve(found.env, found.preset, {}, {})
        parser.description = f"{parser.description} Defaults: those of {found.env}."
    except Exception:  # the arguments may be anything, and the help is what was asked for
        agent, train = presets.resolve("", presets.RECOMMENDED, {}, {})
    values = vars(train) | vars(agent)
    for action in parser._actions:
        if action.dest in values:
            action.default = values[action.dest]


def choose(options: argparse.Namespace) -> Chosen:
    """Return what the user chose. An option replaces the same setting in the settings file.

    Raises:
        ConfigError: the environment is missing, or the file has a setting that does not exist.
    """
    given = vars(options)
    file = _read(given["config"]) if "config" in given else {}
    env = given.get("env") or file.get("env")
    if not isinstance(env, str):
        raise ConfigError("env", env, "the id of a Gymnasium environment, such as LunarLander-v3")
    settings: dict[str, dict[str, Any]] = {}
    for table, cls in (("agent", DQNConfig), ("train", TrainConfig)):
        named = {name: given[name] for name in (each.name for each in fields(cls)) if name in given}
        settings[table] = _values(file, table) | named
        check_names(cls, settings[table])
    preset = given.get("preset", file.get("preset", presets.RECOMMENDED))
    return Chosen(
        env=env,
        preset=None if preset == "none" else preset,
        seed=given.get("seed", file.get("seed", 0)),
        env_kwargs=_values(file, "env_kwargs") | dict(given.get("env_kwargs", ())),
        agent=settings["agent"],
        train=settings["train"],
    )


def _values(file: dict[str, Any], table: str) -> dict[str, Any]:
    """Return a table of the settings file. TOML has no null: "none" stands for it."""
    return {name: None if value == "none" else value for name, value in file.get(table, {}).items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is not a TOML file: {error}.") from error
    known = {"env", "preset", "seed", "agent", "train", "env_kwargs"}
    for name, value in content.items():
        table = name in ("agent", "train", "env_kwargs")
        if name not in known or table != isinstance(value, dict):
            raise ConfigError(
                name, value, f"a settings file with env, preset, seed, [agent], [train], [env_kwargs]: {path}"
            )
    return content
