"""Nothing is lost: what happens in a training is written into its run directory, with all that is needed to go on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from perilune._utils.console import aside
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, PeriluneError, RunDirectoryError
from perilune.runs import checkpoint, files, runlog, snapshots, weights
from perilune.runs.checkpoint import Checkpoint, Setup
from perilune.training.events import Episode, Evaluated, Event, SafePoint
from perilune.training.progress import TrainingState, beginning

SHARE = 0.01  # of a training's time that its checkpoints may take

# What a run may go on with otherwise than it began. All else is in the shape of what was saved, or in its numbers.
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


class Recorder:
    """Reads a training's events and keeps what they say: the logs, the best weights, snapshots, and checkpoints.

    Args:
        directory: the run, claimed by this process.
        agent: the one that is trained.
        setup: what is trained.
        log: the run's log.
        latest: the checkpoint that the training goes on from; None for a new one, which gets its first one here. So
            does one that goes on with another setup.
    """

    def __init__(
        self, directory: Path, agent: Agent, setup: Setup, log: runlog.RunLog, latest: Checkpoint | None = None
    ) -> None:
        self._directory = directory
        self._agent = agent
        self._setup = setup
        self._log = log
        self._latest = latest
        self._saved_at = time.perf_counter()
        self._cost = 0.0
        self._evaluations = 0
        if latest is None:
            self._save(beginning(agent), best=False)
            snapshots.take(directory, agent, setup.environment, 0)
            return
        self._evaluations = len(runlog.read_log(directory, Evaluated))
        snapshots.cut(directory, self._evaluations)
        if setup != latest.setup:
            over = latest.training.over and setup.train == latest.setup.train
            self._save(replace(latest.training, over=over), latest.best)

    def read(self, event: Event) -> None:
        """Write down what ``event`` says, and take a checkpoint where one is due."""
        if isinstance(event, Episode) and not (self._directory / "config.json").exists():
            # What is open could still be written, though nobody would ever find it.
            raise RunDirectoryError(f"{self._directory} is no run any more: somebody has removed its config.json")
        self._log.write(event)
        if isinstance(event, Evaluated):
            self._evaluations += 1
            snapshots.take(self._directory, self._agent, self._setup.environment, self._evaluations)
            if event.best:
                weights.save_weights(self._directory / runlog.WEIGHTS["best"], self._agent, self._setup.environment)
        elif isinstance(event, SafePoint) and (event.best or event.course.over or self._due):
            self.save(event)

    @property
    def _due(self) -> bool:
        """Whether the interval is over; it is longer where a checkpoint would take too much of it."""
        interval = self._setup.train.checkpoint_seconds
        if interval is None:
            return False
        return time.perf_counter() - self._saved_at >= max(interval, self._cost / SHARE)

    def save(self, rest: SafePoint) -> None:
        """Take a checkpoint."""
        self._save(rest.course.state(), rest.best)

    def _save(self, training: TrainingState, best: bool) -> None:
        started = time.perf_counter()
        self._latest = checkpoint.save(
            self._directory,
            self._agent,
            setup=self._setup,
            training=training,
            logs=self._log.flushed(),
            best=best,
            previous=self._latest,
        )
        self._saved_at = time.perf_counter()
        self._cost = self._saved_at - started

    @property
    def words(self) -> str:
        """Where the last checkpoint is, and what to do with it."""
        assert self._latest is not None
        path = checkpoint.path_of(self._directory, self._latest.agent.env_steps)
        if not path.is_file():
            return f"The last checkpoint was {path}, which is not there any more."
        return (
            f"Nothing saved is lost: the last checkpoint is {path}. Go on from there: perilune resume {self._directory}"
        )

    def save_final(self) -> None:
        """Write the weights as they are now, unless they are spoilt."""
        if all(np.isfinite(array).all() for array in self._agent.named_weights().values()):
            weights.save_weights(self._directory / runlog.WEIGHTS["final"], self._agent, self._setup.environment)


def check_changes(found: Setup, wanted: Setup, named: Sequence[str]) -> list[str]:
    """Refuse to go on with another setup than the one found, but for settings that are ``named`` and can be changed.

    Returns:
        Those that are changed, the agent's first.

    Raises:
        ConfigError: something differs that is not named, or cannot be changed, with both values.
    """
    for field in fields(Setup):
        there, here = getattr(found, field.name), getattr(wanted, field.name)
        if field.name not in ("agent", "train") and there != here:
            raise ConfigError(field.name, here, f"{there!r}, as in the run that goes on")
    settings: list[tuple[DQNConfig, DQNConfig] | tuple[TrainConfig, TrainConfig]]
    settings = [(found.agent, wanted.agent), (found.train, wanted.train)]
    changed = []
    for before, after in settings:
        for name, here in asdict(after).items():
            there = asdict(before)[name]
            if here == there:
                continue
            if name not in CHANGEABLE:
                raise ConfigError(name, here, f"{there!r}, as in the run that goes on: it cannot be changed on the way")
            if name not in named:
                raise ConfigError(
                    name, here, f"{there!r}, as in the run that goes on, unless the change is asked for by name"
                )
            changed.append(name)
    return changed


def check_config(directory: Path, found: Setup, wanted: Setup) -> None:
    """Refuse to go on where config.json says something else than the checkpoint, unless it is what is asked for.

    Raises:
        ConfigError: it does, with the first such setting and both values.
    """
    stored, expected = runlog.read_config(directory), found.to_json()
    if stored in (expected, wanted.to_json()):
        return
    for group in (expected["agent"], expected["train"], expected):
        there = stored if group is expected else stored["agent" if group is expected["agent"] else "train"]
        for name, value in group.items():
            if name not in there or there[name] != value:
                raise ConfigError(
                    name,
                    there.get(name),
                    f"{value!r}, as in the checkpoint: a change is asked for by name, not in {directory}/config.json",
                )
    raise ConfigError("config.json", sorted(stored), f"only what the checkpoint has: {sorted(expected)}")


def differing_host(directory: Path) -> str | None:
    """In words, what is another machine or version than the run's so far, so that numbers may come out otherwise."""
    try:
        before, now = (_numbers_depend_on(host) for host in (files.read_json(directory / "host.json"), runlog.host()))
    except PeriluneError:  # a run whose host is not known is none the worse for it
        return None
    return (
        "; ".join(f"{name} {before[name]} there, {now[name]} here" for name in now if before[name] != now[name]) or None
    )


def _numbers_depend_on(host: dict[str, Any]) -> dict[str, Any]:
    """Of what host.json says, that which the last bit of a result hangs on."""
    blas = host["blas"] if isinstance(host.get("blas"), dict) else {}
    kernels = {f"BLAS {name}": blas.get(name) for name in ("internal_api", "version", "architecture")}
    return {name: host.get(name) for name in ("perilune", "numpy", "gymnasium", "machine")} | kernels


@dataclass
class Interruption:
    """The signal that asks for an end, once there was one, and what to say when everything is saved."""

    signal: int | None = None
    words: str | None = None


@contextmanager
def interruptions(say: str) -> Iterator[Interruption]:
    """Note SIGINT and SIGTERM instead of ending at once, so that there is time to save; a second one ends at once.

    After the block the signal that came is sent again, to whoever heard it before. Only a program's main thread hears
    signals: in any other one nothing is done.
    """
    heard = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    signals = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def hear(number: int, frame: FrameType | None) -> None:
        if heard.signal is not None:
            restore()
            signal.raise_signal(number)
            return
        heard.signal = number
        aside(f"\n{say}")

    try:
        for number in signals:
            if before[number] is not signal.SIG_IGN:  # as a process that was started not to hear it
                signal.signal(number, hear)
        yield heard
    finally:
        restore()
    if heard.words is not None:
        aside(f"perilune: {heard.words}")
    if heard.signal is not None:
        signal.raise_signal(heard.signal)
