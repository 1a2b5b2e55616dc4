"""Benchmarks: learning over many seeds, comparison of results, and speed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from perilune.errors import MissingDependencyError


def from_repository(name: str, purpose: str) -> ModuleType:
    """Import ``benchmarks/NAME`` of the repository, which is not part of the installed package.

    Args:
        name: name of a module or package in ``benchmarks/``.
        purpose: feature that requires the module, for the error message.

    Returns:
        The module.

    Raises:
        MissingDependencyError: Perilune is not running from a clone of the repository.
    """
    root = Path(__file__).parents[3]
    if not (root / "benchmarks" / "__init__.py").is_file():
        raise MissingDependencyError(
            f"{purpose} requires the benchmarks/ directory of the repository, which is not part of the package. "
            "Clone the repository and run this command from its environment (make setup)."
        )
    if str(root) not in sys.path:
        sys.path.append(str(root))  # worker processes inherit it
    return importlib.import_module(f"benchmarks.{name}")
