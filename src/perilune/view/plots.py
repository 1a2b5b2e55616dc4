"""Learning curves: raw values faint, a moving average strong."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perilune.errors import MissingDependencyError
from perilune.nn.layers import Array
from perilune.runlog import Run
from perilune.stats import moving_average
from perilune.train import Episode

# Okabe and Ito's colours, which stay apart for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, PAPER = "#222222", "#666666"

# (title, y label, value of an episode)
PANELS: tuple[tuple[str, str, Callable[[Episode], float | None]], ...] = (
    ("Reward", "sum of rewards in the episode", lambda episode: episode.reward),
    ("Loss", "mean loss of the episode's updates", lambda episode: episode.loss),
    ("Epsilon", "share of random actions", lambda episode: episode.epsilon),
    ("Episode length", "environment steps", lambda episode: float(episode.length)),
)


@dataclass(frozen=True)
class Picture:
    """A figure that shows itself in a notebook. ``figure`` is matplotlib's."""

    figure: Any

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()

    def save(self, directory: Path, name: str) -> list[Path]:
        """Write NAME.png and NAME.svg into ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        paths = [directory / f"{name}.png", directory / f"{name}.svg"]
        self.figure.savefig(paths[0], dpi=150)
        self.figure.savefig(paths[1])
        return paths


def matplotlib_figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that needs no display.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install 'perilune[view]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_image(image: Array, path: Path) -> None:
    """Write a frame, uint8 [height, width, 3], as a picture."""
    height, width = image.shape[:2]
    figure = matplotlib_figure(width / 100, height / 100)
    figure.figimage(image)
    figure.savefig(path, dpi=100)


def window(episodes: int) -> int:
    """Episodes in the moving average: a twentieth of all, but from 5 to 100."""
    return int(np.clip(episodes // 20, 5, 100))


def curves(runs: Sequence[Run]) -> Picture:
    """Reward, loss, epsilon and length by episode, of one run or of several in one picture."""
    figure = matplotlib_figure(11, 6.6)
    axes = figure.subplots(2, 2)
    for axis, (title, label, value) in zip(axes.flat, PANELS, strict=True):
        for number, run in enumerate(runs):
            episodes = [episode for episode in run.episodes if episode.ended != "budget"]
            y = [np.nan if value(episode) is None else value(episode) for episode in episodes]
            _line(axis, [episode.episode for episode in episodes], y, COLOURS[number % len(COLOURS)], run, title)
        _dress(axis, title, label)
    _reward_extras(axes.flat[0], runs)
    if any(run.episodes for run in runs):
        axes.flat[1].set_yscale("log")
    names = {run.config["environment"] for run in runs}
    figure.suptitle(", ".join(sorted(names)), fontsize=13, fontweight="bold", color=INK, x=0.01, ha="left")
    if len(runs) > 1:
        handles, labels = axes.flat[2].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(runs)), frameon=False, fontsize=9)
    return Picture(figure)


def _line(axis: Any, x: Sequence[int], y: Sequence[Any], colour: str, run: Run, title: str) -> None:
    if title == "Epsilon":  # has no noise to smooth
        axis.plot(x, y, color=colour, linewidth=2, label=run.directory.name)
        return
    axis.plot(x, y, color=colour, linewidth=0.7, alpha=0.28)
    axis.plot(x, moving_average(y, window(len(y))), color=colour, linewidth=2.2, label=run.directory.name)


def _reward_extras(axis: Any, runs: Sequence[Run]) -> None:
    """The solved mark as a dashed line; for a single run, its greedy evaluations as dots."""
    marks = {run.config.get("solved_mark") for run in runs} - {None}
    if len(marks) == 1:
        mark = marks.pop()
        axis.axhline(mark, color=PAPER, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            f"solved: {mark:g}", (1, mark), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=8, color=PAPER,
        )  # fmt: skip
    if len(runs) == 1 and runs[0].evaluations:
        evaluations = runs[0].evaluations
        axis.plot(
            [evaluation.episodes for evaluation in evaluations],
            [evaluation.mean_return for evaluation in evaluations],
            "o", color=COLOURS[1], markersize=4, label="greedy evaluation",
        )  # fmt: skip
        lines = axis.get_lines()
        names = [(lines[1], "training, moving average"), (lines[-1], "greedy evaluation, mean")]
        axis.legend(*zip(*names, strict=True), loc="lower right", frameon=False, fontsize=8)


def _dress(axis: Any, title: str, label: str) -> None:
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axis.set_xlabel("episode", fontsize=9, color=PAPER)
    axis.set_ylabel(label, fontsize=9, color=PAPER)
    axis.tick_params(colors=PAPER, labelsize=8)
    axis.grid(visible=True, color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.margins(x=0.01)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#bbbbbb")
