"""A doctor's report in the terminal."""

from __future__ import annotations

import linecache
from typing import IO

from perilune.doctor.report import Finding, Report

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
WIDEST = 100  # columns: longer lines are hard to read


def show(report: Report, file: IO[str]) -> None:
    """Print ``report`` to ``file``, in colour where that is a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- not before there is something to show
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=file, highlight=False)
    console.width = min(console.width, WIDEST)
    console.print(Text(verdict(report), style="bold green" if report.healthy else "bold red"))
    roots = [finding for finding in report.findings if finding.caused_by is None]
    for number, finding in enumerate(roots, start=1):
        console.print()
        console.print(Text(f"{number}. {finding.title}", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(finding.severity, style=f"not dim {COLOURS[finding.severity]}"), finding.id)
        for name, words in _parts(finding):
            table.add_row(name, Text(words))
        follow = [other for other in report.findings if other.caused_by == finding.id]
        if follow:
            table.add_row("brings", Text("; ".join(f"{other.title} ({other.id})" for other in follow)))
        console.print(Padding(table, (0, 0, 0, 3)))
    if report.not_run:
        console.print()
        console.print(Text("Not checked", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(style="dim", overflow="fold")
        for check in report.not_run:
            table.add_row(check.check, Text(check.why))
        console.print(Padding(table, (0, 0, 0, 3)))


def verdict(report: Report) -> str:
    """The examination in one sentence."""
    roots = [finding for finding in report.faults if finding.caused_by is None]
    took = f" ({report.seconds:.1f} s)"
    if not roots:
        unseen = f"; {len(report.not_run)} checks could not be made" if report.not_run else ""
        return f"No fault was found{unseen}{took}" if report.complete else f"The time was up before a verdict{took}"
    faults = "One fault was found" if len(roots) == 1 else f"{len(roots)} faults were found"
    following = len(report.faults) - len(roots)
    follow, roots_named = "follows" if following == 1 else "follow", "it" if len(roots) == 1 else "them"
    return faults + (f", and {following} more that {follow} from {roots_named}" if following else "") + took


def _parts(finding: Finding) -> list[tuple[str, str]]:
    parts = [("proof", finding.evidence)]
    if finding.where:
        parts.append(("where", f"{finding.where}   {line_at(finding.where)}"))
    parts += [("mend", finding.remedy), ("see", finding.see), ("more", finding.link)]
    return [(name, words) for name, words in parts if words]


def line_at(where: str) -> str:
    """What stands at ``file:line``."""
    file, _, line = where.rpartition(":")
    return linecache.getline(file, int(line)).strip()
