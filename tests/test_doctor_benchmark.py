"""Test the reference agents of benchmarks/doctor: sound variants and injected faults."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import perilune

sys.path.append(str(Path(perilune.__file__).parents[2]))

runner: ModuleType = importlib.import_module("benchmarks.doctor.runner")
mutants: ModuleType = importlib.import_module("benchmarks.doctor.mutants")
INSTALLED = [agent for agent in runner.AGENTS if runner.installed(agent)]
# In some agents, the injected fault is a different fault of the same component.
STYLED = {
    ("beginner", 9): "forward.remembers",  # without batches, the fault keeps state between calls
    ("own", 51): "replay.next_is_current",  # states are stored once, so next_obs is read from a wrong index
}
# Representative faults, none of the slowest, that neither examples/broken nor test_doctor_checks covers.
DEFAULT_FAULTS = {("own", number) for number in (15, 17, 24, 43, 46, 54)}
DEFAULT_FAULTS |= {("beginner", number) for number in (5, 19, 23, 56)}
DEFAULT_COMBINED = {("beginner", (35, 38))}
DEFAULT_SOUND = {"as it stands", "noisy layers", "weight decay", "every fourth call"}


def cases(trials: list[Any], default: set[Any]) -> list[Any]:
    """Mark the trials that are not in the default selection as long."""

    def key(trial: Any) -> Any:
        if trial.variant:
            return trial.variant if (trial.seed == 0) == (trial.agent == "beginner") else None
        return trial.agent, trial.faults[0] if len(trial.faults) == 1 else trial.faults

    marks = {True: (), False: pytest.mark.long}
    return [pytest.param(trial, id=trial.name, marks=marks[key(trial) in default]) for trial in trials]


ALL = list(runner.trials(INSTALLED, ("full",)))
SINGLE = [trial for trial in ALL if len(trial.faults) == 1]
COMBINED = [trial for trial in ALL if len(trial.faults) > 1]
SOUND = [trial for trial in ALL if trial.variant and trial.seed in (0, 1)]  # with full access and with two methods


@pytest.mark.parametrize("trial", cases(SOUND, DEFAULT_SOUND))
def test_sound_variant_has_no_finding(trial: Any) -> None:
    assert runner.examine(trial, budget=600).ids == []


@pytest.mark.parametrize("trial", cases(SINGLE, DEFAULT_FAULTS))
def test_injected_fault_is_the_first_finding(trial: Any) -> None:
    (fault,) = trial.faults
    expected = STYLED.get((trial.agent, fault), runner.FAULTS[fault])
    assert runner.examine(trial, budget=600).ids[:1] == [expected]


@pytest.mark.parametrize("trial", cases(COMBINED, DEFAULT_COMBINED))
def test_every_fault_of_a_combination_is_found(trial: Any) -> None:
    outcome = runner.examine(trial, budget=600)
    assert runner.parts_found(outcome), outcome.ids


@pytest.mark.parametrize("agent", runner.AGENTS)
def test_every_fault_can_be_injected_into_every_agent(agent: str) -> None:
    faults, variants = runner.faults_of(agent), runner.variants_of(agent)
    assert set(runner.FAULTS) - set(faults) <= ({2, 6} if agent == "sb3" else set())
    if agent == "own":
        for file, old, _ in (change for changes in faults.values() for change in changes):
            source = mutants.text("own") if file == "own.py" else (mutants.PACKAGE / file).read_text(encoding="utf-8")
            assert old in source, (file, old)
        assert importlib.import_module("variants").PLAIN in mutants.text("own")
    else:
        text = mutants.text(agent)
        for changes in (*faults.values(), *variants.values()):
            assert mutants.mutated(text, changes) != text or not changes


def test_benchmark_has_its_documented_size() -> None:
    assert set(runner.FAULTS) == set(range(1, 57))
    assert len(runner.COMBINATIONS) >= 15
    assert len([trial for trial in runner.trials(list(runner.AGENTS)) if not trial.faults]) >= 200


def test_outcomes_are_read_back_and_summarized(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    runner.do(runner.Work(runner.Trial("beginner", (1,)), tmp_path / "one.json"))
    (outcome,) = runner.outcomes(tmp_path)
    assert outcome.ids == ["environment.old_interface"]
    assert "faults detected, full adapter        1 of 1" in runner.summary([outcome])


def test_mutation_that_does_not_match_the_source_raises() -> None:
    with pytest.raises(mutants.MutationError, match="nowhere"):
        mutants.mutated("text", (("nowhere", ""),))
