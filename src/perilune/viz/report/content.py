"""Write a report: one HTML file about runs that needs no server and no network, on screen and in print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from perilune import envs
from perilune.errors import ConfigError, PeriluneError
from perilune.runs import files
from perilune.runs.logs import Run
from perilune.viz import maps, plots
from perilune.viz.plots import Picture
from perilune.viz.report import recordings, scoring
from perilune.viz.report.advice import Advice, advise
from perilune.viz.report.facts import Facts
from perilune.viz.report.page import Content, html

MAX_MAPPED = 4  # runs whose maps are shown
SHARED_MAPS = {"values"}  # the maps that are shown if there are several runs
SUFFIXES = (".html", ".htm")


def check_name(path: Path) -> None:
    """Raise ConfigError if ``path`` does not end in .html or .htm, so that a typing error overwrites no weights."""
    if path.suffix not in SUFFIXES:
        raise ConfigError("out", str(path), f"a file whose name ends in {' or '.join(SUFFIXES)}")


def write_report(
    runs: Sequence[Run],
    path: Path,
    episodes: int,
    say: Callable[[str], object],
    *,
    env: str = "",
    left_out: Sequence[str] = (),
) -> None:
    """Write a report of ``runs`` to ``path``: scores, advice, videos, curves, maps, settings and machines.

    Args:
        runs: The runs.
        path: The file; its name ends in .html or .htm.
        episodes: Greedy episodes that score each weights file; 0 for no scores.
        say: Called with a sentence about each step that takes long, and about what is left out.
        env: Environment id for runs whose own id is not enough: "my_module:MyEnv-v0".
        left_out: Sentences about runs that are not in ``runs``.

    Raises:
        ConfigError: ``path`` ends in something else.
        UnsupportedEnvironmentError: ``env`` cannot be made.
        RunDirectoryError: The file cannot be written.
        MissingDependencyError: matplotlib or Jinja2 is not installed.
    """
    check_name(path)
    content = _gather(runs, episodes, say, env, left_out)
    files.write(path, html(content).encode(errors="backslashreplace"))


def _gather(
    runs: Sequence[Run], episodes: int, say: Callable[[str], object], env: str, left_out: Sequence[str]
) -> Content:
    curves = plots.curves(runs)  # first: it fails at once if matplotlib is missing
    can_be_made = [_can_be_made(run.config["environment"]) for run in runs]
    if env:
        envs.make(env).close()  # fails at once; not earlier, because it may register the runs' own environments
    run_envs = ["" if made else env for made in can_be_made]
    scores = [scoring.score_run(run, episodes, say, name) for run, name in zip(runs, run_envs, strict=True)]
    seeds = {place: scoring.seeds(runs, family) for family in scoring.families(runs) for place in family}
    best = [None if found.best is None else found.best.evaluation for found in scores]
    facts = [
        Facts(run, best[place], seeds[place], can_be_made[place] or bool(env), run_envs[place])
        for place, run in enumerate(runs)
    ]
    missing: list[str] = []
    advice: list[Advice] = []
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # sums over a log's numbers may overflow
            advice = advise(facts)
    except ConfigError as error:
        missing.append(f"There is no advice on what to try next: {error}")
    drawn = _maps(runs, say, missing)
    videos = recordings.select(runs)
    missing += videos.invalid
    for sentence in [*(found.why for found in scores if found.why and episodes), *missing]:
        say(f"left out: {sentence}")
    return Content(runs, scores, advice, videos, curves, plots.outcomes(runs), drawn, [*left_out, *missing])


def _maps(runs: Sequence[Run], say: Callable[[str], object], missing: list[str]) -> list[tuple[str, str, Picture]]:
    """Draw the maps. Each has the prefix of its caption and its name; a sentence about each that fails is appended."""
    drawn: list[tuple[str, str, Picture]] = []
    for run in runs[:MAX_MAPPED]:
        name = run.directory.name
        say(f"{name}: drawing maps of what the agent learned")
        try:
            found = maps.draw(run.directory)
        except PeriluneError as error:
            missing.append(f"{name} has no maps: {error}".replace("\n  ", " "))
            continue
        shown = found.pictures if len(runs) == 1 else found.pictures.keys() & SHARED_MAPS
        drawn += [(f"{name}: " if len(runs) > 1 else "", kind, found.pictures[kind]) for kind in shown]
        missing += [f"{name}: {sentence}" for sentence in found.left_out]
    if further := runs[MAX_MAPPED:]:
        which = further[0].directory.name if len(further) == 1 else f"the other {len(further)}"
        missing.append(
            f"Only the first {MAX_MAPPED} runs have maps here, not {which}. To draw a run's maps: perilune maps RUN"
        )
    return drawn


def _can_be_made(environment: str) -> bool:
    """Return whether a command can make the environment by its id. An id with a colon would import a module."""
    try:
        if ":" not in environment:
            envs.make(environment).close()
            return True
    except PeriluneError:  # the scores show its message
        pass
    return False
