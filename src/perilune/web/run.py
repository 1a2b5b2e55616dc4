"""A run, followed: what is known of it, and whether anything changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from perilune._utils.statistics import moving_average
from perilune.envs.known import lookup
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import checkpoint, files, lock, runlog
from perilune.training.events import Episode, Evaluated, HealthWarning, Metrics
from perilune.web.logs import Log, Table, number
from perilune.web.videos import films, is_directory, text

RECENT = 100  # episodes
MOST_NOTICES = 50
LOGS = {"episodes": Episode, "metrics": Metrics, "evaluations": Evaluated, "notices": HealthWarning}
PARTS = (
    "config.json", "host.json", *runlog.FILES.values(), "videos", checkpoint.DIRECTORY, runlog.LOCK, runlog.OWNER,
)  # fmt: skip


class _Training(msgspec.Struct):
    """What is read of a checkpoint, which may be large: whether the training was over, and where its budget began."""

    over: bool
    start_steps: int


class _Checkpoint(msgspec.Struct):
    training: _Training


class _Saved(msgspec.Struct):
    checkpoint: _Checkpoint


@dataclass(frozen=True)
class About:
    """What config.json says; ``fault`` where it cannot be read."""

    environment: str | None
    seed: int | None
    reward_threshold: float | None
    steps: int | None
    episodes: int | None
    group: str
    fault: str | None


class State(NamedTuple):
    """What a run is doing, what is to be said of that, and the environment steps with which its budget began."""

    name: str
    words: list[str]
    start_steps: int


class Run:
    """A run, followed. ``version`` grows with whatever changes; ``behind``: what was told of it was not all."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.id, self.version, self.behind = directory, name, 0, False
        self._logs = {log: Log(directory / runlog.FILES[kind], kind) for log, kind in LOGS.items()}
        self._seen: object = None
        self._owner: str | None = None
        self._about: tuple[object, About] | None = None
        self._told: tuple[int, dict[str, Any]] | None = None
        self._faults: dict[str, str | None] = {}

    def look(self, versions: Iterator[int]) -> None:
        """See whether anything changed; nothing is read."""
        seen = [_stamp(self.directory / part) for part in PARTS]
        owner = None if seen[PARTS.index(runlog.OWNER)] is None else lock.owner(self.directory)
        if (seen, owner) != self._seen:
            self._seen, self._owner, self.version = (seen, owner), owner, next(versions)

    def read(self, log: str) -> Table:
        """One of the logs, as it is now."""
        table = self._logs[log].read()
        if table.words != self._faults.get(log):
            self._faults[log], self.behind = table.words, True
        return table

    def about(self) -> About:
        """What config.json says."""
        stamp = _stamp(self.directory / "config.json")
        if self._about is None or self._about[0] != stamp:
            try:
                about = _about(self.config())
            except (FileFormatError, RunDirectoryError) as error:
                about = About(None, None, None, None, None, f"unreadable {self.id}", str(error))
            self._about = stamp, about
        return self._about[1]

    @property
    def began(self) -> int:
        """When the run began, or was gone on with, in nanoseconds: config.json is written then and no other time."""
        stamp = _stamp(self.directory / "config.json")
        return 0 if stamp is None else stamp[-1]

    def config(self) -> dict[str, Any]:
        """The whole of config.json.

        Raises:
            RunDirectoryError: it is not there.
            FileFormatError: it is damaged, or larger than a run's can be.
        """
        return runlog.read_config(self.directory)

    def host(self) -> dict[str, Any] | None:
        """The whole of host.json, where it can be read."""
        try:
            return files.read_json(self.directory / "host.json")
        except (FileFormatError, RunDirectoryError):
            return None

    @property
    def is_told(self) -> bool:
        """Whether nothing has to be read to tell of it."""
        return self._told is not None and self._told[0] == self.version

    def told(self) -> dict[str, Any]:
        """All that a list of runs says of it, as plain JSON values."""
        version, told = self.version, self._told
        if told is None or told[0] != version:
            about, state = self.about(), self._state()
            figures = self._figures(about, state)
            told = version, self._outline(about, state, version) | figures
            self._told, self.behind = told, False
        return told[1]

    def outlined(self) -> dict[str, Any]:
        """What can be told of it without its logs; the rest is None until they have been read."""
        self.behind = True
        return self._outline(self.about(), self._state(), self.version)

    def _outline(self, about: About, state: State, version: int) -> dict[str, Any]:
        said = [*state.words, *filter(None, self._faults.values())]
        words = [text(one if one.endswith(".") else f"{one}.") for one in said]
        return {
            "id": self.id,
            "environment": about.environment,
            "seed": about.seed,
            "reward_threshold": about.reward_threshold,
            "state": state.name,
            "words": " ".join(words) or None,
            **dict.fromkeys(("env_steps", "episodes", "share", "recent", "best", "outcomes")),
            "budget": {"steps": about.steps, "episodes": about.episodes},
            "group": about.group,
            "version": version,
            "videos": len(films(self.directory)),
            "notices": [],
        }

    def _figures(self, about: About, state: State) -> dict[str, Any]:
        """What the logs say."""
        episodes, evaluations, notices = (self.read(log) for log in ("episodes", "evaluations", "notices"))
        whole = episodes.columns["ended"] != episodes.code("ended", "budget")
        rewards = episodes.columns["reward"][whole][-RECENT:]
        steps, count = (table.columns["env_steps"][-1:] for table in (episodes, evaluations)), int(whole.sum())
        env_steps = number(max((last.item() for last in steps if len(last)), default=0))
        shares = [
            (done - start) / budget
            for done, start, budget in ((env_steps, state.start_steps, about.steps), (count, 0, about.episodes))
            if budget and done is not None
        ]
        return {
            "env_steps": env_steps,
            "episodes": count,
            "share": min(max(0.0, *shares), 1.0) if shares else None,
            "recent": number(moving_average(rewards, RECENT)[-1]) if len(rewards) else None,
            "best": best(evaluations),
            "outcomes": _outcomes(episodes, whole, about.environment),
            "notices": [words for words in notices.texts("words")[-MOST_NOTICES:] if words],
        }

    def _state(self) -> State:
        newest, words = None, []
        try:
            there = checkpoint.paths(self.directory) if is_directory(self.directory / checkpoint.DIRECTORY) else []
            if there:
                newest = msgspec.json.decode(files.read(there[-1], checkpoint.LARGEST), type=_Saved).checkpoint.training
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, FileFormatError, RunDirectoryError) as error:
            words = [f"The newest checkpoint cannot be read: {error}"]
        began = newest.start_steps if newest else 0
        if fault := self.about().fault:
            return State("unreadable", [fault], began)
        if self._owner is not None:
            return State("training", words, began)
        if newest is not None and newest.over:
            return State("ended", words, began)
        remedy = "perilune resume goes on with it" if newest else "without a checkpoint it cannot be gone on with"
        return State("stopped", [*words, f"It stopped before its end; {remedy}"], began)


def one_a_seed(runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """Of each seed the run that began last; and for each of the others, by its name, that of the one in its place."""
    newest = {run.about().seed: run for run in sorted(runs, key=lambda run: (run.began, run.id))}
    places = {run.id: newest[run.about().seed].id for run in runs}
    return [run for run in runs if places[run.id] == run.id], {old: new for old, new in places.items() if old != new}


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return None
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns


def _about(config: dict[str, Any]) -> About:
    budget = [config["train"].get(name) for name in ("steps", "episodes")]
    steps, episodes = (value if type(value) is int and 0 < value < 2**63 else None for value in budget)
    group = runlog.family(config)
    return About(config["environment"], config["seed"], config["reward_threshold"], steps, episodes, group, None)


def _outcomes(episodes: Table, whole: Any, environment: str | None) -> list[list[str | int]] | None:
    """How many episodes came to what: all that the environment's can come to, in its order, then what else is found."""
    labels = episodes.labels["outcome"]
    counts = np.bincount(episodes.columns["outcome"][whole], minlength=len(labels))
    found = {label: int(count) for label, count in zip(labels, counts, strict=True) if label is not None and count}
    known = lookup(environment or "").outcome_labels
    return [[label, many] for label, many in (dict.fromkeys(known, 0) | found).items()] if found else None


def best(evaluations: Table) -> dict[str, Any] | None:
    """The best evaluation so far."""
    rows = np.flatnonzero(evaluations.columns["best"])
    if not len(rows):
        return None
    return {name: number(evaluations.columns[name][rows[-1]]) for name in ("env_steps", "episodes", "mean_return")}
