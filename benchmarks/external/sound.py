"""Examine sound third-party agents and list the false alarms.

Each examination runs in a process of its own and writes one JSON file; a second call resumes.

    python -m benchmarks.external.sound --out DIR --sources DIR
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.external import sources
from perilune import doctor

GROUPS = ("scripts", "programs", "tianshou", "pfrl", "stable_baselines3")
BUDGET = 600.0  # seconds for one examination


def agents(group: str) -> dict[str, Callable[..., Any]]:
    """Return the factories of a group of agents by name."""
    return dict(importlib.import_module(f"benchmarks.external.agents.{group}").AGENTS)


def turns() -> list[tuple[str, str]]:
    """Return the groups and names of all agents whose library is installed. Groups take turns."""
    available = []
    for group in GROUPS:
        try:
            available.append([(group, name) for name in agents(group)])
        except ImportError as error:
            print(f"skipped {group}: {error}. Run: pip install {' '.join(sources.PACKAGES)}")
    return [one for turn in zip_longest(*available) for one in turn if one is not None]


def examine(name: str, factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the doctor's report on one agent, or the error that ended the examination."""
    try:
        report = doctor.check_agent(factory, budget=BUDGET).as_json()
    except Exception as error:  # a benchmark reports every agent
        report = {"error": f"{type(error).__name__}: {error}"}
    return {"name": name, "cpu_seconds": round(time.process_time(), 1), **report}


def false_alarms(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the findings of an examination that report a fault."""
    return [one for one in result.get("findings", []) if one["severity"] != "note"]


def summary(results: list[dict[str, Any]]) -> str:
    """Return the number of false alarms, and each with its evidence, as Markdown."""
    wrong = [one for one in results if false_alarms(one)]
    failed = [one for one in results if "error" in one]
    lines = [
        f"{len(results)} sound agents examined: {len(wrong)} with a false alarm, {len(failed)} not examined.",
        "",
        "| agent | finding | where | evidence |",
        "| --- | --- | --- | --- |",
    ]
    for one in wrong:
        for alarm in false_alarms(one):
            evidence = " ".join(str(alarm["evidence"]).split()).replace("|", "\\|")
            lines.append(f"| {one['name']} | {alarm['severity']} {alarm['id']} | {alarm['where'] or ''} | {evidence} |")
    lines += [f"| {one['name']} | not examined | | {one['error']} |" for one in failed]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> int:
    """Examine the agents that have no result in ``--out`` yet, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, one JSON file per agent")
    parser.add_argument("--sources", type=Path, help="directory for the repositories of agents that have no package")
    parser.add_argument("--only", help="examine only the agents whose name contains this text")
    parser.add_argument("--one", nargs=2, metavar=("GROUP", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.sources is not None:
        os.environ[sources.VARIABLE] = str(options.sources.resolve())
    os.environ["MPLBACKEND"] = "Agg"  # some programs plot
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one is not None:
        group, name = options.one
        result = examine(name, agents(group)[name])
        (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        return 0
    for group, name in turns():
        if (options.only or "") in name and not (options.out / f"{name}.json").exists():
            print(time.strftime("%H:%M:%S"), name, flush=True)
            command = [sys.executable, "-m", "benchmarks.external.sound", "--out", str(options.out.resolve())]
            with tempfile.TemporaryDirectory() as working:  # some agents write files
                subprocess.run([*command, "--one", group, name], cwd=working, check=False)  # noqa: S603 -- this file
    print(summary([json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
