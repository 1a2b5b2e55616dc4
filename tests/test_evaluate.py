"""Greedy evaluation: fixed start states that training never uses, and statistics of the returns."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, EnvironmentFaultError, UnsupportedEnvironmentError
from perilune.training.evaluation import ENDLESS, SCORE_SEEDS, SELECTION_SEEDS, Evaluation, evaluate
from perilune.training.loop import training_events
from worlds import Bandit, Numbered, Walk, small


def test_returns_and_lengths_match_the_episodes() -> None:
    world = Numbered(
        lengths=(1, 3, 2), ends=("terminated", "truncated"), reward=lambda world, action: world.steps + action
    )
    result = evaluate(lambda obs: 2, world, 4)
    # With action 2, steps 1, 2 and 3 have the rewards 3, 4 and 5.
    assert (result.returns, result.lengths, result.reward_threshold) == ((3, 12, 7, 3), (1, 3, 2, 1), None)
    assert (result.outcomes, result.outcome_shares) == (None, None)


def test_policy_receives_observations_and_its_actions_are_played() -> None:
    world, seen = Numbered(lengths=(2, 3)), list[list[float]]()

    def policy(obs: Array) -> int:
        assert obs.dtype == np.float32
        seen.append(obs.tolist())
        return len(seen) % 3

    evaluate(policy, world, 2)
    assert seen == [[1, 0], [1, 1], [2, 0], [2, 1], [2, 2]]
    assert [step.action for steps in world.recorded for step in steps] == [1, 2, 0, 1, 2]
    numbered_from_7 = Bandit({-1: (0, 5, 0), 1: (0, 5, 0)}, first_action=7)
    assert evaluate(lambda obs: 1, numbered_from_7, 3).returns == (5, 5, 5)
    assert [steps[0].action for steps in numbered_from_7.recorded] == [8, 8, 8]


def test_episode_i_starts_from_the_first_seed_plus_i() -> None:
    world, walk = Numbered(), Walk()
    evaluate(lambda obs: 0, world, 3, first_seed=100)
    evaluate(lambda obs: 0, world, 2)
    assert world.seeds == [100, 101, 102, SCORE_SEEDS, SCORE_SEEDS + 1]
    results = [evaluate(lambda obs: int(obs[0] < 0) * 2, env, 6) for env in (walk, walk, Walk())]
    assert results[0] == results[1] == results[2]
    assert len(set(results[0].returns)) == 6  # the start states differ


def test_seeds_of_training_selection_and_scoring_are_disjoint() -> None:
    world = Walk()
    agent = Agent(1, 3, small(), 0)
    list(training_events(agent, world, TrainConfig(steps=60, eval_every=20, eval_episodes=4)))
    evaluate(agent.greedy_action, world, 50)
    chosen = {SELECTION_SEEDS + i for i in range(4)}
    scored = {SCORE_SEEDS + i for i in range(50)}
    trained = set(world.seeds) - chosen - scored
    assert len(trained) >= 60 / world.length
    assert chosen | scored <= set(world.seeds)
    # Training draws below 2^30. Each evaluation has room for 10^8 episodes, and every seed fits into a C int.
    assert all(isinstance(seed, int) and 0 <= seed < 2**30 for seed in trained)
    first, second = sorted((SELECTION_SEEDS, SCORE_SEEDS))
    assert first >= 2**30
    assert second >= first + 10**8
    assert second + 10**8 < 2**31


def test_agent_is_scored_without_exploration() -> None:
    agent = Agent(1, 3, small(epsilon_start=1.0, epsilon_end=1.0), 2)
    world = Walk()
    evaluate(agent.greedy_action, world, 5)
    steps = [step for steps in world.recorded for step in steps]
    assert [step.action for step in steps] == [int(agent.q_values(step.obs[None]).argmax()) for step in steps]


@pytest.mark.parametrize(("limit", "length"), [(1, 1), (3, 3), (None, ENDLESS)])
def test_endless_episodes_are_truncated_at_limit(limit: int | None, length: int) -> None:
    assert evaluate(lambda obs: 0, Numbered(lengths=()), 1, max_episode_steps=limit).lengths == (length,)


@pytest.mark.parametrize(
    "arguments", [{"max_episode_steps": limit} for limit in (0, -5, 2.5, True)] + [{"episodes": 0}]
)
@pytest.mark.parametrize("lengths", [(), (4,)])
def test_invalid_episode_count_or_step_limit_is_refused(arguments: dict[str, Any], lengths: tuple[int, ...]) -> None:
    world = Numbered(lengths=lengths)
    ((name, value),) = arguments.items()
    with pytest.raises(ConfigError, match=f"{name}={value} is invalid: expected a whole number >= 1"):
        evaluate(lambda obs: 0, world, **{"episodes": 1} | arguments)
    assert not world.seeds


def test_time_limit_of_the_environment_is_not_shortened() -> None:
    env = gym.make("MountainCar-v0", max_episode_steps=ENDLESS + 10)
    assert evaluate(lambda obs: 1, env, 1).lengths == (ENDLESS + 10,)


def test_evaluation_shows_every_state_of_each_episode() -> None:
    shown: list[int] = []
    world = Numbered(lengths=(3, 1), draws=True)
    evaluate(lambda obs: 0, world, 2, show=lambda frame: shown.append(int(frame.image[0, 0, 0])))
    assert shown == [0, 1, 2, 3, 0, 1]


def test_wrong_observation_shape_and_unsupported_space_are_refused() -> None:
    class ChangingShape(Numbered):
        def hand_out(self, obs: Array) -> Array:
            return obs[:1] if self.steps == 2 else obs

    with pytest.raises(EnvironmentFaultError, match=r"\(1,\).*\(2,\)"):
        evaluate(lambda obs: 0, ChangingShape(), 1)
    with pytest.raises(UnsupportedEnvironmentError):
        evaluate(lambda obs: 0, envs.make("FrozenLake-v1"), 1)


# Statistics


def test_statistics_match_the_returns() -> None:
    result = Evaluation(returns=(1, 2, 3, 6), lengths=(9, 9, 9, 9), reward_threshold=3)
    assert (result.mean_return, result.min_return, result.max_return) == (3, 1, 6)
    assert result.iqm_return == 2.5
    assert result.std_return == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 4))
    assert result.solved_share == 0.5  # a return equal to the threshold counts
    assert replace(result, reward_threshold=None).solved_share is None
    assert Evaluation(returns=(-5,), lengths=(1,), reward_threshold=0).std_return == 0


def test_reward_threshold_matches_the_environment() -> None:
    result = evaluate(lambda obs: 0, envs.make("CartPole-v1"), 2)
    assert (result.reward_threshold, result.solved_share) == (475, 0)
    # With a constant push the pole falls within a dozen steps, with a reward of 1 per step.
    assert all(5 < length < 15 for length in result.lengths)
    assert result.returns == tuple(map(float, result.lengths))


# Outcomes


def tilted(obs: Array) -> int:
    """Tilt the lander with a side engine, then leave the screen with the main engine."""
    return 3 if obs[4] > -0.4 and obs[5] > -0.3 else 2


@pytest.mark.parametrize(
    ("policy", "limit", "outcome"),
    [(None, None, "landed"), (lambda obs: 0, None, "crashed"), (tilted, None, "flew off"), (tilted, 30, "hovered")],
    ids=["landed", "crashed", "flew off", "hovered"],
)
def test_lander_outcomes_are_labeled(policy: Callable[[Array], int] | None, limit: int | None, outcome: str) -> None:
    env = envs.make("LunarLander-v3")
    # From these start states, LunarLander's heuristic lands.
    pilot = importlib.import_module("gymnasium.envs.box2d.lunar_lander").heuristic
    result = evaluate(policy or (lambda obs: int(pilot(env.unwrapped, obs))), env, 3, max_episode_steps=limit)
    env.close()
    assert result.outcomes == (outcome,) * 3
    shares = {"landed": 0.0, "crashed": 0.0, "flew off": 0.0, "hovered": 0.0, outcome: 1.0}
    assert list((result.outcome_shares or {}).items()) == list(shares.items())


def test_cart_pole_and_mountain_car_outcomes_are_labeled() -> None:
    cart, car = gym.make("CartPole-v1"), gym.make("MountainCar-v0")
    weights = np.array([0.1, 0.5, 2.0, 1.0])
    assert evaluate(lambda obs: int(obs @ weights > 0), cart, 3).outcomes == ("balanced",) * 3
    assert evaluate(lambda obs: int(obs[2] + 0.3 * obs[3] > 0.03), cart, 3).outcomes == ("left the track",) * 3
    assert evaluate(lambda obs: 0, cart, 3).outcomes == ("fell",) * 3
    assert evaluate(lambda obs: 2 * int(obs[1] > 0), car, 2).outcomes == ("reached the goal",) * 2
    assert evaluate(lambda obs: 1, car, 2).outcomes == ("ran out of time",) * 2


def test_outcome_shares_include_every_label() -> None:
    result = Evaluation((1,) * 4, (1,) * 4, None, ("a", "c", "c", "c"), ("c", "b", "a"))
    assert list((result.outcome_shares or {}).items()) == [("c", 0.75), ("b", 0.0), ("a", 0.25)]
