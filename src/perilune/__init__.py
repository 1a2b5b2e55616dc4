"""Perilune: deep Q-learning with the neural network written from scratch on NumPy."""

from perilune.api import DQN, film_stages
from perilune.blas import one_blas_thread
from perilune.config import DQNConfig, TrainConfig
from perilune.errors import PeriluneError
from perilune.evaluate import Evaluation
from perilune.history import History
from perilune.runlog import version

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
