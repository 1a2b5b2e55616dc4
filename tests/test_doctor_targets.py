"""Test the checks of batches, targets and target networks on agents with one fault, and on sound variants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from doctor_agents import Array, Deep, Linear, examine, ids, updates_of
from perilune.doctor.session import Session
from perilune.doctor.td_reading import neutral_reward


def targets(change: Callable[..., tuple[Array, ...]]) -> dict[str, Any]:
    """Return a change of the columns that the target is computed from."""
    return {"targets": lambda self, *batch: Deep.targets(self, *change(*batch))}


def value(next_value: Callable[[Array, Array], Array]) -> dict[str, Any]:
    """Return a target whose next value is a function of the target network's Q(next_obs, a) and of the action."""
    return {"next_values": lambda self, obs, action, next_obs: next_value(self.target_q_values(next_obs), action)}


def mask(flag: Callable[[Array], bool]) -> dict[str, Any]:
    """Return a target that uses one flag for the whole batch."""
    return targets(
        lambda obs, action, reward, next_obs, end: (obs, action, reward, next_obs, np.full_like(end, flag(end)))
    )


def errors(change: Callable[[Array], None]) -> dict[str, Any]:
    """Return a change of the derivative of the loss (B, A)."""

    def changed(self: Deep, *given: Array) -> Array:
        derivative = Deep.errors(self, *given)
        change(derivative)
        return derivative

    return {"errors": changed}


def uphill(*arrays: int, size: float | None = None) -> dict[str, Any]:
    """Return a step of Adam, or of SGD with the given learning rate, that adds the gradients of some arrays."""

    def step(self: Deep, gradients: list[Array]) -> None:
        signed = [-gradient if index in arrays else gradient for index, gradient in enumerate(gradients)]
        if size is None:
            Deep.step(self, signed)
        else:
            for array, gradient in zip(self.online, signed, strict=True):
                array[...] -= size * gradient

    return {"step": step}


def share(self: Deep) -> None:
    self.target = self.online


def copy_some(*layers: int) -> Callable[[Deep], None]:
    def sync(self: Deep) -> None:
        for layer in layers:
            self.target[layer] = self.online[layer].copy()

    return sync


def own_start(self: Deep, seed: int = 0) -> None:
    Deep.__init__(self, seed)
    self.target = self.network()


def double(self: Deep, obs: Array, action: Array, next_obs: Array) -> Array:
    return self.target_q_values(next_obs)[np.arange(len(obs)), self.q_values(next_obs).argmax(axis=1)]


def softmax(q: Array) -> Array:
    weights = np.exp(q - q.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def values_in_the_first_rows(
    self: Deep, obs: Array, action: Array, reward: Array, next_obs: Array, end: Array
) -> Array:
    """Write the next values of the transitions that are not terminated to the first rows."""
    values = np.zeros(len(obs))
    values[: (~end).sum()] = self.target_q_values(next_obs[~end]).max(axis=1) if not end.all() else 0.0
    return reward + self.gamma * values


def at_obs(self: Deep, obs: Array, action: Array, next_obs: Array) -> Array:
    """Evaluate the greedy action at obs in next_obs."""
    return self.target_q_values(next_obs)[np.arange(len(obs)), self.q_values(obs).argmax(axis=1)]


def one_action_best(self: Deep, seed: int = 0) -> None:
    """Start with networks for which the same action is greedy in almost every state."""
    Deep.__init__(self, seed)
    self.online[-1][0] += 5
    self.target = [array.copy() for array in self.online]


def columns(self: Deep, q: Array, action: Array, targets: Array) -> Array:
    """Train each row on its target for all actions of the batch, as ``q[:, action] = targets[:, None]`` does."""
    errors = np.zeros_like(q)
    errors[:, action] = (q[:, action] - targets[:, None]) / len(q)
    return errors


def on_next_obs(self: Deep, *batch: Array) -> None:
    """Pass the error back through the activations at next_obs."""
    layers = self.forward(self.online, batch[0])
    derivative = self.errors(layers[-1], batch[1], self.targets(*batch))
    self.step(self.backward(self.forward(self.online, np.where(batch[4][:, None], batch[0], batch[3])), derivative))


class Tensor:
    """The part of a PyTorch tensor that the doctor reads."""

    is_leaf = True
    grad = np.ones(3)

    def detach(self) -> Tensor:
        return self

    cpu = detach

    def numpy(self) -> Array:
        return np.ones(3)


def forgets_to_step(self: Deep, *batch: Array) -> None:
    self.tensor = Tensor()


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "action of the first row": (
        "loss.wrong_action",
        {"errors": lambda self, q, action, y: Deep.errors(self, q, np.full_like(action, action[0]), y)},
    ),
    "errors of one sign only": (
        "loss.derivative",
        {"errors": lambda self, *given: np.maximum(Deep.errors(self, *given), 0)},
    ),
    "only the last row": ("loss.rows_ignored", errors(lambda derivative: derivative[:-1].fill(0))),
    "every other row": ("loss.rows_ignored", errors(lambda derivative: derivative[::2].fill(0))),
    "flag of the last row": ("td_target.mask_of_another_row", mask(lambda end: end[-1])),
    "flag of the first row": ("td_target.mask_of_another_row", mask(lambda end: end[0])),
    "any flag": ("td_target.mask_of_another_row", mask(lambda end: end.any())),
    "rewards in another order": ("loss.rows_mixed", targets(lambda o, a, r, n, t: (o, a, np.roll(r, 1), n, t))),
    "next_obs in another order": ("td_target.other_row", targets(lambda o, a, r, n, t: (o, a, r, np.roll(n, 1, 0), t))),
    "next values in the first rows": ("td_target.other_row", {"targets": values_in_the_first_rows}),
    "largest of the batch": ("td_target.batch_axis", value(lambda q, action: np.full(len(q), q.max()))),
    "wrong axis": ("td_target.batch_axis", value(lambda q, action: np.resize(q.max(axis=0), len(q)))),
    "constant added": (
        "td_target.unexplained",
        {"targets": lambda self, *batch: Deep.targets(self, *batch) + 0.5},
    ),
    "scaled rewards and the mean": (
        "td_target.mean",
        {
            "targets": lambda self, o, a, r, n, t: Deep.targets(self, o, a, 0.01 * r, n, t),
            "next_values": lambda self, o, a, n: self.target_q_values(n).mean(axis=1),
        },
    ),
    "discounted rewards": (
        "td_target.reward_discounted",
        targets(lambda o, a, r, n, t: (o, a, Deep.gamma * r, n, t)),
    ),
    "discounted rewards with a gamma of 0.99": (
        "td_target.reward_discounted",
        {"gamma": 0.99} | targets(lambda o, a, r, n, t: (o, a, 0.99 * r, n, t)),
    ),
    "discounted rewards unless terminated": (
        "td_target.reward_discounted",
        targets(lambda o, a, r, n, t: (o, a, np.where(t, 1, Deep.gamma) * r, n, t)),
    ),
    "index": ("td_target.action_number", value(lambda q, action: q.argmax(axis=1).astype(float))),
    "sum": ("td_target.sum", value(lambda q, action: q.sum(axis=1))),
    "probability": ("td_target.probability", value(lambda q, action: softmax(q).max(axis=1))),
    "mean of the two best": ("td_target.unexplained", value(lambda q, action: np.sort(q, axis=1)[:, -2:].mean(axis=1))),
    "square": ("td_target.unexplained", value(lambda q, action: 0.1 * q.max(axis=1) ** 2)),
    "no flag with Double DQN and two random networks": (
        "td_target.no_mask",
        {
            "__init__": own_start,
            "next_values": double,
            "targets": lambda self, o, a, r, n, t: Deep.targets(self, o, a, r, n, np.zeros_like(t)),
        },
    ),
    "greedy action of obs": ("td_target.greedy_at_obs", {"next_values": at_obs}),
    "greedy action of obs with one greedy action": (
        "td_target.greedy_at_obs",
        {"__init__": one_action_best, "next_values": at_obs},
    ),
    "targets in all columns": ("loss.actions_of_other_rows", {"errors": columns}),
    "activations of next_obs": ("backward.next_obs", {"train_batch": on_next_obs}),
    "gradients without a step": ("optimizer.no_step", {"train_batch": forgets_to_step, "run": None}),
    "assignment instead of a copy": ("target_network.shared", {"sync_target": share}),
    "copy of the list only": (
        "target_network.shared",
        {"sync_target": lambda self: setattr(self, "target", list(self.online))},
    ),
    "weights without biases": ("target_network.partly_synced", {"sync_target": copy_some(0, 2, 4)}),
    "last layer only": ("target_network.partly_synced", {"sync_target": copy_some(4, 5)}),
    "first layer in the wrong direction": ("backward.one_sign", uphill(0)),
    "first layer in the wrong direction with SGD": ("backward.one_sign", uphill(0, size=0.01)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_the_only_root_cause(name: str) -> None:
    fault, changes = FAULTS[name]
    report = examine(updates_of(type("Faulty", (Deep,), changes)))
    assert [finding.id for finding in report.roots if finding.severity != "note"] == [fault]


def flowing(mask: bool) -> Callable[..., None]:
    """Return an update without a target network in which the gradient flows through the target."""

    def train_batch(self: Deep, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        here, there = self.forward(self.online, obs), self.forward(self.online, next_obs)
        discount = self.gamma * ~(terminated & mask)
        derivative = self.errors(here[-1], action, reward + discount * there[-1].max(axis=1))
        rows = np.arange(len(obs))
        through = np.zeros_like(derivative)
        through[rows, there[-1].argmax(axis=1)] = -discount * derivative[rows, action]
        pairs = zip(self.backward(here, derivative), self.backward(there, through), strict=True)
        self.step([one + other for one, other in pairs])

    return train_batch


ALONE = {"target_q_values": None, "sync_target": None, "run": None}  # no target network


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_batch": flowing(mask=True)}, {"td_target.gradient_flows", "target_network.none"}),
        (
            {"train_batch": flowing(mask=False)},
            {"td_target.gradient_flows", "target_network.none", "td_target.no_mask"},
        ),
        (
            {"targets": lambda self, o, a, r, n, t: r + self.gamma * self.q_values(n).max(axis=1)},
            {"target_network.none", "td_target.no_mask"},
        ),
    ],
)
def test_faults_of_the_target_are_not_blamed_on_the_backward_pass(changes: dict[str, Any], expected: set[str]) -> None:
    assert set(ids(examine(updates_of(type("Faulty", (Deep,), changes | ALONE))))) == expected


@pytest.mark.parametrize("seed", range(3))
def test_missing_mask_is_found_for_every_seed_of_two_networks(seed: int) -> None:
    changes = FAULTS["no flag with Double DQN and two random networks"][1]
    assert ids(examine(updates_of(type("Faulty", (Deep,), changes)), seed=seed)) == ["td_target.no_mask"]


def rebind(self: Deep, gradients: list[Array]) -> None:
    """Take a step that makes new arrays, as JAX does."""
    self.online = [array.copy() for array in self.online]
    Deep.step(self, gradients)


def two_networks(self: Deep, seed: int = 0) -> None:
    Deep.__init__(self, seed)
    self.other = self.network()


def smaller_of_two(self: Deep, obs: Array, action: Array, next_obs: Array) -> Array:
    return np.minimum(self.target_q_values(next_obs), self.forward(self.other, next_obs)[-1]).max(axis=1)


def polyak(self: Deep) -> None:
    self.target = [target + 0.005 * (online - target) for target, online in zip(self.target, self.online, strict=True)]


def lion(self: Deep, gradients: list[Array]) -> None:
    for array, gradient, m in zip(self.online, gradients, self.by_array(self.moments[0]), strict=True):
        array[...] -= 1e-4 * np.sign(0.9 * m + 0.1 * gradient)
        m[...] += 0.01 * (gradient - m)


def needs_a_running_row(self: Deep, *batch: Array) -> Array:
    """Raise if all transitions of a batch are terminated, as ``torch.cat([])`` does."""
    if batch[4].all():
        raise RuntimeError("expected a non-empty list")
    return Deep.targets(self, *batch)


def double_q_learning(self: Deep, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
    """Train one of two networks, chosen at random (van Hasselt, 2010)."""
    networks = [self.online, self.other]
    one, other = networks if self.rng.random() < 0.5 else networks[::-1]
    choice = self.forward(one, next_obs)[-1].argmax(axis=1)
    values = self.forward(other, next_obs)[-1][np.arange(len(obs)), choice]
    layers = self.forward(one, obs)
    derivative = self.errors(layers[-1], action, reward + self.gamma * ~terminated * values)
    own, self.online = self.online, one
    gradients = self.backward(layers, derivative)
    self.online = own
    for array, gradient in zip(one, gradients, strict=True):
        array[...] -= 0.01 * gradient


def mean_of_two(self: Deep, obs: Array) -> Array:
    return (self.forward(self.online, obs)[-1] + self.forward(self.other, obs)[-1]) / 2


def sgd(self: Deep, gradients: list[Array], decay: float = 0.0) -> None:
    """Take a step of SGD with Nesterov momentum and decoupled weight decay."""
    for array, gradient, m in zip(self.online, gradients, self.by_array(self.moments[0]), strict=True):
        m[...] = 0.9 * m + gradient
        array[...] -= 0.01 * (gradient + 0.9 * m + decay * array)


def decayed(self: Deep, gradients: list[Array]) -> None:
    """Take a step of AdamW with strong weight decay."""
    for array in self.online:
        array[...] *= 1 - 0.1 * self.learning_rate
    Deep.step(self, gradients)


def clipped(limit: float, step: Callable[[Deep, list[Array]], None] = Deep.step) -> dict[str, Any]:
    """Return a step of gradients that are clipped by value."""
    return {"step": lambda self, gradients: step(self, [np.clip(one, -limit, limit) for one in gradients])}


def plain(self: Deep, gradients: list[Array]) -> None:
    for array, gradient in zip(self.online, gradients, strict=True):
        array[...] -= 0.01 * gradient


def rescaled(self: Deep, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Array:
    """Return the target in the units of h (Pohlen et al., arXiv:1805.11593)."""
    q = self.target_q_values(next_obs)
    raw = np.sign(q) * (((np.sqrt(1 + 0.04 * (np.abs(q) + 1.01)) - 1) / 0.02) ** 2 - 1)
    value = reward + self.gamma * ~terminated * raw.max(axis=1)
    return np.sign(value) * (np.sqrt(np.abs(value) + 1) - 1) + 0.01 * value


def munchausen(self: Deep, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Array:
    """Return the target of Munchausen DQN (Vieillard et al., arXiv:2007.14430)."""
    here, there = self.target_q_values(obs), self.target_q_values(next_obs)
    logs = [0.03 * np.log(softmax(q / 0.03) + 1e-30) for q in (here, there)]
    bonus = 0.9 * np.clip(logs[0][np.arange(len(obs)), action], -1, 0)
    return reward + bonus + self.gamma * ~terminated * (softmax(there / 0.03) * (there - logs[1])).sum(axis=1)


class PopArt(Deep):
    """Learns targets of zero mean and unit spread, and preserves its outputs (van Hasselt et al., arXiv:1602.07714)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.mean = self.target_mean = 0.0
        self.square = self.target_spread = 1.0

    @property
    def spread(self) -> float:
        return float(np.sqrt(max(self.square - self.mean**2, 1e-4)))

    def q_values(self, obs: Array) -> Array:
        return super().q_values(obs) * self.spread + self.mean

    def target_q_values(self, obs: Array) -> Array:
        return super().target_q_values(obs) * self.target_spread + self.target_mean

    def sync_target(self) -> None:
        super().sync_target()
        self.target_mean, self.target_spread = self.mean, self.spread

    def train_batch(self, *batch: Array) -> None:
        target, mean, spread = self.targets(*batch), self.mean, self.spread
        self.mean += 0.01 * (target.mean() - self.mean)
        self.square += 0.01 * ((target**2).mean() - self.square)
        self.online[-2] *= spread / self.spread
        self.online[-1][...] = (spread * self.online[-1] + mean - self.mean) / self.spread
        layers = self.forward(self.online, batch[0])
        error = self.errors(layers[-1], batch[1], (target - self.mean) / self.spread)
        self.step(self.backward(layers, error))


class NormalizedRewards(Deep):
    """Divides rewards by the root of their running mean square."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.count = self.square = 1.0

    def targets(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Array:
        self.count += len(reward)
        self.square += ((reward**2).sum() - len(reward) * self.square) / self.count
        return super().targets(obs, action, reward / np.sqrt(self.square), next_obs, terminated)


SOUND: dict[str, dict[str, Any]] = {
    "as it is": {},
    "Double DQN": {"next_values": double},
    "Double DQN with two random networks": {"next_values": double, "__init__": own_start},
    "Polyak averaging": {"sync_target": polyak},
    "one greedy action and a hidden target network": {
        "__init__": one_action_best,
        "target_q_values": None,
        "sync_target": None,
        "next_values": lambda self, obs, action, next_obs: self.forward(self.target, next_obs)[-1].max(axis=1),
        "run": None,
    },
    "log-sum-exp": value(lambda q, action: 0.5 * np.log(np.exp(q / 0.5).sum(axis=1))),
    "mellowmax": value(lambda q, action: np.log(np.exp(q).mean(axis=1))),
    "Boltzmann mean": value(lambda q, action: (softmax(q) * q).sum(axis=1)),
    "Expected SARSA": value(lambda q, action: 0.9 * q.max(axis=1) + 0.1 * q.mean(axis=1)),
    "smaller of two networks": {"__init__": two_networks, "next_values": smaller_of_two},
    "Double Q-learning with two networks": {
        "__init__": two_networks,
        "q_values": mean_of_two,
        "train_batch": double_q_learning,
    }
    | ALONE,
    "Lion": {"step": lion},
    "SGD with Nesterov momentum": {"step": sgd},
    "decoupled weight decay": {"step": decayed},
    "decoupled weight decay of SGD": {"step": lambda self, gradients: sgd(self, gradients, decay=0.01)},
    "value rescaling": {"targets": rescaled},
    "Munchausen DQN": {"targets": munchausen},
    "SGD with gradients that are clipped at 0.1": clipped(0.1, plain),
    "scaled rewards": targets(lambda o, a, r, n, t: (o, a, 0.01 * r, n, t)),
    "a batch that needs a transition that is not terminated": {"targets": needs_a_running_row},
    "shared arrays that updates replace": {
        "step": rebind,
        "sync_target": lambda self: setattr(self, "target", list(self.online)),
    },
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_variant_has_no_finding(name: str) -> None:
    assert ids(examine(updates_of(type("Sound", (Deep,), SOUND[name])))) == []


LOOPS = {"as it is", "Double DQN", "Polyak averaging", "shared arrays that updates replace"}


@pytest.mark.parametrize(
    "name", [name if name in LOOPS else pytest.param(name, marks=pytest.mark.long) for name in SOUND]
)
def test_sound_variant_with_training_loop_has_no_finding(name: str) -> None:
    assert ids(examine(type("Sound", (Deep,), SOUND[name]))) == []


@pytest.mark.parametrize("agent", [PopArt, NormalizedRewards])
def test_agent_with_running_statistics_has_no_finding(agent: type[Deep]) -> None:
    assert ids(examine(agent)) == []


@pytest.mark.parametrize("step", [Deep.step, plain])
@pytest.mark.parametrize(("limit", "noted"), [(1.0, False), (0.01, False), (1e-3, True), (1e-5, True)])
def test_small_limit_of_gradients_is_noted(step: Callable[..., None], limit: float, noted: bool) -> None:
    report = examine(updates_of(type("Clipping", (Deep,), clipped(limit, step))))
    assert ids(report) == []
    assert ("optimizer.clips_values" in [finding.id for finding in report.findings]) == noted
    assert "optimizer" not in [check.check for check in report.not_run if "No known optimizer" in check.why]


def test_agents_that_share_state_are_not_judged() -> None:
    network = Deep().online

    class Shared(Deep):
        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed)
            self.online = network

    class Module(Shared):
        def __deepcopy__(self, memo: Any) -> Deep:
            return self

    report = examine(Module)
    assert report.outcome == "cannot run"
    assert "share state" in report.not_run[0].why


class Leaky(Deep):
    """Leaky ReLU units. The smallest gradients are 0.0001 times the largest, and Adam's first steps are equal."""

    @staticmethod
    def forward(arrays: list[Array], obs: Array) -> list[Array]:
        w1, b1, w2, b2, w3, b3 = arrays
        first = obs @ w1 + b1
        first = np.where(first > 0, first, 0.01 * first)
        second = first @ w2 + b2
        second = np.where(second > 0, second, 0.01 * second)
        return [obs, first, second, second @ w3 + b3]

    def backward(self, layers: list[Array], errors: Array) -> list[Array]:
        gradients: list[Array] = []
        for weights, inputs in zip(self.online[-2::-2], reversed(layers[:-1]), strict=True):
            gradients = [inputs.T @ errors, errors.sum(axis=0), *gradients]
            errors = (errors @ weights.T) * np.where(inputs > 0, 1.0, 0.01)
        return gradients


class FixedStatistics(Deep):
    """Normalizes observations with a mean of 0 and a standard deviation, which updates do not change."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.mean, self.std = np.zeros(6), np.full(6, 2.0)

    def q_values(self, obs: Array) -> Array:
        return super().q_values((obs - self.mean) / self.std)

    def target_q_values(self, obs: Array) -> Array:
        return super().target_q_values((obs - self.mean) / self.std)

    def train_batch(self, obs: Array, *rest: Array) -> None:
        super().train_batch((obs - self.mean) / self.std, *rest)


@pytest.mark.parametrize("agent", [Leaky, FixedStatistics])
def test_sound_network_has_no_fault(agent: type[Deep]) -> None:
    assert ids(examine(updates_of(agent))) == []


def test_errors_of_both_signs_that_move_q_up_are_found() -> None:
    def errors(self: Deep, *given: Array) -> Array:
        derivative = Deep.errors(self, *given)
        return np.where(np.abs(derivative) * len(derivative) < 1, derivative, (derivative != 0) / len(derivative))

    found = examine(updates_of(type("Faulty", (Deep,), {"errors": errors}))).roots
    assert [finding.id for finding in found] == ["loss.derivative"]


def test_scaled_rewards_are_a_note() -> None:
    report = examine(updates_of(type("Scaled", (Deep,), SOUND["scaled rewards"])))
    assert [finding.id for finding in report.findings] == ["td_target.reward_scaled"]


def test_search_for_a_target_tries_each_reward_once() -> None:
    rewards: list[float] = []

    class Recording(Deep):
        def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, end: Array) -> None:
            rewards.append(float(reward[0]))
            super().train_batch(obs, action, reward, next_obs, end)

    session = Session(Recording, 0, np.random.default_rng(0), observation_size=6, actions=3, deepcopy=True)
    agent, transition = session.new_copy(), session.transitions(1)
    q = float(agent.q_taken(transition)[0])
    assert neutral_reward(agent, transition, 1.0) == pytest.approx(q, abs=1e-3)
    assert len(rewards) == len(set(rewards))


class ZeroStart(Linear):
    """Linear Q-learning as in textbooks: weights of 0, one step for each transition, and no target network."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.w = np.zeros_like(self.w)

    def bootstrap(self, next_obs: Array, terminated: bool) -> float:
        return 0.0 if terminated else self.gamma * self.q_values(next_obs).max()

    def train_batch(self, *batch: Array) -> None:
        for obs, action, reward, next_obs, terminated in zip(*batch, strict=True):
            error = reward + self.bootstrap(next_obs, terminated) - self.q_values(obs)[action]
            self.w[:, action] += 0.01 * error * obs
            self.b[action] += 0.01 * error


def test_linear_agent_whose_weights_start_at_zero_is_examined() -> None:
    unmasked = {"bootstrap": lambda self, next_obs, terminated: self.gamma * self.q_values(next_obs).max()}
    assert examine(ZeroStart).outcome == "healthy"
    assert ids(examine(type("Unmasked", (ZeroStart,), unmasked))) == ["td_target.no_mask"]
