"""A scratch directory that receives the files that a program writes. The program sees them in their usual places."""

from __future__ import annotations

import builtins
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Scratch:
    """Redirects the writes of a program.

    Attributes:
        directory: The scratch directory.
        beside: Directory of the program. Relative paths that do not exist are looked up there.
    """

    def __init__(self, directory: Path, beside: Path) -> None:
        self.directory, self.beside = str(directory.resolve()), str(beside)
        self.removed: set[str] = set()  # real paths that the program removed

    def copy_of(self, path: str) -> str:
        """Return the place of an absolute path in the scratch directory."""
        return path if self._outside(path) else os.path.join(self.directory, path.replace(":", "").lstrip("/\\"))

    def _outside(self, path: str) -> bool:
        """Return whether a path is never redirected."""
        return path.startswith((self.directory, "/dev/", "/proc/"))

    def reading(self, path: Any) -> Any:
        """Return the path from which a file is read."""
        if (absolute := _absolute(path)) is None:
            return path
        copy = self.copy_of(absolute)
        if real_lexists(copy) or self._removed(absolute):
            return copy
        if not os.path.isabs(text := _text(path)) and not real_lexists(absolute):
            beside = os.path.join(self.beside, text)
            return beside if real_lexists(beside) else path
        return path

    def writing(self, path: Any, keeps: bool = False) -> Any:
        """Return the path to which a file is written.

        Args:
            path: The path that the program passes.
            keeps: Whether the file keeps its content. Then it is copied first.
        """
        if (absolute := _absolute(path)) is None or self._outside(absolute):
            return path
        copy, source = self.copy_of(absolute), self.reading(path)
        if not os.path.isdir(os.path.dirname(absolute)):
            return path if not real_lexists(os.path.dirname(absolute)) else copy  # raises FileNotFoundError
        real_makedirs(os.path.dirname(copy), exist_ok=True)
        if keeps and source != copy and os.path.isfile(source):
            shutil.copyfile(source, copy)
        return copy

    def _removed(self, absolute: str) -> bool:
        return any(absolute == one or absolute.startswith(one + os.sep) for one in self.removed)

    def remove(self, path: Any) -> None:
        """Remove a file or an empty directory."""
        absolute = _absolute(path)
        os.lstat(path)  # raises FileNotFoundError
        if absolute is not None:
            copy = self.copy_of(absolute)
            if real_lexists(copy):
                (real_rmdir if os.path.isdir(copy) else real_remove)(copy)
            self.removed.add(absolute)

    def remove_tree(self, path: Any, ignore_errors: bool = False, *_: Any, **__: Any) -> None:
        """Remove a directory."""
        absolute = _absolute(path)
        if absolute is None or not os.path.lexists(path):
            if not ignore_errors:
                raise FileNotFoundError(2, "No such file or directory", str(path))
            return
        copy = self.copy_of(absolute)
        for directory, folders, files in os.walk(copy, topdown=False) if real_lexists(copy) else ():
            for name in files:
                real_remove(os.path.join(directory, name))
            for name in folders:
                real_rmdir(os.path.join(directory, name))
        with suppress(OSError):
            real_rmdir(copy)
        self.removed.add(absolute)

    def mkdir(self, path: Any, mode: int = 0o777, **_: Any) -> None:
        """Create a directory."""
        if os.path.lexists(path):
            raise FileExistsError(17, "File exists", str(path))
        real_mkdir(self.writing(path), mode)

    def rename(self, source: Any, target: Any, **_: Any) -> None:
        """Rename a file or directory."""
        old, new = self.reading(source), self.writing(target)
        if os.path.isdir(old):
            shutil.copytree(old, new, dirs_exist_ok=True)
            self.remove_tree(source)
        else:
            shutil.copyfile(old, new)
            self.remove(source)

    def names(self, path: Any = ".") -> list[Any]:
        """Return the names of the files in a directory."""
        absolute = _absolute(path)
        if absolute is None:
            return real_listdir(path)
        found: set[str] = set()
        for place in self._places(absolute):
            found |= set(real_listdir(place))
        return sorted(name for name in found if os.path.lexists(os.path.join(absolute, name)))

    def _places(self, absolute: str) -> list[str]:
        """Return where the files of a directory are: on disk, in the scratch directory or both."""
        copy = self.copy_of(absolute)
        places = [copy] if real_lexists(copy) else []
        return places if copy == absolute or (places and not real_lexists(absolute)) else [absolute, *places]

    def entries(self, path: Any = ".") -> Any:
        """Return the entries of a directory, as ``os.scandir``."""
        absolute = _absolute(path)
        if absolute is None:
            return real_scandir(path)
        found: dict[str, Any] = {}
        for place in self._places(absolute):
            with real_scandir(place) as entries:
                found |= {one.name: one for one in entries if not self._removed(os.path.join(absolute, one.name))}
        return _Entries(found.values())

    def patches(self) -> list[tuple[Any, str, Callable[..., Any]]]:
        """Return the functions to replace: their modules, names and replacements."""

        def opened(file: Any, mode: str = "r", *args: Any, **keywords: Any) -> Any:
            if isinstance(mode, str) and set(mode) & set("wax+"):
                return real_open(self.writing(file, keeps="w" not in mode), mode, *args, **keywords)
            return real_open(self.reading(file), mode, *args, **keywords)

        def low_level(path: Any, flags: int, *args: Any, **keywords: Any) -> int:
            place = self.writing(path, keeps=not flags & os.O_TRUNC) if flags & WRITING else self.reading(path)
            return real_os_open(place, flags, *args, **keywords)

        def reads(name: str) -> Callable[..., Any]:
            real = getattr(os, name)
            return lambda path, *args, **keywords: real(self.reading(path), *args, **keywords)

        def writes(name: str) -> Callable[..., Any]:
            real = getattr(os, name)
            return lambda path, *args, **keywords: real(self.writing(path, keeps=True), *args, **keywords)

        return [
            (builtins, "open", opened),
            (io, "open", opened),
            (os, "open", low_level),
            *((os, name, reads(name)) for name in ("stat", "lstat", "access", "readlink", "chdir")),
            *((os, name, writes(name)) for name in ("chmod", "utime", "truncate")),
            (os, "mkdir", self.mkdir),
            *((os, name, self.remove) for name in ("remove", "unlink", "rmdir")),
            *((os, name, self.rename) for name in ("rename", "replace", "link", "symlink")),
            (os, "listdir", self.names),
            (os, "scandir", self.entries),
            (shutil, "rmtree", self.remove_tree),
        ]


class _Entries:
    """An iterator over directory entries that is also a context manager, as the result of ``os.scandir``."""

    def __init__(self, entries: Any) -> None:
        self._entries = iter(list(entries))

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Do nothing."""


def _text(path: Any) -> str:
    return os.fsdecode(os.fspath(path))


def _absolute(path: Any) -> str | None:
    """Return the absolute path, or None for a file descriptor."""
    return (
        None
        if isinstance(path, int) or not isinstance(path, str | bytes | os.PathLike)
        else os.path.abspath(_text(path))
    )


real_open, real_os_open = builtins.open, os.open
real_mkdir, real_rmdir, real_remove = os.mkdir, os.rmdir, os.remove
real_listdir, real_scandir, real_lstat = os.listdir, os.scandir, os.lstat


def real_lexists(path: str) -> bool:
    """Return whether a path exists on disk."""
    try:
        real_lstat(path)
    except (OSError, ValueError):
        return False
    return True


def real_makedirs(path: str, exist_ok: bool) -> None:
    """Create a directory on disk, with its parents."""
    if not real_lexists(path):
        real_makedirs(os.path.dirname(path), exist_ok=True)
        real_mkdir(path)
    elif not exist_ok:
        raise FileExistsError(path)
