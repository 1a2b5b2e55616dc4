"""A run whose newest checkpoint is damaged goes on from the one before, to the same end."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from perilune import DQN, recording
from perilune._utils.arrays import Array
from perilune.cli import main
from perilune.errors import ConfigError, FileFormatError, PeriluneWarning
from perilune.runs import checkpoint, inspection, recorder
from test_resume import SMALL, TRAINING, PowerCutError, cut, everything

SETTINGS: dict[str, Any] = TRAINING | {"checkpoint_seconds": 1e-9}


def agent() -> DQN:
    return DQN("CartPole-v1", seed=3, **SMALL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at its end. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("whole") / "run"
    agent().train(run_dir=out, **SETTINGS)
    return out


@pytest.fixture
def broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose power was cut when it had several checkpoints."""
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "SHARE", float("inf"))
        patch.setattr(recording, "training", cut(120))
        with pytest.raises(PowerCutError):
            agent().train(run_dir=tmp_path / "run", **SETTINGS)
    assert len(checkpoint.paths(tmp_path / "run")) >= 2
    return tmp_path / "run"


def newest(run: Path) -> Path:
    return checkpoint.paths(run)[-1]


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def its_own_object(run: Path) -> None:
    """Damage an object that only the newest checkpoint needs."""
    *_, before, last = (checkpoint.read(path) for path in checkpoint.paths(run))
    (own, *_) = [stored for stored in last.objects if stored not in before.objects]
    one_bit(checkpoint.object_path(run, own))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut short": lambda run: newest(run).write_bytes(newest(run).read_bytes()[:1000]),
    "emptied": lambda run: newest(run).write_bytes(b""),
    "one bit": lambda run: one_bit(newest(run)),
    "another thing": lambda run: newest(run).write_text("[1, 2]"),
    "an object": its_own_object,
    "a foreign name": lambda run: shutil.copy(newest(run), newest(run).with_name("999999999999.json")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_one_before_is_taken_and_leads_to_the_same_end(broken_off: Path, whole: Path, damage: str) -> None:
    DAMAGE[damage](broken_off)
    with pytest.warns(PeriluneWarning, match="a checkpoint is passed over"):
        agent().train(resume=True, run_dir=broken_off, quiet=True, pictures=False)
    assert everything(broken_off) == everything(whole)
    assert [path.name for path in checkpoint.paths(broken_off)] != ["999999999999.json"]
    assert all(finding.fault is None for finding in inspection.verify(broken_off))


def spoil(run: Path, damage: Callable[[dict[str, Array]], object]) -> None:
    """Change the newest checkpoint's replay and let every checksum fit, as if it had been saved so."""
    path, *_ = reversed(checkpoint.paths(run))
    content = json.loads(path.read_text())["checkpoint"]
    objects = run / "checkpoints" / "objects"
    arrays = load_file(objects / content["replay"][0]["sha256"])
    damage(arrays)
    held = save(arrays)
    stored = {"sha256": hashlib.sha256(held).hexdigest(), "size": len(held)}
    (objects / stored["sha256"]).write_bytes(held)
    content["replay"][0] = stored
    path.write_text(json.dumps({"sha256": checkpoint._checksum(content), "checkpoint": content}))


@pytest.mark.parametrize(
    ("damage", "said", "seen"),
    [
        (lambda arrays: arrays["reward"].__setitem__(0, np.inf), "reward has values that are not finite", True),
        (lambda arrays: arrays["action"].__setitem__(0, 5), "actions of the environment", False),
        (lambda arrays: arrays.__setitem__("deed", arrays.pop("action")), "it has arrays", False),
    ],
)
def test_one_that_is_whole_and_cannot_be_gone_on_from_is_passed_over_too(
    broken_off: Path, whole: Path, damage: Callable[[dict[str, Array]], object], said: str, seen: bool
) -> None:
    spoil(broken_off, damage)
    assert any(finding.fault and said in finding.fault for finding in inspection.verify(broken_off)) is seen
    with pytest.warns(PeriluneWarning, match=f"a checkpoint is passed over: .*{said}"):
        agent().train(resume=True, run_dir=broken_off, quiet=True, pictures=False)
    assert everything(broken_off) == everything(whole)


@pytest.mark.filterwarnings("always")
def test_on_the_command_line_it_is_told_once(broken_off: Path, capfd: pytest.CaptureFixture[str]) -> None:
    newest(broken_off).write_bytes(b"")
    assert "passed over" in "".join(inspection.about(broken_off)["health"])
    main(["resume", str(broken_off), "--quiet"])
    assert capfd.readouterr().err.count("passed over") == 1


def test_a_run_at_its_end_is_not_given_settings_that_it_was_not_trained_with(whole: Path) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    dqn = DQN("CartPole-v1", seed=3, **SMALL, learning_rate=1e-4)
    with pytest.raises(ConfigError, match=r"learning_rate=0\.0001 is invalid: .* at its end"):
        dqn.train(resume=True, run_dir=whole, change=["learning_rate"], quiet=True)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_a_run_at_its_end_keeps_its_pictures(tmp_path: Path) -> None:
    run = tmp_path / "run"
    agent().train(run_dir=run, **SETTINGS | {"pictures": True})
    curves, film = run / "plots" / "curves.png", run / "videos" / "best.mp4"
    curves.write_bytes(b"my own")
    film.unlink()
    agent().train(resume=True, run_dir=run, quiet=True)
    assert curves.read_bytes() == b"my own"
    assert film.stat().st_size > 1000  # which was missing


def test_a_budget_of_episodes_takes_over_from_steps_that_are_used_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    agent().train(run_dir=run, **SETTINGS)
    had = checkpoint.latest(run).agent.episodes
    main(["resume", str(run), "--episodes", "3", "--quiet"])
    capfd.readouterr()
    there = checkpoint.latest(run)
    assert there.agent.episodes == had + 3
    assert (there.setup.train.steps, there.setup.train.episodes) == (None, had + 3)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("bogus=1", "a setting that exists"),
        ("hidden=64", "a setting that can change"),
        ("num_envs=3", "a setting that can change"),
    ],
)
def test_what_cannot_be_changed_says_what_can(
    whole: Path, change: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["resume", str(whole), "--steps", "100", "--change", change])
    said = capfd.readouterr().err
    assert f"{why}. These can change:" in said
    assert "learning_rate," in said


def test_a_change_that_is_brackets_in_brackets_is_refused(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["resume", str(whole), "--change", f"learning_rate={'[' * 10_000}"])
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert "change='learning_rate=[[[" in said
    assert len(said) < 300


def test_a_directory_in_a_files_place_is_named(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    log.unlink()
    log.mkdir()
    with pytest.raises(FileFormatError, match=r"metrics\.jsonl is no ordinary file"):
        inspection.about(tmp_path / "run")
    assert [finding.path for finding in inspection.verify(tmp_path / "run") if finding.fault] == [log]


def test_info_says_when_the_settings_are_not_those_of_the_checkpoint(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"environment": "Acrobot-v1"}))
    (tmp_path / "run" / "host.json").write_text("nonsense")
    (said, host) = inspection.about(tmp_path / "run")["health"]
    assert "host.json is not JSON" in host
    assert "says something else than the newest checkpoint" in said
    assert inspection.about(whole)["health"] == []
