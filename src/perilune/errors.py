"""Everything that can go wrong on purpose. Each message says what was given, what is allowed and what to do."""

from __future__ import annotations

from typing import TypeVar


class PeriluneError(Exception):
    """The root of every error that Perilune raises itself."""


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
    """An array has another shape or dtype than the equation needs."""


class UnsupportedEnvironmentError(PeriluneError, ValueError):
    """The environment does not exist, or is of a kind that deep Q-learning here does not cover."""


class EnvironmentFaultError(PeriluneError, RuntimeError):
    """The environment broke the Gymnasium interface while it ran."""


class MissingDependencyError(PeriluneError, ImportError):
    """A library that this feature needs is not installed; the message has the install command."""


class DisplayError(PeriluneError, RuntimeError):
    """There is no display to open a window on."""


class PortError(PeriluneError, OSError):
    """A port of this machine cannot be listened to."""


class RunDirectoryError(PeriluneError, OSError):
    """A run directory cannot be written, already holds a run, or does not hold one."""


class FileFormatError(PeriluneError, ValueError):
    """A file is not what its name says: damaged, foreign, or of another version."""


class DivergenceError(PeriluneError, ArithmeticError):
    """Training produced a number that is not finite, so that going on is pointless."""


class TrialError(PeriluneError, RuntimeError):
    """Seeds of a benchmark failed; the results of the others are kept."""


class ExaminationError(PeriluneError, ValueError):
    """What was given to the doctor is no agent that could be examined."""


class PeriluneWarning(UserWarning):
    """Something is off but no result is lost; training goes on."""


Located = TypeVar("Located", EnvironmentFaultError, DivergenceError)


def located(error: Located, where: str) -> Located:
    """Return the same error with ``where`` it happened at the end of its message: the step, the episode, ..."""
    return type(error)(f"{error}, {where}")
