"""Parallelized Q-learning: lambda-returns of whole rollouts, learned in epochs, without replay."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, ShapeError
from perilune.replay.rollout import lambda_returns
from perilune.replay.symmetry import Symmetry
from perilune.training.events import SafePoint
from perilune.training.loop import training_events
from worlds import RecordedStep, Slot, registered, small


def test_lambda_returns_match_hand_computation() -> None:
    # One environment, gamma = 0.5 and lambda = 0.5. The episode terminates in the second step.
    reward, value = np.array([[1.0], [2], [4]]), np.array([[8.0], [100], [16]])
    discount, trace = np.array([[0.5], [0], [0.5]]), np.array([[0.5], [0], [0.5]])
    # 4 + 0.5 * 16; 2; 1 + 0.5 * (0.5 * 8 + 0.5 * 2)
    np.testing.assert_array_equal(lambda_returns(reward, discount, value, trace), [[3.5], [2], [12]])
    trace[1] = discount[1] = (
        0.5  # the episode continues: 2 + 0.5 * (0.5 * 100 + 0.5 * 12), then 1 + 0.5 * (4 + 0.5 * 30)
    )
    np.testing.assert_array_equal(lambda_returns(reward, discount, value, trace), [[10.5], [30], [12]])


def forward_view(reward: Array, value: Array, ends: Sequence[str], gamma: float, lam: float) -> list[float]:
    """Return the lambda-returns of one environment as weighted means of n-step returns, for each step on its own."""

    def n_step(first: int, last: int) -> float:
        total = sum(gamma ** (t - first) * reward[t] for t in range(first, last + 1))
        return total + (gamma ** (last + 1 - first) * value[last] if ends[last] != "terminated" else 0.0)

    returns = []
    for first in range(len(reward)):
        last = next((t for t in range(first, len(reward)) if ends[t]), len(reward) - 1)
        lengths = range(last - first)
        mean = sum((1 - lam) * lam**n * n_step(first, first + n) for n in lengths)
        returns.append(mean + lam ** (last - first) * n_step(first, last))
    return returns


@given(st.integers(1, 9), st.integers(1, 4), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_lambda_returns_are_means_of_n_step_returns(t: int, k: int, gamma: float, lam: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    reward, value = generator.normal(size=(2, t, k))
    ends = generator.choice(["", "", "terminated", "truncated"], size=(t, k))
    found = lambda_returns(reward, gamma * (ends != "terminated"), value, lam * (ends == ""))
    expected = [forward_view(reward[:, i], value[:, i], ends[:, i].tolist(), gamma, lam) for i in range(k)]
    np.testing.assert_allclose(found.T, expected, rtol=1e-10, atol=1e-12)


def test_lambda_returns_refuse_arrays_that_would_broadcast() -> None:
    with pytest.raises(ShapeError, match=r"four arrays \[T, K\]"):
        lambda_returns(np.zeros((3, 1)), np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 2)))


def returns_of(agent: Agent, episode: list[RecordedStep], length: int) -> list[float]:
    """Return the lambda-returns of the first ``length`` steps of an environment's episodes, in float64."""
    steps = episode[:length]
    value = agent.q_values(np.array([step.next_obs for step in steps])).max(axis=1)
    ends = ["terminated" if step.terminated else "truncated" if step.truncated else "" for step in steps]
    reward = np.array([step.reward for step in steps])
    return forward_view(reward, value, ends, agent.config.gamma, agent.config.td_lambda or 0.0)


def test_rollout_holds_the_returns_of_every_step_of_each_environment() -> None:
    config = small(td_lambda=0.6, buffer_size=24, batch_size=24, learning_rate=1e-30, max_grad_norm=1e-30)
    with registered(lambda number: Slot(number, (3, 5, 2 + number), ("terminated", "truncated"))) as made:
        agent = Agent(2, 3, config, seed=0)
        before = agent.online.parameters.copy()
        training = TrainConfig(steps=25, num_envs=3, eval_every=None, eval_episodes=1)
        events = training_events(agent, gym.make("World-v0"), training)
        while agent.updates == 0:
            next(events)
        np.testing.assert_array_equal(agent.online.parameters, before)  # the step size is negligible
        for index, world in enumerate(world for world in made if world.seeds):
            steps = [step for episode in world.trained() for step in episode][:8]
            rows = slice(index, None, 3)
            np.testing.assert_array_equal(agent.replay.arrays.obs[rows], [step.obs for step in steps])
            np.testing.assert_array_equal(agent.replay.arrays.action[rows], [step.action for step in steps])
            np.testing.assert_allclose(agent.replay.arrays.reward[rows], returns_of(agent, steps, 8), rtol=1e-4)


def test_each_epoch_uses_every_step_of_the_rollout_once(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(2, 3, small(td_lambda=0.9, buffer_size=12, batch_size=4, epochs=3), seed=0)
    batches: list[Array] = []
    take = agent.replay.take
    monkeypatch.setattr(agent.replay, "take", lambda rows: batches.append(rows) or take(rows))
    for step in range(12):
        obs = np.full((1, 2), step, np.float32)
        update = agent.observe(obs, [step % 3], [1.0], obs + 1, [step % 5 == 4], [False])
        assert (update is None) == (step < 11)
    epochs = np.array(batches).reshape(3, 12)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(12), (3, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert agent.updates == 9
    assert agent.target_syncs == 0


def test_second_training_starts_with_an_empty_rollout() -> None:
    config = small(td_lambda=0.9, buffer_size=12, epochs=1)
    with registered(lambda number: Slot(number, (5,))):
        agent = Agent(2, 3, config, seed=0)
        for num_envs, steps in ((4, 17), (2, 13)):
            training = TrainConfig(steps=steps, num_envs=num_envs, eval_every=None, eval_episodes=1)
            before, updates = agent.env_steps, agent.updates
            for event in training_events(agent, gym.make("World-v0"), training):
                assert not isinstance(event, SafePoint) or len(agent.ongoing) == num_envs
            assert agent.env_steps - before == steps
            assert agent.updates - updates == 12 // config.batch_size


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"munchausen": 0.5}, "munchausen=0.5 is invalid: expected 0 with td_lambda"),
        ({"priority_alpha": 0.5}, "priority_alpha=0.5 is invalid: expected 0 with td_lambda"),
        ({"td_lambda": 1.5}, "td_lambda=1.5 is invalid"),
        ({"batch_size": 13}, "batch_size=13 is invalid: expected at most buffer_size=12"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, float], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        small(**{"td_lambda": 0.9, "buffer_size": 12} | settings)


def test_number_of_environments_must_divide_the_rollout() -> None:
    agent = Agent(2, 3, small(td_lambda=0.9, buffer_size=12), seed=0)
    with registered(lambda number: Slot(number, (5,))), pytest.raises(ConfigError, match="a divisor of buffer_size=12"):
        list(training_events(agent, gym.make("World-v0"), TrainConfig(steps=100, num_envs=5)))


def test_budget_must_cover_one_rollout() -> None:
    agent = Agent(2, 3, small(td_lambda=0.9, buffer_size=12), seed=0)
    with registered(lambda number: Slot(number, (5,))), pytest.raises(ConfigError, match="at least 12, because PQN"):
        list(training_events(agent, gym.make("World-v0"), TrainConfig(steps=11, num_envs=2)))


@pytest.mark.parametrize("head", [{"head": "qr", "quantiles": 5}, {"head": "c51", "value_range": (-9, 9), "atoms": 7}])
def test_distributional_heads_learn_the_return_itself(head: dict[str, object]) -> None:
    # One step per episode, so the return is the reward: 2 for action 0, -3 for action 1.
    settings = {
        "td_lambda": 0.5,
        "buffer_size": 16,
        "batch_size": 8,
        "epochs": 4,
        "learning_rate": 1e-2,
        "mirror": True,
    }
    agent = Agent(1, 2, small(**settings | head), 0, Symmetry((0,), (1,), (0, 1)))
    one = np.ones((1, 1), np.float32)
    for step in range(1600):
        agent.observe(one, [step % 2], [(2.0, -3.0)[step % 2]], one, [True], [False])
    np.testing.assert_allclose(agent.q_values(one), [[2, -3]], atol=0.05)
