"""Choice of the backend: NumPy, or NumPy with compiled elementwise operations (Numba)."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Literal

from perilune._utils.extras import missing
from perilune.errors import ConfigError, PeriluneWarning

VARIABLE = "PERILUNE_BACKEND"

Backend = Literal["numpy", "numba"]


def installed() -> tuple[Backend, ...]:
    """Return the backends that can be used."""
    return ("numpy", "numba") if importlib.util.find_spec("numba") else ("numpy",)


def backend() -> Backend:
    """Return the backend of this process: that of ``PERILUNE_BACKEND``, or "numba" if Numba is installed.

    Raises:
        ConfigError: ``PERILUNE_BACKEND`` is neither "numpy" nor "numba".
    """
    match os.environ.get(VARIABLE, ""):
        case "":
            return installed()[-1]
        case "numpy" | "numba" as name:
            return name
        case name:
            raise ConfigError(VARIABLE, name, '"numpy" or "numba"')


@cache  # the backend never changes, and a cached call takes no time in the training loop
def compiled() -> ModuleType | None:
    """Return the module of compiled operations, or None with NumPy alone. The first call imports Numba.

    Raises:
        ConfigError: ``PERILUNE_BACKEND`` is neither "numpy" nor "numba".
        MissingDependencyError: ``PERILUNE_BACKEND`` is "numba", but Numba is not installed.
    """
    if backend() == "numpy":
        return None
    try:
        from perilune.nn import compiled as module  # noqa: PLC0415 -- Numba takes long to import
    except ImportError as error:
        if os.environ.get(VARIABLE):
            raise missing(f"{VARIABLE}=numba needs Numba", "compiled") from error
        warnings.warn(f"Perilune uses NumPy alone, because Numba fails: {error}", PeriluneWarning, stacklevel=2)
        return None
    return module


@contextmanager
def using(name: Backend) -> Iterator[None]:
    """Use a backend inside the block, also in processes that start there. Agents created elsewhere must not learn.

    Args:
        name: the backend.
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    compiled.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
        compiled.cache_clear()


def description() -> str:
    """Return the backend with everything that its results depend on, such as "numba 0.68.1 (znver3)"."""
    module = compiled()
    return "numpy" if module is None else module.description()
