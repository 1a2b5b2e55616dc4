"""Training in a run directory: its lock, logs, checkpoints, videos, pictures, and the signals that end it."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune._utils.console import aside, say
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs import Env, name
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
from perilune.runs import checkpoint, files, layout, lock, log_writer, logs, manifest, weights
from perilune.runs.checkpoint import Checkpoint
from perilune.runs.interruption import interruptions
from perilune.runs.manifest import Setup
from perilune.runs.recorder import Recorder
from perilune.training.checks import check
from perilune.training.evaluation import greedy_limit
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics, SafePoint, Timestep, WarmingUp
from perilune.training.loop import training_events
from perilune.viz import notebook, terminal, video
from perilune.viz import tensorboard as event_files

Callback = Callable[[Event], object]
"""A function that ``train`` calls with every event. It returns False to stop the training."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``DQN.train`` does beside training. ``DQN.train`` documents each of them."""

    callback: Callback | None = None
    frames: bool = False
    pictures: bool = True
    quiet: bool = False
    tensorboard: bool = False
    preset: str | None = None


class FrameCollector:
    """Collect the images of recorded episodes, by the number of the episode."""

    def __init__(self) -> None:
        self.frames: dict[int, list[Array]] = {}
        self._open: dict[int, list[Array]] = {}

    def read(self, event: Event) -> None:
        """Keep the image of ``event``, which counts once its episode has ended."""
        if isinstance(event, Timestep) and event.image is not None:
            self._open.setdefault(event.episode, []).append(event.image)
        if isinstance(event, Episode) and event.episode in self._open:
            self.frames[event.episode] = self._open.pop(event.episode)


class Control:
    """Show health warnings, call the callback, and note whether it asks to stop."""

    def __init__(self, callback: Callback | None) -> None:
        self._callback = callback
        self.stop = False

    def read(self, event: Event) -> None:
        """Pass on ``event``."""
        if isinstance(event, HealthWarning):
            _warn(event.words)
        if self._callback is not None and self._callback(event) is False:
            self.stop = True


def changes(config: DQNConfig, environment: str, preset: str | None) -> list[str]:
    """Return the settings in ``config`` that differ from those of a preset, each as ``name=value``."""
    base = vars(presets.preset(environment, preset).agent)
    return [f"{name}={value!r}" for name, value in vars(config).items() if value != base[name]]


def announce(setup: Setup, options: Options) -> None:
    """Print which preset a training uses, and what differs from it."""
    if not options.quiet:
        differ = changes(setup.agent, setup.environment, options.preset)
        what = "the defaults of DQNConfig" if options.preset is None else f"the {options.preset!r} preset"
        show = say if notebook.in_kernel() else aside  # a notebook shows standard error like an error
        show(f"perilune: training {setup.environment} with {what}{', with ' if differ else ''}{', '.join(differ)}")


def progress(
    agent: Agent, env: Env, config: TrainConfig, quiet: bool, latest: Checkpoint | None = None, directory: Path = Path()
) -> AbstractContextManager[Callable[[Event], None]]:
    """Return a context that gives the function which shows the progress of a training."""
    return terminal.live(
        f"{name(env)}, seed {agent.seed}",
        config,
        agent.env_steps,
        agent.episodes,
        quiet,
        began=None if latest is None else (latest.training.start_steps, latest.training.start_episodes),
        outcomes=lookup(name(env)).outcome_labels,
        earlier=_logged(directory, latest),
    )


def train_in_memory(agent: Agent, env: Env, setup: Setup, options: Options) -> History:
    """Train ``agent`` and keep the history in memory.

    Raises:
        PeriluneError: see ``DQN.train``.
    """
    events: dict[type[Event], list[Any]] = {Episode: [], Metrics: [], Evaluated: [], HealthWarning: []}
    control = Control(options.callback)
    check(agent, env, setup.train)
    announce(setup, options)
    with one_blas_thread(), progress(agent, env, setup.train, options.quiet) as show:
        for event in training_events(agent, env, setup.train):
            if type(event) in events:
                events[type(event)].append(event)
            show(event)
            control.read(event)
            if control.stop and isinstance(event, SafePoint | WarmingUp):
                break
    run = logs.Run(Path(), setup.to_json(), events[Episode], events[Metrics], events[Evaluated], events[HealthWarning])
    return History(None, memory=run)


def start(agent: Agent, env: Env, setup: Setup, directory: Path, overwrite: bool, options: Options) -> History:
    """Train ``agent`` and record everything in the new run directory ``directory``.

    Raises:
        PeriluneError: see ``DQN.train``.
    """
    check(agent, env, setup.train)
    layout.check_free(directory, overwrite)
    _check_libraries(setup.train, options)
    with lock.acquire(directory), one_blas_thread():
        layout.create(directory, overwrite)
        announce(setup, options)
        files.write(directory / "settings.toml", settings_toml(env, setup).encode())
        history = _record(agent, env, setup, directory, None, options)
        if options.pictures:
            _draw(env, setup.train, directory, history, anew=True)
    return history


def settings_toml(env: Env, setup: Setup) -> str:
    """Return every setting of a training as a file for ``perilune train --config``. "none" stands for None."""
    lines = [
        "# perilune train --config settings.toml",
        f"env = {json.dumps(setup.environment)}",
        f"seed = {setup.seed}",
    ]
    kwargs = {} if env.spec is None else {key: value for key, value in env.spec.kwargs.items() if key != "render_mode"}
    tables = {"env_kwargs": kwargs, "train": asdict(setup.train), "agent": asdict(setup.agent)}
    for table, values in tables.items():
        plain = {name: value for name, value in values.items() if isinstance(value, str | int | float | tuple | None)}
        lines += ["", f"[{table}]"] if plain else []
        # JSON and TOML write strings, numbers, booleans and arrays in the same way.
        lines += [f"{name} = {json.dumps('none' if value is None else value)}" for name, value in plain.items()]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Resumed:
    """A run to resume: its directory, its last checkpoint, its agent, and the setup to resume it with."""

    directory: Path
    latest: Checkpoint
    checkpoints: Sequence[Path]
    agent: Agent
    setup: Setup

    @property
    def over(self) -> bool:
        """Whether the training has reached its budget, so that there is nothing left to train."""
        return self.latest.training.finished and self.setup.train == self.latest.setup.train


def restore(directory: Path, latest: Checkpoint, wanted: Setup, change: Sequence[str], env: Env) -> Resumed:
    """Return the run in ``directory`` with the agent of its last checkpoint.

    Args:
        directory: the run directory.
        latest: its last checkpoint.
        wanted: the setup to resume with.
        change: names of settings that may differ from those of the run.
        env: the environment.

    Raises:
        ConfigError: ``wanted`` differs in a setting that is not in ``change``, or the run has reached its budget.
        RunDirectoryError, FileFormatError: the run cannot be read.
    """
    there = checkpoint.paths(directory)
    changed = manifest.check_changes(latest.setup, wanted, change)
    manifest.check_config(directory, latest.setup, wanted)
    agent = Agent(wanted.observation_size, wanted.actions, wanted.agent, wanted.seed, wanted.symmetry)
    resumed = Resumed(directory, latest, there, agent, wanted)
    if changed and resumed.over:
        allowed = f"{getattr(latest.setup.agent, changed[0])!r}: this run is at its end; extend it with steps"
        raise ConfigError(changed[0], getattr(wanted.agent, changed[0]), allowed)
    checkpoint.load(checkpoint.path_of(directory, latest.agent.env_steps), agent)
    if not resumed.over:
        check(agent, env, wanted.train, latest.training)
    return resumed


def resume(resumed: Resumed, env: Env, options: Options) -> History:
    """Continue a run from its last checkpoint.

    Raises:
        PeriluneError: see ``DQN.train``.
    """
    directory, train = resumed.directory, resumed.setup.train
    _check_libraries(train, options)
    with lock.acquire(directory), one_blas_thread():
        if checkpoint.paths(directory) != resumed.checkpoints:
            raise RunDirectoryError(f"another process has continued the run {directory}. Resume it again.")
        history = _record(resumed.agent, env, resumed.setup, directory, resumed.latest, options)
        if options.pictures:
            _draw(env, train, directory, history, anew=not resumed.over)
    return history


def _check_libraries(config: TrainConfig, options: Options) -> None:
    if config.video_every is not None:
        video.check_available()
    if options.tensorboard:
        event_files.check_available()


def _record(
    agent: Agent, env: Env, setup: Setup, directory: Path, latest: Checkpoint | None, options: Options
) -> History:
    """Train with every reader of events: recorder, videos, TensorBoard, progress, frames and callback."""
    fps, outcomes = video.frames_per_second(env), lookup(setup.environment).outcome_labels
    videos, collector = video.TrainingRecorder(directory, fps, agent.q_values), FrameCollector()
    tensorboard: AbstractContextManager[Callable[[Event], None]] = nullcontext(lambda event: None)
    if options.tensorboard:
        tensorboard = event_files.event_file(directory, fps, agent.env_steps, outcomes, _logged(directory, latest))
    with (
        log_writer.LogWriter(directory, () if latest is None else latest.logs) as log,
        progress(agent, env, setup.train, options.quiet, latest, directory) as show,
        tensorboard as write,
        interruptions(
            "perilune: saving at the end of this episode (of a long one, within 10,000 steps). "
            "Interrupt again to stop at once."
        ) as interruption,
    ):
        if latest is not None:
            layout.sweep(directory)
            checkpoint.restore_weights(directory, latest)
            if other := manifest.differing_host(directory):
                _warn(f"{directory} resumes on another machine or version, so its numbers may differ: {other}")
            manifest.write_config(directory, setup.to_json())
        recorder = Recorder(directory, agent, setup, log, latest)
        if latest is None:  # after the first checkpoint: a directory with a config.json can be resumed
            manifest.write_config(directory, setup.to_json())
        control = Control(options.callback)
        readers = [recorder.read, videos.read, write, show, control.read]
        readers += [collector.read] if options.frames else []
        try:
            for event in _events(agent, env, setup.train, latest):
                for read in readers:
                    read(event)
                stopping = control.stop or interruption.signal is not None
                if stopping and isinstance(event, SafePoint | WarmingUp):
                    if isinstance(event, SafePoint):
                        recorder.save(event)
                    interruption.message = recorder.message
                    break
        except BaseException as error:
            error.add_note(recorder.message)
            with suppress(PeriluneError):  # the first error is the one to report
                recorder.save_final()
            raise
        else:
            recorder.save_final()
        finally:
            videos.discard()
    return History(directory, collector.frames)


def _events(agent: Agent, env: Env, config: TrainConfig, latest: Checkpoint | None) -> Iterator[Event]:
    """Return the events of a training from its beginning or from a checkpoint; none if it has reached its budget."""
    if latest is None:
        return training_events(agent, env, config)
    if latest.training.finished and config == latest.setup.train:
        return iter(())
    return training_events(agent, env, config, latest.training)


def _draw(env: Env, config: TrainConfig, directory: Path, history: History, *, anew: bool) -> None:
    """Draw the learning curves and record a video of the best agent. A missing library costs the picture only."""
    curves, best = directory / "plots" / "curves.png", directory / "videos" / "best.mp4"
    drawings: list[Callable[[], object]] = []
    if anew or not curves.exists():
        drawings.append(lambda: history.plot().save(curves.parent, curves.stem))
    if (anew or not best.exists()) and can_draw(env):
        agent, _ = weights.load_weights(weights.weights_file(directory))
        limit = greedy_limit(env, config)
        drawings.append(
            lambda: video.record_episodes(
                agent.greedy_action, env, best, max_episode_steps=limit, q_values=agent.q_values
            )
        )
    for draw in drawings:
        try:
            draw()
        except (MissingDependencyError, EnvironmentFaultError, RunDirectoryError) as error:
            _warn(f"left out: {error}")


def _warn(message: str) -> None:
    warnings.warn(message, PeriluneWarning, stacklevel=2)


def _logged(directory: Path, latest: Checkpoint | None) -> Iterator[Event]:
    """Yield the events that a resumed run has logged so far, in order. They are read when a reader asks for them."""
    if latest is not None:
        kinds: list[list[Any]] = [logs.read_log(directory, kind) for kind in (Episode, Metrics, Evaluated)]
        yield from sorted(itertools.chain(*kinds), key=lambda event: event.env_steps)
