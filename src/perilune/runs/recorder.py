"""The recorder: writes what happens in a training into its run directory, with checkpoints to resume from."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from perilune.agent.dqn import Agent
from perilune.agent.state import named_weights
from perilune.errors import RunDirectoryError
from perilune.runs import checkpoint, logs, snapshots, weights
from perilune.runs.checkpoint import Checkpoint
from perilune.runs.layout import WEIGHTS
from perilune.runs.manifest import Setup
from perilune.training.events import Episode, Evaluated, Event, SafePoint
from perilune.training.progress import TrainingProgress

SHARE = 0.01  # of the training time that checkpoints may take


class Recorder:
    """Read a training's events and write logs, the best weights, snapshots and checkpoints.

    A new run gets its first checkpoint here. So does a run that resumes with changed settings.

    Args:
        directory: the run, locked by this process.
        agent: the agent that is trained.
        setup: what is trained.
        log: the run's logs.
        latest: the checkpoint from which training resumes; None for a new run.
    """

    def __init__(
        self, directory: Path, agent: Agent, setup: Setup, log: logs.LogWriter, latest: Checkpoint | None = None
    ) -> None:
        self._directory = directory
        self._agent = agent
        self._setup = setup
        self._log = log
        self._saved_at = time.perf_counter()
        self._cost = 0.0  # seconds that the last checkpoint took
        self._saved_step = agent.env_steps
        self._evaluations = 0
        if latest is None:
            self.save(SafePoint(TrainingProgress.start(agent), best=False))
            snapshots.take(directory, agent, setup.environment, 0)
            return
        self._evaluations = len(logs.read_log(directory, Evaluated))
        snapshots.cut(directory, self._evaluations)
        if setup != latest.setup:
            over = latest.training.finished and setup.train == latest.setup.train
            self.save(SafePoint(replace(latest.training, finished=over), latest.best))

    def read(self, event: Event) -> None:
        """Record ``event``, and save a checkpoint if one is due."""
        if isinstance(event, Episode) and not (self._directory / "config.json").exists():
            # Open files could still be written, but nobody would find them.
            raise RunDirectoryError(f"{self._directory} is not a run any more: its config.json was removed")
        self._log.write(event)
        if isinstance(event, Evaluated):
            self._evaluations += 1
            snapshots.take(self._directory, self._agent, self._setup.environment, self._evaluations)
            if event.best:
                weights.save_weights(self._directory / WEIGHTS["best"], self._agent, self._setup.environment)
        elif isinstance(event, SafePoint) and (event.best or event.progress.finished or self._due):
            self.save(event)

    @property
    def _due(self) -> bool:
        """Whether the interval is over. It grows so that checkpoints take at most ``SHARE`` of the time."""
        interval = self._setup.train.checkpoint_seconds
        if interval is None:
            return False
        return time.perf_counter() - self._saved_at >= max(interval, self._cost / SHARE)

    def save(self, point: SafePoint) -> None:
        """Save a checkpoint."""
        started = time.perf_counter()
        states = self._log.flush()
        checkpoint.save(
            self._directory, self._agent, setup=self._setup, training=point.progress, logs=states, best=point.best
        )
        self._saved_step = self._agent.env_steps
        self._saved_at = time.perf_counter()
        self._cost = self._saved_at - started

    @property
    def message(self) -> str:
        """Where the last checkpoint is, and how to resume from it."""
        path = checkpoint.path_of(self._directory, self._saved_step)
        if not path.is_file():
            return f"The last checkpoint, {path}, was removed."
        return f"Saved up to checkpoint {path}. Resume with: perilune resume {self._directory}"

    def save_final(self) -> None:
        """Write the weights as they are now, unless they are not finite."""
        if all(np.isfinite(array).all() for array in named_weights(self._agent).values()):
            weights.save_weights(self._directory / WEIGHTS["final"], self._agent, self._setup.environment)
