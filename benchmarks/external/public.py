"""Examine public DQN programs, unmodified, at pinned commits. Their code is not part of this repository.

``public.json`` names the programs and the faults that were found by reading their code.

    python -m benchmarks.external.public --sources DIR --out DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.external.unseen import errors, verdict
from benchmarks.external.whole import costs, examine

PROGRAMS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("public.json").read_text(encoding="utf-8"))


def fetch(program: dict[str, Any], sources: Path) -> Path:
    """Return the program's file, after a download of its repository at the pinned commit if it is missing."""
    folder = sources / str(program["source"]).replace("/", "_") / str(program["commit"])
    if not folder.is_dir():
        folder.mkdir(parents=True)
        url = f"https://github.com/{program['source']}"
        for command in (
            ["init", "-q"],
            ["fetch", "-q", "--depth=1", url, program["commit"]],
            ["checkout", "-q", "FETCH_HEAD"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True)  # noqa: S603, S607
    return folder / str(program["path"])


def table(reports: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table with what was expected and found in each program."""
    rows = ["| program | expected | found | result |", "| --- | --- | --- | --- |"]
    for program in PROGRAMS:
        if (report := reports.get(program["folder"])) is None:
            continue
        expected = ", ".join(dict.fromkeys(fault["component"] for fault in errors(program))) or "no fault"
        ids = [one["id"] for one in report["findings"] if one["severity"] != "note"]
        found = ", ".join(f"`{name}`" for name in ids) or report["outcome"]
        rows.append(f"| {program['source']} `{program['path']}` | {expected} | {found} | {_result(program, report)} |")
    return "\n".join(rows)


def _result(program: dict[str, Any], report: dict[str, Any]) -> str:
    if report["outcome"] == "cannot run":
        return "not examined"
    found = verdict(program, report)
    if not errors(program):
        return "false alarm" if found["detected"] else "no false alarm"
    return "named" if found["right first"] or found["line"] else "other fault named" if found["detected"] else "missed"


def main(arguments: list[str] | None = None) -> int:
    """Examine the programs that have no result in ``--out`` yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, required=True, help="directory for the repositories")
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, one JSON file per program")
    parser.add_argument("--only", default="", help="examine only the programs whose name contains this text")
    options = parser.parse_args(arguments)
    files = {one["folder"]: (options.out / f"{one['folder']}.json").resolve() for one in PROGRAMS}
    for program in PROGRAMS:
        file = files[program["folder"]]
        if options.only in program["folder"] and not file.exists():
            print(time.strftime("%H:%M:%S"), program["folder"], flush=True)
            examine(fetch(program, options.sources), program["arguments"], file)
    reports = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    if reports:
        print(table(reports))
        print(costs(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main())
