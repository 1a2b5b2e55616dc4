"""The panel below a video, read from its pixels."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageColor

from perilune._utils.arrays import Array
from perilune.errors import MissingDependencyError
from perilune.training.events import Timestep
from perilune.viz.overlay import (
    BAR,
    CAPTION,
    CHOSEN,
    INK,
    LINE,
    MUTED,
    NO_SCALE,
    Panel,
    Scale,
    add_panel,
    captions,
    latest_actions,
    widen,
)  # fmt: skip

NAMES = ("left", "stay", "right")
LANDER = ("nothing", "left engine", "main engine", "right engine")
PICTURE = np.full((400, 600, 3), 77, np.uint8)
finite = st.floats(-1e6, 1e6)


TEN = Scale(0.0, 10.0)


def timestep(*q: float, action: int | None = 0, step: int = 1, image: Array = PICTURE, **more: Any) -> Timestep:
    return Timestep(1, step, np.zeros(2), action, **{"reward": 12.0, "image": image, "q_values": np.array(q)} | more)


def panel_of(now: Timestep, panel: Panel, scale: Scale = TEN, recent: tuple[int, ...] = ()) -> Array:
    assert now.image is not None
    return add_panel(now, panel, scale, recent)[now.image.shape[0] :]


def is_color(pixels: Array, color: str) -> Array:
    return np.asarray((pixels == ImageColor.getrgb(color)).all(-1))


def runs(line: Array) -> list[tuple[int, int]]:
    """Return the start and length of each run of True in a line."""
    found, at = [], 0
    for value, group in groupby(line.tolist()):
        length = len(list(group))
        if value:
            found.append((at, length))
        at += length
    return found


def bars(panel: Array) -> list[tuple[int, int, int, str]]:
    """Return (top, left, length, color) of every bar at least ten pixels high, from top to bottom."""
    found = []
    for color in (BAR, CHOSEN):
        there = is_color(panel, color)
        for left in np.flatnonzero(there.any(0)):
            for top, height in runs(there[:, left]):
                row = runs(there[top + height // 2])
                if height >= 10 and any(left == first and length > 1 for first, length in row):  # skips edges
                    found.append((top, int(left), next(length for first, length in row if first == left), color))
    return sorted(found)


def tracks(panel: Array) -> list[tuple[int, int, int]]:
    """Return (top, left, right) of the background of every bar, from top to bottom, in a panel of 600 pixels."""
    found = []
    there = is_color(panel, LINE) | is_color(panel, BAR) | is_color(panel, CHOSEN) | is_color(panel, MUTED)
    for top, height in runs(there[:, 390]):
        if height >= 10:
            left, length = next((at, long) for at, long in runs(there[top + height // 2]) if at <= 390 < at + long)
            found.append((top, left, left + length))
    return found


@pytest.mark.parametrize(
    ("q", "scale"),
    [
        ((-26.0, -3.2, -15.0), (-15.0, 15.0)),  # all values are negative, as in Taxi
        ((-15.3, 100.0, 0.4), (-50.0, 100.0)),
        ((5.0, 10.0, 2.5), (-10.0, 10.0)),
    ],
)
def test_bar_reaches_from_zero_to_the_advantage(q: tuple[float, ...], scale: tuple[float, float]) -> None:
    low, high = scale
    panel = panel_of(timestep(*q, action=1), Panel("", NAMES), Scale(low, high))
    pixels = [int((is_color(row, BAR) | is_color(row, CHOSEN)).sum()) for row in panel]
    assert pixels.index(max(pixels)) in range(*tracks(panel)[1][:1], tracks(panel)[2][0])  # of the best action
    found = tracks(panel)
    assert len(found) == 3
    for number, (value, (top, left, right)) in enumerate(zip(q, found, strict=True)):
        row = panel[top + 5, left:right]
        zero, end = (round((at - low) / (high - low) * (right - left)) for at in (0.0, value - sum(q) / 3))
        assert right - left > 200
        # A thin line at zero is taller than the bar, which lies on one side of it.
        at = min(zero, right - left - 1)
        assert is_color(panel[top - 2 : top + 20, left + at], MUTED).all()
        expected = np.zeros(right - left, bool)
        expected[min(zero, end) : max(zero, end)] = True
        expected[at] = False
        filled = is_color(row, CHOSEN if number == 1 else BAR)
        assert (filled[1:-1] == expected[1:-1]).all()  # the background of the chosen action has an edge in that color
        assert filled[[0, -1]].all() or number != 1 or at in (0, right - left - 1)


@pytest.mark.parametrize("width", [240, 256, 600])
def test_chosen_action_is_marked_even_if_its_bar_is_short(width: int) -> None:
    image = np.zeros((100, width, 3), np.uint8)
    panel = panel_of(timestep(0.47, -0.5, 0.0, action=2, image=image), Panel("0 steps", NAMES, 50), Scale(-50, 150))
    gold = is_color(panel, CHOSEN)
    longest = [max((length for _, length in runs(line)), default=0) for line in gold]
    assert sum(length > 0.3 * width for length in longest) == 2  # the upper and the lower edge of its background
    assert max((length for line in is_color(panel, BAR) for _, length in runs(line)), default=0) <= 1


def test_bars_without_length_say_that_the_values_are_equal() -> None:
    wide = Scale(-50, 50)
    places = tracks(panel_of(timestep(10.0, 2.0, 3.0), Panel("", NAMES), wide))

    def labels(*q: float, scale: Scale = wide) -> list[int]:
        """Return the width of the label in each bar: the columns with light pixels, without the bar and its zero."""
        panel = panel_of(timestep(*q, action=1), Panel("", NAMES), scale)
        found = []
        for top, left, right in places:
            inside = panel[top + 4 : top + 16, left + 5 : right - 5]
            light = (inside.min(2) > 100) & ~is_color(inside, BAR) & ~is_color(inside, CHOSEN)
            found.append(int((light.any(0) & ~light.all(0)).sum()))
        return found

    assert labels(10.0, 2.0, 3.0) == [0, 0, 0]
    equal, close = labels(9.0, 9.0, 9.0), labels(9.0, 9.01, 9.0)
    assert 10 < min(equal) == max(equal) < min(close) == max(close)
    assert labels(9.0, 9.0, 9.0, scale=NO_SCALE) == equal


def test_q_value_that_is_not_finite_has_no_bar() -> None:
    panel = panel_of(timestep(float("nan"), 5.0, float("inf"), action=0), Panel("", NAMES))
    assert not [bar for bar in bars(panel) if bar[1] > 60]  # the only value equals the mean of the finite values
    panel = panel_of(timestep(float("nan"), 5.0, 9.0, action=0), Panel("", NAMES), Scale(-2, 2))
    assert [color for *_, color in bars(panel) if color == BAR] == [BAR, BAR]


def test_latest_actions_are_drawn_as_ticks_with_the_newest_on_the_right() -> None:
    now, scale = timestep(1.0, 2.0, 6.0, action=2), Scale(-5, 5)
    panel = panel_of(now, Panel("", NAMES, memory=10), scale, recent=(0, 1, 1, 2))
    tops = [top for top, left, *_ in bars(panel) if 60 < left < 300]
    lines = [runs(is_color(panel[top + 9], CHOSEN)[450:]) for top in tops]
    assert [sum(length for _, length in line) for line in lines] == [
        12,
        24,
        12,
    ]  # a fifth of 600 pixels for ten actions
    (newest, _), (older, _), (oldest, _) = lines[2][-1], lines[1][-1], lines[0][-1]
    assert (newest - older, older - oldest) == (24, 12)
    assert 450 + newest + 12 == 600 - 12  # the edge of the panel


@given(st.lists(st.lists(finite, min_size=2, max_size=2), min_size=1, max_size=20))
def test_scale_covers_all_values_and_never_shrinks(episode: list[list[float]]) -> None:
    before, seen = NO_SCALE, [0.0]
    for q in episode:
        now = widen(before, np.array(q))
        seen += q
        slack = 1e-4 * (now.high - now.low)
        assert now.low - slack <= min(seen)
        assert max(seen) <= now.high + slack
        assert now.low < now.high or (now == NO_SCALE and not any(seen))
        assert now.low <= before.low + slack
        assert now.high >= before.high - slack
        assert widen(now, np.array(seen)) == now  # values inside the scale do not change it
        before = now


def test_scale_has_round_limits_and_seldom_changes() -> None:
    rng = np.random.default_rng(0)
    scales, now = [], NO_SCALE
    for value in np.cumsum(rng.normal(0, 2, 500)):
        now = widen(now, (value, value + 3, float("nan"), float("-inf")))
        scales.append(now)
    assert len(set(scales)) < 20
    assert all(len(f"{end:.6g}".replace("-", "").replace(".", "").strip("0")) <= 2 for pair in scales for end in pair)
    assert widen(NO_SCALE, (-26.0, -3.2)) == (-30, 0)
    assert widen(NO_SCALE, (57.0, 93.0)) == (0, 100)
    assert widen(Scale(0, 100), (-15.3,)) == (-50, 100)


def test_latest_actions_match_the_episode() -> None:
    recent: tuple[int, ...] = ()
    for step, action in enumerate((0, 1, 2, 2, 1)):
        recent = latest_actions(recent, timestep(action=action, step=step), 3)
    assert recent == (2, 2, 1)
    assert latest_actions(recent, timestep(action=None), 3) == (2, 2, 1)
    assert latest_actions(recent, timestep(action=0, step=0), 3) == (0,)


def test_outcome_is_shown_only_at_the_end() -> None:
    panel = Panel("", NAMES)
    assert (add_panel(timestep(1.0, 2.0, 3.0), panel)[:400] == PICTURE).all()
    labeled = add_panel(timestep(1.0, 2.0, 3.0, action=None, reward=278.4, outcome="landed"), panel)[:400]
    rows, columns = (np.flatnonzero((labeled != PICTURE).any((axis, 2))) for axis in (1, 0))
    assert rows.min() > 300  # in the lower part of the image
    assert columns.min() + columns.max() == pytest.approx(600, abs=2)
    assert is_color(labeled, INK).any()
    rounded = add_panel(timestep(1.0, 2.0, 3.0, action=None, reward=278.0, outcome="landed"), panel)[:400]
    assert (labeled == rounded).all()
    assert (labeled != add_panel(timestep(1.0, 2.0, 3.0, action=None, reward=278.4), panel)[:400]).any()  # "ended"


@pytest.mark.parametrize("count", [1, 2, 4, 6, 7, 12, 13, 18])
@pytest.mark.parametrize("size", [(400, 600), (256, 256), (133, 201), (240, 960)])
def test_bars_of_any_number_of_actions_fit_into_the_image(count: int, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 255, np.uint8)
    names = tuple(f"action {number}" for number in range(count))
    now = timestep(*[20.0 * (number % 2) for number in range(count)], action=None, image=image)
    picture = add_panel(now, Panel("0 steps", names, 50), Scale(-20, 20))
    assert picture.shape[1:] == image.shape[1:]
    panel = picture[size[0] :]
    assert len(panel) < 0.75 * max(size)
    assert len({(top, left) for top, left, *_ in bars(panel)}) == (count if count > 1 else 0)
    assert not is_color(panel, BAR)[:, -2:].any()


def test_missing_pillow_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[view\]"):
        add_panel(timestep(1.0), Panel("", ("a",)))


def test_captions_are_wrapped_and_equal_in_height() -> None:
    text = "down/s: south, up/w: north, right/d: east, left/a: west, 4: pick up, 5: drop off. Press a key to begin"
    for width in (256, 550, 1206):
        long, short = captions(width, (text, "Space"))
        assert long.shape == short.shape
        assert long.shape[1] == width
        rows = runs((long != long[0, 0]).any((1, 2)))
        assert all(length > 0.5 * CAPTION for _, length in rows)  # readable letters
        assert (long[:, [0, -1]] == long[0, 0]).all()  # nothing is cut off
        assert len(rows) == {256: 4, 550: 2, 1206: 1}[width]
