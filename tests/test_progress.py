"""What a person sees while an agent trains."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fixtures_runs import AGENT, episode, evaluated
from perilune import DQN
from perilune._utils.text import WIDTH, clock, number, whole
from perilune.agent.config import TrainConfig
from perilune.training.events import Event, Metrics, Started, Timestep
from perilune.viz import terminal
from perilune.viz.summary import BUCKETS, Curve, Summary
from perilune.viz.terminal import BLOCKS, block, live, sparkline, styled
from terminals import shown

LANDER = ("landed", "crashed", "flew off", "hovered")


def metrics(env_steps: int, **values: Any) -> Metrics:
    defaults = {"updates": 10, "loss": 0.25, "mean_q": 1.5, "mean_td_target": 1.0, "gradient_norm": 2.0}
    return Metrics(**{"env_steps": env_steps, **defaults, "learning_rate": 1e-3, "epsilon": 0.5, **values})


def told(summary: Summary) -> dict[str, str]:
    return {figure.label: figure.value for figure in summary.figures}


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


def test_a_long_episode_is_progress_before_it_ends() -> None:
    now = Clock()
    summary = Summary(TrainConfig(steps=1_000), 0, 0, now)
    now.seconds += 10
    summary.read(metrics(500))
    assert summary.share == 0.5
    assert (told(summary)["steps"], told(summary)["steps/s"], told(summary)["episode"]) == ("500", "50", "0")


def test_the_mean_is_that_of_the_last_hundred_whole_episodes() -> None:
    summary = Summary(TrainConfig(episodes=500), 0, 0, Clock())
    for count in range(1, 151):
        summary.read(episode(count, reward=-1_000.0 if count <= 50 else 7.5))
    summary.read(episode(151, reward=-1_000.0, ended="budget"))
    assert told(summary)["mean of 100"] == "7.5"


def test_only_the_best_evaluation_is_told() -> None:
    summary = Summary(TrainConfig(episodes=5), 0, 0, Clock())
    summary.read(episode(1))
    assert told(summary)["best evaluation"] == "-"
    summary.read(evaluated(10, 12.25))
    summary.read(evaluated(20, -3.0, best=False))
    assert told(summary)["best evaluation"] == "12.2"


def test_every_figure_is_the_newest_that_there_was() -> None:
    now = Clock()
    summary = Summary(TrainConfig(steps=1_000), 0, 0, now)
    assert set(told(summary).values()) == {"-", "0"}
    now.seconds += 4
    summary.read(metrics(100, mean_q=-41.25, gradient_norm=12.0))
    summary.read(episode(3, env_steps=200, epsilon=0.75, loss=0.125))
    summary.read(episode(4, env_steps=220, epsilon=0.5, loss=None))  # no update in it: the loss before is the newest
    expected = {"epsilon": "0.500", "loss": "0.125", "mean Q": "-41.2", "gradient norm": "12.0", "episode": "4"}
    assert told(summary) == told(summary) | expected | {"steps": "220", "steps/s": "55"}


def test_outcomes_are_counted_so_far_and_among_the_last_hundred() -> None:
    summary = Summary(TrainConfig(episodes=500), 0, 0, Clock(), outcomes=LANDER)
    for count in range(1, 121):
        summary.read(episode(count, outcome="crashed" if count <= 30 else "landed"))
    summary.read(episode(121, ended="budget"))
    assert summary.came_to == [("landed", 90, 90), ("crashed", 30, 10), ("flew off", 0, 0), ("hovered", 0, 0)]


def test_a_training_that_goes_on_is_told_from_its_beginning() -> None:
    earlier: list[Event] = [
        *(episode(count, reward=2.0, outcome="landed") for count in range(1, 31)),
        evaluated(300, 9),
    ]
    now = Clock()
    summary = Summary(
        TrainConfig(episodes=60), 300, 30, now, began=(0, 0), outcomes=LANDER, earlier=[*earlier, metrics(300)]
    )
    assert (summary.share, summary.eta) == (0.5, "-:--")
    assert told(summary)["mean of 100"] == "2.0"
    assert told(summary)["best evaluation"] == "9.0"
    assert told(summary)["mean Q"] == "1.500"
    assert summary.came_to[0] == ("landed", 30, 30)
    now.seconds += 10
    summary.read(episode(45, reward=5.0, env_steps=450))
    assert (summary.share, summary.eta, told(summary)["steps/s"]) == (
        0.75,
        "0:10",
        "15",
    )  # of this process's pace alone
    assert summary.returns.means(100) == [2.0] * 30 + [5.0]


def test_a_reward_that_is_no_number_spoils_nothing() -> None:
    summary = Summary(TrainConfig(episodes=5), 0, 0, Clock())
    for reward in (1.0, float("nan"), None, 3.0):  # as a log has what was not finite
        summary.read(episode(1, reward=reward))  # type: ignore[arg-type]
    assert told(summary)["mean of 100"] == "2.0"
    assert summary.returns.means(9) == [1.0, 3.0]


@given(st.one_of(st.none(), st.floats()), st.one_of(st.none(), st.integers(0, 3)))
def test_a_number_fits_its_place(value: float | None, decimals: int | None) -> None:
    assert 1 <= len(number(value, decimals)) <= WIDTH


@given(st.integers(0, 10**11))
def test_a_count_fits_its_place(count: int) -> None:
    assert len(whole(count)) <= WIDTH


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (0.0004, "4.0e-04"), (9.5, "9.500"), (89.06, "89.1"), (-99_999.9, "-99,999.9"), (1e6, "1.0e+06")],
)  # fmt: skip
def test_small_numbers_get_more_decimals(value: float, shown: str) -> None:
    assert number(value) == shown


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5 * BUCKETS), st.integers(1, 120))
def test_a_curve_has_the_means_of_all_values_in_order(values: list[float], most: int) -> None:
    curve = Curve()
    for value in values:
        curve.add(value)
    means = curve.means(most)
    # An oracle with all values at hand: some number of neighbours in each, the same for all but the last.
    assert len(means) <= most

    def groups(each: int) -> list[float]:
        return [float(np.mean(values[first : first + each])) for first in range(0, len(values), each)]

    each = next(
        each
        for each in range(1, len(values) + 1)
        if -(-len(values) // each) == len(means) and np.allclose(means, groups(each), atol=1e-3)
    )
    assert each == 1 or len(values) > most
    assert len(means) > most / 2 or each == 1


def test_a_curve_stands_still_while_its_last_place_fills() -> None:
    curve = Curve()
    for value in range(61):
        curve.add(value)
    before = curve.means(30)  # three in each
    curve.add(61)
    curve.add(62)
    assert curve.means(30)[:20] == before[:20] == [3 * place + 1 for place in range(20)]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (9.6, "0:10"), (61, "1:01"), (3_599, "59:59"), (3_600, "1:00:00"), (90_061, "25:01:01")],
)  # fmt: skip
def test_a_clock_reads_like_one(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


@given(st.lists(st.floats(-1e300, 1e300), max_size=50))
def test_a_sparkline_rises_with_its_values(values: list[float]) -> None:
    for ascii_only in (False, True):
        line = sparkline(values, ascii_only)
        assert len(line) == len(values)
        assert line.isascii() or not ascii_only
    heights = [BLOCKS.index(char) for char in sparkline(values)]
    pairs = sorted(zip(values, heights, strict=True))
    assert [height for _, height in pairs] == sorted(heights)
    if values and max(values) / 2 - min(values) / 2 > 1e-6 * max(map(abs, values)):
        assert (min(heights), max(heights)) == (0, 7)


def test_a_sparkline_has_eight_steps_and_a_flat_one_is_in_the_middle() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.3, 0.1 + 0.2]) == "▄▄"  # but for rounding
    assert sparkline([]) == ""


def drawn(summary: Summary, width: int, height: int, title: str = "LunarLander-v3, seed 0") -> list[str]:
    return ["".join(words for words, _ in line) for line in block(title, summary, width, height)]


def flown(outcomes: tuple[str, ...] = LANDER, episodes: int = 300, **values: Any) -> Summary:
    now = Clock()
    summary = Summary(TrainConfig(episodes=2 * episodes), 0, 0, now, outcomes=outcomes)
    for count in range(1, episodes + 1):
        now.seconds += 1
        outcome = outcomes[count % len(outcomes)] if outcomes else None
        summary.read(episode(count, **{"reward": count - 200.0, "outcome": outcome} | values))
    return summary


@given(
    st.integers(20, 240), st.integers(1, 60), st.integers(1, 60), st.integers(0, 10**9), st.sampled_from([LANDER, ()])
)
def test_the_block_fits_however_small_the_terminal(
    width: int, height: int, title: int, env_steps: int, outcomes: tuple[str, ...]
) -> None:
    summary = flown(outcomes, 5, env_steps=env_steps, reward=-123_456.7)
    lines = drawn(summary, width, height, ("words, " * 9)[:title])
    assert 1 <= len(lines) <= max(1, height - 1)
    assert max(map(len, lines)) <= width
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    console.print(styled(block(("words, " * 9)[:title], summary, width, height)))
    assert len(screen.getvalue().splitlines()) == len(lines)


def test_the_block_in_a_terminal_of_the_usual_size() -> None:
    summary = flown()
    summary.read(evaluated(3_000, 219.13))
    summary.read(metrics(3_000))
    assert drawn(summary, 80, 24) == [
        "LunarLander-v3, seed 0  ━━━━━━━━━━━━━━━━━━━───────────────────  50%  ETA    5:00",
        "returns  ▁▁▁▁▁▁▂▂▂▂▂▃▃▃▃▃▄▄▄▄▄▅▅▅▅▅▅▆▆▆▆▆▇▇▇▇▇██████         from -196.0 to 97.5",
        "mean of 100      50.5     best evaluation     219.1      epsilon           0.900",
        "episode           300     steps               3,000      steps/s              10",
        "loss            0.500     mean Q              1.500      gradient norm     2.000",
        "so far   landed      75   crashed      75   flew off      75   hovered      75",
        "last 100             25                25                 25                25",
    ]


def test_the_block_in_a_small_terminal_keeps_what_matters_most() -> None:
    summary = flown()
    assert [line[:21].strip() for line in drawn(summary, 40, 12)] == [
        "LunarLander-v3, seed",
        "━━━━━━━━━━━━━━━━━━━━─",
        "▁▁▁▂▂▃▃▃▄▄▅▅▆▆▆▇▇███",
        "mean 100       50.5",
        "epsilon       0.900",
        "steps         3,000",
        "loss          0.500",
        "grad norm         -",
        "last 100  landed  25",
        "flew off  25  hovered",
    ]
    assert [line.split()[0] for line in drawn(summary, 40, 5)][2:] == ["mean", "last"]
    assert drawn(summary, 40, 1) == drawn(summary, 40, 40)[:1]


def test_a_narrow_terminal_gets_the_outcomes_line_by_line() -> None:
    lines = drawn(flown(("reached the goal", "ran out of time")), 22, 30)
    assert lines[-3:] == ["last 100", "reached the goal  50", "ran out of time  50"]


def test_figures_stay_in_their_places_while_they_grow() -> None:
    for width in (100, 80, 60, 40):
        places = set()
        for episodes, reward in ((1, -1.0), (20, -321.5), (299, 0.0), (2_999, 199.9)):
            lines = drawn(flown(episodes=episodes, reward=reward), width, 30)
            places.add(tuple(len(line) for line in lines if not line.startswith(("returns", "▄"))))
        assert len(places) == 1


def test_before_the_first_episode_ends_the_block_says_what_is_going_on() -> None:
    summary = Summary(TrainConfig(episodes=5), 0, 0, Clock(), outcomes=LANDER)
    assert "filling the replay" in drawn(summary, 80, 24)[1]
    summary.read(Started(None))
    assert "first episode" in drawn(summary, 80, 24)[1]
    assert len(drawn(summary, 80, 24)) == len(drawn(flown(), 80, 24))  # nothing jumps when it does


def test_a_terminal_that_has_no_blocks_gets_plain_characters() -> None:
    for line in block("LunarLander-v3, with so long a title that it has to be cut off", flown(), 60, 20, True):
        assert "".join(words for words, _ in line).isascii()


def test_quiet_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with live("CartPole-v1, seed 0", TrainConfig(episodes=2), 0, 0, quiet=True) as show:
        show(Started(None))
        show(episode(1))
        show(evaluated(10, 1.0))
    assert capfd.readouterr() == ("", "")


def test_elsewhere_than_in_a_terminal_plain_lines_go_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.0)
    with live("a [red] title", TrainConfig(episodes=2), 0, 0, outcomes=("landed", "crashed")) as show:
        show(episode(1, reward=3.0, outcome="landed"))
        show(episode(2, reward=5.0))
    out, err = capfd.readouterr()
    assert out == ""
    first, *_, last = err.splitlines()
    assert first.startswith("a [red] title   50%  ETA 0:0")
    assert last.startswith("a [red] title  100%  took 0:00  mean of 100 4.0  best evaluation -  epsilon 0.900")
    assert last.endswith("landed 1  crashed 0")
    assert "\x1b" not in err
    assert all(len(line.splitlines()) == 1 for line in err.splitlines())


def test_a_short_training_elsewhere_is_told_in_its_last_line_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with live("t", TrainConfig(episodes=300), 0, 0) as show:
        for number in range(1, 301):
            show(episode(number))
    assert capfd.readouterr().err.count("\n") == 1


def test_a_run_that_is_resumed_shows_all_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    agent = DQN("CartPole-v1", seed=1, **AGENT)
    training = {"eval_episodes": 2, "max_episode_steps": 20, "pictures": False}
    agent.train(run_dir=tmp_path / "run", episodes=3, **training)
    history = agent.train(resume=True, run_dir=tmp_path / "run", change=["episodes"], episodes=5, **training)
    last = capfd.readouterr().err.splitlines()[-1]
    assert len(history.rewards) == 5
    assert f"mean of 100 {sum(history.rewards) / 5:.1f}  " in last
    assert "episode 5  " in last
    for label in ("balanced", "fell", "left the track"):
        assert f"{label} {[one.outcome for one in history.episodes].count(label)}" in last


def test_frames_are_no_progress() -> None:
    summary = Summary(TrainConfig(episodes=5), 0, 0, Clock())
    summary.read(Timestep(1, 0, None, None, 0.0))  # type: ignore[arg-type]
    assert summary.share == 0
    assert summary.state == "filling the replay"


TRAINING = """
import time
from fixtures_runs import episode
from perilune.agent.config import TrainConfig
from perilune.training.events import Timestep
from perilune.viz.terminal import live
with live("LunarLander-v3, seed 0", TrainConfig(episodes=40), 0, 0, outcomes=("landed", "crashed")) as show:
    for number in range(1, 41):
        show(episode(number, reward=-400.0 + number, outcome="crashed"))
        show(Timestep(number, 0, None, None, 0.0))
        if number == 20:
            print("a word in between")
        time.sleep(0.04)
"""


def test_a_real_terminal_has_one_block_that_is_drawn_over_and_its_cursor_back() -> None:
    text, plain = shown(TRAINING)
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")  # hidden, then shown again
    blocks = text.split("\x1b[1mLunarLander-v3, seed 0")[1:]
    assert len(blocks) >= 3
    # Each one is wiped away, line by line, before the next; the last one stays.
    assert [block.count("\x1b[1A\x1b[2K") for block in blocks] == [6] * (len(blocks) - 1) + [0]
    assert all(len(line) <= 80 for line in plain.replace("\r", "\n").split("\n"))
    last = plain.replace("\r", "").split("\n")[-8:]
    assert "100%  took   0:0" in last[0]
    assert "-379.5" in last[2]  # the mean of -399, ..., -360
    assert last[5].split() == ["so", "far", "landed", "0", "crashed", "40"]
    assert last[7] == ""
    assert plain.count("100%") == len([block for block in blocks if "100%" in block])


def test_a_terminal_of_another_encoding_is_no_reason_to_fail() -> None:
    text, plain = shown(
        TRAINING.replace("LunarLander", "Mondl\u00e4nder"), PYTHONIOENCODING="ascii:strict", NO_COLOR="1"
    )
    assert text.isascii()
    assert "Mondl?nder-v3, seed 0  ====" in plain
    assert "\x1b[36m" not in text  # and no colour where none is wanted


FILMING = """
from perilune.viz import terminal
with terminal.done("perilune: filming [runs/moon]") as tell:
    for step in range(0, 1001, 100):
        tell(step, 1000)
"""


def test_what_takes_its_time_has_a_bar_in_a_terminal_that_is_gone_in_the_end() -> None:
    raw, plain = shown(FILMING)
    assert "perilune: filming [runs/moon] " in plain
    assert "100%" in plain
    assert raw.rstrip().endswith("\x1b[2K")  # the line is wiped away
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 1  # and the cursor is back


def test_what_takes_its_time_is_one_line_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    exec(FILMING)  # noqa: S102 -- our own words
    assert capfd.readouterr() == ("", "perilune: filming [runs/moon]\n")
