"""Writing a run's logs: JSON lines that are appended while training, and cut off where a run resumes."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import msgspec

from perilune._utils.validation import Natural
from perilune.errors import FileFormatError, PeriluneWarning, RunDirectoryError
from perilune.runs import files
from perilune.runs.layout import FILES
from perilune.training.events import Event

ENCODER = msgspec.json.Encoder(enc_hook=lambda value: value.item())  # NumPy scalars


class LogState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size and checksum that a log had at some time."""

    name: str
    size: Natural
    sha256: str


class LogWriter(AbstractContextManager["LogWriter"]):
    """Append events to a run's logs. Every line is handed to the system before training continues.

    Args:
        directory: the run.
        logs: the logs at the checkpoint from which training resumes; later lines are cut off, because training
            writes them again. Empty for a new run.

    Raises:
        RunDirectoryError: a log cannot be written, or does not exist any more.
        FileFormatError: a log does not start with the content it had at the checkpoint.
    """

    def __init__(self, directory: Path, logs: Sequence[LogState] = ()) -> None:
        known = {log.name: log for log in logs}
        self._directory = directory
        self._digests = {name: _truncate(directory / name, known.get(name)) for name in FILES.values()}
        with files.reported("written", directory):
            self._files = {name: (directory / name).open("a+b") for name in FILES.values()}

    def write(self, event: Event) -> None:
        """Append ``event`` if its type is logged. A number that is not finite becomes null."""
        name = FILES.get(type(event))
        if name is None:
            return
        line = ENCODER.encode(event._asdict()) + b"\n"
        self._digests[name].update(line)
        with files.reported("written", self._directory / name):
            self._files[name].write(line)
            self._files[name].flush()

    def flush(self) -> list[LogState]:
        """Flush the logs to disk and return their states. A log that was removed meanwhile is written again."""
        logs = []
        for name in self._files:
            self._put_back(name)
            with files.reported("written", self._directory / name):
                descriptor = self._files[name].fileno()
                os.fsync(descriptor)
                size = os.fstat(descriptor).st_size
            logs.append(LogState(name=name, size=size, sha256=self._digests[name].hexdigest()))
        return logs

    def _put_back(self, name: str) -> None:
        """Write a log again if its name does not lead to the open file any more: a checkpoint needs it."""
        path, file = self._directory / name, self._files[name]
        with files.reported("read", path):
            with suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), os.fstat(file.fileno())):
                    return
            file.seek(0)
            content = file.read()
        files.write(path, content)
        file.close()
        with files.reported("written", path):
            self._files[name] = path.open("a+b")
        message = f"{path} was removed or replaced during training. Its lines have been written again."
        warnings.warn(message, PeriluneWarning, stacklevel=2)

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            with suppress(OSError):  # the line that did not fit on a full disk has been reported already
                file.close()


def check_start(path: Path, log: LogState) -> hashlib._Hash:
    """Return the checksum of the part of a log that a checkpoint knows.

    Raises:
        RunDirectoryError: the log does not exist or cannot be read.
        FileFormatError: it does not start with that content.
    """
    sha256 = files.digest(path, log.size)
    if sha256.hexdigest() != log.sha256:
        raise FileFormatError(f"{path} does not start with the {log.size:,} bytes that it had at the checkpoint")
    return sha256


def _truncate(path: Path, log: LogState | None) -> hashlib._Hash:
    """Cut a log to its size at a checkpoint, and return the checksum of the rest."""
    if log is None or (log.size == 0 and not path.exists()):
        return hashlib.sha256()
    try:
        sha256 = check_start(path, log)
    except (FileFormatError, RunDirectoryError) as error:
        if path.is_symlink():
            raise
        raise type(error)(
            f"{error}. Restore the log; without it this run cannot be resumed. To start a new run from its weights, "
            f"use Python: DQN.load({str(path.parent)!r}).train(...)"
        ) from error
    with files.opened(path, "r+b") as file:
        file.truncate(log.size)
    return sha256
