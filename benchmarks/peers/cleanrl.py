"""The scripts dqn.py, dqn_jax.py and pqn.py of CleanRL, unmodified, with their default settings.

CleanRL is written for Gymnasium 0.29. ``_Recorded`` gives its scripts the interface that they expect.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import os
import runpy
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from benchmarks.peers.recorder import Policy, Recorder, recording
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.errors import MissingDependencyError

SCRIPTS = {"cleanrl-dqn": "dqn", "cleanrl-dqn-jax": "dqn_jax", "cleanrl-pqn": "pqn"}
COMMIT = "fe8d8a03c41a7ef5b523e2e354bd01c363e786bb"
PACKAGES = {"dqn": ("torch",), "dqn_jax": ("jax", "flax", "torch"), "pqn": ("torch",)}
INSTALL = (
    f"pip install torch jax flax optax tyro, and then pip install --no-deps "
    f"git+https://github.com/vwxyzjn/cleanrl@{COMMIT}"
)


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script of CleanRL. All other settings are its defaults, which are made for CartPole."""

    script: str
    n_timesteps: int = 500_000

    def train_and_score(
        self, environment: str, train: TrainConfig, seed: int, directory: Path, episodes: int
    ) -> tuple[float, float]:
        """Train and write logs to ``directory``. Return the mean returns of the final and the best weights."""
        path = _path(self.script)
        with recording(environment, self, train, seed, directory, PACKAGES[self.script]) as (recorder, score):
            _set_threads()
            with _prepared(recorder):
                sys.argv = [path.name, "--env-id", environment, "--seed", str(seed)]
                sys.argv += ["--total-timesteps", str(self.n_timesteps)]
                variables = runpy.run_path(str(path), run_name="__main__")
            recorder.policy = _policy(variables)
            recorder.evaluate(self.n_timesteps)
            final = score(episodes)
            recorder.policy = _policy(variables, recorder.best_weights)
            return final, score(episodes)


def settings(name: str) -> Script:
    """Return the settings of a script.

    Raises:
        MissingDependencyError: CleanRL or one of its dependencies is not installed.
    """
    script = SCRIPTS[name]
    needed = ("cleanrl_utils", "tyro", *PACKAGES[script])
    _path(script)
    if any(importlib.util.find_spec(package) is None for package in needed):
        raise MissingDependencyError(f"CleanRL's {script}.py is not installed: {INSTALL}")
    return Script(script=script)


def _path(script: str) -> Path:
    found = importlib.util.find_spec("cleanrl") and importlib.util.find_spec(f"cleanrl.{script}")
    if found is None or found.origin is None:
        raise MissingDependencyError(f"CleanRL's {script}.py is not installed: {INSTALL}")
    return Path(found.origin)


def _set_threads() -> None:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import torch  # noqa: PLC0415 -- optional

    torch.set_num_threads(1)


@contextlib.contextmanager
def _prepared(recorder: Recorder) -> Iterator[None]:
    """Record the environments of a script. Drop what it prints, and what it logs to TensorBoard."""
    tensorboard = types.ModuleType("torch.utils.tensorboard")
    tensorboard.SummaryWriter = mock.MagicMock()  # type: ignore[attr-defined]
    with (
        mock.patch.dict(sys.modules, {"torch.utils.tensorboard": tensorboard}),
        mock.patch.object(gym.vector, "SyncVectorEnv", lambda makers: _Recorded(makers, recorder)),
        mock.patch.object(sys, "argv", []),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        yield


class _Recorded(SyncVectorEnv):
    """Environments with the interface of Gymnasium 0.29, which resets them within the last step of an episode."""

    def __init__(self, makers: Any, recorder: Recorder) -> None:
        super().__init__(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        self._recorder, self._env_steps = recorder, 0
        self._episode_returns, self._episode_lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, np.int64)
        recorder.start()

    def step(self, actions: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(actions)
        variables = sys._getframe(1).f_globals
        self._env_steps += self.num_envs
        self._episode_returns += reward
        self._episode_lengths += 1
        for env in np.flatnonzero(terminated | truncated):
            self._recorder.policy = _policy(variables)
            self._recorder.weights = lambda: _weights(variables)
            self._recorder.end_episode(
                self._env_steps,
                float(self._episode_returns[env]),
                int(self._episode_lengths[env]),
                bool(truncated[env]),
                float(variables["epsilon"]),
            )
            self._episode_returns[env] = self._episode_lengths[env] = 0
        info.pop("final_info", None)  # of another form than in Gymnasium 0.29; the scripts only log it
        if "final_obs" in info:
            info["final_observation"] = info["final_obs"]
        return obs, reward, terminated, truncated, info


def _weights(variables: dict[str, Any]) -> Any:
    """Return the weights in the variables of a script."""
    if "q_state" in variables:  # arrays of JAX never change
        return variables["q_state"].params
    return copy.deepcopy(variables["q_network"].state_dict())


def _policy(variables: dict[str, Any], weights: Any = None) -> Policy:
    """Return the greedy policy of a script, with ``weights`` instead of the current ones."""
    network = variables["q_network"]
    if "q_state" in variables:
        parameters = variables["q_state"].params if weights is None else weights
        return lambda obs: int(np.asarray(network.apply(parameters, obs[None])).argmax())
    import torch  # noqa: PLC0415 -- optional

    if weights is not None:
        network.load_state_dict(weights)

    def policy(obs: Array) -> int:
        with torch.no_grad():
            return int(network(torch.from_numpy(obs[None])).argmax())

    return policy
