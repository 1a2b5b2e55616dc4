"""A report as HTML."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from perilune.runs.runlog import Run
from perilune.viz.html import document, embedded, section, shown, wide
from perilune.viz.plots import Picture
from perilune.viz.report import tables as report_tables
from perilune.viz.report.advice import Advice
from perilune.viz.report.facts import Facts
from perilune.viz.report.recordings import Choice
from perilune.viz.report.scoring import Scores
from perilune.viz.report.style import STYLE
from perilune.viz.report.tables import number

DPI = 120  # of pictures that are no lines


@dataclass(frozen=True)
class Content:
    """All that a report shows, gathered: runs, their scores, and the pictures.

    ``maps``: whose it is, in words before its caption where there are several runs; its name, and the picture.
    """

    runs: Sequence[Run]
    scores: Sequence[Scores]
    advised: Sequence[Advice]
    films: Choice
    curves: Picture
    endings: Picture | None
    maps: Sequence[tuple[str, str, Picture]]
    left_out: Sequence[str]


CAPTIONS = {
    "values": "The value of the best action, which one it is, and its lead, over two readings",
    "actions": "The actions taken as training went on, and what the best weights would do in the same states",
    "visited": "Where it was early in the run, and late",
    "units": "Units that are dead or always on, and what each gives in some states",
    "weights": "How weights and gradients of each layer are spread, snapshot by snapshot",
}


def html(content: Content) -> str:
    """The page. Whatever comes from a run is shown as text."""
    runs = content.runs
    title = _title(runs)
    parts = [
        f"<header><h1>{shown(title)}</h1><p class=lead>{_verdict(content)}</p></header>",
        _tiles(content),
        _advised(content.advised),
        _films(content.films, len(runs)),
        section("Curves", _vector(content.curves, "Reward, loss, epsilon and episode length over the episodes")),
        report_tables.scores_table(content.runs, content.scores),
    ]
    if content.endings is not None:
        parts.append(section("What episodes came to", _vector(content.endings, "Share of every outcome, over the run")))
    if content.maps:
        maps = "".join(_raster(picture, f"{whose}{CAPTIONS[name]}") for whose, name, picture in content.maps)
        parts.append(section("What was learned", maps))
    parts += [report_tables.notices_table(runs), report_tables.settings_table(runs), report_tables.machines_table(runs)]
    if content.left_out:
        items = "".join(f"<li>{shown(sentence)}</li>" for sentence in content.left_out)
        parts.append(section("Left out", f"<ul>{items}</ul>"))
    return document(title, "\n".join(part for part in parts if part), STYLE)


# The head


def _title(runs: Sequence[Run]) -> str:
    environments = sorted({run.config["environment"] for run in runs})
    named = " and ".join(environments) if len(environments) <= 2 else f"{len(environments)} environments"
    return f"{named}, seed {runs[0].config['seed']}" if len(runs) == 1 else f"{named}, {len(runs)} runs"


def _verdict(content: Content) -> str:
    """In a sentence, what came out."""
    run, scored = content.runs[0], content.scores[0].best
    if len(content.runs) > 1:
        together = report_tables.over_seeds(content.runs, content.scores)
        names = ", ".join(run.directory.name for run in content.runs)
        return shown(together[0] if together else f"Runs side by side: {names}.")
    if scored is not None:
        mark = run.config["reward_threshold"]
        reached = "" if mark is None else " It is solved." if scored.mean.value >= mark else " It is not solved yet."
        return (
            f"The best weights return {number(scored.mean)} over {scored.episodes} greedy episodes from start states "
            f"that training never saw.{reached}"
        )
    if (returns := Facts(run).returns).size:
        return f"The best evaluation on the way had a mean return of {returns.max():.1f}."
    return "There has been no evaluation yet."


def _tiles(content: Content) -> str:
    """The few numbers to see first, of a single run."""
    if len(content.runs) > 1:
        return ""
    run, scored = content.runs[0], content.scores[0].best
    tiles = []
    if scored is not None:
        tiles.append((f"{scored.mean.value:.1f}", "mean return, best weights"))
        if scored.solved is not None:
            tiles.append((f"{scored.solved.value:.0%}", f"of episodes at or above {run.config['reward_threshold']:g}"))
        shares = None if scored.evaluation is None else scored.evaluation.outcome_shares
        if shares:
            label, share = max(shares.items(), key=lambda item: item[1])
            tiles.append((f"{share:.0%}", shown(label)))
    tiles.append((f"{Facts(run).env_steps:,}", "environment steps"))
    tiles.append((f"{len(run.episodes):,}", "episodes of training"))
    if run.evaluations and run.evaluations[-1].seconds is not None:
        tiles.append((_duration(run.evaluations[-1].seconds), "of training"))
    return "<ul class=tiles>" + "".join(f"<li><b>{value}</b> {words}</li>" for value, words in tiles) + "</ul>"


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _advised(advised: Sequence[Advice]) -> str:
    if not advised:
        return ""
    items = "".join(
        f"<li><p><b>{shown(one.seen)}</b> {shown(one.attempt)}</p>"
        + (f"<pre><code>{shown(one.command)}</code></pre>" if one.command else "")
        + "</li>"
        for one in advised
    )
    silent = any(not one.command for one in advised)
    told = (
        "<p class=soft>Where no command is given, the environment cannot be made here by its id.</p>" if silent else ""
    )
    return section("What to try next", f"<ol class=advice>{items}</ol>{told}")


# Pictures and films


def _vector(picture: Picture, words: str) -> str:
    """A picture of lines, as an image by itself, so that nothing in it can clash with another's."""
    from matplotlib import rc_context  # noqa: PLC0415 -- heavy, and optional

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "perilune"}):  # or the same report would never be the same file
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _picture(embedded(buffer.getvalue(), "image/svg+xml"), words)


def _raster(picture: Picture, words: str) -> str:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", dpi=DPI)
    title = picture.figure.get_suptitle()
    return _picture(embedded(buffer.getvalue(), "image/png"), title, f"<figcaption>{shown(words)}</figcaption>")


def _picture(address: str, words: str, caption: str = "") -> str:
    """A picture in a box of its own, for on a phone it is wider than the page."""
    image = f"<img alt='{shown(words)}' src='{address}'>"
    return f"<figure>{wide(image, words)}{caption}</figure>"


def _films(choice: Choice, runs: int) -> str:
    if not choice.films and not choice.left_out:
        return ""
    figures = []
    for film in choice.films:
        words = shown(film.words)
        still = "" if film.still is None else embedded(film.still, "image/png")
        poster = f" poster='{still}'" if still else ""
        paper = f"<img class=paper alt='{words}' src='{still}'>" if still else ""
        kind = "'film stages'" if film.stages else "film"
        figures.append(
            f"<figure class={kind}><video controls muted playsinline preload=metadata aria-label='{words}'{poster} "
            f"src='{embedded(film.content, 'video/mp4')}'></video>{paper}<figcaption>{words}</figcaption></figure>"
        )
    left = ""
    if choice.left_out:
        more = "One more film is" if choice.left_out == 1 else f"{choice.left_out} more films are"
        where = "run's directory" if runs == 1 else "runs' directories"
        left = f"<p class=soft>{more} in the {where} <code>videos</code>, and not in this file.</p>"
    return section("Films", f"<div class=films>{''.join(figures)}</div>{left}")
