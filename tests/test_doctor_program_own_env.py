"""Environments that the program defines itself: their transitions are known, and their own code runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from test_doctor_program_sources import run, write
from test_doctor_program_tracer import LOOP, check_memory, log_of

# A walk on a line: with each interface, kind of observation and way to make it.
WALK = """
import numpy as np
import {gym} as gym
class Walk({base}):
    def __init__(self):
        self.action_space = gym.spaces.Discrete(2)
        self.observation_space = {space}
        self.place, self.resets = 0, 0
    def reset(self, **options):
        self.place, self.resets = 0, self.resets + 1
        return {first}
    def step(self, action):
        self.place += 2 * action - 1
        terminated = abs(self.place) > 5
        return {after}
"""
FLOATS = "np.array([0.1 * self.place, 1.5], np.float32)"
BOX = "gym.spaces.Box(-9, 9, (2,), np.float32)"


def walk(obs: str, space: str = BOX, gym: str = "gymnasium", base: str = "gym.Env", values: int = 5) -> str:
    """Return the class."""
    first = f"({obs}, {{}})" if values == 5 else obs
    after = ", ".join([obs, "-1", "terminated", "False", "{}"][: values - 1] + (["{}"] if values == 5 else []))
    after = {3: f"{obs}, -1, terminated", 4: f"{obs}, -1, terminated, {{}}"}.get(values, after)
    return WALK.format(gym=gym, base=base, space=space, first=first, after=after)


@pytest.mark.filterwarnings("ignore:.*can be passed a `seed`:DeprecationWarning")
@pytest.mark.parametrize(
    "made",
    [
        "env = Walk()",
        "gym.register(id='Walk-v0', entry_point=Walk, max_episode_steps=30)\nenv = gym.make('Walk-v0')",
        "env = gym.wrappers.TimeLimit(Walk(), 30)",
        "from gymnasium.envs.classic_control import CartPoleEnv\nenv = CartPoleEnv()",
    ],
)
def test_observations_of_floats_become_unique(tmp_path: Path, made: str) -> None:
    trace = run(write(tmp_path, f"{walk(FLOATS)}{made}\n{LOOP}"))
    check_memory(trace)
    states = [step.after for step in log_of(trace).steps]
    assert len(set(states)) == len(states)
    assert sum(step.terminated for step in log_of(trace).steps) > 5


@pytest.mark.parametrize(
    ("obs", "space"),
    [
        ("np.array([self.place, 3])", "gym.spaces.MultiDiscrete([9, 9])"),
        ("np.array([self.place, 3.0])", BOX),  # whole numbers, on which a program may depend
        ("(self.place, 3)", "None"),
        ("np.eye(13)[self.place + 6]", "None"),
    ],
)
def test_other_observations_stay_and_rewards_are_unique(tmp_path: Path, obs: str, space: str) -> None:
    trace = run(write(tmp_path, f"{walk(obs, space)}env = Walk()\n{LOOP}"))
    log, memory = log_of(trace), trace.namespace["memory"]
    rows, rewards, after = (np.array([one[place] for one in memory]) for place in (0, 2, 3))
    assert np.ptp(rows, axis=0).max() >= 1
    assert (log.by_reward(rewards.astype(float)) == np.arange(len(memory))).all()
    assert (log.states(rows) == [step.before for step in log.steps]).all()
    assert (log.states(after) == [step.after for step in log.steps]).all()


def test_integers_are_found_as_one_hot_rows(tmp_path: Path) -> None:
    code = f"{walk('self.place + 6', 'None', base='')}env = Walk()\n{LOOP}"
    trace = run(write(tmp_path, code))
    log = log_of(trace)
    rows = np.eye(13)[[one[0] for one in trace.namespace["memory"]]]
    log.learn_size(rows[:32])
    assert log.size == 13
    assert (log.states(rows) == [step.before for step in log.steps]).all()


@pytest.mark.parametrize("values", [3, 4])
def test_interface_of_the_environment_stays(tmp_path: Path, values: int) -> None:
    loop = f"""
env, ends = Walk(), 0
for episode in range(30):
    obs, done = env.reset(), False
    while not done:
        obs, reward, done{", info" * (values == 4)} = env.step(np.random.randint(2))
    ends += 1
"""
    trace = run(write(tmp_path, walk(FLOATS, base="", values=values) + loop))
    assert sum(step.ended for step in log_of(trace).steps) == trace.namespace["ends"] == 30
    assert trace.namespace["env"].resets == 30


def test_environment_that_never_terminates_is_not_terminated(tmp_path: Path) -> None:
    code = walk(FLOATS).replace("abs(self.place) > 5", "False")
    loop = "env = Walk()\nenv.reset()\nfor _ in range(200):\n    env.step(0)\n"
    assert not any(step.ended for step in log_of(run(write(tmp_path, code + loop))).steps)


def test_classes_around_an_environment_are_not_environments(tmp_path: Path) -> None:
    code = f"""
import gymnasium
class Around:
    def __init__(self):
        self.env = gymnasium.make("CartPole-v1")
        self.action_space = self.env.action_space
    def reset(self):
        return self.env.reset()
    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, info
class Agent:
    def reset(self):
        pass
    def step(self, obs, action, reward, next_obs, done):
        return obs, action, reward
agent = Agent()
agent.reset()
agent.step(1, 2, 3, 4, 5)
env = Around()
{LOOP}
"""
    trace = run(write(tmp_path, code))
    check_memory(trace)
    assert len(trace.envs) == 1


def test_environments_that_cannot_be_observed_are_reported(tmp_path: Path) -> None:
    image = "np.full((8, 8), self.place, np.uint8)"
    for code, why in (
        (walk(image, "gym.spaces.Box(0, 255, (8, 8), np.uint8)"), "neither vectors nor integers"),
        (walk(FLOATS, base="").replace("self.action_space = gym.spaces.Discrete(2)", "pass"), "number of actions"),
    ):
        loop = "env = Walk()\nenv.reset()\nenv.step(1)\n"
        (problem,) = run(write(tmp_path, code + loop)).problems()
        assert why in problem
