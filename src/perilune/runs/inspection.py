"""What a run or a file is, and whether all of it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from perilune._utils.text import number
from perilune.agent.config import to_json
from perilune.errors import FileFormatError, PeriluneError, RunDirectoryError
from perilune.runs import checkpoint, files, lock, runlog, snapshots, weights
from perilune.runs.checkpoint import Checkpoint
from perilune.runs.files import Stored

Read = TypeVar("Read")


def about(run_or_file: Path) -> dict[str, Any]:
    """What is known of a run directory or a weights file, as plain JSON values.

    Raises:
        RunDirectoryError: there is nothing of that kind.
        FileFormatError: it is damaged, foreign or of another version.
    """
    return _about_run(run_or_file) if run_or_file.is_dir() else _about_weights(run_or_file)


def _about_weights(path: Path) -> dict[str, Any]:
    agent, saved = weights.load_weights(path)
    return {
        "kind": "weights",
        "environment": saved.environment,
        "seed": saved.seed,
        "counters": {
            "env_steps": saved.env_steps,
            "episodes": saved.episodes,
            "updates": saved.updates,
            "target_syncs": saved.target_syncs,
        },
        "weights": sum(array.size for array in agent.named_weights().values()),
        "bytes": path.stat().st_size,
        "agent": to_json(saved.config),
    }


def _about_run(directory: Path) -> dict[str, Any]:
    run = runlog.read(directory)
    there = checkpoint.paths(directory)
    newest = next((found for path in reversed(there) if (found := _read(path, checkpoint.read)) is not None), None)
    faults = [
        f"a checkpoint would be passed over: {fault}" if path in there else fault
        for path, fault in _findings(directory, _check_start)  # the logs themselves were read just now
        if fault is not None
    ]
    best = [evaluation for evaluation in run.evaluations if evaluation.best][-1:]
    return {
        "kind": "run",
        "environment": run.config["environment"],
        "seed": run.config["seed"],
        "state": _state(directory, newest),
        "counters": None
        if newest is None
        else {name: getattr(newest.agent, name) for name in ("env_steps", "episodes", "updates", "target_syncs")},
        "seconds": None if newest is None else newest.training.seconds,
        "best": best[0]._asdict() if best else None,
        "checkpoints": [str(path.relative_to(directory)) for path in there],
        "bytes": sum(_size(path) for path in directory.rglob("*") if path.is_file()),
        "health": [*faults, *(notice.words for notice in run.notices)],
        "machine": _read(directory / "host.json", files.read_json),
        "agent": run.config["agent"],
        "train": run.config["train"],
    }


def _read(path: Path, read: Callable[[Path], Read]) -> Read | None:
    try:
        return read(path)
    except PeriluneError:  # ``verify`` has the words
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a training that is under way has just removed it
        return 0


def _state(directory: Path, newest: checkpoint.Checkpoint | None) -> str:
    if (owner := lock.owner(directory)) is not None:
        return f"{owner} is at work on it"
    if newest is None:
        return "without a checkpoint that can be read: it cannot be gone on with"
    return "at its end" if newest.training.over else "stopped before its end: perilune resume goes on with it"


def told(found: dict[str, Any], title: str) -> list[str]:
    """What ``about`` found, in lines for people."""
    lines = [f"{title}: {found['kind']} of {found['environment']}, seed {found['seed']}"]
    counters = found["counters"] or {}
    rows = {
        "state": found.get("state"),
        **{name.replace("_", " "): f"{count:,}" for name, count in counters.items()},
        "time": f"{found['seconds']:,.0f} s" if found.get("seconds") else None,
        "best evaluation": f"{number(found['best']['mean_return'], 1)} after {found['best']['env_steps']:,} steps"
        if found.get("best")
        else None,
        "weights": f"{found['weights']:,}" if "weights" in found else None,
        "checkpoints": ", ".join(Path(name).stem.lstrip("0") or "0" for name in found.get("checkpoints", ())) or None,
        "size": f"{found['bytes'] / 2**20:,.1f} MiB",
        "machine": _machine(found["machine"]) if found.get("machine") else None,
        "health": "nothing is off" if found.get("health") == [] else None,
    }
    lines += [f"  {name:<28}{value}" for name, value in rows.items() if value is not None]
    lines += [f"  {'health':<28}{words}" for words in found.get("health", ())]
    for group in ("agent", "train"):
        if group in found:
            lines += [f"  {group}", *(f"    {name:<26}{value}" for name, value in found[group].items())]
    return lines


def _machine(machine: dict[str, Any]) -> str:
    known = ("platform", "cpus", "python", "numpy", "gymnasium", "perilune")
    return ", ".join(f"{name} {machine[name]}" for name in known if name in machine)


class Finding(NamedTuple):
    """A file of a run, and what is wrong with it; None where it is whole."""

    path: Path
    fault: str | None


def verify(directory: Path) -> Iterator[Finding]:
    """Look at everything of a run that has a checksum or a form: checkpoints, their objects, logs, weights.

    What a training that is under way removes meanwhile, as it does with all but the last checkpoints, is left out.

    Raises:
        RunDirectoryError: there is no run.
    """
    yield from _findings(directory, _check_log)


def _findings(directory: Path, check_log: Callable[..., None]) -> Iterator[Finding]:
    if not (directory / "config.json").exists():
        raise RunDirectoryError(f"{directory} holds no run: there is no config.json. Give a run directory.")
    whole: list[Checkpoint] = []
    yield _looked_at(directory, lock.check_own)
    yield from _still_there(checkpoint.paths(directory), lambda path: whole.append(checkpoint.read(path)))
    yield _looked_at(directory / "config.json", lambda path: _check_config(path, whole[-1:]))
    if (directory / "host.json").exists():  # runs of earlier versions have none
        yield _looked_at(directory / "host.json", files.read_json)
    needed: dict[Stored, list[Checkpoint]] = {}
    for one in whole:
        for stored in one.objects:
            needed.setdefault(stored, []).append(one)
    for stored, of in sorted(needed.items(), key=lambda item: item[0].sha256):
        found = _looked_at(checkpoint.object_path(directory, stored), partial(_check_object, stored=stored))
        if found.fault is None or any(_stands(directory, one) for one in of):
            yield found
    known = {log.name: log.stored for log in whole[-1].logs} if whole else {}
    for kind, name in runlog.FILES.items():
        if (directory / name).exists() or name in known:
            yield _looked_at(directory / name, partial(check_log, kind=kind, stored=known.get(name)))
    best = directory / runlog.WEIGHTS["best"]
    if whole and whole[-1].weights is not None and not best.exists():
        yield Finding(best, f"{best} is not there any more: perilune resume {directory} writes it again")
    saved = (*(directory / name for name in runlog.WEIGHTS.values()), *snapshots.paths(directory))
    yield from _still_there(saved, weights.load_weights)


def _looked_at(path: Path, look: Callable[[Path], object]) -> Finding:
    try:
        look(path)
    except PeriluneError as error:
        return Finding(path, str(error))
    return Finding(path, None)


def _still_there(paths: Iterable[Path], look: Callable[[Path], object]) -> Iterator[Finding]:
    """Findings of those that are there, also once they have been looked at."""
    for path in paths:
        found = _looked_at(path, look)
        if found.fault is None or path.exists():
            yield found


def _stands(directory: Path, one: Checkpoint) -> bool:
    """Whether a checkpoint that was read is there still, and says the same."""
    try:
        return checkpoint.read(checkpoint.path_of(directory, one.agent.env_steps)) == one
    except PeriluneError:
        return False


def _check_object(path: Path, stored: Stored) -> None:
    checkpoint.check_object(path.parents[2], stored)


def _check_config(path: Path, newest: list[Checkpoint]) -> None:
    content = runlog.read_config(path.parent)
    if newest and content != newest[0].setup.to_json():
        raise FileFormatError(f"{path} says something else than the newest checkpoint")


def _check_log(path: Path, kind: Any, stored: Stored | None) -> None:
    """See that every line of a log can be read, and that it begins with what the newest checkpoint knows of it."""
    runlog.read_log(path.parent, kind)
    _check_start(path, kind, stored)


def _check_start(path: Path, kind: Any, stored: Stored | None) -> None:
    if stored is None:
        return
    found, _ = files.digest(path, stored.size)
    if found != stored:
        raise FileFormatError(f"{path} does not begin with what it was at the newest checkpoint")
