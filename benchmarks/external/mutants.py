"""Examine mutants of Stable-Baselines3's DQN and list which ones the doctor detects.

Each examination runs in a process of its own and writes one JSON file; a second call resumes.

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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.external.sound import ROOT, examine

if TYPE_CHECKING:
    from benchmarks.external.agents.stable_baselines3_mutants import Mutant

AGENTS = "benchmarks.external.agents.stable_baselines3_mutants"

GROUPS = {
    "fault": "Faults",
    "hidden": "Faults that an examination cannot reveal",
    "equivalent": "Equivalent mutants, which are not faults",
    "control": "Controls, which are sound",
}


def group(mutant: Mutant) -> str:
    """Return which of ``GROUPS`` a mutant belongs to."""
    if not mutant.right:
        return "control"
    if mutant.killed is False:
        return "equivalent"
    return "fault" if mutant.visible else "hidden"


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
    if not mutant.code:
        return None
    file, _, number = str((found(result) or [{"where": ""}])[0]["where"]).rpartition(":")
    for code in mutant.code:
        lines, first = inspect.getsourcelines(code)
        inside = number.isdigit() and first - 5 <= int(number) < first + len(lines) + 5
        if inside and Path(file).name == Path(inspect.getfile(code)).name:
            return True
    return False


def summary(mutants: dict[str, Mutant], results: dict[str, dict[str, Any]]) -> str:
    """Return the figures and one row for each mutant that has a result, as Markdown."""
    lines = []
    for key, title in GROUPS.items():
        names = [name for name, mutant in mutants.items() if name in results and group(mutant) == key]
        verdicts = {name: verdict(mutants[name], results[name]) for name in names}
        at_line = [line_is_right(mutants[name], results[name]) for name in names]
        counts = [f"{list(verdicts.values()).count(one)} {one}" for one in dict.fromkeys(verdicts.values())]
        lines += [f"## {title}", "", f"{len(names)} examined: {', '.join(counts)}", ""]
        if key == "fault":
            judged = [one for one in at_line if one is not None]
            lines += [f"Line within 5: {sum(judged)} of {len(judged)}", ""]
        lines += ["| mutant | operator | expected | found | outcome | verdict | line | reason |", "| --- " * 8 + "|"]
        for name, right_line in zip(names, at_line, strict=True):
            mutant, result = mutants[name], results[name]
            ids = ", ".join(one["id"] for one in found(result)) or "-"
            row = [
                name,
                mutant.operator,
                " or ".join(mutant.right) or "nothing",
                ids,
                result["outcome"],
                verdicts[name],
            ]
            row += [{None: "", True: "yes", False: "no"}[right_line], mutant.why]
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


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
