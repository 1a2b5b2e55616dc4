"""In a notebook: the progress of a training as one display, and a run that shows itself. Nothing here is a script."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from perilune._utils.text import clock, number, whole
from perilune.agent.config import TrainConfig
from perilune.envs.known import lookup
from perilune.errors import MissingDependencyError, PeriluneError
from perilune.runs import files
from perilune.runs.logs import Run
from perilune.training.events import Episode, Evaluated, Event, Metrics
from perilune.viz.plots import curves
from perilune.viz.summary import RECENT, Curve, Summary

REFRESHES = 4  # of the display, per second, at most
POINTS = 160  # of the course of the returns
LARGEST_VIDEO = 4 * 2**20  # bytes; a notebook carries it, half as large again

# Ink is the notebook's own, more or less of it, and one blue that reads on white and on black.
STYLE = """
.perilune { font: 13px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; max-width: 46rem; }
.perilune .row { display: flex; gap: .8rem; align-items: center; }
.perilune .bar { flex: 1; height: 4px; border-radius: 2px; background: rgba(127, 127, 127, .3); }
.perilune .bar i { display: block; height: 100%; border-radius: 2px; background: #2a8fd8; }
.perilune .soft { opacity: .65; }
.perilune svg { display: block; width: 100%; height: 56px; margin: .5rem 0 .1rem; overflow: visible; color: #2a8fd8; }
.perilune .figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .1rem 2rem;
  margin: .5rem 0 0; }
.perilune .figures div { display: flex; justify-content: space-between; }
.perilune img, .perilune video { display: block; max-width: 100%; margin: .8rem 0 0; border-radius: 4px; }
"""


def in_kernel() -> bool:
    """Whether this is a notebook's process: IPython is there, and shows its results somewhere else."""
    module = sys.modules.get("IPython")
    return hasattr(module.get_ipython() if module else None, "kernel")


@contextmanager
def live(title: str, summary: Summary) -> Iterator[Callable[[Event], None]]:
    """A function that takes every event of a training and keeps one display up to date, a few times a second."""
    from IPython import display  # noqa: PLC0415

    show: Any = display.display  # which has no types

    def drawn() -> dict[str, str]:
        return {"text/html": progress_html(title, summary), "text/plain": "  ".join([title, *summary.words])}

    handle = show(drawn(), raw=True, display_id=True)
    shown = time.perf_counter()

    def tell(event: Event) -> None:
        nonlocal shown
        summary.read(event)
        # Here, and by no thread: what another one sends may turn up under another cell.
        if time.perf_counter() - shown >= 1 / REFRESHES:
            handle.update(drawn(), raw=True)
            shown = time.perf_counter()

    try:
        yield tell
    finally:
        summary.over = True
        handle.update(drawn(), raw=True)


def progress_html(title: str, summary: Summary) -> str:
    """How far a training is, and how it does."""
    share = f"{summary.share:.0%}"
    return _box(
        f"<div class=row><b>{escape(title)}</b><div class=bar role=progressbar aria-valuemin=0 aria-valuemax=100"
        f" aria-valuenow={100 * summary.share:.0f}><i style='width:{share}'></i></div>"
        f"<span>{share}</span><span>{escape(' '.join(summary.time.split()))}</span></div>",
        _sparkline(summary.returns) or f"<p class=soft>{escape(summary.state)}</p>",
        _figures([(figure.label, figure.value) for figure in summary.figures]),
        _outcomes(summary.came_to),
    )


def run_html(run: Run, videos: Iterable[Path]) -> str:
    """A run: its figures, what its episodes came to, its curves, and the newest of ``videos``."""
    labels = lookup(run.config["environment"]).outcome_labels
    events: list[Episode | Metrics | Evaluated] = [*run.episodes, *run.metrics, *run.evaluations]
    summary = Summary(TrainConfig(episodes=1), 0, 0, outcomes=labels, earlier=events)
    mean, best, *_ = summary.figures
    last = run.evaluations[-1] if run.evaluations else None
    figures = [
        (mean.label, mean.value),
        (best.label, best.value),
        ("last evaluation", number(last and last.mean_return, 1)),
        ("episodes", whole(len(run.episodes))),
        ("steps", whole(max((event.env_steps for event in events), default=0))),
        ("training", clock(last.seconds) if last else "-"),
    ]
    title = f"{run.config['environment']}, seed {run.config['seed']}"
    return _box(
        f"<div class=row><b>{escape(title)}</b><span class=soft>{escape(str(run.directory))}</span></div>",
        _figures(figures),
        _outcomes(summary.came_to),
        _curves(run),
        _video(videos),
    )


def words_html(words: str) -> str:
    """A sentence in place of a run that cannot be shown."""
    return _box(f"<p>{escape(words)}</p>")


def _box(*parts: str) -> str:
    return f"<style>{STYLE}</style><div class=perilune>{''.join(parts)}</div>"


def _sparkline(curve: Curve) -> str:
    """The course of the returns as a line; nothing where there are none."""
    means = curve.means(POINTS)
    if not means:
        return ""
    low, high = min(means), max(means)
    scale = (high - low) or 1.0
    means = means if len(means) > 1 else means * 2
    points = " ".join(
        f"{600 * place / (len(means) - 1):.1f},{50 - 44 * (mean - low) / scale:.1f}" for place, mean in enumerate(means)
    )
    words = f"returns from {number(low, 1)} to {number(high, 1)}"
    return (
        f"<svg viewBox='0 0 600 56' preserveAspectRatio=none role=img aria-label='{words}'>"
        f"<polygon points='0,56 {points} 600,56' fill=currentColor opacity=.14 />"
        f"<polyline points='{points}' fill=none stroke=currentColor stroke-width=1.6 stroke-linejoin=round "
        f"vector-effect=non-scaling-stroke /></svg><div class=soft>{words}</div>"
    )


def _figures(figures: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f"<div><span class=soft>{escape(label)}</span><span>{value}</span></div>" for label, value in figures
    )
    return f"<div class=figures>{rows}</div>"


def _outcomes(came_to: Sequence[tuple[str, int, int]]) -> str:
    rows = "".join(
        f"<div><span class=soft>{escape(label)}</span><span>{whole(total)}"
        f" <span class=soft>({recent} of the last {RECENT})</span></span></div>"
        for label, total, recent in came_to
    )
    return f"<div class=figures>{rows}</div>" if rows else ""


def _curves(run: Run) -> str:
    try:
        picture = base64.b64encode(curves([run])._repr_png_()).decode()
    except MissingDependencyError as error:
        return f"<p class=soft>{escape(str(error))}</p>"
    return f"<img alt='learning curves' src='data:image/png;base64,{picture}'>"


def _video(videos: Iterable[Path]) -> str:
    """The newest video that a notebook can carry, and in words what was left out for that."""
    left_out = []
    for path in sorted(videos, key=lambda path: (path.lstat().st_mtime, path.name), reverse=True):
        try:
            film = base64.b64encode(files.read(path, LARGEST_VIDEO)).decode()
        except PeriluneError as error:
            left_out.append(f"<p class=soft>left out: {escape(str(error))}</p>")
            continue
        shown = f"<video controls loop muted src='data:video/mp4;base64,{film}'></video>"
        return f"{shown}<div class=soft>{escape(path.name)}</div>{''.join(left_out)}"
    return "".join(left_out[:1])
