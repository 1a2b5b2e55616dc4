"""What is done to pictures, uint8 [height, width, 3], whatever they show: words on them, beside each other, smaller."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import MissingDependencyError

if TYPE_CHECKING:
    from PIL import ImageFont

PAPER, LINE, INK, MUTED = "#14171c", "#2b313b", "#e8eaed", "#959dab"
BAR, CHOSEN = "#5b7194", "#ffb000"
CAPTION = 18  # pixels of a caption's letters


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all words on pictures. It has no signs beyond those of ASCII."""
    from PIL import ImageFont  # noqa: PLC0415 -- heavy, and optional

    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


def check_pillow() -> None:
    """Raise MissingDependencyError where nothing can be drawn."""
    try:
        import PIL  # noqa: PLC0415, F401 -- optional
    except ImportError as error:
        raise MissingDependencyError("drawing on videos needs Pillow: pip install 'perilune[view]'") from error


def labelled(image: Array, words: str, size: int) -> Array:
    """``image`` with a label low on it, where seldom anything is that it could hide; ``size``: of a panel's words."""
    return _written(image, words, round(1.3 * size), (image.shape[1] / 2, image.shape[0] * 0.88), "mm", CHOSEN)


def cornered(image: Array, words: str) -> Array:
    """``image`` with ``words`` in its upper left corner."""
    check_pillow()
    size = min(max(round(image.shape[0] / 18), 12), 20)
    return _written(image, words, size, (1.2 * size, 1.2 * size), "lt", LINE)


def _written(image: Array, words: str, size: int, at: tuple[float, float], anchor: str, edge: str) -> Array:
    from PIL import Image, ImageDraw  # noqa: PLC0415

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox(at, words, font=font(size), anchor=anchor)
    beside, above = 0.75 * size, 0.45 * size
    corners = (left - beside, top - above, right + beside, bottom + above)
    draw.rounded_rectangle(corners, 0.45 * size, PAPER, edge, 2)
    draw.text(at, words, INK, font(size), anchor=anchor)
    return np.asarray(picture)


@lru_cache(maxsize=4)
def captions(width: int, texts: tuple[str, ...]) -> list[Array]:
    """A picture of each of ``texts``, in lines no wider than ``width``; all are as high as the highest."""
    check_pillow()
    from PIL import Image, ImageDraw  # noqa: PLC0415

    written = [_lines(text, width - CAPTION) for text in texts]
    step = round(1.4 * CAPTION)
    height = step * max(map(len, written)) + CAPTION // 2
    pictures = []
    for lines in written:
        picture = Image.new("RGB", (width, height), PAPER)
        draw, top = ImageDraw.Draw(picture), (height - step * len(lines)) / 2
        for number, line in enumerate(lines):
            draw.text((width / 2, top + (number + 0.5) * step), line, INK, font(CAPTION), anchor="mm")
        pictures.append(np.asarray(picture))
    return pictures


def _lines(text: str, width: int) -> list[str]:
    """The words of ``text``, between spaces, in as few lines as fit into ``width``."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font(CAPTION).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def side_by_side(pictures: Sequence[Array], gap: int) -> Array:
    """Pictures of one height in a row, with so many black pixels between them."""
    between = np.zeros((pictures[0].shape[0], gap, 3), np.uint8)
    return np.concatenate([part for picture in pictures for part in (between, picture)][1:], axis=1)


def resized(image: Array, width: int) -> Array:
    """``image`` in another width and the same proportions."""
    check_pillow()
    from PIL import Image  # noqa: PLC0415

    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(Image.fromarray(image).resize((width, max(height, 1)), Image.Resampling.LANCZOS))
