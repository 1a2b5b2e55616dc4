"""Test the benchmark of third-party agents: its registry, its summary, and its resumable runs."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import perilune

ROOT = Path(perilune.__file__).parents[2]
sys.path.append(str(ROOT))

sound: ModuleType = importlib.import_module("benchmarks.external.sound")
sources: ModuleType = importlib.import_module("benchmarks.external.sources")

RESULTS = [
    {"name": "good", "outcome": "healthy", "verdict": "No fault found", "findings": [{"severity": "note"}]},
    {"name": "short", "outcome": "inconclusive", "verdict": "Inconclusive: target | network", "findings": []},
    {
        "name": "wrong",
        "outcome": "faults",
        "verdict": "Found 1 fault",
        "findings": [
            {"severity": "note", "id": "loop.slow", "evidence": "3"},
            {"severity": "warning", "id": "loss.sum", "evidence": "twice\n  as far"},
        ],
    },
]


def test_summary_counts_outcomes_and_lists_false_alarms_first() -> None:
    first, _, _, _, *rows = sound.summary(RESULTS).splitlines()
    assert first == "3 sound agents examined: 1 healthy, 1 inconclusive, 1 faults"
    assert rows == [
        "| wrong | faults | loss.sum: twice as far |",
        r"| short | inconclusive | Inconclusive: target \| network |",
    ]


def test_run_skips_examined_agents_and_missing_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = []
    monkeypatch.setattr(sound, "GROUPS", ("one", "missing", "two"))
    monkeypatch.setattr(sound.subprocess, "run", lambda command, **_: commands.append(command[-2:]))

    def agents(group: str) -> dict[str, None]:
        if group == "missing":
            raise ImportError("No module named 'missing'")
        return dict.fromkeys(["good", "next"] if group == "one" else ["other"])

    monkeypatch.setattr(sound, "agents", agents)
    (tmp_path / "good.json").write_text(json.dumps(RESULTS[0]))
    assert sound.main(["--out", str(tmp_path)]) == 0
    assert commands == [["two", "other"], ["one", "next"]]
    printed = capsys.readouterr().out
    assert "skipped missing: No module named 'missing'. Run: pip install stable-baselines3==" in printed
    assert "1 sound agents examined: 1 healthy" in printed


def test_sources_are_pinned() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit, _ in sources.REPOSITORIES.values())
    used = set()
    for path in (ROOT / "benchmarks" / "external" / "agents").glob("*.py"):
        used |= set(re.findall(r'(?:load|find|definitions)\("([\w.-]+/[\w.-]+)"', path.read_text()))
    assert used == set(sources.REPOSITORIES)
