"""Environments of EnvPool: the agent learns from true transitions only, of the same environment as in Gymnasium."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest

from perilune import DQN, envs
from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.pool import members, send
from perilune.errors import ConfigError, MissingDependencyError, PeriluneWarning
from perilune.runs.inspection import verify
from perilune.training.events import Evaluated
from perilune.training.loop import training_events

pytest.importorskip("envpool")
PQN: dict[str, Any] = {
    "td_lambda": 0.9,
    "buffer_size": 64,
    "batch_size": 32,
    "hidden": (8,),
    "epsilon_decay_steps": 100,
}


class Step(NamedTuple):
    """A time step that an agent observed."""

    obs: Array
    action: int
    reward: float
    next_obs: Array
    terminated: bool
    truncated: bool


class Recording(Agent):
    """An agent that keeps the time steps of each environment."""

    def observe(self, *columns: Any) -> Any:
        for env, values in enumerate(zip(*columns, strict=True)):
            self.__dict__.setdefault("seen", {}).setdefault(env, []).append(Step(*values))
        return super().observe(*columns)


def played(env_id: str, steps: int, envs_: int = 4, **settings: Any) -> list[list[Step]]:
    """Return the time steps that a training with EnvPool learned from, by environment."""
    env = envs.make(env_id)
    observation_size, actions, _ = envs.space_sizes(env)
    agent = Recording(observation_size, actions, DQNConfig(**PQN | {"epsilon_end": 1.0, "epsilon_start": 1.0}), seed=1)
    config = TrainConfig(steps=steps, num_envs=envs_, envpool=True, eval_every=None, eval_episodes=1, **settings)
    for _ in training_events(agent, env, config):
        pass
    return [agent.__dict__["seen"][index] for index in range(envs_)]


def cart_pole(obs: Array, action: int) -> tuple[Array, bool]:
    """Return the next state of CartPole, by the equations of Barto, Sutton and Anderson (1983), and whether it ends."""
    x, v, angle, spin = map(float, obs)
    force, mass, pole, length = (10.0 if action else -10.0), 1.1, 0.1, 0.5
    temp = (force + pole * length * spin**2 * math.sin(angle)) / mass
    turn = (9.8 * math.sin(angle) - math.cos(angle) * temp) / (length * (4 / 3 - pole * math.cos(angle) ** 2 / mass))
    push = temp - pole * length * turn * math.cos(angle) / mass
    after = np.array([x + 0.02 * v, v + 0.02 * push, angle + 0.02 * spin, spin + 0.02 * turn])
    return after, bool(abs(after[0]) > 2.4 or abs(after[2]) > 12 * math.pi / 180)


def mountain_car(obs: Array, action: int) -> tuple[Array, bool]:
    """Return the next state of MountainCar (Moore, 1990) and whether it ends."""
    x, v = map(float, obs)
    v = min(max(v + (action - 1) * 0.001 - 0.0025 * math.cos(3 * x), -0.07), 0.07)
    x = min(max(x + v, -1.2), 0.6)
    return np.array([x, 0.0 if x == -1.2 and v < 0 else v]), x >= 0.5


@pytest.mark.parametrize(
    ("env_id", "physics", "settings"),
    [
        ("CartPole-v1", cart_pole, {}),
        ("CartPole-v1", cart_pole, {"max_episode_steps": 9}),
        ("MountainCar-v0", mountain_car, {}),
    ],
)
def test_every_time_step_obeys_the_equations_of_the_environment(
    env_id: str, physics: Callable[[Array, int], tuple[Array, bool]], settings: dict[str, int]
) -> None:
    limit = settings.get("max_episode_steps") or envs.time_limit(envs.make(env_id))
    ends = {"terminated": 0, "truncated": 0}
    for steps in played(env_id, 1_300, **settings):
        length = 0
        for step, after in pairwise([*steps, None]):
            assert step is not None
            expected, ended = physics(step.obs, step.action)
            np.testing.assert_allclose(step.next_obs, expected, rtol=2e-5, atol=2e-6)
            length += 1
            assert step.terminated == ended
            if after is not None:
                assert (step.terminated or step.truncated) == (ended or length == limit)
                assert np.array_equal(step.next_obs, after.obs) != (step.terminated or step.truncated)
                ends["terminated"] += step.terminated
                ends["truncated"] += step.truncated and not step.terminated
            length = 0 if step.terminated or step.truncated else length
    assert ends["terminated" if env_id == "CartPole-v1" and not settings else "truncated"] > 3


def random_episodes(env: envs.Env, episodes: int) -> Array:
    """Return start position, return and length of episodes with random actions, [episodes, 3]."""
    generator, rows = np.random.default_rng(0), []
    for seed in range(episodes):
        obs = envs.reset(env, seed)
        start, total, length, over = float(obs[2]), 0.0, 0, False
        while not over:
            action = int(generator.integers(4))
            send([env], [action])
            obs, reward, terminated, truncated = envs.step(env, envs.space_sizes(env), action)
            total, length, over = total + reward, length + 1, terminated or truncated
        rows.append((start, total, length))
    return np.array(rows)


def test_lunar_lander_is_that_of_gymnasium() -> None:
    # Two-sample Kolmogorov-Smirnov tests at the level 0.001 with fixed seeds.
    stats = pytest.importorskip("scipy.stats")
    pytest.importorskip("Box2D")
    env = envs.make("LunarLander-v3")
    ours, theirs = random_episodes(members(env, [5])[0], 100), random_episodes(env, 100)
    for column in range(3):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001
    assert len(set(ours[:, 0])) == 100


def weights(directory: Path, **settings: Any) -> Array:
    agent = DQN("CartPole-v1", seed=3, **PQN)
    agent.train(steps=640, num_envs=4, envpool=True, eval_episodes=1, pictures=False, quiet=True, **settings)
    return agent.q_values(np.ones((1, 4)))


def test_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    np.testing.assert_array_equal(weights(tmp_path), weights(tmp_path))


def test_run_is_recorded_and_resumes_with_new_episodes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    agent = DQN("CartPole-v1", seed=3, **PQN)
    agent.train(
        steps=640, num_envs=4, envpool=True, eval_episodes=1, video_every=5, run_dir=run, pictures=False, quiet=True
    )
    assert (run / "initial_state.png").exists()
    assert len(list((run / "videos").glob("*.mp4"))) > 1
    assert all(found.fault is None for found in verify(run))
    stopped = DQN("CartPole-v1", seed=3, **PQN)
    evaluated = 0

    def stop(event: object) -> None:
        nonlocal evaluated
        evaluated += isinstance(event, Evaluated)
        if evaluated == 4:  # a checkpoint was saved after the first evaluation, the best so far
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"num_envs": 4, "envpool": True, "eval_episodes": 1, "eval_every": 50}
    settings |= {"pictures": False, "quiet": True}
    with pytest.raises(KeyboardInterrupt):
        stopped.train(steps=640, run_dir=tmp_path / "stopped", callback=stop, **settings)
    resumed = DQN("CartPole-v1", seed=3, **PQN)
    with pytest.warns(PeriluneWarning, match="EnvPool cannot repeat an episode"):
        resumed.train(steps=640, run_dir=tmp_path / "stopped", resume=True, **settings)
    assert resumed.agent.env_steps >= 640


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (lambda: envs.make("Blackjack-v1"), "EnvPool does not encode the observations of Blackjack-v1"),
        (lambda: envs.make("FrozenLake-v1"), "EnvPool does not encode the observations of FrozenLake-v1"),
        (lambda: gym.wrappers.ClipReward(envs.make("CartPole-v1"), -1, 1), "arguments or wrappers of its own"),
        (lambda: envs.make("CartPole-v1", sutton_barto_reward=True), "arguments or wrappers of its own"),
    ],
)
def test_environments_that_envpool_does_not_have_are_refused(env: Callable[[], envs.Env], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DQN(env(), **PQN).train(steps=640, envpool=True, quiet=True)


def test_missing_envpool_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(MissingDependencyError, match=r"envpool needs EnvPool: pip install .*\[envpool\]"):
        DQN("CartPole-v1", **PQN).train(steps=640, envpool=True, quiet=True)
