"""Name the files of a run directory, and create or replace a run. docs/reference/run-directory.md describes them."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from typing import NamedTuple

from perilune._utils.text import quoted
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import files
from perilune.training.events import Episode, Evaluated, HealthWarning, Metrics

FILES: dict[type[NamedTuple], str] = {
    Episode: "episodes.jsonl",
    Metrics: "metrics.jsonl",
    Evaluated: "evaluations.jsonl",
    HealthWarning: "notices.jsonl",
}
WEIGHTS = {"best": "best.safetensors", "final": "final.safetensors"}
TRIAL = "trial.json"  # the trial of a search for settings that the run belongs to
LOCK, OWNER = ".lock", "owner.json"
DIRECTORIES = ("plots", "videos", "maps", "tensorboard", "snapshots", "checkpoints")
PARTIAL = tuple(f"{folder}*{files.PARTIAL}" for folder in ("", *(f"{name}/" for name in DIRECTORIES)))
RUN_FILES = (
    *(
        "host.json",
        "settings.toml",
        "initial_state.png",
        "score.json",
        "failure.json",
        TRIAL,
        *FILES.values(),
        *WEIGHTS.values(),
    ),
    *("plots/curves.png", "plots/curves.svg", "videos/episode-*.mp4", "videos/best.mp4", "videos/final.mp4"),
    *("videos/episode-*.jsonl", "videos/best.jsonl", "videos/final.jsonl", "videos/*.gif"),
    *("videos/*-overlay.mp4", "videos/*-overlay.jsonl", "videos/stages.mp4"),
    *("maps/*.png", "maps/*.svg", "report.html", "tensorboard/events.out.tfevents.*"),
    *("snapshots/*.safetensors", "checkpoints/*.safetensors", OWNER),
    *PARTIAL,
    "config.json",  # removed last, so that a partly removed run still counts as a run
)


def resume_command(directory: Path) -> str:
    """Return the command that resumes the run in ``directory``."""
    return quoted(["perilune", "resume", str(directory)])


def free_directory(environment: str, seed: int, parent: Path = Path("runs")) -> Path:
    """Return the first of runs/ENV-seedS, runs/ENV-seedS-2, ... that does not exist."""
    allowed = re.sub(r"[^\w-]", "_", environment)  # Windows allows no colon, and no name that starts with "con."
    name = f"{allowed}-seed{seed}"
    ends = ("" if number == 1 else f"-{number}" for number in count(1))
    return next(directory for end in ends if not (directory := parent / f"{name}{end}").exists())


def check_free(directory: Path, overwrite: bool = False) -> None:
    """Raise RunDirectoryError if ``directory`` holds other files, or a run that may not be overwritten."""
    if (directory / "config.json").exists():
        if not overwrite:
            raise RunDirectoryError(
                f"run directory {str(directory)!r} already exists. Pass --overwrite to replace it, resume it with "
                "`perilune resume`, or choose another directory."
            )
        if not _is_run(directory):
            raise RunDirectoryError(f"{directory}/config.json does not belong to a run. Choose an empty directory.")
        return
    if _holds_other_files(directory):
        raise RunDirectoryError(f"{directory} holds files that do not belong to a run. Choose an empty directory.")


def _holds_other_files(directory: Path) -> bool:
    ours = {path for pattern in RUN_FILES for path in directory.glob(pattern)} | {directory / LOCK}
    return any(path not in ours for path in directory.rglob("*") if not path.is_dir())


def _is_run(directory: Path) -> bool:
    """Return whether a directory with a config.json holds a run, which may be damaged."""
    if any((directory / name).exists() for name in (*WEIGHTS.values(), *FILES.values())):
        return True
    try:
        return {"format", "environment"} <= files.read_json(directory / "config.json").keys()
    except FileFormatError:  # damaged
        return not _holds_other_files(directory)


def create(directory: Path, overwrite: bool = False) -> None:
    """Prepare a locked directory for a new run. Keep files that do not belong to a run."""
    check_free(directory, overwrite)
    with files.reported("written", directory):
        for pattern in RUN_FILES:
            for path in directory.glob(pattern):
                if path != directory / OWNER:
                    path.unlink()
        for name in DIRECTORIES:
            if (directory / name).is_dir() and not any((directory / name).iterdir()):
                (directory / name).rmdir()


def sweep(directory: Path) -> None:
    """Remove unfinished files that a killed process left behind."""
    with files.reported("written", directory):
        for pattern in PARTIAL:
            for path in directory.glob(pattern):
                path.unlink(missing_ok=True)


def check_links(directory: Path) -> None:
    """Raise FileFormatError if the run contains a link, pipe or device, because writing could harm other files."""
    for name in DIRECTORIES:
        if files.is_link(directory / name):
            raise FileFormatError(f"{directory / name} is a link. Replace it with its target.")
    for name in (LOCK, *(pattern for pattern in RUN_FILES if "*" not in pattern)):
        files.check_regular(directory / name)
    if (lock := directory / LOCK).exists():  # older versions of filelock empty the file
        files.check_own(lock, lock.lstat())
