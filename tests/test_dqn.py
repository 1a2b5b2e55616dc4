"""The agent: storing, one update, target updates, acting and seeds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent, Update, make_optimizer
from perilune.errors import ConfigError, ShapeError, UsageError
from perilune.nn import SGD, AdamW
from perilune.training.loop import training_events
from worlds import Numbered, small

O, A = 3, 4  # noqa: E741 -- the usual names of these dimensions


def agent_of(seed: int = 0, **settings: Any) -> Agent:
    return Agent(O, A, small(**settings), seed)


def store_steps(agent: Agent, steps: int, seed: int = 0, take: str = "remember") -> list[Update | None]:
    """Pass ``steps`` random time steps to the agent, by ``remember`` or ``observe``."""
    generator = np.random.default_rng(seed)
    found: list[Update | None] = []
    for _ in range(steps):
        step: tuple[Any, ...] = (
            generator.normal(size=O).astype(np.float32),
            int(generator.integers(A)),
            float(generator.normal()),
            generator.normal(size=O).astype(np.float32),
            bool(generator.random() < 0.2),
            False,
        )
        if take == "observe":  # as a batch of one environment
            found.append(agent.observe(*(np.array([value]) for value in step)))
        else:
            agent.remember(*step)
    return found


def with_environments(agent: Agent, count: int) -> None:
    """Begin an episode in environments 1 to count - 1."""
    for env in range(1, count):
        agent.begin_episode(env)


def warm(seed: int = 0, **settings: Any) -> Agent:
    """Return an agent that has just completed its warm-up."""
    agent = agent_of(seed, **settings)
    generator = np.random.default_rng(99)
    while not agent.warm:
        obs, next_obs = generator.normal(size=(2, O)).astype(np.float32)
        last = len(agent.replay) + len(agent.ongoing[0].n_step.pending) + 1 == agent.config.learning_starts
        agent.remember(obs, int(generator.integers(A)), float(generator.normal()), next_obs, False, last)
    return agent


# Construction


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hidden", {"hidden": (2**62,)}),
        ("batch_size", {"batch_size": 2**61, "buffer_size": 2**61}),
        ("buffer_size", {"buffer_size": 2**61}),
    ],
)
def test_too_large_settings_raise_config_error(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        agent_of(**settings).take_memory()
    assert caught.value.name in (name, "buffer_size")
    assert "memory" in str(caught.value)


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_online_and_target_never_share_memory(tau: float) -> None:
    agent = warm(tau=tau)
    for _ in range(3):
        arrays = [
            agent.online.parameters,
            agent.target.parameters,
            agent.online.gradients,
            agent.target.gradients,
            *agent.optimizer.arrays.values(),
        ]
        for index, one in enumerate(arrays):
            assert not any(np.shares_memory(one, other) for other in arrays[:index])
        agent.learn()
        agent.sync_target()


def test_optimizer_receives_its_settings() -> None:
    sgd = make_optimizer(small(optimizer="sgd", momentum=0.25), 7)
    adamw = make_optimizer(small(optimizer="adamw", weight_decay=0.125), 7)
    assert isinstance(sgd, SGD)
    assert sgd.momentum == 0.25
    assert isinstance(adamw, AdamW)
    assert adamw.weight_decay == 0.125


# What is stored


@pytest.mark.parametrize(
    ("terminated", "truncated", "discounts"),
    [(True, False, [0.5, 0]), (False, True, [0.5, 0.5]), (True, True, [0.5, 0])],
)
def test_only_termination_sets_discount_to_zero(terminated: bool, truncated: bool, discounts: list[float]) -> None:
    agent = agent_of(gamma=0.5)
    obs = np.zeros((3, O), np.float32)
    agent.remember(obs[0], 1, 2.0, obs[1], False, False)
    agent.remember(obs[1], 3, 4.0, obs[2], terminated, truncated)
    assert agent.replay.arrays.discount[:2].tolist() == discounts
    assert agent.replay.arrays.action[:2].tolist() == [1, 3]
    assert agent.replay.arrays.reward[:2].tolist() == [2, 4]


def test_n_step_returns_of_two_environments_stay_separate() -> None:
    agent = agent_of(n_step=2, gamma=0.5)
    with_environments(agent, 2)
    obs = np.arange(6 * O, dtype=np.float32).reshape(2, 3, O)
    agent.remember(obs[0, 0], 0, 1.0, obs[0, 1], False, False, 0)
    agent.remember(obs[1, 0], 1, 10.0, obs[1, 1], False, False, 1)
    assert len(agent.replay) == 0
    agent.remember(obs[0, 1], 2, 2.0, obs[0, 2], False, False, 0)
    agent.remember(obs[1, 1], 3, 20.0, obs[1, 2], False, True, 1)
    stored = agent.replay.arrays
    assert stored.reward[:3].tolist() == [2, 20, 20]
    assert stored.action[:3].tolist() == [0, 1, 3]
    np.testing.assert_array_equal(stored.next_obs[:3], [obs[0, 2], obs[1, 2], obs[1, 2]])
    assert (agent.env_steps, len(agent.ongoing[0].n_step.pending), len(agent.ongoing[1].n_step.pending)) == (4, 1, 0)


def test_new_episode_keeps_pending_steps_of_other_environments() -> None:
    agent = agent_of(n_step=3)
    with_environments(agent, 2)
    obs = np.zeros(O, np.float32)
    for env in (0, 1):
        agent.remember(obs, 0, 1.0, obs, False, False, env)
    agent.begin_episode(1)
    assert [len(env.n_step.pending) for env in agent.ongoing] == [1, 0]
    agent.remember(obs, 0, 1.0, obs, True, False, 1)
    assert agent.replay.arrays.reward[: len(agent.replay)].tolist() == [1]


# One update


def test_only_action_taken_receives_gradient() -> None:
    agent = agent_of(batch_size=1, learning_starts=1, max_grad_norm=None, hidden=((8, "tanh"),))
    agent.remember(np.ones(O, np.float32), 2, 100.0, np.ones(O, np.float32), True, False)
    agent.learn()
    gradients = list(agent.online.named_gradients().values())
    weight, bias = gradients[-2:]
    others = [action for action in range(A) if action != 2]
    assert not weight[:, others].any()
    assert not bias[others].any()
    assert weight[:, 2].all()
    assert bias[2] == pytest.approx(-1)  # slope of the Huber loss far below the target
    assert gradients[0].any()  # and it reaches the first layer


def test_gradients_of_earlier_updates_are_cleared() -> None:
    agent = agent_of(batch_size=1, learning_starts=1, buffer_size=1)
    for action in (2, 0, 3):
        agent.remember(np.ones(O, np.float32), action, 100.0, np.ones(O, np.float32), True, False)
        agent.learn()
        bias = agent.online.named_gradients()["2.Dense.bias"]
        assert np.flatnonzero(bias).tolist() == [action]


# One update, compared with a plain computation in float64


def plain_forward(parameters: Array, widths: list[int], obs: Array, layer_norm: bool) -> Array:
    """Return Q(obs, a) of a tanh network, computed from its flat parameters layer by layer."""
    at, x = 0, obs
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        weight = parameters[at : at + inputs * outputs].reshape(inputs, outputs)
        at += inputs * outputs
        x = x @ weight + parameters[at : at + outputs]
        at += outputs
        if layer == len(widths) - 2:
            break
        if layer_norm:
            gain, shift = parameters[at : at + 2 * outputs].reshape(2, outputs)
            at += 2 * outputs
            x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * gain + shift
        x = np.tanh(x)
    assert at == len(parameters)
    return x


def plain_loss(error: float, loss: str, delta: float) -> float:
    if loss == "mse":
        return error**2
    return error**2 / 2 if abs(error) <= delta else delta * (abs(error) - delta / 2)


def central_differences(function: Callable[[Array], float], at: Array) -> Array:
    steps = np.eye(len(at)) * 1e-6
    return np.array([(function(at + step) - function(at - step)) / 2e-6 for step in steps])


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("double", [False, True])
def test_update_matches_independent_computation(double: bool, loss: str, layer_norm: bool) -> None:
    settings: dict[str, Any] = {
        "hidden": (5, 4),
        "activation": "tanh",
        "layer_norm": layer_norm,
        "loss": loss,
        "huber_delta": 1.5,
        "double": double,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "max_grad_norm": None,
        "gamma": 0.9,
        "batch_size": 16,
        "buffer_size": 64,
        "learning_starts": 40,
    }
    agent, reference = agent_of(seed=3, **settings), agent_of(seed=3, **settings)
    for each in (agent, reference):
        store_steps(each, 40)
        # The two networks differ, so that swapped roles are detected.
        generator = np.random.default_rng(8)
        each.online.parameters += generator.normal(0, 0.5, len(each.online.parameters)).astype(np.float32)
        each.target.parameters += generator.normal(0, 0.5, len(each.target.parameters)).astype(np.float32)
    batch = reference.replay.sample(16, reference.generators.replay)  # the batch that the agent will sample
    obs, next_obs = batch.obs.astype(np.float64), batch.next_obs.astype(np.float64)
    widths = [O, 5, 4, A]
    online, target = (each.parameters.astype(np.float64) for each in (agent.online, agent.target))

    next_online = plain_forward(online, widths, next_obs, layer_norm)
    next_target = plain_forward(target, widths, next_obs, layer_norm)
    assert (next_online.argmax(1) != next_target.argmax(1)).sum() > 3
    td_target = []
    for b in range(16):
        chosen = int(np.argmax((next_online if double else next_target)[b]))
        td_target.append(float(batch.reward[b]) + float(batch.discount[b]) * next_target[b, chosen])

    def mean_loss(parameters: Array) -> float:
        q = plain_forward(parameters, widths, obs, layer_norm)
        errors = [q[b, batch.action[b]] - td_target[b] for b in range(16)]
        assert max(map(abs, errors)) > 1.5 > min(map(abs, errors))  # both branches of Huber's loss
        return sum(plain_loss(error, loss, 1.5) for error in errors) / 16

    gradient = central_differences(mean_loss, online)
    target_before = agent.target.parameters.copy()
    update = agent.learn()

    np.testing.assert_allclose(agent.online.gradients, gradient, atol=2e-5 * np.abs(gradient).max())
    np.testing.assert_allclose(agent.online.parameters, online - 0.1 * gradient, atol=1e-5)
    np.testing.assert_array_equal(agent.target.parameters, target_before)
    q = plain_forward(online, widths, obs, layer_norm)[range(16), batch.action]
    assert update.loss == pytest.approx(mean_loss(online), rel=1e-5)
    assert update.mean_q == pytest.approx(q.mean(), rel=1e-4, abs=1e-5)
    assert update.mean_td_target == pytest.approx(np.mean(td_target), rel=1e-4, abs=1e-5)
    assert update.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-4)
    assert update.learning_rate == 0.1


def test_gradients_are_clipped_to_max_grad_norm() -> None:
    agent = warm(optimizer="sgd", learning_rate=1.0, max_grad_norm=0.01)
    before = agent.online.parameters.copy()
    update = agent.learn()
    assert update.gradient_norm > 0.1  # the norm before clipping
    assert np.linalg.norm(agent.online.parameters - before) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.1, 0.1, 0.1, 0.1]),
        ("linear", [0.1, 0.06, 0.02, 0.02]),
        ("cosine", [0.1, 0.06, 0.02, 0.02]),
    ],
)
def test_learning_rate_follows_schedule(schedule: str, rates: list[float]) -> None:
    agent = agent_of(
        learning_rate=0.1, learning_rate_end=0.02, learning_rate_decay_steps=100, learning_rate_schedule=schedule
    )
    for env_steps, rate in zip((0, 50, 100, 1000), rates, strict=True):
        agent.env_steps = env_steps
        assert agent.learning_rate == pytest.approx(rate)


def test_optimizer_uses_scheduled_learning_rate() -> None:
    agent = warm(optimizer="sgd", learning_rate_schedule="linear", learning_rate_decay_steps=16)
    before = agent.online.parameters.copy()
    agent.env_steps = 16
    assert agent.learn().learning_rate == 0
    np.testing.assert_array_equal(agent.online.parameters, before)
    agent.env_steps = 15
    assert agent.learn().learning_rate == pytest.approx(5e-4 / 16)
    assert (agent.online.parameters != before).any()


# When the agent learns


@pytest.mark.parametrize("gradient_steps", [1, 3])
def test_observe_makes_gradient_steps_and_returns_the_last_update(gradient_steps: int) -> None:
    agent, reference = (warm(train_freq=4, gradient_steps=gradient_steps) for _ in range(2))
    told = store_steps(agent, 4, take="observe")
    store_steps(reference, 4)
    expected = [reference.learn() for _ in range(gradient_steps)]
    assert told == [None] * 3 + [expected[-1]]
    assert agent.updates == gradient_steps
    assert agent.target_syncs == 4  # counted by env_steps
    np.testing.assert_array_equal(agent.online.parameters, reference.online.parameters)


def test_observing_counts_steps_and_ended_episodes() -> None:
    agent = warm(learning_starts=8)
    obs = np.zeros((1, O), np.float32)
    for terminated, truncated in ((False, False), (True, False), (False, True), (True, True), (False, False)):
        agent.observe(obs, [0], [0.0], obs, [terminated], [truncated])
    assert (agent.env_steps, agent.episodes, agent.updates) == (13, 3, 5)


def test_episodes_of_the_warm_up_are_not_counted() -> None:
    agent = agent_of(learning_starts=4)
    obs = np.zeros((1, O), np.float32)
    for _ in range(4):  # the fourth time step completes the warm-up
        agent.observe(obs, [0], [0.0], obs, [True], [False])
    assert agent.episodes == 1


def test_learning_from_an_empty_replay_buffer_is_refused() -> None:
    with pytest.raises(UsageError, match="the replay buffer is empty"):
        agent_of().learn()


def test_noisy_double_dqn_selects_with_other_noise_than_it_predicts() -> None:
    # The noise is drawn for the online network, which selects, for the target network, and again for the prediction.
    agent = warm(noisy=True, double=True)
    batch = agent.replay.sample(8, np.random.default_rng(0))
    selecting, target, predicting = (
        copy.deepcopy(agent.online),
        copy.deepcopy(agent.target),
        copy.deepcopy(agent.online),
    )
    generator = copy.deepcopy(agent.generators.network)
    for network in (selecting, target, predicting):
        network.draw_noise(generator)
    _, q, td_target = agent.differentiate(batch)
    rows = np.arange(8)
    np.testing.assert_array_equal(q, predicting.forward(batch.obs)[rows, batch.action])
    best = selecting.forward(batch.next_obs).argmax(axis=1)
    expected = batch.reward + batch.discount * target.forward(batch.next_obs)[rows, best]
    np.testing.assert_allclose(td_target, expected, rtol=1e-6)
    assert (q != selecting.forward(batch.obs)[rows, batch.action]).all()


# Target updates


def test_target_network_is_copied_only_every_interval() -> None:
    agent = warm(tau=1.0, target_update_interval=5)
    copied = agent.target.parameters.copy()
    for env_steps in range(9, 31):
        store_steps(agent, 1, seed=env_steps, take="observe")
        if env_steps % 5 == 0:
            copied = agent.online.parameters.copy()
        np.testing.assert_array_equal(agent.target.parameters, copied)
        assert np.array_equal(agent.online.parameters, copied) == (env_steps % 5 == 0)
    assert agent.target_syncs == len((10, 15, 20, 25, 30))


def test_soft_target_update_moves_by_tau() -> None:
    agent = agent_of(tau=0.25)
    agent.online.parameters[:] = 1
    agent.target.parameters[:] = -3
    for value in (-2, -1.25, -0.6875):
        agent.sync_target()
        np.testing.assert_array_equal(agent.target.parameters, value)
    np.testing.assert_array_equal(agent.online.parameters, 1)


# Acting


def test_epsilon_is_fraction_of_random_actions() -> None:
    agent = warm(epsilon_start=0.4, epsilon_end=0.4)
    obs = np.ones(O, np.float32)
    other = np.mean([agent.act(obs[None]) != [agent.greedy_action(obs)] for _ in range(4000)])
    # One random action in four is the greedy one: 0.4 * 3/4, within five standard deviations of 4,000 draws.
    assert other == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / 4000))


def test_linear_epsilon_counts_steps_after_warm_up() -> None:
    agent = warm(epsilon_start=1.0, epsilon_end=0.2, epsilon_decay_steps=4, train_freq=2)
    seen = [agent.epsilon]
    for _ in range(6):
        store_steps(agent, 1, take="observe")
        seen.append(agent.epsilon)
    assert seen == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_epsilon_decay_counts_episodes_after_warm_up() -> None:
    agent = warm(epsilon_start=0.8, epsilon_end=0.15, epsilon_decay=0.5, epsilon_decay_steps=1)
    obs, seen = np.zeros((1, O), np.float32), [agent.epsilon]
    for _ in range(4):
        agent.observe(obs, [0], [0.0], obs, [False], [False])
        agent.observe(obs, [0], [0.0], obs, [False], [True])
        seen.append(agent.epsilon)
    assert seen == pytest.approx([0.8, 0.4, 0.2, 0.15, 0.15])


def test_epsilon_can_decay_per_update() -> None:
    agent = warm(epsilon_start=0.8, epsilon_end=0.15, epsilon_decay=0.5, epsilon_decay_per="update", train_freq=4)
    obs, seen = np.zeros((1, O), np.float32), []
    for _ in range(8):  # env_steps 9 to 16, with updates at 12 and 16
        agent.observe(obs, [0], [0.0], obs, [True], [False])
        seen.append(agent.epsilon)
    assert seen == pytest.approx([0.8] * 3 + [0.4] * 4 + [0.2])


def test_random_actions_last_two_steps_if_two_are_allowed() -> None:
    # P(2 steps) = 1/4 / (1 + 1/4), so of 1,000 draws about 200 last two steps.
    agent = warm(epsilon_start=1.0, epsilon_end=1.0, max_action_repeat=2)
    obs, lasting = np.zeros((1, O), np.float32), 0
    for _ in range(1000):
        action = agent.act(obs)
        if agent.ongoing[0].repeats_left:
            lasting += 1
            assert agent.ongoing[0].repeats_left == 1
            assert agent.act(obs, epsilon=0.0) == action
    assert lasting == pytest.approx(200, abs=5 * math.sqrt(1000 * 0.2 * 0.8))


def test_q_values_are_not_overwritten_by_the_next_call() -> None:
    agent = agent_of()
    first = agent.q_values(np.ones((2, O)))
    kept = first.copy()
    agent.q_values(np.zeros((2, O)))
    np.testing.assert_array_equal(first, kept)
    assert first.shape == (2, A)


@pytest.mark.parametrize("shape", [(O,), (2, O + 1), (1, 2, O), ()])
def test_q_values_refuses_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"obs\[N, 3\]"):
        agent_of().q_values(np.zeros(shape))


# Seeds


def grown(seed: int, **settings: Any) -> Agent:
    agent = Agent(2, 3, small(**settings), seed)
    list(training_events(agent, Numbered(lengths=(3, 5)), TrainConfig(steps=60)))
    return agent


@pytest.mark.parametrize("settings", [{}, {"layer_norm": True, "n_step": 3, "optimizer": "adamw"}])
def test_same_seed_gives_identical_agent(settings: dict[str, Any]) -> None:
    one, other = grown(5, **settings), grown(5, **settings)
    assert one.updates == other.updates == 52
    assert one.online.parameters.tobytes() == other.online.parameters.tobytes()
    assert one.target.parameters.tobytes() == other.target.parameters.tobytes()
    for mine, its in zip(one.replay.arrays, other.replay.arrays, strict=True):
        assert mine.tobytes() == its.tobytes()


def test_other_seed_changes_weights_actions_and_batches() -> None:
    one, other = agent_of(0, learning_starts=30), agent_of(1, learning_starts=30)
    assert not np.array_equal(one.online.parameters, other.online.parameters)
    assert [one.explore() for _ in range(30)] != [other.explore() for _ in range(30)]
    for agent in (one, other):
        store_steps(agent, 30)
    drawn = [agent.replay.sample(20, agent.generators.replay).action.copy() for agent in (one, other)]
    assert not np.array_equal(*drawn)
    assert one.generators.environment.integers(2**31) != other.generators.environment.integers(2**31)


def test_error_settings_of_numpy_change_nothing() -> None:
    # Exploding, vanishing and clipped numbers occur in normal training. An agent of each kind is trained.
    kinds: list[dict[str, Any]] = [
        {"head": "qr", "quantiles": 4, "layer_norm": True},
        {"head": "c51", "atoms": 5, "value_range": (-9, 9), "munchausen": 0.9, "munchausen_temperature": 1e-3},
        {"loss": "mse", "huber_delta": 1e-20, "learning_rate": 1e-20, "priority_alpha": 0.6, "noisy": True},
    ]
    for settings in kinds:
        expected = grown(5, **settings)
        with np.errstate(all="raise"):
            found = grown(5, **settings)
        assert found.online.parameters.tobytes() == expected.online.parameters.tobytes()
