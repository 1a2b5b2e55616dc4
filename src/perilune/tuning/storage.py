"""Open the storage of a study: by default Optuna's journal, one file that many processes can share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from optuna.storages.journal._file import BaseJournalFileLock

from perilune.errors import ConfigError, FileFormatError
from perilune.runs import files

GRACE = 5  # seconds after which a lock that a killed process left behind is removed
LARGEST = 2**32  # bytes of a journal
START = b'{"op_code":'  # of each line
LOCK = ".lock"  # of a directory that several processes write


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a directory against other processes of a search.

    Args:
        directory: the directory.

    Raises:
        RunDirectoryError: the directory cannot be written.
    """
    with files.reported("written", directory), FileLock(directory / LOCK):
        yield


class _Lock(BaseJournalFileLock):
    """Lock a journal against other processes of Perilune, and with Optuna's own lock against other programs.

    The operating system releases the first lock when a process is killed. Optuna's own lock is a file, which remains:
    the next process removes it after ``GRACE`` seconds.
    """

    def __init__(self, path: Path) -> None:
        self._ours = FileLock(f"{path}.flock")
        kind = JournalFileOpenLock if os.name == "nt" else JournalFileSymlinkLock
        self._optunas = kind(str(path), grace_period=GRACE)

    def acquire(self) -> bool:
        """Wait for both locks."""
        self._ours.acquire()
        try:
            return self._optunas.acquire()
        except BaseException:
            self._ours.release()
            raise

    def release(self) -> None:
        """Release both locks."""
        try:
            self._optunas.release()
        finally:
            self._ours.release()


class Journal(JournalFileBackend):
    """Optuna's journal file, without the unfinished line that a killed process or a full disk can leave behind.

    Optuna would append to that line, which would damage the journal.

    Args:
        path: the journal. It is created if it does not exist.

    Raises:
        FileFormatError: the file is not a journal, or is damaged.
        RunDirectoryError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        files.check_regular(path)
        self._path, self._guard, self._flushing = path, _Lock(path), True
        with files.reported("written", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            super().__init__(str(path), lock_obj=self._guard)
        _check(path)
        with self.locked():
            self._cut()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the journal for writing."""
        with files.reported("written", self._path):
            self._guard.acquire()
            try:
                yield
            finally:
                self._guard.release()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, after an unfinished line has been removed."""
        content = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self.locked():
            self._cut()
            with files.open_log(self._path) as file:
                file.write(content)
                file.flush()
                if self._flushing:
                    os.fsync(file.fileno())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Flush the records of the block to disk once, at its end. A killed process loses none of them."""
        self._flushing = False
        try:
            yield
        finally:
            self._flushing = True
            with files.open_log(self._path) as file:
                os.fsync(file.fileno())

    def _cut(self) -> None:
        """Remove an unfinished last line. The process that wrote it did not use it."""
        with files.opened(self._path, "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end == 0:
                return
            file.seek(end - 1)
            if file.read(1) == b"\n":
                return
            start = end
            while start > 0:
                piece = min(start, 2**16)
                file.seek(start - piece)
                if (found := file.read(piece).rfind(b"\n")) >= 0:
                    file.truncate(start - piece + found + 1)
                    return
                start -= piece
            file.truncate(0)


def _check(path: Path) -> None:
    """Check each line of a journal."""
    with files.opened(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise FileFormatError(f"{path} is too large: at most {LARGEST:,} bytes are allowed.")
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and (number > 1 or line.startswith(START[: len(line)])):
                return  # unfinished
            try:
                record = json.loads(line)
                valid = isinstance(record, dict) and isinstance(record["op_code"], int) and "worker_id" in record
            except (ValueError, KeyError, RecursionError):
                valid = False
            if not valid:
                raise FileFormatError(
                    f"{path} is damaged: line {number} is not a record of an Optuna journal. Restore the file from a "
                    "copy, or move it away to start again: finished seeds in the same directory are not trained again."
                )


def open_storage(where: Path | str) -> tuple[optuna.storages.BaseStorage, Journal | None]:
    """Open a journal file, or the storage at a URL, such as "postgresql://host/name" or "sqlite:///file".

    Returns:
        The storage, and its journal if it is one.

    Raises:
        ConfigError: the URL is invalid, or its storage cannot be opened.
        FileFormatError: the journal is damaged.
        RunDirectoryError: the journal cannot be read or written.
    """
    if isinstance(where, Path) or "://" not in where:
        journal = Journal(Path(where))
        return optuna.storages.JournalStorage(journal), journal
    try:
        return optuna.storages.RDBStorage(where), None
    except Exception as error:  # of SQLAlchemy or a database driver
        reason = " ".join(str(error).split())[:300]
        expected = f"a file, or the URL of a database that can be opened ({reason})"
        raise ConfigError("storage", where, expected) from error
