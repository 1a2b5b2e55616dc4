"""Describe and check runs and weights files, for ``perilune info`` and ``perilune verify``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from perilune._utils.text import duration, number
from perilune.agent.state import named_weights
from perilune.errors import FileFormatError, PeriluneError
from perilune.runs import checkpoint, failure, files, layout, logs, manifest, snapshots, weights
from perilune.runs.checkpoint import Checkpoint
from perilune.runs.logs import LogState
from perilune.runs.status import FINISHED, read_status

MACHINE = ("platform", "cpus", "python", "numpy", "backend", "gymnasium", "perilune")  # keys of host.json to show
Read = TypeVar("Read")


def describe(run_or_file: Path) -> dict[str, Any]:
    """Return a description of a run directory or a weights file, as plain JSON values."""
    if run_or_file.is_dir():
        return _describe_run(run_or_file)
    agent, saved = weights.load_weights(run_or_file)
    return {
        "kind": "weights",
        "environment": saved.environment,
        "seed": saved.seed,
        "counters": _counters(saved),
        "weights": sum(array.size for array in named_weights(agent).values()),
        "bytes": run_or_file.stat().st_size,
        "agent": asdict(saved.config),
    }


def _counters(saved: object) -> dict[str, int]:
    return {name: getattr(saved, name) for name in ("env_steps", "episodes", "updates", "target_syncs")}


def _describe_run(directory: Path) -> dict[str, Any]:
    run = logs.read_run(directory)
    there, now = checkpoint.paths(directory), read_status(directory)
    newest, state = now.newest, now.state
    faults = [
        f"resuming skips this checkpoint: {fault}" if path in there else fault
        for path, fault in verify(directory, lines_too=False)  # read_run has just read all lines
        if fault is not None
    ]
    best = [evaluation for evaluation in run.evaluations if evaluation.best][-1:]
    if now.owner is not None:
        state += f" ({now.owner})"
    elif state != FINISHED:
        hint = f"resume with: {layout.resume_command(directory)}"
        state += f"; {hint if newest else 'cannot be resumed without a readable checkpoint'}"
    sizes = (_try(lambda path: path.stat().st_size, path) for path in directory.rglob("*") if path.is_file())
    return {
        "kind": "run",
        "environment": run.config["environment"],
        "seed": run.config["seed"],
        "state": state,
        "error": run.failure,
        "counters": None if newest is None else _counters(newest.agent),
        "seconds": None if newest is None else newest.training.seconds,
        "best": best[0]._asdict() if best else None,
        "checkpoints": [str(path.relative_to(directory)) for path in there],
        "bytes": sum(size or 0 for size in sizes),
        "health": [*faults, *(notice.words for notice in run.notices)],
        "machine": _try(files.read_json, directory / "host.json"),
        "agent": run.config["agent"],
        "train": run.config["train"],
    }


def _try(read: Callable[[Path], Read], path: Path) -> Read | None:
    """Return the result of ``read``, or None if the file is damaged (``verify`` reports this) or was just removed."""
    try:
        return read(path)
    except (PeriluneError, FileNotFoundError):
        return None


def summary(found: dict[str, Any], title: str) -> list[str]:
    """Return the result of ``describe`` as lines of text."""
    lines = [f"{title}: {found['kind']} of {found['environment']}, seed {found['seed']}{_verdict(found)}"]
    counters, best, machine = found["counters"] or {}, found.get("best"), found.get("machine")
    released = found.get("pretrained")
    rows = {
        "error": found.get("error"),
        **{name.replace("_", " "): f"{count:,}" for name, count in counters.items()},
        "time": duration(found["seconds"]) if found.get("seconds") else None,
        "best evaluation": best and f"{number(best['mean_return'])} after {best['env_steps']:,} steps",
        "score": released and "mean {mean:.2f}, lowest {min:.2f}, {episodes} episodes".format(**released["score"]),
        "made by": released and released["command"],
        "SHA-256": released and released["sha256"],
        "weights": f"{found['weights']:,}" if "weights" in found else None,
        "checkpoints": ", ".join(Path(name).stem.lstrip("0") or "0" for name in found.get("checkpoints", ())) or None,
        "size": f"{found['bytes'] / 2**20:,.1f} MiB",
        "machine": machine and ", ".join(f"{name} {machine[name]}" for name in MACHINE if name in machine),
    }
    lines += [f"  {'problem':<28}{message}" for message in found.get("health", ())]
    lines += [f"  {name:<28}{value}" for name, value in rows.items() if value is not None]
    for group in ("agent", "train"):
        if group in found:
            lines += [f"  {group}", *(f"    {name:<26}{value}" for name, value in found[group].items())]
    return lines


def _verdict(found: dict[str, Any]) -> str:
    """Return the state of a run and whether it has problems, or an empty string for a weights file."""
    if found["kind"] != "run":
        return ""
    problems = len(found["health"])
    count = "no problems" if not problems else "1 problem" if problems == 1 else f"{problems} problems"
    return f"\n  {found['state']}, {count}"


class Finding(NamedTuple):
    """A file of a run, and its fault or None."""

    path: Path
    fault: str | None


def verify(directory: Path, *, lines_too: bool = True) -> Iterator[Finding]:
    """Check every file of a run that has a checksum or a format: checkpoints, logs, weights and settings.

    Skip files that training removes during the check. ``lines_too`` also checks every line of the logs.
    """
    manifest.check_run(directory)
    intact: list[Checkpoint] = []
    yield _checked(directory, layout.check_links)
    yield from _existing(checkpoint.paths(directory), lambda path: intact.append(checkpoint.load(path)[0]))
    newest = intact[-1] if intact else None
    yield _checked(directory / "config.json", partial(_check_config, newest=newest))
    yield _checked(directory / "host.json", files.read_json)
    if (directory / failure.FILE).exists():
        yield _checked(directory / failure.FILE, files.read_json)
    known = {log.name: log for log in newest.logs} if newest else {}
    for kind, name in layout.FILES.items():
        if (directory / name).exists() or name in known:
            check = partial(_check_log, kind=kind if lines_too else None, log=known.get(name))
            yield _checked(directory / name, check)
    best = directory / layout.WEIGHTS["best"]
    if newest and newest.has_best_weights and not best.exists():
        yield Finding(best, f"{best} does not exist. Restore it with: {layout.resume_command(directory)}")
    saved = (*(directory / name for name in layout.WEIGHTS.values()), *snapshots.paths(directory))
    yield from _existing(saved, weights.load_weights)


def _checked(path: Path, check: Callable[[Path], object]) -> Finding:
    try:
        check(path)
    except PeriluneError as error:
        return Finding(path, str(error))
    return Finding(path, None)


def _existing(paths: Iterable[Path], check: Callable[[Path], object]) -> Iterator[Finding]:
    """Check files. Ignore those that were removed during the check."""
    for path in paths:
        found = _checked(path, check)
        if found.fault is None or path.exists():
            yield found


def _check_config(path: Path, newest: Checkpoint | None) -> None:
    manifest.read_config(path.parent)
    if newest and manifest.read_setup(path.parent) != newest.setup:
        raise FileFormatError(f"{path} differs from the newest checkpoint")


def _check_log(path: Path, kind: Any, log: LogState | None) -> None:
    """Check the lines of a log if ``kind`` is given, and its start if ``log`` is given."""
    if kind is not None:
        logs.read_log(path.parent, kind)
    if log is not None:
        logs.check_start(path, log)
