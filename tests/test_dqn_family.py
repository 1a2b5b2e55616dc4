"""The extensions of DQN in the agent: networks with known outputs, and worlds with known Q-values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError
from perilune.nn import Network, huber
from perilune.nn.distributional import cross_entropy, quantile_huber
from perilune.replay.prioritized import SMALL
from perilune.replay.symmetry import Symmetry
from perilune.training.loop import training_events
from worlds import Bandit, Countdown, Timeless, World, small

STATES = np.eye(2, dtype=np.float32)  # one-hot, so that a table is a network

HEADS: dict[str, dict[str, Any]] = {
    "expected": {"head": "expected"},
    "qr": {"head": "qr", "quantiles": 2},
    "c51": {"head": "c51", "atoms": 3, "value_range": (0, 40)},
}
every_head = pytest.mark.parametrize("head", HEADS)


def of_tables(states: int = 2, actions: int = 3, symmetry: Symmetry | None = None, **settings: Any) -> Agent:
    """Return an agent with a linear network that represents a table, and a batch of one transition."""
    one = {"batch_size": 1, "learning_starts": 1, "gamma": 0.5, "optimizer": "sgd", "max_grad_norm": None}
    return Agent(states, actions, small(hidden=((states, "linear"),), **one | settings), 0, symmetry)


def set_table(network: Network, table: Any) -> None:
    """Set the weights so that ``network`` returns table[state], of shape [A] or [A, N], for a one-hot state."""
    named = network.named_parameters()
    network.parameters[:] = 0
    first, last = (named[f"{index}.Dense.weight"] for index in (0, 1))
    first[...] = np.eye(len(first))
    last[...] = np.reshape(table, last.shape)


def outputs_with_means(agent: Agent, means: list[float]) -> Array:
    """Return outputs [A, N] whose means are ``means``, from 0 to 40, with some spread if the head allows it."""
    mean = np.array(means, float)[:, None]
    match agent.config.head:
        case "qr":
            return np.concatenate([mean / 2, 1.5 * mean], axis=1)
        case "c51":  # atoms 0, 20 and 40
            upper = np.maximum(mean - 20, 0) / 20
            lower = np.maximum(20 - mean, 0) / 20
            return np.log(np.concatenate([lower, 1 - lower - upper, upper], axis=1) + 1e-12)
        case _:
            return mean


def disagreeing(agent: Agent) -> None:
    """Set the weights so that the two networks prefer different actions and have different values."""
    set_table(agent.online, [outputs_with_means(agent, means) for means in ([4, 2, 6], [7, 3, 1])])
    set_table(agent.target, [outputs_with_means(agent, means) for means in ([8, 16, 12], [10, 20, 40])])


def store_step(agent: Agent, action: int = 1, reward: float = 1.0, *, terminated: bool = False) -> None:
    """Store a time step from the first state to the second."""
    agent.remember(STATES[0], action, reward, STATES[1], terminated, True)


# Targets


@every_head
@pytest.mark.parametrize(
    # Double: the online network prefers action 0, which the target network values at 10. With swapped roles, the
    # next value would be 1 (action 2). Without double, it is the target network's maximum, 40, and not the online
    # network's, 7.
    ("double", "target"),
    [(True, 1 + 0.5 * 10), (False, 1 + 0.5 * 40)],
)
def test_double_dqn_selects_with_online_and_evaluates_with_target_network(
    head: str, double: bool, target: float
) -> None:
    agent = of_tables(double=double, **HEADS[head])
    disagreeing(agent)
    store_step(agent)
    update = agent.learn()
    assert update.mean_td_target == pytest.approx(target, abs=1e-4)
    assert update.mean_q == pytest.approx(2, abs=1e-4)  # of the online network, action 1 in the first state


def test_update_uses_loss_of_head_for_action_taken() -> None:
    chosen, next_chosen = (np.array([values], np.float32) for values in ([1, 3], [5, 15]))  # means 2 and 10
    cases = {
        "expected": huber(chosen.mean(axis=1), 1 + next_chosen.mean(axis=1) / 2),
        "qr": quantile_huber(chosen, 1 + next_chosen / 2),
        # Probabilities 1/2 at 0 and 20 move to 1 and 11. 1/20 of the first and 11/20 of the second go to atom 20.
        "c51": cross_entropy(np.log(np.array([[0.9, 0.1, 1e-12]])), np.array([[0.5 * 19 / 20 + 0.5 * 9 / 20, 0.3, 0]])),
    }
    for head, (loss, d_chosen) in cases.items():
        agent = of_tables(**HEADS[head])
        disagreeing(agent)
        store_step(agent)
        assert agent.learn().loss == pytest.approx(loss, rel=1e-4), head
        # The gradient of the biases equals d_outputs.
        gradient = agent.online.named_gradients()["1.Dense.bias"].reshape(3, -1)
        np.testing.assert_allclose(gradient[1], d_chosen.ravel(), atol=1e-5)
        assert not gradient[[0, 2]].any()


# Munchausen

MUNCHAUSEN = {"munchausen": 0.5, "munchausen_temperature": 4.0, "munchausen_floor": -100.0}


def soft(q_values: list[float], temperature: float) -> list[float]:
    """Return the log of a softmax, computed with loops."""
    total = sum(math.exp(q / temperature) for q in q_values)
    return [q / temperature - math.log(total) for q in q_values]


@every_head
@pytest.mark.parametrize("double", [False, True])
def test_munchausen_target_uses_target_network_policy(head: str, double: bool) -> None:
    agent = of_tables(double=double, **HEADS[head], **MUNCHAUSEN)
    disagreeing(agent)
    store_step(agent)
    paid = 1 + 0.5 * 4 * soft([8, 16, 12], 4)[1]  # not [4, 2, 6] of the online network
    next_log_policy = soft([7, 3, 1] if double else [10, 20, 40], 4)
    value = sum(math.exp(p) * (q - 4 * p) for p, q in zip(next_log_policy, [10, 20, 40], strict=True))
    target = paid + 0.5 * value
    assert agent.learn().mean_td_target == pytest.approx(target, abs=1e-3)


def test_munchausen_floor_limits_log_probability() -> None:
    agent = of_tables(**MUNCHAUSEN | {"munchausen_floor": -2.0})
    # In state 0 the policy is uniform: 4 ln(1/3) = -4.39 is below the floor. In state 1, action 0 is certain.
    set_table(agent.target, [[5, 5, 5], [100, 0, 0]])
    set_table(agent.online, [[0, 0, 9], [1000, 0, 0]])
    store_step(agent)
    assert agent.learn().mean_td_target == pytest.approx(1 + 0.5 * -2 + 0.5 * 100)


# The average of the weights


def averaging(**settings: Any) -> Agent:
    agent = of_tables(**{"learning_rate": 0.1, "ema_decay": 0.5} | settings)
    store_step(agent, reward=10.0, terminated=True)
    return agent


def average_of(agent: Agent) -> Network:
    assert agent.average is not None
    return agent.average


def test_ema_decay_grows_with_updates() -> None:
    # Decay 1/10, 2/11, 3/12, ... up to ema_decay, which is reached at update 9: 9/18.
    agent = averaging(tau=1.0)
    average = agent.online.parameters.astype(np.float64)
    for update in range(1, 13):
        agent.learn()
        decay = [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5, 0.5, 0.5][update - 1]
        average = decay * average + (1 - decay) * agent.online.parameters
        np.testing.assert_allclose(average_of(agent).parameters, average, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(average_of(agent).parameters, agent.online.parameters)


def test_ema_averages_online_weights_after_step() -> None:
    agent = averaging(ema_decay=0.0)
    agent.target.parameters[:] = 77
    for _ in range(3):
        agent.learn()
        np.testing.assert_allclose(average_of(agent).parameters, agent.online.parameters, rtol=1e-6, atol=1e-7)
    assert (agent.target.parameters == 77).all()


def test_weight_average_does_not_affect_learning() -> None:
    plain, with_average = averaging(ema_decay=None), averaging()
    for _ in range(5):
        average_of(with_average).parameters[:] = -50
        assert plain.learn() == with_average.learn()
    np.testing.assert_array_equal(plain.online.parameters, with_average.online.parameters)


@pytest.mark.parametrize("acts", [False, True])
def test_ema_selects_training_actions_only_if_set(acts: bool) -> None:
    agent = averaging(ema_acts=acts, epsilon_start=0.0, epsilon_end=0.0)
    set_table(agent.online, [[9, 2, 3], [9, 2, 3]])
    set_table(agent.target, [[1, 8, 3], [1, 8, 3]])
    set_table(average_of(agent), [[1, 2, 7], [1, 2, 7]])
    np.testing.assert_array_equal(agent.q_values(STATES), [[1, 2, 7], [1, 2, 7]])
    assert agent.greedy_action(STATES[0]) == 2
    assert agent.act(STATES[:1]) == [2 if acts else 0]


# Mirror

# Four states in two pairs, two actions that swap, and all signs negated.
SWAP = Symmetry(observation_index=(1, 0, 3, 2), observation_sign=(-1,) * 4, action_index=(1, 0))


def mirroring(batch_size: int = 4, **settings: Any) -> Agent:
    agent = of_tables(4, 2, SWAP, **{"batch_size": batch_size, "buffer_size": 8, "mirror": True} | settings)
    set_table(agent.online, [[1, 100], [1000, 10], [4, 3], [-8, -5]])
    set_table(agent.target, [[0, 0], [0, 0], [20, 30], [40, 50]])
    return agent


def test_half_of_batch_is_mirrored() -> None:
    agent, states = mirroring(), np.eye(4, dtype=np.float32)
    agent.remember(states[0], 0, 3.0, states[2], False, True)
    stored = [array[0].copy() for array in agent.replay.arrays]
    update = agent.learn()
    # Q(state 0, action 0) = 1. Its mirror image is (-state 1, action 1), with Q = -10.
    assert update.mean_q == pytest.approx((1 - 10) / 2)
    # Mirroring keeps reward and discount. In next_obs the online network prefers action 0, with the target value
    # 20. In its mirror image, -state 3, it values the actions at 8 and 5 and also prefers 0, with the target value -40.
    assert update.mean_td_target == pytest.approx(3 + 0.5 * (20 - 40) / 2)
    for array, before in zip(agent.replay.arrays, stored, strict=True):
        np.testing.assert_array_equal(array[0], before)


@pytest.mark.parametrize("symmetry", [None, SWAP], ids=["none", "of another size"])
def test_mirror_without_matching_symmetry_is_refused(symmetry: Symmetry | None) -> None:
    with pytest.raises(ConfigError) as caught:
        of_tables(2, 3, symmetry, mirror=True)
    if symmetry is None:
        assert (caught.value.name, caught.value.value) == ("mirror", True)
        assert "has no known symmetry; in Python, pass symmetry=" in str(caught.value)
    else:
        assert (caught.value.name, caught.value.value) == ("symmetry", (4, 2))
        assert "expected 2 observations and 3 actions" in str(caught.value)


# Priorities


def prioritized(exponent: float = 1.0, beta: float = 1.0, **settings: Any) -> Agent:
    """Return an agent with Q = 0 and two stored transitions of reward 100, with priorities 1 and 3."""
    agent = of_tables(**{"batch_size": 4, "priority_alpha": exponent, "priority_beta": beta} | settings)
    set_table(agent.online, np.zeros((2, 3 * agent.config.outputs_per_action)))
    for action in (0, 1):
        store_step(agent, action, 100.0, terminated=True)
    assert agent.priorities is not None
    agent.priorities.update(np.array([0, 1]), np.array([1, 3]) - SMALL)
    return agent


def priorities_of(agent: Agent) -> list[float]:
    assert agent.priorities is not None
    return [float(value) for value in agent.priorities.tree.values[: len(agent.replay)]]


PRIORITIZED_HEADS = HEADS | {"c51": {"head": "c51", "atoms": 3, "value_range": (-200, 200)}}


@pytest.mark.parametrize("head", PRIORITIZED_HEADS)
@pytest.mark.parametrize(("beta", "ratio"), [(0.0, 3.0), (1.0, 1.0), (0.5, math.sqrt(3))])
def test_beta_controls_importance_correction(head: str, beta: float, ratio: float) -> None:
    # Row 0 has 1/4 of the total and row 1 has 3/4. Without weights, the gradient of action 1 is three times that
    # of action 0. With the weight 1/3 it is equal.
    agent = prioritized(beta=beta, priority_beta_steps=10**9, **PRIORITIZED_HEADS[head])
    agent.learn()
    pull = agent.online.named_gradients()["1.Dense.bias"].reshape(3, -1)
    assert np.abs(pull[0]).max() > 0.01
    np.testing.assert_allclose(pull[1], ratio * pull[0], rtol=1e-5, atol=1e-7)
    if head == "expected":
        assert pull[0, 0] == -0.25  # slope of the Huber loss / B, where the largest weight is 1


@pytest.mark.parametrize("head", PRIORITIZED_HEADS)
def test_priorities_are_absolute_td_errors(head: str) -> None:
    agent = prioritized(**PRIORITIZED_HEADS[head])
    agent.replay.arrays.reward[:2] = [100, -50]
    agent.learn()
    assert priorities_of(agent) == pytest.approx([100 + SMALL, 50 + SMALL], rel=1e-4)


def test_new_transition_is_sampled_in_the_next_update() -> None:
    agent = of_tables(batch_size=4, priority_alpha=1.0)
    set_table(agent.online, np.zeros((2, 3)))
    assert agent.priorities is not None
    for _ in range(50):
        store_step(agent, reward=0.0, terminated=True)
    agent.priorities.update(np.arange(50), np.zeros(50))
    store_step(agent, reward=7.0, terminated=True)
    assert priorities_of(agent)[-1] == agent.priorities.greatest == 1
    update = agent.learn()
    assert update.mean_td_target >= 7 / 4  # at least one row of the batch
    assert priorities_of(agent)[-1] == pytest.approx(7 + SMALL)


# Noise


def noisy(actions: int = 4, **settings: Any) -> Agent:
    agent = Agent(2, actions, small(noisy=True, epsilon_start=0.0, epsilon_end=0.0, learning_starts=4, **settings), 0)
    for _ in range(4):
        store_step(agent, 0)
    return agent


def test_noise_affects_only_training_actions() -> None:
    agent = noisy()
    acted, q = {agent.act(STATES[:1])[0] for _ in range(60)}, agent.q_values(STATES)
    assert len(acted) > 1
    for _ in range(5):
        agent.act(STATES[:1])
        assert agent.greedy_action(STATES[0]) == q[0].argmax()
        agent.act(STATES[:1])
        np.testing.assert_array_equal(agent.q_values(STATES), q)


def test_environments_share_one_noise_draw() -> None:
    agent = noisy()
    agent.begin_episode(1)
    together = [agent.act(STATES[[0, 0]]) for _ in range(40)]
    assert all(one == other for one, other in together)
    assert len({one for one, _ in together}) > 1


def test_each_update_draws_noise_for_both_networks() -> None:
    # One action, one state, reward 0 and gamma 1: with equal noise in both networks, the target would be Q itself.
    agent = noisy(actions=1, gamma=1.0, optimizer="sgd", learning_rate=1e-12, batch_size=1)
    for array in agent.replay.arrays[:1] + agent.replay.arrays[4:]:
        array[:] = 1
    agent.replay.arrays.reward[:] = 0
    updates = [agent.learn() for _ in range(6)]
    assert len({update.mean_q for update in updates}) == 6
    assert len({update.mean_td_target for update in updates}) == 6
    assert all(abs(update.mean_q - update.mean_td_target) > 1e-4 for update in updates)


def test_evaluation_does_not_change_training() -> None:
    one, other = (noisy(head="qr", quantiles=4, dueling=True, ema_decay=0.9) for _ in range(2))
    for step in range(12):
        if step % 3 == 0:
            other.greedy_action(STATES[1])
            other.q_values(STATES)
        assert one.act(STATES[:1]) == other.act(STATES[:1])
        assert one.learn() == other.learn()
    np.testing.assert_array_equal(one.online.parameters, other.online.parameters)


# Optimism

HOPEFUL = [[[4, 4, 4, 4], [-9, 0, 5, 10], [0, 0, 0, 1]]] * 2  # means 4, 1.5 and 0.25; upper means 4, 7.5 and 0.5


@pytest.mark.parametrize(("optimism", "acted"), [(0.0, 0), (0.24, 0), (0.5, 1)])
def test_optimism_affects_only_training_actions(optimism: float, acted: int) -> None:
    agent = of_tables(head="qr", quantiles=4, optimism=optimism, epsilon_start=0.0, epsilon_end=0.0)
    for network in (agent.online, agent.target):
        set_table(network, HOPEFUL)
    store_step(agent)
    assert agent.act(STATES[:1]) == [acted]
    assert agent.greedy_action(STATES[0]) == 0
    np.testing.assert_array_equal(agent.q_values(STATES[:1]), [[4, 1.5, 0.25]])
    assert agent.learn().mean_td_target == 1 + 0.5 * 4


# Repeated exploratory actions


def lasting(most: int, epsilon: float = 1.0) -> Agent:
    """Return an agent with so many actions that two equal draws in a row are rare."""
    agent = Agent(2, 10_000, small(hidden=(1,), max_action_repeat=most, epsilon_start=epsilon, epsilon_end=0.0), 3)
    for _ in range(8):
        store_step(agent)
    return agent


def test_exploratory_durations_follow_their_distribution() -> None:
    agent = lasting(3)
    actions = [agent.act(STATES[:1])[0] for _ in range(6000)]
    ends = np.flatnonzero(np.diff(actions))
    lengths = np.bincount(np.diff(ends), minlength=5)[1:]
    assert lengths[3:].sum() <= 3  # two equal draws in a row
    # Weights 1, 1/4, 1/9 give 36/49, 9/49, 4/49. Chi-square with 2 degrees of freedom exceeds 13.8 once in 1,000 seeds.
    expected = np.array([36, 9, 4]) / 49 * lengths.sum()
    assert float(np.sum((lengths[:3] - expected) ** 2 / expected)) < 13.8


def test_repeated_action_completes_before_a_greedy_action() -> None:
    agent = lasting(9, epsilon=0.0)
    greedy = agent.greedy_action(STATES[0])
    other = (greedy + 1) % agent.actions
    agent.ongoing[0].action, agent.ongoing[0].repeats_left = other, 3
    assert [agent.act(STATES[:1])[0] for _ in range(5)] == [other] * 3 + [greedy] * 2


def test_repeated_action_affects_only_one_environment() -> None:
    agent = lasting(9, epsilon=0.0)
    agent.begin_episode(1)
    greedy = agent.greedy_action(STATES[0])
    other = (greedy + 1) % agent.actions
    agent.ongoing[1].action, agent.ongoing[1].repeats_left = other, 2
    assert [agent.act(STATES[[0, 0]]) for _ in range(3)] == [[greedy, other]] * 2 + [[greedy, greedy]]


def test_repeated_action_ends_with_episode() -> None:
    agent = lasting(9, epsilon=0.0)
    agent.ongoing[0].action, agent.ongoing[0].repeats_left = 9_999, 5
    agent.begin_episode()
    assert agent.act(STATES[:1]) == [agent.greedy_action(STATES[0])]


# Worlds with known Q-values, for every component and all together

COMPONENTS: dict[str, dict[str, Any]] = {
    "qr": {"head": "qr", "quantiles": 8},
    "c51": {"head": "c51", "atoms": 21, "value_range": (-10, 10)},
    "dueling": {"dueling": True},
    "noisy": {"noisy": True},
    "priorities": {"priority_alpha": 0.6},
    "average": {"ema_decay": 0.95, "ema_acts": True},
    "mirror": {"mirror": True},
    "repeats": {"max_action_repeat": 8},
    "several updates": {"gradient_steps": 2, "train_freq": 2},
    "munchausen": {"munchausen": 0.5},
}
TOGETHER = {name: value for part in COMPONENTS.values() for name, value in part.items()}
PLAIN: dict[str, dict[str, Any]] = {
    "plain": {"double": False, "n_step": 1},
    "three steps": {"n_step": 3},
    "mse": {"loss": "mse", "double": True},
    "rmsprop": {"optimizer": "rmsprop"},
    "layer norm": {"layer_norm": True, "activation": "relu"},
    "lambda returns": {"td_lambda": 0.7, "buffer_size": 64, "epochs": 4},
}
EVERY_COMPONENT = COMPONENTS | {
    "all with qr": TOGETHER | {"head": "qr", "value_range": None, "optimism": 0.5},
    "all with c51": TOGETHER | {"head": "c51"},
}


def components(world: int) -> pytest.MarkDecorator:
    """Test each component in one of the three worlds. The long tests cover the other combinations."""
    cases = [
        pytest.param(settings, id=name, marks=() if index % 3 == world and index < 9 else pytest.mark.long)
        for index, (name, settings) in enumerate(EVERY_COMPONENT.items())
    ] + [pytest.param(settings, id=name) for name, settings in PLAIN.items()]
    return pytest.mark.parametrize("settings", cases)


def learned(world: World, symmetry: Symmetry, observations: Any, steps: int = 1500, **settings: Any) -> Array:
    """Return Q(obs, a) after training with random actions."""
    quick = {
        "hidden": (24,), "activation": "tanh", "learning_rate": 1e-2, "learning_rate_schedule": "linear",
        "learning_rate_decay_steps": steps, "batch_size": 32, "learning_starts": 50, "buffer_size": 5_000, "tau": 0.05,
        "epsilon_end": 1.0, "gamma": 0.9,
    }  # fmt: skip
    size, actions, _ = envs.space_sizes(world)
    agent = Agent(size, actions, small(**quick | settings), 0, symmetry)
    list(training_events(agent, world, TrainConfig(steps=steps, eval_every=None, eval_episodes=1)))
    return agent.q_values(np.array(observations, np.float32))


def soft_values(reward: float, gamma: float, settings: dict[str, Any], steps: int) -> list[float]:
    """Return Q with 1, 2, ... steps left, for two equal actions that a soft policy takes with equal probability."""
    share, entropy = settings.get("munchausen", 0.0), 0.03 * math.log(2)
    values: list[float] = []
    for left in range(steps):
        ahead = gamma * (values[-1] + entropy * (share > 0)) if left else 0.0
        values.append(reward - share * entropy + ahead)
    return values


@components(0)
def test_constant_reward_until_termination_is_learned(settings: dict[str, Any]) -> None:
    symmetry = Symmetry((0, 1, 2), (1, 1, 1), (1, 0))  # the actions are equal
    q = learned(Countdown(reward=2.0, length=3), symmetry, np.eye(3), **settings)
    expected = soft_values(2.0, 0.9, settings, 3)  # 2, 3.8, 5.42 without Munchausen
    np.testing.assert_allclose(q, np.repeat(np.array(expected)[:, None], 2, axis=1), atol=0.03)


@components(1)
def test_truncated_episode_keeps_bootstrap(settings: dict[str, Any]) -> None:
    symmetry = Symmetry((0,), (1,), (1, 0))
    q = learned(Timeless(reward=1.0, length=4), symmetry, [[1]], **{"gamma": 0.8, "tau": 0.2} | settings)
    (*_, expected) = soft_values(1.0, 0.8, settings, 200)  # 5 without Munchausen
    np.testing.assert_allclose(q, [[expected, expected]], atol=0.03)


@components(2)
def test_contextual_bandit_is_learned(settings: dict[str, Any]) -> None:
    # The contexts are mirror images of each other. With Munchausen, an action that is not the best is worth `share`
    # less, because its log-probability is at the floor of -1.
    world = Bandit({-1: (3.0, -2.0, 0.5), 1: (0.5, -2.0, 3.0)})
    share = settings.get("munchausen", 0.0)
    q = learned(world, Symmetry((0,), (-1,), (2, 1, 0)), [[-1], [1]], **settings)
    np.testing.assert_allclose(q, [[3, -2 - share, 0.5 - share], [0.5 - share, -2 - share, 3]], atol=0.03)
