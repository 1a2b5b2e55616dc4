"""Write a report of the doctor as one HTML file with pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from perilune.doctor.report import Points, Report, Spread
from perilune.doctor.terminal import rows
from perilune.errors import MissingDependencyError
from perilune.viz.plots import COLOURS, INK, matplotlib_figure
from perilune.viz.report.templates import render


def write(report: Report, path: Path, agent: str) -> None:
    """Write ``report`` of ``agent`` to ``path``. The file needs no other file.

    Raises:
        OSError: It cannot be written.
        MissingDependencyError: Jinja2 is not installed. Without matplotlib, an install command replaces the pictures.
    """
    path.write_text(html(report, agent), encoding="utf-8")


def html(report: Report, agent: str) -> str:
    """Return the page. All text from the agent is escaped."""
    findings = [(finding, rows(finding, report), _svg_or_reason(finding.picture)) for finding in report.roots]
    return render("doctor.html", title=f"Perilune doctor: {agent}", agent=agent, report=report, findings=findings)


def _svg_or_reason(picture: Points | Spread | None) -> dict[str, str]:
    if picture is None:
        return {"svg": "", "title": "", "reason": ""}
    try:
        return {"svg": svg(picture), "title": picture.title, "reason": ""}
    except MissingDependencyError as error:
        return {"svg": "", "title": "", "reason": str(error)}


def svg(picture: Points | Spread) -> str:
    """Draw a picture as an SVG element.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = matplotlib_figure(6.2, 3.2)
    axes = figure.subplots()
    match picture:
        case Points():
            axes.axhline(0, color="#cccccc", linewidth=0.8)
            axes.axvline(0, color="#cccccc", linewidth=0.8)
            axes.plot(picture.x, picture.expected, "o", color="none", markeredgecolor=INK, label="expected")
            axes.plot(picture.x, picture.found, "o", color=COLOURS[1], markersize=4, alpha=0.8, label="found")
            axes.set_ylabel(picture.y_label)
        case Spread():
            edges = np.histogram_bin_edges(np.concatenate(list(picture.groups.values())), 60)
            for (name, values), color in zip(picture.groups.items(), COLOURS, strict=False):
                axes.hist(values, edges, density=True, histtype="step", linewidth=1.6, color=color, label=name)
            axes.set_yticks([])
            axes.set_ylabel("share of the values")
    axes.set_title(picture.title, fontsize="medium", loc="left")
    axes.set_xlabel(picture.x_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]
