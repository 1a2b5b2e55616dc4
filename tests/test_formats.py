"""Files of every version so far are read as they were meant. docs/checkpoints.md says what is in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from perilune import DQN
from perilune.errors import RunDirectoryError
from perilune.runs import checkpoint, inspection, runlog, weights

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.name for path in FIXTURES.iterdir())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_of_every_version_is_read(version: str) -> None:
    run = runlog.read(FIXTURES / version)
    assert (run.config["environment"], run.config["seed"]) == ("CartPole-v1", 7)
    assert [episode.episode for episode in run.episodes] == list(range(1, len(run.episodes) + 1))
    assert run.episodes[-1].env_steps == 120
    assert [evaluation.env_steps for evaluation in run.evaluations][-1] == 120
    for name in ("best", "final"):
        dqn = DQN.load(FIXTURES / version / f"{name}.safetensors")
        assert dqn.agent.env_steps == 120 if name == "final" else dqn.agent.env_steps <= 120
    # To a millionth, for another processor's matrix products round otherwise.
    np.testing.assert_allclose(dqn.q_values(np.ones((1, 4), np.float32)), [[0.2917373, 0.63298655]], rtol=1e-5)
    assert all(
        finding.fault is None or "host.json" in str(finding.path) for finding in inspection.verify(run.directory)
    )
    assert inspection.about(run.directory)["environment"] == "CartPole-v1"


def test_the_formats_that_are_written_have_a_fixture_each() -> None:
    formats = set()
    for version in VERSIONS:
        with safe_open(FIXTURES / version / "final.safetensors", framework="numpy") as file:
            formats.add(json.loads(file.metadata()["perilune"])["format"])
    assert formats == set(weights.FORMATS)
    newest = checkpoint.read(checkpoint.paths(FIXTURES / VERSIONS[-1])[-1])
    assert newest.format == checkpoint.FORMAT


def test_a_checkpoint_of_the_first_version_goes_on(tmp_path: Path) -> None:
    run = Path(shutil.copytree(FIXTURES / "format-2", tmp_path / "run"))
    saved = checkpoint.latest(run).setup
    dqn = DQN("CartPole-v1", config=saved.agent, seed=saved.seed)
    dqn.train(resume=True, run_dir=run, steps=160, change=["steps"], quiet=True, pictures=False)
    assert dqn.agent.env_steps == 160
    assert dqn.agent.updates == 140


def test_a_run_from_before_there_were_checkpoints_says_that_it_cannot_go_on(tmp_path: Path) -> None:
    run = Path(shutil.copytree(FIXTURES / "format-1", tmp_path / "run"))
    with pytest.raises(RunDirectoryError, match="has no checkpoint"):
        DQN.load(run).train(resume=True, run_dir=run)
    assert "cannot be gone on with" in inspection.about(run)["state"]
