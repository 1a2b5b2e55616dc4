"""The door to Gymnasium: what comes through, what is refused, and what the refusal says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from perilune import envs
from perilune.config import TrainConfig
from perilune.dqn import Agent
from perilune.errors import (
    EnvironmentFaultError,
    MissingDependencyError,
    PeriluneWarning,
    UnsupportedEnvironmentError,
)
from perilune.nn.layers import Array
from perilune.train import Episode, Started, training
from worlds import Bandit, Numbered, World, small

# Made


@pytest.mark.parametrize(
    ("env_id", "sizes", "limit", "mark"),
    [
        ("CartPole-v1", (4, 2, 0), 500, 475.0),
        ("LunarLander-v3", (8, 4, 0), 1000, 200.0),
        ("Acrobot-v1", (6, 3, 0), 500, -100.0),
    ],
)
def test_supported_environments_are_made_ready_to_draw(
    env_id: str, sizes: tuple[int, int, int], limit: int, mark: float
) -> None:
    env = envs.make(env_id)
    assert tuple(envs.check(env)) == sizes
    assert envs.name(env) == env_id
    assert envs.time_limit(env) == limit
    assert envs.solved_mark(env) == mark
    assert envs.can_draw(env)
    env.close()


@pytest.mark.parametrize(
    "env_id", ["NoSuchLander-v3", "LunarLander-v99", "no such id", "", "nowhere/Thing-v0", "no_such_module:Thing-v0"]
)
def test_an_unknown_id_is_refused_by_name(env_id: str) -> None:
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        envs.make(env_id)
    assert repr(env_id) in str(caught.value)


def test_a_retired_id_is_refused_with_the_one_that_took_its_place() -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=r"'LunarLander-v2'.*LunarLander-v3"):
        envs.make("LunarLander-v2")


def test_the_library_an_environment_needs_is_named_with_the_command_to_install_it() -> None:
    def made_without(words: str) -> Any:
        def make(**_: Any) -> None:
            raise gym.error.DependencyNotInstalled(words)

        return make

    gym.register(id="NeedsBox2D-v0", entry_point=made_without("Box2D is not installed"))
    gym.register(id="NeedsMore-v0", entry_point=made_without("frobnicate is not installed"))
    try:
        with pytest.raises(MissingDependencyError, match=r"NeedsBox2D-v0.*pip install 'perilune\[lunar\]'"):
            envs.make("NeedsBox2D-v0")
        with pytest.raises(MissingDependencyError, match=r"NeedsMore-v0.*frobnicate"):
            envs.make("NeedsMore-v0")
    finally:
        del gym.registry["NeedsBox2D-v0"], gym.registry["NeedsMore-v0"]


def test_an_environment_without_an_id_has_its_classs_name_and_no_marks() -> None:
    world = Numbered()
    assert envs.name(world) == "Numbered"
    assert envs.name(gym.wrappers.TimeLimit(world, 3)) == "Numbered"
    assert envs.time_limit(world) is None
    assert envs.solved_mark(world) is None


# Refused


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("MountainCarContinuous-v0", ["continuous actions", "Discrete action space"]),
        ("FrozenLake-v1", ["Discrete observations", "one-dimensional Box", "FlattenObservation"]),
        ("Blackjack-v1", ["Tuple observations", "one-dimensional Box"]),
    ],
)
def test_environments_of_another_kind_are_refused_with_what_is_needed(env_id: str, words: list[str]) -> None:
    env = envs.make(env_id)
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        envs.check(env)
    for word in (env_id, *words):
        assert word in str(caught.value)
    env.close()


def with_spaces(observation: spaces.Space[Any], action: spaces.Space[Any]) -> World:
    world = Numbered()
    world.observation_space, world.action_space = observation, action
    return world


PLAIN_OBS, PLAIN_ACTION = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (spaces.Box(0, 255, (8, 9, 3), np.uint8), PLAIN_ACTION, ["image or array", "(8, 9, 3)", "uint8"]),
        (spaces.Box(-1, 1, (2, 3)), PLAIN_ACTION, ["image or array", "(2, 3)"]),
        (spaces.Box(-1, 1, ()), PLAIN_ACTION, ["()"]),
        (spaces.Box(-1, 1, (0,)), PLAIN_ACTION, ["(0,)"]),
        (spaces.Discrete(5), PLAIN_ACTION, ["Discrete observations", "Discrete(5)"]),
        (spaces.MultiBinary(4), PLAIN_ACTION, ["MultiBinary observations"]),
        (spaces.Dict({"a": PLAIN_OBS}), PLAIN_ACTION, ["Dict observations"]),
        (PLAIN_OBS, spaces.Box(-1, 1, (2,)), ["continuous actions", "Discrete action space"]),
        (PLAIN_OBS, spaces.MultiDiscrete([2, 3]), ["MultiDiscrete actions", "Discrete action space"]),
        (PLAIN_OBS, spaces.MultiBinary(2), ["MultiBinary actions", "Discrete action space"]),
    ],
)
def test_spaces_of_another_kind_are_refused_by_name(
    observation: spaces.Space[Any], action: spaces.Space[Any], words: list[str]
) -> None:
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        envs.check(with_spaces(observation, action))
    for word in ("Numbered", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
def test_any_one_dimensional_box_is_supported(dtype: type) -> None:
    sizes = envs.check(with_spaces(spaces.Box(0, 9, (5,), dtype), spaces.Discrete(4, start=2)))
    assert tuple(sizes) == (5, 4, 2)
    assert [type(size) for size in sizes] == [int, int, int]


@pytest.mark.parametrize("thing", [None, object(), "CartPole-v1", Numbered, 3])
def test_what_is_no_environment_is_refused_with_its_type(thing: Any) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=f"a Gymnasium environment.*got {type(thing).__name__}"):
        envs.check(thing)


def test_a_vector_environment_is_refused() -> None:
    vector: Any = gym.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(UnsupportedEnvironmentError, match="Vector environments"):
        envs.check(vector)
    vector.close()


# Observations


def test_an_observation_becomes_a_float32_array_of_its_own() -> None:
    given = np.array([1.5, 2.5], np.float32)
    obs = envs.as_obs(given, 2)
    given[:] = 0
    assert obs.dtype == np.float32
    assert obs.tolist() == [1.5, 2.5]


@pytest.mark.parametrize("observation", [[1, 2], (1.0, 2.0), np.array([1, 2], np.uint8), np.array([1.0, 2.0])])
def test_whatever_holds_the_numbers_is_taken(observation: Any) -> None:
    obs = envs.as_obs(observation, 2)
    assert obs.dtype == np.float32
    assert obs.tolist() == [1, 2]


@pytest.mark.parametrize("observation", [1.0, [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_an_observation_unlike_its_space_is_told(observation: Any) -> None:
    with pytest.raises(EnvironmentFaultError, match=r"\(2,\)"):
        envs.as_obs(observation, 2)


def test_training_tells_an_observation_unlike_its_space() -> None:
    class Liar(Numbered):
        def hand_out(self, obs: Array) -> Array:
            return obs[:1] if len(self.seeds) == 5 else obs

    with pytest.raises(EnvironmentFaultError, match=r"shape \(1,\).*says \(2,\)"):
        list(training(Agent(2, 3, small(), 0), Liar(), TrainConfig(steps=100)))


def test_actions_are_counted_from_the_environments_first() -> None:
    world = Bandit({-1: (0, 1, 0), 1: (0, 1, 0)}, first_action=3)  # which refuses all but 3, 4 and 5
    agent = Agent(1, 3, small(epsilon_floor=1.0), 0)
    events = list(training(agent, world, TrainConfig(steps=200)))
    taken = [step.action for steps in world.trained() for step in steps]
    assert set(taken) == {3, 4, 5}
    assert [event.reward for event in events if isinstance(event, Episode)] == [float(a == 4) for a in taken[8:]]
    # The agent counts from 0.
    assert agent.replay.arrays.action[: len(agent.replay)].tolist() == [action - 3 for action in taken]


# Drawing


class Undrawable(Numbered):
    """Finds out only when it draws that it cannot."""

    def render(self) -> Array:
        raise gym.error.DependencyNotInstalled("pygame is not installed")


@pytest.fixture
def cart() -> Iterator[envs.Env]:
    env = envs.make("CartPole-v1")
    env.reset(seed=0)
    yield env
    env.close()


def test_a_frame_is_a_picture(cart: envs.Env) -> None:
    image = envs.frame(cart)
    assert image.dtype == np.uint8
    assert image.shape == (400, 600, 3)
    assert len(np.unique(image)) > 1


def test_what_was_made_without_pictures_cannot_draw() -> None:
    assert not envs.can_draw(Numbered())
    assert envs.can_draw(Numbered(draws=True))


def test_the_library_that_drawing_needs_is_named() -> None:
    with pytest.raises(MissingDependencyError, match=r"drawing Undrawable.*pip install 'perilune\[lunar\]'"):
        envs.frame(Undrawable(draws=True))


def test_training_goes_on_without_a_picture_of_the_start() -> None:
    agent = Agent(2, 3, small(), 0)
    with pytest.warns(PeriluneWarning, match="no picture of the initial state"):
        events = list(training(agent, Undrawable(draws=True), TrainConfig(steps=20)))
    assert events[0] == Started(None)
    assert agent.updates == 12
