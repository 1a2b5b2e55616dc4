"""Lock a run directory, so that only one process at a time writes to it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from perilune.errors import FileFormatError, RunDirectoryError, RunInUseError
from perilune.runs import files
from perilune.runs.layout import LOCK, OWNER, check_links

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAIT = 0.2  # seconds; ``owner`` holds the lock for a much shorter time


@contextmanager
def acquire(directory: Path) -> Iterator[None]:
    """Lock the run ``directory`` for this process, and create the directory if needed.

    The operating system releases the lock when the process ends, even if the process is killed.
    """
    check_links(directory)
    lock = FileLock(directory / LOCK)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=WAIT, poll_interval=WAIT / 10)
    except Timeout:
        process = _described(directory)
        raise RunInUseError(f"{directory} is in use by {process}. Wait until it ends, or stop it.") from None
    except (OSError, NotImplementedError) as error:  # NotImplementedError: the file system has no locks
        reason = getattr(error, "strerror", None) or error
        raise RunDirectoryError(f"{directory} cannot be written: {reason}. Choose another directory.") from error
    try:
        files.write_json(directory / OWNER, {"host": platform.node(), "pid": os.getpid()})
        yield
    finally:
        with suppress(OSError):
            (directory / OWNER).unlink(missing_ok=True)
        lock.release()


def owner(directory: Path) -> str | None:
    """Return the process that uses a run, as "process N on HOST", or None."""
    try:
        with files.opened(directory / LOCK) as file:
            return _described(directory) if _is_held(file.fileno(), file.name) else None
    except (RunDirectoryError, FileFormatError) as error:
        if isinstance(error.__cause__, PermissionError) and (directory / OWNER).exists():  # another user's lock
            return f"perhaps {_described(directory)}"
        return None
    except (OSError, NotImplementedError):  # the file system has no locks
        return None


def _is_held(descriptor: int, path: str) -> bool:
    """Return whether a process holds the lock. The file may be read-only."""
    if fcntl is None:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # readers do not block each other
    except (BlockingIOError, PermissionError):
        return True
    return False  # closing the file releases the lock


def _described(directory: Path) -> str:
    try:
        found = files.read_json(directory / OWNER)
    except (RunDirectoryError, FileFormatError):  # the process is starting or ending
        return "another process"
    return f"process {found.get('pid')!r} on {found.get('host')!r}"
