"""Examine the programs in ``programs/``, which were written without knowledge of the doctor's checks.

Each examination runs in its own process and writes one JSON file. If you stop the command, it resumes on the next call.

    python -m benchmarks.external.unseen --out DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.doctor.runner import share

PROGRAMS = Path(__file__).parent / "programs"
NEAR = 5  # lines


def truth(program: str) -> dict[str, Any]:
    """Return the style of a program and its faults: component, line, description."""
    content: dict[str, Any] = json.loads((PROGRAMS / program / "truth.json").read_text(encoding="utf-8"))
    return content


def errors(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the faults of a program, without weaknesses that are a matter of taste."""
    return [fault for fault in facts["faults"] if fault.get("severity", "error") == "error"]


def verdict(facts: dict[str, Any], report: dict[str, Any]) -> dict[str, bool]:
    """Return whether a fault is detected, its component comes first, and a finding points to its line.

    Args:
        facts: Content of the program's truth.json.
        report: The doctor's report as JSON.
    """
    faults = errors(facts)
    found = [one for one in report["findings"] if one["severity"] != "note"]
    roots = [one for one in found if one["caused_by"] is None]
    components = {name for fault in faults for name in (fault["component"], *fault.get("also", []))}
    lines = [int(one["where"].rpartition(":")[2]) for one in found if one["where"]]
    return {
        "detected": bool(found),
        "right first": bool(roots) and roots[0]["component"] in components,
        "line": any(abs(line - fault["line"]) <= NEAR for line in lines for fault in faults),
    }


def summary(reports: dict[str, dict[str, Any]], truths: dict[str, dict[str, Any]]) -> str:
    """Return the figures of each set of programs, and each wrong answer, as text.

    Args:
        reports: The doctor's reports by the name of the program, "SET/PROGRAM".
        truths: The facts about each program, by its name.
    """
    lines = []
    for group in sorted({name.partition("/")[0] for name in reports}):
        mine = {name: one for name, one in reports.items() if name.startswith(f"{group}/")}
        faulty = {name: verdict(truths[name], one) for name, one in mine.items() if errors(truths[name])}
        alarms = {name: verdict(truths[name], one)["detected"] for name, one in mine.items() if name not in faulty}
        lines.append(group)
        lines += [
            f"  {what:12} {share(one[what] for one in faulty.values())}" for what in ("detected", "right first", "line")
        ]
        lines.append(f"  false alarms {share(alarms.values())}")
        wrong = [name for name, one in faulty.items() if not one["right first"]]
        for name in sorted(wrong + [name for name, alarm in alarms.items() if alarm]):
            ids = ", ".join(one["id"] for one in mine[name]["findings"] if one["severity"] != "note") or "nothing"
            expected = "; ".join(f"{one['component']}: {one['what']}" for one in errors(truths[name])) or "nothing"
            lines.append(f"  {name}: found {ids}; expected {expected}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Examine the programs that have no result in ``--out`` yet, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, one JSON file per program")
    parser.add_argument("--only", default="", help="examine only the programs whose name contains this text")
    options = parser.parse_args(arguments)
    names = sorted(str(file.parent.relative_to(PROGRAMS)) for file in PROGRAMS.glob("*/*/agent.py"))
    files = {name: (options.out / f"{name}.json").resolve() for name in names}
    for name, file in files.items():
        if options.only in name and not file.exists():
            print(time.strftime("%H:%M:%S"), name, flush=True)
            file.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "perilune", "doctor", f"{PROGRAMS / name / 'agent.py'}:make", "--json"]
            with tempfile.TemporaryDirectory() as working:  # some programs write files
                command += ["--budget", "600"]
                done = subprocess.run(command, cwd=working, capture_output=True, text=True, check=False)  # noqa: S603
            if done.stdout:
                file.write_text(done.stdout, encoding="utf-8")
            else:
                print(done.stderr)
    reports = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    print(summary(reports, {name: truth(name) for name in reports}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
