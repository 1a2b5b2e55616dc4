"""Perilune: deep Q-learning with a neural network written from scratch in NumPy."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as in typing, whose import takes time
if TYPE_CHECKING:
    from typing import Any

    from perilune import errors
    from perilune.agent.config import DQNConfig, TrainConfig
    from perilune.agent.dqn import Agent
    from perilune.api import DQN
    from perilune.envs.known import presets
    from perilune.history import History
    from perilune.training.evaluation import Evaluation
    from perilune.tuning import tune

    __version__: str

__all__ = [
    "DQN",
    "Agent",
    "DQNConfig",
    "Evaluation",
    "History",
    "TrainConfig",
    "__version__",
    "errors",
    "presets",
    "tune",
]

_MODULES = {
    "DQN": "perilune.api",
    "Agent": "perilune.agent.dqn",
    "DQNConfig": "perilune.agent.config",
    "Evaluation": "perilune.training.evaluation",
    "History": "perilune.history",
    "TrainConfig": "perilune.agent.config",
    "tune": "perilune.tuning",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line starts fast."""
    if name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    elif name == "__version__":
        value = importlib.import_module("perilune.runs.manifest").version()
    elif name in ("errors", "presets"):
        value = importlib.import_module("perilune.errors" if name == "errors" else "perilune.envs.known.presets")
    else:
        raise AttributeError(f"module 'perilune' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
