"""Files that are written whole or not at all, and read as if a stranger had sent them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from perilune._utils.validation import Natural, check_fields
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError

PARTIAL = ".partial"  # behind the name of a file that is being written
LARGEST_JSON = 2**20  # bytes, but where a file can honestly have more
PART = 512  # bytes for every object, list and text: they take some hundred in memory, and two in a file
PIECE = 2**20  # bytes read at a time where a file is only looked through


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Bytes on disk: how many they are, and their SHA-256 in hexadecimal digits."""

    sha256: str
    size: Natural

    def __post_init__(self) -> None:
        check_fields(self)
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):  # it may become the name of a file
            raise ConfigError("sha256", self.sha256, "64 hexadecimal digits")


def write(path: Path, content: bytes) -> None:
    """Put ``content`` into ``path``, through a power cut even: what was there before stays until all of it is on disk.

    Raises:
        RunDirectoryError: it cannot be written; what was there before is there still.
    """
    beside = path.with_name(path.name + PARTIAL)
    try:
        # Never through a link, which somebody may have put there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(beside, flags, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise cannot("written", path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Flush the names in ``directory`` to disk, where the system can (Windows does so by itself)."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Put ``value`` into ``path`` as JSON that people can read, as ``write`` does."""
    write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


@contextmanager
def opened(path: Path, mode: str = "rb") -> Iterator[IO[bytes]]:
    """A file that is there already, open in binary: one that is a link, a pipe or a device is not opened.

    Raises:
        RunDirectoryError: it is not there, or cannot be opened.
        FileFormatError: it is no ordinary file.
    """
    flags = (os.O_RDONLY if mode == "rb" else os.O_RDWR) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # or a pipe would be waited for
    if path.is_symlink():
        raise FileFormatError(f"{path} is a link. A run's files are ordinary ones; put the file itself there.")
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise cannot("read", path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # of a directory no file object can be made
        os.close(descriptor)
        raise FileFormatError(f"{path} is no ordinary file")
    with os.fdopen(descriptor, mode) as file:
        yield file


def read(path: Path, largest: int) -> bytes:
    """All that is in ``path``, which must not be more than ``largest`` bytes.

    Raises:
        RunDirectoryError: it is not there, or cannot be read.
        FileFormatError: it is no ordinary file, or a larger one.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise FileFormatError(f"{path} has {size:,} bytes; at most {largest:,} are read")
        try:
            return file.read(size)
        except OSError as error:
            raise cannot("read", path, error) from error


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """The JSON object in ``path``, which must be no larger than ``check_json`` allows.

    Raises:
        RunDirectoryError: it is not there, or cannot be read.
        FileFormatError: it is not JSON, no object, or larger.
    """
    return json_object(read(path, largest), path, largest)


def json_object(content: bytes, path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """``content`` as a JSON object, likewise; ``path`` is where it stood, for the error.

    Raises:
        FileFormatError: it is not JSON, no object, or larger.
    """
    check_json(content, path, largest)
    try:
        value = json.loads(content, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} holds no JSON object, but {type(value).__name__}")
    return value


def check_json(content: bytes, path: Path, largest: int) -> None:
    """Refuse JSON of more than ``largest`` bytes, or of so many parts that they would take more than that in memory.

    Raises:
        FileFormatError: it is such; ``path`` is where it stands, for the error.
    """
    if len(content) > largest:
        raise FileFormatError(f"{path} has {len(content):,} bytes; at most {largest:,} are read")
    if len(content) <= largest // PART:  # so few cannot have more
        return
    parts = sum(content.count(mark) for mark in (b"{", b"[")) + content.count(b'"') // 2
    if parts > largest // PART:
        raise FileFormatError(f"{path} has {parts:,} objects, lists and texts; at most {largest // PART:,} are read")


def read_arrays(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The metadata and the arrays, by name, of a safetensors file. It takes as much memory as the file has bytes.

    Raises:
        FileFormatError: it is no such file, or has values that are not finite.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no dict
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{path} is not a safetensors file: {error}") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FileFormatError(f"{path} is spoilt: {name} has values that are not finite")
    return metadata, arrays


def _finite(text: str) -> float:
    """A number, which JSON has no word for where it is not finite, though Python reads such words."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def digest(path: Path, size: int) -> tuple[Stored, hashlib._Hash]:
    """The first ``size`` bytes of ``path``, or all where it has fewer, and their SHA-256, which can go on.

    Raises:
        RunDirectoryError: it is not there, or cannot be read.
        FileFormatError: it is no ordinary file.
    """
    total, sha256 = 0, hashlib.sha256()
    with opened(path) as file:
        try:
            while piece := file.read(min(PIECE, size - total)):
                sha256.update(piece)
                total += len(piece)
        except OSError as error:
            raise cannot("read", path, error) from error
    return Stored(sha256=sha256.hexdigest(), size=total), sha256


def cannot(be: str, path: Path, error: OSError) -> RunDirectoryError:
    """The error that says that ``path`` cannot be read, or written."""
    return RunDirectoryError(f"{path} cannot be {be}: {error.strerror or error}")
