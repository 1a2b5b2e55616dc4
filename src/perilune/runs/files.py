"""Access files safely: write atomically, and read a limited size without following links or waiting for pipes.

All other modules of Perilune that write files do so with this module. The functions raise ``RunDirectoryError`` if the
system cannot read or write a file, and ``FileFormatError`` if a file is a link, not a regular file, too large, or
damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

import msgspec

from perilune.errors import FileFormatError, PeriluneError, RunDirectoryError

PARTIAL = ".partial"  # suffix of an unfinished file
LARGEST_JSON = 2**20  # bytes; the default limit of a JSON file
PART = 512  # the limit allows one object, list or string per this many bytes; decoded, each takes about 100 bytes
SHARING_ERRORS = (5, 32)  # of Windows: access denied, sharing violation
SHARING_SECONDS = 5.0  # for which a file may be in use before it cannot be replaced
PIECE = 2**20  # bytes read at a time
MARKS = ("config.json", "best.safetensors", "final.safetensors")  # a directory with one of these may be a run
JUNCTION = 0xA0000003  # st_reparse_tag of a directory junction; the constant of the stat module exists only on Windows


class NewFile:
    """A file that is being written. An existing file of this name remains until the new one is complete.

    Several processes may write the same file at the same time: each writes its own unfinished file, and the last one
    to finish replaces those of the others.

    Attributes:
        path: the file.
        file: binary file object to write to.

    Raises:
        RunDirectoryError: the file cannot be written.
        FileFormatError: ``path`` exists and is a link or not a regular file, or its directory is a link in a run.
    """

    def __init__(self, path: Path) -> None:
        check_regular(path)
        self.path = path
        self._partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)  # O_EXCL does not follow links
        with reported("written", path):
            self.file = os.fdopen(os.open(self._partial, flags, 0o666), "wb")

    def finish(self) -> None:
        """Flush the file to disk and rename it to its path."""
        with reported("written", self.path):
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            _replace(self._partial, self.path)
            if os.name != "nt":  # Windows flushes directories itself
                directory = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)

    def discard(self) -> None:
        """Delete the file unless it is finished. Ignore errors, because they would hide the original error."""
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)


def _replace(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``. On Windows, wait while another process reads ``target``."""
    end = monotonic() + SHARING_SECONDS
    while True:
        try:
            source.replace(target)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in SHARING_ERRORS or monotonic() > end:
                raise
            sleep(SHARING_SECONDS / 100)


def write(path: Path, *content: bytes | memoryview) -> None:
    """Write ``content`` to ``path`` atomically: an existing file remains until the new one is completely on disk."""
    new = NewFile(path)
    try:
        with reported("written", path):
            for part in content:
                new.file.write(part)
        new.finish()
    finally:
        new.discard()


def update(path: Path, *content: bytes | memoryview) -> None:
    """Write ``content`` to ``path`` as ``write`` does, unless the file already has this content."""
    if not _has(path, content):
        write(path, *content)


def _has(path: Path, content: Sequence[bytes | memoryview]) -> bool:
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            return size == sum(map(len, content)) and all(file.read(len(part)) == part for part in content)
    except (OSError, FileFormatError):  # ``write`` replaces the file or reports the error
        return False


def write_json(path: Path, value: object) -> None:
    """Write ``value`` to ``path`` as indented JSON, atomically."""
    write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def is_link(path: Path) -> bool:
    """Return whether ``path`` is a symbolic link or, on Windows, a junction."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode) or getattr(status, "st_reparse_tag", 0) == JUNCTION


def check_regular(path: Path) -> None:
    """Raise FileFormatError if ``path`` exists and is not a regular file, or if a run contains its directory as a link.

    A link in a run from another person could lead to any file of the user. Links above the run are allowed.
    """
    folder = path.parent
    is_in_run = is_link(folder) and any(os.path.lexists(folder.parent / name) for name in MARKS)
    for link in (folder, path) if is_in_run else (path,):
        if is_link(link):
            raise FileFormatError(f"{link} is a link. Replace it with its target: files of a run must not be links.")
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise FileFormatError(f"{path} is not a regular file")


def check_own(path: Path, status: os.stat_result) -> None:
    """Raise FileFormatError if ``path``, with this status, has another name, because a change would affect both."""
    if status.st_nlink > 1:
        raise FileFormatError(f"{path} is a hard link: changes would affect another file. Replace it with a copy.")


@contextmanager
def opened(path: Path, mode: str = "rb") -> Iterator[IO[bytes]]:
    """Open an existing regular file in binary mode. Refuse links, pipes and devices.

    Args:
        path: the file.
        mode: "rb" to read, or "r+b" to read and write.
    """
    verb = "read" if mode == "rb" else "written"
    with reported(verb, path), _open(path, os.O_RDONLY if mode == "rb" else os.O_RDWR, mode) as file:
        yield file


def open_log(path: Path) -> IO[bytes]:
    """Open a regular file in binary mode for reading and appending. Create it if it does not exist."""
    with reported("written", path):
        return _open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, "a+b")


def _open(path: Path, flags: int, mode: str) -> IO[bytes]:
    check_regular(path)
    # Another process may have put a link or a pipe here after the check. Opening a pipe would block.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileFormatError(f"{path} is not a regular file")
        if mode != "rb":
            check_own(path, status)
        return os.fdopen(descriptor, mode)
    except PeriluneError:
        os.close(descriptor)
        raise


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
