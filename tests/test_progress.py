"""What a person sees while an agent trains."""

from __future__ import annotations

import io
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fixtures_runs import episode, evaluated
from perilune.config import TrainConfig
from perilune.events import Frame, Started
from perilune.view import progress
from perilune.view.progress import Summary, clock, fitted, live
from terminals import shown


class Clock:
    """A clock that stands still until it is put forward."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_time_left_follows_from_the_pace_so_far() -> None:
    now = Clock()
    summary = Summary(TrainConfig(steps=1_000), 0, 0, now)
    assert summary.eta == "-:--"
    now.seconds += 30
    summary.read(episode(1, env_steps=250))
    assert summary.share == 0.25
    assert summary.eta == "1:30"


def test_time_left_runs_down_between_two_events() -> None:
    now = Clock()
    summary = Summary(TrainConfig(steps=1_000), 0, 0, now)
    now.seconds += 30
    summary.read(episode(1, env_steps=500))
    now.seconds += 12
    assert summary.eta == "0:18"
    now.seconds += 60
    assert summary.eta == "0:00"


def test_the_budget_that_is_nearer_to_its_end_counts() -> None:
    summary = Summary(TrainConfig(steps=1_000, episodes=4), 0, 0, Clock())
    summary.read(episode(1, env_steps=100))
    assert summary.share == 0.25
    summary.read(episode(2, env_steps=900))
    assert summary.share == 0.9


def test_budgets_count_from_the_agents_counters_at_the_start() -> None:
    summary = Summary(TrainConfig(episodes=10), 5_000, 40, Clock())
    summary.read(episode(43, env_steps=5_100))
    assert summary.share == pytest.approx(0.3)


def test_the_last_episode_may_run_over_the_budget_of_steps() -> None:
    summary = Summary(TrainConfig(steps=100), 0, 0, Clock())
    summary.read(episode(1, env_steps=130))
    assert summary.share == 1


def test_reward_is_the_mean_of_the_last_hundred_whole_episodes() -> None:
    summary = Summary(TrainConfig(episodes=500), 0, 0, Clock())
    for number in range(1, 151):
        summary.read(episode(number, reward=-1_000.0 if number <= 50 else 7.5))
    summary.read(episode(151, reward=-1_000.0, ended="budget"))
    assert "reward    7.5" in summary.words


def test_only_the_best_evaluation_is_told() -> None:
    summary = Summary(TrainConfig(episodes=5), 0, 0, Clock())
    summary.read(episode(1))
    assert "best      -" in summary.words
    summary.read(evaluated(10, 12.25))
    summary.read(evaluated(20, -3.0, best=False))
    assert any(word.split() == ["best", "12.2"] for word in summary.words)


def test_before_the_first_episode_ends_it_says_what_is_going_on() -> None:
    summary = Summary(TrainConfig(episodes=5), 0, 0, Clock())
    assert summary.words == ["filling the replay"]
    summary.read(Started(None))
    assert summary.words == ["first episode"]


def test_figures_stay_in_their_places_while_they_grow() -> None:
    now = Clock()
    summary = Summary(TrainConfig(episodes=3_000), 0, 0, now)
    widths = set()
    for number, reward in ((1, -1.0), (20, -321.5), (300, 0.0), (2_999, 199.9)):
        now.seconds += 1
        summary.read(episode(number, reward=reward))
        summary.read(evaluated(number, reward))
        widths.add(tuple(map(len, summary.words)))
    assert len(widths) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (9.6, "0:10"), (61, "1:01"), (3_599, "59:59"), (3_600, "1:00:00"), (90_061, "25:01:01")],
)  # fmt: skip
def test_a_clock_reads_like_one(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=6), st.integers(0, 80))
def test_fitted_keeps_whole_parts_in_order(parts: list[str], width: int) -> None:
    line = fitted(parts, width)
    kept = line.split("  ")
    assert kept == parts[: len(kept)]
    assert len(line) <= max(width, len(parts[0]))
    if len(kept) < len(parts):
        assert len("  ".join(parts[: len(kept) + 1])) > width


@given(st.integers(20, 240), st.integers(1, 60), st.integers(0, 10**9))
def test_the_live_line_is_one_line_however_narrow_the_terminal(width: int, title: int, env_steps: int) -> None:
    summary = Summary(TrainConfig(steps=10**9), 0, 0)
    summary.read(episode(12_345, reward=-123_456.7, env_steps=env_steps))
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    console.print(progress._row(("words, " * 9)[:title], summary, width))
    (line,) = screen.getvalue().splitlines()
    assert len(line) <= width


def test_a_wide_terminal_gets_a_bar_and_every_figure() -> None:
    now = Clock()
    summary = Summary(TrainConfig(steps=1_000), 0, 0, now)
    now.seconds += 10
    summary.read(episode(7, reward=-88.8, env_steps=500, epsilon=0.37))
    screen = io.StringIO()
    console = Console(file=screen, width=140, force_terminal=True, color_system=None, legacy_windows=False)
    console.print(progress._row("LunarLander-v3, seed 0", summary, 140))
    line = screen.getvalue()
    figures = ["50%", "ETA  0:10", "reward  -88.8", "best      -", "episode     7", "epsilon 0.37", "500 steps", "50/s"]
    for part in ("LunarLander-v3, seed 0", "━━━━", *figures):
        assert part in line


def test_quiet_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with live("CartPole-v1, seed 0", TrainConfig(episodes=2), 0, 0, quiet=True) as show:
        show(Started(None))
        show(episode(1))
        show(evaluated(10, 1.0))
    assert capfd.readouterr() == ("", "")


def test_elsewhere_than_in_a_terminal_plain_lines_go_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with live("a [red] title", TrainConfig(episodes=2), 0, 0) as show:
        show(episode(1, reward=3.0))
        show(episode(2, reward=5.0))
    out, err = capfd.readouterr()
    assert out == ""
    first, *_, last = err.splitlines()
    assert first.startswith("a [red] title   50%  ETA 0:0")
    assert last.startswith("a [red] title  100%  ETA 0:00  reward    4.0")
    assert "\x1b" not in err
    assert all(len(line.splitlines()) == 1 for line in err.splitlines())


def test_a_short_training_elsewhere_is_told_in_its_last_line_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with live("t", TrainConfig(episodes=300), 0, 0) as show:
        for number in range(1, 301):
            show(episode(number))
    assert capfd.readouterr().err.count("\n") == 1


def test_an_event_costs_next_to_nothing() -> None:
    # Microseconds in truth; an update of the network takes hundreds.
    summary = Summary(TrainConfig(episodes=10**6), 0, 0)
    events = [episode(number) for number in range(1, 5_001)]
    started = time.perf_counter()
    for event in events:
        summary.read(event)
    assert (time.perf_counter() - started) / len(events) < 200e-6


TRAINING = """
import time
from fixtures_runs import episode
from perilune.config import TrainConfig
from perilune.events import Frame
from perilune.view.progress import live
with live("LunarLander-v3, seed 0", TrainConfig(episodes=40), 0, 0) as show:
    for number in range(1, 41):
        show(episode(number, reward=-400.0 + number))
        show(Frame(number, None, None, None, 0.0))
        time.sleep(0.02)
"""


def test_a_real_terminal_has_one_line_that_is_drawn_over_and_its_cursor_back() -> None:
    text, plain = shown(TRAINING)
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")  # hidden, then shown again
    drawn = [line for line in re.split("[\r\n]+", plain) if line]
    assert len(drawn) >= 3
    assert all(len(line) <= 80 for line in drawn)
    assert plain.count("\n") <= 2  # one line, and the way out of it
    assert "100%" in drawn[-1]
    assert "-379.5" in drawn[-1]  # the mean of -399, ..., -360


def test_frames_are_no_progress() -> None:
    summary = Summary(TrainConfig(episodes=5), 0, 0, Clock())
    summary.read(Frame(1, None, None, None, 0.0))  # type: ignore[arg-type]
    assert summary.share == 0
    assert summary.words == ["filling the replay"]
