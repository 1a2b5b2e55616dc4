"""Every check on a healthy agent and on sick ones: the smallest agent that has everything, with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perilune import doctor
from perilune.bench.doctor import FAULTS
from perilune.doctor import catalogue
from perilune.errors import ExaminationError
from test_doctor_patients import Array, Linear, examine


class Whole(Linear):
    """Linear Q-learning with every method that a patient can have."""

    epsilon_falls = 500  # steps
    epsilon_end = 0.05

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.rng = np.random.default_rng(seed)
        self.memory: list[tuple[Any, ...]] = []

    def target_q_values(self, obs: Array) -> Array:
        return obs @ self.target[0] + self.target[1]

    def sync_target(self) -> None:
        self.target = self.w.copy(), self.b.copy()

    def act(self, obs: Array, epsilon: float) -> int:
        if self.rng.random() < epsilon:
            return int(self.rng.integers(2))
        return int(self.q_values(obs).argmax())

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> None:
        self.memory.append((obs, action, reward, next_obs, terminated))

    def sample(self, n: int) -> tuple[Array, ...]:
        rows = self.rng.integers(len(self.memory), size=n)
        return tuple(np.array(column) for column in zip(*(self.memory[row] for row in rows), strict=True))

    def run(self, env: Any, env_steps: int) -> None:
        obs, _ = env.reset()
        for step in range(env_steps):
            action = self.act(obs, max(self.epsilon_end, 1 - step / self.epsilon_falls))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated, truncated)
            obs = env.reset()[0] if terminated or truncated else next_obs
            self.after(step)

    def after(self, step: int) -> None:
        if step >= 32:
            self.train_batch(*self.sample(32))
        if step % 200 == 0:
            self.sync_target()


def target_of(next_value: Callable[[Linear, Array, Array, Array], Array]) -> Callable[..., None]:
    """train_batch of an agent whose next value is ``next_value(agent, obs, action, next_obs)``."""

    def train_batch(self: Linear, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        wrong = reward + self.gamma * ~terminated * next_value(self, obs, action, next_obs)
        Linear.train_batch(self, obs, action, wrong, next_obs, np.ones_like(terminated))

    return train_batch


def target_q(agent: Linear, obs: Array) -> Array:
    return obs @ agent.target[0] + agent.target[1]


def without_reward(self: Linear, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
    Linear.train_batch(self, obs, action, 0 * reward, next_obs, terminated)


def backwards(self: Whole) -> None:
    self.w, self.b = self.target[0].copy(), self.target[1].copy()


def hang(*_: Any) -> None:
    while True:
        pass


def fail(*_: Any) -> None:
    raise KeyError("oh no")


def rounded(self: Whole, n: int) -> tuple[Array, ...]:
    obs, *rest = Whole.sample(self, n)
    return np.round(obs), *rest


def same_twice(self: Whole, obs: Array, epsilon: float) -> int:
    return int(self.q_values(obs).argmax()) if epsilon < 1 else 1


def seldom(self: Whole, obs: Array, epsilon: float) -> int:
    return int(self.rng.random() < 0.2) if self.rng.random() < epsilon else int(self.q_values(obs).argmax())


def all_or_nothing(self: Whole, obs: Array, epsilon: float) -> int:
    return Whole.act(self, obs, float(epsilon > 0))


def one_too_many(self: Whole, obs: Array, epsilon: float) -> int:
    return int(self.rng.integers(3)) if self.rng.random() < epsilon else int(self.q_values(obs).argmax())


def apart(self: Whole, seed: int = 0) -> None:
    Whole.__init__(self, seed)
    self.target = self.target[0] + 0.5, self.target[1]


def first_entry(self: Whole, obs: Array, epsilon: float) -> int:
    return int(obs[0] > 0) if epsilon == 0 else Whole.act(self, obs, epsilon)


def never_ended(self: Whole, *transition: Any) -> None:
    *rest, _, truncated = transition
    Whole.remember(self, *rest, terminated=False, truncated=truncated)


def clipped_away(self: Whole, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
    target = reward + self.gamma * ~terminated * target_q(self, next_obs).max(axis=1)
    small = np.abs(target - self.q_values(obs)[np.arange(len(action)), action]) < 1
    if small.any():
        Linear.train_batch(self, *(column[small] for column in (obs, action, reward, next_obs, terminated)))


SICK: dict[str, dict[str, Any]] = {
    "loss.no_update": {"train_batch": lambda self, *batch: None},
    "loss.clipped_away": {"train_batch": clipped_away},
    "forward.shape": {"q_values": lambda self, obs: Linear.q_values(self, obs)[:, :, None]},
    "forward.hangs": {"q_values": hang},
    "backward.raises": {"gradients": fail, "parameters": lambda self: {"w": self.w, "b": self.b}},
    "backward.hangs": {"gradients": hang, "parameters": lambda self: {"w": self.w, "b": self.b}},
    "loss.hangs": {"train_batch": hang},
    "td_target.no_reward": {"train_batch": without_reward},
    "td_target.no_bootstrap": {"gamma": 0.9, "train_batch": target_of(lambda agent, obs, action, next_obs: 0.0)},
    "td_target.min": {
        "train_batch": target_of(lambda agent, obs, action, next_obs: target_q(agent, next_obs).min(axis=1))
    },
    "td_target.same_state": {
        "train_batch": target_of(lambda agent, obs, action, next_obs: target_q(agent, obs).max(axis=1))
    },
    "td_target.n_step": {
        "train_batch": target_of(lambda agent, obs, action, next_obs: 0.81 * target_q(agent, next_obs).max(axis=1))
    },
    "target_network.none": {
        "train_batch": target_of(lambda agent, obs, action, next_obs: agent.q_values(next_obs).max(axis=1))
    },
    "target_network.hangs": {"sync_target": hang, "after": lambda self, step: None},
    "target_network.backwards": {"sync_target": backwards},
    "target_network.differs_at_start": {"__init__": apart},
    "target_network.not_synced_yet": {"after": lambda self, step: step < 32 or self.train_batch(*self.sample(32))},
    "replay.hangs": {"sample": hang},
    "replay.changes_observations": {"sample": rounded},
    "exploration.out_of_range": {"act": one_too_many},
    "exploration.not_greedy": {"act": first_entry},
    "exploration.never_random": {"act": same_twice},
    "exploration.uneven": {"act": seldom},
    "exploration.epsilon_ignored": {"act": all_or_nothing},
    "exploration.stuck": {"epsilon_falls": 1e9},
    "exploration.never_explores": {"epsilon_falls": 1e-9, "epsilon_end": 0.0},
    "loop.hangs": {"run": hang},
    "loop.termination_lost": {"remember": never_ended},
    "loop.no_updates": {"after": lambda self, step: None},
}


class Normalising(Linear):
    """Observations are normalised by what is known of them so far."""

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
        next_q = self.normal(next_obs) @ self.target[0] + self.target[1]
        target = reward + self.gamma * ~terminated * next_q.max(axis=1)
        for row, taken in enumerate(action):
            error = (self.q_values(obs)[row, taken] - target[row]) / len(action)
            self.w[:, taken] -= 0.01 * error * self.normal(obs)[row]
            self.b[taken] -= 0.01 * error


class Scaling(Linear):
    """Observations are divided by constants."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.scale = np.array([1.0, 2.0, 4.0, 8.0])

    def q_values(self, obs: Array) -> Array:
        return super().q_values(obs / self.scale)

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        target = reward + self.gamma * ~terminated * ((next_obs / self.scale) @ self.target[0] + self.target[1]).max(1)
        for row, taken in enumerate(action):
            error = (self.q_values(obs)[row, taken] - target[row]) / len(action)
            self.w[:, taken] -= 0.01 * error * (obs / self.scale)[row]
            self.b[taken] -= 0.01 * error


class Patiently(Linear):
    """Four steps on what it is given."""

    def train_batch(self, *batch: Array) -> None:
        for _ in range(4):
            super().train_batch(*batch)


class Hoarding(Linear):
    """What it is given goes into a replay of its own, from which it learns once there is enough."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.memory: list[tuple[Any, ...]] = []
        self.rng = np.random.default_rng(seed)

    def train_batch(self, *batch: Array) -> None:
        self.memory += list(zip(*batch, strict=True))
        if len(self.memory) >= 64:
            rows = self.rng.integers(len(self.memory), size=64)
            super().train_batch(*(np.array(column) for column in zip(*(self.memory[row] for row in rows), strict=True)))


class Hesitating(Hoarding):
    """Once there is enough, every fourth call learns."""

    calls = 0

    def train_batch(self, *batch: Array) -> None:
        self.memory += list(zip(*batch, strict=True))
        self.calls += 1
        if len(self.memory) >= 250 and self.calls % 4 == 0:
            super().train_batch(*batch)


class Collecting(Linear):
    """Every third call learns from the batches of three."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.batches: list[tuple[Array, ...]] = []

    def train_batch(self, *batch: Array) -> None:
        self.batches.append(batch)
        if len(self.batches) == 3:
            super().train_batch(*(np.concatenate(column) for column in zip(*self.batches, strict=True)))
            self.batches = []


class Counting(Linear):
    """Every hundredth update begins with a sync, and so does the first."""

    updates = 0

    def train_batch(self, *batch: Array) -> None:
        if self.updates % 100 == 0:
            self.target = self.w.copy(), self.b.copy()
        self.updates += 1
        super().train_batch(*batch)


class CountingAfter(Whole):
    """The first update ends with a sync."""

    updates = 0

    def train_batch(self, *batch: Array) -> None:
        super().train_batch(*batch)
        if self.updates % 100 == 0:
            self.target = self.w.copy(), self.b.copy()
        self.updates += 1


class Optimistic(Linear):
    """What is unknown is thought to be worth 100."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.b += 100
        self.target = self.w.copy(), self.b.copy()


class Clipping(Whole):
    """Rewards are clipped when they are stored."""

    def remember(self, obs: Array, action: int, reward: float, *rest: Any) -> None:
        super().remember(obs, action, min(reward, 1.0), *rest)


@pytest.mark.parametrize(
    "agent",
    [
        *(Normalising, Scaling, Patiently, Hoarding, Hesitating, Collecting),
        *(Counting, CountingAfter, Optimistic, Clipping),
    ],
)
def test_an_unusual_agent_is_healthy(agent: type[Linear]) -> None:
    assert examine(agent).findings == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    examination = doctor.examination
    monkeypatch.setattr(examination, "CHECKS", tuple(one._replace(call_seconds=1.0) for one in examination.CHECKS))
    monkeypatch.setattr(examination, "ADMISSION", examination.ADMISSION._replace(call_seconds=1.0))


def test_an_agent_that_has_everything_is_healthy_and_everything_is_checked() -> None:
    report = examine(Whole)
    assert report.findings == []
    assert report.not_run == []


def test_a_loss_that_clipped_rewards_do_not_move_is_no_measure_of_the_gradient() -> None:
    class Told(Whole):
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

    for seed in range(3):
        report = examine(lambda seed=seed: Told(seed))
        assert report.findings == []


def test_one_array_in_both_networks_is_named() -> None:
    class Shared(Whole):
        def parameters(self) -> dict[str, Array]:
            return {"w": self.w, "b": self.b}

        def target_parameters(self) -> dict[str, Array]:
            return {"w": self.w, "b": self.target[1]}

    found = {finding.id: finding for finding in examine(Shared).findings}
    assert "share their memory: w and w" in found["target_network.shared"].evidence


@pytest.mark.parametrize("n_step", ["3", 0, 2.5])
def test_what_is_no_number_of_steps_is_refused(n_step: object) -> None:
    with pytest.raises(ExaminationError, match="n_step"):
        examine(type("Odd", (Linear,), {"n_step": n_step}))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", SICK)
def test_what_is_wrong_with_it_is_found(fault: str) -> None:
    report = examine(type("Sick", (Whole,), SICK[fault]))
    found = {finding.id: finding for finding in report.findings}
    assert fault in found
    assert found[fault].caused_by is None
    # Whatever else is said follows from it, or is a note.
    others = [one for one in report.findings if one.id != fault and one.severity != "note"]
    assert all(one.caused_by == fault for one in others), [str(one) for one in others]


def test_every_entry_of_the_catalogue_has_a_specimen() -> None:
    # Those of the benchmark are examined in test_doctor_specimens, those named here in test_doctor_patients.
    elsewhere = {*FAULTS.values(), "forward.remembers", "numerics.not_finite", "exploration.hangs"}
    elsewhere |= {f"{part}.raises" for part in ("forward", "loss", "target_network", "exploration", "replay", "loop")}
    assert set(SICK) | elsewhere == set(catalogue.CATALOGUE)
