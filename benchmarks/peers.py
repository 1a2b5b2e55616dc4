"""Run Stable-Baselines3's DQN with the same seeds, evaluations, start states and files as Perilune.

Used by ``perilune bench learning ENV --against sb3`` and ``perilune bench speed``.
"""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, MissingDependencyError
from perilune.runs import files, layout, lock, logs, manifest
from perilune.training.evaluation import SELECTION_SEEDS, evaluate, greedy_limit
from perilune.training.events import Episode, Evaluated
from perilune.training.loop import training_events

NAME = "Stable-Baselines3"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Settings of Stable-Baselines3's DQN, with the names that it uses."""

    learner: str = f"{NAME} DQN"
    net_arch: tuple[int, ...] = (256, 256)
    learning_rate: float
    batch_size: int
    buffer_size: int
    learning_starts: int
    gamma: float = 0.99
    target_update_interval: int
    train_freq: int
    gradient_steps: int
    exploration_fraction: float
    exploration_final_eps: float
    n_timesteps: int

    def train_and_score(
        self, environment: str, train: TrainConfig, seed: int, directory: Path, episodes: int
    ) -> tuple[float, float]:
        """Train and write logs to ``directory``. Return the mean returns of the final and the best weights.

        As in Perilune, an evaluation waits for the end of the episode, and its time does not count.
        """
        env = envs.make(environment)
        with (
            lock.acquire(directory),
            closing(envs.make(environment)) as training_env,
            _log(directory, env, self, train, seed) as log,
        ):
            model = _model(
                training_env, seed, net_arch=self.net_arch,
                **{name: value for name, value in asdict(self).items() if name not in NOT_ARGUMENTS},
            )  # fmt: skip

            def policy(obs: Array) -> int:
                return int(model.predict(obs, deterministic=True)[0])

            recorder = _Recorder(log.write, model, policy, env, self, train)
            model.learn(self.n_timesteps, callback=recorder.step)
            recorder.evaluate()
        limit = greedy_limit(env, train)
        final = evaluate(policy, env, episodes, max_episode_steps=limit).mean_return
        model.policy.load_state_dict(recorder.best_weights)
        best = evaluate(policy, env, episodes, max_episode_steps=limit).mean_return
        env.close()
        return final, best


NOT_ARGUMENTS = {"learner", "net_arch", "n_timesteps"}  # fields of Peer that are not arguments of DQN

TUNED = Peer(
    learning_rate=6.3e-4, batch_size=128, buffer_size=50_000, learning_starts=0, target_update_interval=250,
    train_freq=4, gradient_steps=-1, exploration_fraction=0.12, exploration_final_eps=0.1, n_timesteps=100_000,
)  # fmt: skip
# Tuned settings of RL Baselines3 Zoo, from hyperparams/dqn.yml. The Zoo tuned LunarLander-v2, not v3.
ZOO: dict[str, Peer] = {
    "LunarLander-v3": TUNED,
    "Acrobot-v1": TUNED,
    "CartPole-v1": Peer(
        learning_rate=2.3e-3, batch_size=64, buffer_size=100_000, learning_starts=1_000, target_update_interval=10,
        train_freq=256, gradient_steps=128, exploration_fraction=0.16, exploration_final_eps=0.04, n_timesteps=50_000,
    ),
    "MountainCar-v0": Peer(
        learning_rate=4e-3, batch_size=128, buffer_size=10_000, learning_starts=1_000, gamma=0.98,
        target_update_interval=600, train_freq=16, gradient_steps=8, exploration_fraction=0.2,
        exploration_final_eps=0.07, n_timesteps=120_000,
    ),
}  # fmt: skip


def check_installed() -> None:
    """Raise MissingDependencyError if Stable-Baselines3 is not installed."""
    if importlib.util.find_spec("stable_baselines3") is None:
        raise MissingDependencyError(f"{NAME} is not installed: pip install stable-baselines3")


def zoo(environment: str) -> Peer:
    """Return the settings of RL Baselines3 Zoo for ``environment``.

    Raises:
        ConfigError: The zoo has no settings for the environment.
        MissingDependencyError: Stable-Baselines3 is not installed.
    """
    if environment not in ZOO:
        raise ConfigError("against", "sb3", f"an environment with tuned settings ({', '.join(ZOO)}), not {environment}")
    check_installed()
    return ZOO[environment]


def budget(peer: Peer, train: TrainConfig) -> TrainConfig:
    """Return ``train`` with the budget that ``peer`` is tuned for, and without settings that only Perilune supports."""
    return replace(
        train, steps=peer.n_timesteps, episodes=None, max_episode_steps=None, stop_at_return=None, video_every=None
    )


def _model(env: envs.Env, seed: int, net_arch: tuple[int, ...], **settings: Any) -> Any:
    import torch  # noqa: PLC0415 -- optional
    from stable_baselines3 import DQN  # noqa: PLC0415

    torch.set_num_threads(1)
    return DQN("MlpPolicy", env, policy_kwargs={"net_arch": list(net_arch)}, seed=seed, device="cpu", **settings)


def _log(directory: Path, env: envs.Env, peer: Peer, train: TrainConfig, seed: int) -> logs.LogWriter:
    """Create the run directory and return its log."""
    layout.create(directory, overwrite=True)
    config = {
        "format": manifest.FORMAT,
        "environment": envs.name(env),
        "reward_threshold": envs.reward_threshold(env),
        "seed": seed,
        "agent": asdict(peer),
        "train": asdict(train),
    }
    host = manifest.host() | {name: metadata.version(name) for name in ("stable-baselines3", "torch")}
    files.write_json(directory / "host.json", host)
    files.write_json(directory / "config.json", config)
    return logs.LogWriter(directory)


class _Recorder:
    """Record the episodes and evaluations of a training run and keep the best weights. ``step`` is the callback."""

    def __init__(
        self,
        write: Callable[[Episode | Evaluated], None],
        model: Any,
        policy: Callable[[Array], int],
        env: envs.Env,
        peer: Peer,
        train: TrainConfig,
    ) -> None:
        self._write, self._model, self._policy = write, model, policy
        self._env, self._peer, self._train = env, peer, train
        self._episodes, self._episode_start, self._best = 0, 0, float("-inf")
        self._seconds, self._since = 0.0, time.perf_counter()
        self.best_weights: Any = None

    def step(self, local: dict[str, Any], _: object) -> bool:
        """Handle one environment step. ``local`` holds the local variables of the training loop."""
        if local["dones"][0]:
            self._end_episode(local["infos"][0])
            env_steps, every = self._model.num_timesteps, self._train.eval_every
            due = every is not None and self._episode_start // every < env_steps // every
            if due and env_steps < self._peer.n_timesteps:  # the last evaluation follows the last update
                self.evaluate()
            self._episode_start = env_steps
        return True

    def _end_episode(self, info: dict[str, Any]) -> None:
        self._episodes += 1
        env_steps = self._model.num_timesteps
        self._write(
            Episode(
                episode=self._episodes,
                env_steps=env_steps,
                reward=float(info["episode"]["r"]),
                length=int(info["episode"]["l"]),
                loss=None,
                epsilon=float(self._model.exploration_rate),
                target_syncs=env_steps // self._peer.target_update_interval,
                ended="truncated" if info["TimeLimit.truncated"] else "terminated",
            )
        )

    def evaluate(self) -> None:
        """Evaluate the current weights on the start states with which Perilune selects checkpoints."""
        self._seconds += time.perf_counter() - self._since
        limit = greedy_limit(self._env, self._train)
        result = evaluate(
            self._policy,
            self._env,
            self._train.eval_episodes,
            first_seed=SELECTION_SEEDS,
            max_episode_steps=limit,
        )
        best = result.mean_return >= self._best
        if best:
            self._best = result.mean_return
            self.best_weights = copy.deepcopy(self._model.policy.state_dict())
        self._write(
            Evaluated(
                env_steps=self._model.num_timesteps,
                episodes=self._episodes,
                mean_return=result.mean_return,
                std_return=result.std_return,
                min_return=result.min_return,
                best=best,
                seconds=self._seconds,
            )
        )
        self._since = time.perf_counter()


@dataclass(frozen=True)
class TrainingSpeed:
    """Training time per environment step on LunarLander-v3, and how many times faster Perilune is (``ratio``)."""

    perilune_us: float
    peer_us: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"training LunarLander-v3 per step: {self.perilune_us:.0f} us, {NAME} {self.peer_us:.0f} us, "
            f"{self.ratio:.1f} times faster"
        )


def training_speed(env_steps: int = 10_000, pairs: int = 3) -> TrainingSpeed:
    """Time training on LunarLander-v3 with Perilune and Stable-Baselines3, alternately, with the same settings.

    Both train plain DQN without LayerNorm, with two hidden layers of 128, batches of 128, an update every 4 steps and a
    copy to the target network every 250 steps.
    """
    times = [(_own_training(env_steps), _peer_training(env_steps)) for _ in range(pairs)]
    return TrainingSpeed(
        perilune_us=statistics.median(own for own, _ in times),
        peer_us=statistics.median(peer for _, peer in times),
        ratio=statistics.median(peer / own for own, peer in times),
    )


def _own_training(env_steps: int) -> float:
    config = DQNConfig(
        hidden=(128, 128), layer_norm=False, double=False, n_step=1, batch_size=128, train_freq=4, tau=1.0,
        target_update_interval=250, learning_rate=6.3e-4, buffer_size=50_000, learning_starts=1000,
        epsilon_end=0.1, epsilon_decay_steps=12_000,
    )  # fmt: skip
    with closing(envs.make("LunarLander-v3")) as env, one_blas_thread():
        agent = Agent(8, 4, config, seed=0)
        events = list(training_events(agent, env, TrainConfig(steps=env_steps, eval_every=None, eval_episodes=1)))
    return next(event.seconds for event in events if isinstance(event, Evaluated)) / env_steps * 1e6


def _peer_training(env_steps: int) -> float:
    with closing(envs.make("LunarLander-v3")) as env, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _model(
            env, 0, net_arch=(128, 128), batch_size=128, train_freq=4, gradient_steps=1, target_update_interval=250,
            learning_rate=6.3e-4, buffer_size=50_000, learning_starts=1000, exploration_final_eps=0.1,
            exploration_fraction=1.0,
        )  # fmt: skip
        started = time.perf_counter()
        model.learn(env_steps)
        return (time.perf_counter() - started) / env_steps * 1e6
