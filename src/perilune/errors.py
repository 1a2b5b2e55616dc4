"""Exceptions raised by Perilune. Each message says what was given, what is allowed and what to do next."""

from __future__ import annotations

from typing import TypeVar


class PeriluneError(Exception):
    """Base class of all errors that Perilune raises."""


class ConfigError(PeriluneError, ValueError):
    """A setting does not exist, or its value is invalid.

    Args:
        name: the setting. Also an attribute.
        value: the value that was given. Also an attribute.
        expected: what is allowed, as a noun phrase. Also an attribute.
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        end = "" if expected.endswith((".", "?")) else "."
        super().__init__(f"{name}={value!r} is invalid: expected {expected}{end}")
        self.name = name
        self.value = value
        self.expected = expected

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        # Exceptions travel between processes by their constructor's arguments, not by their message.
        return ConfigError, (self.name, self.value, self.expected)


class UsageError(PeriluneError, TypeError):
    """A call has an argument that it does not take. The message shows the call to use instead."""


class ShapeError(PeriluneError, ValueError):
    """An array has the wrong shape or dtype."""


class UnsupportedEnvironmentError(PeriluneError, ValueError):
    """The environment does not exist, or its spaces are not supported."""


class EnvironmentFaultError(PeriluneError, RuntimeError):
    """The environment raised, or broke the Gymnasium interface."""


class MissingDependencyError(PeriluneError, ImportError):
    """A library that a feature needs is not installed; the message has the install command."""


class DisplayError(PeriluneError, RuntimeError):
    """There is no display on which to open a window."""


class PortError(PeriluneError, OSError):
    """The server cannot listen on a port."""


class RunDirectoryError(PeriluneError, OSError):
    """A run directory cannot be written, already holds a run, or does not hold one."""


class FileFormatError(PeriluneError, ValueError):
    """A file is damaged, of another version, or not of the expected kind."""


class DivergenceError(PeriluneError, ArithmeticError):
    """Training produced a number that is not finite."""


class TrialError(PeriluneError, RuntimeError):
    """Seeds of a benchmark failed; the results of the others are kept."""


class ExaminationError(PeriluneError, ValueError):
    """What was given to the doctor is no agent that could be examined."""


class PeriluneWarning(UserWarning):
    """Something is wrong, but training continues and no result is lost."""


Located = TypeVar("Located", bound=PeriluneError)


def located(error: Located, where: str) -> Located:
    """Return the same error with ``where`` it happened at the end of its message: the step, the episode, ..."""
    return type(error)(f"{error}, {where}")
