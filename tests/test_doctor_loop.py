"""Test the checks of exploration, replay and the training loop on unusual sound agents and on faulty ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from doctor_agents import Array, Complete, examine
from perilune import doctor
from perilune.doctor import numbered_env
from perilune.doctor.checks import CHECKS, acting
from perilune.doctor.checks import loop as loops
from perilune.doctor.checks import replay as replays
from perilune.doctor.report import Finding
from perilune.doctor.session import CannotTell, Session

TITLES = "actions", "replay", "training loop"


def check(agent: Callable[..., Any], *titles: str) -> tuple[dict[str, Finding], list[str]]:
    """Run the interface check and the checks with these titles (default: all of ``TITLES``).

    Return the findings by id, and the reasons why something was not checked.
    """
    session = Session(agent, 0, np.random.default_rng(0))
    found: dict[str, Finding] = {}
    reasons: list[str] = []
    for one in CHECKS:
        made = session.new_copy()
        if one.title in ("interface", *(titles or TITLES)) and made.has(*one.needs):
            try:
                for result in one.run(session, made):
                    if isinstance(result, str):
                        reasons.append(result)
                    else:
                        session.found.append(result.id)
                        found.setdefault(result.id, result)
            except CannotTell as reason:
                reasons.append(str(reason))
    return found, reasons


def change(**members: Any) -> type[Complete]:
    return type("Changed", (Complete,), members)


# Actions


class Noisy(Complete):
    """Explores with noisy weights, drawn again after each update. Ignores epsilon."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.redraw()

    def redraw(self) -> None:
        self.noise = self.rng.normal(0, 0.3, self.w.shape)

    def q_values(self, obs: Array) -> Array:
        return super().q_values(obs) + obs @ self.noise

    def train_batch(self, *batch: Array) -> None:
        super().train_batch(*batch)
        self.redraw()

    def act(self, obs: Array, epsilon: float) -> int:
        return int(self.q_values(obs).argmax())


class NoisyWhenActing(Complete):
    """Draws noisy weights for each action. q_values is free of noise."""

    def act(self, obs: Array, epsilon: float) -> int:
        return int((self.q_values(obs) + obs @ self.rng.normal(0, 0.4, self.w.shape)).argmax())


class LongActions(Complete):
    """Epsilon-z-greedy: repeats each random action for a random number of time steps (arXiv:2006.01782)."""

    left, last = 0, 0

    def act(self, obs: Array, epsilon: float) -> int:
        if self.left == 0 and self.rng.random() < epsilon:
            self.left, self.last = int(self.rng.zipf(2.0)), int(self.rng.integers(2))
        if self.left:
            self.left -= 1
            return self.last
        return int(self.q_values(obs).argmax())


class Softmax(Complete):
    """Boltzmann exploration with epsilon as the temperature."""

    def act(self, obs: Array, epsilon: float) -> int:
        q = self.q_values(obs) / (epsilon + 1e-9)
        chances = np.exp(q - q.max())
        return int(self.rng.choice(2, p=chances / chances.sum()))


class OwnSchedule(Complete):
    """Ignores the epsilon passed to act, because its own epsilon falls from 1 with each action."""

    own = 1.0

    def act(self, obs: Array, epsilon: float) -> int:
        self.own = max(0.05, self.own * 0.998)
        return super().act(obs, self.own)


class Masked(Complete):
    """Masks the second action with -1e8 in states where it is not available, and never takes it there."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.w = np.concatenate([self.w, self.rng.normal(0, 0.5, (4, 1))], axis=1)
        self.b = np.zeros(3)
        self.target = self.w.copy(), self.b.copy()

    def q_values(self, obs: Array) -> Array:
        q = obs @ self.w + self.b
        q[..., 1] = np.where(self.masked(obs), -1e8, q[..., 1])
        return q

    def masked(self, obs: Array) -> Array:
        return obs[..., 0] > -0.5

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        target = reward + 0.9 * ~terminated * (next_obs @ self.target[0] + self.target[1]).max(axis=1)
        rows = np.arange(len(action))
        error = np.zeros((len(action), 3))
        error[rows, action] = ((obs @ self.w + self.b)[rows, action] - target) / len(action)
        self.w -= 0.05 * obs.T @ error
        self.b -= 0.05 * error.sum(axis=0)

    def act(self, obs: Array, epsilon: float) -> int:
        if self.rng.random() < epsilon:
            return int(self.rng.choice(np.flatnonzero(self.q_values(obs) > -1e7)))
        return int(self.q_values(obs).argmax())


class NeverAvailable(Masked):
    def masked(self, obs: Array) -> Array:
        return obs[..., 0] < np.inf


class Averaged(Complete):
    """q_values reads an average of the weights. The loop acts with the weights themselves."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.average = self.w.copy()

    def q_values(self, obs: Array) -> Array:
        return obs @ self.average + self.b

    def act(self, obs: Array, epsilon: float) -> int:
        return int(self.rng.integers(2)) if self.rng.random() < epsilon else int((obs @ self.w + self.b).argmax())

    def train_batch(self, *batch: Array) -> None:
        super().train_batch(*batch)
        self.average += 0.05 * (self.w - self.average)


SOUND_ACTIONS = [Complete, Noisy, NoisyWhenActing, LongActions, Softmax, OwnSchedule, Masked, NeverAvailable, Averaged]


@pytest.mark.parametrize("agent", SOUND_ACTIONS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sound_exploration_has_no_fault(agent: type[Complete], seed: int) -> None:
    found, _ = check(lambda: agent(seed), "actions", "training loop")
    assert {name for name, one in found.items() if one.severity != "note"} == set()


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (Noisy, "noise of the network"),
        (LongActions, "last several time steps"),
        (Softmax, "depend on Q"),
        (OwnSchedule, "schedule or a temperature of its own"),
    ],
)
def test_exploration_that_cannot_be_judged_is_listed_with_the_reason(agent: type[Complete], reason: str) -> None:
    _, reasons = check(agent, "actions")
    assert any(reason in one for one in reasons), reasons


def normal(self: Complete, obs: Array, epsilon: float) -> int:
    return int(self.rng.integers(2)) if self.rng.normal() < epsilon else int(self.q_values(obs).argmax())


def half_as_often(self: Complete, obs: Array, epsilon: float) -> int:
    return Complete.act(self, obs, epsilon / 2)


def first_column(self: Complete, obs: Array, epsilon: float) -> int:
    return Complete.act(self, obs, 1.0) if epsilon else int(self.q_values(obs[None]).argmax(axis=0)[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("act", "fault"),
    [
        (normal, "exploration.not_greedy"),
        (first_column, "exploration.not_greedy"),
        (half_as_often, "exploration.epsilon_ignored"),
        (lambda self, obs, epsilon: int(self.q_values(obs).argmax()), "exploration.never_random"),
        (lambda self, obs, epsilon: Complete.act(self, obs, epsilon**4), "exploration.epsilon_ignored"),
    ],
)
def test_faulty_action_is_found_in_each_seed(act: Any, fault: str, seed: int) -> None:
    found, _ = check(lambda: change(act=act)(seed), "actions")
    assert set(found) == {fault}


def test_back_and_forth_is_true_for_noise_and_false_for_learning() -> None:
    rng = np.random.default_rng(0)
    assert acting.back_and_forth(rng.standard_normal((20, 8)))
    assert not acting.back_and_forth(np.arange(20.0)[:, None] + 0.1 * rng.standard_normal((20, 8)))
    assert not acting.back_and_forth(rng.standard_normal((20, 8)).cumsum(axis=0))
    assert not acting.back_and_forth(np.ones((20, 8)))


# Replay


def stores(transform: Callable[..., tuple[Any, ...]]) -> type[Complete]:
    """Return an agent that stores ``transform(obs, action, reward, next_obs, terminated)``."""

    def remember(self: Complete, *transition: Any) -> None:
        self.memory.append(transform(*transition[:5]))

    return change(remember=remember)


def no_next_state(self: Complete, n: int) -> tuple[Any, ...]:
    obs, action, reward, next_obs, terminated = Complete.sample(self, n)
    rows = [None if end else row for row, end in zip(next_obs, terminated, strict=True)]
    return obs, action, reward, rows, terminated


def prioritized(self: Complete, n: int) -> tuple[Array, ...]:
    """Sample in proportion to priorities of very different sizes."""
    priority = np.random.default_rng(0).lognormal(0, 2.5, len(self.memory))
    rows = self.rng.choice(len(self.memory), n, p=priority / priority.sum())
    return tuple(np.array(column) for column in zip(*(self.memory[row] for row in rows), strict=True))


class Reservoir(Complete):
    """Replaces a random transition when the buffer is full."""

    def remember(self, *transition: Any) -> None:
        if len(self.memory) < 5000:
            self.memory.append(transition[:5])
        else:
            self.memory[int(self.rng.integers(5000))] = transition[:5]


class Ring(Complete):
    """Writes each field into a preallocated array, like a ring."""

    capacity, past_end = 2000, 0
    written = 0

    def remember(self, *transition: Any) -> None:
        if not self.written:
            self.columns = [np.zeros((self.capacity, *np.shape(value)), np.float32) for value in transition[:5]]
        for column, value in zip(self.columns, transition, strict=False):
            column[self.written % self.capacity] = value
        self.written += 1

    def sample(self, n: int) -> tuple[Array, ...]:
        rows = self.rng.integers(min(self.written + self.past_end, self.capacity), size=n)
        obs, action, reward, next_obs, terminated = (column[rows] for column in self.columns)
        return obs, action.astype(int), reward, next_obs, terminated.astype(bool)


REWARDS: dict[str, Callable[..., float]] = {
    "scaled": lambda obs, action, reward, next_obs, terminated: reward / 100,
    "clipped": lambda obs, action, reward, next_obs, terminated: min(reward, 1.0),
    "signs": lambda obs, action, reward, next_obs, terminated: float(np.sign(reward)),
    "penalty at the end": lambda obs, action, reward, next_obs, terminated: -10.0 if terminated else reward,
    "distance": lambda obs, action, reward, next_obs, terminated: reward - abs(next_obs[0]),
    "action": lambda obs, action, reward, next_obs, terminated: reward - 0.1 * action,
}
ENDS: dict[str, Callable[[Array], Array]] = {
    "zeros": np.zeros_like,
    "another state": lambda next_obs: np.full_like(next_obs, 0.3),
    "NaN": lambda next_obs: np.full_like(next_obs, np.nan),
}


@pytest.mark.parametrize("change_reward", REWARDS.values(), ids=REWARDS)
def test_changed_rewards_are_a_note(change_reward: Callable[..., float]) -> None:
    def transform(obs: Array, action: int, reward: float, next_obs: Array, terminated: bool) -> tuple[Any, ...]:
        return obs, action, change_reward(obs, action, reward, next_obs, terminated), next_obs, terminated

    found, _ = check(stores(transform), "replay", "training loop")
    assert {name: one.severity for name, one in found.items()} == {"replay.rewards_changed": "note"}


def test_rewards_of_other_transitions_are_mismatched() -> None:
    class Shifted(Complete):
        last = 0.0

        def remember(self, obs: Array, action: int, reward: float, *rest: Any) -> None:
            super().remember(obs, action, self.last, *rest)
            self.last = reward

    assert set(check(Shifted, "replay")[0]) == {"replay.mismatched"}
    constant = stores(lambda obs, action, reward, next_obs, terminated: (obs, action, 0.0, next_obs, terminated))
    assert set(check(constant, "replay")[0]) == {"replay.mismatched"}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_next_observation_of_a_terminated_transition_is_arbitrary(end: Callable[[Array], Array]) -> None:
    def transform(obs: Array, action: int, reward: float, next_obs: Array, terminated: bool) -> tuple[Any, ...]:
        return obs, action, reward, end(next_obs) if terminated else next_obs, terminated

    assert check(stores(transform), "replay")[0] == {}


class ResetsFirst(Complete):
    """Resets before it stores the transition, as vector environments do, but only after termination."""

    only_terminated = True

    def run(self, env: Any, env_steps: int) -> None:
        obs, _ = env.reset()
        for step in range(env_steps):
            action = self.act(obs, max(0.05, 1 - step / 500))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            after = env.reset()[0] if terminated or truncated else next_obs
            stored = after if terminated or not self.only_terminated else next_obs
            self.remember(obs, action, reward, stored, terminated, truncated)
            obs = after
            self.after(step)


class DropsCutReturns(Complete):
    """Stores returns of three time steps. It drops those that a time limit cuts off."""

    n_step = 3

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.pending: list[tuple[Any, ...]] = []

    def remember(self, *transition: Any) -> None:
        *_, terminated, truncated = transition
        self.pending.append(transition)
        while self.pending and (terminated or len(self.pending) == self.n_step):
            total = sum(self.gamma**k * one[2] for k, one in enumerate(self.pending))
            obs, action, *_ = self.pending.pop(0)
            super().remember(obs, action, total, transition[3], terminated, False)
        if truncated:
            self.pending.clear()


@pytest.mark.parametrize(
    "agent",
    [
        *(change(sample=no_next_state), change(sample=prioritized)),
        *(Reservoir, Ring, DropsCutReturns),
    ],
)
def test_sound_replay_has_no_finding(agent: type[Complete]) -> None:
    assert check(agent, "replay")[0] == {}


@pytest.mark.parametrize("agent", [ResetsFirst, change(sample=prioritized), Reservoir, Ring])
def test_sound_loop_has_no_finding(agent: type[Complete]) -> None:
    assert check(agent, "training loop")[0] == {}


class Appends(Complete):
    """Stores the first 1,000 transitions only."""

    def remember(self, *transition: Any) -> None:
        if len(self.memory) < 1000:
            super().remember(*transition)


class Pops(Complete):
    """Removes the newest transition instead of the oldest when the buffer is full."""

    def remember(self, *transition: Any) -> None:
        if len(self.memory) == 1000:
            self.memory.pop()
        super().remember(*transition)


def rows(choose: Callable[[Complete, int], Array]) -> Callable[..., Any]:
    def sample(self: Complete, n: int) -> tuple[Array, ...]:
        return tuple(np.array(column) for column in zip(*(self.memory[row] for row in choose(self, n)), strict=True))

    return sample


def block(self: Complete, n: int) -> Array:
    return self.rng.integers(len(self.memory) - n) + np.arange(n)


SAMPLES = {
    "replay.same_draws": lambda self, n: np.random.default_rng(7).integers(len(self.memory), size=n),
    "replay.consecutive": block,
    "replay.newest_only": lambda self, n: np.arange(len(self.memory))[-n:],
    "replay.never_sampled": lambda self, n: 2 * self.rng.integers(len(self.memory) // 2, size=n),
    "replay.oldest_only": lambda self, n: self.rng.integers(len(self.memory) // 3, size=n),
}


@pytest.mark.parametrize("fault", SAMPLES)
def test_dependent_or_partial_samples_are_found(fault: str) -> None:
    found, _ = check(change(sample=rows(SAMPLES[fault])), "replay")
    assert set(found) == {fault}


@pytest.mark.parametrize(
    ("agent", "fault"),
    [
        (Appends, "replay.oldest_only"),
        (Pops, "replay.oldest_only"),
        (type("OffByOne", (Ring,), {"past_end": 1}), "replay.unwritten"),
    ],
)
def test_wrong_order_of_eviction_is_found(agent: type[Complete], fault: str) -> None:
    assert set(check(agent, "replay")[0]) == {fault}


def test_flags_of_other_transitions_are_found() -> None:
    always = stores(lambda obs, action, reward, next_obs, terminated: (obs, action, reward, next_obs, True))
    assert set(check(always, "replay")[0]) == {"replay.false_ends", "environment.truncation_as_end"}


def test_random_samples_of_a_sound_buffer_pass_with_any_seed() -> None:
    env = numbered_env.NumberedEnv(3, 2)
    agent = SimpleNamespace(remember=lambda *transition: None)
    session = Session(lambda: agent, 0, np.random.default_rng(0), observation_size=3, actions=2)
    numbered_env.play(session.new_copy(), env, replays.STORED)
    steps = np.array([(step.before, step.action, step.reward, step.after, step.terminated) for step in env.steps])
    for seed in range(100):
        drawn = np.random.default_rng(seed).integers(len(steps), size=replays.FIRST_SAMPLES)
        columns = steps[drawn].T
        calls = np.arange(len(drawn)) // 64
        samples = replays.Samples(*columns[:4], columns[4].astype(bool), calls, np.zeros(len(drawn), bool))
        assert not list(replays._check_draws(samples, env))


def test_random_actions_of_a_sound_agent_pass_with_any_seed() -> None:
    for seed in range(30):
        agent = Complete(seed)
        session = Session(lambda agent=agent: agent, 0, np.random.default_rng(seed), observation_size=4, actions=2)
        assert not list(acting.check_actions(session, session.new_copy()))


# Training loop


class Loop(Complete):
    """A loop whose parts can be replaced. Learns online, without replay, and calls no method of the adapter."""

    learn_every = 1
    start = 32
    decay = 500.0

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.w *= 3
        self.learner = Complete(seed)
        self.learner.w = self.w

    remember = sample = sync_target = target_q_values = None  # type: ignore[assignment]

    def choose(self, obs: Array, step: int) -> int:
        greedy = int((obs @ self.w + self.b).argmax())
        return int(self.rng.integers(2)) if self.rng.random() < max(0.05, 1 - step / self.decay) else greedy

    def next(self, env: Any, obs: Array, next_obs: Array, ended: bool) -> Array:
        return env.reset()[0] if ended else next_obs

    def learn(self, step: int, *transition: Any) -> None:
        if step >= self.start and step % self.learn_every == 0:
            Complete.train_batch(self, *(np.array([value]) for value in transition))

    def run(self, env: Any, env_steps: int) -> None:
        obs, _ = env.reset()
        for step in range(env_steps):
            action = self.choose(obs, step)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.learn(step, obs, action, reward, next_obs, terminated)
            obs = self.next(env, obs, next_obs, terminated or truncated)


class Online(Loop):
    """Calls act and train_batch of the adapter."""

    def choose(self, obs: Array, step: int) -> int:
        return self.act(obs, max(0.05, 1 - step / 500))

    def learn(self, step: int, *transition: Any) -> None:
        self.train_batch(*(np.array([value]) for value in transition))


def stays(self: Loop, env: Any, obs: Array, next_obs: Array, ended: bool) -> Array:
    return env.reset()[0] if ended else obs


@pytest.mark.parametrize("base", [Loop, Online])
@pytest.mark.parametrize("seed", [0, 1])
def test_loop_that_never_advances_is_found_without_replay(base: type[Loop], seed: int) -> None:
    agent = type("Stays", (base,), {"next": stays})
    found, _ = check(lambda: agent(seed), "training loop")
    assert "loop.state_not_advanced" in found
    assert {name for name, one in found.items() if one.severity != "note"} == {"loop.state_not_advanced"}


@pytest.mark.parametrize("base", [Loop, Online])
def test_online_learner_without_replay_has_no_finding(base: type[Loop]) -> None:
    found, reasons = check(base, "training loop")
    assert found == {}
    assert any("run() does not call train_batch()" in one for one in reasons) == (base is Loop)


def test_loop_whose_states_cannot_be_determined_is_listed() -> None:
    _, reasons = check(type("Random", (Loop,), {"decay": 1e9}), "training loop")
    assert any(one.startswith("the states of the loop") for one in reasons)


def test_online_learner_that_stores_another_action_is_found() -> None:
    class Other(Online):
        def learn(self, step: int, obs: Array, action: int, *rest: Any) -> None:
            super().learn(step, obs, 1 - action, *rest)

    assert "loop.other_action_stored" in check(Other, "training loop")[0]


def test_loop_that_acts_on_the_previous_state_is_found() -> None:
    class Late(Online):
        previous: Any = None

        def choose(self, obs: Array, step: int) -> int:
            action = super().choose(obs if self.previous is None else self.previous, step)
            self.previous = obs
            return action

    assert "loop.acts_on_other_state" in check(Late, "training loop")[0]


def test_repeated_actions_are_not_a_fault_of_the_loop() -> None:
    class Repeats(Loop):
        left = 0

        def choose(self, obs: Array, step: int) -> int:
            if self.left == 0:
                self.left, self.last = 4, super().choose(obs, step)
            self.left -= 1
            return self.last

    assert {name for name, one in check(Repeats, "training loop")[0].items() if one.severity != "note"} == set()


@pytest.mark.parametrize("total", [False, True])
def test_repeated_action_with_only_its_last_reward_is_found(total: bool) -> None:
    class Skips(Complete):
        def run(self, env: Any, env_steps: int) -> None:
            obs, _ = env.reset()
            for step in range(0, env_steps, 3):
                action, rewards = self.act(obs, max(0.05, 1 - step / 500)), []
                for _ in range(3):
                    next_obs, reward, terminated, truncated, _ = env.step(action)
                    rewards.append(reward)
                    if terminated or truncated:
                        break
                self.remember(obs, action, sum(rewards) if total else reward, next_obs, terminated, truncated)
                obs = env.reset()[0] if terminated or truncated else next_obs
                self.after(step)

    found = {name for name, one in check(Skips, "training loop")[0].items() if one.severity != "note"}
    assert found == (set() if total else {"environment.last_reward_only"})


def test_stored_action_that_was_not_executed_is_found() -> None:
    class Twice(Complete):
        def remember(self, obs: Array, action: int, *rest: Any) -> None:
            super().remember(obs, int(self.rng.integers(2)), *rest)

    found = check(Twice, "training loop")[0]
    assert {name for name, one in found.items() if one.severity != "note"} == {"loop.other_action_stored"}


class OneArray(Complete):
    """The loop writes each observation into the same array and stores references to it."""

    def run(self, env: Any, env_steps: int) -> None:
        obs = env.reset()[0].copy()
        for step in range(env_steps):
            action = self.act(obs, max(0.05, 1 - step / 500))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated, truncated)
            obs[:] = env.reset()[0] if terminated or truncated else next_obs
            self.after(step)


def test_reused_observation_array_is_found() -> None:
    assert set(check(OneArray)[0]) == {"environment.buffer_reused"}


class RunsEpisodes(Complete):
    """The loop runs as many episodes as it should take time steps."""

    def run(self, env: Any, env_steps: int) -> None:
        super().run(env, 100 * env_steps)


def test_loop_that_runs_for_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "RUN_STEPS", 300)
    agents: list[RunsEpisodes] = []

    class Kept(RunsEpisodes):
        def run(self, env: Any, env_steps: int) -> None:
            agents.append(self)
            super().run(env, env_steps)

    found, reasons = check(Kept, "training loop")
    assert not found
    assert not reasons
    assert len(agents[-1].memory) == loops.OVERRUN * loops.RUN_STEPS


class AdvancesTooEarly(Complete):
    """The loop replaces the state before it stores the transition."""

    def run(self, env: Any, env_steps: int) -> None:
        state, _ = env.reset()
        for step in range(env_steps):
            action = self.act(state, max(0.05, 1 - step / 500))
            next_state, reward, terminated, truncated, _ = env.step(action)
            state = next_state
            self.remember(state, action, reward, next_state, terminated, truncated)
            if terminated or truncated:
                state, _ = env.reset()
            self.after(step)


class ReusedArray(Ring):
    """A wrapper writes each observation into the same array, and the buffer copies what it stores."""

    def run(self, env: Any, env_steps: int) -> None:
        same = np.zeros(4, np.float32)

        def written(obs: Array) -> Array:
            same[:] = obs
            return same

        state = written(env.reset()[0])
        for step in range(env_steps):
            action = self.act(state, max(0.05, 1 - step / 500))
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = written(next_state)
            self.remember(state, action, reward, next_state, terminated, truncated)
            state = written(env.reset()[0]) if terminated or truncated else next_state
            self.after(step)


@pytest.mark.parametrize(
    ("agent", "fault"), [(AdvancesTooEarly, "loop.advanced_too_early"), (ReusedArray, "environment.buffer_reused")]
)
def test_stored_obs_that_equals_next_obs_has_two_causes(agent: type[Complete], fault: str) -> None:
    found = check(agent)[0]
    assert set(found) == {fault}
    if fault.startswith("loop"):
        assert found[fault].code == "state = next_state"


class NextSlot(Ring):
    """Reads next_obs from the obs of the following slot, which may belong to the next episode."""

    def sample(self, n: int) -> tuple[Array, ...]:
        rows = self.rng.integers(min(self.written - 1, self.capacity - 1), size=n)
        obs, action, reward, _, terminated = (column[rows] for column in self.columns)
        next_obs = self.columns[0][rows + 1]
        return obs, action.astype(int), reward, next_obs, terminated.astype(bool)


def test_next_obs_from_another_episode_is_a_fault_of_the_buffer() -> None:
    assert set(check(NextSlot, "replay")[0]) == {"replay.next_of_another_episode"}


class StoresCurrent(Complete):
    def remember(self, obs: Array, *rest: Any) -> None:
        action, reward, _, terminated, truncated = rest
        super().remember(obs, action, reward, obs, terminated, truncated)  # as next_obs


class StoresNoEnds(Complete):
    def remember(self, *transition: Any) -> None:
        obs, action, reward, next_obs, _, truncated = transition
        super().remember(obs, action, reward, next_obs, False, truncated)


@pytest.mark.parametrize(
    ("agent", "fault", "code"),
    [
        (StoresCurrent, "replay.next_is_current", "obs, action, reward, obs,"),
        (StoresNoEnds, "loop.termination_lost", "next_obs, False,"),
    ],
)
def test_line_that_stores_a_wrong_transition_is_located(agent: type[Complete], fault: str, code: str) -> None:
    (found,) = (one for one in examine(agent).findings if one.id == fault)
    assert found.where is not None
    assert Path(found.where.rpartition(":")[0]).name == Path(__file__).name
    assert code in found.code


def test_updates_every_eighth_step_have_no_note() -> None:
    assert check(type("EveryEighth", (Loop,), {"learn_every": 8}), "training loop")[0] == {}


def test_rare_updates_are_noted_with_their_number() -> None:
    found, _ = check(type("Rare", (Loop,), {"learn_every": 50, "start": 0}), "training loop")
    assert "20 updates per 1,000 time steps" in found["loop.few_updates"].evidence
    assert found["loop.few_updates"].severity == "note"


@pytest.mark.parametrize(("updates", "noted"), [(1, True), (16, False)])
def test_learning_once_per_episode_is_noted_unless_there_are_many_updates(updates: int, noted: bool) -> None:
    class OncePerEpisode(Loop):
        def next(self, env: Any, obs: Array, next_obs: Array, ended: bool) -> Array:
            for _ in range(updates * ended):
                self.train_batch(obs[None], np.array([0]), np.array([1.0]), next_obs[None], np.array([False]))
            return super().next(env, obs, next_obs, ended)

        def learn(self, step: int, *transition: Any) -> None:
            pass

    found = check(OncePerEpisode, "training loop")[0]
    assert ("loop.few_updates" in found) == noted
    assert not noted or "between two episodes" in found["loop.few_updates"].evidence


def test_loop_without_updates_is_inconclusive_and_a_long_warm_up_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LONG_RUN_STEPS", 3 * loops.RUN_STEPS)
    monkeypatch.setattr(loops, "LONG_RUN_SECONDS", np.inf)
    monkeypatch.setattr(loops, "RUN_SHARE", 0.0)  # no time for the third run
    never = doctor.check_agent(change(after=lambda self, step: None), budget=600)
    assert "loop.no_updates" in {one.id for one in never.findings}
    assert never.outcome == "inconclusive"
    late = doctor.check_agent(
        change(after=lambda self, step: step < 2 * loops.RUN_STEPS or Complete.after(self, step)), budget=600
    )
    assert late.outcome == "healthy"
    assert late.findings == []


@pytest.mark.parametrize(("start", "expected"), [(np.inf, {"loop.never_learns"}), (10_000, {"loop.no_updates"})])
def test_loop_that_never_learns_is_found(start: float, expected: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "RUN_SHARE", np.inf)
    monkeypatch.setattr(loops, "LONG_RUN_SECONDS", np.inf)
    monkeypatch.setattr(loops, "LONG_RUN_STEPS", 2000)
    monkeypatch.setattr(loops, "NEVER_STEPS", 12_000)
    found, reasons = check(type("Late", (Loop,), {"start": start}), "training loop")
    assert set(found) & {"loop.never_learns", "loop.no_updates"} == expected
    assert any("never updated" in reason for reason in reasons) == (start < np.inf)


def syncs_if(condition: Callable[[int], bool], learn_every: int = 1) -> type[Complete]:
    """Return an agent whose loop syncs in the time steps that meet a condition."""

    def after(self: Complete, step: int) -> None:
        if step >= 32 and step % learn_every == 0:
            self.train_batch(*self.sample(32))
        if condition(step):
            self.sync_target()

    return change(after=after)


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (syncs_if(lambda step: step % 4 == 1 and step % 200 == 0, learn_every=4), "target_network.sync_not_reached"),
        (syncs_if(lambda step: False), "target_network.sync_not_reached"),
        (syncs_if(lambda step: step == 2500), None),
        (syncs_if(lambda step: step > 0 and step % 1200 == 0, learn_every=4), None),
        (syncs_if(lambda step: False, learn_every=8), "target_network.not_synced_yet"),  # few updates
    ],
)
def test_sync_that_the_loop_does_not_reach_is_found(
    agent: type[Complete], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "RUN_SHARE", np.inf)
    monkeypatch.setattr(loops, "LONG_RUN_STEPS", 3000)
    monkeypatch.setattr(loops, "SYNC_UPDATES", 500)
    found = {name for name in check(agent, "training loop")[0] if name.startswith("target_network")}
    assert found == ({expected} if expected else set())


def test_sync_is_reached_in_a_loop_that_catches_every_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "RUN_SHARE", np.inf)

    class Catches(Complete):
        def run(self, env: Any, env_steps: int) -> None:
            try:
                super().run(env, env_steps)
            except BaseException as error:
                raise RuntimeError("stopped") from error

    def late(self: Complete, step: int) -> None:
        syncs_if(lambda step: step == 3000).after(self, step)

    found = check(type("Late", (Catches,), {"after": late}), "training loop")[0]
    assert not {name for name in found if name.startswith("target_network")}


@pytest.mark.parametrize("size", [np.abs, lambda errors: np.maximum(errors, 0), lambda errors: np.maximum(-errors, 0)])
def test_priorities_from_signed_errors_are_found(size: Callable[[Array], Array]) -> None:
    class Prioritized(Complete):
        def sample(self, n: int) -> tuple[Array, ...]:
            obs, action, reward, next_obs, end = (np.array(column) for column in zip(*self.memory, strict=True))
            targets = reward + self.gamma * ~end * self.target_q_values(next_obs).max(axis=1)
            sizes = size(targets - self.q_values(obs)[np.arange(len(obs)), action]) + 0.02
            rows = self.rng.choice(len(obs), n, p=sizes / sizes.sum())
            return obs[rows], action[rows], reward[rows], next_obs[rows], end[rows]

    found = check(Prioritized, "training loop")[0]
    assert set(found) == (set() if size is np.abs else {"replay.one_sided_priorities"})


def test_warm_up_that_the_buffer_cannot_hold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LONG_RUN_STEPS", 3 * loops.RUN_STEPS)
    monkeypatch.setattr(loops, "LONG_RUN_SECONDS", np.inf)

    class Small(Complete):
        def remember(self, *transition: Any) -> None:
            super().remember(*transition)
            del self.memory[:-1250]

        def after(self, step: int) -> None:
            if len(self.memory) > 1500:
                super().after(step)

    found = check(Small, "training loop")[0]
    assert set(found) == {"hyperparameters.warm_up"}
    assert "only the last 1250" in found["hyperparameters.warm_up"].evidence


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (lambda step: 1 - step / 500, {"exploration.epsilon_out_of_range"}),
        (lambda step: max(0.05, 0.5**step), {"exploration.decays_at_once"}),
        (lambda step: max(0.0, 0.5**step), {"exploration.decays_at_once", "exploration.never_explores"}),
        (lambda step: 0.05, set()),
        (lambda step: max(0.05, 0.99**step), set()),
        (lambda step: 0.1, set()),
        (lambda step: 0.0, {"exploration.never_explores"}),
        (lambda step: 1.0, {"exploration.stuck"}),
    ],
)
def test_faults_of_epsilon_schedules_are_found(schedule: Callable[[int], float], expected: set[str]) -> None:
    agent = type("Scheduled", (Online,), {"choose": lambda self, obs, step: self.act(obs, schedule(step))})
    assert set(check(agent, "training loop")[0]) == expected


class OwnEpsilon(Complete):
    """Chooses actions in an inner function with an epsilon of its own, which ``fall`` lowers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.epsilon = 1.0

    def choose(self, obs: Array, eps: float | None = None) -> int:
        eps = self.epsilon if eps is None else eps
        return int(self.rng.integers(2)) if self.rng.random() < eps else int(self.q_values(obs).argmax())

    def act(self, obs: Array, epsilon: float) -> int:
        return self.choose(obs, epsilon)

    def fall(self, rows: int) -> None:
        self.epsilon = max(0.05, self.epsilon * 0.999)

    def episode(self) -> None:
        pass

    def train_batch(self, *batch: Any) -> None:
        super().train_batch(*batch)
        self.fall(len(batch[1]))

    def run(self, env: Any, env_steps: int) -> None:
        obs, _ = env.reset()
        for step in range(env_steps):
            action = self.choose(obs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.remember(obs, action, reward, next_obs, terminated, truncated)
            if terminated or truncated:
                self.episode()
                next_obs, _ = env.reset()
            obs = next_obs
            self.after(step)


def per_row(self: OwnEpsilon, rows: int) -> None:
    self.epsilon = max(0.05, self.epsilon * 0.999**rows)


def per_row_linearly(self: OwnEpsilon, rows: int) -> None:
    self.epsilon = max(0.05, self.epsilon - 0.0002 * rows)


def at_once(self: OwnEpsilon) -> None:
    self.epsilon = min(0.05, self.epsilon * 0.999)


def restart(self: OwnEpsilon) -> None:
    self.epsilon = 1.0


def by_episode(self: OwnEpsilon) -> None:
    self.epsilon = max(0.05, self.epsilon * 0.98)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, set()),
        ({"fall": per_row}, {"exploration.decays_per_row"}),
        ({"fall": per_row_linearly}, {"exploration.decays_per_row"}),
        ({"fall": per_row, "online": True}, set()),  # each transition is a time step
        ({"fall": lambda self, rows: None, "episode": by_episode}, set()),
        ({"fall": lambda self, rows: None, "episode": at_once}, {"exploration.decays_at_once"}),
        ({"episode": restart}, {"exploration.restarts"}),
    ],
)
def test_schedule_inside_the_agent_is_read(members: dict[str, Any], expected: set[str]) -> None:
    found = check(type("Scheduled", (OwnEpsilon,), members), "training loop")[0]
    assert {name for name, one in found.items() if one.severity != "note"} == expected


def test_epsilon_that_the_adapter_sets_as_an_attribute_is_read() -> None:
    class Sets(OwnEpsilon):
        episode = at_once

        def act(self, obs: Array, epsilon: float) -> int:
            self.epsilon = epsilon
            return self.choose(obs)

    assert "exploration.decays_at_once" in check(Sets, "training loop")[0]


def test_invalid_action_of_the_loop_is_found() -> None:
    def choose(self: Loop, obs: Array, step: int) -> int:
        return int(self.rng.integers(3))

    assert set(check(type("Three", (Loop,), {"choose": choose}), "training loop")[0]) == {"exploration.out_of_range"}


def test_action_that_the_loop_never_tries_is_found() -> None:
    class Three(Masked):
        """Draws random actions in the loop itself, and never the last one."""

        sample = None  # type: ignore[assignment]

        def masked(self, obs: Array) -> Array:
            return obs[..., 0] > np.inf

        def run(self, env: Any, env_steps: int) -> None:
            self.w[:, 2] = self.b[2] = -1
            obs, _ = env.reset()
            for _ in range(env_steps):
                next_obs, _, terminated, truncated, _ = env.step(int(self.rng.integers(2)))
                obs = env.reset()[0] if terminated or truncated else next_obs
                self.train_batch(obs[None], np.array([0]), np.array([1.0]), obs[None], np.array([True]))

    found, _ = check(Three, "training loop")
    assert "of the training loop" in found["exploration.action_never_tried"].evidence
    assert "exploration.action_never_tried" not in check(NeverAvailable, "training loop")[0]


def test_adapter_keeps_its_methods_after_the_run() -> None:
    agent = Online(0)
    agent.act = own = lambda obs, epsilon: 0  # type: ignore[method-assign]
    session = Session(lambda: agent, 0, np.random.default_rng(0), observation_size=4, actions=2)
    watch = loops.Watch(session, session.new_copy())
    watch.run(50)
    assert watch.acts
    assert watch.batches
    assert agent.act is own
    assert "train_batch" not in vars(agent)


# Environment


def test_environment_works_with_wrappers_and_declares_what_loops_read() -> None:
    env = numbered_env.NumberedEnv(4, 2)
    for wrapped in (gym.wrappers.RecordEpisodeStatistics(env), gym.wrappers.TimeLimit(env, 5)):
        obs, _ = wrapped.reset(seed=0)
        assert wrapped.observation_space.contains(obs)
        assert wrapped.observation_space.contains(wrapped.step(wrapped.action_space.sample())[0])
        assert wrapped.unwrapped is env
        assert wrapped.render().shape == (64, 64, 3)
        assert wrapped.spec is not None
        assert wrapped.spec.max_episode_steps in (5, 12)
    vector = gym.vector.SyncVectorEnv([lambda: numbered_env.NumberedEnv(4, 2)])
    assert vector.reset()[0].shape == (1, 4)
    assert np.isfinite(env.observation_space.high).all()
    assert env.spec.reward_threshold is not None
    env.close()


def test_rewards_and_observations_of_all_steps_differ() -> None:
    env = numbered_env.NumberedEnv(1, 2)
    env.reset()
    seen = [env.step(0)[:2] for _ in range(30_000)]
    assert len({float(obs[0]) for obs, _ in seen}) == len({reward for _, reward in seen}) == len(seen)
    assert min(reward for _, reward in seen) < -1.4 < 1.4 < max(reward for _, reward in seen) < 1.5
    observations = np.array([obs for obs, _ in seen])
    assert numbered_env.state_numbers(observations).tolist() == list(range(1, 30_001))
    assert (numbered_env.state_numbers(np.zeros((5, 3))) == -1).all()
    assert (numbered_env.state_numbers(observations + 1e-5) == -1).all()


def test_environment_declares_the_observation_space_of_the_agent() -> None:
    space = gym.spaces.Box(-5, 5, (4,), np.float32)

    class Strict(Complete):
        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed)
            self.env = gym.Env()
            self.env.observation_space = space

        def run(self, env: Any, env_steps: int) -> None:
            if env.observation_space != self.env.observation_space:
                raise ValueError("observation spaces do not match")
            super().run(env, env_steps)

    assert check(Strict, "training loop") == ({}, [])


def reject(env: Any) -> None:
    raise ValueError(f"Observation spaces do not match: {env.observation_space}")


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (lambda env: env.seed(0), "environment.old_interface"),
        (lambda env: env.game.lives, "reads env.game"),
        (reject, "rejects the spaces"),
    ],
)
def test_loop_that_fails_at_the_interface_of_the_environment(start: Callable[[Any], Any], expected: str) -> None:
    def run(self: Complete, env: Any, env_steps: int) -> None:
        start(env)

    found, reasons = check(change(run=run), "training loop")
    assert expected in " ".join([*found, *reasons])
