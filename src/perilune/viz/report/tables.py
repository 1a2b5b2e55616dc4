"""The tables of a report: scores, notices, settings and machines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from perilune._utils.statistics import Estimate
from perilune.agent.config import to_json
from perilune.envs.known.presets import preset
from perilune.errors import PeriluneError
from perilune.runs import files
from perilune.runs.runlog import Run
from perilune.viz.html import section, shown, table
from perilune.viz.report import scoring
from perilune.viz.report.scoring import Scored, Scores

# Scores


def number(estimate: Estimate, form: str = ".1f") -> str:
    """An estimate in words, with its interval where it has one."""
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def scores_table(runs: Sequence[Run], scores: Sequence[Scores]) -> str:
    several = len(runs) > 1
    rows = [
        _score_row(f"{run.directory.name}, {one.name}" if several else one.name, one)
        for run, found in zip(runs, scores, strict=True)
        for one in found.scored
    ]
    # Why there are no scores, or not all, comes first.
    whys = dict.fromkeys(found.why for found in scores if found.why is not None)
    why = "".join(f"<p>{shown(sentence)}</p>" for sentence in whys)
    if not rows:
        return section("Scores", why) if why else ""
    head = ("Weights", "Episodes", "Mean return", "Lowest", "Solved", "What they came to")
    told = (
        "Greedy episodes from fixed start states, the same for all and never seen in training. In brackets 95 % "
        "intervals: of a mean, by drawing its episodes anew (bootstrap), so that it says what other start states would "
        "change, and nothing of other seeds; of a share of episodes, Wilson's; of several seeds, by drawing the seeds "
        "anew."
    )
    seeds = "".join(f"<p>{shown(sentence)}</p>" for sentence in over_seeds(runs, scores))
    return section("Scores", f"{why}{table(head, rows, 'scores')}{seeds}<p class=soft>{told}</p>")


def _score_row(name: str, one: Scored) -> list[str]:
    evaluation = one.evaluation
    shares = None if evaluation is None else evaluation.outcome_shares
    came_to = ", ".join(f"{label} {share:.0%}" for label, share in (shares or {}).items() if share)
    return [
        shown(name),
        f"{one.episodes}",
        f"<b>{number(one.mean)}</b>",
        "" if evaluation is None else f"{evaluation.min_return:.1f}",
        "" if one.solved is None else number(one.solved, ".0%"),
        shown(came_to),
    ]


def over_seeds(runs: Sequence[Run], scores: Sequence[Scores]) -> list[str]:
    """For runs that differ in their seed alone, what they come to together."""
    sentences = []
    for family in scoring.families(runs):
        if scoring.seeds(runs, family) < 2:
            continue
        for name in ("best", "final"):
            known = [one for place in family for one in scores[place].scored if name in one.name]
            if len(known) < 2 or (together := scoring.over_seeds(known)) is None:
                continue
            environment = runs[family[0]].config["environment"]
            sentences.append(
                f"{environment}, {name} weights of {len(known)} seeds: interquartile mean return {number(together)}."
            )
    return sentences


# What it was made with


def notices_table(runs: Sequence[Run]) -> str:
    rows = [
        [shown(run.directory.name), f"{notice.env_steps:,}", shown(notice.words)]
        for run in runs
        for notice in run.notices
    ]
    return section("Notices", table(("Run", "Step", "What was off"), rows, "notices")) if rows else ""


def settings_table(runs: Sequence[Run]) -> str:
    """What differs in a table: between runs, or from the preset; all else in a list."""
    columns = [run.config.get("agent", {}) | run.config.get("train", {}) | {"seed": run.config["seed"]} for run in runs]
    head = ["Setting", *(shown(run.directory.name) for run in runs)]
    if len(runs) == 1:
        known = preset(runs[0].config["environment"])
        columns.append(to_json(known.agent) | to_json(known.train) | {"seed": runs[0].config["seed"]})
        head.append("preset")
    names = list(dict.fromkeys(name for column in columns for name in column))
    told = {name: [_plain(column[name]) if name in column else "" for column in columns] for name in names}
    differ = [[f"<code>{shown(name)}</code>", *values] for name, values in told.items() if len(set(values)) > 1]
    same = "".join(
        f"<div><dt>{shown(name)}</dt><dd>{values[0]}</dd></div>"
        for name, values in told.items()
        if len(set(values)) == 1
    )
    parts = []
    if differ:
        what = "the preset and this run" if len(runs) == 1 else "the runs"
        parts.append(f"<p>What differs between {what}:</p>{table(head, differ, 'settings')}")
    if same:
        what = "All else is as in the preset:" if len(runs) == 1 else "All else is the same in all of them:"
        parts.append(f"<p>{what if differ else 'As in the preset:' if len(runs) == 1 else 'The same in all runs:'}</p>")
        parts.append(f"<dl class=settings>{same}</dl>")
    return section("Settings", "".join(parts))


def _plain(value: object) -> str:
    """A value as escaped text."""
    if isinstance(value, dict):
        return ", ".join(f"{shown(name)} {_plain(inner)}" for name, inner in value.items())
    return shown(value if isinstance(value, str) else json.dumps(value))


def machines_table(runs: Sequence[Run]) -> str:
    """Machines and versions; those that are the same in one column."""
    found: dict[str, list[str]] = {}
    for run in runs:
        try:
            host = files.read_json(run.directory / "host.json")
        except PeriluneError:  # runs of earlier versions have none
            continue
        found.setdefault(json.dumps(host, sort_keys=True), []).append(run.directory.name)
    hosts: list[dict[str, Any]] = [json.loads(text) for text in found]
    names = list(dict.fromkeys(name for host in hosts for name in host))
    if not names:
        return ""
    rows = [[shown(name), *(_plain(host.get(name, "")) for host in hosts)] for name in names]
    return section("Machine", table(["Of", *(shown(", ".join(runs)) for runs in found.values())], rows, "machines"))
