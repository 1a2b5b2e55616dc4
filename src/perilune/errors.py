"""Exceptions raised by Perilune. Each message states what was given, what is allowed and what to do."""

from __future__ import annotations

LONGEST_VALUE = 200  # characters of a value in a message


class PeriluneError(Exception):
    """Base class of all exceptions raised by Perilune."""


class ConfigError(PeriluneError, ValueError):
    """A setting does not exist, or its value is invalid.

    Attributes:
        name: name of the setting.
        value: the given value.
        expected: the allowed values, as a noun phrase.
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        end = "" if expected.endswith((".", "?")) else "."
        given = repr(value)
        given = given if len(given) <= LONGEST_VALUE else f"{given[:LONGEST_VALUE]}..."
        super().__init__(f"{name}={given} is invalid: expected {expected}{end}")
        self.name = name
        self.value = value
        self.expected = expected

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        # By default, unpickling passes the message to the constructor.
        return ConfigError, (self.name, self.value, self.expected)


class UsageError(PeriluneError, TypeError):
    """A function was called with invalid arguments. The message shows a valid call."""


class ShapeError(PeriluneError, ValueError):
    """An array has the wrong shape or dtype."""


class UnsupportedEnvironmentError(PeriluneError, ValueError):
    """The environment does not exist, or its observation or action space is not supported."""


class EnvironmentFaultError(PeriluneError, RuntimeError):
    """The environment raised an exception or violated the Gymnasium interface."""


class MissingDependencyError(PeriluneError, ImportError):
    """A feature requires a library that is not installed. The message contains the install command."""


class DisplayError(PeriluneError, RuntimeError):
    """No display is available to open a window."""


class PortError(PeriluneError, OSError):
    """The server cannot listen on a port."""


class RunDirectoryError(PeriluneError, OSError):
    """A run directory cannot be read or written, already contains a run, or contains no run."""


class RunInUseError(RunDirectoryError):
    """Another process writes to the run directory."""


class FileFormatError(PeriluneError, ValueError):
    """A file is damaged, has another format version, or is not of the expected kind."""


class DivergenceError(PeriluneError, ArithmeticError):
    """Training diverged: a loss or weight is not finite."""


class TrialError(PeriluneError, RuntimeError):
    """Some seeds of a benchmark failed. The results of the other seeds are kept."""


class ExportError(PeriluneError, ValueError):
    """An agent cannot be exported, or an exported or foreign file cannot be used as an agent."""


class ExaminationError(PeriluneError, ValueError):
    """The doctor cannot examine the given program."""


class PeriluneWarning(UserWarning):
    """A problem that neither stops training nor loses results."""


def located(error: PeriluneError, where: str) -> PeriluneError:
    """Return a copy of an error with its location before the message.

    Args:
        error: the error.
        where: the location, such as the environment step.

    Returns:
        A new error of the same type.
    """
    return type(error)(f"{where}: {error}")
