"""Every check on healthy and on sick specimens: the hosts of the mutation benchmark, with and without their faults."""

from __future__ import annotations

from importlib import resources

import pytest

from perilune.bench import doctor, mutants
from perilune.bench.doctor import FAULTS, Trial

HERE = [host for host in doctor.HOSTS if doctor.installed(host)]
SINGLE = [Trial(host, (number,)) for host in HERE for number in doctor._faults(host)]
COMBINED = [trial for trial in doctor.trials(HERE) if len(trial.faults) > 1]
# What a fault comes to where the host's style makes it another one of the same component.
STYLED = {
    ("beginner", 9): "forward.remembers",  # one state at a time: nothing is a batch, but something is kept
    ("own", 51): "replay.next_is_current",  # one ring of states: the next one is read from the wrong place
}
HEALTHY = [trial for trial in doctor.trials(HERE) if trial.variant and trial.seed in (0, 1)]  # both accesses


def name(trial: Trial) -> str:
    return trial.name


@pytest.mark.parametrize("trial", HEALTHY, ids=name)
def test_healthy_agents_are_called_healthy(trial: Trial) -> None:
    assert doctor.examined(trial).ids == []


@pytest.mark.parametrize("trial", SINGLE, ids=name)
def test_every_fault_is_found_and_called_by_its_name_first(trial: Trial) -> None:
    (fault,) = trial.faults
    assert doctor.examined(trial).ids[:1] == [STYLED.get((trial.host, fault), FAULTS[fault])]


@pytest.mark.parametrize("trial", COMBINED, ids=name)
def test_every_fault_of_a_combination_is_found(trial: Trial) -> None:
    outcome = doctor.examined(trial)
    assert doctor.parts_found(outcome), outcome.ids


@pytest.mark.parametrize("host", doctor.HOSTS)
def test_the_catalogue_is_put_into_every_host_and_every_change_fits(host: str) -> None:
    faults = doctor._faults(host)
    assert set(FAULTS) - set(faults) <= ({2, 6} if host == "sb3" else set())
    variants = doctor._variants(host)
    if host == "own":
        package = resources.files("perilune")
        for file, old, _ in (change for changes in faults.values() for change in changes):
            assert old in (package / file).read_text(encoding="utf-8"), (file, old)
    else:
        text = mutants.text(host)
        for changes in (*faults.values(), *variants.values()):
            assert mutants.mutated(text, changes) != text or not changes


def test_the_benchmark_is_as_large_as_it_says() -> None:
    assert set(FAULTS) == set(range(1, 57))
    assert len(doctor.COMBINATIONS) >= 15
    healthy = [trial for trial in doctor.trials(list(doctor.HOSTS)) if not trial.faults]
    assert len(healthy) >= 200


def test_a_change_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(mutants.MutationError, match="nowhere"):
        mutants.mutated("text", (("nowhere", ""),))
