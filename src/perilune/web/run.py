"""A run that is watched: its settings, its state and whether it changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from perilune._utils.arrays import Array
from perilune._utils.text import printable
from perilune.envs.known import lookup
from perilune.errors import PeriluneError
from perilune.runs import checkpoint, files, layout, lock, manifest
from perilune.runs.logs import LogReader, Table
from perilune.training.events import Episode, Evaluated, HealthWarning, Metrics
from perilune.web.videos import best_evaluation, find_videos, is_directory

MAX_WARNINGS = 50  # shown of a run, the latest
LOGS = {"episodes": Episode, "metrics": Metrics, "evaluations": Evaluated, "notices": HealthWarning}
FILES = (
    "config.json", "host.json", *layout.FILES.values(), "videos", checkpoint.DIRECTORY, layout.LOCK, layout.OWNER,
)  # fmt: skip
VERSIONS = count(1)  # no two versions are equal, not even those of different runs


class WatchedRun:
    """A run directory that is polled.

    Attributes:
        id: the run's name, its path below the watched directory.
        version: changes whenever the run does.
        config: content of config.json, {} if it cannot be read.
        group: equal for runs that differ in the seed only.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.id = directory, name
        self.version = 0
        self.config: dict[str, Any] = {}
        self.group = ""
        self._config_error: str | None = None
        self._logs = {log: LogReader(directory / layout.FILES[kind], kind) for log, kind in LOGS.items()}
        self._log_errors: dict[str, str | None] = dict.fromkeys(LOGS)
        self._stamps: dict[str, tuple[int, ...] | None] = {}
        self._owner: str | None = None
        self._summary: tuple[int, dict[str, object]] | None = None

    def poll(self) -> None:
        """See whether any file changed. Only a changed config.json is read."""
        stamps = {name: _stamp(self.directory / name) for name in FILES}
        owner = None if stamps[layout.OWNER] is None else lock.owner(self.directory)
        if (stamps, owner) == (self._stamps, self._owner):
            return
        if stamps["config.json"] != self._stamps.get("config.json"):
            self._read_config()
        self._stamps, self._owner, self.version = stamps, owner, next(VERSIONS)

    @property
    def start_time(self) -> int:
        """When the run started or was resumed, in nanoseconds: config.json is written only then."""
        stamp = self._stamps.get("config.json")
        return 0 if stamp is None else stamp[-1]

    def read(self, log: str) -> Table:
        """Return one of the logs, as far as it is written."""
        table = self._logs[log].read()
        if table.fault != self._log_errors[log]:
            self._log_errors[log], self.version = table.fault, next(VERSIONS)
        return table

    def files(self) -> dict[str, object]:
        """Return config.json and host.json. A file that cannot be read is null."""
        try:
            host = files.read_json(self.directory / "host.json")
        except PeriluneError:
            host = None
        return {"id": self.id, "config": self.config or None, "host": host}

    def summary(self) -> dict[str, object]:
        """Return what the list of runs shows. ``progress`` is the share of the budget that is used up."""
        if self._summary is None or self._summary[0] != self.version:
            episodes, evaluations, notices = (self.read(log) for log in ("episodes", "evaluations", "notices"))
            version = self.version
            self._summary = version, self._summarize(episodes, evaluations, notices)
        return self._summary[1]

    def _summarize(self, episodes: Table, evaluations: Table, notices: Table) -> dict[str, object]:
        config = self.config
        environment = printable(config.get("environment", ""))
        is_whole = episodes.columns["ended"] != "budget"
        last = [table.columns["env_steps"][-1] for table in (episodes, evaluations) if table.rows]
        env_steps, whole = float(max(last, default=0)), int(is_whole.sum())
        state, messages, start_steps = self._state()
        messages += filter(None, self._log_errors.values())
        budget = config.get("train", {})
        spent = ((env_steps - start_steps, budget.get("steps")), (whole, budget.get("episodes")))
        shares = [done / limit for done, limit in spent if type(limit) is int and 0 < limit < 2**63]
        return {
            "id": self.id,
            "environment": environment,
            "seed": config.get("seed"),
            "reward_threshold": config.get("reward_threshold"),
            "group": self.group,
            "state": state,
            "message": " ".join(printable(text if text.endswith(".") else f"{text}.") for text in messages) or None,
            "env_steps": env_steps,
            "episodes": whole,
            "progress": min(max(0.0, *shares), 1.0) if shares else None,
            "best": best_evaluation(evaluations),
            "outcomes": _outcomes(episodes, is_whole, environment),
            "warnings": [text for text in notices.columns["words"][-MAX_WARNINGS:] if text],
            "videos": len(find_videos(self.directory)),
        }

    def _state(self) -> tuple[str, list[str], int]:
        """Return the run's state, messages about it, and the environment steps before its budget started."""
        if self._config_error:
            return "unreadable", [self._config_error], 0
        newest, messages = None, []
        try:
            if is_directory(self.directory / checkpoint.DIRECTORY) and (paths := checkpoint.paths(self.directory)):
                newest = checkpoint.read(paths[-1]).training
        except PeriluneError as error:
            messages = [f"The newest checkpoint cannot be read: {error}"]
        start_steps = newest.start_steps if newest else 0
        if self._owner is not None:
            return "training", messages, start_steps
        if newest is not None and newest.finished:
            return "finished", messages, start_steps
        advice = "Continue it with perilune resume" if newest else "It has no readable checkpoint to resume from"
        return "stopped", [*messages, f"The training stopped early. {advice}"], start_steps

    def _read_config(self) -> None:
        try:
            self.config = manifest.read_config(self.directory)
            self.group, self._config_error = manifest.family(self.config), None
        except PeriluneError as error:
            self.config, self.group, self._config_error = {}, f"unreadable {self.id}", str(error)


def newest_per_seed(runs: Sequence[WatchedRun]) -> list[tuple[tuple[WatchedRun, ...], dict[str, str]]]:
    """Return the newest run of each seed, for each group with several seeds.

    The dictionary names the older runs of the group, each with the run that replaces it.
    """
    bands = []
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        by_age = sorted(members, key=lambda run: (run.start_time, run.id))
        newest = {run.config.get("seed"): run.id for run in by_age}
        replaced = {run.id: newest[run.config.get("seed")] for run in members if run.id not in newest.values()}
        if len(newest) > 1:
            bands.append((tuple(run for run in members if run.id not in replaced), replaced))
    return bands


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file or directory does."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


def _outcomes(episodes: Table, is_whole: Array, environment: str) -> list[tuple[str, int]] | None:
    """Count the episodes by outcome: those that the environment defines, in its order, then any others."""
    found = Counter(label for label in episodes.columns["outcome"][is_whole] if label is not None)
    known = dict.fromkeys(lookup(environment).outcome_labels, 0)
    return list((known | found).items()) if found else None
