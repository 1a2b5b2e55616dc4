"""Operations on RGB images, uint8 [height, width, 3]: text on them, side by side, smaller."""

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
CAPTION = 18  # pixels, the size of a caption's letters


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of all text on images. It has ASCII characters only."""
    from PIL import ImageFont  # noqa: PLC0415 -- heavy, and optional

    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


def check_pillow() -> None:
    """Raise MissingDependencyError if Pillow is not installed."""
    try:
        import PIL  # noqa: PLC0415, F401 -- optional
    except ImportError as error:
        raise MissingDependencyError("drawing on videos needs Pillow: pip install 'perilune[view]'") from error


def label(image: Array, text: str, size: int) -> Array:
    """Return ``image`` with a label near its lower edge; ``size`` is that of a panel's text, in pixels."""
    return _write(image, text, round(1.3 * size), (image.shape[1] / 2, image.shape[0] * 0.88), "mm", CHOSEN)


def label_corner(image: Array, text: str) -> Array:
    """Return ``image`` with a label in its upper left corner."""
    size = min(max(round(image.shape[0] / 18), 12), 20)
    return _write(image, text, size, (1.2 * size, 1.2 * size), "lt", LINE)


def _write(image: Array, text: str, size: int, at: tuple[float, float], anchor: str, edge: str) -> Array:
    check_pillow()
    from PIL import Image, ImageDraw  # noqa: PLC0415

    letters = font(size)
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = draw.textbbox(at, text, font=letters, anchor=anchor)
    beside, above = 0.75 * size, 0.45 * size
    corners = (left - beside, top - above, right + beside, bottom + above)
    draw.rounded_rectangle(corners, 0.45 * size, PAPER, edge, 2)
    draw.text(at, text, INK, letters, anchor=anchor)
    return np.asarray(picture)


@lru_cache(maxsize=4)
def captions(width: int, texts: tuple[str, ...]) -> list[Array]:
    """Return an image of each of ``texts``, in lines no wider than ``width``, all of the same height."""
    check_pillow()
    from PIL import Image, ImageDraw  # noqa: PLC0415

    wrapped = [_wrap(text, width - CAPTION) for text in texts]
    step = round(1.4 * CAPTION)
    height = step * max(map(len, wrapped)) + CAPTION // 2
    images = []
    for lines in wrapped:
        picture = Image.new("RGB", (width, height), PAPER)
        draw, top = ImageDraw.Draw(picture), (height - step * len(lines)) / 2
        for number, line in enumerate(lines):
            draw.text((width / 2, top + (number + 0.5) * step), line, INK, font(CAPTION), anchor="mm")
        images.append(np.asarray(picture))
    return images


def _wrap(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font(CAPTION).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def side_by_side(images: Sequence[Array], gap: int) -> Array:
    """Return images of the same height in a row, with ``gap`` black pixels between them."""
    between = np.zeros((images[0].shape[0], gap, 3), np.uint8)
    return np.concatenate([part for image in images for part in (between, image)][1:], axis=1)


def resize(image: Array, width: int) -> Array:
    """Return ``image`` with another width and the same proportions."""
    check_pillow()
    from PIL import Image  # noqa: PLC0415

    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(Image.fromarray(image).resize((width, max(height, 1)), Image.Resampling.LANCZOS))
