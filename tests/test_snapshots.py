"""Snapshots: few, evenly spaced, and the same after a run is stopped and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fixtures_runs import AGENT, TRAINING, TinyRun
from perilune import DQN
from perilune.runs import inspection, snapshots
from perilune.runs.snapshots import MOST, is_kept, paths
from perilune.runs.weights import load_weights


@given(st.integers(0, 5_000))
def test_few_evenly_spaced_snapshots_are_kept(newest: int) -> None:
    kept = [number for number in range(newest + 1) if is_kept(number, newest)]
    assert kept[0] == 0
    assert min(newest + 1, MOST // 2) <= len(kept) <= MOST
    assert len(set(np.diff(kept))) <= 1


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_kept_snapshots_are_always_taken(number: int, later: int) -> None:
    # A snapshot that is not taken at its evaluation cannot be kept later.
    if is_kept(number, number + later):
        assert is_kept(number, number)


def test_run_has_snapshots_of_initial_weights_and_every_evaluation(tiny_run: TinyRun) -> None:
    run = tiny_run.history.run
    found = paths(run.directory)
    assert [int(path.stem) for path in found] == list(range(len(run.evaluations) + 1))
    agents = [load_weights(path) for path in found]
    assert [saved.env_steps for _, saved in agents] == [0, *(one.env_steps for one in run.evaluations)]
    np.testing.assert_array_equal(agents[0][0].online.parameters, tiny_run.initial_weights)
    np.testing.assert_array_equal(agents[-1][0].online.parameters, tiny_run.dqn.agent.online.parameters)
    assert set(found) <= {finding.path for finding in inspection.verify(run.directory)}


def test_cut_removes_later_snapshots_and_training_recreates_them(tmp_path: Path) -> None:
    settings = TRAINING | {"eval_every": 15, "checkpoint_seconds": None, "pictures": False}
    DQN("CartPole-v1", seed=1, **AGENT).train(run_dir=tmp_path / "run", **settings)
    before = {path.name: path.read_bytes() for path in paths(tmp_path / "run")}
    snapshots.cut(tmp_path / "run", 1)
    assert [path.stem for path in paths(tmp_path / "run")] == ["00000", "00001"]
    agent = DQN("CartPole-v1", seed=1, **AGENT)
    agent.train(run_dir=tmp_path / "again", **settings)
    assert {path.name: path.read_bytes() for path in paths(tmp_path / "again")} == before
