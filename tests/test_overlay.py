"""What is drawn beneath a picture is what the agent thinks: bars, mark, figures and label are read off the pixels."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageColor

from perilune.errors import MissingDependencyError
from perilune.events import Frame
from perilune.nn.layers import Array
from perilune.view.overlay import BAR, CHOSEN, INK, LINE, Panel, Reading, drawn, following, resized

NAMES = ("left", "stay", "right")
PICTURE = np.full((400, 600, 3), 77, np.uint8)
finite = st.floats(-1e6, 1e6)


def reading(*q: float, action: int | None = 0, low: float = 0.0, high: float = 10.0, **more: Any) -> Reading:
    return Reading(q, action, **{"reward": 12.0, "low": low, "high": high, "recent": (), "outcome": None} | more)


def frame(action: int | None = 1, reward: float = 0.0, outcome: str | None = None) -> Frame:
    return Frame(1, PICTURE, np.zeros(2, np.float32), action, reward, outcome)


def panel_of(image: Array, reading: Reading, panel: Panel) -> Array:
    return drawn(image, reading, panel)[image.shape[0] :]


def is_colour(pixels: Array, colour: str) -> Array:
    return np.asarray((pixels == ImageColor.getrgb(colour)).all(-1))


def runs(line: Array) -> list[tuple[int, int]]:
    """Where a line of booleans is True: (first, length) of every run."""
    found, at = [], 0
    for value, group in groupby(line.tolist()):
        length = len(list(group))
        if value:
            found.append((at, length))
        at += length
    return found


def bars(panel: Array) -> list[tuple[int, int, int, str]]:
    """(top, left, length, colour) of every bar, from top to bottom: of all that begins at least ten pixels high."""
    found = []
    for colour in (BAR, CHOSEN):
        there = is_colour(panel, colour)
        for left in np.flatnonzero(there.any(0)):
            for top, height in runs(there[:, left]):
                row = runs(there[top + height // 2])
                if height >= 10 and any(left == first for first, _ in row):
                    found.append((top, int(left), next(length for first, length in row if first == left), colour))
    return sorted(found)


def test_a_bar_is_as_long_as_its_q_value_is_high_on_the_scale() -> None:
    panel = panel_of(PICTURE, reading(-15.0, -10.0, 0.0, action=1, low=-20.0, high=0.0), Panel("", NAMES))
    tracks = is_colour(panel, LINE) | is_colour(panel, BAR) | is_colour(panel, CHOSEN)
    (top, left, low, _), (_, _, middle, colour), (_, _, high, _) = (bar for bar in bars(panel) if bar[1] > 60)
    full = next(length for first, length in runs(tracks[top + 5]) if first == left)
    assert [low / full, middle / full, high / full] == pytest.approx([0.25, 0.5, 1.0], abs=1 / full)
    assert colour == CHOSEN
    assert full > 200


@pytest.mark.parametrize("action", [0, 1, 2, None])
def test_the_mark_is_beside_the_chosen_action_and_nowhere_at_the_end(action: int | None) -> None:
    panel = panel_of(PICTURE, reading(1.0, 2.0, 3.0, action=action), Panel("", NAMES))
    found = [bar for bar in bars(panel) if bar[1] > 60]
    assert [colour for *_, colour in found] == [CHOSEN if number == action else BAR for number in range(3)]
    marked = np.flatnonzero(is_colour(panel[:, :40], CHOSEN).any(1))  # the triangle, left of the names
    if action is None:
        assert not marked.size
    else:
        top = found[action][0]
        assert top <= marked.min() <= marked.max() <= top + 20


def test_the_chosen_actions_name_is_bright() -> None:
    def bright(action: int) -> list[bool]:
        panel = panel_of(PICTURE, reading(1.0, 2.0, 3.0, action=action), Panel("", NAMES))
        tops = [bar[0] for bar in bars(panel) if bar[1] > 60]
        return [bool(is_colour(panel[top : top + 19, :90], INK).any()) for top in tops]

    assert [bright(action) for action in range(3)] == [[True, False, False], [False, True, False], [False, False, True]]


def test_a_q_value_that_is_no_number_has_no_bar() -> None:
    panel = panel_of(PICTURE, reading(float("nan"), 5.0, float("inf"), action=0), Panel("", NAMES))
    assert len([bar for bar in bars(panel) if bar[1] > 60]) == 1


def test_the_latest_actions_are_ticks_the_newest_on_the_right() -> None:
    panel = panel_of(PICTURE, reading(1.0, 2.0, 3.0, action=2, recent=(0, 1, 1, 2)), Panel("", NAMES, memory=10))
    tops = [top for top, left, *_ in bars(panel) if 60 < left < 300]
    lines = [runs(is_colour(panel[top + 9], CHOSEN)[450:]) for top in tops]
    assert [sum(length for _, length in line) for line in lines] == [12, 24, 12]  # a fifth of 600 for ten
    (newest, _), (older, _), (oldest, _) = lines[2][-1], lines[1][-1], lines[0][-1]
    assert (newest - older, older - oldest) == (24, 12)
    assert 450 + newest + 12 == 600 - 12  # the panel's edge


@given(st.lists(st.lists(finite, min_size=2, max_size=2), min_size=1, max_size=20))
def test_the_scale_holds_all_of_the_flight_so_far_and_never_shrinks(flight: list[list[float]]) -> None:
    before: Reading | None = None
    seen: list[float] = []
    for q in flight:
        now = following(before, frame(), np.array(q), 5)
        seen += q
        slack = 1e-4 * (now.high - now.low)
        assert now.low - slack <= min(seen)
        assert max(seen) <= now.high + slack
        assert now.low < now.high
        if before is not None:
            assert now.low <= before.low + slack
            assert now.high >= before.high - slack
        before = now


def test_a_scale_has_round_ends_and_moves_seldom() -> None:
    rng = np.random.default_rng(0)
    ends, now = [], None
    for value in np.cumsum(rng.normal(0, 2, 500)):
        now = following(now, frame(), np.array([value, value + 3]), 5)
        ends.append((now.low, now.high))
    assert len(set(ends)) < 20
    assert all(len(f"{end:.6g}".replace("-", "").replace(".", "").strip("0")) <= 2 for pair in ends for end in pair)


def test_a_reading_remembers_so_many_actions_of_its_own_episode() -> None:
    now = None
    for action in (0, 1, 2, 2, 1):
        now = following(now, frame(action), np.zeros(3), 3)
    assert now is not None
    assert now.recent == (2, 2, 1)
    end = following(now, frame(None), np.zeros(3), 3)
    assert end.recent == (2, 2, 1)
    assert following(end, frame(0), np.zeros(3), 3).recent == (0,)


def test_the_outcome_is_told_at_the_end_alone() -> None:
    assert following(None, frame(1, 5.0), np.zeros(2), 3).outcome is None
    assert following(None, frame(None, 278.4, "landed"), np.zeros(2), 3).outcome == "landed +278"
    assert following(None, frame(None, -0.25), np.zeros(2), 3).outcome == "ended -0.2"
    assert following(None, frame(None, 0.0), np.zeros(2), 3).outcome == "ended 0"
    panel = Panel("", NAMES)
    assert (drawn(PICTURE, reading(1.0, 2.0, 3.0), panel)[:400] == PICTURE).all()
    labelled = drawn(PICTURE, reading(1.0, 2.0, 3.0, action=None, outcome="landed +278"), panel)[:400]
    rows, columns = (np.flatnonzero((labelled != PICTURE).any((axis, 2))) for axis in (1, 0))
    assert rows.min() > 300  # low, where it hides little
    assert columns.min() + columns.max() == pytest.approx(600, abs=2)
    assert is_colour(labelled, INK).any()


@pytest.mark.parametrize("count", [1, 2, 4, 6, 7, 12, 13, 18])
@pytest.mark.parametrize("size", [(400, 600), (256, 256), (133, 201), (240, 960)])
def test_any_number_of_actions_has_its_bars_within_the_picture(count: int, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 255, np.uint8)
    names = tuple(f"action {number}" for number in range(count))
    picture = drawn(image, reading(*[10.0] * count, action=None), Panel("0 steps", names, 50))
    assert picture.shape[1:] == image.shape[1:]
    panel = picture[size[0] :]
    assert len(panel) < 0.75 * max(size)
    assert len({(top, left) for top, left, *_ in bars(panel)}) == count
    assert not is_colour(panel, BAR)[:, -2:].any()


def test_drawing_once_leaves_nothing_for_the_next_time() -> None:
    panel = Panel("best", NAMES, 10)
    first = drawn(PICTURE, reading(1.0, 2.0, 3.0, action=0, recent=(0,)), panel)
    drawn(PICTURE, reading(9.0, 9.0, 9.0, action=2, recent=(2, 2), outcome="ended 0"), panel)
    assert (drawn(PICTURE, reading(1.0, 2.0, 3.0, action=0, recent=(0,)), panel) == first).all()
    assert (PICTURE == 77).all()


def test_without_actions_there_is_a_line_with_title_and_reward_alone() -> None:
    line = panel_of(PICTURE, reading(), Panel("0 steps"))
    assert len(line) < 45
    assert is_colour(line[:, :150], INK).any()
    assert is_colour(line[:, -80:], INK).any()
    assert not is_colour(line, BAR).any()


def test_a_picture_is_made_smaller_in_its_proportions() -> None:
    half = PICTURE.copy()
    half[:, 300:] = 200
    small = resized(half, 150)
    assert small.shape == (100, 150, 3)
    assert (small[:, :70] == 77).all()
    assert (small[:, 80:] == 200).all()


def test_without_pillow_the_install_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'perilune\[view\]'"):
        drawn(PICTURE, reading(1.0), Panel("", ("a",)))
