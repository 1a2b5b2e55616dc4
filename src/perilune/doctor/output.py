"""Show a report in the terminal, or write it to a file: HTML with pictures, or SARIF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from perilune.doctor import catalogue, pictures
from perilune.doctor.report import Points, Report, Spread
from perilune.doctor.sarif import as_sarif
from perilune.errors import MissingDependencyError
from perilune.runs import files
from perilune.viz.report.templates import render

COLORS = {
    **{"error": "red", "warning": "yellow", "note": "cyan"},
    **{"faults": "red", "cannot run": "red", "inconclusive": "yellow", "healthy": "green"},
    **{"before": "red", "after": "green"},
}
INDENT = (0, 0, 0, 3)
MAX_WIDTH = 100  # columns


def show(report: Report, file: IO[str]) -> None:
    """Print ``report`` to ``file``, in color if it is a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=file, highlight=False)
    console.width = min(console.width, MAX_WIDTH)

    def print_rows(rows: Mapping[str, str]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, words in rows.items():
            color = COLORS.get(name, "")
            table.add_row(Text(name, style=f"not dim {color}" if color else ""), Text(words))
        console.print(Padding(table, INDENT))

    headline = f"{report.verdict} ({report.seconds:.1f} s)"
    console.print(Text(headline, style=f"bold {COLORS[report.outcome]}"))
    if report.findings:
        summary = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
        for column in ("severity", "", "finding", "file and line"):
            summary.add_column(column, overflow="fold")
        for number, finding in report.summary:
            severity = Text(finding.severity, style=COLORS[finding.severity])
            title = Text(finding.title if number else f"leads to: {finding.title}", style="" if number else "dim")
            summary.add_row(severity, f"{number}." if number else "", title, Text(finding.where or ""))
        console.print()
        console.print(Padding(summary, INDENT))
    for number, finding in enumerate(report.roots, start=1):
        console.print(Text(f"\n{number}. {finding.title}", style="bold"))
        print_rows({finding.severity: finding.id} | report.parts(finding))
    if report.passed:
        console.print(Text("\nKnown to work", style="bold"))
        for one in report.passed:
            console.print(Padding(Text(one.text, style="dim"), INDENT))
    if report.not_run:
        console.print(Text("\nNot checked", style="bold"))
        for why, checks in report.reasons.items():
            console.print(Padding(Text(f"{', '.join(checks)}: {why}", style="dim"), INDENT))


def explain(name: str, file: IO[str]) -> None:
    """Print the page that explains a finding or a component. Raise ConfigError if there is none."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import
    from rich.markdown import Markdown  # noqa: PLC0415

    console = Console(file=file)
    console.width = min(console.width, MAX_WIDTH)
    console.print(Markdown(catalogue.explanation(name), code_theme="ansi_light"))


def write_files(report: Report, paths: Mapping[str, Path], agent: str) -> None:
    """Write ``report`` of ``agent`` to files, given by their kind, "html" or "sarif"."""
    for kind, path in paths.items():
        text = page(report, agent) if kind == "html" else json.dumps(as_sarif(report, agent), indent=2) + "\n"
        files.write(path, text.encode())


def page(report: Report, agent: str) -> str:
    """Return the HTML page, with all text from the agent escaped.

    Without matplotlib, the page shows the install command instead of pictures.
    """
    return render("doctor.html", title=f"Perilune doctor: {agent}", agent=agent, report=report, draw=_svg_or_reason)


def _svg_or_reason(picture: Points | Spread) -> tuple[str, str]:
    """Return the picture as SVG and "", or "" and the reason why there is no picture."""
    try:
        return pictures.svg(picture), ""
    except MissingDependencyError as error:
        return "", str(error)
