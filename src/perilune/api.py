"""The main class: an environment and the agent that learns it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, Unpack

import msgspec
import numpy as np

from perilune import envs, recording
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.agent.settings import AgentSettings, TrainSettings, build, check_names
from perilune.envs.known import lookup, presets
from perilune.errors import ShapeError, UnsupportedEnvironmentError, UsageError
from perilune.history import History
from perilune.recording import Callback, Recording
from perilune.replay.symmetry import Symmetry
from perilune.runs import checkpoint, files, weights
from perilune.runs.checkpoint import Checkpoint
from perilune.runs.manifest import Setup
from perilune.training.checks import check
from perilune.training.evaluation import Evaluation, evaluate
from perilune.training.events import Event
from perilune.training.loop import training_events
from perilune.viz import video
from perilune.viz.overlay import Panel

P = ParamSpec("P")
R = TypeVar("R")


class _ClassMethod(Generic[P, R]):
    """A class method that refuses to be called on an instance, where its result would be lost."""

    def __init__(self, function: Callable[Concatenate[Any, P], R]) -> None:
        self._function = function

    def __get__(self, instance: object, owner: type) -> Callable[P, R]:
        if instance is not None:
            raise UsageError(
                "load returns a new agent and does not change this one. Write agent = DQN.load(path, env)."
            )
        return MethodType(self._function, owner)


class DQN:
    """A deep Q-network for one environment.

    Args:
        env: a Gymnasium environment or the id of one. Actions must be Discrete. Observations must be a one-dimensional
            Box, Discrete, MultiDiscrete, MultiBinary, or a Tuple or Dict of these, which Perilune flattens.
        preset: the settings to start from. "recommended" are the tuned settings of the environment, or a default
            recipe for environments without a preset. "plain" is the DQN of Mnih et al. (2015). The id of an
            environment takes the preset of that environment, None the defaults of ``DQNConfig``.
        config: all settings at once, instead of a preset.
        seed: seed of everything random (>= 0). The same seed gives the same weights, bit for bit, on one machine.
        symmetry: the symmetry for the setting ``mirror``. Those of LunarLander, CartPole and Acrobot are known.
        settings: single settings by name, such as ``hidden=(64, 64), gamma=0.98``. They replace those of the preset.
            ``perilune.DQNConfig`` documents all of them.

    Attributes:
        env: the environment, with flattened observations.
        agent: the networks, the replay buffer, the optimizer and the counters.
        preset: name of the preset; None if the settings came from ``config`` or from a file.

    Raises:
        UsageError: a setting does not exist.
        ConfigError: a setting has a value that is not allowed.
        UnsupportedEnvironmentError: the environment does not exist, or Perilune does not support its spaces.
    """

    def __init__(
        self,
        env: envs.Env | str,
        preset: Literal["recommended", "plain"] | str | None = presets.RECOMMENDED,
        *,
        config: DQNConfig | None = None,
        seed: int = 0,
        symmetry: Symmetry | None = None,
        **settings: Unpack[AgentSettings],
    ) -> None:
        if preset is not None and not isinstance(preset, str):
            if isinstance(env, str) and env.endswith("Policy"):
                raise _no_policy(env)
            raise UsageError(
                f"preset={preset!r} is invalid: expected a name. To give all settings at once, write "
                "DQN(env, config=DQNConfig(...))."
            )
        check_names(DQNConfig, settings)
        self.env = _environment(env)
        sizes = envs.space_sizes(self.env)
        self.preset = preset if config is None else None
        base = config if config is not None else presets.preset(envs.name(self.env), self.preset).agent
        self._chosen = frozenset(settings)
        config = build(DQNConfig, settings, base)
        if symmetry is None:
            symmetry = lookup(envs.name(self.env)).symmetry
        seed = int(seed) if isinstance(seed, np.integer) else seed
        self.agent = Agent(sizes.observation_size, sizes.actions, config, seed, symmetry)

    @property
    def config(self) -> DQNConfig:
        """The settings in use."""
        return self.agent.config

    def __repr__(self) -> str:
        parts = [repr(envs.name(self.env)), f"preset={self.preset!r}"]
        if self.agent.seed:
            parts.append(f"seed={self.agent.seed}")
        parts += recording.changes(self.config, envs.name(self.env), self.preset)
        return f"DQN({', '.join(parts)})"

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for ``copy.deepcopy`` and ``pickle``: an environment that has an id is made again."""
        return self.__dict__ | {"env": envs.recipe(self.env)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"env": envs.from_recipe(state["env"])})

    # Train

    def train(
        self,
        config: TrainConfig | None = None,
        *,
        run_dir: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        change: Sequence[str] = (),
        callback: Callback | None = None,
        frames: bool = False,
        pictures: bool = True,
        quiet: bool = False,
        tensorboard: bool = False,
        **settings: Unpack[TrainSettings],
    ) -> History:
        """Train the agent. Call it again to continue where the last training ended.

        Without ``run_dir`` nothing is written. With it, everything is recorded there: logs, weights, checkpoints,
        curves and videos; SIGINT (Ctrl-C) and SIGTERM then end the training at the end of the episode, after saving.

        Schedules of the preset follow the budget in ``steps``: see ``perilune.presets``.

        Args:
            config: all settings of the training at once.
            run_dir: directory to record the training in.
            resume: continue the run in ``run_dir`` exactly from its last checkpoint, which replaces what this agent
                has learned. The settings must be those of the run.
            overwrite: replace the run in ``run_dir``.
            change: names of settings that may differ from those of the run when it is resumed, for example
                ``train(run_dir=run, resume=True, change=["steps"], steps=200_000)``.
            callback: called with every event (``perilune.training.events``). If it returns False, the training stops
                at the end of the episode.
            frames: keep the images of recorded episodes in ``history.frames``. One of LunarLander takes about 200 MB.
            pictures: draw the learning curves and record a video of the best agent at the end, if the libraries for
                that are installed.
            quiet: show no progress.
            tensorboard: write TensorBoard event files into ``run_dir``/tensorboard.
            settings: single settings by name, such as ``steps=50_000, eval_every=5_000``. ``perilune.TrainConfig``
                documents all of them. If you give neither ``steps`` nor ``episodes``, the preset's budget is used.

        Returns:
            The history of the training.

        Raises:
            UsageError: a setting does not exist, or needs ``run_dir``.
            ConfigError: a value is not allowed, the budget ends before the first update, or a resumed run has other
                settings that ``change`` does not name.
            RunDirectoryError: ``run_dir`` cannot be written or already holds a run, another process uses it, or
                there is no run to resume.
            FileFormatError: the run to resume is damaged.
            MissingDependencyError: videos or event files need a library that is not installed.
            DivergenceError: the loss is no longer finite. What has been recorded stays.
            EnvironmentFaultError: the environment raised, or broke Gymnasium's interface.
        """
        _check_config(config)
        options: dict[str, Any] = {"callback": callback, "frames": frames, "pictures": pictures, "quiet": quiet}
        options |= {"env": self.env, "preset": self.preset, "tensorboard": tensorboard}
        directory = Path() if run_dir is None else Path(run_dir)
        if resume and run_dir is not None:
            if overwrite:
                raise UsageError("resume and overwrite exclude each other. Use one of them.")
            latest, _ = checkpoint.latest(directory)
            wanted = self._setup_to_resume(latest, config, settings, change)
            run = Recording(agent=self.agent, setup=wanted, directory=directory, **options)
            run.restore(latest, change)
            self.agent = run.agent
            return run.resume()
        train_config = self._prepare(config, settings)
        run = Recording(agent=self.agent, setup=self._setup(train_config), directory=directory, **options)
        if run_dir is not None:
            return run.start(overwrite)
        asked = {"resume": resume, "overwrite": overwrite, "change": change, "tensorboard": tensorboard}
        for name, value in (asked | {"video_every": train_config.video_every}).items():
            if value:
                raise UsageError(f"{name} needs a run directory. Write train(run_dir='runs/first', {name}=...).")
        return run.in_memory()

    def iterate(self, config: TrainConfig | None = None, **settings: Unpack[TrainSettings]) -> Iterator[Event]:
        """Train and yield every event, for a loop of your own. Nothing is written or printed.

        The agent learns while you iterate, and stops when you leave the loop.

        Args:
            config: all settings of the training at once.
            settings: single settings by name, as in ``train``.

        Returns:
            An iterator over the events in ``perilune.training.events``.

        Raises:
            UsageError, ConfigError, DivergenceError, EnvironmentFaultError: as ``train``.
        """
        _check_config(config)
        train_config = self._prepare(config, settings)
        check(self.agent, self.env, train_config)
        return self._iterate(train_config)

    def _iterate(self, config: TrainConfig) -> Iterator[Event]:
        with one_blas_thread():
            yield from training_events(self.agent, self.env, config)

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | None = None,
        *,
        progress_bar: bool = False,
        **settings: Unpack[TrainSettings],
    ) -> DQN:
        """Train for ``total_timesteps`` environment steps and return the agent, as in Stable-Baselines3.

        Args:
            total_timesteps: environment steps (>= 1).
            callback: as in ``train``.
            progress_bar: show the progress.
            settings: single settings of the training by name, as in ``train``.
        """
        if callback is not None and not callable(callback):
            raise UsageError("callback must be a function that takes an event, not an object of another library.")
        self.train(callback=callback, quiet=not progress_bar, **(settings | {"steps": total_timesteps}))
        return self

    def _prepare(self, config: TrainConfig | None, settings: TrainSettings) -> TrainConfig:
        """Return the settings of a new training, and fit the schedules of an untrained agent to its budget."""
        check_names(TrainConfig, settings)
        train = settings if config is None else vars(config) | settings
        chosen = {} if self.preset is None else {name: getattr(self.config, name) for name in self._chosen}
        fitted, train_config = presets.resolve(envs.name(self.env), self.preset, chosen, train)
        if self.preset is not None and self.agent.env_steps == 0:
            self.agent.config = fitted
        return train_config

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

    def _setup_to_resume(
        self, latest: Checkpoint, config: TrainConfig | None, settings: TrainSettings, change: Sequence[str]
    ) -> Setup:
        """Return the setup to resume a run with. Schedules that this agent does not set itself are those of the run."""
        base = latest.setup.train if config is None else config
        check_names(TrainConfig, settings)
        wanted = self._setup(build(TrainConfig, settings, base))
        if self.preset is None:
            return wanted
        schedules = {*presets.SCALED, "epsilon_decay_steps"} - self._chosen - set(change)
        stored = {name: getattr(latest.setup.agent, name) for name in schedules}
        return msgspec.structs.replace(wanted, agent=replace(wanted.agent, **stored))

    # Act

    def q_values(self, obs: Any) -> Array:
        """Return Q(obs, a) of the evaluated network: [A] for one observation, [N, A] for N of them.

        Args:
            obs: one observation or many, flattened or as the environment gives them.
        """
        rows, one = self._rows(obs)
        values = self.agent.q_values(rows)
        return values[0] if one else values

    def act(self, obs: Any) -> Any:
        """Return the greedy action for one observation (int), or those for N observations (int array [N]).

        Args:
            obs: one observation or many, flattened or as the environment gives them.
        """
        rows, one = self._rows(obs)
        first = envs.space_sizes(self.env).first_action
        if one:
            return first + self.agent.greedy_action(rows[0])
        return first + self.agent.q_values(rows).argmax(axis=1)

    def predict(self, obs: Any, deterministic: bool = True) -> tuple[Any, None]:
        """Return (action, None) for one observation or many, as in Stable-Baselines3.

        Args:
            obs: one observation or many, flattened or as the environment gives them.
            deterministic: greedy actions. If False, the share epsilon of the actions is random, as in training now.
        """
        action = np.asarray(self.act(obs))
        if not deterministic:
            generator = self.__dict__.setdefault("_predictions", np.random.default_rng(self.agent.seed))
            first = envs.space_sizes(self.env).first_action
            uniform = first + generator.integers(self.agent.actions, size=action.shape)
            action = np.where(generator.random(action.shape) < self.agent.epsilon, uniform, action)
        return (action if action.ndim else np.int64(action)), None

    def _rows(self, obs: Any) -> tuple[Array, bool]:
        """Return ``obs`` as [N, O], and whether it was a single observation."""
        size = self.agent.observation_size
        rows = envs.as_rows(self.env, obs)
        if rows.ndim not in (1, 2) or rows.shape[-1] != size or not np.isfinite(rows).all():
            raise ShapeError(
                f"obs of shape {list(rows.shape)} is invalid: expected finite numbers of shape [{size}] for one "
                f"observation or [N, {size}] for many."
            )
        return (rows[None], True) if rows.ndim == 1 else (rows, False)

    def evaluate(self, episodes: int = 100, max_episode_steps: int | None = None) -> Evaluation:
        """Play greedily from ``episodes`` fixed start states that training never uses.

        Args:
            episodes: number of episodes (>= 1).
            max_episode_steps: steps after which an episode is truncated, for environments without a limit.
        """
        if not isinstance(episodes, int | np.integer) or isinstance(episodes, bool):
            raise UsageError(
                f"episodes={episodes!r} is invalid: evaluate plays in agent.env and takes a number of episodes. Write "
                "agent.evaluate(episodes=100), or DQN.load(path, env).evaluate() for another environment."
            )
        with one_blas_thread():
            return evaluate(self.agent.greedy_action, self.env, int(episodes), max_episode_steps=max_episode_steps)

    def record_video(
        self, path: str | Path, episodes: int = 1, max_episode_steps: int | None = None, *, overlay: bool = False
    ) -> Evaluation:
        """Play greedily and record a video.

        Args:
            path: file to write, ending in .mp4 or .gif. A GIF has half the width and fewer frames, for web pages.
            episodes: number of episodes (>= 1).
            max_episode_steps: steps after which an episode is truncated, for environments without a limit.
            overlay: show Q-values, the chosen action, the return so far and the outcome below the images.

        Raises:
            ConfigError: the environment cannot render, or ``path`` has another ending.
            MissingDependencyError: the video library is not installed.
        """
        agent, panel = self.agent, None
        if overlay:
            actions = lookup(envs.name(self.env)).action_names(agent.actions)
            panel = Panel(f"{agent.env_steps:,} steps", actions, video.frames_per_second(self.env))
        with one_blas_thread():
            return video.record_episodes(
                agent.greedy_action,
                self.env,
                Path(path),
                episodes=episodes,
                max_episode_steps=max_episode_steps,
                q_values=agent.q_values,
                panel=panel,
            )

    # Files

    def save(self, path: str | Path) -> Path:
        """Write the weights and settings to ``path``, and return the path. The suffix is .safetensors."""
        target = Path(path)
        if target.suffix != ".safetensors":
            target = target.with_name(target.name + ".safetensors")
        with files.reported("written", target):
            target.parent.mkdir(parents=True, exist_ok=True)
        weights.save_weights(target, self.agent, envs.name(self.env))
        return target

    @_ClassMethod
    def load(cls: type[DQN], path: str | Path, env: envs.Env | str | None = None) -> DQN:  # noqa: N805 -- a class method
        """Return the agent in a file or run directory, to evaluate it, record it or train it further.

        A trained agent that is loaded fills a new replay buffer before it learns.

        Args:
            path: a .safetensors file (the suffix may be omitted), or a run directory for its best weights.
            env: the environment or its id; by default, the one named in the file.

        Raises:
            UsageError: it is called on an agent, which it would not change.
            FileFormatError: the file is damaged, or not a weights file.
            ShapeError: the environment has other sizes than the agent.
        """
        agent, _, made = weights.load_with_env(weights.weights_file(Path(path)), env)
        loaded = cls.__new__(cls)
        loaded.agent, loaded.env, loaded.preset, loaded._chosen = agent, made, None, frozenset()
        return loaded


def _environment(env: envs.Env | str) -> envs.Env:
    """Return the environment with flattened observations; explain how to use one that is not of Gymnasium."""
    if isinstance(env, str):
        if env.endswith("Policy"):
            raise _no_policy(env)
        return envs.flattened(envs.make(env))
    if any(kind.__module__.partition(".")[0] == "gym" for kind in type(env).__mro__):
        raise UnsupportedEnvironmentError(
            f"{type(env).__name__} is an environment of the old gym package. Perilune needs Gymnasium: "
            "import gymnasium as gym. To convert it, install shimmy and write "
            'gymnasium.make("GymV21Environment-v0", env=env).'
        )
    return envs.flattened(env)


def _no_policy(policy: str) -> UsageError:
    return UsageError(
        f"DQN has no policy argument, but was given {policy!r}. Write DQN(env), or DQN(env, hidden=(64, 64)) to choose "
        "the layers of the network."
    )


def _check_config(config: object) -> None:
    if config is not None and not isinstance(config, TrainConfig):
        raise UsageError(
            f"train({config!r}) is ambiguous. Write agent.train(steps={config!r}) for environment steps or "
            f"agent.train(episodes={config!r}) for episodes."
        )
