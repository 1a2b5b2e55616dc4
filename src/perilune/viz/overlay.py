"""Draw on RGB images, uint8 [height, width, 3]: labels, captions, and the panel below a video.

The panel shows Q-values as numbers, advantages (Q minus the mean Q of all actions) as bars, the chosen action, the
latest actions and the return so far. A bar that showed Q itself would be shortest for the best action if all Q-values
were negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.extras import missing
from perilune.training.events import Timestep

PAPER, LINE, INK, MUTED = "#14171c", "#2b313b", "#e8eaed", "#959dab"
BAR, CHOSEN = "#5b7194", "#ffb000"
CAPTION = 18  # pixels; font size of captions
MAX_ROWS = 6  # of actions in a column; more actions need several columns
RECENT_WIDTH = 400  # pixels; narrower images do not show the latest actions
FIGURE = 3.2  # width of a Q-value, in font sizes
ADVANTAGE = "Q - mean"  # label of the bars
MIN_BAR = 3  # length in font sizes; a shorter bar has no Q-value beside it


def _pillow() -> Any:
    """Import the Pillow modules used here, and return the package."""
    try:
        import PIL.Image  # noqa: PLC0415 -- heavy, and optional
        import PIL.ImageDraw  # noqa: PLC0415
        import PIL.ImageFont  # noqa: PLC0415
    except ImportError as error:
        raise missing("drawing on videos needs Pillow", "view") from error
    return PIL


@lru_cache
def _font(size: int) -> Any:
    """Return the font of all text on images. It has ASCII characters only."""
    return _pillow().ImageFont.load_default(size)


def _blank(width: int, height: int) -> tuple[Any, Any]:
    """Return a Pillow image in the background color, and an object that draws on it."""
    image = _pillow().Image.new("RGB", (width, height), PAPER)
    return image, _pillow().ImageDraw.Draw(image)


def label_corner(image: Array, text: str) -> Array:
    """Return ``image`` with a label in its upper left corner."""
    size = min(max(round(image.shape[0] / 18), 12), 20)
    return _label(image, text, size, (1.2 * size, 1.2 * size), "lt", LINE)


def _label(image: Array, text: str, size: int, at: tuple[float, float], anchor: str, edge: str) -> Array:
    picture = _pillow().Image.fromarray(image)
    draw = _pillow().ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox(at, text, font=_font(size), anchor=anchor)
    beside, above = 0.75 * size, 0.45 * size
    corners = (left - beside, top - above, right + beside, bottom + above)
    draw.rounded_rectangle(corners, above, PAPER, edge, 2)
    draw.text(at, text, INK, _font(size), anchor=anchor)
    return np.asarray(picture)


@lru_cache(maxsize=4)
def captions(width: int, texts: tuple[str, ...]) -> list[Array]:
    """Return an image of each text, wrapped at ``width``. All images have the same height."""
    wrapped = [_wrap(text, width - CAPTION) for text in texts]
    step = round(1.4 * CAPTION)
    height = step * max(map(len, wrapped)) + CAPTION // 2
    images = []
    for lines in wrapped:
        picture, draw = _blank(width, height)
        top = (height - step * len(lines)) / 2
        for number, line in enumerate(lines):
            draw.text((width / 2, top + (number + 0.5) * step), line, INK, _font(CAPTION), anchor="mm")
        images.append(np.asarray(picture))
    return images


def _wrap(text: str, width: int) -> list[str]:
    first, *words = text.split(" ")
    lines = [first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if _font(CAPTION).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def side_by_side(images: Sequence[Array], gap: int) -> Array:
    """Return ``images``, which have the same height, in a row with ``gap`` black pixels between them."""
    between = np.zeros((images[0].shape[0], gap, 3), np.uint8)
    return np.concatenate([part for image in images for part in (between, image)][1:], axis=1)


def resize(image: Array, width: int) -> Array:
    """Return ``image`` resized to ``width``, with the same aspect ratio."""
    picture, height = _pillow().Image, round(image.shape[0] * width / image.shape[1])
    return np.asarray(picture.fromarray(image).resize((width, max(height, 1)), picture.Resampling.LANCZOS))


class Panel(NamedTuple):
    """Content of a panel: title, names of the actions (if empty, no bars), and number of latest actions to show."""

    title: str
    actions: tuple[str, ...] = ()
    memory: int = 0


class Scale(NamedTuple):
    """Range of the bars: round numbers that enclose 0 and all advantages. Each bar starts at 0.

    All panels of a video have the same scale, so that their bars can be compared.
    """

    low: float
    high: float


NO_SCALE = Scale(0.0, 0.0)


def advantages(q_values: Array) -> Array:
    """Return Q[A] minus the mean Q of all actions, [A]. Values that are not finite become NaN."""
    finite = np.isfinite(q_values)
    mean = q_values[finite].mean() if finite.any() else 0.0
    return np.where(finite, q_values, np.nan) - mean


def widen(scale: Scale, values: Sequence[float] | Array) -> Scale:
    """Return ``scale``, or a wider scale if some of ``values`` are outside it. If all are 0, it stays ``NO_SCALE``."""
    finite = [0.0, *(float(value) for value in values if math.isfinite(value))]
    low, high = min(finite), max(finite)
    if low == high and scale == NO_SCALE:
        return scale
    slack = 1e-6 * (scale.high - scale.low)  # tolerance for the rounding below
    if scale.low - slack <= low and high <= scale.high + slack and scale != NO_SCALE:
        return scale  # rounding again could make it wider
    low, high = min(low, scale.low), max(high, scale.high)
    span = max(high - low, 1e-3 * abs(low), 1e-3 * abs(high), 1e-6)
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (0.2, 0.5, 1, 2) if span <= 5 * power * factor)
    down, up = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
    return Scale(down, max(up, down + step))


def latest_actions(before: tuple[int, ...], now: Timestep, memory: int) -> tuple[int, ...]:
    """Return the latest ``memory`` actions of an episode, newest last, given those ``before`` this time step."""
    if now.action is None:
        return before
    return (*(before if now.step else ()), now.action)[-memory:]


def _signed(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:+.0f}" if abs(value) >= 10 or value == round(value) else f"{value:+.1f}"


def _q(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class _Row(NamedTuple):
    """Position of an action in pixels. ``figure``, ``recent``: right ends of its Q-value and of the latest actions."""

    name: str
    left: int
    top: int
    bottom: int
    bar: tuple[int, int]
    figure: int
    recent: int


class _Layout(NamedTuple):
    """Sizes in pixels, and the rows. ``tick`` is the width of one latest action; 0 if they are not shown.

    ``has_figures`` and ``has_ends``: whether Q-values and the ends of the scale are shown.
    """

    size: int
    small: int
    pad: int
    head: int
    height: int
    tick: int = 0
    has_figures: bool = False
    has_ends: bool = False
    rows: tuple[_Row, ...] = ()


@lru_cache(maxsize=16)
def _layout(width: int, panel: Panel) -> _Layout:
    size = round(min(max(width / 30, 12), 40))
    small, pad, head = max(round(0.7 * size), 10), round(0.6 * size), round(1.9 * size)
    names, count = panel.actions, len(panel.actions)
    if not names:
        return _Layout(size, small, pad, head, head)
    columns = math.ceil(count / MAX_ROWS)
    each = math.ceil(count / columns)
    column = (width - pad * (columns + 1)) // columns
    longest = max(map(_font(size).getlength, names))
    if longest > 0.45 * column:
        names = tuple(map(str, range(count)))
        longest = max(map(_font(size).getlength, names))
    tick = round(0.2 * width / panel.memory) if columns == 1 and width >= RECENT_WIDTH and panel.memory else 0
    taken = tick * panel.memory + pad if tick else 0
    has_figures = column - size - longest - pad - taken - FIGURE * size >= MIN_BAR * size
    step = round(1.35 * size)
    rows = []
    for number, name in enumerate(names):
        left, top = pad + number // each * (column + pad), head + number % each * step
        start, figure = left + size + math.ceil(longest) + pad, left + column - taken
        end = figure - round(FIGURE * size) if has_figures else figure
        rows.append(
            _Row(name, left, top, top + round(0.95 * size), (start, max(end, start + 4)), figure, left + column)
        )
    has_ends = columns == 1 and has_figures
    height = head + each * step + (round(1.6 * small) if has_ends else pad // 2)
    return _Layout(size, small, pad, head, height, tick, has_figures, has_ends, tuple(rows))


@lru_cache(maxsize=16)
def _still(width: int, panel: Panel, scale: Scale) -> Any:
    """Return the constant parts of a panel as a Pillow image. Draw only on a copy of it, because it is cached."""
    layout = _layout(width, panel)
    still, draw = _blank(width, layout.height)
    letters, small = _font(layout.size), _font(layout.small)
    draw.line((0, 0, width, 0), LINE)
    draw.text((layout.pad, layout.head / 2), panel.title, INK, letters, anchor="lm")
    for row in layout.rows:
        draw.text((row.left + layout.size, (row.top + row.bottom) / 2), row.name, MUTED, letters, anchor="lm")
        draw.rectangle((row.bar[0], row.top, row.bar[1] - 1, row.bottom), LINE)
    room = width - 2 * layout.pad - letters.getlength(panel.title) - small.getlength("return")
    if room > 4.5 * layout.size:
        draw.text((width - layout.pad - 3 * layout.size, layout.head / 2), "return", MUTED, small, anchor="rm")
    if layout.has_ends:
        row, below = layout.rows[-1], layout.rows[-1].bottom + round(0.3 * layout.small)
        if small.getlength(f"{ADVANTAGE} ") < row.bar[0] - row.left - layout.size:
            draw.text((row.left + layout.size, below), ADVANTAGE, MUTED, small, anchor="la")
        draw.text((row.figure, below), "Q", MUTED, small, anchor="ra")
        ends = [(row.bar[0], "la", f"{scale.low:g}"), (row.bar[1], "ra", f"{scale.high:g}")]
        ends = [] if scale == NO_SCALE else ends
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


def _if_equal(bars: Array, layout: _Layout, scale: Scale) -> str:
    """Return the label of bars that are at most a pixel long: "equal" or "almost equal"; "" for longer bars."""
    finite = bars[np.isfinite(bars)]
    if len(finite) < 2 or not layout.rows:
        return ""
    bar = layout.rows[0].bar
    zero = _along(bar, scale, 0.0)
    if any(abs(_along(bar, scale, value) - zero) > 1 for value in finite.tolist()):
        return ""
    words = "equal" if np.ptp(finite) == 0 else "almost equal"
    return words if 2 * _font(layout.small).getlength(words) < bar[1] - bar[0] else ""


def add_panel(now: Timestep, panel: Panel, scale: Scale = NO_SCALE, recent: Sequence[int] = ()) -> Array:
    """Return the image of a time step with the panel below it, and with the outcome if the episode has ended.

    The time step has an image and, if the panel has actions, Q-values. ``recent`` are the latest actions, newest last.
    """
    image, q_values = now.image, np.empty(0) if now.q_values is None else now.q_values
    assert image is not None
    height, width = image.shape[:2]
    layout = _layout(width, panel)
    beneath = _still(width, panel, scale).copy()
    draw, letters = _pillow().ImageDraw.Draw(beneath), _font(layout.size)
    draw.text((width - layout.pad, layout.head / 2), _signed(now.reward), INK, letters, anchor="rm")
    bars = advantages(q_values)
    words = _if_equal(bars, layout, scale)
    numbers = zip(layout.rows, q_values.tolist(), bars.tolist(), strict=False)
    for number, (row, q, advantage) in enumerate(numbers):
        chosen, middle = number == now.action, (row.top + row.bottom) / 2
        if chosen:
            side = 0.3 * layout.size
            corners = [(row.left, middle - side), (row.left, middle + side), (row.left + 1.6 * side, middle)]
            draw.polygon(corners, CHOSEN)
            draw.text((row.left + layout.size, middle), row.name, INK, letters, anchor="lm")
        zero = _along(row.bar, scale, 0.0)
        if math.isfinite(advantage) and (end := _along(row.bar, scale, advantage)) != zero:
            draw.rectangle((min(zero, end), row.top, max(zero, end) - 1, row.bottom), CHOSEN if chosen else BAR)
        if chosen:  # visible even if the bar is short
            draw.rectangle((row.bar[0], row.top, row.bar[1] - 1, row.bottom), outline=CHOSEN)
        at = min(zero, row.bar[1] - 1)
        draw.line((at, row.top - 2, at, row.bottom + 2), MUTED)
        if words and math.isfinite(advantage):
            start, end = max((row.bar[0], at), (at, row.bar[1]), key=lambda side: side[1] - side[0])
            draw.text(((start + end) / 2, middle), words, MUTED, _font(layout.small), anchor="mm")
        if layout.has_figures:
            draw.text((row.figure, middle), _q(q), INK if chosen else MUTED, letters, anchor="rm")
        for ago, action in enumerate(reversed(recent if layout.tick else ())):
            if action == number:
                right = row.recent - ago * layout.tick
                draw.rectangle((right - layout.tick, row.top, right - 1, row.bottom), CHOSEN)
    if now.action is None:
        outcome = f"{now.outcome or 'ended'} {_signed(now.reward)}"
        image = _label(image, outcome, round(1.3 * layout.size), (width / 2, height * 0.88), "mm", CHOSEN)
    return np.concatenate([image, np.asarray(beneath)])
