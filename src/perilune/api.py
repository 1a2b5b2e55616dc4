"""The library as one object: an environment and the agent that learns it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig, TrainConfig, build
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.envs.known.presets import preset
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
from perilune.replay.symmetry import Symmetry
from perilune.runs import checkpoint, files, lock, runlog, weights
from perilune.runs.checkpoint import Checkpoint, Setup
from perilune.runs.recorder import Recorder, check_changes, check_config, differing_host, interruptions
from perilune.training.evaluation import Evaluation, evaluate
from perilune.training.events import Episode, Evaluated, Event, HealthWarning, Metrics, SafePoint, Timestep, WarmingUp
from perilune.training.loop import check, greedy_limit, training
from perilune.viz import stages, terminal, video
from perilune.viz import tensorboard as event_files
from perilune.viz.overlay import Panel


class DQN:
    """A deep Q-network for one environment.

    Args:
        env: a Gymnasium environment, or the id of one. Actions must be Discrete, observations a one-dimensional Box,
            or Discrete, MultiDiscrete, MultiBinary or a Tuple or Dict of these, which are flattened.
        config: the settings, all in one; the preset of this environment, or the default one, where it is left out.
        seed: two agents of one seed on one machine are the same to the last bit; other seeds differ in everything.
        symmetry: for the setting ``mirror``; LunarLander's, CartPole's and Acrobot's are known.
        settings: single settings by name, over those of ``config``: ``DQN(env, hidden=(64, 64), gamma=0.98)``. Every
            field of ``perilune.DQNConfig`` is one.

    Raises:
        ConfigError: a setting that does not exist, or whose value is not allowed.
        UnsupportedEnvironmentError: an environment that is not there, or of a kind that is not covered.
    """

    def __init__(
        self,
        env: envs.Env | str,
        config: DQNConfig | None = None,
        *,
        seed: int = 0,
        symmetry: Symmetry | None = None,
        **settings: Any,
    ) -> None:
        self.env = _flat_environment(env)
        self.config = build(DQNConfig, settings, preset(envs.name(self.env)).agent if config is None else config)
        observation_size, actions, _ = envs.check(self.env)
        if symmetry is None:
            symmetry = lookup(envs.name(self.env)).symmetry
        self.agent = Agent(observation_size, actions, self.config, seed, symmetry)

    def train(
        self,
        config: TrainConfig | None = None,
        *,
        out: str | Path | None = None,
        overwrite: bool = False,
        resume: str | Path | None = None,
        change: Sequence[str] = (),
        frames: bool = False,
        pictures: bool = True,
        quiet: bool = False,
        tensorboard: bool = False,
        **settings: Any,
    ) -> History:
        """Train, and keep everything in a run directory. Called again, it goes on where it was, in another one.

        SIGINT (Ctrl-C) and SIGTERM end it when the episode is over and all is saved; a second one ends it at once.

        Args:
            config: budget, evaluations and videos, all in one. Where neither it nor a budget (``steps``, ``episodes``)
                is given, the preset's, or those of the run that goes on.
            out: the run directory; runs/ENVIRONMENT-seedS (or the next free name after it) where it is left out.
            overwrite: replace a run that is already in ``out``.
            resume: a run directory: go on with the training in it exactly where its last checkpoint is. What this agent
                has learned so far is replaced by what the run's has.
            change: names of settings that may differ from the run's, where it is resumed: ``train(resume=run,
                change=["steps"], steps=200_000)``. ``keeper.CHANGEABLE`` has those that can.
            frames: give the filmed episodes' frames back as arrays too; a LunarLander episode takes some 200 MB.
            pictures: draw the curves and film the best agent at the end, where the libraries for it are installed.
            quiet: show no progress.
            tensorboard: write the figures and the films for TensorBoard too, into the run's ``tensorboard``.
            settings: single settings by name, over those of ``config``: ``train(episodes=600, video_every=20)``.
                Every field of ``perilune.TrainConfig`` is one.

        Raises:
            ConfigError: a setting that does not exist or is not allowed; a budget that would never reach an update; a
                run that is resumed with other settings than its own, which are not named in ``change``.
            RunDirectoryError: ``out`` cannot be written or already holds a run; another process is at work on it; or
                ``resume`` holds none.
            FileFormatError: what ``resume`` holds is damaged.
            MissingDependencyError: videos or event files are asked for and cannot be written here.
            DivergenceError: the loss is no longer finite. What the run directory holds by then stays.
            EnvironmentFaultError: the environment raised, or broke Gymnasium's interface. Likewise.
        """
        name = envs.name(self.env)
        if resume is not None:
            if out is not None or overwrite:
                raise ConfigError("resume", str(resume), "None when out or overwrite is given")
            directory = Path(resume)
            there = checkpoint.paths(directory)
            latest = checkpoint.latest(directory)
            agent, train_config = self._taken_up(directory, latest, config, change, settings)
            over = _is_over(latest, train_config)
        else:
            agent, latest, over = self.agent, None, False
            if config is None and not {"steps", "episodes"} & settings.keys():
                config = preset(name).train
            train_config = build(TrainConfig, settings, config)
            directory = Path(out) if out is not None else runlog.free_directory(name, agent.seed)
            check(agent, self.env, train_config)
            runlog.check_free(directory, overwrite)
        if train_config.video_every is not None:
            video.check_available()
        if tensorboard:
            event_files.check_available()
        with lock.claimed(directory), one_blas_thread():
            if latest is None:
                runlog.create(directory, overwrite)
            elif checkpoint.paths(directory) != there:
                raise RunDirectoryError(f"{directory} has been gone on with meanwhile. Resume it again.")
            self.agent = agent
            history = self._keep(directory, train_config, latest, frames, quiet, tensorboard)
            if pictures:
                self._draw(history, greedy_limit(self.env, train_config), anew=not over)
        return history

    def _taken_up(
        self,
        directory: Path,
        latest: Checkpoint,
        config: TrainConfig | None,
        change: Sequence[str],
        settings: dict[str, Any],
    ) -> tuple[Agent, TrainConfig]:
        """The agent of a checkpoint, and the settings to go on with."""
        train_config = build(TrainConfig, settings, latest.setup.train if config is None else config)
        wanted = self._setup(train_config)
        changed = check_changes(latest.setup, wanted, change)
        check_config(directory, latest.setup, wanted)
        if changed and _is_over(latest, train_config):
            allowed = "as it was, because this run is at its end: with more steps to go it could be changed"
            raise ConfigError(changed[0], getattr(wanted.agent, changed[0]), allowed)
        agent = Agent(wanted.observation_size, wanted.actions, self.config, self.agent.seed, self.agent.symmetry)
        checkpoint.restore(directory, latest, agent)
        if not _is_over(latest, train_config):
            check(agent, self.env, train_config, latest.training)
        return agent, train_config

    def _setup(self, train_config: TrainConfig) -> Setup:
        agent = self.agent
        return Setup(
            environment=envs.name(self.env),
            made=envs.description(self.env),
            reward_threshold=envs.reward_threshold(self.env),
            observation_size=agent.observation_size,
            actions=agent.actions,
            seed=agent.seed,
            symmetry=agent.symmetry,
            agent=agent.config,
            train=train_config,
        )

    def _keep(
        self,
        directory: Path,
        train_config: TrainConfig,
        latest: Checkpoint | None,
        frames: bool,
        quiet: bool,
        tensorboard: bool,
    ) -> History:
        """Train, with everybody who reads along: the keeper of the run directory, the film makers, the progress."""
        agent, setup = self.agent, self._setup(train_config)
        fps, outcomes = video.frames_per_second(self.env), lookup(setup.environment).outcome_labels
        recorder = video.Recorder(directory, fps, agent.q_values)
        shown: dict[int, list[Array]] = {}
        kept: dict[int, list[Array]] = {}

        def gather(event: Event) -> None:
            if isinstance(event, Timestep) and event.image is not None:
                shown.setdefault(event.episode, []).append(event.image)
            if isinstance(event, Episode) and event.episode in shown:  # else it may yet be broken off
                kept[event.episode] = shown.pop(event.episode)

        began = None if latest is None else (latest.training.start_steps, latest.training.start_episodes)
        title = f"{setup.environment}, seed {agent.seed}"
        with (
            runlog.open_log(directory, () if latest is None else latest.logs) as log,
            terminal.live(
                title,
                train_config,
                agent.env_steps,
                agent.episodes,
                quiet,
                began=began,
                outcomes=outcomes,
                earlier=_told_so_far(directory, latest),
            ) as show,
            event_files.written(directory, fps, agent.env_steps, outcomes, _told_so_far(directory, latest))
            if tensorboard
            else nullcontext(lambda event: None) as write,
            interruptions(
                "perilune: all is saved at the end of this episode (a long one's next ten thousand steps); "
                "once more ends it at once."
            ) as interruption,
        ):
            if latest is not None:
                runlog.sweep(directory)
                checkpoint.restore_weights(directory, latest)
                if other := differing_host(directory):
                    words = f"{directory} goes on, but perhaps not to the bit as it would have done: {other}"
                    warnings.warn(words, PeriluneWarning, stacklevel=3)
                runlog.write_config(directory, setup.to_json())
            keeper = Recorder(directory, agent, setup, log, latest)
            if latest is None:  # where there is a config.json, there is a checkpoint
                runlog.write_config(directory, setup.to_json())
            readers = [keeper.read, recorder.read, write, show, *([gather] if frames else [])]
            try:
                for event in self._events(train_config, latest):
                    for read in readers:
                        read(event)
                    if isinstance(event, HealthWarning):
                        warnings.warn(event.words, PeriluneWarning, stacklevel=3)
                    if interruption.signal is not None and isinstance(event, SafePoint | WarmingUp):
                        if isinstance(event, SafePoint):
                            keeper.save(event)
                        interruption.words = keeper.words
                        break
            except BaseException as error:
                error.add_note(keeper.words)
                with suppress(PeriluneError):  # of what went wrong first it is told
                    keeper.save_final()
                raise
            else:
                keeper.save_final()
            finally:
                recorder.discard()
        return History(directory, video.episodes(directory), kept)

    def _events(self, train_config: TrainConfig, latest: Checkpoint | None) -> Iterator[Event]:
        """A training from its beginning, or from a checkpoint; none where that was the end."""
        if latest is None:
            return training(self.agent, self.env, train_config)
        if _is_over(latest, train_config):
            return iter(())
        return training(self.agent, self.env, train_config, latest.training)

    def _draw(self, history: History, limit: int | None, *, anew: bool) -> None:
        """Curves, and the best agent's flight, which stay as they are unless ``anew``.

        What goes wrong costs the picture, not the run.
        """
        curves, film = history.directory / "plots" / "curves.png", history.directory / "videos" / "best.mp4"
        drawings: list[Callable[[], object]] = []
        if anew or not curves.exists():
            drawings.append(lambda: history.plot().save(curves.parent, curves.stem))
        if (anew or not film.exists()) and can_draw(self.env):
            best = DQN.load(weights.weights_file(history.directory), self.env)
            drawings.append(lambda: best.film(film, max_episode_steps=limit))
        for draw in drawings:
            try:
                draw()
            except (MissingDependencyError, EnvironmentFaultError, RunDirectoryError) as error:
                warnings.warn(f"left out: {error}", PeriluneWarning, stacklevel=3)

    def q_values(self, obs: Array) -> Array:
        """Q(obs, a) of the network that is evaluated: [N, A] for obs[N, O]."""
        return self.agent.q_values(obs)

    def act(self, obs: Any) -> int:
        """The greedy action for one observation, flattened (obs[O]) or not, as the environment counts it."""
        size, _, first_action = envs.check(self.env)
        return first_action + self.agent.greedy_action(envs.as_obs(envs.flat(self.env, obs), size))

    def evaluate(self, episodes: int = 100, max_episode_steps: int | None = None) -> Evaluation:
        """Play greedily from ``episodes`` fixed start states that training never sees.

        ``max_episode_steps`` cuts episodes off, for environments that set no limit themselves.
        """
        with one_blas_thread():
            return evaluate(self.agent.greedy_action, self.env, episodes, max_episode_steps=max_episode_steps)

    def film(
        self, path: str | Path, episodes: int = 1, max_episode_steps: int | None = None, *, overlay: bool = False
    ) -> Evaluation:
        """Play greedily into a film at ``path``, an .mp4 or .gif.

        ``overlay`` shows beneath the pictures what the agent thinks: Q-values, its choice, the reward so far; and at
        the end the outcome. A GIF is made for pages: half the size, and fewer frames.

        Raises:
            ConfigError: the environment cannot draw, or ``path`` ends in something else.
            MissingDependencyError: the video library is not installed.
        """
        agent, panel = self.agent, None
        if overlay:
            actions = lookup(envs.name(self.env)).action_names(agent.actions)
            panel = Panel(f"{agent.env_steps:,} steps", actions, video.frames_per_second(self.env))
        with one_blas_thread():
            return video.film(
                self.agent.greedy_action,
                self.env,
                Path(path),
                episodes=episodes,
                max_episode_steps=max_episode_steps,
                q_values=self.agent.q_values,
                panel=panel,
            )

    def save(self, path: str | Path) -> Path:
        """Write the weights and settings to ``path`` (.safetensors is added where it is missing); the path written."""
        target = Path(path)
        if target.suffix != ".safetensors":
            target = target.with_name(target.name + ".safetensors")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.cannot("written", target, error) from error
        weights.save_weights(target, self.agent, envs.name(self.env))
        return target

    @classmethod
    def load(cls, path: str | Path, env: envs.Env | str | None = None) -> DQN:
        """The agent that ``save`` or a training wrote, to evaluate, film or train on (with an empty replay).

        Args:
            path: a .safetensors file, or a run directory (its best weights).
            env: the environment; the one named in the file where it is left out.

        Raises:
            FileFormatError: the file is damaged, foreign or of another version.
            ShapeError: the environment has other sizes than the agent.
        """
        agent, saved, made = weights.load_with_env(weights.weights_file(Path(path)), env)
        loaded = cls.__new__(cls)
        loaded.config, loaded.agent, loaded.env = saved.config, agent, made
        return loaded


def film_stages(
    run: str | Path,
    path: str | Path,
    env: envs.Env | str | None = None,
    *,
    checkpoint: str = "best",
    overlay: bool = False,
    max_episode_steps: int | None = None,
    tell: Callable[[int, int], object] | None = None,
) -> list[stages.Ending]:
    """Film how a run learned, side by side from one start: untrained, early, in the middle and at its best.

    All bars have one scale. The film lasts ten seconds at most and a rest; where that makes it faster, it says so.

    Args:
        run: a run directory.
        path: where to, an .mp4 or .gif.
        env: the environment; the one named in the run where it is left out. It is made again for each.
        checkpoint: the last one's weights, "best" or "final".
        overlay: show Q-values and actions too.
        max_episode_steps: cut episodes off here.
        tell: takes how many steps of the longest episode are filmed, and how many there are.

    Returns:
        What each came to, from left to right.

    Raises:
        RunDirectoryError: there is no such run, or it kept no weights on the way.
        ConfigError: the environment cannot draw, or ``path`` ends in something else.
        MissingDependencyError: the video library is not installed.
    """
    loaded = [(title, DQN.load(weights_path, env)) for title, weights_path in stages.chosen(Path(run), checkpoint)]
    with one_blas_thread():
        return stages.film(
            [stages.Stage(title, dqn.agent) for title, dqn in loaded],
            loaded[-1][1].env,
            Path(path),
            overlay=overlay,
            max_episode_steps=max_episode_steps,
            tell=tell,
        )


def _flat_environment(env: envs.Env | str) -> envs.Env:
    return envs.flattened(envs.make(env) if isinstance(env, str) else env)


def _told_so_far(directory: Path, latest: Checkpoint | None) -> Iterator[Event]:
    """What the logs of a run that goes on have by then, in its order; read when somebody wants it."""
    if latest is not None:
        kinds: list[list[Any]] = [runlog.read_log(directory, kind) for kind in (Episode, Metrics, Evaluated)]
        yield from sorted(itertools.chain(*kinds), key=lambda event: event.env_steps)


def _is_over(latest: Checkpoint, train_config: TrainConfig) -> bool:
    """Whether there is nothing left of a training but what comes after its end."""
    return latest.training.over and train_config == latest.setup.train
