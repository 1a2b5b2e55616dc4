"""Tracer environments behave as those that the program asked for, and their values show where they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perilune.doctor.program.running import Trace
from perilune.doctor.program.tracer import Log
from test_doctor_program_sources import run, write


def log_of(trace: Trace) -> Log:
    """Return the log of a program that ran without an exception."""
    assert trace.error is None, trace.problems()
    assert trace.log is not None
    return trace.log


LOOP = """
memory = []
for episode in range(100):
    obs, _ = env.reset()
    done = False
    while not done:
        action = env.action_space.sample()
        next_obs, reward, terminated, truncated, info = env.step(action)
        memory.append((obs, action, reward, next_obs, terminated, truncated))
        done = terminated or truncated
        obs = next_obs
"""


def check_memory(trace: Trace) -> None:
    """Check that the log finds each stored transition by its reward, and its states."""
    log = log_of(trace)
    memory = trace.namespace["memory"]
    obs, action, reward, next_obs, terminated, truncated = (np.array(column) for column in zip(*memory, strict=True))
    indices = log.by_reward(np.asarray(reward, np.float32).astype(float))
    assert (indices == np.where(reward == 1.0, -1, np.arange(len(memory)))).all()
    assert np.mean(reward == 1.0) < 0.05
    before, after = (np.array([getattr(step, name) for step in log.steps]) for name in ("before", "after"))
    if log.discrete:
        obs, next_obs = (np.eye(log.size)[one] for one in (obs, next_obs))
    assert (log.states(obs) == before).all()
    assert (log.states(next_obs) == after).all()
    assert [step.action for step in log.steps] == action.tolist()
    assert [step.terminated for step in log.steps] == terminated.tolist()
    assert [step.truncated for step in log.steps] == truncated.tolist()


def test_info_has_the_keys_of_the_environment(tmp_path: Path) -> None:
    code = 'import gymnasium\nenv = gymnasium.make("Taxi-v4")\n_, first = env.reset()\n*_, second = env.step(0)\n'
    trace = run(write(tmp_path, code))
    assert trace.namespace["first"].keys() == trace.namespace["second"].keys() == {"prob", "action_mask"}


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "FrozenLake-v1", "Taxi-v3"])
def test_transitions_are_found_in_the_log(tmp_path: Path, name: str) -> None:
    trace = run(write(tmp_path, f"import gymnasium\nenv = gymnasium.make({name!r})\n{LOOP}"))
    check_memory(trace)
    log = log_of(trace)
    assert any(step.terminated for step in log.steps)
    assert any(step.truncated for step in log.steps)


@pytest.mark.parametrize(
    "wrapper",
    [
        "gymnasium.wrappers.RecordEpisodeStatistics(env)",
        "gymnasium.wrappers.RecordVideo(env, 'videos', episode_trigger=lambda n: True)",
        "gymnasium.wrappers.TimeLimit(env, 3)",
        "gymnasium.wrappers.TransformReward(env, lambda reward: 0.01 * reward)",
        "gymnasium.wrappers.NormalizeObservation(env)",
        "Own(env)",
    ],
)
def test_wrappers_change_what_the_log_contains(tmp_path: Path, wrapper: str) -> None:
    code = f"""
import gymnasium
class Own(gymnasium.Wrapper):
    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs / 2, reward - 0.1, terminated, truncated, info
    def reset(self, **options):
        obs, info = self.env.reset(**options)
        return obs / 2, info
env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
env = {wrapper}
{LOOP}
"""
    check_memory(run(write(tmp_path, code)))


def test_attributes_of_the_environment_are_available(tmp_path: Path) -> None:
    code = """
import gymnasium
env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
env.reset(seed=1)
x, theta, limit = env.unwrapped.x_threshold, env.unwrapped.theta_threshold_radians, env.spec.max_episode_steps
assert env._max_episode_steps == limit == 500
assert env.render().ndim == 3
assert env.observation_space.contains(env.observation_space.sample())
env.action_space.seed(0)
obs = env.step(env.action_space.n - 1)[0]
assert (env.unwrapped.state == obs).all()
env.close()
lake = gymnasium.make("FrozenLake-v1", is_slippery=False)
states, table = lake.observation_space.n, lake.unwrapped.P
"""
    trace = run(write(tmp_path, code))
    log_of(trace)
    assert trace.namespace["x"] == 2.4
    assert trace.namespace["states"] == len(trace.namespace["table"]) == 16


def test_unwrapped_environment_has_no_time_limit(tmp_path: Path) -> None:
    code = f'import gymnasium\nenv = gymnasium.make("CartPole-v1").unwrapped\n{LOOP}'
    assert not any(step.truncated for step in log_of(run(write(tmp_path, code))).steps)
    old = "obs = env.reset()\nfor _ in range(3000):\n    obs, _, done, _ = env.step(0)\n    if done: env.reset()\n"
    for inner in ("unwrapped", "env"):
        trace = run(write(tmp_path, f'import gym\nenv = gym.make("CartPole-v0").{inner}\nenv.seed(1)\n{old}'))
        assert not any(step.truncated for step in log_of(trace).steps)


def test_a_loop_that_ignores_the_truncation_reaches_another_end(tmp_path: Path) -> None:
    code = LOOP.replace("done = terminated or truncated", "done = terminated")
    trace = run(write(tmp_path, f'import gymnasium\nenv = gymnasium.make("CartPole-v1")\n{code}'))
    assert log_of(trace).episodes == 100
    assert log_of(trace).late > 0


def test_episodes_are_long_until_the_program_learns(tmp_path: Path) -> None:
    code = LOOP.replace("range(100)", "range(120)")
    trace = run(write(tmp_path, f'import gymnasium\nenv = gymnasium.make("CartPole-v1")\n{code}'))
    assert len(log_of(trace).steps) > 6_000  # with short episodes alone, 1,000


def test_episodes_are_truncated_at_the_time_limit_if_the_program_compares_with_it(tmp_path: Path) -> None:
    code = LOOP.replace("done = terminated", "done = len(memory) >= 10**6 or episode == LIMIT - 1 or terminated")
    trace = run(write(tmp_path, f'import gymnasium\nLIMIT = 500\nenv = gymnasium.make("CartPole-v1")\n{code}'))
    starts = [index for index, step in enumerate(log_of(trace).steps) if step.before in log_of(trace).first]
    ends = [index for index, step in enumerate(log_of(trace).steps) if step.truncated]
    assert ends
    assert all(end + 1 - max(start for start in starts if start <= end) == 500 for end in ends)


def test_vector_environments_share_the_log(tmp_path: Path) -> None:
    code = """
import numpy as np
import gymnasium
envs = {}
obs, _ = envs.reset(seed=1)
rows = [obs]
for _ in range(200):
    obs, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
    rows.append(obs)
    if "final_observation" in infos:
        assert any(info is not None for info in infos["final_info"])
        final = [one for one in infos["final_observation"] if one is not None]
        rows.append(np.array(final))
rows = np.concatenate(rows)
"""
    for made in (
        'gymnasium.make_vec("CartPole-v1", num_envs=3)',
        'gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 3)',
        'gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 3, shared_memory=False)',
    ):
        trace = run(write(tmp_path, code.format(made)))
        numbers = log_of(trace).states(trace.namespace["rows"])
        assert len(trace.envs) >= 3
        assert (numbers >= 0).all()
        assert len(set(numbers.tolist())) == len(numbers)


def test_environments_that_cannot_be_replaced_are_reported(tmp_path: Path) -> None:
    code = 'import gymnasium\nenv = gymnasium.make("Pendulum-v1")\n'
    trace = run(write(tmp_path, code + LOOP.replace("range(100)", "range(10**9)")))
    assert trace.log is None
    (problem,) = trace.problems()
    assert "Pendulum-v1" in problem
    assert "action space is Box" in problem


@pytest.mark.parametrize("batch", ["observations[rows]", "observations[rows] / 3, rewards[rows]"])
def test_episodes_are_short_after_the_program_uses_its_memory(tmp_path: Path, batch: str) -> None:
    code = f"""
import gymnasium
import numpy as np
rng = np.random.default_rng(0)
env = gymnasium.make("CartPole-v1")
{LOOP.replace("range(100)", "range(300)")}
        if len(memory) > 2000 and len(memory) % 10 == 0:
            rows = rng.integers(len(memory), size=32)
            observations = np.array([one[0] for one in memory])
            rewards = np.array([one[2] for one in memory])
            batch = {batch}
"""
    log = log_of(run(write(tmp_path, code)))
    assert log.learning
    assert 2000 < len(log.steps) < 10_000


def test_frozen_lake_has_a_goal(tmp_path: Path) -> None:
    trace = run(write(tmp_path, f"import gymnasium\nenv = gymnasium.make('FrozenLake-v1')\n{LOOP}"))
    goals = [step for step in log_of(trace).steps if step.reward == 1.0]
    assert goals
    assert all(step.terminated for step in goals)
