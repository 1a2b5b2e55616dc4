"""Connect to a Ray cluster."""

from __future__ import annotations

import logging
import socket
from typing import Any

from perilune._utils.console import aside
from perilune._utils.extras import missing
from perilune.errors import ConfigError


def connect(address: str) -> tuple[Any, bool]:
    """Connect this process to a Ray cluster.

    Args:
        address: address of the cluster, or "auto" for the one that runs on this machine.

    Returns:
        The module ``ray``, and whether this call opened the connection. False if this process, such as a notebook, was
        already connected.

    Raises:
        ConfigError: there is no such cluster.
        MissingDependencyError: Ray is not installed.
    """
    try:
        import ray as module  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise missing("--cluster needs Ray", "ray") from error
    ray: Any = module
    if ray.is_initialized():
        return ray, False
    _check_reachable(address)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (Exception, SystemExit) as error:  # Ray documents no base class
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ConfigError("cluster", address, f"a Ray cluster that accepts connections (Ray: {reason})") from error
    cpus, free = (int(found.get("CPU", 0)) for found in (ray.cluster_resources(), ray.available_resources()))
    where = ray.get_runtime_context().gcs_address
    aside(f"perilune: using the Ray cluster at {where}, which has {cpus} CPUs ({free} free).")
    return ray, True


def _check_reachable(address: str) -> None:
    """Raise ConfigError if nothing listens at the address of a cluster. Ray itself would try for minutes."""
    if "://" in address:  # Ray Client
        return
    try:
        from ray._private.services import canonicalize_bootstrap_address  # noqa: PLC0415 -- an extra
    except ImportError:  # not a public function
        return
    start = "Start a cluster with `ray start --head`"
    try:
        found = canonicalize_bootstrap_address(address)
    except ConnectionError:
        found = None
    except Exception as error:  # such as an unknown host
        raise ConfigError("cluster", address, f"auto, or an address such as HOST:6379 ({error})") from error
    if found is None:
        expected = f"the address of a Ray cluster, because none is running on this machine. {start}"
        raise ConfigError("cluster", address, expected)
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        expected = (
            f"the address of a running Ray cluster, but none answers at {found} ({error.strerror or error}). {start}"
        )
        raise ConfigError("cluster", address, expected) from error
