"""DQN of Stable-Baselines3 and of sbx, its version in JAX, with the settings of RL Baselines3 Zoo."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import os
import statistics
import time
import warnings
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers.recorder import recording
from perilune import envs
from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, MissingDependencyError
from perilune.training.events import Evaluated
from perilune.training.loop import training_events

NAME = "Stable-Baselines3"


class Library(NamedTuple):
    """A library with the interface of Stable-Baselines3."""

    title: str
    module: str
    packages: tuple[str, ...]


LIBRARIES = {
    "sb3": Library(NAME, "stable_baselines3", ("stable-baselines3", "torch")),
    "sbx": Library("sbx", "sbx", ("sbx-rl", "stable-baselines3", "jax")),
}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Settings of Stable-Baselines3's DQN, with the names that it uses."""

    library: str = "sb3"
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
        """Train and write logs to ``directory``. Return the mean returns of the final and the best weights."""
        library = LIBRARIES[self.library]
        with (
            recording(environment, self, train, seed, directory, library.packages) as (recorder, score),
            closing(envs.make(environment)) as training_env,
        ):
            arguments = {name: value for name, value in asdict(self).items() if name not in NOT_ARGUMENTS}
            model = _model(self.library, training_env, seed, net_arch=self.net_arch, **arguments)

            def step(local: dict[str, Any], _: object) -> bool:
                if local["dones"][0]:
                    info = local["infos"][0]
                    reward, length = float(info["episode"]["r"]), int(info["episode"]["l"])
                    truncated = bool(info["TimeLimit.truncated"])
                    recorder.end_episode(model.num_timesteps, reward, length, truncated, float(model.exploration_rate))
                return True

            recorder.policy = lambda obs: int(model.predict(obs, deterministic=True)[0])
            # The weights of sbx are arrays of JAX, which never change.
            in_torch = self.library == "sb3"
            recorder.weights = lambda: copy.deepcopy(model.policy.state_dict()) if in_torch else model.policy.qf_state
            recorder.start()
            model.learn(self.n_timesteps, callback=step)
            recorder.evaluate(model.num_timesteps)
            final = score(episodes)
            if in_torch:
                model.policy.load_state_dict(recorder.best_weights)
            else:
                model.policy.qf_state = recorder.best_weights
            return final, score(episodes)


NOT_ARGUMENTS = {"library", "net_arch", "n_timesteps"}  # fields of Peer that are not arguments of DQN

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


def check_installed(name: str = "sb3") -> None:
    """Raise MissingDependencyError if a library is not installed."""
    library = LIBRARIES[name]
    if importlib.util.find_spec(library.module) is None:
        raise MissingDependencyError(f"{library.title} is not installed: pip install {library.packages[0]}")


def settings(name: str, environment: str) -> Peer:
    """Return the settings of RL Baselines3 Zoo for ``environment``.

    Raises:
        ConfigError: The zoo has no settings for the environment.
        MissingDependencyError: the library is not installed.
    """
    if environment not in ZOO:
        raise ConfigError("against", name, f"an environment with tuned settings ({', '.join(ZOO)}), not {environment}")
    check_installed(name)
    return replace(ZOO[environment], library=name)


def _model(library: str, env: envs.Env, seed: int, net_arch: tuple[int, ...], **settings: Any) -> Any:
    if library == "sb3":
        import torch  # noqa: PLC0415 -- optional

        torch.set_num_threads(1)
        settings["device"] = "cpu"
    else:  # read when JAX starts
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    module = importlib.import_module(LIBRARIES[library].module)
    return module.DQN("MlpPolicy", env, policy_kwargs={"net_arch": list(net_arch)}, seed=seed, **settings)


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
            "sb3", env, 0, net_arch=(128, 128), batch_size=128, train_freq=4, gradient_steps=1,
            target_update_interval=250, learning_rate=6.3e-4, buffer_size=50_000, learning_starts=1000,
            exploration_final_eps=0.1, exploration_fraction=1.0,
        )  # fmt: skip
        started = time.perf_counter()
        model.learn(env_steps)
        return (time.perf_counter() - started) / env_steps * 1e6
