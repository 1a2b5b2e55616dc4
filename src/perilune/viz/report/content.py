"""Write a report about runs: one HTML file, for screen and print, that needs no server and no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from perilune import envs
from perilune.envs.known import presets
from perilune.envs.known.presets import as_measured, for_budget, preset
from perilune.errors import ConfigError, PeriluneError
from perilune.runs import files
from perilune.runs.logs import Run
from perilune.viz import maps, plots, titles
from perilune.viz.plots import Picture
from perilune.viz.report import recordings, scoring, templates
from perilune.viz.report.advice import MAX_ADVICE, Advice, advise
from perilune.viz.report.facts import Facts

MAX_ADVICE_EACH = 2  # pieces of advice per run in a report about several runs
MAX_MAPPED = 4  # runs whose maps are shown
SHARED_MAPS = {"values"}  # kinds of maps in a report about several runs
SUFFIXES = (".html", ".htm")
Table = tuple[list[str], list[list[str]]]
"""The header and the rows of a table. The first cell of a row is its label."""


def check_name(path: Path) -> None:
    """Raise ConfigError if ``path`` does not end in .html or .htm, so that a typo cannot overwrite another file."""
    if path.suffix not in SUFFIXES:
        raise ConfigError("out", str(path), f"a file whose name ends in {' or '.join(SUFFIXES)}")


def write_report(
    runs: Sequence[Run],
    path: Path,
    episodes: int,
    say: Callable[[str], object],
    *,
    env: str = "",
    skipped: Sequence[str] = (),
) -> None:
    """Write a report of ``runs`` to ``path``: scores, advice, videos, curves, maps, settings and machines.

    Content of a run is shown as text; it cannot add markup.

    Args:
        runs: The runs.
        path: The file; its name ends in .html or .htm.
        episodes: Number of greedy episodes for the score of each weights file; 0 to skip scoring.
        say: Called with a sentence about each slow step and each missing part.
        env: Environment id for runs whose environment cannot be made from the id in the run, for example
            "my_module:MyEnv-v0".
        skipped: Sentences about runs that are not in ``runs``.

    Raises:
        ConfigError: ``path`` has another suffix.
        UnsupportedEnvironmentError: ``env`` cannot be made.
        RunDirectoryError: The file cannot be written.
        MissingDependencyError: matplotlib or Jinja2 is not installed.
    """
    check_name(path)
    curves = [plots.curves(part) for part in plots.pages(runs)]  # first, because it fails if matplotlib is missing
    can_be_made = [_can_be_made(run.config["environment"]) for run in runs]
    if env:
        envs.make(env).close()  # fails if it is unknown; may register the runs' own environments
    run_envs = ["" if made else env for made in can_be_made]
    scores = [scoring.score_run(run, episodes, say, name) for run, name in zip(runs, run_envs, strict=True)]
    seeds = {id(one): scoring.seeds(family) for family in scoring.families(scores) for one in family}
    missing: list[str] = []
    advice: list[tuple[str, list[Advice]]] = []
    for one, made, name in zip(scores, can_be_made, run_envs, strict=True):
        best = one.best.evaluation if one.best else None
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # sums of logged values may overflow
                facts = Facts(one.run, best, seeds[id(one)], made or bool(env), name)
                found = advise(facts, MAX_ADVICE if len(runs) == 1 else MAX_ADVICE_EACH)
        except ConfigError as error:
            missing.append(f"{one.run.directory.name} has no advice on what to try next: {error}")
        else:
            advice += [(one.run.directory.name, found)] if found else []
    drawn = _maps(runs, say, missing)
    videos = recordings.select(runs)
    missing += videos.invalid
    not_scored = list(dict.fromkeys(one.why for one in scores if one.why is not None))
    for sentence in [*(not_scored if episodes else []), *missing]:
        say(f"skipped: {sentence}")
    page = templates.render(
        "report.html",
        title=titles.named(runs) + (f", {len(runs)} runs" if len(runs) > 1 else ""),
        runs=runs,
        scores=scores,
        not_scored=not_scored,
        over_seeds=scoring.over_seeds(scores),
        winner=scoring.winner(scores),
        advice=advice,
        videos=videos,
        curves=curves,
        outcomes=plots.outcomes(runs),
        maps=drawn,
        settings=_settings(runs),
        machines=_machines(runs),
        skipped=[*skipped, *missing],
    )
    files.write(path, page.encode(errors="backslashreplace"))


def _can_be_made(environment: str) -> bool:
    """Return whether the environment can be made from its id alone, without importing a module."""
    try:
        if ":" not in environment:
            envs.make(environment).close()
            return True
    except PeriluneError:  # scoring reports the error
        pass
    return False


def _maps(runs: Sequence[Run], say: Callable[[str], object], missing: list[str]) -> list[tuple[Picture, str]]:
    """Draw the maps, with their captions as text. Append a sentence about each missing map to ``missing``."""
    drawn = []
    for run in runs[:MAX_MAPPED]:
        name = run.directory.name
        say(f"{name}: drawing maps of what the agent learned")
        try:
            found = maps.draw(run.directory)
        except PeriluneError as error:
            missing.append(f"{name} has no maps: {error}".replace("\n  ", " "))
            continue
        for kind, picture in found.pictures.items():
            if len(runs) == 1 or kind in SHARED_MAPS:
                caption = picture.figure.get_supxlabel().replace("\n", " ")
                picture.figure.supxlabel("")
                drawn.append((picture, caption if len(runs) == 1 else f"{name}: {caption}"))
        missing += [f"{name}: {sentence}" for sentence in found.skipped]
    if further := runs[MAX_MAPPED:]:
        which = further[0].directory.name if len(further) == 1 else f"the other {len(further)}"
        missing.append(
            f"This report has maps of the first {MAX_MAPPED} runs only, not of {which}. To draw more: perilune maps RUN"
        )
    return drawn


def _settings(runs: Sequence[Run]) -> tuple[Table, list[tuple[str, str]]]:
    """Return a table of the settings that differ between the runs or from the preset, and a list of the others.

    Settings that follow from the budget do not differ.
    """
    columns = [run.config.get("agent", {}) | run.config.get("train", {}) | {"seed": run.config["seed"]} for run in runs]
    head = ["Setting", *(run.directory.name for run in runs)]
    if len(runs) == 1:
        environment, steps = runs[0].config["environment"], columns[0].get("steps")
        name = presets.nearest(environment, columns[0], steps)
        default = preset(environment, name)
        agent = as_measured(for_budget(default.agent, default, steps), columns[0])
        columns.append(agent | asdict(default.train) | {"seed": runs[0].config["seed"]})
        head.append("preset" if name == presets.RECOMMENDED else f"preset {name}")
    else:
        derived = (
            presets.derived(run.config["environment"], run.config.get("agent", {}), column.get("steps"))
            for run, column in zip(runs, columns, strict=True)
        )
        for name in set.intersection(*derived):
            if len({column[name] for column in columns}) > 1:
                columns = [column | {name: "scaled to the budget"} for column in columns]
    rows = [
        [name, *(_plain(column[name]) if name in column else "" for column in columns)]
        for name in dict.fromkeys(name for column in columns for name in column)
    ]
    differ = [row for row in rows if len(set(row[1:])) > 1]
    return (head, differ), [(row[0], row[1]) for row in rows if row not in differ]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _machines(runs: Sequence[Run]) -> Table:
    """Return a table of machines and library versions. Runs on the same machine share a column."""
    found: dict[str, list[str]] = {}
    for run in runs:
        try:
            host = files.read_json(run.directory / "host.json")
        except PeriluneError:  # missing or damaged
            continue
        found.setdefault(json.dumps(host, sort_keys=True), []).append(run.directory.name)
    hosts: list[dict[str, Any]] = [json.loads(text) for text in found]
    names = dict.fromkeys(name for host in hosts for name in host)
    rows = [[name, *(_plain(host.get(name, "")) for host in hosts)] for name in names]
    return ["Runs", *(", ".join(names) for names in found.values())], rows
