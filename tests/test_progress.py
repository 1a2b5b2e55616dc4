"""Training progress: its figures, and its display in terminals and log files."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fixtures_runs import episode, evaluated
from perilune._utils.statistics import Estimate
from perilune._utils.text import WIDTH, duration, number, show_return, whole
from perilune.agent.config import TrainConfig
from perilune.bench.results import format_estimate
from perilune.training.events import Event, Metrics, Started, Timestep
from perilune.viz import terminal
from perilune.viz.summary import TrainingSummary
from perilune.viz.terminal import Status, block, board, live, sparkline
from terminals import shown

LANDER = ("landed", "crashed", "flew off", "hovered")


def metrics(env_steps: int, **values: Any) -> Metrics:
    defaults = {"updates": 10, "loss": 0.25, "mean_q": 1.5, "mean_td_target": 1.0, "gradient_norm": 2.0}
    return Metrics(**{"env_steps": env_steps, **defaults, "learning_rate": 1e-3, "epsilon": 0.5, **values})


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_remaining_time_follows_the_pace_and_counts_down() -> None:
    now = Clock()
    summary = TrainingSummary(TrainConfig(steps=1_000), 0, 0, now)
    assert summary.eta == "-"
    now.seconds += 30
    summary.read(episode(1, env_steps=250))
    assert (summary.share, summary.eta) == (0.25, "1 min 30 s")
    now.seconds += 12
    assert summary.eta == "1 min 18 s"
    now.seconds += 600
    assert summary.eta == "0 s"


@pytest.mark.parametrize(
    ("budget", "counters", "event", "share"),
    [
        ({"steps": 1_000, "episodes": 4}, (0, 0), episode(1, env_steps=100), 0.25),
        ({"steps": 1_000, "episodes": 4}, (0, 0), episode(2, env_steps=900), 0.9),
        ({"episodes": 10}, (5_000, 40), episode(41, env_steps=5_100), 0.1),
        ({"steps": 100}, (0, 0), episode(1, env_steps=130), 1.0),
        ({"steps": 1_000}, (0, 0), metrics(500), 0.5),
        ({"episodes": 5}, (0, 0), Timestep(1, 0, np.zeros(1), None, 0.0), 0.0),
    ],
)
def test_progress_refers_to_the_budget_that_ends_first(
    budget: dict[str, int], counters: tuple[int, int], event: Event, share: float
) -> None:
    summary = TrainingSummary(TrainConfig(**budget), *counters, Clock())
    summary.read(event)
    assert summary.share == pytest.approx(share)


def test_progress_counts_the_episodes_that_ended_in_several_environments() -> None:
    summary = TrainingSummary(TrainConfig(episodes=10), 0, 2, Clock())
    for count in (34, 5, 33):  # numbers follow the beginnings of the episodes
        summary.read(episode(count))
    assert (summary.figures["episode"], summary.share) == ("5", pytest.approx(0.3))


def test_mean_return_covers_the_last_hundred_complete_episodes() -> None:
    summary = TrainingSummary(TrainConfig(episodes=500), 0, 0, Clock())
    for count in range(1, 151):
        summary.read(episode(count, reward=-1_000.0 if count <= 50 else 7.5))
    summary.read(episode(151, reward=-1_000.0, ended="budget"))
    for reward in (float("nan"), None):  # logs contain None for a return that was not finite
        summary.read(episode(152, reward=reward))  # type: ignore[arg-type]
    assert summary.figures["mean of 100"] == "7.5"


def test_figures_are_the_newest_values_and_the_best_evaluation() -> None:
    now = Clock()
    summary = TrainingSummary(TrainConfig(steps=1_000), 0, 0, now)
    assert set(summary.figures.values()) == {"-", "0"}
    now.seconds += 4
    summary.read(metrics(100, mean_q=-41.25, gradient_norm=12.0))
    summary.read(episode(3, env_steps=200, epsilon=0.75, loss=0.125))
    summary.read(episode(4, env_steps=220, epsilon=0.5, loss=None))  # no updates: the loss does not change
    summary.read(evaluated(10, 12.25))
    summary.read(evaluated(20, -3.0, best=False))
    expected = {"epsilon": "0.500", "loss": "0.125", "mean Q": "-41.2", "gradient norm": "12", "episode": "2"}
    expected |= {"steps": "220", "steps/s": "55", "best evaluation": "12.2"}
    assert summary.figures == summary.figures | expected


def test_outcomes_are_counted_overall_and_over_the_last_hundred() -> None:
    summary = TrainingSummary(TrainConfig(episodes=500), 0, 0, Clock(), outcomes=LANDER)
    for count in range(1, 121):
        summary.read(episode(count, outcome="crashed" if count <= 30 else "landed"))
    summary.read(episode(121, ended="budget"))
    assert summary.outcomes == [("landed", 90, 90), ("crashed", 30, 10), ("flew off", 0, 0), ("hovered", 0, 0)]


def test_progress_of_resumed_training_includes_earlier_events() -> None:
    earlier: list[Event] = [*(episode(count, reward=2.0, outcome="landed") for count in range(1, 31))]
    earlier += [evaluated(300, 9), metrics(300)]
    now = Clock()
    summary = TrainingSummary(TrainConfig(episodes=60), 300, 30, now, began=(0, 0), outcomes=LANDER, earlier=earlier)
    assert (summary.share, summary.eta) == (0.5, "-")
    expected = {"mean of 100": "2.0", "best evaluation": "9.0", "mean Q": "1.5"}
    assert summary.figures == summary.figures | expected
    now.seconds += 10
    for count in range(31, 46):
        summary.read(episode(count, reward=5.0, env_steps=10 * count))
    # The speed is that of this process.
    assert (summary.share, summary.eta, summary.figures["steps/s"]) == (0.75, "10 s", "15")
    assert summary.returns(100) == [2.0] * 30 + [5.0] * 15


@given(st.one_of(st.none(), st.floats()), st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 10**11))
def test_numbers_have_at_most_nine_characters(value: float | None, decimals: int | None, count: int) -> None:
    assert 1 <= len(number(value, decimals)) <= WIDTH
    assert len(whole(count)) <= WIDTH


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (4e-4, "4.0e-4"), (9.504, "9.5"), (89.06, "89.1"), (89.04, "89"), (-99_999.9, "-100,000"),
        (-1e9, "-1.0e+9"), (500, "500"),
    ],
)  # fmt: skip
def test_small_numbers_have_more_decimals(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.000"), (0.9578, "0.958"), (-9.25, "-9.25"), (-12.04, "-12.0"), (500, "500.0")]
)
def test_small_returns_have_more_decimals(value: float, text: str) -> None:
    assert show_return(value) == text


def test_interval_of_small_returns_has_as_many_decimals_as_its_largest_part() -> None:
    assert format_estimate(Estimate(0.1186, 0.01, 0.29)) == "0.119 (0.010 to 0.290)"
    assert format_estimate(Estimate(2.8, -3.6, 21.04)) == "2.8 (-3.6 to 21.0)"
    assert format_estimate(Estimate(0.7346, math.nan, math.nan)) == "0.735"
    assert format_estimate(Estimate(math.nan, math.nan, math.nan)) == "nan"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (9.64, "9.6 s"), (59.4, "59.4 s"), (59.6, "1 min"), (61, "1 min 01 s"), (3_599, "59 min 59 s"),
        (3_600, "1 h"), (90_061, "25 h 01 min"),
    ],
)  # fmt: skip
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sparkline_returns_are_means_of_equally_sized_groups() -> None:
    summary = TrainingSummary(TrainConfig(episodes=100), 0, 0, Clock())
    assert summary.returns(30) == []
    for value in range(61):
        summary.read(episode(value + 1, reward=float(value)))
    before = summary.returns(30)
    assert before[:20] == [3 * place + 1 for place in range(20)]
    assert before[20] == 60
    summary.read(episode(62, reward=61.0))
    assert summary.returns(30)[:20] == before[:20]


def test_sparkline_has_eight_levels_and_draws_equal_values_in_the_middle() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.3, 0.1 + 0.2]) == "▄▄"  # equal except for rounding


def drawn(renderable: Any, width: int) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False).print(renderable)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def played(outcomes: tuple[str, ...] = LANDER, episodes: int = 300, **values: Any) -> TrainingSummary:
    now = Clock()
    summary = TrainingSummary(TrainConfig(episodes=2 * episodes), 0, 0, now, outcomes=outcomes)
    for count in range(1, episodes + 1):
        now.seconds += 1
        outcome = outcomes[count % len(outcomes)] if outcomes else None
        summary.read(episode(count, **{"reward": count - 200.0, "outcome": outcome} | values))
    return summary


@settings(max_examples=25)
@given(st.integers(20, 140), st.integers(1, 60), st.integers(0, 10**9), st.sampled_from([LANDER, ()]))
def test_progress_block_fits_into_narrow_terminals(
    width: int, title: int, steps: int, outcomes: tuple[str, ...]
) -> None:
    summary = played(outcomes, 5, env_steps=steps, reward=-123_456.7)
    lines = drawn(block(("words, " * 9)[:title], summary, width), width)
    assert len(lines) <= 16
    assert max(map(len, lines)) <= width


def test_progress_block_shows_return_curve_statistics_and_outcomes() -> None:
    summary = played()
    summary.read(evaluated(3_000, 219.13))
    summary.read(metrics(3_000))
    head, returns, *rest = drawn(block("LunarLander-v3, seed 0", summary, 80), 80)
    assert head.startswith("LunarLander-v3, seed 0  ━━━━━━")
    assert head.endswith(" 50%         ETA 5 min")
    assert returns.startswith("▁▁")
    assert returns.endswith("█  -196 to 97.5")
    assert [" ".join(line.split()) for line in rest] == [
        "mean of 100 50.5 best evaluation 219.1 epsilon 0.500",
        "episode 300 steps 3,000 steps/s 10",
        "loss 0.5 mean Q 1.5 gradient norm 2",
        "landed crashed flew off hovered",
        "so far 75 75 75 75",
        "last 100 25 25 25 25",
    ]
    narrow = drawn(block("t", summary, 30), 30)
    assert [line.split("  ")[0] for line in narrow[-4:]] == [*LANDER]


def test_progress_block_shows_the_state_before_the_first_episode_ends() -> None:
    summary = TrainingSummary(TrainConfig(episodes=5), 0, 0, Clock(), outcomes=LANDER)
    assert drawn(block("t", summary, 80), 80)[1] == "filling the replay buffer"
    summary.read(Started(None))
    assert drawn(block("t", summary, 80), 80)[1] == "first episode"


def test_without_a_terminal_plain_lines_go_to_stderr(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with live("t", TrainingSummary(TrainConfig(episodes=30), 0, 0)) as show:
        for count in range(1, 31):
            show(episode(count))
    assert capfd.readouterr().err.count("\n") == 1  # a short training run prints only the last line
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.0)
    summary = TrainingSummary(TrainConfig(episodes=2), 0, 0, outcomes=("landed", "crashed"))
    with live("a [red] title", summary) as show:
        show(episode(1, reward=3.0, outcome="landed"))
        show(episode(2, reward=5.0))
    out, err = capfd.readouterr()
    assert out == ""
    first, *_, last = err.splitlines()
    assert first.startswith("a [red] title   50%  ETA 0")
    assert last.startswith("a [red] title  100%  took 0 s  mean of 100 4.0  best evaluation -  epsilon 0.900")
    assert last.endswith("landed 1  crashed 0")
    assert "\x1b" not in err


TRAINING = """
import time
from fixtures_runs import episode
from perilune.agent.config import TrainConfig
from perilune.viz.summary import TrainingSummary
from perilune.viz.terminal import live
summary = TrainingSummary(TrainConfig(episodes=40), 0, 0, outcomes=("landed", "crashed"))
with live("LunarLander-v3, seed 0", summary) as show:
    for number in range(1, 41):
        show(episode(number, reward=-400.0 + number, outcome="crashed"))
        time.sleep(0.02)
"""


def test_terminal_keeps_the_last_block_and_shows_the_cursor_again() -> None:
    text, plain = shown(TRAINING)
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")  # hidden, then shown again
    assert all(len(line) <= 80 for line in plain.replace("\r", "\n").split("\n"))
    last = plain.replace("\r", "").rstrip("\n").split("\n")[-8:]
    assert re.search(r"100% +took \d", last[0])
    assert "-379.5" in last[2]  # the mean of -399, ..., -360
    assert last[6].split() == ["so", "far", "0", "40"]


def test_terminal_without_unicode_gets_ascii() -> None:
    text, plain = shown(
        TRAINING.replace("LunarLander", "Mondl\u00e4nder"), PYTHONIOENCODING="ascii:strict", NO_COLOR="1"
    )
    assert text.isascii()
    assert "Mondl?nder-v3, seed 0  ----" in plain
    assert "\x1b[36m" not in text


BOARD = """
from perilune.viz.terminal import Status, board
with board("CartPole-v1") as screen:
    for share in (0.1, 0.4, 0.8):
        screen.show(share, "0 of 1 done", [Status("out/seed-0", share, ["9 steps"])])
    screen.say("out/seed-0: best 500.0")
"""


def test_board_is_erased_at_the_end_and_printed_lines_stay() -> None:
    text, plain = shown(BOARD)
    assert text.index("\x1b[?25l") < text.rindex("\x1b[?25h")
    for part in ("out/seed-0: best 500.0", "out/seed-0 ", " 80%", "0 of 1 done"):
        assert part in plain
    assert text.rindex("\x1b[2K") > text.rindex("out/seed-0: best 500.0")


def test_board_without_a_terminal_prints_plain_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = [Status("out/seed-3", 0.5, ["9 steps"]), Status("out/seed-4", 0.1, [])]
    with board("a [red] title") as screen:
        screen.show(0.5, "1 of 2 done", running)  # too soon
        monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.0)
        screen.say("[bold] seed 0: best 12.0")
        screen.show(0.5, "1 of 2 done", running)
    assert capfd.readouterr().err == (
        "[bold] seed 0: best 12.0\na [red] title   50%  ETA -  1 of 2 done  out/seed-3 50%  out/seed-4 10%\n"
    )


def test_remaining_time_does_not_grow_while_a_seed_is_scored(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 1.0)
    monkeypatch.setattr("perilune.viz.terminal.time.perf_counter", lambda: now[0])
    trained, other = Status("seed-0", 1.0, []), Status("seed-1", 0.2, [])
    with board("x") as screen:
        for now[0], share, running in (
            (0.0, 0.0, [other]), (100.0, 0.5, [trained, other]), (130.0, 0.5, [trained, other]),
            (300.0, 0.5, [trained, other]), (400.0, 0.5, [trained]), (500.0, 0.6, [other]),
        ):  # fmt: skip
            screen.show(share, "0 of 2 done", running)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("  0 of")[0].split("%  ")[1] for line in lines] == [
        "ETA 1 min 40 s", "ETA 1 min 10 s", "ETA 0 s", "scoring", "ETA 5 min 33 s",
    ]  # fmt: skip


PROGRESS = """
from perilune.viz import terminal
with terminal.progress_bar("perilune: recording [runs/moon]") as tell:
    for step in range(0, 1001, 100):
        tell(step, 1000)
"""


def test_progress_bar_disappears_at_the_end(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raw, plain = shown(PROGRESS)
    assert "perilune: recording [runs/moon] " in plain
    assert raw.rstrip().endswith("\x1b[2K")
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 1
    exec(PROGRESS)  # noqa: S102 -- not in a terminal, and too short for a line
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.0)
    with terminal.progress_bar("perilune: [red]") as tell:
        tell(1, 4)
    assert capfd.readouterr() == ("", "perilune: [red]   25%\n")
