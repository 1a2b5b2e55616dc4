"""Examine mutants of Stable-Baselines3's DQN and list which ones the doctor detects.

Each examination runs in its own process and writes one JSON file. If you stop the command, it resumes on the next call.

    python -m benchmarks.external.mutants --out DIR
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.external.sound import ROOT, examine

if TYPE_CHECKING:
    from benchmarks.external.agents.stable_baselines3_mutants import Mutant

AGENTS = "benchmarks.external.agents.stable_baselines3_mutants"

GROUPS = {
    "fault": "faults",
    "unknown": "settings whose effect was not measured",
    "hidden": "faults that an examination cannot reveal",
    "equivalent": "equivalent mutants, which are not faults",
    "control": "sound controls",
}


def group(mutant: Mutant) -> str:
    """Return which of ``GROUPS`` a mutant belongs to."""
    if not mutant.right:
        return "control"
    if mutant.killed is False:
        return "equivalent"
    if not mutant.visible:
        return "hidden"
    return "fault" if mutant.killed else "unknown"


def found(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the findings of an examination that report a fault."""
    return [one for one in result["findings"] if one["severity"] != "note"]


def verdict(mutant: Mutant, result: dict[str, Any]) -> str:
    """Compare the findings of an examination with the components that count as right."""
    components = [one["id"].partition(".")[0] for one in found(result)]
    if components and components[0] in mutant.right:
        return "right first"
    if set(components) & set(mutant.right):
        return "right, not first"
    return "wrong" if components else "nothing found"


def line_is_right(mutant: Mutant, result: dict[str, Any]) -> bool | None:
    """Return whether the first finding points to within five lines of the fault, or None if no line is at fault."""
    if group(mutant) != "fault" or not mutant.code:
        return None
    file, _, number = str((found(result) or [{"where": ""}])[0]["where"]).rpartition(":")
    for code in mutant.code:
        lines, first = inspect.getsourcelines(code)
        inside = number.isdigit() and first - 5 <= int(number) < first + len(lines) + 5
        if inside and Path(file).name == Path(inspect.getfile(code)).name:
            return True
    return False


def figures(mutants: dict[str, Mutant], results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the figures of each group and family of mutants, as rows of a Markdown table."""
    rows = Counter[tuple[str, str, str]]()
    for name, result in results.items():
        kind = GROUPS[group(mutants[name])], mutants[name].operator.split()[0]
        at_line = line_is_right(mutants[name], result)
        rows.update((*kind, what) for what in ("examined", verdict(mutants[name], result)))
        rows.update((*kind, what) for what in ("judged", "at line" if at_line else "elsewhere") if at_line is not None)
    lines = [
        "| mutants | of | examined | right component | right component first | line within 5 | nothing found |",
        "| --- " * 7 + "|",
    ]
    for kind in sorted({row[:2] for row in rows}, key=lambda kind: ([*GROUPS.values()].index(kind[0]), kind[1])):
        count = {row[2]: number for row, number in rows.items() if row[:2] == kind}
        first = count.get("right first", 0)
        right = first + count.get("right, not first", 0)
        line = f"{count.get('at line', 0)} of {count['judged']}" if "judged" in count else ""
        shown = [*kind, count["examined"], right, first, line, count.get("nothing found", 0)]
        lines.append(f"| {' | '.join(map(str, shown))} |")
    return lines


def summary(mutants: dict[str, Mutant], results: dict[str, dict[str, Any]]) -> str:
    """Return the figures and one row for each mutant that has a result, as Markdown."""
    lines = [
        *figures(mutants, results),
        "",
        "| mutant | operator | group | expected | found | outcome | verdict | line | reason |",
        "| --- " * 9 + "|",
    ]
    for name, mutant in mutants.items():
        if name in results:
            result = results[name]
            row = [name, mutant.operator, group(mutant), " or ".join(mutant.right) or "nothing"]
            row += [", ".join(one["id"] for one in found(result)) or "-", result["outcome"], verdict(mutant, result)]
            row += [{None: "", True: "yes", False: "no"}[line_is_right(mutant, result)], mutant.why]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Examine the mutants that have no result in ``--out`` yet, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, one JSON file per mutant")
    parser.add_argument("--only", default="", help="examine only the mutants whose name contains this text")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    agents = importlib.import_module(AGENTS)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one is not None:
        part = options.out / f"{options.one}.part"
        part.write_text(json.dumps(examine(options.one, partial(agents.adapter, options.one)), indent=1) + "\n")
        part.replace(options.out / f"{options.one}.json")
        return 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    for name in agents.MUTANTS:
        if options.only in name and not (options.out / f"{name}.json").exists():
            print(time.strftime("%H:%M:%S"), name, flush=True)
            command = [sys.executable, "-m", "benchmarks.external.mutants", "--out", str(options.out.resolve())]
            with tempfile.TemporaryDirectory() as working:
                command += ["--one", name]
                subprocess.run(command, cwd=working, env=environment, check=False)  # noqa: S603 -- this file
    print(
        summary(
            agents.MUTANTS, {path.stem: json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
