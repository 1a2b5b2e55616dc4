"""Show a report in the terminal, or write it as one HTML file with pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import numpy as np

from perilune.doctor import catalogue
from perilune.doctor.report import Points, Report, Spread
from perilune.errors import MissingDependencyError
from perilune.viz.figures import COLORS as PALETTE
from perilune.viz.figures import INK, matplotlib_figure
from perilune.viz.report.templates import render

SEVERITY_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
MAX_WIDTH = 100  # columns


def show(report: Report, file: IO[str]) -> None:
    """Print ``report`` to ``file``, in color if it is a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=file, highlight=False)
    console.width = min(console.width, MAX_WIDTH)

    def print_rows(rows: dict[str, str], styles: tuple[str, str]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(style=styles[0], no_wrap=True)
        table.add_column(style=styles[1], overflow="fold")
        for name, words in rows.items():
            table.add_row(
                Text(name, style=f"not dim {SEVERITY_COLORS[name]}" if name in SEVERITY_COLORS else ""), Text(words)
            )
        console.print(Padding(table, (0, 0, 0, 3)))

    console.print(
        Text(f"{report.verdict} ({report.seconds:.1f} s)", style="bold green" if report.healthy else "bold red")
    )
    for number, finding in enumerate(report.roots, start=1):
        console.print(Text(f"\n{number}. {finding.title}", style="bold"))
        print_rows({finding.severity: finding.id} | report.parts(finding), ("dim", ""))
    if report.passed:
        console.print(Text("\nKnown to work", style="bold"))
        for one in report.passed:
            console.print(Padding(Text(one.text, style="dim"), (0, 0, 0, 3)))
    if report.not_run:
        console.print(Text("\nNot checked", style="bold"))
        for why, checks in report.reasons.items():
            console.print(Padding(Text(f"{', '.join(checks)}: {why}", style="dim"), (0, 0, 0, 3)))


def explain(name: str, file: IO[str]) -> None:
    """Print the page that explains a finding or a component. Raise ConfigError if there is none."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import
    from rich.markdown import Markdown  # noqa: PLC0415

    console = Console(file=file)
    console.width = min(console.width, MAX_WIDTH)
    console.print(Markdown(catalogue.explanation(name), code_theme="ansi_light"))


def write_page(report: Report, path: Path, agent: str) -> None:
    """Write ``report`` of ``agent`` to ``path``, a self-contained file. Raise OSError if it cannot be written."""
    path.write_text(page(report, agent), encoding="utf-8")


def page(report: Report, agent: str) -> str:
    """Return the page, with all text from the agent escaped. Without matplotlib, it shows the install command."""
    return render("doctor.html", title=f"Perilune doctor: {agent}", agent=agent, report=report, draw=_svg_or_reason)


def _svg_or_reason(picture: Points | Spread) -> tuple[str, str]:
    """Return the picture as SVG and "", or "" and the reason why there is no picture."""
    try:
        return svg(picture), ""
    except MissingDependencyError as error:
        return "", str(error)


def svg(picture: Points | Spread) -> str:
    """Draw a picture as an SVG element."""
    figure = matplotlib_figure(6.2, 3.2)
    axes = figure.subplots()
    match picture:
        case Points():
            axes.axhline(0, color="#cccccc", linewidth=0.8)
            axes.axvline(0, color="#cccccc", linewidth=0.8)
            axes.plot(picture.x, picture.expected, "o", color="none", markeredgecolor=INK, label="expected")
            axes.plot(picture.x, picture.found, "o", color=PALETTE[1], markersize=4, alpha=0.8, label="found")
            axes.set_ylabel(picture.y_label)
        case Spread():
            edges = np.histogram_bin_edges(np.concatenate(list(picture.groups.values())), 60)
            for (name, values), color in zip(picture.groups.items(), PALETTE, strict=False):
                axes.hist(values, edges, density=True, histtype="step", linewidth=1.6, color=color, label=name)
            axes.set_yticks([])
            axes.set_ylabel("density")
    axes.set_title(picture.title, fontsize="medium", loc="left")
    axes.set_xlabel(picture.x_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]
