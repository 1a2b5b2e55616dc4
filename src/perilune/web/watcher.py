"""Find the runs below a directory, poll them for changes and summarize them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.text import printable
from perilune.envs.known import lookup, presets
from perilune.errors import PeriluneError
from perilune.runs import checkpoint, failure, files, layout, lock, logs, manifest
from perilune.runs.search import find_runs, find_searches
from perilune.runs.status import FAILED, INTERRUPTED, RUNNING, UNREADABLE, read_status
from perilune.runs.tables import LogReader, Table
from perilune.viz import shared
from perilune.web.series import training_time
from perilune.web.videos import best_evaluation, find_videos

MAX_WARNINGS = 50  # per run; the page shows the latest
MAX_SETTINGS = 100  # that differ between runs
PARTS = ("agent", "train")  # of config.json
POLL_SECONDS = 0.5
MAX_LOAD = 0.05  # share of the time that polling may take
LOGS = {name.removesuffix(".jsonl"): kind for kind, name in layout.FILES.items()}
FILES = (
    "config.json", "host.json", "settings.toml", *layout.FILES.values(), failure.FILE, "videos", checkpoint.DIRECTORY,
    layout.LOCK, layout.OWNER,
)  # fmt: skip
VERSIONS = count(1)  # version numbers, unique across runs


class WatchedRun:
    """A run directory that the server polls.

    Attributes:
        directory: The run directory.
        id: Name of the run, which is its path below the watched directory.
        version: A number that changes whenever the run changes.
        started: Time in nanoseconds when config.json was last written, at the start or at a resumption.
        config: Content of config.json; {} if it cannot be read.
        settings: The seed and the settings of the agent and of training, as JSON, by name.
        derived: The names of settings that follow from the budget.
        group: A string that is equal for runs that differ only in the seed.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.id = directory, name
        self.version = self.started = 0
        self.config: dict[str, Any] = {}
        self.settings: dict[str, bytes] = {}
        self.derived: set[str] = set()
        self.group = ""
        self._config_error: str | None = None
        self._logs = {log: LogReader(directory / layout.FILES[kind], kind) for log, kind in LOGS.items()}
        self._log_errors: dict[str, str | None] = dict.fromkeys(LOGS)
        self._stamps: dict[str, tuple[int, ...] | None] = {}
        self._owner: str | None = None
        self._summary: tuple[int, dict[str, object]] | None = None

    def poll(self) -> None:
        """Check the files for changes. Read config.json again if it has changed."""
        stamps = {name: _stamp(self.directory / name) for name in FILES}
        owner = None if stamps[layout.OWNER] is None else lock.owner(self.directory)
        if (stamps, owner) == (self._stamps, self._owner):
            return
        has_changed = stamps["config.json"] != self._stamps.get("config.json")
        self._stamps, self._owner, self.version = stamps, owner, next(VERSIONS)
        if has_changed:
            self.started = self._written("config.json")
            self._read_config()

    def _written(self, name: str) -> int:
        """Return the time in nanoseconds when a file was last written, or 0 if it does not exist."""
        stamp = self._stamps[name]
        return 0 if stamp is None else stamp[-1]

    def read(self, log: str) -> Table:
        """Return the rows that a log contains so far."""
        table = self._logs[log].read()
        if table.fault != self._log_errors[log]:
            self._log_errors[log], self.version = table.fault, next(VERSIONS)
        return table

    def files(self) -> dict[str, object]:
        """Return config.json, host.json, and the recommended and derived settings. An unreadable file is null."""
        try:
            host = files.read_json(self.directory / "host.json")
        except PeriluneError:
            host = None
        recommended, derived = _recommended(self.config), sorted(self.derived)
        return {
            "id": self.id,
            "config": self.config or None,
            "host": host,
            "recommended": recommended,
            "derived": derived,
        }

    def summary(self) -> dict[str, object]:
        """Return the run's entry for the list of runs. ``progress`` is the used share of the budget."""
        if self._summary is None or self._summary[0] != self.version:
            tables = [self.read(log) for log in ("episodes", "evaluations", "notices")]
            self._summary = self.version, self._summarize(*tables)
        return self._summary[1]

    def outcomes(self) -> list[str]:
        """Return the outcomes of the episodes so far: first those that the environment defines, then others."""
        found = self.summary()["outcomes"]
        return [label for label, _ in found] if isinstance(found, list) else []

    def _summarize(self, episodes: Table, evaluations: Table, notices: Table) -> dict[str, object]:
        config = self.config
        environment = printable(config.get("environment", ""))
        is_whole = episodes.columns["ended"] != "budget"
        env_steps, whole = float(logs.env_steps(self.directory)), int(is_whole.sum())
        state, error, messages, start_steps = self._state()
        messages += filter(None, self._log_errors.values())
        budget = config.get("train", {})
        spent = ((env_steps - start_steps, budget.get("steps")), (whole, budget.get("episodes")))
        shares = [done / limit for done, limit in spent if type(limit) is int and 0 < limit < 2**63]
        progress = min(max(0.0, *shares), 1.0) if shares else None
        seconds = float(training_time(np.array([env_steps]), evaluations)[0])
        return {
            "id": self.id,
            "environment": environment,
            "seed": config.get("seed"),
            "reward_threshold": config.get("reward_threshold"),
            "group": self.group,
            "state": state,
            "error": None if error is None else printable(error),
            "message": " ".join(printable(text if text.endswith(".") else f"{text}.") for text in messages) or None,
            "env_steps": env_steps,
            "episodes": whole,
            "window": shared.window(whole),
            "started": self.started / 1e9,
            "created": manifest.created(self.directory),
            "seconds": seconds,
            "speed": env_steps / seconds if seconds > 0 else None,
            "eta": _remaining(seconds, env_steps, start_steps, progress) if state == RUNNING else None,
            "progress": progress,
            "best": best_evaluation(evaluations),
            "latest": evaluations.columns["mean_return"][-1].item() if evaluations.rows else None,
            "solved": _solved(evaluations, config.get("reward_threshold")),
            "outcomes": _outcomes(episodes, is_whole, environment),
            "warnings": [text for text in notices.columns["words"][-MAX_WARNINGS:] if text],
            "videos": len(find_videos(self.directory)),
        }

    def _state(self) -> tuple[str, str | None, list[str], int]:
        """Return the state, its error, messages about it, and the environment steps before the budget started."""
        if self._config_error:
            return UNREADABLE, self._config_error, [self._config_error], 0
        now = read_status(self.directory)
        messages = [f"The newest checkpoint cannot be read: {fault}" for fault in now.damaged[:1]]
        if now.state in (INTERRUPTED, FAILED):
            messages.append(f"Training failed: {now.error}" if now.state == FAILED else "Training stopped early")
            hint = (
                "The run has no readable checkpoint to resume from"
                if not now.newest
                else "It belongs to a search, which continues it if it did not stop the trial early"
                if (self.directory / layout.TRIAL).exists()
                else "Resume the run with perilune resume"
            )
            messages.append(hint)
        error = now.error if now.state == FAILED else None
        return now.state, error, messages, now.newest.training.start_steps if now.newest else 0

    def _read_config(self) -> None:
        try:
            self.config = manifest.read_config(self.directory)
            self.group, self._config_error = manifest.family(self.config), None
        except PeriluneError as error:
            self.config, self.group, self._config_error = {}, f"unreadable {self.id}", str(error)
        settings = {f"{part}.{name}": value for part in PARTS for name, value in self.config.get(part, {}).items()}
        seed = {"seed": self.config["seed"]} if self.config else {}
        self.derived = _derived(self.config)
        self.settings = {name: msgspec.json.encode(value) for name, value in (seed | settings).items()}


def differences(runs: Collection[WatchedRun]) -> dict[str, dict[str, msgspec.Raw]]:
    """Return, by run, the values of the settings that differ between runs of the same environment.

    A setting that follows from the budget in all of these runs does not differ.
    """
    members: dict[str, list[WatchedRun]] = {}
    for run in runs:
        members.setdefault(str(run.config.get("environment")), []).append(run)
    names: dict[str, None] = {}
    for same in members.values():
        known = [{name: name not in run.derived and value for name, value in run.settings.items()} for run in same]
        equal = set.intersection(*(set(settings.items()) for settings in known))
        names |= {name: None for settings in known for name, value in settings.items() if (name, value) not in equal}
    shown = list(names)[:MAX_SETTINGS]
    return {run.id: {name: msgspec.Raw(run.settings[name]) for name in shown if name in run.settings} for run in runs}


def _recommended(config: dict[str, Any]) -> dict[str, object] | None:
    """Return the settings that Perilune recommends for the environment and the budget of a run; None if unknown."""
    try:
        budget = {name: config["train"][name] for name in ("steps", "episodes")}
        agent, _ = presets.resolve(config["environment"], presets.RECOMMENDED, {}, budget)
        train = presets.preset(config["environment"]).train
    except (PeriluneError, KeyError, TypeError):
        return None
    return {"agent": presets.as_measured(agent, config["agent"]), "train": train}


def _derived(config: dict[str, Any]) -> set[str]:
    """Return the names of the settings of a run that follow from its budget."""
    try:
        found = presets.derived(config["environment"], config["agent"], config["train"]["steps"])
    except (PeriluneError, KeyError, TypeError, AttributeError, OverflowError):
        return set()
    return {f"agent.{name}" for name in found}


def _remaining(seconds: float, env_steps: float, start_steps: int, progress: float | None) -> float | None:
    """Return the seconds until the budget is used at the average speed so far; None if they are unknown."""
    if not progress or not env_steps > start_steps:
        return None
    return seconds * (env_steps - start_steps) / env_steps * (1 - progress) / progress


def _solved(evaluations: Table, threshold: object) -> float | None:
    """Return the environment steps at the first evaluation that reached the threshold; None if none did."""
    if not isinstance(threshold, int | float):
        return None
    rows = np.flatnonzero(evaluations.columns["mean_return"] >= threshold)
    return evaluations.columns["env_steps"][rows[0]].item() if len(rows) else None


def newest_per_seed(runs: Sequence[WatchedRun]) -> list[tuple[tuple[WatchedRun, ...], dict[str, str]]]:
    """Return the newest run of each seed, for each group with several seeds.

    The dictionary maps the id of each older run of the group to the id of the run that replaces it.
    """
    bands = []
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        by_age = sorted(members, key=lambda run: (run.started, run.id))
        newest = {run.config.get("seed"): run.id for run in by_age}
        replaced = {run.id: newest[run.config.get("seed")] for run in members if run.id not in newest.values()}
        if len(newest) > 1:
            bands.append((tuple(run for run in members if run.id not in replaced), replaced))
    return bands


def _name(directory: Path, root: Path) -> str:
    return printable(directory.relative_to(root).as_posix())


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return numbers that change when the file or directory changes."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


def _outcomes(episodes: Table, is_whole: Array, environment: str) -> list[tuple[str, int]] | None:
    """Count the episodes by outcome: first the outcomes that the environment defines, then others."""
    found = Counter(label for label in episodes.columns["outcome"][is_whole] if label is not None)
    known = dict.fromkeys(lookup(environment).outcome_labels, 0)
    return list((known | found).items()) if found else None


class Watcher:
    """Find and poll the runs below ``root`` when a page requests them.

    Attributes:
        root: the watched directory.
        message: what the last search for runs could not read.
        searches: directories of searches for settings, by name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.message: str | None = None
        self.searches: dict[str, Path] = {}
        self._runs: dict[str, WatchedRun] = {}
        self._lock = Lock()
        self._next_poll = 0.0

    def poll(self) -> dict[str, WatchedRun]:
        """Return the runs by name. If the last search is old enough, search for new runs and changes first."""
        with self._lock:
            start = time.monotonic()
            if start >= self._next_poll:
                self._search()
                now = time.monotonic()
                self._next_poll = now + max(POLL_SECONDS, (now - start) / MAX_LOAD)
            return self._runs

    def _search(self) -> None:
        directories, self.message = find_runs(self.root)
        found = {}
        for directory in directories:
            name = _name(directory, self.root)
            run = self._runs.get(name)
            found[name] = run if run is not None and run.directory == directory else WatchedRun(directory, name)
            found[name].poll()
        self._runs = dict(sorted(found.items()))
        self.searches = {_name(one, self.root): one for one in find_searches(directories, self.root)}
