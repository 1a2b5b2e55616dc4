"""Moving pictures on disk: MP4 and GIF, encoded frame by frame so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ConfigError, MissingDependencyError, RunDirectoryError


class Format(NamedTuple):
    """How a kind of film is written: FFmpeg's names and options.

    ``small``: it is for pages, where it should be small: half the size, and no more than 17 frames per second.
    """

    container: str
    codec: str
    pixels: str
    options: dict[str, str]
    of_container: dict[str, str]
    small: bool


FORMATS = {
    # yuv420p is what every player shows. Without "zerolatency" the encoder looks ahead, and 30 MB of frames wait in it
    # for 14 kB less.
    ".mp4": Format(
        "mp4",
        "libx264",
        "yuv420p",
        {"crf": "23", "preset": "veryfast", "tune": "zerolatency", "threads": "1"},
        {},
        small=False,
    ),
    ".gif": Format("gif", "gif", "pal8", {}, {"loop": "0"}, small=True),
}
SMALL_FPS = 17


def format_of(path: Path) -> Format:
    """How a film at ``path`` is written.

    Raises:
        ConfigError: its name has another ending than those that are written.
    """
    if path.suffix not in FORMATS:
        raise ConfigError("out", str(path), f"a file whose name ends in {', '.join(FORMATS)}")
    return FORMATS[path.suffix]


def thinning(path: Path, fps: int) -> int:
    """Of how many frames one is kept, in a film at ``path`` of something that has ``fps`` frames per second."""
    return max(1, -(-fps // SMALL_FPS)) if format_of(path).small else 1


def av() -> Any:
    """The video library.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import av  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise MissingDependencyError("videos need PyAV: pip install 'perilune[view]'") from error
    return av


def check_codec(form: Format) -> None:
    """Raise MissingDependencyError where such films cannot be written."""
    library = av()
    try:
        library.codec.Codec(form.codec, "w")
    except ValueError as error:  # FFmpeg is built with many codecs or few
        raise MissingDependencyError(
            f"this PyAV was built without {form.codec}, which {form.container} files need; the wheels on PyPI have it: "
            "pip install --force-reinstall --only-binary av av"
        ) from error


class VideoWriter:
    """Writes frames into a film. The file appears under its name when it is complete.

    Args:
        path: where to; its ending, one of ``FORMATS``, is the format.
        fps: frames per second.

    Raises:
        ConfigError: it has another ending.
        MissingDependencyError: the video library, or its codec, is not installed.
        RunDirectoryError: nothing can be written there.
    """

    def __init__(self, path: Path, fps: int | Fraction) -> None:
        self.path = path
        self._beside = path.with_name(path.name + ".partial")
        self._format = format_of(path)
        check_codec(self._format)
        self._av = av()
        with self._named():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._beside.touch()
        form = self._format
        self._container = self._av.open(str(self._beside), "w", format=form.container, options=form.of_container)
        self._stream = self._container.add_stream(form.codec, rate=fps, options=form.options)
        self._stream.pix_fmt = form.pixels
        self._pixels: Callable[[Array], Array | tuple[Array, Array]] | None = None

    def add(self, image: Array) -> None:
        """Encode one frame, uint8 [height, width, 3]. An odd last row or column is left out: H.264 wants even sizes."""
        height, width = (side - side % 2 for side in image.shape[:2])
        image = image[:height, :width]
        indexed = self._format.pixels == "pal8"
        if self._pixels is None:
            self._stream.height, self._stream.width = height, width
            self._pixels = _indexing(image) if indexed else lambda pixels: pixels
        frame = self._av.VideoFrame.from_ndarray(self._pixels(image), format="pal8" if indexed else "rgb24")
        with self._named():
            self._container.mux(self._stream.encode(frame.reformat(format=self._format.pixels)))

    def close(self) -> None:
        """Finish the file."""
        with self._named():
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._beside.replace(self.path)

    def discard(self) -> None:
        """Give the film up."""
        with suppress(OSError, self._av.FFmpegError):  # a full disk, say, of which the first error already tells
            self._container.close()
        with suppress(OSError):
            self._beside.unlink(missing_ok=True)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunDirectoryError(f"the video {self.path} cannot be written: {reason}") from error


def _indexing(first: Array) -> Callable[[Array], tuple[Array, Array]]:
    """For a GIF's 256 colours: what gives a picture's indices and the colours.

    They are the same all through: those that the ``first`` picture has most, and others from all over.
    """
    from PIL import Image  # noqa: PLC0415

    levels = np.linspace(0, 255, 5).round()
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    found, counts = np.unique(first.reshape(-1, 3), axis=0, return_counts=True)
    most = found[np.argsort(-counts, kind="stable")][: 256 - len(cube)]
    colours = np.full((256, 4), 255, np.uint8)  # opacity, red, green, blue
    colours[: len(cube) + len(most), 1:] = np.concatenate([cube, most])
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours[:, 1:].tobytes())

    def indexed(image: Array) -> tuple[Array, Array]:
        return np.array(Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE)), colours

    return indexed


class Closing(Protocol):
    """What is closed when all went well, and given up else."""

    def close(self) -> None: ...
    def discard(self) -> None: ...


Written = TypeVar("Written", bound=Closing)


@contextmanager
def closed(writer: Written) -> Iterator[Written]:
    """``writer``, closed at the end; it leaves no file behind where an error comes between."""
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.discard()
        raise
