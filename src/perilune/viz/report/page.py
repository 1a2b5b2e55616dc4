"""The page of a report: texts and tables for the template ``report.html``."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perilune._utils.statistics import Estimate
from perilune.agent.config import to_json
from perilune.envs.known.presets import preset
from perilune.errors import PeriluneError
from perilune.runs import files
from perilune.runs.logs import Run
from perilune.viz.plots import Picture
from perilune.viz.report import scoring, templates
from perilune.viz.report.advice import Advice
from perilune.viz.report.facts import Facts
from perilune.viz.report.recordings import Selection
from perilune.viz.report.scoring import RunScores, WeightsScore

DPI = 120  # of pictures that are not vector graphics
CAPTIONS = {
    "values": "The value of the best action, the best action, and its lead over the second best",
    "actions": "The actions taken during training, and the actions of the best weights in the same states",
    "visited": "The states visited early in the run, and late",
    "units": "Units that are dead or always active, and the output of each unit in some states",
    "weights": "The distribution of each layer's weights and gradients, snapshot by snapshot",
}

Table = tuple[list[str], list[list[str]]]
"""The head of a table and its rows, of which the first cell is the name."""


@dataclass(frozen=True)
class Content:
    """Everything that a report shows.

    ``maps`` holds the prefix of a caption (the run's name, if there are several runs), the map's name, and the map.
    """

    runs: Sequence[Run]
    scores: Sequence[RunScores]
    advice: Sequence[Advice]
    videos: Selection
    curves: Picture
    outcomes: Picture | None
    maps: Sequence[tuple[str, str, Picture]]
    left_out: Sequence[str]


def html(content: Content) -> str:
    """Return the page. Everything that comes from a run is shown as text."""
    runs, scores = content.runs, content.scores
    return templates.render(
        "report.html",
        title=_title(runs),
        lead=_lead(content),
        tiles=_tiles(content) if len(runs) == 1 else [],
        advice=content.advice,
        videos=content.videos,
        several=len(runs) > 1,
        curves=_svg(content.curves),
        outcomes=content.outcomes and _svg(content.outcomes),
        why_not_scored=list(dict.fromkeys(found.why for found in scores if found.why is not None)),
        scores=_scores(runs, scores),
        over_seeds=_over_seeds(runs, scores),
        maps=[
            (_png(picture), picture.figure.get_suptitle(), f"{prefix}{CAPTIONS[name]}")
            for prefix, name, picture in content.maps
        ],
        warnings=[[run.directory.name, f"{one.env_steps:,}", one.words] for run in runs for one in run.notices],
        settings=_settings(runs),
        machines=_machines(runs),
        left_out=content.left_out,
    )


def _title(runs: Sequence[Run]) -> str:
    environments = sorted({run.config["environment"] for run in runs})
    named = " and ".join(environments) if len(environments) <= 2 else f"{len(environments)} environments"
    return f"{named}, seed {runs[0].config['seed']}" if len(runs) == 1 else f"{named}, {len(runs)} runs"


def _lead(content: Content) -> str:
    """Return the result in a sentence."""
    run, best = content.runs[0], content.scores[0].best
    if len(content.runs) > 1:
        together = _over_seeds(content.runs, content.scores)
        return together[0] if together else f"Runs: {', '.join(run.directory.name for run in content.runs)}."
    if best is not None:
        threshold = run.config["reward_threshold"]
        solved = threshold is not None and best.mean.value >= threshold
        return (
            f"The best weights have a mean return of {_number(best.mean)} over {best.episodes} greedy episodes, from "
            "start states that training never uses."
            + ("" if threshold is None else f" The environment is {'solved' if solved else 'not solved yet'}.")
        )
    if (returns := Facts(run).returns).size:
        return f"The best evaluation during training had a mean return of {returns.max():.1f}."
    return "There has been no evaluation yet."


def _tiles(content: Content) -> list[tuple[str, str]]:
    """Return the most important numbers of a single run, and what each is."""
    run, best = content.runs[0], content.scores[0].best
    tiles = []
    if best is not None:
        tiles.append((f"{best.mean.value:.1f}", "mean return, best weights"))
        if best.solved is not None:
            tiles.append((f"{best.solved.value:.0%}", f"of episodes at or above {run.config['reward_threshold']:g}"))
        if best.evaluation is not None and (shares := best.evaluation.outcome_shares):
            label, share = max(shares.items(), key=lambda item: item[1])
            tiles.append((f"{share:.0%}", label))
    tiles += [(f"{Facts(run).env_steps:,}", "environment steps"), (f"{len(run.episodes):,}", "training episodes")]
    if run.evaluations and (seconds := run.evaluations[-1].seconds) is not None:
        minutes = seconds / 60
        took = f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
        tiles.append((took, "of training"))
    return tiles


def _svg(picture: Picture) -> str:
    from matplotlib import rc_context  # noqa: PLC0415 -- heavy, and optional

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "perilune"}):  # two reports of the same run are the same file
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return templates.data_uri(buffer.getvalue(), "image/svg+xml")


def _png(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", dpi=DPI)
    return templates.data_uri(buffer.getvalue(), "image/png")


def _number(estimate: Estimate, form: str = ".1f") -> str:
    """Return an estimate in words, with its interval if it has one."""
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def _scores(runs: Sequence[Run], scores: Sequence[RunScores]) -> list[list[str]]:
    return [
        _score_row(f"{run.directory.name}, {one.name}" if len(runs) > 1 else one.name, one)
        for run, found in zip(runs, scores, strict=True)
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


def _over_seeds(runs: Sequence[Run], scores: Sequence[RunScores]) -> list[str]:
    """Return a sentence on the common result of runs that differ in their seed alone."""
    sentences = []
    for family in scoring.families(runs):
        if scoring.seeds(runs, family) < 2:
            continue
        for name in ("best", "final"):
            found = [one for place in family for one in scores[place].weights if name in one.name]
            if len(found) < 2 or (together := scoring.over_seeds(found)) is None:
                continue
            sentences.append(
                f"{runs[family[0]].config['environment']}, {name} weights of {len(found)} seeds: "
                f"interquartile mean return {_number(together)}."
            )
    return sentences


def _settings(runs: Sequence[Run]) -> tuple[Table, list[tuple[str, str]]]:
    """Return a table of the settings that differ between runs, or from the preset, and a list of the others."""
    columns = [run.config.get("agent", {}) | run.config.get("train", {}) | {"seed": run.config["seed"]} for run in runs]
    head = ["Setting", *(run.directory.name for run in runs)]
    if len(runs) == 1:
        default = preset(runs[0].config["environment"])
        columns.append(to_json(default.agent) | to_json(default.train) | {"seed": runs[0].config["seed"]})
        head.append("preset")
    differ, same = [], []
    for name in dict.fromkeys(name for column in columns for name in column):
        values = [_plain(column[name]) if name in column else "" for column in columns]
        if len(set(values)) > 1:
            differ.append([name, *values])
        else:
            same.append((name, values[0]))
    return (head, differ), same


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
