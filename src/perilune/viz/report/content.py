"""Write a report: one HTML file about runs that needs no server and no network, on screen and in print."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from perilune import envs
from perilune._utils.statistics import Estimate
from perilune.envs.known.presets import preset
from perilune.errors import ConfigError, PeriluneError
from perilune.runs import files
from perilune.runs.logs import Run
from perilune.viz import maps, plots
from perilune.viz.plots import Picture
from perilune.viz.report import recordings, scoring, templates
from perilune.viz.report.advice import Advice, advise
from perilune.viz.report.facts import Facts
from perilune.viz.report.scoring import RunScores, WeightsScore

MAX_MAPPED = 4  # runs whose maps are shown
SHARED_MAPS = {"values"}  # the maps that are shown if there are several runs
SUFFIXES = (".html", ".htm")
DPI = 120  # of maps
CAPTIONS = {
    "values": "The value of the best action, the best action, and its lead over the second best",
    "actions": "The actions taken during training, and the actions of the best weights in the same states",
    "visited": "The states visited early in the run, and late",
    "units": "Units that are dead or always active, and the output of each unit in some states",
    "weights": "The distribution of each layer's weights and gradients, snapshot by snapshot",
}

Table = tuple[list[str], list[list[str]]]
"""The head of a table and its rows, of which the first cell is the name."""


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

    Everything that comes from a run is shown as text.

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
    curves = plots.curves(runs)  # first: it fails at once if matplotlib is missing
    can_be_made = [_can_be_made(run.config["environment"]) for run in runs]
    if env:
        envs.make(env).close()  # fails at once; not earlier, because it may register the runs' own environments
    run_envs = ["" if made else env for made in can_be_made]
    scores = [scoring.score_run(run, episodes, say, name) for run, name in zip(runs, run_envs, strict=True)]
    seeds = {id(one): scoring.seeds(family) for family in scoring.families(scores) for one in family}
    facts = [
        Facts(one.run, one.best.evaluation if one.best else None, seeds[id(one)], made or bool(env), name)
        for one, made, name in zip(scores, can_be_made, run_envs, strict=True)
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
    not_scored = list(dict.fromkeys(one.why for one in scores if one.why is not None))
    for sentence in [*(not_scored if episodes else []), *missing]:
        say(f"left out: {sentence}")
    outcomes, over_seeds = plots.outcomes(runs), _over_seeds(scores)
    page = templates.render(
        "report.html",
        title=_title(runs),
        lead=_lead(scores, over_seeds, facts[0]),
        tiles=_tiles(scores[0], facts[0]) if len(runs) == 1 else [],
        advice=advice,
        videos=videos,
        several=len(runs) > 1,
        curves=_image(curves),
        outcomes=outcomes and _image(outcomes),
        why_not_scored=not_scored,
        scores=_scores(scores),
        over_seeds=over_seeds,
        maps=drawn,
        warnings=[[run.directory.name, f"{one.env_steps:,}", one.words] for run in runs for one in run.notices],
        settings=_settings(runs),
        machines=_machines(runs),
        left_out=[*left_out, *missing],
    )
    files.write(path, page.encode(errors="backslashreplace"))


def _can_be_made(environment: str) -> bool:
    """Return whether a command can make the environment by its id. An id with a colon would import a module."""
    try:
        if ":" not in environment:
            envs.make(environment).close()
            return True
    except PeriluneError:  # the scores show its message
        pass
    return False


def _maps(runs: Sequence[Run], say: Callable[[str], object], missing: list[str]) -> list[tuple[str, str, str]]:
    """Draw the maps, each with its title and its caption. ``missing`` gets a sentence about each that fails."""
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
                caption = CAPTIONS[kind] if len(runs) == 1 else f"{name}: {CAPTIONS[kind]}"
                drawn.append((_image(picture, "png"), picture.figure.get_suptitle(), caption))
        missing += [f"{name}: {sentence}" for sentence in found.left_out]
    if further := runs[MAX_MAPPED:]:
        which = further[0].directory.name if len(further) == 1 else f"the other {len(further)}"
        missing.append(
            f"Only the first {MAX_MAPPED} runs have maps here, not {which}. To draw a run's maps: perilune maps RUN"
        )
    return drawn


def _image(picture: Picture, form: str = "svg+xml") -> str:
    from matplotlib import rc_context  # noqa: PLC0415 -- heavy, and optional

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "perilune"}):  # two reports of the same run are the same file
        metadata = {"Date": None, "Creator": None} if form == "svg+xml" else None
        picture.figure.savefig(buffer, format=form.removesuffix("+xml"), dpi=DPI, metadata=metadata)
    return templates.data_uri(buffer.getvalue(), f"image/{form}")


def _title(runs: Sequence[Run]) -> str:
    environments = sorted({run.config["environment"] for run in runs})
    named = " and ".join(environments) if len(environments) <= 2 else f"{len(environments)} environments"
    return f"{named}, seed {runs[0].config['seed']}" if len(runs) == 1 else f"{named}, {len(runs)} runs"


def _lead(scores: Sequence[RunScores], over_seeds: Sequence[str], facts: Facts) -> str:
    """Return the result in a sentence."""
    if len(scores) > 1:
        return over_seeds[0] if over_seeds else f"Runs: {', '.join(one.run.directory.name for one in scores)}."
    if (best := scores[0].best) is not None:
        solved = "" if facts.threshold is None else "solved" if best.mean.value >= facts.threshold else "not solved yet"
        return (
            f"The best weights have a mean return of {_number(best.mean)} over {best.episodes} greedy episodes, from "
            f"start states that training never uses.{solved and f' The environment is {solved}.'}"
        )
    if (returns := facts.returns).size:
        return f"The best evaluation during training had a mean return of {returns.max():.1f}."
    return "There has been no evaluation yet."


def _tiles(scores: RunScores, facts: Facts) -> list[tuple[str, str]]:
    """Return the most important numbers of a single run, and what each is."""
    run, best = scores.run, scores.best
    tiles = []
    if best is not None:
        tiles.append((f"{best.mean.value:.1f}", "mean return, best weights"))
        if best.solved is not None:
            tiles.append((f"{best.solved.value:.0%}", f"of episodes at or above {facts.threshold:g}"))
        if best.evaluation is not None and (shares := best.evaluation.outcome_shares):
            label, share = max(shares.items(), key=lambda item: item[1])
            tiles.append((f"{share:.0%}", label))
    tiles += [(f"{facts.env_steps:,}", "environment steps"), (f"{len(run.episodes):,}", "training episodes")]
    if run.evaluations and (seconds := run.evaluations[-1].seconds) is not None:
        minutes = seconds / 60
        took = f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
        tiles.append((took, "of training"))
    return tiles


def _number(estimate: Estimate, form: str = ".1f") -> str:
    """Return an estimate in words, with its interval if it has one."""
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def _scores(scores: Sequence[RunScores]) -> list[list[str]]:
    return [
        _score_row(f"{found.run.directory.name}, {one.name}" if len(scores) > 1 else one.name, one)
        for found in scores
        for one in found.weights
    ]


def _score_row(name: str, score: WeightsScore) -> list[str]:
    evaluation = score.evaluation
    shares = (None if evaluation is None else evaluation.outcome_shares) or {}
    return [
        name,
        f"{score.episodes}",
        _number(score.mean),
        "" if evaluation is None else f"{evaluation.min_return:.1f}",
        "" if score.solved is None else _number(score.solved, ".0%"),
        ", ".join(f"{label} {share:.0%}" for label, share in shares.items() if share),
    ]


def _over_seeds(scores: Sequence[RunScores]) -> list[str]:
    """Return sentences on the common results of runs that differ in their seed alone."""
    sentences = []
    for family in scoring.families(scores):
        for name in ("best", "final"):
            found = [one for run in family for one in run.weights if name in one.name]
            if scoring.seeds(family) < 2 or len(found) < 2 or (together := scoring.over_seeds(found)) is None:
                continue
            sentences.append(
                f"{family[0].run.config['environment']}, {name} weights of {len(found)} seeds: "
                f"interquartile mean return {_number(together)}."
            )
    return sentences


def _settings(runs: Sequence[Run]) -> tuple[Table, list[tuple[str, str]]]:
    """Return a table of the settings that differ between runs, or from the preset, and a list of the others."""
    columns = [run.config.get("agent", {}) | run.config.get("train", {}) | {"seed": run.config["seed"]} for run in runs]
    head = ["Setting", *(run.directory.name for run in runs)]
    if len(runs) == 1:
        default = preset(runs[0].config["environment"])
        columns.append(asdict(default.agent) | asdict(default.train) | {"seed": runs[0].config["seed"]})
        head.append("preset")
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
    """Return machines and library versions; runs of the same machine share a column."""
    found: dict[str, list[str]] = {}
    for run in runs:
        try:
            host = files.read_json(run.directory / "host.json")
        except PeriluneError:  # missing or damaged: the report does without it
            continue
        found.setdefault(json.dumps(host, sort_keys=True), []).append(run.directory.name)
    hosts: list[dict[str, Any]] = [json.loads(text) for text in found]
    names = dict.fromkeys(name for host in hosts for name in host)
    rows = [[name, *(_plain(host.get(name, "")) for host in hosts)] for name in names]
    return ["Runs", *(", ".join(names) for names in found.values())], rows
