"""Runs as one HTML file that can be passed on: opened without a server, printed, and never asking for anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from perilune import envs, files
from perilune.errors import ConfigError, PeriluneError
from perilune.runlog import Run
from perilune.view import endings, films, maps, plots, scoring
from perilune.view.advice import advice
from perilune.view.facts import Facts
from perilune.view.plots import Picture
from perilune.view.report_page import Content, html

MOST_MAPPED = 4  # runs whose maps are shown
SEVERAL = {"values"}  # the maps that are shown of several runs


def write(runs: Sequence[Run], path: Path, episodes: int, say: Callable[[str], object]) -> None:
    """Write a report of ``runs`` to ``path``; ``episodes`` greedy ones score each file of weights, 0 for none.

    Raises:
        RunDirectoryError: it cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    files.write(path, html(gather(runs, episodes, say)).encode(errors="backslashreplace"))


def gather(runs: Sequence[Run], episodes: int, say: Callable[[str], object]) -> Content:
    """Score the runs, draw their pictures and choose their films.

    What cannot be had is said in the report. ``say`` is told what takes its time.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    curves = plots.curves(runs)  # for its error, before anything takes time
    scores = [scoring.score(run, episodes, say) for run in runs]
    left_out: list[str] = []
    seeds = {place: scoring.seeds(runs, family) for family in scoring.families(runs) for place in family}
    best = [None if found.best is None else found.best.evaluation for found in scores]
    try:
        made = [_can_be_made(run.config["environment"]) for run in runs]
        with np.errstate(over="ignore", invalid="ignore"):  # a log may have numbers of which the sum is not finite
            advised = advice([Facts(run, best[place], seeds[place], made[place]) for place, run in enumerate(runs)])
    except ConfigError as error:
        advised = []
        left_out.append(f"What to try next cannot be told: {error}")
    drawn: list[tuple[str, Picture]] = []
    for run in runs[:MOST_MAPPED]:
        say(f"{run.directory.name}: maps of what was learned")
        try:
            found = maps.draw(run.directory)
        except PeriluneError as error:
            left_out.append(f"{run.directory.name} has no maps: {error}")
            continue
        shown = found.pictures if len(runs) == 1 else found.pictures.keys() & SEVERAL
        drawn += [(name, found.pictures[name]) for name in shown]
        left_out += [f"{run.directory.name}: {sentence}" for sentence in found.left_out]
    return Content(runs, scores, advised, films.choose(runs), curves, endings.draw(runs), drawn, left_out)


def _can_be_made(environment: str) -> bool:
    """Whether a command can make the environment by its id; with a colon it would import what a run's file names."""
    try:
        if ":" not in environment:
            envs.make(environment).close()
            return True
    except PeriluneError:  # the scores say it in its words
        pass
    return False
