"""``DQN``: train, evaluate, save and load an agent for one environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from inspect import signature
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
from perilune.export import export_agent, foreign
from perilune.history import History
from perilune.recording import Callback, Recording
from perilune.replay.symmetry import Symmetry
from perilune.runs import checkpoint, files, pretrained, weights
from perilune.runs.checkpoint import Checkpoint
from perilune.runs.manifest import Setup
from perilune.training.checks import check
from perilune.training.evaluation import Evaluation, evaluate
from perilune.training.events import Event
from perilune.training.loop import training_events
from perilune.training.scaling import measured
from perilune.viz import video
from perilune.viz.overlay import Panel

P = ParamSpec("P")
R = TypeVar("R")


class _ClassMethod(Generic[P, R]):
    """A class method that raises an error when called on an instance, because its result would be lost."""

    def __init__(self, function: Callable[Concatenate[Any, P], R]) -> None:
        self._function = function

    def __get__(self, instance: object, owner: type) -> Callable[P, R]:
        if instance is not None:
            name, arguments = self._function.__name__, ", ".join([*signature(self._function).parameters][1:])
            raise UsageError(
                f"{name} returns a new agent and does not change this one. Write agent = DQN.{name}({arguments})."
            )
        return MethodType(self._function, owner)


class DQN:
    """Deep Q-learning agent for one Gymnasium environment.

    >>> from perilune import DQN
    >>> agent = DQN("CartPole-v1", seed=1, learning_starts=200)
    >>> history = agent.train(steps=500, quiet=True)
    >>> agent.evaluate(episodes=10).mean_return > 0
    True

    Args:
        env: a Gymnasium environment or its ID. The action space must be Discrete. The observation space can be a
            one-dimensional Box, Discrete, MultiDiscrete, MultiBinary, or a Tuple or Dict of these; Perilune flattens
            observations.
        preset: settings to start from. "recommended" selects the tuned settings of the environment, or the preset
            "default" if there are none. "fast" selects the settings that need the least CPU time. "plain" selects the
            DQN of Mnih et al., Nature 518, 2015. An environment ID selects the preset of that environment. None selects
            the defaults of ``DQNConfig``.
        config: all settings. Replaces the preset.
        seed: seed of all random numbers (>= 0). On one machine, the same seed gives the same weights, bit for bit.
        symmetry: symmetry of the environment, for the setting ``mirror``. LunarLander, CartPole and Acrobot have a
            built-in symmetry, which is the default.
        settings: individual settings that override the preset or ``config``, such as ``hidden=(64, 64), gamma=0.98``.
            See ``perilune.DQNConfig``.

    Attributes:
        env: the environment, with flattened observations.
        agent: networks, replay buffer, optimizer and counters (``perilune.Agent``).
        preset: name of the preset, or None if the settings come from ``config`` or from a file.

    Raises:
        UsageError: a setting does not exist.
        ConfigError: a value is invalid.
        UnsupportedEnvironmentError: the environment does not exist, or its spaces are not supported.
        EnvironmentFaultError: the environment raised an exception while Perilune measured its scale.
    """

    def __init__(
        self,
        env: envs.Env | str,
        preset: Literal["recommended", "fast", "plain"] | str | None = presets.RECOMMENDED,
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
                f"preset={preset!r} is invalid: expected the name of a preset. To pass all settings, write "
                "DQN(env, config=DQNConfig(...))."
            )
        check_names(DQNConfig, settings)
        self.env = _environment(env)
        sizes = envs.space_sizes(self.env)
        self.preset = preset if config is None else None
        base = config if config is not None else presets.preset(envs.name(self.env), self.preset).agent
        self._chosen = frozenset(settings)
        config = build(DQNConfig, settings, base)
        self._measured = config.unmeasured
        config = measured(config, self.env)
        if symmetry is None:
            symmetry = lookup(envs.name(self.env)).symmetry
        seed = int(seed) if isinstance(seed, np.integer) else seed
        self.agent = Agent(sizes.observation_size, sizes.actions, config, seed, symmetry)

    @property
    def config(self) -> DQNConfig:
        """Settings of the agent."""
        return self.agent.config

    def __repr__(self) -> str:
        parts = [repr(envs.name(self.env)), f"preset={self.preset!r}"]
        if self.agent.seed:
            parts.append(f"seed={self.agent.seed}")
        parts += recording.changes(self.config, envs.name(self.env), self.preset)
        return f"DQN({', '.join(parts)})"

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for ``copy.deepcopy`` and ``pickle``. A copy makes its environment from the ID, if any."""
        return self.__dict__ | {"env": envs.recipe(self.env)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy."""
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
        """Train the agent. Later calls continue with the same agent and replay buffer.

        Without ``run_dir``, Perilune writes no files. With ``run_dir``, it records logs, weights, checkpoints, curves
        and videos there, and on SIGINT (Ctrl-C) or SIGTERM, it saves a checkpoint at the end of the episode and stops.

        Perilune scales the schedules of the preset to the budget ``steps``; see ``perilune.presets``.

        >>> from perilune import DQN
        >>> history = DQN("CartPole-v1", learning_starts=200).train(steps=500, eval_episodes=3, quiet=True)
        >>> sum(history.lengths) <= 500
        True

        Args:
            config: all training settings.
            run_dir: directory to record the run in.
            resume: resume the run in ``run_dir`` exactly from its last checkpoint. This replaces the weights and the
                replay buffer of the agent. The settings must match those of the run.
            overwrite: replace the run in ``run_dir``.
            change: names of settings that may differ from those of the resumed run, as in
                ``train(run_dir=run, resume=True, change=["steps"], steps=200_000)``.
            callback: function that receives each event (``perilune.training.events``). If it returns False, training
                stops at the end of the episode.
            frames: keep the images of recorded episodes in ``history.frames``. An episode of LunarLander takes about
                200 MB of memory.
            pictures: plot the learning curves and record a video of the best agent at the end, if the required
                libraries are installed.
            quiet: do not show progress.
            tensorboard: write TensorBoard event files into ``run_dir``/tensorboard.
            settings: individual settings, such as ``steps=50_000, eval_every=5_000``. See ``perilune.TrainConfig``.
                By default, the preset sets the budget.

        Returns:
            The history of the training run.

        Raises:
            UsageError: a setting does not exist, an argument requires ``run_dir``, or arguments exclude each other.
            ConfigError: a value is invalid, the budget ends before the first update, or a setting differs from
                the resumed run and is not listed in ``change``.
            RunDirectoryError: ``run_dir`` cannot be written, already holds a run, is in use by another process, or
                has no run to resume.
            FileFormatError: the run to resume is damaged.
            MissingDependencyError: a library for videos or event files is not installed.
            DivergenceError: the loss is not finite. Everything recorded so far is kept.
            EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface.
        """
        _check_config(config)
        options: dict[str, Any] = {"callback": callback, "frames": frames, "pictures": pictures, "quiet": quiet}
        options |= {"env": self.env, "preset": self.preset, "tensorboard": tensorboard}
        directory = Path() if run_dir is None else Path(run_dir)
        if resume and run_dir is not None:
            if overwrite:
                raise UsageError("resume cannot be combined with overwrite. Pass only one of them.")
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
                raise UsageError(f"{name} requires a run directory. Write train(run_dir='runs/first', {name}=...).")
        return run.in_memory()

    def iterate(self, config: TrainConfig | None = None, **settings: Unpack[TrainSettings]) -> Iterator[Event]:
        """Train the agent and yield each event. Perilune writes and prints nothing.

        The agent learns while you iterate. Leaving the loop stops training.

        >>> from perilune import DQN
        >>> from perilune.training.events import Episode
        >>> events = DQN("CartPole-v1", learning_starts=200).iterate(steps=300, eval_episodes=3)
        >>> returns = [event.reward for event in events if isinstance(event, Episode)]

        Args:
            config: all training settings.
            settings: individual settings, as in ``train``.

        Returns:
            An iterator over events (``perilune.training.events``).

        Raises:
            UsageError: a setting does not exist.
            ConfigError: a value is invalid, or the budget ends before the first update.
            DivergenceError: the loss is not finite. Raised during iteration.
            EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface. Raised
                during iteration.
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
        total_timesteps: int | None = None,
        callback: Callback | None = None,
        *,
        progress_bar: bool = False,
        **settings: Unpack[TrainSettings],
    ) -> DQN:
        """Train for ``total_timesteps`` environment steps, as in Stable-Baselines3.

        Args:
            total_timesteps: environment steps (>= 1).
            callback: function that receives each event, as in ``train``.
            progress_bar: show progress.
            settings: individual training settings, as in ``train``.

        Returns:
            This agent.

        Raises:
            UsageError: ``total_timesteps`` is missing, ``callback`` is not a function, or a setting does not exist.
            ConfigError: a value is invalid, or the budget ends before the first update.
        """
        if total_timesteps is None or "steps" in settings:
            raise UsageError(
                "learn() needs the number of environment steps. Write agent.learn(total_timesteps=100_000), or "
                "agent.train(steps=100_000) or agent.train(episodes=500)."
            )
        if callback is not None and not callable(callback):
            raise UsageError(f"callback={callback!r} is invalid: expected a function that takes an event.")
        self.train(callback=callback, quiet=not progress_bar, **(settings | {"steps": total_timesteps}))
        return self

    def _prepare(self, config: TrainConfig | None, settings: TrainSettings) -> TrainConfig:
        """Return the training settings. If the agent is untrained, scale its schedules to the budget."""
        check_names(TrainConfig, settings)
        train = settings if config is None else vars(config) | settings
        names = () if self.preset is None else self._chosen.union(self._measured)
        chosen = {name: getattr(self.config, name) for name in names}
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
        """Return the setup to resume a run with. Settings that were measured or scaled keep the values of the run."""
        base = latest.setup.train if config is None else config
        check_names(TrainConfig, settings)
        wanted = self._setup(build(TrainConfig, settings, base))
        schedules = set() if self.preset is None else {*presets.SCALED, "epsilon_decay_steps"}
        kept = (schedules - self._chosen - set(change)).union(self._measured)
        stored = {name: getattr(latest.setup.agent, name) for name in kept}
        return msgspec.structs.replace(wanted, agent=replace(wanted.agent, **stored))

    # Act

    def q_values(self, obs: Any) -> Array:
        """Return Q(obs, a) for each action a.

        The weights are those used for evaluation: the moving average if ``ema_decay`` is set, else the online network.
        For distributional heads, Q is the mean of the distribution.

        Args:
            obs: one observation or a batch of N, flattened [O] or [N, O], or as the environment returns them.

        Returns:
            float32 [A] for one observation, [N, A] for a batch.

        Raises:
            ShapeError: ``obs`` has the wrong shape or is not finite.
        """
        rows, one = self._rows(obs)
        values = self.agent.q_values(rows)
        return values[0] if one else values

    def act(self, obs: Any) -> Any:
        """Return the greedy action, argmax over a of Q(obs, a).

        >>> from perilune import DQN
        >>> DQN("CartPole-v1").act([0.0, 0.0, 0.0, 0.0]) in (0, 1)
        True

        Args:
            obs: one observation or a batch of N, flattened [O] or [N, O], or as the environment returns them.

        Returns:
            An int for one observation, an int array [N] for a batch.

        Raises:
            ShapeError: ``obs`` has the wrong shape or is not finite.
        """
        rows, one = self._rows(obs)
        first = envs.space_sizes(self.env).first_action
        if one:
            return first + self.agent.greedy_action(rows[0])
        return first + self.agent.q_values(rows).argmax(axis=1)

    def predict(self, obs: Any, deterministic: bool = True) -> tuple[Any, None]:
        """Return an action, as in Stable-Baselines3.

        Args:
            obs: one observation or a batch of N, flattened [O] or [N, O], or as the environment returns them.
            deterministic: act greedily. If False, act epsilon-greedily with the current epsilon.

        Returns:
            ``(action, None)``, where action is an int64 for one observation and an int array [N] for a batch.

        Raises:
            ShapeError: ``obs`` has the wrong shape or is not finite.
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
                f"observation or [N, {size}] for a batch."
            )
        return (rows[None], True) if rows.ndim == 1 else (rows, False)

    def evaluate(self, episodes: int = 100, max_episode_steps: int | None = None) -> Evaluation:
        """Play greedy episodes from fixed start states that training never uses.

        Args:
            episodes: number of episodes (>= 1).
            max_episode_steps: steps after which an episode is truncated, for environments without a time limit.

        Returns:
            Returns, lengths and outcomes of the episodes, and their statistics.

        Raises:
            UsageError: ``episodes`` is not an integer.
            ConfigError: a value is below 1.
            EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface.
        """
        if not isinstance(episodes, int | np.integer) or isinstance(episodes, bool):
            raise UsageError(
                f"episodes={episodes!r} is invalid: expected a number of episodes to play in agent.env. Write "
                "agent.evaluate(episodes=100), or DQN.load(path, env).evaluate() for another environment."
            )
        with one_blas_thread():
            return evaluate(self.agent.greedy_action, self.env, int(episodes), max_episode_steps=max_episode_steps)

    def record_video(
        self,
        path: str | Path,
        episodes: int = 1,
        max_episode_steps: int | None = None,
        *,
        overlay: bool = False,
        tell: Callable[[int, int], object] | None = None,
    ) -> Evaluation:
        """Play greedy episodes and record them in a video.

        Args:
            path: file to write, with the suffix .mp4 or .gif. A GIF has half the width and fewer frames.
            episodes: number of episodes (>= 1).
            max_episode_steps: steps after which an episode is truncated, for environments without a time limit.
            overlay: show Q-values, the chosen action, the return so far and the outcome below the images.
            tell: progress callback. Receives the number of recorded episodes and their total.

        Returns:
            Returns, lengths and outcomes of the episodes.

        Raises:
            ConfigError: the environment cannot render, or ``path`` has an unsupported suffix.
            MissingDependencyError: the video library is not installed.
            RunDirectoryError: ``path`` cannot be written.
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
                tell=tell,
            )

    # Files

    def save(self, path: str | Path) -> Path:
        """Write the weights and settings to a .safetensors file.

        Args:
            path: file to write. Perilune appends the suffix .safetensors if it is missing.

        Returns:
            The path of the file.

        Raises:
            RunDirectoryError: the file cannot be written.
        """
        target = Path(path)
        if target.suffix != ".safetensors":
            target = target.with_name(target.name + ".safetensors")
        with files.reported("written", target):
            target.parent.mkdir(parents=True, exist_ok=True)
        weights.save_weights(target, self.agent, envs.name(self.env))
        return target

    def export(
        self,
        target: Literal["onnx", "c", "js", "python"],
        out: str | Path,
        *,
        int8: bool = False,
        episodes: int = 100,
        max_episode_steps: int | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Export the greedy policy for other programs: as ONNX, C, JavaScript or one Python file.

        Perilune also writes a self-test and contract.json, which describes the inputs and outputs.

        Args:
            target: "onnx", "c", "js" or "python".
            out: directory to write.
            int8: store the weights of the C export as 8-bit integers.
            episodes: greedy episodes for the score in contract.json (>= 0).
            max_episode_steps: step limit of these episodes, for environments without a time limit.
            overwrite: replace an earlier export in ``out``.

        Returns:
            The directory.

        Raises:
            ConfigError: ``target`` does not exist, or an argument does not fit it.
            ExportError: the weights are not finite.
            RunDirectoryError: ``out`` contains other files, or cannot be written.
            FileFormatError: ``out`` contains a link or a damaged contract.json.
            MissingDependencyError: the target "onnx" needs onnx, which is not installed.
            EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface.
        """
        with one_blas_thread():
            export_agent(
                self.agent,
                self.env,
                target,
                Path(out),
                int8=int8,
                episodes=episodes,
                max_episode_steps=max_episode_steps,
                overwrite=overwrite,
            )
        return Path(out)

    @_ClassMethod
    def load(cls: type[DQN], path: str | Path, env: envs.Env | str | None = None) -> DQN:  # noqa: N805 -- a class method
        """Load an agent from a weights file or a run directory, to evaluate it or train it further.

        A loaded agent starts with an empty replay buffer and fills it before it learns. To resume a run exactly, call
        ``train(run_dir=..., resume=True)``.

        Args:
            path: a .safetensors file (you can omit the suffix), or a run directory, whose best weights are loaded.
            env: the environment or its ID. By default, the ID in the file.

        Returns:
            A new agent.

        Raises:
            UsageError: ``load`` is called on an agent instead of the class.
            RunDirectoryError: ``path`` does not exist or cannot be read.
            FileFormatError: the file is damaged or not a weights file.
            ShapeError: the observation size or the number of actions differs between agent and environment.
            UnsupportedEnvironmentError: the environment in the file cannot be made. Pass ``env``.
        """
        agent, _, made = weights.load_with_env(weights.weights_file(Path(path)), env)
        return cls._of(agent, made)

    @classmethod
    def _of(cls, agent: Agent, env: envs.Env) -> DQN:
        loaded = cls.__new__(cls)
        loaded.agent, loaded.env, loaded.preset = agent, env, None
        loaded._chosen, loaded._measured = frozenset(), ()
        return loaded

    @_ClassMethod
    def from_state_dict(
        cls: type[DQN],  # noqa: N805 -- a class method
        source: str | Path | Mapping[str, Any],
        env: envs.Env | str,
        activation: Literal["relu", "tanh"] = "relu",
    ) -> DQN:
        """Return an agent with the weights of a PyTorch network of dense layers, such as a policy of Stable-Baselines3.

        The layers follow the order of the dict, or in a file the numbers in their names (net.0, net.2, ...). The
        weights of a target network are ignored. The agent has the default settings otherwise.

        Args:
            source: a .safetensors file, or a state dict whose values are arrays or tensors.
            env: the environment or its ID.
            activation: the activation of the hidden layers.

        Returns:
            A new agent.

        Raises:
            ConfigError: ``activation`` is not "relu" or "tanh".
            ExportError: the weights are not those of a sequence of dense layers.
            ShapeError: the network does not fit the environment.
            FileFormatError: the file is damaged.
            RunDirectoryError: the file cannot be read.
        """
        made = _environment(env)
        return cls._of(foreign.from_state_dict(source, made, activation), made)

    @_ClassMethod
    def from_onnx(cls: type[DQN], path: str | Path, env: envs.Env | str) -> DQN:  # noqa: N805 -- a class method
        """Return an agent with the weights of an ONNX model of dense layers, ReLU and tanh.

        The agent has the default settings otherwise.

        Args:
            path: the .onnx file.
            env: the environment or its ID.

        Returns:
            A new agent.

        Raises:
            ExportError: the model has other operators, or is damaged.
            ShapeError: the network does not fit the environment.
            RunDirectoryError: the file cannot be read.
            MissingDependencyError: onnx is not installed.
        """
        made = _environment(env)
        return cls._of(foreign.from_onnx(Path(path), made), made)

    @_ClassMethod
    def pretrained(cls: type[DQN], env: envs.Env | str) -> DQN:  # noqa: N805 -- a class method
        """Return the pre-trained agent of an environment. ``perilune list`` lists the environments that have one.

        Like a loaded agent, it starts with an empty replay buffer if you train it further.

        >>> from perilune import DQN
        >>> agent = DQN.pretrained("CartPole-v1")
        >>> agent.evaluate(episodes=1).mean_return
        500.0

        Args:
            env: the environment or its ID, such as "CartPole-v1".

        Returns:
            A new agent.

        Raises:
            UsageError: ``pretrained`` is called on an agent instead of the class.
            UnsupportedEnvironmentError: there is no pre-trained agent for this environment, or its actions or
                observations differ from those in training.
            FileFormatError: the weights file is damaged.
        """
        if isinstance(env, str):
            pretrained.entry(env)  # refuse another environment even if it cannot be made
        made = _environment(env)
        envs.space_sizes(made)
        return cls.load(pretrained.weights_file_for(made), made)


def _environment(env: envs.Env | str) -> envs.Env:
    """Return the environment with flattened observations. Reject environments of the old gym package."""
    if isinstance(env, str):
        if env.endswith("Policy"):
            raise _no_policy(env)
        return envs.flattened(envs.make(env))
    if any(kind.__module__.partition(".")[0] == "gym" for kind in type(env).__mro__):
        raise UnsupportedEnvironmentError(
            f"{type(env).__name__} is an environment of the old gym package. Perilune requires Gymnasium: "
            "import gymnasium as gym. To convert the environment, install shimmy and write "
            'gymnasium.make("GymV21Environment-v0", env=env).'
        )
    return envs.flattened(env)


def _no_policy(policy: str) -> UsageError:
    return UsageError(
        f"DQN has no policy argument, but {policy!r} was given. Write DQN(env), or DQN(env, hidden=(64, 64)) to set "
        "the hidden layers."
    )


def _check_config(config: object) -> None:
    if config is not None and not isinstance(config, TrainConfig):
        raise UsageError(
            f"train({config!r}) is ambiguous. Write agent.train(steps={config!r}) for environment steps or "
            f"agent.train(episodes={config!r}) for episodes."
        )
