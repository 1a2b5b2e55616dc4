"""Checks before a run resumes: which settings may change, and whether results can differ on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from perilune.agent.config import TrainConfig
from perilune.errors import ConfigError, PeriluneError
from perilune.runs import files, manifest
from perilune.runs.checkpoint import Setup

# All other settings determine the shape of what was saved, or the meaning of its numbers.
CHANGEABLE = frozenset(
    {
        *("loss", "huber_delta", "learning_rate", "learning_rate_schedule", "learning_rate_end"),
        *("learning_rate_decay_steps", "momentum", "weight_decay", "max_grad_norm", "batch_size", "train_freq"),
        *("gradient_steps", "mirror", "double", "munchausen", "munchausen_temperature", "munchausen_floor"),
        *("target_update_interval", "tau", "ema_acts", "priority_beta", "priority_beta_steps", "epsilon_start"),
        *("epsilon_end", "epsilon_decay_steps", "epsilon_decay", "epsilon_decay_per", "max_action_repeat", "optimism"),
        *(field.name for field in fields(TrainConfig) if field.name != "num_envs"),
    }
)


def check_changes(found: Setup, wanted: Setup, named: Sequence[str]) -> list[str]:
    """Return the names of the settings in which ``wanted`` differs from the run, the agent's first.

    Raises:
        ConfigError: a setting differs that is not among ``named`` or cannot change; the message has both values.
    """
    for name in Setup.__struct_fields__:
        before, after = getattr(found, name), getattr(wanted, name)
        if name not in ("agent", "train") and before != after:
            raise ConfigError(name, after, f"{before!r}, as in the run")
    changed = []
    pairs = [(asdict(found.agent), asdict(wanted.agent)), (asdict(found.train), asdict(wanted.train))]
    for name, before, after in ((name, old[name], new[name]) for old, new in pairs for name in old):
        if before == after:
            continue
        if name not in CHANGEABLE:
            raise ConfigError(name, after, f"{before!r}, as in the run: this setting cannot change when a run resumes")
        if name not in named:
            raise ConfigError(name, after, f"{before!r}, as in the run. To change it, name it in `change`")
        changed.append(name)
    return changed


def check_config(directory: Path, found: Setup, wanted: Setup) -> None:
    """Refuse to resume if config.json was edited, unless it already has the wanted settings.

    Raises:
        ConfigError: config.json differs from the checkpoint; the message has the first setting and both values.
    """
    stored, expected = manifest.read_config(directory), found.to_json()
    if stored in (expected, wanted.to_json()):
        return
    for there, group in (
        (stored["agent"], expected["agent"]),
        (stored["train"], expected["train"]),
        (stored, expected),
    ):
        for name in [*group, *there]:
            if there.get(name, ...) != group.get(name, ...):
                hint = f"{group.get(name)!r}, as in the checkpoint. Undo the edit of {directory}/config.json"
                raise ConfigError(name, there.get(name), hint)


def differing_host(directory: Path) -> str | None:
    """Return how this machine differs from the run's in what the last bits of results depend on, None if in nothing."""
    try:
        before, now = (_versions(host) for host in (files.read_json(directory / "host.json"), manifest.host()))
    except PeriluneError:  # the host is unknown, which is no reason to warn
        return None
    return "; ".join(f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name]) or None


def _versions(host: dict[str, Any]) -> dict[str, Any]:
    blas = host["blas"] if isinstance(host.get("blas"), dict) else {}
    kernels = {f"BLAS {name}": blas.get(name) for name in ("internal_api", "version", "architecture")}
    return {name: host.get(name) for name in ("perilune", "numpy", "gymnasium", "machine")} | kernels
