"""Print a report of the doctor in the terminal."""

from __future__ import annotations

import linecache
from typing import IO

from perilune.doctor.report import Finding, Report

COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
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
            table.add_row(Text(name, style=f"not dim {COLORS[name]}" if name in COLORS else ""), Text(words))
        console.print(Padding(table, (0, 0, 0, 3)))

    console.print(Text(report.verdict, style="bold green" if report.healthy else "bold red"))
    for number, finding in enumerate(report.roots, start=1):
        console.print()
        console.print(Text(f"{number}. {finding.title}", style="bold"))
        print_rows({finding.severity: finding.id} | rows(finding, report), ("dim", ""))
    if report.not_run:
        console.print()
        console.print(Text("Not checked", style="bold"))
        reasons: dict[str, str] = {}
        for one in report.not_run:
            reasons[one.check] = f"{reasons[one.check]}; {one.why}" if one.check in reasons else one.why
        print_rows(reasons, ("", "dim"))


def rows(finding: Finding, report: Report) -> dict[str, str]:
    """Return the parts of a finding by their labels, without empty ones."""
    following = "; ".join(f"{other.title} ({other.id})" for other in report.following(finding))
    parts = {
        "means": finding.meaning,
        "proof": finding.evidence,
        "where": f"{finding.where}   {line_at(finding.where)}" if finding.where else "",
        "fix": finding.fix,
        "example": finding.example,
        "check": finding.how_to_check,
        "causes": following,
        "more": finding.link,
    }
    return {name: words for name, words in parts.items() if words}


def line_at(where: str) -> str:
    """Return the source line at ``file:line``."""
    file, _, line = where.rpartition(":")
    return linecache.getline(file, int(line)).strip()
