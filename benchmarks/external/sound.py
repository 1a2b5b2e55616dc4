"""Examine sound third-party agents and list the false alarms.

Each examination runs in its own process and writes one JSON file. If you stop the command, it resumes on the next call.

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
from collections import Counter
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.external import sources
from perilune import doctor

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("scripts", "programs", "tianshou", "pfrl", "stable_baselines3")


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
    """Return the doctor's report on one agent, with the CPU time."""
    report = doctor.check_agent(factory).as_json()
    return {"name": name, "cpu_seconds": round(sum(os.times()[:4]), 1), **report}


def summary(results: list[dict[str, Any]]) -> str:
    """Return the outcomes, each false alarm with its evidence, and why the other outcomes are not "healthy"."""
    counts = Counter(one["outcome"] for one in results)
    lines = [
        f"{len(results)} sound agents examined: {', '.join(f'{count} {name}' for name, count in counts.most_common())}",
        "",
        "| agent | outcome | why |",
        "| --- | --- | --- |",
    ]
    for one in sorted(results, key=lambda one: (one["outcome"] != "faults", one["name"])):
        alarms = [f"{alarm['id']}: {alarm['evidence']}" for alarm in one["findings"] if alarm["severity"] != "note"]
        if one["outcome"] != "healthy":
            why = " ".join(" ".join(alarms or [one["verdict"]]).split()).replace("|", "\\|")
            lines.append(f"| {one['name']} | {one['outcome']} | {why} |")
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
        part = options.out / f"{name}.part"
        part.write_text(json.dumps(examine(name, agents(group)[name]), indent=1) + "\n")
        part.replace(options.out / f"{name}.json")
        return 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    for group, name in turns():
        if (options.only or "") in name and not (options.out / f"{name}.json").exists():
            print(time.strftime("%H:%M:%S"), name, flush=True)
            command = [sys.executable, "-m", "benchmarks.external.sound", "--out", str(options.out.resolve())]
            with tempfile.TemporaryDirectory() as working:  # some agents write files
                command += ["--one", group, name]
                subprocess.run(command, cwd=working, env=environment, check=False)  # noqa: S603 -- this file
    print(summary([json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
