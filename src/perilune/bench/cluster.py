"""Run worker processes on the machines of a Ray cluster."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np

from perilune._utils.cluster import connect
from perilune.bench.pool import Engine, Item, Local, attempt, show_warnings
from perilune.errors import ConfigError, RunInUseError, UsageError
from perilune.nn.backend import Backend, backend, using
from perilune.runs import manifest

PATIENCE = 180.0  # seconds; a file server needs up to 90 to release the locks of a machine that has failed


def open_engine(jobs: int | None, cluster: str | None, *, reuse: bool = False) -> Engine:
    """Return where worker processes run. Close it to stop them.

    Args:
        jobs: number of processes at the same time, by default 1, or the number of CPUs of the cluster.
        cluster: address of a Ray cluster, or "auto" for the running one. By default, processes run on this machine.
        reuse: let each local process work on many items.

    Raises:
        ConfigError: ``jobs`` < 1, or there is no such cluster.
        MissingDependencyError: Pebble or Ray is not installed.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError("jobs", jobs, "a whole number >= 1")
    return Local(jobs or 1, reuse=reuse) if cluster is None else Cluster(cluster, jobs)


class Cluster:
    """Worker processes on a Ray cluster. Each item is a Ray task with one CPU.

    If this process dies, Ray stops its tasks.

    Args:
        address: address of the cluster, or "auto".
        jobs: number of tasks at the same time. By default, the number of CPUs in the cluster.

    Raises:
        ConfigError: there is no such cluster.
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, address: str, jobs: int | None = None) -> None:
        self._ray, self._connected = connect(address)
        self._limit = jobs
        # Perilune restarts tasks itself, because Ray does not report why a task died.
        self._task: Any = self._ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_run)
        self._tasks: dict[Future[str | None], Any] = {}  # those in progress

    @property
    def jobs(self) -> int:
        """Number of tasks at the same time. At least 1, so that an autoscaling cluster adds a machine."""
        return self._limit or max(1, int(self._ray.cluster_resources().get("CPU", 0)))

    def schedule(self, work: Callable[[Item], object], item: Item) -> Future[str | None]:
        """Call ``work`` on an item in a task. The result is None or the reason for a failure."""
        task = self._task.remote(work, item, _software(), backend())
        future: Future[str | None] = task.future()
        self._tasks[future] = task
        future.add_done_callback(lambda done: self._tasks.pop(done, None))
        return future

    def cancel(self, future: Future[str | None]) -> None:
        """Stop the task of an item."""
        if (task := self._tasks.get(future)) is not None:
            self._ray.cancel(task, force=True)

    def described(self, error: BaseException) -> tuple[str, bool]:
        """Return why a task has died, and whether this was because its machine failed."""
        failed = self._ray.exceptions.NodeDiedError, self._ray.exceptions.LocalRayletDiedError
        if isinstance(error, failed):
            return "its machine failed", True
        if isinstance(error, self._ray.exceptions.WorkerCrashedError):
            return "the worker process was killed", False
        return f"{type(error).__name__}: {error}", False

    def close(self) -> None:
        """Stop all tasks, and disconnect from the cluster."""
        for task in list(self._tasks.values()):
            self._ray.cancel(task, force=True)
        if self._connected:
            self._ray.shutdown()


def _software() -> str:
    """Return the versions on which the weights of a seed depend, for a seed that moves to another machine."""
    return f"perilune {manifest.version()}, numpy {np.__version__}"


def _run(work: Callable[[Item], object], item: Item, software: str, name: Backend) -> str | None:
    """Call ``work`` on this machine of the cluster. Return None or the reason for a failure."""
    show_warnings()
    return attempt(partial(_work, work, software, name), item)


def _work(work: Callable[[Item], object], software: str, name: Backend, item: Item) -> object:
    """Call ``work``. Wait until the process that worked on the item before, on a machine that failed, is gone."""
    if (found := _software()) != software:
        raise UsageError(f"{platform.node()} has {found}, but this command uses {software}. Install the same versions.")
    start = time.monotonic()
    with using(name):
        while True:
            try:
                return work(item)
            except RunInUseError:
                if time.monotonic() - start > PATIENCE:
                    raise
                time.sleep(1)
