"""Examine the whole programs in ``programs/whole_*``, which were written without knowledge of the doctor.

Each examination runs in its own process and writes one JSON file. If you stop the command, it resumes on the next call.

    python -m benchmarks.external.whole --out DIR
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.external.unseen import PROGRAMS, summary, truth


def examine(program: Path, arguments: Sequence[str], file: Path) -> None:
    """Examine a program in a scratch directory. Write the report and the CPU seconds of the examination to ``file``.

    Args:
        program: A Python file or a notebook.
        arguments: Its command-line arguments.
        file: Receives the report as JSON.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "perilune", "doctor", str(program.resolve()), "--json", "--", *arguments]
    before = os.times()
    with tempfile.TemporaryDirectory() as working:
        done = subprocess.run(command, cwd=working, capture_output=True, text=True, check=False)  # noqa: S603
    after = os.times()
    if not done.stdout:
        print(done.stderr)
        return
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    file.write_text(json.dumps(json.loads(done.stdout) | {"cpu_seconds": round(spent, 1)}), encoding="utf-8")


def costs(reports: dict[str, dict[str, Any]]) -> str:
    """Return the median and the largest CPU seconds of the examinations."""
    spent = {name: one["cpu_seconds"] for name, one in reports.items()}
    slowest = max(spent, key=spent.__getitem__)
    return f"CPU seconds: median {statistics.median(spent.values()):.1f}, largest {spent[slowest]:.1f} ({slowest})"


def main(arguments: list[str] | None = None) -> int:
    """Examine the programs that have no result in ``--out`` yet, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, one JSON file per program")
    parser.add_argument("--only", default="", help="examine only the programs whose name contains this text")
    options = parser.parse_args(arguments)
    names = sorted(str(file.parent.relative_to(PROGRAMS)) for file in PROGRAMS.glob("whole_*/*/truth.json"))
    files = {name: (options.out / f"{name}.json").resolve() for name in names}
    for name, file in files.items():
        if options.only in name and not file.exists():
            print(time.strftime("%H:%M:%S"), name, flush=True)
            examine(next((PROGRAMS / name).glob("train.*")), [], file)
    reports = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    if reports:
        print(summary(reports, {name: truth(name) for name in reports}))
        print(costs(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())
