"""Learning curves: raw values faint, a moving average strong."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.statistics import moving_average
from perilune._utils.text import printable
from perilune.errors import MissingDependencyError, RunDirectoryError
from perilune.runs.logs import Run
from perilune.training.events import Episode

# Okabe and Ito's colours, which stay apart for colour-blind readers; the runs after them get the next line style.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES: tuple[Any, ...] = ("-", (0, (4, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^")  # of evaluations, likewise
INK, PAPER = "#222222", "#666666"
RAW: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.3}
AVERAGE: dict[str, Any] = {"linewidth": 2.2}
DOTS: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
DOTTED_UP_TO = 30  # episodes; so few are dots as well
LARGEST = 1e100  # what is drawn, or the axes' own sums would not be finite

# (title, y label, value of an episode)
PANELS: tuple[tuple[str, str, Callable[[Episode], float | None]], ...] = (
    ("Reward", "sum over the episode", lambda episode: episode.reward),
    ("Loss", "mean over the episode's updates", lambda episode: episode.loss),
    ("Epsilon", "share of random actions", lambda episode: episode.epsilon),
    ("Episode length", "environment steps", lambda episode: episode.length),
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
        """Write NAME.png and NAME.svg into ``directory``.

        Raises:
            RunDirectoryError: nothing can be written there.
        """
        paths = [directory / f"{name}.png", directory / f"{name}.svg"]
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path in paths:
                self.figure.savefig(path, dpi=150)
        except OSError as error:
            message = f"pictures cannot be written to {directory}: {error.strerror or error}"
            raise RunDirectoryError(message) from error
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
    """Write a frame, uint8 [height, width, 3], as a picture, pixel for pixel."""
    matplotlib_figure(1, 1)  # for its error
    from matplotlib.image import imsave  # noqa: PLC0415

    try:
        imsave(path, image)
    except OSError as error:
        raise RunDirectoryError(f"the picture {path} cannot be written: {error.strerror or error}") from error


def window(episodes: int) -> int:
    """Episodes in the moving average: about a twentieth of all, in fives from 5 to 100."""
    return int(np.clip(5 * round(episodes / 100), 5, 100))


def curves(runs: Sequence[Run]) -> Picture:
    """Reward, loss, epsilon and length by episode, of one run or of several in one picture.

    An episode that the budget cut off is left out: it would look like one that went wrong. The moving average is over
    equally many episodes in all runs, so that they can be compared.
    """
    figure = matplotlib_figure(11, 6.8)
    axes = figure.subplots(2, 2)
    episodes = [
        sorted((one for one in run.episodes if one.ended != "budget"), key=lambda episode: episode.episode)
        for run in runs
    ]
    smooth = window(max(map(len, episodes), default=0))
    for axis, (title, label, value) in zip(axes.flat, PANELS, strict=True):
        for number, (run, played) in enumerate(zip(runs, episodes, strict=True)):
            x = [episode.episode for episode in played]
            y = drawn([value(episode) for episode in played])
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS) % len(STYLES)]}
            style |= AVERAGE | {"marker": "o" if len(played) == 1 else ""}  # a line needs two
            if title == "Epsilon":  # has no noise to smooth
                axis.plot(x, y, **style)
                continue
            raw = RAW if len(runs) == 1 else RAW | {"alpha": RAW["alpha"] / 2}
            axis.plot(
                x, y, color=style["color"], **raw, marker="o" if len(played) <= DOTTED_UP_TO else "", markersize=3
            )
            first = max(0, min(smooth, len(played) // 2) - 1)  # means of fewer episodes would jump about
            axis.plot(x[first:], moving_average(y, smooth)[first:], **style)
            if title == "Reward" and run.evaluations:
                marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
                _evaluations(axis, run, COLOURS[1] if len(runs) == 1 else style["color"], marker)
        _dress(axis, title, label)
    _explain(figure, axes.flat[0], runs, smooth)
    last = max(axis.get_xlim()[1] for axis in axes.flat)
    for axis in axes.flat:
        axis.set_xlim(right=last)
    return Picture(figure)


def drawn(values: Any) -> Array:
    """Numbers as they are drawn: NaN for None, and none so large that no axis could have it."""
    numbers: Array = np.clip(np.asarray(values, np.float64), -LARGEST, LARGEST)
    return numbers


@dataclass(frozen=True)
class Band:
    """The evaluations of several seeds of one learner, over environment steps."""

    name: str
    seeds: Sequence[tuple[Array, Array]]
    """(environment steps, returns) of every seed."""
    env_steps: Array
    """Where the mean of the seeds is known, [G]."""
    mean: Array
    """Their interquartile mean, [G], and its interval."""
    low: Array
    high: Array


def bands(title: str, learners: Sequence[Band], reward_threshold: float | None) -> Picture:
    """Greedy evaluations over environment steps: every seed faint, their interquartile mean strong in its interval."""
    figure = matplotlib_figure(9, 5.4)
    axis = figure.subplots()
    for number, learner in enumerate(learners):
        colour = COLOURS[number % len(COLOURS)]
        for steps, returns in learner.seeds:
            axis.plot(steps, returns, color=colour, **RAW, marker="o" if len(steps) == 1 else "", markersize=3)
        axis.fill_between(learner.env_steps, learner.low, learner.high, color=colour, alpha=0.2, linewidth=0)
        seeds = f"{len(learner.seeds)} seed{'s' if len(learner.seeds) > 1 else ''}"
        dot = "o" if len(learner.env_steps) == 1 else ""
        axis.plot(
            learner.env_steps, learner.mean, color=colour, **AVERAGE, marker=dot, label=f"{learner.name}, {seeds}"
        )
    if reward_threshold is not None:
        label = f"solved at {reward_threshold:g}"
        axis.axhline(reward_threshold, color=PAPER, linewidth=1, linestyle=(0, (4, 3)), label=label)
    several = any(len(learner.seeds) > 1 for learner in learners)
    words = "Greedy evaluation: interquartile mean of the seeds, 95 % interval; faint, each seed"
    _dress(axis, words if several else "Greedy evaluation", "return", "environment step")
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    figure.suptitle(printable(title), fontsize=13, fontweight="bold", color=INK, x=0.008, ha="left", parse_math=False)
    figure.legend(loc="outside upper right", ncols=len(learners) + 1, frameon=False, fontsize=9, labelcolor=INK)
    return Picture(figure)


def dress(axis: Any, title: str, x_label: str = "", y_label: str = "") -> None:
    """Title, labels and frame of a panel, in one manner for all pictures."""
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axis.set_xlabel(x_label, fontsize=9, color=PAPER)
    axis.set_ylabel(y_label, fontsize=9, color=PAPER)
    axis.tick_params(colors=PAPER, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#bbbbbb")


def grid(axis: Any) -> None:
    """A faint grid behind what is drawn."""
    axis.grid(visible=True, color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)


def _dress(axis: Any, title: str, label: str, x_label: str = "episode") -> None:
    """Title, labels, ticks and scale of a panel that has its lines."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter  # noqa: PLC0415

    dress(axis, title, x_label, label)
    grid(axis)
    axis.margins(x=0.01)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))

    y = np.concatenate([[np.nan], *(line.get_ydata() for line in axis.get_lines())])
    y = y[np.isfinite(y)]
    if not y.size:
        axis.text(0.5, 0.6, "nothing yet", transform=axis.transAxes, ha="center", fontsize=9, color=PAPER)
        axis.set(xticks=[], yticks=[])
    elif title == "Episode length":
        axis.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    elif title == "Epsilon":
        axis.set_ylim(-0.03, 1.03)
    elif title == "Loss" and (positive := y[y > 0]).size and positive.max() >= 10 * positive.min():
        low, high = max(positive.min(), 1e-9 * positive.max()), positive.max()
        decades = np.log10(high / low)
        axis.set_ylim(low / 1.3, high * 1.3)
        axis.set_yscale("log", nonpositive="mask")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades <= 3 else (1,), numticks=10))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _evaluations(axis: Any, run: Run, colour: str, marker: str) -> None:
    """Dots for the greedy evaluations, above all lines."""
    x = [evaluation.episodes for evaluation in run.evaluations]
    y = drawn([evaluation.mean_return for evaluation in run.evaluations])
    axis.plot(x, y, linestyle="", color=colour, marker=marker, **DOTS, zorder=3, label="greedy evaluation")


def _explain(figure: Any, reward: Any, runs: Sequence[Run], smooth: int) -> None:
    """Title and legends, all outside the panels; on the ``reward`` panel the solved mark and greedy evaluations."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    environments = sorted({printable(run.config["environment"]) for run in runs})
    title = " and ".join(environments) if len(environments) <= 2 else f"{len(environments)} environments"
    if len(runs) == 1:
        title += f", seed {runs[0].config['seed']}"
    figure.suptitle(printable(title), fontsize=13, fontweight="bold", color=INK, x=0.008, ha="left", parse_math=False)
    figure.get_layout_engine().set(h_pad=0.09)

    colour = COLOURS[0] if len(runs) == 1 else PAPER
    handles = [
        Line2D([], [], color=colour, linewidth=1.2, alpha=0.45, label="each episode"),
        Line2D([], [], color=colour, **AVERAGE, label=f"mean of the last {smooth}"),
    ]
    if any(run.evaluations for run in runs):
        colour = COLOURS[1] if len(runs) == 1 else PAPER
        handles.append(Line2D([], [], color=colour, linestyle="", marker="o", **DOTS, label="greedy evaluation"))
    marks = {run.config.get("reward_threshold") for run in runs}
    if len(marks) == 1 and None not in marks and reward.get_yticks().size:  # or it would be a line in an empty panel
        (mark,) = marks
        handles.append(
            reward.axhline(drawn(mark), color=PAPER, linewidth=1, linestyle=(0, (4, 3)), label=f"solved at {mark:g}")
        )
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), frameon=False, fontsize=9, labelcolor=INK)

    if len(runs) > 1:
        names = _names(runs)
        columns = int(np.clip(110 // (max(map(len, names)) + 8), 1, min(6, len(runs))))
        below = figure.legend(
            [line for line in reward.get_lines() if line.get_linewidth() == AVERAGE["linewidth"]],
            names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=INK,
        )  # fmt: skip
        for text in below.get_texts():
            text.set_parse_math(False)  # a directory may have $ in its name


def _names(runs: Sequence[Run]) -> list[str]:
    """The runs' directories, by their last part where that tells them apart."""
    whole = [run.directory for run in runs]
    short = [directory.resolve().name for directory in whole]
    return [printable(name) for name in (short if len(set(short)) == len(runs) else map(str, whole))]
