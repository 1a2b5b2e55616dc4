"""Environments in worker processes: the same training as in one process, also if workers die."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from perilune import DQN
from perilune.envs import workers
from perilune.errors import ConfigError, EnvironmentFaultError

SETTINGS: dict[str, Any] = {
    "hidden": (8,), "batch_size": 16, "learning_starts": 100, "buffer_size": 1_000, "train_freq": 4,
}  # fmt: skip
TRAIN: dict[str, Any] = {"steps": 600, "num_envs": 3, "eval_every": 200, "eval_episodes": 1, "quiet": True}


class Fragile(CartPoleEnv):
    """CartPole whose process dies, or that raises an error, on request."""

    def __init__(self, directory: str = "", fault: str = "", pid: int = 0, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.directory, self.fault, self.pid, self.steps = Path(directory), fault, pid, 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 40 and os.getpid() != self.pid:
            match self.fault:
                case "raises":
                    raise ValueError("no such place")
                case "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "dies once" if len(list(self.directory.iterdir())) < 2:
                    (self.directory / str(os.getpid())).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


gym.register("Fragile-v0", "test_workers:Fragile", max_episode_steps=100)


def trained(env: Any = "CartPole-v1", settings: dict[str, Any] = SETTINGS, **train: Any) -> DQN:
    dqn = DQN(env, None, seed=5, **settings)
    dqn.train(run_dir=None, **TRAIN | train)
    return dqn


def weights(dqn: DQN) -> bytes:
    return dqn.agent.online.parameters.tobytes()


def fragile(fault: str, directory: Path = Path()) -> gym.Env[Any, Any]:
    return gym.make("Fragile-v0", fault=fault, directory=str(directory), pid=os.getpid())


@pytest.mark.parametrize("count", [2, 3])
def test_weights_do_not_depend_on_the_number_of_workers(count: int) -> None:
    assert weights(trained(workers=count)) == weights(trained())
    assert not multiprocessing.active_children()


def test_weights_of_pqn_do_not_depend_on_the_number_of_workers() -> None:
    pqn: dict[str, Any] = {"td_lambda": 0.9, "buffer_size": 192, "batch_size": 32, "learning_starts": 1, "n_step": 1}
    assert weights(trained(settings=pqn, workers=2)) == weights(trained(settings=pqn))


def test_worker_that_dies_plays_its_episodes_again(tmp_path: Path) -> None:
    assert weights(trained(fragile("dies once", tmp_path), workers=2)) == weights(trained(fragile("")))
    assert len(list(tmp_path.iterdir())) == 2


def test_worker_that_always_dies_is_an_error() -> None:
    with pytest.raises(
        EnvironmentFaultError, match=r"the worker process of Fragile-v0 died 3 times at the same time step"
    ):
        trained(fragile("dies"), workers=2)
    assert not multiprocessing.active_children()


def test_error_of_an_environment_is_reported_with_its_traceback() -> None:
    with pytest.raises(EnvironmentFaultError, match="ValueError: no such place") as raised:
        trained(fragile("raises"), workers=2)
    assert isinstance(raised.value.__cause__, EnvironmentFaultError | ValueError)
    causes: list[BaseException] = [raised.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert "in step" in causes[-1].__notes__[0]
    assert not multiprocessing.active_children()


def test_run_resumes_to_the_bit_with_another_number_of_workers(tmp_path: Path) -> None:
    def interrupted(event: Any) -> bool:
        return getattr(event, "env_steps", 0) < 400

    whole = trained()
    dqn = DQN("CartPole-v1", None, seed=5, **SETTINGS)
    options = TRAIN | {"checkpoint_seconds": 1e-9, "pictures": False}
    dqn.train(run_dir=tmp_path / "run", workers=2, callback=interrupted, **options)
    assert dqn.agent.env_steps < 600
    again = DQN("CartPole-v1", None, seed=5, **SETTINGS)
    again.train(run_dir=tmp_path / "run", workers=3, resume=True, change=("workers",), **options)
    assert weights(again) == weights(whole)


def test_videos_do_not_change_the_weights(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", None, seed=5, **SETTINGS)
    dqn.train(run_dir=tmp_path / "run", workers=2, video_every=5, **TRAIN)
    assert weights(dqn) == weights(trained())
    assert list((tmp_path / "run" / "videos").glob("*.mp4"))


def test_environment_that_other_processes_cannot_make_is_refused() -> None:
    class Local(CartPoleEnv):
        """Cannot be imported."""

    gym.register("Local-v0", Local)
    with pytest.raises(ConfigError, match=r"workers=2 is invalid: expected 1, because Local-v0 cannot be created in"):
        trained("Local-v0", workers=2)
    with pytest.raises(ConfigError, match=r"workers=2 is invalid: expected 1, because .* is not registered"):
        trained(CartPoleEnv(), workers=2)


def test_more_workers_than_environments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"workers=4 is invalid: expected at most num_envs=3"):
        trained(workers=4)


def test_steps_of_a_worker_are_answered_in_order() -> None:
    copies = workers.members(gym.make("CartPole-v1"), 3, 2)
    own = [gym.make("CartPole-v1") for _ in range(3)]
    for seed, (copy, env) in enumerate(zip(copies, own, strict=True)):
        assert np.array_equal(copy.reset(seed=seed)[0], env.reset(seed=seed)[0])
    for action in (0, 1, 1):
        workers.send(copies, [action] * 3)
        for copy, env in zip(copies, own, strict=True):
            assert np.array_equal(copy.step(action)[0], env.step(action)[0])
    assert np.array_equal(copies[1].step(0)[0], own[1].step(0)[0])  # without send
    for copy in copies:
        copy.close()
    assert not multiprocessing.active_children()
