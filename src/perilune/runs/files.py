"""Access files safely: write atomically, and read a limited size without following links or waiting for pipes.

The functions raise ``RunDirectoryError`` if the system cannot read or write a file, and ``FileFormatError`` if a file
is a link, not a regular file, too large, or damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from perilune.errors import FileFormatError, PeriluneError, RunDirectoryError

PARTIAL = ".partial"  # suffix of an unfinished file
LARGEST_JSON = 2**20  # bytes; the default limit of a JSON file
PART = 512  # the limit allows one object, list or string per this many bytes; decoded, each takes about 100 bytes
PIECE = 2**20  # bytes read at a time


def write(path: Path, *content: bytes | memoryview) -> None:
    """Write ``content`` to ``path`` atomically: an existing file remains until the new one is completely on disk."""
    partial = path.with_name(path.name + PARTIAL)
    # O_NOFOLLOW: another user may have put a link here.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with reported("written", path):
            with os.fdopen(os.open(partial, flags, 0o666), "wb") as file:
                for part in content:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            if os.name != "nt":  # Windows flushes directories itself
                directory = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` to ``path`` as indented JSON, atomically."""
    write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


@contextmanager
def opened(path: Path, mode: str = "rb") -> Iterator[IO[bytes]]:
    """Open an existing regular file in binary mode. Refuse links, pipes and devices."""
    flags = (os.O_RDONLY if mode == "rb" else os.O_RDWR) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would block
    if path.is_symlink():
        raise FileFormatError(f"{path} is a link. Replace it with its target: files of a run must not be links.")
    with reported("read", path):
        descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # a directory cannot become a file object
        os.close(descriptor)
        raise FileFormatError(f"{path} is not a regular file")
    with reported("read" if mode == "rb" else "written", path), os.fdopen(descriptor, mode) as file:
        yield file


def read(path: Path, largest: int) -> bytes:
    """Return the content of ``path``, which may have at most ``largest`` bytes."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise FileFormatError(f"{path} has {size:,} bytes, but at most {largest:,} are allowed")
        return file.read(size)


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Return the JSON object in ``path``, which must respect the limits of ``check_json``."""
    content = read(path, largest)
    check_json(content, path, largest)
    try:
        value = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def check_json(content: bytes, path: Path, largest: int) -> None:
    """Raise an error if JSON exceeds ``largest`` bytes, or has so many parts that decoding needs much more memory."""
    if len(content) > largest:
        raise FileFormatError(f"{path} has {len(content):,} bytes, but at most {largest:,} are allowed")
    parts = sum(content.count(mark) for mark in (b"{", b"[")) + content.count(b'"') // 2
    if parts > largest // PART:
        raise FileFormatError(
            f"{path} has {parts:,} objects, lists and strings, but at most {largest // PART:,} are allowed"
        )


def digest(path: Path, size: int) -> hashlib._Hash:
    """Return the SHA-256 of the first ``size`` bytes of ``path``. The caller can update it with more bytes."""
    sha256 = hashlib.sha256()
    with opened(path) as file:
        while piece := file.read(min(PIECE, size)):
            sha256.update(piece)
            size -= len(piece)
    return sha256


@contextmanager
def reported(verb: str, path: Path) -> Iterator[None]:
    """Turn an OSError in the block into a RunDirectoryError: ``path`` cannot be ``verb`` ("read" or "written")."""
    try:
        yield
    except PeriluneError:
        raise
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be {verb}: {error.strerror or error}") from error
