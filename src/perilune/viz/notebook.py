"""Show the progress of a training run, or a finished run, in a notebook. The HTML contains no scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from perilune._utils.text import duration, number, whole
from perilune.agent.config import TrainConfig
from perilune.envs.known import lookup
from perilune.errors import MissingDependencyError, PeriluneError
from perilune.runs import files
from perilune.runs.logs import Run
from perilune.training.events import Episode, Evaluated, Event, Metrics
from perilune.viz.plots import curves
from perilune.viz.report.recordings import still_image
from perilune.viz.report.templates import render
from perilune.viz.summary import RECENT, TrainingSummary

REFRESHES = 4  # per second, at most
POINTS = 160  # of the curve of returns, at most
MAX_VIDEO = 4 * 2**20  # bytes; the video becomes part of the notebook file


def in_kernel() -> bool:
    """Return whether this process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    return hasattr(module.get_ipython() if module else None, "kernel")


@contextmanager
def live(title: str, summary: TrainingSummary) -> Iterator[Callable[[Event], None]]:
    """Show the progress of a training run in a display that updates a few times a second.

    Args:
        title: Title of the training run.
        summary: Statistics of the training run.

    Yields:
        A function that takes each event of the training run.
    """
    from IPython import display  # noqa: PLC0415

    show: Any = display.display  # IPython has no type hints

    def drawn() -> dict[str, str]:
        shown = {"text/plain": f"{title}  {summary.line}"}
        with suppress(MissingDependencyError):  # without Jinja2 the plain text is shown
            shown["text/html"] = progress_html(title, summary)
        return shown

    handle = show(drawn(), raw=True, display_id=True)
    shown_at = time.perf_counter()

    def read(event: Event) -> None:
        nonlocal shown_at
        summary.read(event)
        # Draw in this thread, because the output of other threads could appear below a different cell.
        if time.perf_counter() - shown_at >= 1 / REFRESHES:
            handle.update(drawn(), raw=True)
            shown_at = time.perf_counter()

    try:
        yield read
    finally:
        summary.finished = True
        handle.update(drawn(), raw=True)


def progress_html(title: str, summary: TrainingSummary) -> str:
    """Return the progress of a training run as HTML.

    Args:
        title: Title of the training run.
        summary: Statistics of the training run.
    """
    means = summary.returns(POINTS)
    words = f"returns from {number(min(means))} to {number(max(means))}" if means else ""
    return render("progress.html", title=title, summary=summary, recent=RECENT, line=_line(means), returns=words)


def run_html(run: Run, videos: Iterable[Path]) -> str:
    """Return a run as HTML: statistics, outcomes, learning curves, and the newest video.

    Args:
        run: The run.
        videos: Paths of its videos.
    """
    labels = lookup(run.config["environment"]).outcome_labels
    events: list[Episode | Metrics | Evaluated] = [*run.episodes, *run.metrics, *run.evaluations]
    summary = TrainingSummary(TrainConfig(episodes=1), 0, 0, outcomes=labels, earlier=events)
    last = run.evaluations[-1] if run.evaluations else None
    figures = dict(list(summary.figures.items())[:2]) | {
        "last evaluation": number(last and last.mean_return, 1),
        "episodes": whole(len(run.episodes)),
        "steps": whole(max((event.env_steps for event in events), default=0)),
        "training time": duration(last.seconds) if last else "-",
    }
    picture = None
    video, notes = _newest_video(videos)
    poster = None
    with suppress(ValueError):  # it cannot be decoded
        poster = video and still_image(video[1])
    try:
        picture = curves([run])._repr_png_()
    except MissingDependencyError as error:
        notes.append(str(error))
    return render(
        "run.html", run=run, figures=figures, outcomes=summary.outcomes, recent=RECENT, picture=picture, video=video,
        poster=poster, notes=notes,
    )  # fmt: skip


def _line(means: Sequence[float]) -> str:
    """Return the points of an SVG polyline, 600 wide and 44 high."""
    if not means:
        return ""
    low, scale = min(means), (max(means) - min(means)) or 1.0
    means = means if len(means) > 1 else [*means, *means]
    return " ".join(
        f"{600 * place / (len(means) - 1):.1f},{50 - 44 * (mean - low) / scale:.1f}" for place, mean in enumerate(means)
    )


def _newest_video(videos: Iterable[Path]) -> tuple[tuple[str, bytes] | None, list[str]]:
    """Return name and content of the newest video that is not too large, and notes about newer ones."""
    notes: list[str] = []
    for path in sorted(videos, key=lambda path: (path.lstat().st_mtime, path.name), reverse=True):
        try:
            return (path.name, files.read(path, MAX_VIDEO)), notes
        except PeriluneError as error:
            notes.append(f"skipped: {error}")
    return None, notes[:1]
