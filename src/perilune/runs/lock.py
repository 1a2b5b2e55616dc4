"""A run belongs to one process."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files, runlog

if sys.platform != "win32":
    import fcntl

MOMENT = 0.2  # seconds; whoever looks whether a run has an owner holds it for much less


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the run ``directory``, which is made where it is not there, for this process alone.

    The system lets go of it when the process ends, however that happens, so that a dead one holds nothing.

    Raises:
        RunDirectoryError: another process has it, or it cannot be written.
    """
    mine = directory / runlog.OWNER
    check_own(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / runlog.LOCK)
        lock.acquire(timeout=MOMENT, poll_interval=MOMENT / 10)
    except Timeout:
        raise RunDirectoryError(
            f"{directory} belongs to {_told(mine)}, which is at work on it. Wait for it, or end it."
        ) from None
    except (OSError, NotImplementedError) as error:  # the latter where the file system has no locks
        reason = getattr(error, "strerror", None) or error
        raise RunDirectoryError(
            f"the run directory {directory} cannot be written: {reason}. Choose another one."
        ) from error
    try:
        files.write_json(mine, {"host": platform.node(), "pid": os.getpid()})
        yield
    finally:
        with suppress(OSError):
            mine.unlink(missing_ok=True)
        lock.release()


def owner(directory: Path) -> str | None:
    """The process that is at work on a run, in words; None where there is none."""
    mine = directory / runlog.OWNER
    try:
        with files.opened(directory / runlog.LOCK) as file:
            return _told(mine) if _is_held(file.fileno(), file.name) else None
    except (RunDirectoryError, FileFormatError) as error:
        if isinstance(error.__cause__, PermissionError) and mine.exists():  # it is somebody else's, and may be held
            return f"perhaps {_told(mine)}"
        return None
    except (OSError, NotImplementedError):  # as above: no lock can be there
        return None


if sys.platform == "win32":

    def _is_held(descriptor: int, path: str) -> bool:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

else:

    def _is_held(descriptor: int, path: str) -> bool:
        """Whether anybody holds the lock that ``FileLock`` takes. To see that, the file need not be writable."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who else looks is in nobody's way
        except (BlockingIOError, PermissionError):
            return True
        return False  # closed, the file is let go of


def _told(owner: Path) -> str:
    try:
        found = files.read_json(owner)
    except (RunDirectoryError, FileFormatError):  # it is only just beginning, or ending
        return "another process"
    return f"process {found.get('pid')!r} on {found.get('host')!r}"


def check_own(directory: Path) -> None:
    """Refuse a run of which a part is a link: whoever writes there would write somewhere else.

    Raises:
        FileFormatError: there is one.
    """
    names = (*runlog.DIRECTORIES, runlog.LOCK, *(pattern for pattern in runlog.RUN_FILES if "*" not in pattern))
    for name in names:
        if (directory / name).is_symlink():
            raise FileFormatError(f"{directory / name} is a link, which no run has. Put what it leads to there.")
