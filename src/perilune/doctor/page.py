"""A doctor's report as one page that can be passed on."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path

import numpy as np

from perilune.doctor.report import Finding, Points, Report, Spread
from perilune.doctor.terminal import line_at, verdict
from perilune.errors import MissingDependencyError
from perilune.viz.html import document
from perilune.viz.plots import COLOURS, INK, matplotlib_figure


def write(report: Report, path: Path, agent: str) -> None:
    """Write ``report`` of ``agent`` to ``path`` as one HTML file that needs nothing else.

    Where matplotlib is not installed, its pictures are replaced by the command that installs it.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(html(report, agent), encoding="utf-8")


def html(report: Report, agent: str) -> str:
    """The page. Whatever comes from the agent is shown as text."""
    roots = [finding for finding in report.findings if finding.caused_by is None]
    parts = [
        f"<h1 class={'good' if report.healthy else 'bad'}>{escape(verdict(report))}</h1>",
        f"<p class=soft>{escape(agent)}</p>",
    ]
    parts += [_finding(number, finding, report) for number, finding in enumerate(roots, start=1)]
    if report.not_run:
        rows = "".join(f"<dt>{escape(check.check)}</dt><dd>{escape(check.why)}</dd>" for check in report.not_run)
        parts.append(f"<section><h2>Not checked</h2><dl>{rows}</dl></section>")
    return document(f"Perilune's doctor: {agent}", "\n".join(parts))


def _finding(number: int, finding: Finding, report: Report) -> str:
    rows = {"proof": escape(finding.evidence)}
    if finding.where:
        rows["where"] = f"{escape(finding.where)}<br><code>{escape(line_at(finding.where))}</code>"
    rows |= {"mend": escape(finding.remedy), "see": escape(finding.see), "more": escape(finding.link)}
    follow = [other for other in report.findings if other.caused_by == finding.id]
    if follow:
        rows["brings"] = escape("; ".join(f"{other.title} ({other.id})" for other in follow))
    listed = "".join(f"<dt>{name}</dt><dd>{words}</dd>" for name, words in rows.items())
    return (
        f"<section><h2>{number}. {escape(finding.title)}</h2>"
        f"<p class={finding.severity}>{finding.severity}, <code>{escape(finding.id)}</code></p>"
        f"<dl>{listed}</dl>{_figure(finding)}</section>"
    )


def _figure(finding: Finding) -> str:
    if finding.picture is None:
        return ""
    try:
        drawn = svg(finding.picture)
    except MissingDependencyError as error:
        return f"<p class=soft>{escape(str(error))}</p>"
    return f"<figure role=img aria-label='{escape(finding.picture.title, quote=True)}'>{drawn}</figure>"


def svg(picture: Points | Spread) -> str:
    """The picture as an SVG element.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = matplotlib_figure(6.2, 3.2)
    axes = figure.subplots()
    match picture:
        case Points():
            axes.axhline(0, color="#cccccc", linewidth=0.8)
            axes.axvline(0, color="#cccccc", linewidth=0.8)
            axes.plot(picture.x, picture.right, "o", color="none", markeredgecolor=INK, label="right")
            axes.plot(picture.x, picture.found, "o", color=COLOURS[1], markersize=4, alpha=0.8, label="found")
            axes.set_ylabel(picture.y_label)
        case Spread():
            edges = np.histogram_bin_edges(np.concatenate(list(picture.groups.values())), 60)
            for (name, values), colour in zip(picture.groups.items(), COLOURS, strict=False):
                axes.hist(values, edges, density=True, histtype="step", linewidth=1.6, color=colour, label=name)
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
