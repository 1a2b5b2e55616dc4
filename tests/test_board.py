"""What a person sees while several agents train at once."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from perilune.viz import board as module
from perilune.viz.board import Lane, Pace, Standing, board, fitted
from terminals import shown

LANES = [Lane("out/seed-3", 0.5, ["50,000 steps", "evaluation 231.5"]), Lane("out/seed-4", 0.1, ["9,000 steps"])]


class Clock:
    """A clock that stands still until it is put forward."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_time_left_follows_from_what_was_gained_since_the_first_look() -> None:
    now = Clock()
    pace = Pace(now)
    assert pace.eta(0.4) == "-:--"  # done before: nothing to learn from
    now.seconds += 60
    assert pace.eta(0.4) == "-:--"
    assert pace.eta(0.6) == "2:00"
    assert pace.eta(1.0) == "0:00"


@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=6), st.integers(0, 80))
def test_fitted_keeps_whole_parts_in_order(parts: list[str], width: int) -> None:
    line = fitted(parts, width)
    kept = line.split("  ")
    assert kept == parts[: len(kept)]
    assert len(line) <= max(width, len(parts[0]))
    if len(kept) < len(parts):
        assert len("  ".join(parts[: len(kept) + 1])) > width


def drawn(standing: Standing, width: int) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    console.print(module._rows("CartPole-v1", standing, Pace(), width))
    return screen.getvalue().splitlines()


def test_every_training_has_a_bar_and_so_has_the_whole() -> None:
    first, second, whole = drawn(Standing(0.3, "2 of 10 done", LANES), 100)
    for part in ("out/seed-3", "━━━", " 50%", "50,000 steps", "evaluation 231.5"):
        assert part in first
    assert " 10%" in second
    for part in ("CartPole-v1", "━━━", " 30%", "ETA  -:--", "2 of 10 done"):
        assert part in whole


@given(st.integers(20, 200), st.integers(0, 5), st.integers(1, 60))
def test_a_row_is_one_line_however_narrow_the_terminal(width: int, lanes: int, title: int) -> None:
    rows = [Lane(("words, " * 9)[:title], 0.5, ["123,456,789 steps", "evaluation -123456.7"])] * lanes
    lines = drawn(Standing(0.5, "2 of 10 done, 1 failed", rows), width)
    assert len(lines) == lanes + 1
    assert max(map(len, lines)) <= width


def test_quiet_shows_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with board("CartPole-v1", quiet=True) as screen:
        screen.show(Standing(0.5, "1 of 2 done", LANES))
        screen.say("seed 0 is done")
    assert capfd.readouterr() == ("", "")


def test_elsewhere_than_in_a_terminal_plain_lines_go_to_standard_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with board("a [red] title") as screen:
        screen.show(Standing(0.5, "1 of 2 done", LANES))  # too soon
        monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
        screen.say("[bold] seed 0: best 12.0")
        screen.show(Standing(0.5, "1 of 2 done", LANES))
    assert capfd.readouterr() == (
        "",
        "[bold] seed 0: best 12.0\na [red] title   50%  ETA -:--  1 of 2 done  out/seed-3 50%  out/seed-4 10%\n",
    )


SHOWN = """
import time
from perilune.viz.board import Lane, Standing, board
with board("CartPole-v1") as screen:
    for share in (0.1, 0.4, 0.8):
        screen.show(Standing(share, "0 of 1 done", [Lane("out/seed-0", share, ["9 steps"])]))
    screen.say("out/seed-0: best 500.0")
"""


def test_a_real_terminal_keeps_what_was_said_and_has_its_cursor_back() -> None:
    text, plain = shown(SHOWN)
    assert text.index("\x1b[?25l") < text.rindex("\x1b[?25h")  # hidden, then shown again
    assert "out/seed-0: best 500.0" in plain
    assert " 80%" in plain
    assert text.rindex("\x1b[2K") > text.rindex("out/seed-0: best 500.0")  # the board is wiped away at the end
