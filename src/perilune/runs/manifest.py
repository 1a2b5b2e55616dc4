"""What a run says about itself: config.json (what was trained) and host.json (where)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from threadpoolctl import threadpool_info

from perilune._utils.validation import LARGEST
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files

FORMAT = 1


class _Config(msgspec.Struct):
    """The part of config.json that every reader relies on."""

    environment: str
    reward_threshold: float | None
    seed: Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
    agent: dict[str, Any]
    train: dict[str, Any]


def write_config(directory: Path, content: dict[str, Any]) -> None:
    """Write host.json, then config.json: a directory with a config.json is a complete run."""
    files.write_json(directory / "host.json", host())
    files.write_json(directory / "config.json", content)


def read_config(directory: Path) -> dict[str, Any]:
    """Return config.json of a run.

    Raises:
        RunDirectoryError: there is no run.
        FileFormatError: the file is damaged or has another format.
    """
    path = directory / "config.json"
    if not path.exists():
        raise RunDirectoryError(f"{directory} is not a run: it has no config.json. Pass a run directory.")
    config = files.read_json(path)
    if config.get("format") != FORMAT:
        raise FileFormatError(
            f"{path} has format {str(config.get('format'))[:100]}; this version of Perilune reads {FORMAT}"
        )
    try:
        msgspec.convert(config, _Config)
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{path} is invalid: {error}") from error
    return config


def family(config: dict[str, Any]) -> str:
    """Return a short hash that two runs share if and only if their config.json differ at most in the seed.

    Raises:
        FileFormatError: ``config`` is nested too deeply.
    """
    settings = {name: value for name, value in config.items() if name != "seed"}
    try:
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    except RecursionError as error:
        raise FileFormatError("config.json is nested too deeply") from error


def version() -> str:
    """Return Perilune's version."""
    try:
        return metadata.version("perilune")
    except metadata.PackageNotFoundError:
        return "not installed"


def host() -> dict[str, Any]:
    """Return the machine and the versions that this process runs on."""
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    libraries.sort(
        key=lambda library: "numpy" not in library["filepath"]
    )  # other libraries may bring a BLAS of their own
    blas: dict[str, Any] = libraries[0] if libraries else {}
    return {
        "perilune": version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "gymnasium": metadata.version("gymnasium"),
        "blas": {key: blas.get(key) for key in ("internal_api", "version", "architecture", "num_threads")},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
