"""Write MP4 and GIF files frame by frame, so that memory use does not grow with the length of the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.extras import missing
from perilune.errors import ConfigError, MissingDependencyError, RunDirectoryError
from perilune.runs import files

SMALL_FPS = 17  # maximum frame rate of a small format


class Format(NamedTuple):
    """An FFmpeg encoder and its options. A ``small`` format, for web pages, has half the width and height."""

    codec: str
    pixels: str
    options: dict[str, str]
    small: bool


# Every player supports yuv420p. Without "zerolatency", the encoder buffers 30 MB, and files are only 14 kB smaller.
H264 = {"crf": "23", "preset": "veryfast", "tune": "zerolatency", "threads": "1"}
FORMATS = {".mp4": Format("libx264", "yuv420p", H264, small=False), ".gif": Format("gif", "pal8", {}, small=True)}


def format_of(path: Path) -> Format:
    """Return the format of a video at ``path``, or raise ConfigError if its name does not end in .mp4 or .gif."""
    if path.suffix not in FORMATS:
        raise ConfigError("out", str(path), f"a file whose name ends in {' or '.join(FORMATS)}")
    return FORMATS[path.suffix]


def frame_skip(path: Path, fps: int) -> int:
    """Return the frame skip n: a video at ``path`` contains every n-th frame of ``fps`` frames per second."""
    return max(1, -(-fps // SMALL_FPS)) if format_of(path).small else 1


def check_codec(form: Format) -> Any:
    """Return PyAV, or raise MissingDependencyError if it is not installed or was built without the codec."""
    try:
        import av  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise missing("videos need PyAV", "view") from error
    try:
        av.codec.Codec(form.codec, "w")
    except ValueError as error:
        raise MissingDependencyError(
            f"PyAV was built without the encoder {form.codec}. Its wheels on PyPI include it: "
            "pip install --force-reinstall --only-binary av av"
        ) from error
    return av


class VideoWriter:
    """Encode frames into a video file, whose name ends in .partial until it is complete.

    As a context manager, it closes the file at the end of the block, or discards it if the block raises.

    Raises:
        ConfigError: The name does not end in .mp4 or .gif.
        MissingDependencyError: PyAV or its codec is not installed.
        RunDirectoryError: The file cannot be written.
        FileFormatError: ``path`` is a link or not a regular file.
    """

    def __init__(self, path: Path, fps: int | Fraction) -> None:
        self.path = path
        self._format = form = format_of(path)
        self._av = check_codec(form)
        with self._located():
            path.parent.mkdir(parents=True, exist_ok=True)
        self._new = files.NewFile(path)
        self._container = self._av.open(self._new.file, "w", format=path.suffix[1:])
        self._stream = self._container.add_stream(form.codec, rate=fps, options=form.options)
        self._stream.pix_fmt = form.pixels
        self._pixels: Callable[[Array], Array | tuple[Array, Array]] | None = None

    def add(self, image: Array) -> None:
        """Encode one frame, uint8 [height, width, 3]. H.264 needs even sizes: an odd last row or column is removed."""
        height, width = (side - side % 2 for side in image.shape[:2])
        image = image[:height, :width]
        indexed = self._format.pixels == "pal8"
        if self._pixels is None:
            self._stream.height, self._stream.width = height, width
            self._pixels = _palette(image) if indexed else lambda pixels: pixels
        frame = self._av.VideoFrame.from_ndarray(self._pixels(image), format="pal8" if indexed else "rgb24")
        with self._located():
            self._container.mux(self._stream.encode(frame.reformat(format=self._format.pixels)))

    def close(self) -> None:
        """Finish the file."""
        with self._located():
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._new.finish()

    def discard(self) -> None:
        """Delete an incomplete file. Ignore errors, because they would hide the original error."""
        with suppress(OSError, self._av.FFmpegError):
            self._container.close()
        self._new.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.discard()  # does not affect a complete file, which has been renamed

    @contextmanager
    def _located(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunDirectoryError(f"the video {self.path} cannot be written: {reason}") from error


def _palette(first: Array) -> Callable[[Array], tuple[Array, Array]]:
    """Return a function that maps an image to its palette indices and the palette. All images share one palette.

    The 256 colors are a coarse RGB cube and the most frequent colors of the ``first`` image.
    """
    from PIL import Image  # noqa: PLC0415

    levels = np.linspace(0, 255, 5).round()
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    found, counts = np.unique(first.reshape(-1, 3), axis=0, return_counts=True)
    most = found[np.argsort(-counts, kind="stable")][: 256 - len(cube)]
    colors = np.full((256, 4), 255, np.uint8)  # opacity, red, green, blue
    colors[: len(cube) + len(most), 1:] = np.concatenate([cube, most])
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors[:, 1:].tobytes())

    def indexed(image: Array) -> tuple[Array, Array]:
        return np.array(Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE)), colors

    return indexed
