"""Train in memory or in a run directory, with logs, checkpoints, videos, plots and signal handling."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from perilune._utils import toml
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune._utils.console import aside, say
from perilune._utils.text import printable, quoted
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.agent.state import named_weights
from perilune.envs import Env
from perilune.envs.known import lookup, presets
from perilune.envs.rendering import can_draw
from perilune.errors import (
    ConfigError,
    EnvironmentFaultError,
    MissingDependencyError,
    PeriluneError,
    PeriluneWarning,
    RunDirectoryError,
)
from perilune.history import History
from perilune.runs import checkpoint, failure, files, layout, lock, logs, manifest, snapshots, weights
from perilune.runs.checkpoint import Checkpoint
from perilune.runs.interruption import interruptions
from perilune.runs.manifest import Setup
from perilune.training.checks import check
from perilune.training.evaluation import greedy_limit
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics, SafePoint, Timestep, WarmingUp
from perilune.training.loop import training_events
from perilune.training.progress import TrainingProgress
from perilune.viz import notebook, terminal, video
from perilune.viz import tensorboard as event_files
from perilune.viz.summary import TrainingSummary

Callback = Callable[[Event], object]
"""A function that ``train`` calls with every event. If it returns False, training stops."""

SHARE = 0.01  # largest share of the training time that checkpoints may take


@dataclass(kw_only=True)
class Recording:
    """A training run: agent, settings, run directory and options. ``DQN.train`` documents the options."""

    agent: Agent
    env: Env
    setup: Setup
    directory: Path = Path()
    latest: Checkpoint | None = None
    """The checkpoint to resume from."""
    preset: str | None = None
    callback: Callback | None = None
    frames: bool = False
    pictures: bool = True
    quiet: bool = False
    tensorboard: bool = False
    stopping: bool = field(default=False, init=False)
    """Whether the callback or a signal has requested a stop."""
    interrupted: bool = field(default=False, init=False)
    """Whether a signal has requested a stop."""
    checkpoints: Sequence[Path] = field(default=(), init=False)
    """The checkpoint files that existed when ``latest`` was read."""
    playing: dict[int, list[Array]] = field(default_factory=dict, init=False)
    recorded: dict[int, list[Array]] = field(default_factory=dict, init=False)
    """Images of episodes in progress (``playing``) and of finished episodes (``recorded``), by episode number."""

    def in_memory(self) -> History:
        """Train the agent and keep the history in memory."""
        kept: dict[type[Event], Any] = {Episode: [], Metrics: [], Evaluated: [], HealthWarning: []}
        check(self.agent, self.env, self.setup.train)
        self._announce()
        with one_blas_thread(), self._progress() as show:
            self._run([lambda event: kept.get(type(event), []).append(event), show])
        return History(None, logs.Run(Path(), self.setup.to_json(), *kept.values()))

    def start(self, overwrite: bool) -> History:
        """Train the agent and record everything in a new run directory."""
        check(self.agent, self.env, self.setup.train)
        layout.check_free(self.directory, overwrite)
        self._check_libraries()
        with lock.acquire(self.directory), one_blas_thread():
            layout.create(self.directory, overwrite)
            self._announce()
            path = self.directory / "settings.toml"
            files.write(path, settings_toml(path, self.env, self.setup).encode())
            return self._record(new=True)

    def restore(self, latest: Checkpoint, change: Sequence[str]) -> None:
        """Load the agent of ``latest``. The settings named in ``change`` may differ from those of the run."""
        setup, self.latest, self.checkpoints = self.setup, latest, checkpoint.paths(self.directory)
        changed = manifest.check_changes(latest.setup, setup, change)
        manifest.check_config(self.directory, latest.setup, setup)
        agent = Agent(setup.observation_size, setup.actions, setup.agent, setup.seed, setup.symmetry)
        if changed and self.is_over():
            was = getattr(latest.setup.agent, changed[0])
            expected = f"{was!r}, as in the run, whose budget is used up. To change it, also add steps to the budget"
            raise ConfigError(changed[0], getattr(setup.agent, changed[0]), expected)
        checkpoint.load(checkpoint.path_of(self.directory, latest.agent.env_steps), agent)
        if not self.is_over():
            check(agent, self.env, setup.train, latest.training)
        self.agent = agent

    def resume(self) -> History:
        """Resume the run that ``restore`` has loaded."""
        self._check_libraries()
        with lock.acquire(self.directory), one_blas_thread():
            if checkpoint.paths(self.directory) != self.checkpoints:
                raise RunDirectoryError(f"another process has modified the run {self.directory}. Try again.")
            return self._record(new=not self.is_over())

    def is_over(self) -> bool:
        """Return whether the run to resume has already used up its budget."""
        return self.latest is not None and self.latest.training.finished and self.setup.train == self.latest.setup.train

    def _announce(self) -> None:
        """Print the preset and the settings that differ from it."""
        if not self.quiet:
            differ = changes(self.setup.agent, self.setup.environment, self.preset)
            what = "the defaults of DQNConfig" if self.preset is None else f"the {self.preset!r} preset"
            words = f"training {self.setup.environment} with {what}{' and ' if differ else ''}{', '.join(differ)}"
            show = say if notebook.in_kernel() else aside  # a notebook highlights standard error as if it were an error
            show(f"perilune: {words}")

    def _progress(self) -> AbstractContextManager[Callable[[Event], None]]:
        if self.quiet:
            return nullcontext(lambda event: None)
        training = None if self.latest is None else self.latest.training
        summary = TrainingSummary(
            self.setup.train,
            self.agent.env_steps,
            self.agent.episodes,
            began=None if training is None else (training.start_steps, training.start_episodes),
            outcomes=lookup(self.setup.environment).outcome_labels,
            earlier=self._logged(),
        )
        return terminal.live(f"{self.setup.environment}, seed {self.agent.seed}", summary)

    def stop(self) -> None:
        """Stop training at the end of the episode."""
        self.stopping = True

    def interrupt(self) -> None:
        """Stop training at the end of the episode because of a signal."""
        self.interrupted = True
        self.stop()

    def _check_libraries(self) -> None:
        if self.setup.train.video_every is not None:
            video.check_available()
        if self.tensorboard:
            event_files.check_available()

    def _run(self, readers: Sequence[Callable[[Event], object]]) -> Event | None:
        """Train, show health warnings, and pass every event to the readers and the callback.

        Return the last event if the callback or a signal stopped training; None if the budget is used up.
        """
        if self.is_over():
            return None
        progress = None if self.latest is None else self.latest.training
        for event in training_events(self.agent, self.env, self.setup.train, progress):
            for read in readers:
                read(event)
            if isinstance(event, HealthWarning):
                _warn(event.words)
            if self.callback is not None and self.callback(event) is False:
                self.stop()
            if self.stopping and isinstance(event, SafePoint | WarmingUp):
                return event
        return None

    def _logged(self) -> Iterator[Event]:
        """Yield the events that a resumed run has logged so far, in order."""
        if self.latest is not None:
            kinds: list[list[Any]] = [logs.read_log(self.directory, kind) for kind in (Episode, Metrics, Evaluated)]
            yield from sorted(itertools.chain(*kinds), key=lambda event: event.env_steps)

    def _record(self, new: bool) -> History:
        """Train with all readers of events: recorder, videos, TensorBoard, progress, images and callback."""
        agent, setup, directory, latest = self.agent, self.setup, self.directory, self.latest
        fps, outcomes = video.frames_per_second(self.env), lookup(setup.environment).outcome_labels
        videos = video.TrainingRecorder(directory, fps, agent.q_values)
        tensorboard: AbstractContextManager[Callable[[Event], None]] = nullcontext(lambda event: None)
        if self.tensorboard:
            tensorboard = event_files.event_file(directory, fps, agent.env_steps, outcomes, self._logged())
        with (
            logs.LogWriter(directory, () if latest is None else latest.logs) as log,
            self._progress() as show,
            tensorboard as write,
            interruptions(
                "perilune: saving a checkpoint at the end of this episode, or within 10,000 steps. Interrupt again to "
                "stop at once.",
                self.interrupt,
            ),
        ):
            if latest is not None:
                self._restore_files(latest)
            recorder = Recorder(self, log)
            if latest is None:  # after the first checkpoint, because config.json marks a run that can be resumed
                manifest.write_config(directory, setup.to_json())
            readers = [recorder.read, videos.read, write, show, *([self._collect] if self.frames else [])]
            try:
                if (last := self._run(readers)) is not None:
                    if isinstance(last, SafePoint):
                        recorder.save(last)
                    if self.interrupted or not self.quiet:
                        aside(f"perilune: {recorder.message}")
            except BaseException as error:
                error.add_note(recorder.message)
                with suppress(PeriluneError):  # keep the original error
                    if isinstance(error, Exception):  # not an interruption
                        failure.write(directory, error, agent.env_steps)
                    recorder.save_final()
                raise
            else:
                recorder.save_final()
            finally:
                videos.discard()
        history = History(directory, logs.read_run(directory), self.recorded)
        if self.pictures:
            try:
                self._draw(history, new)
            except KeyboardInterrupt as error:
                error.add_note(
                    f"Training has ended and is saved in {directory}. Draw the missing pictures with: "
                    f"{layout.resume_command(directory)}"
                )
                raise
        return history

    def _restore_files(self, latest: Checkpoint) -> None:
        """Restore the files of the run as of ``latest``. If training continues, record the settings and the machine."""
        layout.sweep(self.directory)
        failure.clear(self.directory)
        checkpoint.restore_weights(self.directory, latest)
        if self.is_over():
            return
        if other := manifest.differing_host(self.directory):
            _warn(
                f"{self.directory} resumes on another machine, with other library versions or with another backend, "
                f"so results may differ: {other}"
            )
        manifest.write_config(self.directory, self.setup.to_json())

    def _collect(self, event: Event) -> None:
        """Keep the images of recorded episodes."""
        if isinstance(event, Timestep) and event.image is not None:
            self.playing.setdefault(event.episode, []).append(event.image)
        elif isinstance(event, Episode) and event.episode in self.playing:
            self.recorded[event.episode] = self.playing.pop(event.episode)

    def _draw(self, history: History, new: bool) -> None:
        """Draw the learning curves and record a video of the best agent. Warn if a picture cannot be made."""
        curves, best = self.directory / "plots" / "curves.png", self.directory / "videos" / "best.mp4"
        drawings: list[Callable[[], object]] = []
        if new or not curves.exists():
            drawings.append(lambda: history.plot().save(curves.parent, curves.stem))
        if (new or not best.exists()) and can_draw(self.env):
            agent, _ = weights.load_weights(weights.weights_file(self.directory))
            limit, play = greedy_limit(self.env, self.setup.train), agent.greedy_action
            drawings.append(
                lambda: video.record_episodes(play, self.env, best, max_episode_steps=limit, q_values=agent.q_values)
            )
        for draw in drawings:
            try:
                draw()
            except (MissingDependencyError, EnvironmentFaultError, RunDirectoryError) as error:
                _warn(f"skipped a picture: {error}")


class Recorder:
    """Write the logs, best weights, snapshots and checkpoints of a run into its directory.

    Save a checkpoint when a new run starts, and when a run resumes with changed settings.
    """

    def __init__(self, run: Recording, log: logs.LogWriter) -> None:
        self._training, self._log, self._directory = run, log, run.directory
        self._saved_at = time.perf_counter()
        self._cost = 0.0  # seconds that the last checkpoint took
        self._saved_step = run.agent.env_steps
        self._evaluations = 0
        if (latest := run.latest) is None:
            self.save(SafePoint(TrainingProgress.start(run.agent), best=False))
            snapshots.take(run.directory, run.agent, run.setup.environment, 0)
            return
        self._evaluations = len(logs.read_log(run.directory, Evaluated))
        snapshots.cut(run.directory, self._evaluations)
        if run.setup != latest.setup:
            progress = msgspec.structs.replace(latest.training, finished=run.is_over())
            self.save(SafePoint(progress, latest.best))

    def read(self, event: Event) -> None:
        """Record ``event``, and save a checkpoint if one is due."""
        if isinstance(event, Episode) and not (self._directory / "config.json").exists():
            # Writing to the open log files would still succeed, but their content would be lost.
            raise RunDirectoryError(f"{self._directory} is no longer a run: its config.json was removed")
        self._log.write(event)
        if isinstance(event, Evaluated):
            self._evaluations += 1
            snapshots.take(self._directory, self._training.agent, self._training.setup.environment, self._evaluations)
            if event.best:
                self._save_weights("best")
        elif isinstance(event, SafePoint) and (event.best or event.progress.finished or self._is_due()):
            self.save(event)

    def _is_due(self) -> bool:
        """Return whether a checkpoint is due. The interval grows so that saving takes at most ``SHARE`` of the time."""
        interval = self._training.setup.train.checkpoint_seconds
        return interval is not None and time.perf_counter() - self._saved_at >= max(interval, self._cost / SHARE)

    def save(self, point: SafePoint) -> None:
        """Save a checkpoint."""
        run, started = self._training, time.perf_counter()
        logged = self._log.flush()
        checkpoint.save(run.directory, run.agent, run.setup, point.progress, logged, point.best)
        self._saved_step = run.agent.env_steps
        self._saved_at = time.perf_counter()
        self._cost = self._saved_at - started

    @property
    def message(self) -> str:
        """The path of the last checkpoint, and the command that resumes from it."""
        path = checkpoint.path_of(self._directory, self._saved_step)
        if not path.is_file():
            return f"The last checkpoint, {path}, was removed."
        return f"Saved checkpoint {path}. Resume with: {layout.resume_command(self._directory)}"

    def save_final(self) -> None:
        """Write the current weights if they are finite."""
        if all(np.isfinite(array).all() for array in named_weights(self._training.agent).values()):
            self._save_weights("final")

    def _save_weights(self, name: str) -> None:
        weights.save_weights(
            self._directory / layout.WEIGHTS[name], self._training.agent, self._training.setup.environment
        )


def changes(config: DQNConfig, environment: str, preset: str | None) -> list[str]:
    """Return the settings in ``config`` that differ from those of a preset, each as ``name=value``."""
    base = presets.as_measured(presets.preset(environment, preset).agent, vars(config))
    return [f"{name}={value!r}" for name, value in vars(config).items() if value != base[name]]


def settings_toml(path: Path, env: Env, setup: Setup) -> str:
    """Return all settings as the content of settings.toml. A comment stands for what TOML cannot represent."""
    module = type(env.unwrapped).__module__
    own = "" if module.startswith("gymnasium.") else f"{module}:{setup.environment} "
    lines = [
        "# To train again with these settings:",
        f"#   perilune train {own}--config {quoted([printable(str(path))])}",
        toml.entry("env", setup.environment),
        toml.entry("seed", setup.seed),
    ]
    kwargs = {} if env.spec is None else {key: value for key, value in env.spec.kwargs.items() if key != "render_mode"}
    tables = {"env_kwargs": kwargs, "train": asdict(setup.train), "agent": asdict(setup.agent)}
    for table, values in tables.items():
        lines += ["", f"[{table}]"] if values else []
        for name, value in values.items():
            try:
                lines.append(toml.entry(name, value))
            except ValueError as error:
                lines.append(f"# {printable(name)} is missing, because {error}. Pass it with --env-kwargs.")
    return "\n".join(lines) + "\n"


def _warn(message: str) -> None:
    warnings.warn(message, PeriluneWarning, stacklevel=2)
