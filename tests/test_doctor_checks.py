"""Test the checks on unusual sound agents and on agents with one fault each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctor_agents import Array, Complete, Linear, examine, ids, target_of
from perilune.doctor import catalogue
from perilune.doctor.checks import loop as loops


def target_q(agent: Linear, obs: Array) -> Array:
    return obs @ agent.target[0] + agent.target[1]


def backwards(self: Complete) -> None:
    self.w, self.b = self.target[0].copy(), self.target[1].copy()


def fail(*_: Any) -> None:
    raise KeyError("oh no")


def rounded(self: Complete, n: int) -> tuple[Array, ...]:
    obs, *rest = Complete.sample(self, n)
    return np.round(obs), *rest


def acts(random_action: Callable[[Complete], float]) -> Callable[..., int]:
    """Return an epsilon-greedy ``act`` with this random action."""

    def act(self: Complete, obs: Array, epsilon: float) -> int:
        return int(random_action(self)) if self.rng.random() < epsilon else int(self.q_values(obs).argmax())

    return act


def apart(self: Complete, seed: int = 0) -> None:
    Complete.__init__(self, seed)
    self.target = self.target[0] + 0.5, self.target[1]


def never_ended(self: Complete, *transition: Any) -> None:
    *rest, _, truncated = transition
    Complete.remember(self, *rest, terminated=False, truncated=truncated)


def clipped_away(self: Complete, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
    target = reward + self.gamma * ~terminated * target_q(self, next_obs).max(axis=1)
    small = np.abs(target - self.q_values(obs)[np.arange(len(action)), action]) < 1
    if small.any():
        Linear.train_batch(self, *(column[small] for column in (obs, action, reward, next_obs, terminated)))


FAULTY: dict[str, dict[str, Any]] = {
    "loss.no_update": {"train_batch": lambda self, *batch: None},
    "loss.clipped_away": {"train_batch": clipped_away},
    "forward.shape": {"q_values": lambda self, obs: Linear.q_values(self, obs)[:, :, None]},
    "backward.raises": {"gradients": fail, "parameters": lambda self: {"w": self.w, "b": self.b}},
    "td_target.no_reward": {
        "train_batch": lambda self, *batch: Linear.train_batch(self, *batch[:2], 0 * batch[2], *batch[3:])
    },
    "target_network.backwards": {"sync_target": backwards},
    "target_network.differs_at_start": {"__init__": apart},
    "target_network.sync_not_reached": {"after": lambda self, step: step < 32 or self.train_batch(*self.sample(32))},
    "replay.changes_observations": {"sample": rounded},
    "exploration.out_of_range": {"act": acts(lambda self: self.rng.integers(3))},
    "exploration.not_greedy": {
        "act": lambda self, obs, epsilon: int(obs[0] > 0) if epsilon == 0 else Complete.act(self, obs, epsilon)
    },
    "exploration.never_random": {"act": acts(lambda self: 1)},
    "exploration.uneven": {"act": acts(lambda self: self.rng.random() < 0.2)},
    "exploration.epsilon_ignored": {"act": lambda self, obs, epsilon: Complete.act(self, obs, float(epsilon > 0))},
    "exploration.stuck": {"epsilon_steps": 1e9},
    "exploration.never_explores": {"epsilon_steps": 1e-9, "epsilon_end": 0.0},
    "loop.termination_lost": {"remember": never_ended},
    "loop.never_learns": {"after": lambda self, step: None},
}
NEXT_VALUES: dict[str, Callable[[Any, Array, Array, Array], Array]] = {
    "td_target.no_bootstrap": lambda agent, obs, action, next_obs: 0.0,
    "td_target.min": lambda agent, obs, action, next_obs: target_q(agent, next_obs).min(axis=1),
    "td_target.same_state": lambda agent, obs, action, next_obs: target_q(agent, obs).max(axis=1),
    "td_target.n_step": lambda agent, obs, action, next_obs: 0.81 * target_q(agent, next_obs).max(axis=1),
    "target_network.none": lambda agent, obs, action, next_obs: agent.q_values(next_obs).max(axis=1),
}
FAULTY |= {name: {"train_batch": target_of(next_value)} for name, next_value in NEXT_VALUES.items()}


class Normalizing(Linear):
    """Normalizes observations by their running statistics."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.mean, self.spread, self.count = np.zeros(4), np.ones(4), 1.0

    def normal(self, obs: Array) -> Array:
        return (obs - self.mean) / self.spread

    def q_values(self, obs: Array) -> Array:
        return super().q_values(self.normal(obs))

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        self.count += len(obs)
        self.mean += len(obs) / self.count * (obs.mean(axis=0) - self.mean)
        self.spread += len(obs) / self.count * (np.sqrt(((obs - self.mean) ** 2).mean(axis=0)) + 0.1 - self.spread)
        super().train_batch(self.normal(obs), action, reward, self.normal(next_obs), terminated)


class Scaling(Linear):
    """Divides observations by constants."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.scale = np.array([1.0, 2.0, 4.0, 8.0])

    def q_values(self, obs: Array) -> Array:
        return super().q_values(obs / self.scale)

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        super().train_batch(obs / self.scale, action, reward, next_obs / self.scale, terminated)


class ManySteps(Linear):
    """Takes four steps on each batch."""

    def train_batch(self, *batch: Array) -> None:
        for _ in range(4):
            super().train_batch(*batch)


class OwnReplay(Linear):
    """Stores batches in its own replay buffer and samples from it."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.memory: list[tuple[Any, ...]] = []
        self.rng = np.random.default_rng(seed)

    def train_batch(self, *batch: Array) -> None:
        self.memory += list(zip(*batch, strict=True))
        if len(self.memory) >= 64:
            rows = self.rng.integers(len(self.memory), size=64)
            super().train_batch(*(np.array(column) for column in zip(*(self.memory[row] for row in rows), strict=True)))


class CollectsBatches(Linear):
    """Learns from three batches in every third call."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.batches: list[tuple[Array, ...]] = []

    def train_batch(self, *batch: Array) -> None:
        self.batches.append(batch)
        if len(self.batches) == 3:
            super().train_batch(*(np.concatenate(column) for column in zip(*self.batches, strict=True)))
            self.batches = []


class SyncsFirst(Linear):
    """Syncs at the start of every hundredth update, including the first."""

    updates = 0

    def sync(self) -> None:
        if self.updates % 100 == 0:
            self.target = self.w.copy(), self.b.copy()
        self.updates += 1

    def train_batch(self, *batch: Array) -> None:
        self.sync()
        super().train_batch(*batch)


class SyncsLast(Complete):
    """Syncs at the end of every hundredth update, including the first."""

    updates = 0

    def train_batch(self, *batch: Array) -> None:
        super().train_batch(*batch)
        SyncsFirst.sync(self)  # type: ignore[arg-type]


class Optimistic(Linear):
    """Starts with Q-values around 100."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.b += 100
        self.target = self.w.copy(), self.b.copy()


class GradientsOfClippedRewards(Complete):
    """Has loss() and gradients(). Clips rewards in the target, so the loss ignores the size of large rewards."""

    def error(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Array:
        target = np.clip(reward, -1, 1) + self.gamma * ~terminated * target_q(self, next_obs).max(axis=1)
        return self.q_values(obs)[np.arange(len(action)), action] - target

    def loss(self, *batch: Array) -> float:
        return float((self.error(*batch) ** 2).mean() / 2)

    def parameters(self) -> dict[str, Array]:
        return {"w": self.w, "b": self.b}

    def gradients(self, obs: Array, action: Array, *rest: Array) -> dict[str, Array]:
        error = np.zeros((len(action), 2))
        error[np.arange(len(action)), action] = self.error(obs, action, *rest) / len(action)
        return {"w": obs.T @ error, "b": error.sum(axis=0)}

    def train_batch(self, *batch: Array) -> None:
        for name, gradient in self.gradients(*batch).items():
            getattr(self, name)[...] -= 0.01 * gradient


class WithGradients(GradientsOfClippedRewards):
    """Weights the transitions of a batch by their position."""

    weights = np.ones(1)
    loss = None  # type: ignore[assignment]

    def error(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Array:
        target = reward + self.gamma * ~terminated * target_q(self, next_obs).max(axis=1)
        error = self.q_values(obs)[np.arange(len(action)), action] - target
        return error * np.resize(self.weights, len(action)) if len(action) > 1 else error


@pytest.mark.parametrize(
    ("weights", "fault"),
    [
        ([1, 1, 1, 1, 1, 3], "loss.unequal_rows"),
        ([1, 0.9, 0.8, 0.7, 0.5, 0.3], "loss.unequal_rows"),
        ([1, -1, 1, 1, 1, 1], "loss.rows_mixed"),
    ],
)
def test_transitions_with_unequal_shares_in_the_gradient_are_found(weights: list[float], fault: str) -> None:
    assert ids(examine(type("Unequal", (WithGradients,), {"weights": np.array(weights)}))) == [fault]


class Hysteretic(WithGradients):
    """Learns slowly from disappointments, as in hysteretic Q-learning."""

    def error(self, *batch: Array) -> Array:
        error = super().error(*batch)
        return np.where(error > 0, 0.5 * error, error)


class LossOfTheFirst(GradientsOfClippedRewards):
    """The lambda function in ``loss`` keeps this agent, so a deep copy has the loss of another agent."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.loss = lambda *batch: GradientsOfClippedRewards.loss(self, *batch)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "agent",
    [
        *(Normalizing, Scaling, ManySteps, OwnReplay, CollectsBatches, SyncsFirst, SyncsLast),
        *(Optimistic, GradientsOfClippedRewards, LossOfTheFirst, WithGradients, Hysteretic),
    ],
)
def test_unusual_sound_agent_has_no_fault(agent: type[Linear]) -> None:
    assert examine(agent).faults == []


def test_sound_agent_with_all_methods_passes_every_check() -> None:
    report = examine(Complete)
    assert report.findings == []
    assert report.not_run == []


def test_shared_memory_finding_names_the_arrays() -> None:
    class Shared(Complete):
        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed)
            self.sync_target()

        def sync_target(self) -> None:
            self.target = self.w, self.b.copy()

        def parameters(self) -> dict[str, Array]:
            return {"w": self.w, "b": self.b}

        def target_parameters(self) -> dict[str, Array]:
            return {"w": self.target[0], "b": self.target[1]}

    found = {finding.id: finding for finding in examine(Shared).findings}
    assert "share memory: w and w" in found["target_network.shared"].evidence


@pytest.mark.parametrize("fault", FAULTY)
def test_fault_is_found_as_the_root_cause(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LONG_RUN_STEPS", 3 * loops.RUN_STEPS)
    monkeypatch.setattr(loops, "NEVER_STEPS", 2 * loops.LONG_RUN_STEPS)
    report = examine(type("Faulty", (Complete,), FAULTY[fault]))
    found = {finding.id: finding for finding in report.findings}
    assert fault in found
    assert found[fault].caused_by is None
    others = [one for one in report.findings if one.id != fault and one.severity != "note"]
    assert all(one.caused_by == fault for one in others), [str(one) for one in others]


def test_every_finding_of_the_catalogue_is_tested() -> None:
    here = Path(__file__).parent
    files = [*here.glob("test_doctor*.py"), here.parent / "benchmarks" / "doctor" / "runner.py"]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    raising = {"forward", "loss", "target_network", "exploration", "replay", "loop"}  # test_doctor_adapters
    untested = {name for name in catalogue.entries() if f'"{name}"' not in code}
    assert untested <= {f"{part}.raises" for part in raising}
