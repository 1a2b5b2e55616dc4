"""Test the benchmark of third-party agents: its registry, its summary, and its resumable runs."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import perilune

ROOT = Path(perilune.__file__).parents[2]
sys.path.append(str(ROOT))

sound: ModuleType = importlib.import_module("benchmarks.external.sound")
sources: ModuleType = importlib.import_module("benchmarks.external.sources")
mutants: ModuleType = importlib.import_module("benchmarks.external.mutants")
killed: ModuleType = importlib.import_module("benchmarks.external.killed")
unseen: ModuleType = importlib.import_module("benchmarks.external.unseen")
public: ModuleType = importlib.import_module("benchmarks.external.public")
whole: ModuleType = importlib.import_module("benchmarks.external.whole")

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


def mutant(right: tuple[str, ...] = ("loss",), **values: object) -> SimpleNamespace:
    values = {"operator": "ILF", "why": "reason", "code": (), "killed": True, "visible": True, **values}
    return SimpleNamespace(right=right, **values)


def examined(*ids: str, where: str | None = None) -> dict[str, object]:
    findings = [{"severity": "error", "id": one, "where": where} for one in ids]
    return {"outcome": "faults", "findings": [{"severity": "note", "id": "loss.sum", "where": None}, *findings]}


@pytest.mark.parametrize(
    ("ids", "verdict"),
    [
        (["loss.sum", "replay.raises"], "right first"),
        (["replay.raises", "loss.sum"], "right, not first"),
        (["replay.raises"], "wrong"),
        ([], "nothing found"),
    ],
)
def test_verdict_compares_components_and_ignores_notes(ids: list[str], verdict: str) -> None:
    assert mutants.verdict(mutant(), examined(*ids)) == verdict


@pytest.mark.parametrize(
    ("values", "group"),
    [
        ({}, "fault"),
        ({"killed": None}, "unknown"),
        ({"killed": False}, "equivalent"),
        ({"visible": False}, "hidden"),
        ({"right": ()}, "control"),
    ],
)
def test_mutants_are_reported_in_groups(values: dict[str, object], group: str) -> None:
    assert mutants.group(mutant(**values)) == group


def test_line_must_be_near_the_mutated_code() -> None:
    file, first = examined.__code__.co_filename, examined.__code__.co_firstlineno
    at = {offset: examined("loss.sum", where=f"{file}:{first + offset}") for offset in (-6, -5, 7, 8)}
    judged = {offset: mutants.line_is_right(mutant(code=(examined,)), result) for offset, result in at.items()}
    assert judged == {-6: False, -5: True, 7: True, 8: False}
    assert mutants.line_is_right(mutant(code=(examined,)), examined("loss.sum", where=f"other.py:{first}")) is False
    assert mutants.line_is_right(mutant(code=(examined,)), examined()) is False
    assert mutants.line_is_right(mutant(), at[-5]) is None
    assert mutants.line_is_right(mutant(code=(examined,), killed=False), at[-5]) is None


def test_mutants_summary_counts_verdicts_in_each_group() -> None:
    known = {name: mutant() for name in ("a", "b", "c", "not examined")}
    known |= {"d": mutant(killed=False), "e": mutant(operator="muPRL SDF", code=(examined,))}
    results = {"a": examined("loss.sum"), "b": examined("replay.raises", "loss.sum"), "c": examined("replay.raises")}
    text = mutants.summary(known, results | {"d": examined(), "e": examined()})
    assert text.splitlines()[2:5] == [
        "| faults | ILF | 3 | 2 | 1 |  | 0 |",
        "| faults | muPRL | 1 | 0 | 0 | 0 of 1 | 1 |",
        "| equivalent mutants, which are not faults | ILF | 1 | 0 | 0 |  | 1 |",
    ]
    assert "| a | ILF | fault | loss | loss.sum | faults | right first |  | reason |" in text
    assert "not examined" not in text


def test_killed_mutants_have_significantly_fewer_successes() -> None:
    assert killed.p_value(50, 44) == pytest.approx(0.0267, abs=1e-4)  # scipy.stats.fisher_exact([[50, 0], [44, 6]])
    assert killed.p_value(20, 20) == 1
    assert killed.is_killed([50, 50], [0, 50])
    assert not killed.is_killed([50, 50, 50], [0, 50, 49])
    assert not killed.is_killed([0, 0], [50, 50])


FAULT = {"component": "loss", "line": 10, "what": "Sums.", "severity": "error"}
TASTE = {"component": "replay", "line": 3, "what": "Is small.", "severity": "weakness"}


def _report(*findings: tuple[str, str], outcome: str = "faults") -> dict[str, object]:
    details = [
        {"id": name, "component": name.partition(".")[0], "severity": "error", "caused_by": None, "where": where}
        for name, where in findings
    ]
    return {"outcome": outcome, "findings": details, "cpu_seconds": 3.0}


def test_summary_counts_faults_but_not_weaknesses() -> None:
    truths = {
        "a/near": {"faults": [FAULT]},
        "a/far": {"faults": [FAULT, TASTE]},
        "a/sound": {"faults": [TASTE]},
    }
    reports = {
        "a/near": _report(("loss.sum", "train.py:14")),
        "a/far": _report(("replay.raises", "train.py:3")),
        "a/sound": _report(outcome="healthy"),
    }
    lines = unseen.summary(reports, truths).splitlines()
    assert [line.split()[-6:] for line in lines if "detected" in line] == [lines[1].split()[-6:]]
    assert "2 of 2" in lines[1]  # detected
    assert "1 of 2" in lines[2]  # right first
    assert "1 of 2" in lines[3]  # line: 14 is near 10, and the weakness in line 3 does not count
    assert "0 of 1" in lines[4]  # false alarms
    assert lines[5:] == ["  a/far: found replay.raises; expected loss: Sums."]
    assert whole.costs(reports) == "CPU seconds: median 3.0, largest 3.0 (a/near)"


def test_public_table_tells_named_faults_from_missed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("hit", "miss", "alarm", "quiet", "unknown")
    faults = {"hit": [FAULT], "miss": [FAULT], "alarm": [], "quiet": [TASTE], "unknown": [FAULT]}
    programs = [{"folder": name, "source": name, "path": "train.py", "faults": faults[name]} for name in names]
    monkeypatch.setattr(public, "PROGRAMS", programs)
    reports = {
        "hit": _report(("loss.sum", "train.py:10")),
        "miss": _report(outcome="healthy"),
        "alarm": _report(("loss.sum", "train.py:10")),
        "quiet": _report(outcome="healthy"),
        "unknown": _report(outcome="cannot run"),
    }
    results = [row.split("|")[-2].strip() for row in public.table(reports).splitlines()[2:]]
    assert results == ["named", "missed", "false alarm", "no false alarm", "not examined"]


def test_each_fault_of_a_whole_program_has_a_component_and_an_existing_line() -> None:
    known = {path.name for path in (ROOT / "src/perilune/doctor/findings").iterdir()}
    files = sorted(unseen.PROGRAMS.glob("whole_*/*/truth.json"))
    assert len(files) == 94
    for file in files:
        facts = json.loads(file.read_text(encoding="utf-8"))
        assert facts["sound"] == (not facts["faults"]), file
        for fault in facts["faults"]:
            program = file.with_name(fault.get("file") or "train.py")
            lines = program.read_text(encoding="utf-8").count("\n") + 1
            assert fault["component"] in known, file
            assert 1 <= fault["line"] <= lines, file
