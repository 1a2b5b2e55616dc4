"""Test the problems that the doctor lets agents learn, and the checks of hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from doctor_agents import Array, Complete, Deep, Linear, examine, ids, updates_of
from perilune.doctor import session
from perilune.doctor.checks import interface, probe
from perilune.doctor.report import Finding, Passed
from perilune.doctor.td_reading import require_regression

ALL = 7  # problems


class Distributional(Deep):
    """Learns a distribution of each return: ``outputs`` numbers per action. Subclasses define its mean and its loss."""

    outputs = 21

    def network(self) -> list[Array]:
        actions, self.actions = self.actions, self.actions * self.outputs
        arrays = super().network()
        self.actions = actions
        return arrays

    def parts(self, arrays: list[Array], obs: Array) -> Array:
        """Return the outputs per action, (N, A, outputs)."""
        return self.forward(arrays, obs)[-1].reshape(len(obs), self.actions, self.outputs)

    def q_values(self, obs: Array) -> Array:
        return self.mean(self.parts(self.online, obs))

    def target_q_values(self, obs: Array) -> Array:
        return self.mean(self.parts(self.target, obs))

    def next_action(self, next_obs: Array) -> Array:
        return self.target_q_values(next_obs).argmax(axis=1)

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        rows = np.arange(len(action))
        following = self.parts(self.target, next_obs)[rows, self.next_action(next_obs)]
        layers = self.forward(self.online, obs)
        parts = layers[-1].reshape(len(obs), self.actions, self.outputs)
        errors = np.zeros_like(parts)
        errors[rows, action] = self.slope(parts[rows, action], following, reward, self.discounts(terminated)) / len(
            rows
        )
        self.step(self.backward(layers, errors.reshape(len(rows), -1)))

    def discounts(self, terminated: Array) -> Array:
        return self.gamma * ~terminated


class Quantiles(Distributional):
    """QR-DQN: each output is a quantile of the return."""

    def mean(self, parts: Array) -> Array:
        return parts.mean(axis=-1)

    def slope(self, parts: Array, following: Array, reward: Array, discount: Array) -> Array:
        errors = parts[:, :, None] - (reward[:, None] + discount[:, None] * following)[:, None, :]
        share = (np.arange(self.outputs) + 0.5) / self.outputs
        weights = np.abs(share[None, :, None] - (errors > 0))
        return (weights * np.clip(errors, -1, 1)).mean(axis=2)


class Categorical(Distributional):
    """C51: the outputs are the logits of fixed returns."""

    support = np.linspace(-10, 10, 21)

    def probabilities(self, parts: Array) -> Array:
        odds = np.exp(parts - parts.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)

    def mean(self, parts: Array) -> Array:
        return self.probabilities(parts) @ self.support

    def slope(self, parts: Array, following: Array, reward: Array, discount: Array) -> Array:
        low, high = self.support[[0, -1]]
        returns = np.clip(reward[:, None] + discount[:, None] * self.support, low, high)
        near = 1 - np.abs(returns[:, :, None] - self.support) / (self.support[1] - low)
        target = (self.probabilities(following)[:, :, None] * self.projection(near)).sum(axis=1)
        return self.probabilities(parts) * target.sum(axis=-1, keepdims=True) - target

    def projection(self, near: Array) -> Array:
        return np.maximum(near, 0)


class Noisy(Deep):
    """Adds noise to the biases in every call, as in NoisyNets."""

    def q_values(self, obs: Array) -> Array:
        return super().q_values(obs) + 0.1 * np.random.standard_normal(self.actions)  # noqa: NPY002


class Double(Deep):
    def next_values(self, obs: Array, action: Array, next_obs: Array) -> Array:
        best = self.q_values(next_obs).argmax(axis=1)
        return self.target_q_values(next_obs)[np.arange(len(best)), best]


class Munchausen(Deep):
    def targets(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Array:
        def log_policy(obs: Array) -> Array:
            q = self.target_q_values(obs)
            shifted = q - q.max(axis=1, keepdims=True)
            return shifted - 0.03 * np.log(np.exp(shifted / 0.03).sum(axis=1, keepdims=True))

        bonus = 0.9 * np.clip(log_policy(obs)[np.arange(len(action)), action], -1, 0)
        policy = np.exp(log_policy(next_obs) / 0.03)
        following = (policy * (self.target_q_values(next_obs) - log_policy(next_obs))).sum(axis=1)
        return reward + bonus + self.gamma * ~terminated * following


class NStep(Deep):
    n_step = 3

    def next_values(self, obs: Array, action: Array, next_obs: Array) -> Array:
        return self.gamma**2 * super().next_values(obs, action, next_obs)


class Sgd(Deep):
    learning_rate = 0.02

    def step(self, gradients: list[Array]) -> None:
        for array, gradient in zip(self.online, gradients, strict=True):
            array[...] -= self.learning_rate * gradient


class Huber(Deep):
    def errors(self, q: Array, action: Array, targets: Array) -> Array:
        return np.clip(super().errors(q, action, targets) * len(action), -1, 1) / len(action)


def reward_changed(change: Callable[[Array], Array], base: type = Deep) -> type:
    """Return an agent that learns from changed rewards."""

    def train_batch(self: Any, obs: Array, action: Array, reward: Array, *rest: Array) -> None:
        base.train_batch(self, obs, action, change(reward), *rest)  # type: ignore[attr-defined]

    return type("Changed", (base,), {"train_batch": train_batch})


class Polyak(Deep):
    def sync_target(self) -> None:
        self.target = [0.99 * one + 0.01 * other for one, other in zip(self.target, self.online, strict=True)]


class SyncsInside(Deep):
    sync_target = run = None  # type: ignore[assignment]

    def train_batch(self, *batch: Array) -> None:
        super().train_batch(*batch)
        if self.updates % 50 == 0:
            Deep.sync_target(self)


class Table(Linear):
    """Tabular Q-learning on the signs of the observation, with values that start at 0."""

    masked = True

    def __init__(self, seed: int = 0) -> None:
        self.table = np.zeros((16, 2))

    def cells(self, obs: Array) -> Array:
        return np.asarray((obs > 0) @ [1, 2, 4, 8])

    def q_values(self, obs: Array) -> Array:
        return self.table[self.cells(obs)]

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        for cell, one, value, after, end in zip(
            self.cells(obs), action, reward, self.cells(next_obs), terminated, strict=True
        ):
            bootstrap = self.gamma * self.table[after].max() * (not (self.masked and end))
            self.table[cell, one] += 0.1 * (value + bootstrap - self.table[cell, one])


class ScaledTable(Table):
    def train_batch(self, obs: Array, action: Array, reward: Array, *rest: Array) -> None:
        super().train_batch(obs, action, 8 * reward, *rest)


def climb(make: Callable[..., Any]) -> list[Finding | Passed | str]:
    """Run the check of the problems, after those that it needs."""
    checked = session.Session(make, 0, np.random.default_rng(0))
    list(interface.check_interface(checked, checked.new_copy()))
    results: list[Finding | Passed | str] = []
    try:
        require_regression(checked)
    except session.CannotTell:
        assert checked.not_regression
    try:
        results += probe.check_probe_problems(checked, checked.new_copy())
    except session.CannotTell as reason:
        results.append(str(reason))
    return results


@pytest.mark.parametrize(
    "agent",
    [
        *(Complete, Deep, Sgd, Huber, Double, Noisy, Polyak, SyncsInside, Quantiles, Categorical),
        type("Slow", (Deep,), {"learning_rate": 2.5e-4}),
        type("Fast", (Deep,), {"learning_rate": 1e-2}),
        NStep,
        Munchausen,
        Table,
        type("Wide", (Categorical,), {"support": np.linspace(-30, 30, 21)}),
    ],
)
def test_sound_agent_learns_every_problem(agent: type) -> None:
    results = climb(agent)
    assert [str(one) for one in results if not isinstance(one, Passed)] == []
    assert len(results) >= ALL
    assert "learns the value of a constant reward of 3" in [one.text for one in results if isinstance(one, Passed)]


@pytest.mark.parametrize(
    "agent",
    [
        reward_changed(lambda reward: np.clip(reward, -1, 1)),
        reward_changed(np.sign),
        reward_changed(np.sign, Categorical),
        type("Narrow", (Categorical,), {"support": np.linspace(-1.2, 1.2, 21)}),
        type("Bounded", (Deep,), {"targets": lambda self, *batch: np.clip(Deep.targets(self, *batch), -2, 2)}),
    ],
)
def test_agent_whose_values_are_limited_gets_a_note(agent: type) -> None:
    results = climb(agent)
    assert [one.id for one in results if isinstance(one, Finding)] == ["td_target.values_limited"]
    assert sum(isinstance(one, Passed) for one in results) >= ALL


class Unequal(Deep):
    """Multiplies the outputs by ``mixing``, (A, A)."""

    mixing = np.eye(3)

    def q_values(self, obs: Array) -> Array:
        return super().q_values(obs) @ self.mixing

    def target_q_values(self, obs: Array) -> Array:
        return super().target_q_values(obs) @ self.mixing

    def train_batch(self, *batch: Array) -> None:
        layers = self.forward(self.online, batch[0])
        errors = self.errors(layers[-1] @ self.mixing, batch[1], self.targets(*batch))
        self.step(self.backward(layers, errors @ self.mixing.T))

    def step(self, gradients: list[Array]) -> None:
        Sgd.step(self, gradients)  # type: ignore[arg-type]

    learning_rate = 0.02


class Additive(Deep):
    """Adds a value of the state and a value of the action."""

    @staticmethod
    def forward(arrays: list[Array], obs: Array) -> list[Array]:
        *hidden, _ = Deep.forward(arrays, obs)
        return [*hidden, (hidden[-1] @ arrays[-2]).mean(axis=1, keepdims=True) + arrays[-1]]

    def backward(self, layers: list[Array], errors: Array) -> list[Array]:
        shared = np.repeat(errors.mean(axis=1, keepdims=True), self.actions, axis=1)
        return [*super().backward(layers, shared)[:-1], errors.sum(axis=0)]


class Blind(Deep):
    """Divides observations by far too large a number."""

    @staticmethod
    def forward(arrays: list[Array], obs: Array) -> list[Array]:
        return Deep.forward(arrays, obs * 1e-8)


class LastFlag(Categorical):
    def discounts(self, terminated: Array) -> Array:
        return self.gamma * ~terminated[[-1]].repeat(len(terminated))


class Rolled(Categorical):
    def train_batch(self, obs: Array, action: Array, reward: Array, *rest: Array) -> None:
        super().train_batch(obs, action, np.roll(reward, 1), *rest)


def with_(base: type, **members: Any) -> type:
    return type("Faulty", (base,), members)


def fading(decay: float) -> Any:
    def step(self: Any, gradients: list[Array]) -> None:
        self.learning_rate *= decay
        Deep.step(self, gradients)

    return step


FAULTY: dict[str, list[type]] = {
    "td_target.probe_constant": [
        reward_changed(lambda reward: np.maximum(reward, 0)),
        reward_changed(lambda reward: np.maximum(reward, 0), Categorical),
        reward_changed(lambda reward: reward + 0.5),
        reward_changed(lambda reward: reward + 0.5, Quantiles),
        with_(Deep, targets=lambda self, *batch: np.clip(Deep.targets(self, *batch), 0, 1)),
    ],
    "forward.probe_observation": [Blind],
    "loss.probe_action": [with_(Unequal, mixing=np.ones((3, 3)) / 3 + 1e-4 * np.eye(3))],
    "forward.probe_both": [Additive],
    "loss.probe_rows": [Rolled],
    "td_target.probe_ends": [LastFlag],
    "td_target.probe_mask": [with_(Table, masked=False), with_(Table, masked=False, gamma=0.99)],
    "td_target.probe_discount": [
        with_(Categorical, discounts=lambda self, terminated: 0.8 * ~terminated),
        with_(Quantiles, discounts=lambda self, terminated: 0.8 * ~terminated),
    ],
    "td_target.probe_best": [
        with_(Categorical, next_action=lambda self, next_obs: self.target_q_values(next_obs).argmin(axis=1)),
        with_(Quantiles, next_action=lambda self, next_obs: self.target_q_values(next_obs).argmin(axis=1)),
    ],
}
HYPERPARAMETERS: dict[str, list[type]] = {
    "hyperparameters.gamma": [with_(Linear, gamma=1.01), with_(Deep, gamma=-0.9)],
    "hyperparameters.too_slow": [with_(Sgd, learning_rate=1e-8), with_(Deep, learning_rate=1e-9)],
    "hyperparameters.fades": [with_(Deep, step=fading(0.95)), with_(Deep, step=fading(0.995))],
}


def by_fault(faults: dict[str, list[type]]) -> list[Any]:
    return [pytest.param(fault, agent, id=f"{fault} {n}") for fault in faults for n, agent in enumerate(faults[fault])]


@pytest.mark.parametrize(("fault", "agent"), by_fault(FAULTY))
def test_agent_that_learns_wrong_values_fails_the_problem(fault: str, agent: type) -> None:
    assert [one.id for one in climb(agent) if isinstance(one, Finding)] == [fault]


@pytest.mark.parametrize(
    ("fault", "number"), [("td_target.probe_constant", -1), ("td_target.probe_discount", 0), ("forward.probe_both", 0)]
)
def test_fault_that_single_updates_do_not_reveal_is_found(fault: str, number: int) -> None:
    assert ids(examine(updates_of(FAULTY[fault][number]))) == [fault]


@pytest.mark.parametrize(("fault", "agent"), by_fault(HYPERPARAMETERS))
def test_hyperparameter_with_which_no_agent_learns_is_found(fault: str, agent: type) -> None:
    assert ids(examine(updates_of(agent))) == [fault]


@pytest.mark.parametrize("agent", [Categorical, Quantiles])
def test_sound_agent_that_learns_distributions_is_healthy(agent: type) -> None:
    assert examine(agent).outcome == "healthy"


def test_table_with_scaled_rewards_learns_every_problem() -> None:
    assert sum(isinstance(one, Passed) for one in climb(ScaledTable)) >= ALL


@pytest.mark.parametrize("atoms", [21, 51])
def test_projection_that_loses_mass_on_atoms_is_found(atoms: int) -> None:
    def projection(self: Any, near: Array) -> Array:
        return np.where(near > 1 - 1e-9, 0, np.maximum(near, 0))

    faulty = with_(Categorical, projection=projection, outputs=atoms, support=np.linspace(-10, 10, atoms))
    assert "td_target.mass_lost" in ids(examine(faulty))


def test_learning_rate_that_falls_slowly_has_no_finding() -> None:
    assert ids(examine(updates_of(with_(Deep, step=fading(0.998))))) == []


@pytest.mark.parametrize(
    "agent", [Linear, with_(Categorical, support=np.linspace(0, 10, 21)), with_(Deep, learning_rate=1e-5)]
)
def test_problem_that_cannot_be_judged_is_not_a_finding(agent: type) -> None:
    results = climb(agent)
    assert not [one for one in results if isinstance(one, Finding)]
    assert any(isinstance(one, str) for one in results)


def test_agent_with_another_finding_gets_no_second_one() -> None:
    faulty = with_(Deep, targets=lambda self, *batch: 0.5 * Deep.targets(self, *batch[:4], batch[4] | True))
    report = examine(updates_of(faulty))
    assert not [one for one in ids(report) if ".probe_" in one]
