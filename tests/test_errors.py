"""Errors of ours are told apart by what to do about them, and can be caught as one."""

from __future__ import annotations

import inspect
import pickle  # noqa: TID251 -- errors travel between processes

import pytest

from perilune import errors
from perilune.errors import ConfigError, PeriluneError, PeriluneWarning

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and not issubclass(kind, Warning)
]


def test_there_are_errors_to_test() -> None:
    assert len(ERRORS) >= 8


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_a_perilune_error(kind: type[Exception]) -> None:
    assert issubclass(kind, PeriluneError)


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind is not PeriluneError])
def test_every_error_is_also_the_builtin_one_that_others_would_catch(kind: type[Exception]) -> None:
    builtins = (ValueError, TypeError, RuntimeError, ImportError, OSError, ArithmeticError)
    assert issubclass(kind, builtins)


def test_a_warning_is_no_error() -> None:
    assert issubclass(PeriluneWarning, UserWarning)
    assert not issubclass(PeriluneWarning, PeriluneError)


def test_a_config_error_says_name_value_and_what_is_allowed() -> None:
    error = ConfigError("gamma", "1.5", "a number from 0 to 1")
    assert str(error) == "gamma='1.5' is invalid: expected a number from 0 to 1."
    assert (error.name, error.value, error.expected) == ("gamma", "1.5", "a number from 0 to 1")


def test_a_config_error_travels_between_processes() -> None:
    error = ConfigError("hidden", (0,), "whole numbers >= 1")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert type(again) is ConfigError
    assert str(again) == str(error)
    assert (again.name, again.value, again.expected) == ("hidden", (0,), "whole numbers >= 1")


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind is not ConfigError])
def test_the_other_errors_travel_too(kind: type[Exception]) -> None:
    again = pickle.loads(pickle.dumps(kind("what happened")))  # noqa: S301 -- our own bytes
    assert type(again) is kind
    assert str(again) == "what happened"
