"""Runs as one HTML file that can be passed on: opened without a server, printed, and never asking for anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from perilune import envs
from perilune.errors import ConfigError, PeriluneError
from perilune.runs import files
from perilune.runs.runlog import Run
from perilune.viz import endings, maps, plots
from perilune.viz.plots import Picture
from perilune.viz.report import recordings, scoring
from perilune.viz.report.advice import advice
from perilune.viz.report.facts import Facts
from perilune.viz.report.page import Content, html

MOST_MAPPED = 4  # runs whose maps are shown
SEVERAL = {"values"}  # the maps that are shown of several runs
SUFFIXES = (".html", ".htm")


def check_name(path: Path) -> None:
    """Raise ConfigError where ``path`` is called what no page is: it may be weights, which would be written over."""
    if path.suffix not in SUFFIXES:
        raise ConfigError("out", str(path), f"a file whose name ends in {' or '.join(SUFFIXES)}")


def write(
    runs: Sequence[Run],
    path: Path,
    episodes: int,
    say: Callable[[str], object],
    *,
    env: str = "",
    left_out: Sequence[str] = (),
) -> None:
    """Write a report of ``runs`` to ``path``.

    Args:
        runs: what it is about.
        path: where to; a page's name.
        episodes: greedy ones that score each file of weights, 0 for none.
        say: is told what takes its time.
        env: id of the environment, for the runs whose own is not enough: my_module:MyEnv-v0.
        left_out: sentences on what is not among ``runs``.

    Raises:
        ConfigError: ``path`` has another ending than a page.
        UnsupportedEnvironmentError: there is no environment ``env``.
        RunDirectoryError: it cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    check_name(path)
    files.write(path, html(gather(runs, episodes, say, env, left_out)).encode(errors="backslashreplace"))


def gather(
    runs: Sequence[Run], episodes: int, say: Callable[[str], object], env: str = "", left_out: Sequence[str] = ()
) -> Content:
    """Score the runs, draw their pictures and choose their films. What cannot be had is said in the report.

    The arguments and errors are ``write``'s.
    """
    curves = plots.curves(runs)  # for its error, before anything takes time
    sentences = list(left_out)
    made = [_can_be_made(run.config["environment"]) for run in runs]
    if env:
        envs.make(env).close()  # likewise; not before, for it may bring the runs' own, which no other command has
    named = ["" if own else env for own in made]
    scores = [scoring.score(run, episodes, say, name) for run, name in zip(runs, named, strict=True)]
    seeds = {place: scoring.seeds(runs, family) for family in scoring.families(runs) for place in family}
    best = [None if found.best is None else found.best.evaluation for found in scores]
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a log may have numbers of which the sum is not finite
            advised = advice(
                [
                    Facts(run, best[place], seeds[place], made[place] or bool(env), named[place])
                    for place, run in enumerate(runs)
                ]
            )
    except ConfigError as error:
        advised = []
        sentences.append(f"What to try next cannot be told: {error}")
    drawn, without = _maps(runs, say)
    shown = recordings.choose(runs)
    sentences += [*without, *shown.none]
    unscored = [found.why for found in scores if found.why and episodes]
    for sentence in [*unscored, *sentences[len(left_out) :]]:
        say(f"left out: {sentence}")
    return Content(runs, scores, advised, shown, curves, endings.draw(runs), drawn, sentences)


def _maps(runs: Sequence[Run], say: Callable[[str], object]) -> tuple[list[tuple[str, str, Picture]], list[str]]:
    """The maps, with whose they are and their names, and a sentence for each that is not there."""
    drawn: list[tuple[str, str, Picture]] = []
    left_out: list[str] = []
    for run in runs[:MOST_MAPPED]:
        say(f"{run.directory.name}: maps of what was learned")
        try:
            found = maps.draw(run.directory)
        except PeriluneError as error:
            left_out.append(f"{run.directory.name} has no maps: {error}".replace("\n  ", " "))
            continue
        shown = found.pictures if len(runs) == 1 else found.pictures.keys() & SEVERAL
        whose = f"{run.directory.name}: " if len(runs) > 1 else ""
        drawn += [(whose, name, found.pictures[name]) for name in shown]
        left_out += [f"{run.directory.name}: {sentence}" for sentence in found.left_out]
    if further := runs[MOST_MAPPED:]:
        which = further[0].directory.name if len(further) == 1 else f"the other {len(further)}"
        left_out.append(f"Maps are of the first {MOST_MAPPED} runs, not of {which}: perilune maps RUN draws any run's.")
    return drawn, left_out


def _can_be_made(environment: str) -> bool:
    """Whether a command can make the environment by its id; with a colon it would import what a run's file names."""
    try:
        if ":" not in environment:
            envs.make(environment).close()
            return True
    except PeriluneError:  # the scores say it in its words
        pass
    return False
