"""What an agent thinks, drawn beneath what it sees: Q-values as bars, its choice, the reward so far, the outcome.

A ``Reading`` follows a flight from frame to frame (``following``), and ``drawn`` puts it beneath a picture: two pure
functions. What stays from frame to frame is drawn once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from perilune.errors import MissingDependencyError
from perilune.events import Frame
from perilune.nn.layers import Array

if TYPE_CHECKING:
    from PIL import Image, ImageFont

PAPER, LINE, INK, MUTED = "#14171c", "#2b313b", "#e8eaed", "#959dab"
BAR, CHOSEN = "#5b7194", "#ffb000"
IN_A_COLUMN = 6  # actions; more are in two columns, or three
ROOMY = 400  # pixels of width, from which on there is room for figures and the latest actions
MEMORY = 1.0  # seconds of latest actions


class Reading(NamedTuple):
    """What is to be read at one instant of a flight.

    ``low`` and ``high`` are the ends of the bars' scale: round numbers around every Q-value of the flight so far.
    ``recent`` are the latest actions, the newest last; ``outcome`` is in words, at an episode's end.
    """

    q_values: tuple[float, ...]
    action: int | None
    reward: float
    low: float
    high: float
    recent: tuple[int, ...]
    outcome: str | None


class Panel(NamedTuple):
    """What stays the same in a film: who plays, and the names of the actions; without any there are no bars.

    ``memory`` is the number of latest actions that are shown.
    """

    title: str
    actions: tuple[str, ...] = ()
    memory: int = 0


def following(before: Reading | None, frame: Frame, q_values: Array, memory: int) -> Reading:
    """The reading of ``frame``, whose state has q[A], after the one ``before`` it; ``memory``: actions to remember."""
    finite = [float(q) for q in q_values if math.isfinite(q)]
    recent: tuple[int, ...] = ()
    if before is not None:
        finite += [before.low, before.high]
        recent = () if before.action is None else before.recent
    low, high = _round_ends(min(finite, default=0.0), max(finite, default=1.0))
    outcome = None
    if frame.action is not None:
        recent = (*recent, frame.action)[-memory:]
    else:
        outcome = f"{frame.outcome or 'ended'} {_number(frame.reward)}"
    return Reading(tuple(map(float, q_values)), frame.action, frame.reward, low, high, recent, outcome)


def _round_ends(low: float, high: float) -> tuple[float, float]:
    """Round numbers around a range, so that a scale grows seldom; never nearer together than what was given."""
    span = max(high - low, 1e-3 * abs(low), 1e-3 * abs(high), 1e-6)
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (0.2, 0.5, 1, 2) if span <= 5 * power * factor)
    down, up = math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step
    return down, max(up, down + step)


def _number(value: float) -> str:
    """With its sign, and no more digits than can be read at a glance."""
    if value == 0:
        return "0"
    return f"{value:+.0f}" if abs(value) >= 10 or value == round(value) else f"{value:+.1f}"


def _q(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Row(NamedTuple):
    """Where an action is drawn, in pixels: words, bar, figure and latest actions end at ``right`` of each."""

    words: str
    left: int
    top: int
    bottom: int
    bar: tuple[int, int]
    figure: int
    recent: int


class Layout(NamedTuple):
    """Where everything is on a panel, in pixels; ``tick`` is one of the latest actions' width, 0 for no room."""

    size: int
    pad: int
    head: int
    height: int
    tick: int
    rows: tuple[Row, ...]


@lru_cache(maxsize=16)
def _layout(width: int, panel: Panel) -> Layout:
    size = round(min(max(width / 30, 11), 40))
    pad, head = round(0.6 * size), round(1.9 * size)
    count = len(panel.actions)
    if not count:
        return Layout(size, pad, head, head, 0, ())
    columns = math.ceil(count / IN_A_COLUMN)
    each = math.ceil(count / columns)
    column = (width - pad * (columns + 1)) // columns
    mark, font, words = size, _font(size), panel.actions
    longest = max(font.getlength(name) for name in words)
    if longest > 0.45 * column:
        words = tuple(str(number) for number in range(count))
        longest = max(font.getlength(name) for name in words)
    roomy = columns == 1 and width >= ROOMY
    tick = round(0.2 * width / panel.memory) if roomy and panel.memory else 0
    taken = tick * panel.memory + pad if tick else 0
    rows = []
    step = round(1.35 * size)
    for number in range(count):
        left, top = pad + number // each * (column + pad), head + number % each * step
        right = left + column
        figure = right - taken
        start = left + mark + math.ceil(longest) + pad
        end = figure - round(3.2 * size) if roomy else right
        rows.append(
            Row(words[number], left, top, top + round(0.95 * size), (start, max(end, start + 4)), figure, right)
        )
    return Layout(size, pad, head, head + each * step + (round(1.1 * size) if roomy else pad // 2), tick, tuple(rows))


@lru_cache(maxsize=16)
def _still(width: int, panel: Panel, low: float, high: float) -> Image.Image:
    """What stays of a panel while its scale does. It is not to be drawn on."""
    from PIL import Image, ImageDraw  # noqa: PLC0415

    layout = _layout(width, panel)
    still = Image.new("RGB", (width, layout.height), PAPER)
    draw = ImageDraw.Draw(still)
    font, small = _font(layout.size), _font(round(0.7 * layout.size))
    draw.line((0, 0, width, 0), LINE)
    draw.text((layout.pad, layout.head / 2), panel.title, INK, font, anchor="lm")
    for row in layout.rows:
        draw.text((row.left + layout.size, (row.top + row.bottom) / 2), row.words, MUTED, font, anchor="lm")
        draw.rectangle((row.bar[0], row.top, row.bar[1] - 1, row.bottom), LINE)
    room = width - 2 * layout.pad - font.getlength(panel.title) - small.getlength("reward")
    if room > 4.5 * layout.size:
        draw.text((width - layout.pad - 3 * layout.size, layout.head / 2), "reward", MUTED, small, anchor="rm")
    if layout.tick:
        row, below = layout.rows[-1], layout.rows[-1].bottom + round(0.25 * layout.size)
        draw.text((row.left + layout.size, below), "Q-values", MUTED, small, anchor="la")
        draw.text((row.bar[0], below), f"{low:g}", MUTED, small, anchor="la")
        draw.text((row.bar[1], below), f"{high:g}", MUTED, small, anchor="ra")
        draw.text((row.recent, below), "last second", MUTED, small, anchor="ra")
    return still


def drawn(image: Array, reading: Reading, panel: Panel) -> Array:
    """``image``, uint8 [height, width, 3], with its panel beneath: uint8 [height + the panel's, width, 3].

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    _check_pillow()
    from PIL import ImageDraw  # noqa: PLC0415

    width = image.shape[1]
    layout = _layout(width, panel)
    beneath = _still(width, panel, reading.low, reading.high).copy()
    draw, font = ImageDraw.Draw(beneath), _font(layout.size)
    draw.text((width - layout.pad, layout.head / 2), _number(reading.reward), INK, font, anchor="rm")
    for number, row in enumerate(layout.rows):
        q, chosen, middle = reading.q_values[number], number == reading.action, (row.top + row.bottom) / 2
        if chosen:
            side = 0.3 * layout.size
            corners = [(row.left, middle - side), (row.left, middle + side), (row.left + 1.6 * side, middle)]
            draw.polygon(corners, CHOSEN)
            draw.text((row.left + layout.size, middle), row.words, INK, font, anchor="lm")
        if math.isfinite(q):
            share = (q - reading.low) / (reading.high - reading.low)
            end = row.bar[0] + max(1, round(share * (row.bar[1] - row.bar[0])))
            draw.rectangle((row.bar[0], row.top, end - 1, row.bottom), CHOSEN if chosen else BAR)
        if layout.tick:
            figure = row.figure, middle
            draw.text(figure, _q(q), INK if chosen else MUTED, font, anchor="rm")
            for ago, action in enumerate(reversed(reading.recent)):
                if action == number:
                    right = row.recent - ago * layout.tick
                    draw.rectangle((right - layout.tick, row.top, right - 1, row.bottom), CHOSEN)
    if reading.outcome is not None:
        image = _labelled(image, reading.outcome, layout.size)
    return np.concatenate([image, np.asarray(beneath)])


@lru_cache(maxsize=8)
def caption(width: int, words: str) -> Array:
    """A line of ``words``, as it looks in a panel, no wider than ``width``: uint8 [height, width, 3]."""
    _check_pillow()
    from PIL import Image, ImageDraw  # noqa: PLC0415

    size = min(18, max(6, int(18 * (width - 20) / _font(18).getlength(words))))
    line = Image.new("RGB", (width, 36), PAPER)
    ImageDraw.Draw(line).text((width / 2, 18), words, MUTED, _font(size), anchor="mm")
    return np.asarray(line)


def side_by_side(pictures: Sequence[Array], gap: int) -> Array:
    """Pictures of one height in a row, with so many black pixels between them."""
    between = np.zeros((pictures[0].shape[0], gap, 3), np.uint8)
    return np.concatenate([part for picture in pictures for part in (between, picture)][1:], axis=1)


def _labelled(image: Array, words: str, size: int) -> Array:
    """``image`` with a label low on it, where seldom anything is that it could hide."""
    from PIL import Image, ImageDraw  # noqa: PLC0415

    picture = Image.fromarray(image)
    draw, font = ImageDraw.Draw(picture), _font(round(1.3 * size))
    centre = picture.width / 2, picture.height * 0.88
    left, top, right, bottom = draw.textbbox(centre, words, font=font, anchor="mm")
    draw.rounded_rectangle(
        (left - size, top - 0.6 * size, right + size, bottom + 0.6 * size), 0.6 * size, PAPER, CHOSEN, 2
    )
    draw.text(centre, words, INK, font, anchor="mm")
    return np.asarray(picture)


def resized(image: Array, width: int) -> Array:
    """``image``, uint8 [height, width, 3], in another width and the same proportions."""
    _check_pillow()
    from PIL import Image  # noqa: PLC0415

    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(Image.fromarray(image).resize((width, max(height, 1)), Image.Resampling.LANCZOS))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont  # noqa: PLC0415

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _check_pillow() -> None:
    try:
        import PIL  # noqa: PLC0415, F401 -- optional
    except ImportError as error:
        raise MissingDependencyError("drawing on videos needs Pillow: pip install 'perilune[view]'") from error
