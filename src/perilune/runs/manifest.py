"""Write, read and compare config.json (the setup of a run) and host.json (its machine)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from threadpoolctl import threadpool_info

from perilune._utils.validation import LARGEST, Natural, from_json
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.errors import ConfigError, FileFormatError, PeriluneError, RunDirectoryError
from perilune.nn import backend
from perilune.replay.symmetry import Symmetry
from perilune.runs import files
from perilune.runs.search import choice_of

FORMAT = 1
# Settings that may change when a run resumes. The others determine the shape or the meaning of the saved numbers.
CHANGEABLE = frozenset(
    {
        *("workers", "loss", "huber_delta", "learning_rate", "learning_rate_schedule", "learning_rate_end"),
        *("learning_rate_decay_steps", "momentum", "weight_decay", "max_grad_norm", "batch_size", "train_freq"),
        *("gradient_steps", "epochs", "mirror", "double", "munchausen", "munchausen_temperature", "munchausen_floor"),
        *("target_update_interval", "tau", "ema_acts", "priority_beta", "priority_beta_steps", "epsilon_start"),
        *("epsilon_end", "epsilon_decay_steps", "epsilon_decay", "epsilon_decay_per", "max_action_repeat", "optimism"),
        *(field.name for field in fields(TrainConfig) if field.name != "num_envs"),
    }
)


class Setup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The setup of a run: the environment and how it was made, the seed, and all settings."""

    environment: str
    made: str
    reward_threshold: float | None
    observation_size: Natural
    actions: Natural
    seed: Natural
    symmetry: Symmetry | None
    agent: DQNConfig
    train: TrainConfig

    def to_json(self) -> dict[str, Any]:
        """Return the content of config.json."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return {"format": FORMAT, **plain}


class _Config(msgspec.Struct):
    """The part of config.json that all readers need."""

    environment: str
    reward_threshold: float | None
    seed: Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
    agent: dict[str, Any]
    train: dict[str, Any]


def write_config(directory: Path, content: dict[str, Any]) -> None:
    """Write host.json, then config.json, which marks the directory as a run."""
    files.write_json(directory / "host.json", host())
    files.write_json(directory / "config.json", content)


def check_run(directory: Path) -> None:
    """Raise RunDirectoryError if ``directory`` has no config.json."""
    if not (directory / "config.json").exists():
        reason = "it has no config.json" if directory.exists() else "it does not exist"
        hint = choice_of(directory) or "Pass a run directory. `perilune list` lists the runs in runs/."
        raise RunDirectoryError(f"{directory} is not a run: {reason}. {hint}")


def read_config(directory: Path) -> dict[str, Any]:
    """Return the content of config.json of a run."""
    check_run(directory)
    path = directory / "config.json"
    config = files.read_json(path)
    if config.get("format") != FORMAT:
        raise FileFormatError(
            f"{path} has format {str(config.get('format'))[:100]}; this version of Perilune reads format {FORMAT}"
        )
    try:
        msgspec.convert(config, _Config)
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{path} is invalid: {error}") from error
    return config


def read_setup(directory: Path) -> Setup:
    """Return the setup in config.json, with defaults for missing settings. Reject unknown settings."""
    content = {name: value for name, value in read_config(directory).items() if name != "format"}
    try:
        return from_json(msgspec.json.encode(content), Setup)
    except (ConfigError, RecursionError) as error:
        raise FileFormatError(
            f"{directory}/config.json is invalid: {error} Undo the edit, or use the version of Perilune that wrote it."
        ) from error


def family(config: dict[str, Any]) -> str:
    """Return a short hash of all settings except the seed."""
    settings = {name: value for name, value in config.items() if name != "seed"}
    try:
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    except RecursionError as error:
        raise FileFormatError("config.json is nested too deeply") from error


def created(directory: Path) -> float:
    """Return the time in seconds when a run was created; 0 if it has no settings. Resuming rewrites config.json."""
    times = []
    for name in ("settings.toml", "config.json"):
        with suppress(OSError):
            times.append((directory / name).lstat().st_mtime)
    return min(times, default=0.0)


def version() -> str:
    """Return Perilune's version."""
    try:
        return metadata.version("perilune")
    except metadata.PackageNotFoundError:
        return "not installed"


def host() -> dict[str, Any]:
    """Return a description of this machine, and the versions of the libraries."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # Prefer the BLAS of NumPy, because other libraries may load their own.
    blas: dict[str, Any] = min(libraries, key=lambda library: "numpy" not in library["filepath"], default={})
    return {
        "perilune": version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "gymnasium": metadata.version("gymnasium"),
        "backend": backend.description(),
        "blas": {key: blas.get(key) for key in ("internal_api", "version", "architecture", "num_threads")},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def check_changes(found: Setup, wanted: Setup, named: Sequence[str]) -> list[str]:
    """Return the names of the settings that differ. Raise ConfigError if one is fixed or not in ``named``."""
    old, new = _flat(found), _flat(wanted)
    changed = [name for name in old if old[name] != new[name]]
    for name in changed:
        expected = f"{old[name]!r}, as in the run"
        if name not in CHANGEABLE:
            raise ConfigError(name, new[name], f"{expected}: this setting cannot change when a run is resumed")
        if name not in named:
            raise ConfigError(name, new[name], f"{expected}. To change it, list it in `change`")
    return changed


def check_config(directory: Path, found: Setup, wanted: Setup) -> None:
    """Raise ConfigError if config.json has neither the settings of the checkpoint nor the wanted settings."""
    stored = read_setup(directory)
    if stored in (found, wanted):
        return
    edited, saved = _flat(stored), _flat(found)
    name = next(name for name in saved if edited[name] != saved[name])
    hint = f"{saved[name]!r}, as in the checkpoint. Undo the edit of {directory}/config.json"
    raise ConfigError(name, edited[name], hint)


def _flat(setup: Setup) -> dict[str, Any]:
    """Return the fields of ``setup`` and all settings by name."""
    other = {name: getattr(setup, name) for name in Setup.__struct_fields__ if name not in ("agent", "train")}
    return {**other, **asdict(setup.agent), **asdict(setup.train)}


def differing_host(directory: Path) -> str | None:
    """Return how this machine differs from the machine of the run, or None if no difference can change results."""
    try:
        before, now = (_versions(machine) for machine in (files.read_json(directory / "host.json"), host()))
    except PeriluneError:  # the machine of the run is unknown
        return None
    return "; ".join(f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]) or None


def _versions(host: dict[str, Any]) -> dict[str, Any]:
    blas = host["blas"] if isinstance(host.get("blas"), dict) else {}
    kernels = {f"BLAS {name}": blas.get(name) for name in ("internal_api", "version", "architecture")}
    return {name: host.get(name) for name in ("perilune", "numpy", "gymnasium", "machine", "backend")} | kernels
