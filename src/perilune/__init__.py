"""Perilune: deep Q-learning with the neural network written from scratch on NumPy."""

from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.api import DQN, film_stages
from perilune.errors import PeriluneError
from perilune.history import History
from perilune.runs.runlog import version
from perilune.training.evaluation import Evaluation

__version__ = version()
__all__ = [
    "DQN",
    "DQNConfig",
    "Evaluation",
    "History",
    "PeriluneError",
    "TrainConfig",
    "film_stages",
    "one_blas_thread",
]
