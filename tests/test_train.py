"""Training: its events, the transitions it stores, budgets, evaluations, videos and errors."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.seeding import TRAINING_SEEDS
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, DivergenceError, EnvironmentFaultError
from perilune.training.evaluation import evaluate
from perilune.training.events import Episode, Evaluated, Event, Metrics, SafePoint, Started, Timestep
from perilune.training.loop import training_events
from worlds import Numbered, Timeless, Walk, World, n_step, small

Kind = TypeVar("Kind", bound=Event)


def agent_for(world: World, seed: int = 0, **agent_settings: Any) -> Agent:
    size, actions, _ = envs.space_sizes(world)
    return Agent(size, actions, small(**agent_settings), seed)


def run(agent: Agent, world: World, **train_settings: Any) -> list[Event]:
    quiet = {"eval_every": None, "eval_episodes": 1, "metrics_every": 10**6}
    events = training_events(agent, world, TrainConfig(**quiet | train_settings))
    return [event for event in events if not isinstance(event, SafePoint)]


def only(kind: type[Kind], events: list[Event]) -> list[Kind]:
    return [event for event in events if isinstance(event, kind)]


# The order of events


def test_events_have_expected_order_and_step_counts() -> None:
    world = Numbered(lengths=(4,), draws=True)
    events = run(
        agent_for(world), world, steps=19, eval_every=10, metrics_every=5, video_every=2
    )  # including 8 warm-up steps
    assert [(type(event).__name__, getattr(event, "env_steps", None)) for event in events] == [
        ("Started", None),
        *[("Timestep", None)] * 2,
        ("Metrics", 10),
        *[("Timestep", None)] * 3,
        ("Episode", 12),
        ("Evaluated", 12),
        *[("Timestep", None)] * 3,
        ("Metrics", 15),
        *[("Timestep", None)] * 2,
        ("Episode", 16),
        ("Episode", 19),
        ("Evaluated", 19),
    ]
    assert [(episode.episode, episode.length, episode.ended) for episode in only(Episode, events)] == [
        (1, 4, "terminated"),
        (2, 4, "terminated"),
        (3, 3, "budget"),
    ]


def test_episode_event_matches_the_episode_played() -> None:
    world = Numbered(lengths=(3, 5, 2), ends=("terminated", "truncated"))
    agent = agent_for(
        world, epsilon_start=1.0, epsilon_end=0.0, epsilon_decay_steps=10, tau=1.0, target_update_interval=4
    )
    episodes = only(Episode, run(agent, world, episodes=5))
    played = world.trained()[-5:]
    assert [episode.episode for episode in episodes] == [1, 2, 3, 4, 5]
    assert [episode.length for episode in episodes] == [len(steps) for steps in played]
    assert [episode.reward for episode in episodes] == [sum(step.reward for step in steps) for steps in played]
    assert [episode.ended for episode in episodes] == [
        "terminated" if steps[-1].terminated else "truncated" for steps in played
    ]
    assert {episode.ended for episode in episodes} == {"terminated", "truncated"}
    ends = list(itertools.accumulate([len(steps) for steps in played], initial=8))
    assert [episode.env_steps for episode in episodes] == ends[1:]
    # After the warm-up, epsilon falls by 0.1 per time step.
    assert [episode.epsilon for episode in episodes] == pytest.approx([max(0, 1 - (s - 8) / 10) for s in ends[:-1]])
    assert [episode.target_syncs for episode in episodes] == [end // 4 - 2 for end in ends[1:]]


@pytest.mark.parametrize("train_freq", [1, 2])
def test_episode_loss_is_mean_over_updates(train_freq: int) -> None:
    world = Numbered(lengths=(4, 6))
    events = run(agent_for(world, train_freq=train_freq), world, episodes=6, metrics_every=1)
    of_updates: list[float] = []
    for event in events:
        if isinstance(event, Metrics):
            of_updates.append(event.loss)
        elif isinstance(event, Episode):
            assert len(of_updates) == event.length / train_freq
            assert event.loss == pytest.approx(sum(of_updates) / len(of_updates))
            of_updates.clear()


# Budgets


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    learning_starts=st.integers(1, 12),
    steps=st.integers(1, 40),
    n_step=st.integers(1, 4),
)
@settings(max_examples=12)
def test_step_budget_is_exact(lengths: list[int], learning_starts: int, steps: int, n_step: int) -> None:
    world = Numbered(lengths=lengths)
    agent = agent_for(world, learning_starts=learning_starts, n_step=n_step)
    events = run(agent, world, steps=learning_starts + steps)
    episodes = only(Episode, events)
    assert agent.env_steps == sum(map(len, world.trained())) == learning_starts + steps
    assert sum(episode.length for episode in episodes) == steps
    assert agent.updates == steps
    assert agent.episodes == len(episodes)
    assert {episode.ended for episode in episodes[:-1]} <= {"terminated"}
    last = world.trained()[-1]
    assert episodes[-1].ended == ("terminated" if last[-1].terminated else "budget")
    assert only(Evaluated, events)[-1] is events[-1]


def test_second_training_run_skips_warm_up() -> None:
    world = Numbered(lengths=(4,))
    agent = agent_for(world)
    run(agent, world, steps=20)
    events = run(agent, world, steps=10)
    assert [(event.episode, event.env_steps) for event in only(Episode, events)] == [(4, 24), (5, 28), (6, 30)]
    assert agent.updates == 22
    events = run(agent, world, episodes=2)
    assert [(event.episode, event.env_steps) for event in only(Episode, events)] == [(7, 34), (8, 38)]
    assert len(only(Started, events)) == 1


def test_budget_without_update_is_refused() -> None:
    world = Numbered()
    with pytest.raises(ConfigError, match=r"steps=8 .*learning_starts=8 steps .train_freq=1") as caught:
        training_events(agent_for(world), world, TrainConfig(steps=8))
    assert caught.value.name == "steps"
    assert not world.seeds
    agent = agent_for(world)
    run(agent, world, steps=9)
    assert agent.updates == 1


@pytest.mark.parametrize(("learning_starts", "train_freq"), [(8, 4), (10, 3)])
def test_accepted_budget_allows_an_update(learning_starts: int, train_freq: int) -> None:
    accepted = []
    for steps in range(5, 16):
        world = Numbered()
        agent = agent_for(world, learning_starts=learning_starts, train_freq=train_freq)
        try:
            run(agent, world, steps=steps)
        except ConfigError:
            continue
        accepted.append(steps)
        assert agent.updates >= 1
    assert accepted == list(range(accepted[0], 16))
    assert accepted[0] <= learning_starts + train_freq


# The warm-up


@pytest.mark.parametrize("lengths", [(3,), (5, 2), (100,)])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("learning_starts", [1, 2, 11])
def test_warm_up_fills_replay_without_updates(lengths: tuple[int, ...], n: int, learning_starts: int) -> None:
    world = Numbered(lengths=lengths)
    agent = agent_for(world, n_step=n, learning_starts=learning_starts)
    before = agent.online.parameters.copy()
    events = training_events(agent, world, TrainConfig(episodes=1))
    assert isinstance(next(events), Started)
    assert len(agent.replay) == agent.env_steps == sum(map(len, world.trained())) == learning_starts
    assert (agent.updates, agent.episodes, agent.target_syncs) == (0, 0, 0)
    assert not agent.ongoing[0].n_step.pending
    np.testing.assert_array_equal(agent.online.parameters, before)


# What is stored


def assert_replay_holds_steps_played(agent: Agent, world: World, n: int) -> None:
    """Check that each training step is the start of exactly one stored transition, in order."""
    expected = [row for steps in world.trained() for row in n_step(steps, n, agent.config.gamma)]
    stored = agent.replay.arrays
    assert len(agent.replay) == len(expected) == agent.env_steps
    for at, row in enumerate(expected):
        np.testing.assert_array_equal(stored.obs[at], row.obs)
        assert stored.action[at] == row.action
        assert stored.reward[at] == pytest.approx(row.reward, rel=1e-6)
        assert stored.discount[at] == pytest.approx(row.discount, rel=1e-6)
        np.testing.assert_array_equal(stored.next_obs[at], row.next_obs)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("reuses_buffer", [False, True])
def test_replay_holds_the_steps_played(n: int, reuses_buffer: bool) -> None:
    world = Numbered(lengths=(3, 1, 6, 2), ends=("terminated", "truncated"), reuses_buffer=reuses_buffer)
    agent = agent_for(world, n_step=n, gamma=0.5, learning_starts=10)
    run(agent, world, steps=75, eval_every=7, eval_episodes=3)
    assert_replay_holds_steps_played(agent, world, n)
    # An observation holds the numbers of its episode and step: these are consecutive, in one episode.
    steps = agent.replay.arrays.next_obs - agent.replay.arrays.obs
    assert set(steps[:75, 0]) == {0}
    assert set(steps[:75, 1]) <= set(range(1, n + 1))
    # Only terminated steps have a discount of 0.
    ends = [step.terminated for steps in world.trained() for step in steps]
    if n == 1:
        assert (agent.replay.arrays.discount[:75] == 0).tolist() == ends
    assert any(ends)


def test_new_training_run_drops_pending_steps() -> None:
    world = Numbered(lengths=(6,))
    agent = agent_for(world, n_step=3, gamma=0.5)
    for event in training_events(agent, world, TrainConfig(steps=40, metrics_every=1)):
        if isinstance(event, Metrics) and event.env_steps == 11:  # in the middle of the first episode
            break
    run(agent, world, steps=12)
    stored = agent.replay.arrays
    rows = slice(0, len(agent.replay))
    np.testing.assert_array_equal(stored.obs[rows, 0], stored.next_obs[rows, 0])  # the number of the episode


@pytest.mark.parametrize("limit", [1, 3])
def test_episode_truncated_by_max_episode_steps_keeps_bootstrap(limit: int) -> None:
    world = Numbered(lengths=())
    agent = agent_for(world, gamma=0.5)
    events = run(agent, world, episodes=4, max_episode_steps=limit)
    assert [(event.length, event.ended) for event in only(Episode, events)] == [(limit, "truncated")] * 4
    warm_up = [1] * 8 if limit == 1 else [3, 3, 2]  # the warm-up truncates its last episode
    assert [len(steps) for steps in world.trained()] == warm_up + [limit] * 4
    assert [len(steps) for steps in world.scored()] == [limit]  # and the evaluation
    assert set(agent.replay.arrays.discount[: len(agent.replay)]) == {0.5}


# Metrics


@pytest.mark.parametrize(
    ("learning_starts", "train_freq", "metrics_every", "lines"),
    [
        (8, 1, 5, [10, 15, 20, 25, 30, 35, 40]),
        (8, 1, 16, [16, 32]),
        (8, 1, 1, list(range(9, 41))),
        (21, 1, 5, [25, 30, 35, 40]),  # no metrics during the warm-up
        (8, 4, 10, [12, 20, 32, 40]),  # the first update at or after each multiple of 10
        (8, 10, 3, [10, 20, 30, 40]),
    ],
)
def test_metrics_are_emitted_at_metrics_every(
    learning_starts: int, train_freq: int, metrics_every: int, lines: list[int]
) -> None:
    world = Numbered(lengths=(7, 3))
    agent = agent_for(world, learning_starts=learning_starts, train_freq=train_freq)
    metrics = only(Metrics, run(agent, world, steps=40, metrics_every=metrics_every))
    assert [line.env_steps for line in metrics] == lines
    first = learning_starts // train_freq
    assert [line.updates for line in metrics] == [line // train_freq - first for line in lines]


# Evaluations


@pytest.mark.parametrize(
    ("learning_starts", "eval_every", "at"),
    [
        (8, 10, [12, 20, 32, 40]),
        (8, 1, [12, 16, 20, 24, 28, 32, 36, 40]),
        (8, 16, [16, 32, 40]),
        (8, None, [40]),
        (8, 1000, [40]),
        (20, 5, [28, 32, 36, 40]),  # due at 25, 30, 35 and 40; none are due during the warm-up
    ],
)
def test_due_evaluation_waits_for_the_end_of_the_episode(
    learning_starts: int, eval_every: int | None, at: list[int]
) -> None:
    world = Numbered(lengths=(4,))
    agent = agent_for(world, learning_starts=learning_starts)
    evaluated = only(Evaluated, run(agent, world, steps=40, eval_every=eval_every))
    assert [event.env_steps for event in evaluated] == at
    assert [event.episodes for event in evaluated] == [(step - learning_starts) // 4 for step in at]


def test_all_evaluations_use_the_same_start_states() -> None:
    world = Walk()
    agent = agent_for(world, epsilon_start=1.0, epsilon_end=1.0)
    for event in training_events(agent, world, TrainConfig(steps=40, eval_every=10, eval_episodes=3)):
        if isinstance(event, Evaluated):
            scored = world.scored()[-3:]
            returns = [sum(step.reward for step in steps) for steps in scored]
            assert event.mean_return == pytest.approx(np.mean(returns))
            assert event.std_return == pytest.approx(np.std(returns))
            assert event.min_return == pytest.approx(min(returns))
            # The agent has not changed since, so it acts as in the last evaluation.
            for step in itertools.chain(*scored):
                assert step.action == int(agent.q_values(step.obs[None]).argmax())
    starts = [steps[0].obs[0] for steps in world.scored()]
    assert len(starts) > 6
    assert starts == starts[:3] * (len(starts) // 3)


def graded(*grades: float) -> Numbered:
    """Return a world whose evaluations return these grades in turn, regardless of the actions."""

    def reward(world: Numbered, action: int) -> float:
        scored = world.scored()
        return grades[len(scored) - 1] if scored and scored[-1] is world.recorded[-1] else 0.0

    return Numbered(lengths=(1,), reward=reward)


def test_evaluation_is_best_if_no_earlier_one_is_better() -> None:
    world = graded(-3, -5, -4, -2, -2, 1, 0)
    events = only(Evaluated, run(agent_for(world), world, steps=15, eval_every=1))
    assert [(event.mean_return, event.best) for event in events] == [
        (-3, True), (-5, False), (-4, False), (-2, True), (-2, True), (1, True), (0, False),
    ]  # fmt: skip


def test_training_stops_at_requested_return() -> None:
    world = graded(1, 4, 5, 9)
    agent = agent_for(world)
    events = run(agent, world, steps=1000, eval_every=1, stop_at_return=5)
    assert [event.mean_return for event in only(Evaluated, events)] == [1, 4, 5]
    assert isinstance(events[-1], Evaluated)
    assert agent.env_steps == 11


def test_training_seconds_exclude_event_consumers_and_evaluations() -> None:
    class Slow(Numbered):
        def begin(self) -> Any:
            if self.seeds[-1] is not None and self.seeds[-1] >= TRAINING_SEEDS:
                time.sleep(0.02)
            return super().begin()

    world = Slow(lengths=(4,))
    started = time.perf_counter()
    seconds = []
    for event in training_events(agent_for(world), world, TrainConfig(steps=40, eval_every=10, eval_episodes=2)):
        if isinstance(event, Episode):
            time.sleep(0.01)
        if isinstance(event, Evaluated):
            seconds.append(event.seconds)
    passed = time.perf_counter() - started
    slept = 4 * 2 * 0.02 + 8 * 0.01
    assert len(seconds) == 4
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] <= passed - slept


# Videos


def test_first_and_every_nth_episode_is_recorded() -> None:
    world = Numbered(lengths=(2, 4, 3), draws=True)
    events = run(agent_for(world), world, episodes=7, video_every=3)
    recorded: dict[int, list[int]] = {}
    for frame in only(Timestep, events):
        assert frame.image is not None
        assert frame.image.shape == (2, 3, 3)
        recorded.setdefault(frame.episode, []).append(int(frame.image[0, 0, 0]))
    lengths = {episode.episode: episode.length for episode in only(Episode, events)}
    # Every state, from the first to the last.
    assert recorded == {episode: list(range(lengths[episode] + 1)) for episode in (1, 3, 6)}


def test_initial_image_needs_no_video() -> None:
    world = Numbered(draws=True)
    events = run(agent_for(world), world, episodes=2)
    (started,) = only(Started, events)
    assert events[0] is started
    assert started.image is not None
    assert not started.image.any()  # step 0
    assert not only(Timestep, events)
    assert run(agent_for(Numbered()), Numbered(), episodes=1)[0] == Started(None)


def test_video_without_rendering_is_refused() -> None:
    world = Numbered()
    with pytest.raises(ConfigError, match=r'video_every=3 .*render_mode="rgb_array"') as caught:
        training_events(agent_for(world), world, TrainConfig(steps=100, video_every=3))
    assert caught.value.name == "video_every"
    assert not world.seeds


# Observing changes nothing


def weights_after(read: Callable[[Agent, Event], object] = lambda agent, event: None, **train_settings: Any) -> bytes:
    world = Walk(draws=True)
    agent = agent_for(world, n_step=2, layer_norm=True)
    for event in training_events(agent, world, TrainConfig(steps=150, **{"eval_every": None} | train_settings)):
        read(agent, event)
    assert agent.updates == 142
    return agent.online.parameters.tobytes() + agent.target.parameters.tobytes()


@pytest.mark.parametrize(
    "train_settings",
    [
        {"eval_every": 5, "eval_episodes": 3},
        {"eval_every": 50},
        {"video_every": 1},
        {"video_every": 4},
        {"metrics_every": 1},
    ],
)
def test_observing_training_does_not_change_weights(train_settings: dict[str, Any]) -> None:
    assert weights_after(**train_settings) == weights_after()


def test_using_the_agent_between_events_does_not_change_weights() -> None:
    other = Walk()

    def read(agent: Agent, event: Event) -> None:
        agent.q_values(np.ones((agent.config.batch_size, 1)))
        agent.greedy_action(np.ones(1, np.float32))
        evaluate(agent.greedy_action, other, 1)

    assert weights_after(read, metrics_every=1, video_every=2) == weights_after()


# Errors


def test_divergence_error_gives_advice_and_location() -> None:
    world = Timeless(reward=100.0, length=20)
    agent = agent_for(
        world, optimizer="sgd", learning_rate=1e4, loss="mse", max_grad_norm=None, tau=1.0, target_update_interval=1
    )
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergenceError, match=r"smaller learning_rate \(now 10000") as caught,
    ):
        run(agent, world, steps=10_000)
    where = re.search(r"step \d+ of episode (\d+), after (\d+) environment steps:.*in update (\d+):", str(caught.value))
    assert where is not None
    episode, env_step, update = map(int, where.groups())
    assert (update, env_step) == (agent.updates + 1, agent.env_steps)
    assert episode == agent.episodes + 1 + (agent.env_steps % 20 == 0)
    assert np.isfinite(agent.online.parameters).all()  # the failed update changed no weight


@pytest.mark.parametrize("reward", [math.nan, math.inf, 1e39, -1e100])
def test_invalid_reward_ends_training(reward: float) -> None:
    world = Numbered(reward=lambda world, action: reward if len(world.recorded) == 9 else 1.0)
    agent = agent_for(world)
    with pytest.raises(
        EnvironmentFaultError,
        match=rf"step 1 of episode \d.*after \d+ environment steps: .*reward={re.escape(str(reward))}",
    ):
        run(agent, world, steps=1000)
    assert np.isfinite(agent.online.parameters).all()


@pytest.mark.parametrize(
    ("learning_starts", "where"), [(8, "step 3 of episode 13,"), (99, "step 3 of an episode in the warm-up,")]
)
def test_infinite_n_step_return_is_not_stored(learning_starts: int, where: str) -> None:
    huge = float(np.finfo(np.float32).max)
    world = Numbered(reward=lambda world, action: huge if len(world.trained()) == 15 else 1.0)
    agent = agent_for(world, n_step=3, gamma=1.0, learning_starts=learning_starts)
    with pytest.raises(DivergenceError, match=rf"{where} after 59 environment steps: .*3 rewards is 6\.80565e\+38"):
        run(agent, world, steps=1000)
    assert np.isfinite(agent.replay.arrays.reward).all()
    assert np.isfinite(agent.online.parameters).all()


class Failing(Numbered):
    """An environment that raises at one reset or step, counted over all episodes from 1."""

    def __init__(self, reset: int = 0, step: int = 0, error: BaseException | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.error = error or OSError("the simulator is gone")
        self.fails_at, self.asked = {"reset": reset, "step": step}, {"reset": 0, "step": 0}

    def ask(self, what: str) -> None:
        self.asked[what] += 1
        if self.asked[what] == self.fails_at[what]:
            raise self.error

    def begin(self) -> Any:
        self.ask("reset")
        return super().begin()

    def move(self, action: int) -> Any:
        self.ask("step")
        return super().move(action)


@pytest.mark.parametrize(
    ("fails", "where"),
    [
        # Eight steps of warm-up in episodes of three. An evaluation of two episodes after the third episode.
        ({"reset": 1}, "reset of an episode in the warm-up, after 0"),
        ({"reset": 2}, "reset of an episode in the warm-up, after 3"),
        ({"step": 5}, "step 2 of an episode in the warm-up, after 4"),
        ({"reset": 4}, "reset of episode 1, after 8"),
        ({"step": 10}, "step 2 of episode 1, after 9"),
        ({"reset": 6}, "reset of episode 3, after 14"),
        (
            {"reset": 7},
            "step 3 of episode 3, after 17 .*: reset of the greedy episode with seed 1073741824",
        ),
        (
            {"step": 22},
            "step 3 of episode 3, after 17 .*: step 2 of the greedy episode with seed 1073741825",
        ),
    ],
    ids=str,
)
def test_environment_error_names_step_and_episode(fails: dict[str, int], where: str) -> None:
    world = Failing(**fails, lengths=(3,))
    with pytest.raises(EnvironmentFaultError, match=f"^{where}.*: .*raised OSError: the simulator is gone"):
        run(agent_for(world), world, steps=100, eval_every=17, eval_episodes=2)


def test_exit_of_an_environment_is_an_error() -> None:
    world = Failing(step=10, error=SystemExit(0), lengths=(3,))  # as after closing a window of pygame
    with pytest.raises(EnvironmentFaultError, match=r"step 2 of episode 1, after 9.*: .*step raised SystemExit: 0"):
        run(agent_for(world), world, steps=100)


def test_rendering_error_names_step_and_episode() -> None:
    class Blind(Numbered):
        def render(self) -> Array:
            if len(self.seeds) >= 4 and self.steps >= 2:
                raise OSError("it is dark")
            return super().render()

    world = Blind(lengths=(4,), draws=True)
    agent = agent_for(world)
    with pytest.raises(
        EnvironmentFaultError, match=r"^step 2 of episode 2, after 14 environment steps: rendering Blind failed"
    ):
        run(agent, world, steps=100, video_every=1)
    world = Blind(lengths=(4,), draws=True)
    with pytest.raises(
        EnvironmentFaultError, match=r"^step 2 of the greedy episode with seed \d+: rendering Blind failed"
    ):
        evaluate(agent.greedy_action, world, 5, show=lambda frame: None)
