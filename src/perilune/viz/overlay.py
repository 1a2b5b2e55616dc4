"""The panel beneath a video: Q-values as bars, the chosen action, the return so far and the outcome.

A ``Reading`` follows an episode from time step to time step (``next_reading``). A ``Scale`` holds everything that the
bars show (``widen``). ``add_panel`` draws both beneath an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.training.events import Timestep
from perilune.viz.images import BAR, CHOSEN, INK, LINE, MUTED, PAPER, check_pillow, font, label

if TYPE_CHECKING:
    from PIL import Image

MAX_ROWS = 6  # actions; more are in two columns, or three
RECENT_WIDTH = 400  # pixels of an image from which on the latest actions are shown
FIGURE = 3.2  # widths of a letter that a Q-value takes
MIN_SIZE = 10  # pixels of letters that can be read
MIN_BAR = 3  # widths of a letter; a shorter bar has no Q-value beside it


class Panel(NamedTuple):
    """What stays the same in a video: the title, and the names of the actions; without names there are no bars.

    ``memory`` is the number of latest actions that are shown.
    """

    title: str
    actions: tuple[str, ...] = ()
    memory: int = 0


class Reading(NamedTuple):
    """What the panel shows at one time step: ``recent`` are the latest actions, the newest last."""

    q_values: tuple[float, ...]
    action: int | None
    reward: float
    recent: tuple[int, ...]
    outcome: str | None


class Scale(NamedTuple):
    """The ends of the bars' scale: round numbers around 0, where every bar begins, and around all Q-values.

    All panels of a video share it, so that a longer bar is a higher value.
    """

    low: float
    high: float


NO_SCALE = Scale(0.0, 0.0)


def widen(scale: Scale, q_values: Sequence[float] | Array) -> Scale:
    """Return ``scale``, or a wider one if one of ``q_values`` does not fit."""
    finite = [0.0, *(float(q) for q in q_values if math.isfinite(q))]
    low, high = min(finite), max(finite)
    slack = 1e-6 * (scale.high - scale.low)  # as in the rounding
    if scale.low - slack <= low and high <= scale.high + slack and scale != NO_SCALE:
        return scale  # rounding again could make it wider
    return Scale(*_round_ends(min(low, scale.low), max(high, scale.high)))


def next_reading(before: Reading | None, now: Timestep, q_values: Array, memory: int) -> Reading:
    """Return the reading of ``now``, whose state has q[A], after the one ``before``; it keeps ``memory`` actions."""
    recent = () if before is None or before.action is None else before.recent
    outcome = None
    if now.action is not None:
        recent = (*recent, now.action)[-memory:]
    else:
        outcome = f"{now.outcome or 'ended'} {_signed(now.reward)}"
    return Reading(tuple(map(float, q_values)), now.action, now.reward, recent, outcome)


def _round_ends(low: float, high: float) -> tuple[float, float]:
    """Return round numbers around a range, so that a scale seldom grows."""
    span = max(high - low, 1e-3 * abs(low), 1e-3 * abs(high), 1e-6)
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (0.2, 0.5, 1, 2) if span <= 5 * power * factor)
    down, up = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
    return down, max(up, down + step)


def _signed(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:+.0f}" if abs(value) >= 10 or value == round(value) else f"{value:+.1f}"


def _q(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Row(NamedTuple):
    """Where an action is drawn, in pixels. ``figure`` and ``recent``: right ends of its Q-value and latest actions."""

    name: str
    left: int
    top: int
    bottom: int
    bar: tuple[int, int]
    figure: int
    recent: int


class Layout(NamedTuple):
    """Where everything is on a panel, in pixels.

    ``size`` and ``small`` are heights of letters, ``tick`` the width of one of the latest actions (0: not shown).
    ``figures`` and ``ends``: whether Q-values and the ends of the scale are shown.
    """

    size: int
    small: int
    pad: int
    head: int
    height: int
    tick: int
    figures: bool
    ends: bool
    rows: tuple[Row, ...]


@lru_cache(maxsize=16)
def _layout(width: int, panel: Panel) -> Layout:
    size = round(min(max(width / 30, 12), 40))
    small = max(round(0.7 * size), MIN_SIZE)
    pad, head = round(0.6 * size), round(1.9 * size)
    count = len(panel.actions)
    if not count:
        return Layout(size, small, pad, head, head, 0, False, False, ())
    columns = math.ceil(count / MAX_ROWS)
    each = math.ceil(count / columns)
    column = (width - pad * (columns + 1)) // columns
    mark, letters, words = size, font(size), panel.actions
    longest = max(letters.getlength(name) for name in words)
    if longest > 0.45 * column:
        words = tuple(str(number) for number in range(count))
        longest = max(letters.getlength(name) for name in words)
    roomy = columns == 1 and width >= RECENT_WIDTH
    tick = round(0.2 * width / panel.memory) if roomy and panel.memory else 0
    taken = tick * panel.memory + pad if tick else 0
    figures = column - mark - longest - pad - taken - FIGURE * size >= MIN_BAR * size
    rows = []
    step = round(1.35 * size)
    for number in range(count):
        left, top = pad + number // each * (column + pad), head + number % each * step
        right = left + column
        figure = right - taken
        start = left + mark + math.ceil(longest) + pad
        end = figure - round(FIGURE * size) if figures else figure
        rows.append(
            Row(words[number], left, top, top + round(0.95 * size), (start, max(end, start + 4)), figure, right)
        )
    height = head + each * step + (round(1.6 * small) if columns == 1 and figures else pad // 2)
    return Layout(size, small, pad, head, height, tick, figures, columns == 1 and figures, tuple(rows))


@lru_cache(maxsize=16)
def _still(width: int, panel: Panel, scale: Scale) -> Image.Image:
    """Return the parts of a panel that stay the same while its scale does. Copy it to draw on it."""
    from PIL import Image, ImageDraw  # noqa: PLC0415

    layout = _layout(width, panel)
    still = Image.new("RGB", (width, layout.height), PAPER)
    draw = ImageDraw.Draw(still)
    letters, small = font(layout.size), font(layout.small)
    draw.line((0, 0, width, 0), LINE)
    draw.text((layout.pad, layout.head / 2), panel.title, INK, letters, anchor="lm")
    for row in layout.rows:
        draw.text((row.left + layout.size, (row.top + row.bottom) / 2), row.name, MUTED, letters, anchor="lm")
        draw.rectangle((row.bar[0], row.top, row.bar[1] - 1, row.bottom), LINE)
    room = width - 2 * layout.pad - letters.getlength(panel.title) - small.getlength("reward")
    if room > 4.5 * layout.size:
        draw.text((width - layout.pad - 3 * layout.size, layout.head / 2), "reward", MUTED, small, anchor="rm")
    if layout.ends:
        row, below = layout.rows[-1], layout.rows[-1].bottom + round(0.3 * layout.small)
        if small.getlength("Q-values ") < row.bar[0] - row.left - layout.size:
            draw.text((row.left + layout.size, below), "Q-values", MUTED, small, anchor="la")
        ends = [(row.bar[0], "la", f"{scale.low:g}"), (row.bar[1], "ra", f"{scale.high:g}")]
        for at, anchor, words in ends:
            draw.text((at, below), words, MUTED, small, anchor=anchor)
        zero = _along(row.bar, scale, 0.0)
        if all(abs(zero - at) > small.getlength(f"{words}0") for at, _, words in ends):
            draw.text((zero, below), "0", MUTED, small, anchor="ma")
        if layout.tick:
            draw.text((row.recent, below), "last second", MUTED, small, anchor="ra")
    return still


def _along(bar: tuple[int, int], scale: Scale, value: float) -> int:
    """Return the pixel of ``value`` on a bar."""
    share = (value - scale.low) / (scale.high - scale.low) if scale.low < scale.high else 0.0
    return bar[0] + round(min(max(share, 0.0), 1.0) * (bar[1] - bar[0]))


def add_panel(image: Array, reading: Reading, panel: Panel, scale: Scale = NO_SCALE) -> Array:
    """Return ``image``, uint8 [height, width, 3], with the panel beneath: uint8 [height + the panel's, width, 3].

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    check_pillow()
    from PIL import ImageDraw  # noqa: PLC0415

    width = image.shape[1]
    layout = _layout(width, panel)
    beneath = _still(width, panel, scale).copy()
    draw, letters = ImageDraw.Draw(beneath), font(layout.size)
    draw.text((width - layout.pad, layout.head / 2), _signed(reading.reward), INK, letters, anchor="rm")
    for number, row in enumerate(layout.rows):
        q, chosen, middle = reading.q_values[number], number == reading.action, (row.top + row.bottom) / 2
        if chosen:
            side = 0.3 * layout.size
            corners = [(row.left, middle - side), (row.left, middle + side), (row.left + 1.6 * side, middle)]
            draw.polygon(corners, CHOSEN)
            draw.text((row.left + layout.size, middle), row.name, INK, letters, anchor="lm")
        zero = _along(row.bar, scale, 0.0)
        if math.isfinite(q) and (end := _along(row.bar, scale, q)) != zero:
            draw.rectangle((min(zero, end), row.top, max(zero, end) - 1, row.bottom), CHOSEN if chosen else BAR)
        if chosen:  # visible even if the bar is short
            draw.rectangle((row.bar[0], row.top, row.bar[1] - 1, row.bottom), outline=CHOSEN)
        at = min(zero, row.bar[1] - 1)
        draw.line((at, row.top - 2, at, row.bottom + 2), MUTED)
        if layout.figures:
            draw.text((row.figure, middle), _q(q), INK if chosen else MUTED, letters, anchor="rm")
        if layout.tick:
            for ago, action in enumerate(reversed(reading.recent)):
                if action == number:
                    right = row.recent - ago * layout.tick
                    draw.rectangle((right - layout.tick, row.top, right - 1, row.bottom), CHOSEN)
    if reading.outcome is not None:
        image = label(image, reading.outcome, layout.size)
    return np.concatenate([image, np.asarray(beneath)])
