"""Training in several environment slots: what is stored, which actions are taken, and how episodes are seeded."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune import DQN, envs
from perilune._utils import seeding
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError
from perilune.training.events import Episode, Evaluated, Event, SafePoint, Started
from perilune.training.loop import training_events
from worlds import Slot, Walk, World, n_step, registered, small

Kind = TypeVar("Kind", bound=Event)


def only(kind: type[Kind], events: Sequence[Event]) -> list[Kind]:
    return [event for event in events if isinstance(event, kind)]


def run(agent: Agent, env: envs.Env, **train_settings: Any) -> list[Event]:
    quiet = {"eval_every": None, "eval_episodes": 1, "metrics_every": 10**6}
    events = training_events(agent, env, TrainConfig(**quiet | train_settings))
    return [event for event in events if not isinstance(event, SafePoint)]


def slots_of(made: Sequence[Slot]) -> list[Slot]:
    """Return the worlds in which episodes were played, in the order of their slots."""
    return [world for world in made if world.seeds]


# Stored transitions


def stored_of(agent: Agent) -> Counter[tuple[float, ...]]:
    """Return the transitions of the replay buffer with their counts."""
    columns = np.column_stack([array[: len(agent.replay)] for array in agent.replay.arrays])
    return Counter(tuple(row) for row in columns.tolist())


def expected_of(
    slots: Sequence[Slot], n: int, gamma: float, learning_starts: int, limit: int | None, cut: int | None
) -> tuple[Counter[tuple[float, ...]], int]:
    """Return the expected transitions, and the number of episodes that ended after the warm-up.

    The warm-up is played in slot 0, and its last episode is cut off. The budget also cuts off the current episode of
    slot ``cut``. Of the current episodes of other slots, only transitions with n following steps are stored.
    """
    expected: Counter[tuple[float, ...]] = Counter()
    ended = 0
    for slot, world in enumerate(slots):
        played = 0
        for steps in world.trained():
            played += len(steps)
            warming = slot == 0 and played <= learning_starts
            over = steps[-1].terminated or steps[-1].truncated or len(steps) == limit or warming or slot == cut
            assert over or steps is world.trained()[-1]  # only the last episode of a slot may be incomplete
            rows = n_step(steps, n, gamma)
            for obs, action, reward, discount, next_obs in rows if over else rows[: max(0, len(rows) - n + 1)]:
                expected[*obs.tolist(), action, reward, discount, *next_obs.tolist()] += 1
            ended += over and not warming
    return expected, ended


@given(
    num_envs=st.sampled_from([1, 2, 3, 5]),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    ends=st.lists(st.sampled_from(["terminated", "truncated"]), min_size=1, max_size=3),
    n=st.integers(1, 5),
    limit=st.none() | st.integers(1, 6),
    learning_starts=st.integers(1, 9),
    steps=st.integers(1, 60),
    eval_every=st.none() | st.integers(1, 20),
)
@settings(max_examples=20)
def test_stored_transitions_match_the_steps_of_each_slot(
    num_envs: int,
    lengths: list[int],
    ends: list[str],
    n: int,
    limit: int | None,
    learning_starts: int,
    steps: int,
    eval_every: int | None,
) -> None:
    with registered(lambda number: Slot(number, lengths[number % len(lengths) :] + lengths, ends)) as made:
        # gamma = 0.5 and rewards in eighths: every sum is exact in float32.
        agent = Agent(2, 3, small(n_step=n, gamma=0.5, learning_starts=learning_starts), 0)
        events = run(
            agent,
            gym.make("World-v0"),
            steps=learning_starts + steps,
            num_envs=num_envs,
            max_episode_steps=limit,
            eval_every=eval_every,
        )
    slots = slots_of(made)
    assert len(slots) == num_envs
    # The slots take one step each, in turn.
    played = [sum(map(len, world.trained())) for world in slots]
    assert played == [learning_starts * (slot == 0) + len(range(slot, steps, num_envs)) for slot in range(num_envs)]
    cut = (steps - 1) % num_envs
    expected, ended = expected_of(slots, n, 0.5, learning_starts, limit, cut)
    assert stored_of(agent) == expected
    assert agent.env_steps == sum(played) == learning_starts + steps
    assert agent.updates == steps
    assert agent.episodes == ended == len(only(Episode, events))
    assert isinstance(events[-1], Evaluated)


def test_episodes_are_numbered_in_order_of_their_start() -> None:
    # Episodes have 4 steps in slot 0, 2 in slot 1 and 3 in slot 2. Numbers are given at the start of an episode.
    lengths = [(4,), (9,), (2,), (3,)]  # number 1 is made only to check that copies are possible
    with registered(lambda number: Slot(number, lengths[number])) as made:
        agent = Agent(2, 3, small(), 0)
        episodes = only(Episode, run(agent, gym.make("World-v0"), steps=8 + 16, num_envs=3))
    assert len(slots_of(made)) == 3
    # They end at steps 5, 9, 10, 11 and 16, in rounds of three steps that end at 6, 9, 12 and 16.
    assert [(event.env_steps - 8, event.episode, event.length, event.ended) for event in episodes] == [
        (6, 2, 2, "terminated"),
        (9, 3, 3, "terminated"),
        (12, 1, 4, "terminated"),
        (12, 4, 2, "terminated"),
        (16, 6, 2, "budget"),
    ]
    first, _, second, third = made
    rewards = {
        number: sum(step.reward for step in world.trained()[at])
        for number, world, at in [(1, first, 2), (2, second, 0), (3, third, 0), (4, second, 1), (6, first, 3)]
    }
    assert {event.episode: event.reward for event in episodes} == rewards


def test_changing_num_envs_drops_pending_steps() -> None:
    with registered(lambda number: Slot(number, (6,))) as made:
        env = gym.make("World-v0")
        agent = Agent(2, 3, small(n_step=3, gamma=0.5), 0)
        for num_envs in (5, 1, 3, 2):
            run(agent, env, steps=23, num_envs=num_envs)
    rows = slice(0, len(agent.replay))
    np.testing.assert_array_equal(agent.replay.arrays.obs[rows, 0], agent.replay.arrays.next_obs[rows, 0])
    assert agent.env_steps == 4 * 23 == sum(len(steps) for world in made for steps in world.trained())
    assert agent.updates == 4 * 23 - 8


# Actions and seeds


def expected_actions(seed: int, slots: Sequence[Slot], learning_starts: int, max_action_repeat: int) -> list[list[int]]:
    """Return the actions of each slot if every action is exploratory.

    The probability of a duration of n steps is proportional to 1 / n^2. Each episode begins with a new action.
    """
    generator = seeding.generators(seed).exploration
    shares = [1 / n**2 for n in range(1, max_action_repeat + 1)]
    up_to = list(itertools.accumulate(share / sum(shares) for share in shares))

    def drawn() -> list[int]:
        action, luck = int(generator.integers(3)), generator.random()
        return [action] * (
            1 + next(at for at, share in enumerate(up_to) if luck < share or at == max_action_repeat - 1)
        )

    episodes = [[len(steps) for steps in world.trained()] for world in slots]
    actions: list[list[int]] = [[] for _ in slots]
    lasting: list[list[int]] = [[] for _ in slots]
    left = [lengths.pop(0) for lengths in episodes]

    def play(slot: int) -> None:
        actions[slot].append(lasting[slot].pop())
        left[slot] -= 1
        if not left[slot]:
            lasting[slot] = []
            left[slot] = episodes[slot].pop(0) if episodes[slot] else -1

    for _ in range(learning_starts):
        lasting[0] = lasting[0] or drawn()
        play(0)
    total = sum(len(steps) for world in slots for steps in world.trained())
    while sum(map(len, actions)) < total:
        waiting = [slot for slot in range(len(slots)) if not lasting[slot]]
        assert (generator.random(len(waiting)) < 1).all()  # whether to explore, drawn before any action
        for slot in waiting:
            lasting[slot] = drawn()
        for slot in range(len(slots)):
            if sum(map(len, actions)) < total:
                play(slot)
    return actions


@pytest.mark.parametrize("num_envs", [1, 2, 3])
def test_repeated_actions_stay_in_their_environment(num_envs: int) -> None:
    with registered(lambda number: Slot(number, (5, 9, 3), ("terminated", "truncated"))) as made:
        agent = Agent(2, 3, small(epsilon_start=1.0, epsilon_end=1.0, max_action_repeat=6), 4)
        run(agent, gym.make("World-v0"), steps=300, num_envs=num_envs, eval_every=40)
    slots = slots_of(made)
    taken = [[step.action for steps in world.trained() for step in steps] for world in slots]
    assert taken == expected_actions(4, slots, 8, 6)
    runs = [len(list(same)) for actions in taken for _, same in itertools.groupby(actions)]
    assert max(runs) > 3  # some actions were repeated


def test_greedy_action_uses_own_observation() -> None:
    with registered(lambda number: Walk(5 + number % 2)) as made:
        # The learning rate is so small that the weights do not change, so the greedy actions are known.
        agent = Agent(1, 3, small(epsilon_start=0.0, epsilon_end=0.0, learning_rate=1e-30, hidden=(32,)), 6)
        run(agent, gym.make("World-v0"), steps=100, num_envs=3)
    played = [step for world in made for step in itertools.chain(*world.trained())]
    greedy = [step.action == agent.greedy_action(step.obs) for step in played]
    assert {step.action for step in played[8:]} == {0, 2}
    assert all(greedy[8:])  # the warm-up is the given environment's first 8 steps


def starts(made: Sequence[World]) -> list[int]:
    """Return the seeds of the resets of training episodes."""
    return [seed for world in made for seed in world.seeds if seed is not None and seed < seeding.TRAINING_SEEDS]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_training_resets_and_evaluations_use_separate_seeds(num_envs: int) -> None:
    with registered(lambda number: Slot(number, (5, 3))) as made:
        agent = Agent(2, 3, small(), 6)
        events = run(agent, gym.make("World-v0"), steps=100, num_envs=num_envs, eval_every=20, eval_episodes=2)
    assert not [seed for world in made for seed in world.seeds if seed is None]
    stream = seeding.generators(6).environment
    assert sorted(starts(made)) == sorted(seeding.episode_seed(stream) for _ in starts(made))
    assert sum(len(world.scored()) for world in made) == 2 * len(only(Evaluated, events)) >= 8
    # Evaluations only start after an episode has ended.
    for world in made:
        for before, seed in zip(world.recorded, world.seeds[1:], strict=False):
            if seed is not None and seed >= seeding.TRAINING_SEEDS and before is not world.trained()[-1]:
                assert len(before) in (5, 3)


# Observers


def weights(num_envs: int, look: Callable[[Agent], object] = lambda agent: None, **train_settings: Any) -> bytes:
    """Return the trained weights in a deterministic world."""
    with registered(lambda number: Walk(5 + number % 2)):
        agent = Agent(1, 3, small(n_step=2, layer_norm=True, max_action_repeat=3), 0)
        config = TrainConfig(**{"steps": 200, "num_envs": num_envs, "eval_every": None} | train_settings)
        for _ in training_events(agent, gym.make("World-v0"), config):
            look(agent)
    assert agent.updates == 192
    return agent.online.parameters.tobytes() + agent.target.parameters.tobytes()


def test_evaluations_and_readers_do_not_change_weights() -> None:
    def look(agent: Agent) -> None:
        agent.q_values(np.ones((3, 1)))
        agent.greedy_action(np.ones(1, np.float32))

    assert weights(3) == weights(3, eval_every=5, eval_episodes=3) == weights(3, look, metrics_every=1)


# Making and closing environments


def test_copies_are_closed_and_the_given_environment_is_not() -> None:
    with registered(lambda number: Slot(number, (5,))) as made:
        agent = Agent(2, 3, small(), 0)
        run(agent, gym.make("World-v0"), steps=50, num_envs=3)
        assert [world.closed for world in made] == [False, True, True, True]
        events = training_events(agent, gym.make("World-v0"), TrainConfig(steps=50, num_envs=2))
        assert isinstance(next(events), Started)
        del events  # closes the generator early
        assert [world.closed for world in made[4:]] == [False, True, True]


def test_num_envs_requires_an_environment_that_can_be_copied(tmp_path: Path) -> None:
    with registered(lambda number: Slot(number, (5,))):
        env = gym.wrappers.NormalizeObservation(gym.make("World-v0"))
        dqn = DQN(env, config=small())
        with pytest.raises(ConfigError, match=r"num_envs=3 .*NormalizeObservation depends"):
            dqn.train(steps=50, num_envs=3, run_dir=tmp_path / "run", quiet=True)
    assert not list(tmp_path.iterdir())
    assert run(Agent(2, 3, small(), 0), env, steps=20)  # one slot needs no copy


@pytest.mark.long
def test_run_with_several_environments_is_complete(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", config=small(learning_starts=40), seed=3)
    history = dqn.train(
        run_dir=tmp_path / "run", steps=600, num_envs=4, eval_episodes=1, video_every=2, frames=True, quiet=True
    )
    numbers = [episode.episode for episode in history.episodes]
    assert len(numbers) == len(set(numbers)) > 10
    assert numbers != sorted(numbers)
    episodes = {episode.episode: episode.length for episode in history.run.episodes}
    recorded = {number for number in episodes if number == 1 or number % 2 == 0}
    # Overlapping episodes have separate videos; unfinished ones have none.
    assert {int(path.stem[-5:]) for path in history.videos} == history.frames.keys() == recorded
    assert {number: len(frames) - 1 for number, frames in history.frames.items()} == {n: episodes[n] for n in recorded}
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert (tmp_path / "run" / "plots" / "curves.png").exists()
