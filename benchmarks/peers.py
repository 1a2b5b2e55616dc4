"""Stable-Baselines3's DQN, measured as we measure ourselves: the same seeds, evaluations, start states and files."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig, to_json
from perilune.bench.speed import peer_installed
from perilune.errors import ConfigError, MissingDependencyError
from perilune.runs import files, lock, runlog
from perilune.training.evaluation import SELECTION_SEEDS, evaluate
from perilune.training.events import Episode, Evaluated
from perilune.training.loop import greedy_limit

NAME = "Stable-Baselines3"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Settings of Stable-Baselines3's DQN, by its own names."""

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


OURS = {"learner", "net_arch", "n_timesteps"}  # of a Peer's fields, those that are no argument of the model

TUNED = Peer(
    learning_rate=6.3e-4, batch_size=128, buffer_size=50_000, learning_starts=0, target_update_interval=250,
    train_freq=4, gradient_steps=-1, exploration_fraction=0.12, exploration_final_eps=0.1, n_timesteps=100_000,
)  # fmt: skip
# The tuned settings of RL Baselines3 Zoo, hyperparams/dqn.yml; LunarLander's are those of its version 2.
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


def zoo(environment: str) -> Peer:
    """The zoo's settings for ``environment``.

    Raises:
        ConfigError: the zoo has none.
        MissingDependencyError: Stable-Baselines3 is not installed.
    """
    if environment not in ZOO:
        raise ConfigError("against", "sb3", f"an environment with tuned settings ({', '.join(ZOO)}), not {environment}")
    if not peer_installed():
        raise MissingDependencyError(f"a comparison with {NAME} needs it: pip install stable-baselines3")
    return ZOO[environment]


def budget(peer: Peer, train: TrainConfig) -> TrainConfig:
    """``train``'s evaluations, with the budget that ``peer`` was tuned to and nothing that only we can do."""
    return replace(
        train, steps=peer.n_timesteps, episodes=None, max_episode_steps=None, stop_at_return=None, video_every=None
    )


def train_and_score(
    environment: str, peer: Peer, train: TrainConfig, seed: int, directory: Path, episodes: int
) -> tuple[float, float]:
    """Train ``peer`` into a run directory without weights; mean returns of its final and best weights.

    As in our own training an evaluation waits for the end of the episode, and its time does not count.
    """
    import torch  # noqa: PLC0415 -- a peer, never a dependency
    from stable_baselines3 import DQN  # noqa: PLC0415

    torch.set_num_threads(1)
    env = envs.make(environment)
    with (
        lock.claimed(directory),
        closing(envs.make(environment)) as training_env,
        _log(directory, env, peer, train, seed) as log,
    ):
        model = DQN(
            "MlpPolicy", training_env, policy_kwargs={"net_arch": list(peer.net_arch)}, seed=seed, device="cpu",
            **{name: value for name, value in asdict(peer).items() if name not in OURS},
        )  # fmt: skip

        def policy(obs: Array) -> int:
            return int(model.predict(obs, deterministic=True)[0])

        watch = _Watch(log.write, model, policy, env, peer, train)
        model.learn(peer.n_timesteps, callback=watch.step)
        watch.evaluate()
    limit = greedy_limit(env, train)
    final = evaluate(policy, env, episodes, max_episode_steps=limit).mean_return
    model.policy.load_state_dict(watch.best_weights)
    best = evaluate(policy, env, episodes, max_episode_steps=limit).mean_return
    env.close()
    return final, best


def _log(
    directory: Path, env: envs.Env, peer: Peer, train: TrainConfig, seed: int
) -> AbstractContextManager[runlog.RunLog]:
    """Begin the run directory; its log."""
    runlog.create(directory, overwrite=True)
    config = {
        "format": runlog.FORMAT,
        "environment": envs.name(env),
        "reward_threshold": envs.reward_threshold(env),
        "seed": seed,
        "agent": asdict(peer),
        "train": to_json(train),
    }
    host = runlog.host() | {name: metadata.version(name) for name in ("stable-baselines3", "torch")}
    files.write_json(directory / "host.json", host)
    files.write_json(directory / "config.json", config)
    return runlog.open_log(directory)


class _Watch:
    """Writes a peer's episodes and evaluations as it trains, and keeps its best weights. ``step`` is its callback."""

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
        """After an environment step; ``local`` is what the peer's loop holds."""
        if local["dones"][0]:
            self._ended(local["infos"][0])
            env_steps, every = self._model.num_timesteps, self._train.eval_every
            crossed = every is not None and self._episode_start // every < env_steps // every
            if crossed and env_steps < self._peer.n_timesteps:  # the last is made when the last update is
                self.evaluate()
            self._episode_start = env_steps
        return True

    def _ended(self, info: dict[str, Any]) -> None:
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
        """Score the peer as it is now, on the start states of our own selection."""
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
