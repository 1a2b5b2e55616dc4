"""The Gymnasium adapter: making, flattening, stepping, rendering and refusing environments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import ENVIRONMENTS, KnownEnv, Outcomes, lookup, register
from perilune.envs.rendering import can_draw, frame
from perilune.errors import (
    ConfigError,
    EnvironmentFaultError,
    MissingDependencyError,
    PeriluneWarning,
    UnsupportedEnvironmentError,
)
from perilune.training.events import Episode, Started
from perilune.training.loop import training_events
from worlds import Bandit, Numbered, World, small

# Making


@pytest.mark.parametrize(
    ("env_id", "sizes", "limit", "mark"),
    [
        ("CartPole-v1", (4, 2, 0), 500, 475.0),
        ("LunarLander-v3", (8, 4, 0), 1000, 200.0),
        ("Acrobot-v1", (6, 3, 0), 500, -100.0),
    ],
)
def test_environments_are_made_without_rendering_but_can_be_drawn(
    env_id: str, sizes: tuple[int, int, int], limit: int, mark: float
) -> None:
    env = envs.make(env_id)
    assert tuple(envs.space_sizes(env)) == sizes
    assert envs.name(env) == env_id
    assert envs.time_limit(env) == limit
    assert envs.reward_threshold(env) == mark
    assert env.render_mode is None
    assert can_draw(env)
    env.close()


@pytest.mark.parametrize(
    "env_id", ["NoSuchLander-v3", "LunarLander-v99", "no such id", "", "nowhere/Thing-v0", "no_such_module:Thing-v0"]
)
def test_unknown_id_is_refused_by_name(env_id: str) -> None:
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        envs.make(env_id)
    assert repr(env_id) in str(caught.value)


def test_retired_id_error_names_replacement() -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=r"'LunarLander-v2'.*LunarLander-v3"):
        envs.make("LunarLander-v2")


def test_missing_library_error_has_install_command() -> None:
    def made_without(words: str) -> Any:
        def make(**_: Any) -> None:
            raise gym.error.DependencyNotInstalled(words)

        return make

    gym.register(id="NeedsBox2D-v0", entry_point=made_without("Box2D is not installed"))
    gym.register(id="NeedsMore-v0", entry_point=made_without("frobnicate is not installed"))
    try:
        with pytest.raises(MissingDependencyError, match=r"NeedsBox2D-v0.*pip install .*\[lunar\]"):
            envs.make("NeedsBox2D-v0")
        with pytest.raises(MissingDependencyError, match=r"NeedsMore-v0.*frobnicate"):
            envs.make("NeedsMore-v0")
    finally:
        del gym.registry["NeedsBox2D-v0"], gym.registry["NeedsMore-v0"]


def test_name_of_unregistered_environment_is_its_class() -> None:
    world = Numbered()
    assert envs.name(world) == "Numbered"
    assert envs.name(gym.wrappers.TimeLimit(world, 3)) == "Numbered"
    assert envs.time_limit(world) is None
    assert envs.reward_threshold(world) is None


# Unsupported environments


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("MountainCarContinuous-v0", ["continuous actions", "Discrete action space"]),
        ("FrozenLake-v1", ["Discrete observations", "Discrete(16)", "perilune.DQN", "envs.flattened"]),
        ("Blackjack-v1", ["Tuple observations", "perilune.DQN", "envs.flattened"]),
    ],
)
def test_unsupported_environments_are_refused(env_id: str, words: list[str]) -> None:
    env = envs.make(env_id)
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        envs.space_sizes(env)
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
        (spaces.Box(-1, 1, (0,)), PLAIN_ACTION, ["0 numbers", "(0,)"]),
        (spaces.Dict({}), PLAIN_ACTION, ["Dict observations", "0 numbers"]),
        (spaces.Graph(PLAIN_OBS, None), PLAIN_ACTION, ["Graph observations", "Discrete, MultiDiscrete, MultiBinary"]),
        (spaces.Sequence(PLAIN_OBS), PLAIN_ACTION, ["Sequence observations"]),
        (spaces.Text(5), PLAIN_ACTION, ["Text observations"]),
        (spaces.OneOf([PLAIN_OBS, PLAIN_ACTION]), PLAIN_ACTION, ["OneOf observations"]),
        (
            spaces.Dict({"a": spaces.Tuple([PLAIN_OBS, spaces.Text(5)])}),
            PLAIN_ACTION,
            ["Text observations at ['a'][1]"],
        ),
        (
            spaces.Dict({"eye": spaces.Box(0, 255, (8, 9, 3), np.uint8), "speed": PLAIN_OBS}),
            PLAIN_ACTION,
            ["image or array observations at ['eye']", "(8, 9, 3)"],
        ),
        (spaces.Discrete(10**12), PLAIN_ACTION, ["1,000,000,000,000 numbers", "65,536", "TransformObservation"]),
        (spaces.MultiDiscrete([2**16, 1]), PLAIN_ACTION, ["65,537 numbers", "MultiDiscrete"]),
        (PLAIN_OBS, spaces.Box(-1, 1, (2,)), ["continuous actions", "Discrete action space"]),
        (PLAIN_OBS, spaces.MultiDiscrete([2, 3]), ["MultiDiscrete actions", "Discrete action space"]),
        (PLAIN_OBS, spaces.MultiBinary(2), ["MultiBinary actions", "Discrete action space"]),
    ],
)
def test_unsupported_spaces_are_refused_by_name(
    observation: spaces.Space[Any], action: spaces.Space[Any], words: list[str]
) -> None:
    world = with_spaces(observation, action)
    assert envs.flattened(world) is world
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        envs.space_sizes(world)
    for word in ("Numbered", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
def test_any_one_dimensional_box_is_supported(dtype: type) -> None:
    sizes = envs.space_sizes(with_spaces(spaces.Box(0, 9, (5,), dtype), spaces.Discrete(4, start=2)))
    assert tuple(sizes) == (5, 4, 2)
    assert [type(size) for size in sizes] == [int, int, int]


class OldStyle:
    """A class that looks like an environment of the old gym package."""

    __module__ = "gym.envs.own"


class PlainClass:
    def reset(self) -> None: ...

    def step(self, action: int) -> None: ...


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (None, "NoneType is not an environment"),
        (object(), "object is not an environment"),
        (3, "int is not an environment"),
        (Numbered, r"Numbered is a class.*Pass Numbered\(\)"),
        (gym.make_vec("CartPole-v1", num_envs=2), "several side by side, set num_envs"),
        (OldStyle(), "old gym package: use gymnasium.make"),
        (PlainClass(), "inherit from gymnasium.Env"),
    ],
)
def test_refused_environment_error_states_what_to_pass(thing: Any, words: str) -> None:
    assert envs.flattened(thing) is thing
    with pytest.raises(UnsupportedEnvironmentError, match=words):
        envs.space_sizes(thing)


def test_env_kwargs_reach_environment() -> None:
    plain, other = envs.make("CartPole-v1"), envs.make("CartPole-v1", sutton_barto_reward=True)
    assert other.unwrapped.spec is not None
    assert other.unwrapped.spec.kwargs["sutton_barto_reward"]
    assert envs.description(other) == envs.description(envs.again(other)) != envs.description(plain)
    with pytest.raises(ConfigError, match=r"env_kwargs=.*wind.* is invalid: expected arguments of CartPole-v1"):
        envs.make("CartPole-v1", wind=True)


# Flattening


def shown(observation: Any, space: spaces.Space[Any]) -> envs.Env:
    """Return a world with one observation, from ``space``."""
    return gym.wrappers.TransformObservation(Numbered(), lambda obs: observation, space)


@pytest.mark.parametrize(
    ("observation", "space", "expected"),
    [
        (2, spaces.Discrete(4), [0, 0, 1, 0]),
        (-1, spaces.Discrete(3, start=-2), [0, 1, 0]),
        ((1, 0), spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)]), [0, 1, 0, 1, 0]),
        (np.array([1, 2]), spaces.MultiDiscrete([2, 3]), [0, 1, 0, 0, 1]),
        (np.array([1, 0, 1], np.int8), spaces.MultiBinary(3), [1, 0, 1]),
        (np.array(0.5), spaces.Box(-1, 1, ()), [0.5]),
        # The keys of a Dict are sorted: at, speed.
        (
            {"speed": np.array([0.25, -0.5], np.float32), "at": (1, np.array([0, 1], np.int8))},
            spaces.Dict(
                {"speed": spaces.Box(-1, 1, (2,)), "at": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)])}
            ),
            [0, 1, 0, 1, 0.25, -0.5],
        ),
    ],
    ids=["Discrete", "its start", "Tuple", "MultiDiscrete", "MultiBinary", "a number", "Dict"],
)
def test_spaces_are_flattened(observation: Any, space: spaces.Space[Any], expected: list[float]) -> None:
    env = envs.flattened(shown(observation, space))
    sizes = envs.space_sizes(env)
    assert tuple(sizes) == (len(expected), 3, 0)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(0)
    for given_out in (first, second, envs.as_rows(env, observation)):
        assert envs.as_obs(given_out, sizes.observation_size).tolist() == expected


SMALL = st.one_of(
    st.builds(spaces.Discrete, st.integers(1, 5), start=st.integers(-3, 3)),
    st.builds(spaces.MultiBinary, st.integers(1, 3)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(2, 4), min_size=1, max_size=3)),
    st.builds(lambda size: spaces.Box(-1, 1, (size,)), st.integers(1, 3)),
)
NESTED = st.recursive(
    SMALL,
    lambda inner: st.one_of(
        st.builds(spaces.Tuple, st.lists(inner, min_size=1, max_size=3)),
        st.builds(spaces.Dict, st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.array_equal(one, other))


@given(space=NESTED, seed=st.integers(0, 2**31 - 1))
def test_flattening_is_reversible(space: spaces.Space[Any], seed: int) -> None:
    space.seed(seed)
    observation = space.sample()
    env = envs.flattened(shown(observation, space))
    obs = envs.as_obs(env.reset()[0], envs.space_sizes(env).observation_size)
    assert same(spaces.unflatten(space, obs), observation)
    assert envs.as_obs(envs.as_rows(env, observation), len(obs)).tolist() == obs.tolist()
    assert envs.flattened(env) is env


@pytest.mark.parametrize(
    ("observation", "space", "where"),
    [
        (4, spaces.Discrete(4), "observation 4,"),
        (-1, spaces.Discrete(4), "observation -1,"),
        (np.int64(0), spaces.Discrete(3, start=1), "observation 0,"),
        (np.array([2, 0]), spaces.MultiDiscrete([2, 3]), r"observation \[2 0\],"),
        (np.array([-1, 0]), spaces.MultiDiscrete([2, 3]), r"observation \[-1  0\],"),
        (np.array([0.5, 0]), spaces.MultiDiscrete([2, 3]), "observation"),
        (np.array([2, 0, 1], np.int8), spaces.MultiBinary(3), r"observation \[2 0 1\],"),
        (np.array([0, 1], np.int8), spaces.MultiBinary(3), r"observation \[0 1\],"),
        ({"a": (7,)}, spaces.Dict({"a": spaces.Tuple([spaces.Discrete(2)])}), r"observation 7 at \['a'\]\[0\],"),
        ((np.ma.masked_array([1, 2], [1, 0]),), spaces.Tuple([spaces.Box(-1, 1, (2,))]), r"masked array at \[0\]"),
        (np.ma.masked_array([1, 2], [1, 0], np.float32), spaces.Box(-1, 1, (2,)), "masked array:"),
    ],
)
def test_observation_that_would_be_encoded_as_another_one_is_refused(
    observation: Any, space: spaces.Space[Any], where: str
) -> None:
    env = envs.flattened(shown(observation, space))
    with pytest.raises(EnvironmentFaultError, match=where):
        envs.as_obs(env.reset(seed=0)[0], envs.space_sizes(env).observation_size)


def test_flat_environment_is_unchanged() -> None:
    world = Numbered()
    assert envs.flattened(world) is world
    assert envs.as_rows(world, np.array([1.0, 2.0])).tolist() == [1, 2]


# Observations


def test_as_obs_returns_float32_copy() -> None:
    given = np.array([1.5, 2.5], np.float32)
    obs = envs.as_obs(given, 2)
    given[:] = 0
    assert obs.dtype == np.float32
    assert obs.tolist() == [1.5, 2.5]


@pytest.mark.parametrize("observation", [[1, 2], (1.0, 2.0), np.array([1, 2], np.uint8), np.array([1.0, 2.0])])
def test_as_obs_accepts_sequences_and_other_dtypes(observation: Any) -> None:
    obs = envs.as_obs(observation, 2)
    assert obs.dtype == np.float32
    assert obs.tolist() == [1, 2]


@pytest.mark.parametrize("observation", [1.0, [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], [[1.0], [2.0]]])
def test_observation_of_wrong_shape_is_reported(observation: Any) -> None:
    with pytest.raises(EnvironmentFaultError, match=r"\(2,\)"):
        envs.as_obs(observation, 2)


def test_actions_are_shifted_to_the_first_action_of_the_environment() -> None:
    world = Bandit({-1: (0, 1, 0), 1: (0, 1, 0)}, first_action=3)  # accepts only 3, 4 and 5
    agent = Agent(1, 3, small(epsilon_end=1.0), 0)
    events = list(training_events(agent, world, TrainConfig(steps=200)))
    taken = [step.action for steps in world.trained() for step in steps]
    assert set(taken) == {3, 4, 5}
    assert [event.reward for event in events if isinstance(event, Episode)] == [float(a == 4) for a in taken[8:]]
    # The agent counts from 0.
    assert agent.replay.arrays.action[: len(agent.replay)].tolist() == [action - 3 for action in taken]


# Outcomes


@pytest.mark.parametrize(
    ("env_id", "x", "reward", "terminated", "expected"),
    [
        ("LunarLander-v3", 0.1, 100.0, True, "landed"),
        ("LunarLander-v3", -1.0, 100.0, True, "landed"),  # landing counts anywhere
        ("LunarLander-v3", 0.1, -100.0, True, "crashed"),
        ("LunarLander-v3", -0.99, -100.0, True, "crashed"),
        ("LunarLander-v3", 1.0, -100.0, True, "flew off"),
        ("LunarLander-v3", -1.01, -100.0, True, "flew off"),
        ("LunarLander-v3", 0.1, 3.0, False, "hovered"),
        ("LunarLander-v3", 0.1, -3.0, False, "hovered"),
        ("CartPole-v1", 0.1, 1.0, False, "balanced"),
        ("CartPole-v1", 2.39, 1.0, True, "fell"),
        ("CartPole-v0", -2.41, 1.0, True, "left the track"),
        ("Acrobot-v1", 0.1, 0.0, True, "reached the goal"),
        ("MountainCar-v0", 0.1, -1.0, False, "ran out of time"),
    ],
)
def test_episode_outcome_is_labeled(env_id: str, x: float, reward: float, terminated: bool, expected: str) -> None:
    known = lookup(env_id).outcomes
    assert known is not None
    obs = np.full(8, 0.3, np.float32)
    obs[0] = x
    assert known.label(obs, reward, terminated) == expected
    assert expected in known.labels


def test_wrapped_environment_has_outcomes() -> None:
    cart = gym.make("CartPole-v1", sutton_barto_reward=True, max_episode_steps=20)
    for env in (cart, gym.wrappers.ClipReward(cart, 0, 1), envs.make("CartPole-v1")):
        assert lookup(envs.name(env)) is lookup("CartPole-v1")
        env.close()
    for other in (gym.make("FrozenLake-v1"), Numbered()):
        assert lookup(envs.name(other)).outcomes is None
        other.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"observations": ("x", "y", "z")}, r"observations=\('x', 'y', 'z'\) .* expected 2 names, as Own-v0 .* got 3"),
        ({"actions": ("left", "right")}, r"actions=\('left', 'right'\) .* expected 3 names, as Own-v0 .* got 2"),
        ({"outcomes": Outcomes(("won",), lambda *_: "lost")}, r"outcomes.label='lost' .* expected one of won"),
    ],
)
def test_known_env_that_contradicts_its_environment_is_refused(wrong: dict[str, Any], message: str) -> None:
    gym.register(id="Own-v0", entry_point=Numbered)
    register(KnownEnv(env_id="Own-v0", **wrong))
    try:
        with pytest.raises(ConfigError, match=message):
            list(training_events(Agent(2, 3, small(), 0), gym.make("Own-v0"), TrainConfig(steps=100)))
    finally:
        del gym.registry["Own-v0"], ENVIRONMENTS["Own-v0"]


@pytest.mark.parametrize(
    "outcomes", [((), ""), (("won", "won"), ""), (("won", "lost"), "timed out")], ids=["none", "twice", "unfinished"]
)
def test_inconsistent_outcome_labels_are_refused(outcomes: tuple[tuple[str, ...], str]) -> None:
    labels, unfinished = outcomes
    with pytest.raises(ConfigError, match=r"outcomes\.(labels|unfinished)="):
        KnownEnv(env_id="Own-v0", outcomes=Outcomes(labels, lambda *_: "won", unfinished))


# Rendering


class Undrawable(Numbered):
    """An environment whose rendering library is missing."""

    def render(self) -> Array:
        raise gym.error.DependencyNotInstalled("pygame is not installed")


@pytest.fixture
def cart() -> Iterator[envs.Env]:
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    yield env
    env.close()


def test_frame_is_an_rgb_image(cart: envs.Env) -> None:
    image = frame(cart)
    assert image.dtype == np.uint8
    assert image.shape == (400, 600, 3)
    assert len(np.unique(image)) > 1


def test_environment_without_rendering_cannot_be_drawn() -> None:
    assert not can_draw(Numbered())
    assert can_draw(Numbered(draws=True))


def test_error_names_the_missing_rendering_library() -> None:
    with pytest.raises(MissingDependencyError, match=r"rendering Undrawable.*pip install .*\[view\]"):
        frame(Undrawable(draws=True))


def test_training_continues_without_initial_image() -> None:
    agent = Agent(2, 3, small(), 0)
    with pytest.warns(PeriluneWarning, match="no image of the initial state"):
        events = list(training_events(agent, Undrawable(draws=True), TrainConfig(steps=20)))
    assert events[0] == Started(None)
    assert agent.updates == 12


def test_forged_statistics_are_ignored_or_set_without_a_warning() -> None:
    env = gym.wrappers.NormalizeReward(gym.make("CartPole-v1"))
    saved = envs.read_statistics(env)
    assert {statistic.name for statistic in saved} == {
        *("0.return_rms.mean", "0.return_rms.var", "0.return_rms.count", "0.discounted_reward")
    }
    for change in ({"shape": (2**62,)}, {"values": ()}, {"values": (0.0,) * 7}, {"name": "0.env"}, {"name": "0.spec"}):
        envs.write_statistics(env, tuple(msgspec.structs.replace(statistic, **change) for statistic in saved))
        assert envs.read_statistics(env) == saved
    for dtype in ("float", "int", "float32", "float64", "int64"):
        change = {"dtype": dtype, "values": (1e300,)}
        envs.write_statistics(env, tuple(msgspec.structs.replace(statistic, **change) for statistic in saved))
