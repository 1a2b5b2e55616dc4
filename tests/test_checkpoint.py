"""Checkpoints: which are kept, which settings can change on resuming, and damage, attacks and other processes."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from safetensors.numpy import save_file

from fixtures_runs import AGENT as TINY
from fixtures_runs import cartpole, resealed, unsealed
from perilune import DQN, DQNConfig, TrainConfig, recording
from perilune.cli import main
from perilune.errors import ConfigError, EnvironmentFaultError, FileFormatError, PeriluneWarning, RunDirectoryError
from perilune.runs import archive, checkpoint, files, inspection, layout, lock, logs, manifest
from perilune.runs.telemetry import read as read_telemetry
from perilune.runs.weights import load_weights
from perilune.training.events import Episode
from test_resume import PowerCutError, cut, everything, lines
from test_torture import perilune, without_root_override

AGENT = TINY | {"epsilon_decay_steps": 100}
STEPS: dict[str, Any] = {"steps": 200, "eval_every": 80, "eval_episodes": 1, "quiet": True, "pictures": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Tests must not change it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    DQN("CartPole-v1", seed=2, **AGENT).train(run_dir=out, **STEPS)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that tests may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def again(run: Path, more: int = 0, **settings: Any) -> DQN:
    """Resume the run with ``more`` steps added to its budget."""
    dqn = DQN("CartPole-v1", seed=2, **AGENT)
    if more:
        settings |= {"steps": STEPS["steps"] + more, "change": ["steps"]}
    dqn.train(run_dir=run, resume=True, quiet=True, pictures=False, **settings)
    return dqn


def is_intact(run: Path) -> bool:
    return all(finding.fault is None for finding in inspection.verify(run))


def content_of(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_newest_and_best_checkpoints_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SHARE", float("inf"))
    run = tmp_path / "run"
    dqn = DQN("CartPole-v1", seed=3, **AGENT)
    dqn.train(run_dir=run, keep_checkpoints=3, checkpoint_seconds=1e-9, **STEPS | {"steps": 500})
    there = [checkpoint.read(path) for path in checkpoint.paths(run)]
    best = max(evaluation.env_steps for evaluation in logs.read_run(run).evaluations if evaluation.best)
    assert 3 <= len(there) <= 4
    assert [one.agent.env_steps for one in there if one.best][-1:] == [best]
    assert there[-1].training.finished
    assert [path.suffix for path in (run / "checkpoints").iterdir()] == [".safetensors"] * len(there)


def test_slow_checkpoints_are_saved_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves, clock, save = [], itertools.count(), checkpoint.save

    def counted(*arguments: Any) -> None:
        saves.append(arguments)
        save(*arguments)

    monkeypatch.setattr(checkpoint, "save", counted)
    monkeypatch.setattr("perilune.recording.time.perf_counter", lambda: float(next(clock)))  # a save takes 1 s
    DQN("CartPole-v1", seed=2, **AGENT).train(
        run_dir=tmp_path / "run", checkpoint_seconds=1e-9, **STEPS | {"steps": 500, "eval_every": None}
    )
    assert len(saves) <= 6  # in about 20 episodes: at the start, at the end, and after every 100 s


# Changed settings


def test_resuming_a_finished_run_writes_only_missing_files(run: Path) -> None:
    def written() -> dict[str, tuple[int, int]]:
        stats = {path.name: path.stat() for path in run.rglob("*.*") if path.name != layout.LOCK}
        return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}

    (run / "host.json").write_text('{"numpy": "1.0"}')  # of another machine: nothing resumes, so there is no warning
    before, times = everything(run), written()
    assert again(run).agent.env_steps == 200
    assert (everything(run), written()) == (before, times)
    (run / "best.safetensors").unlink()
    (run / "final.safetensors").write_bytes(b"damaged")
    again(run)
    assert everything(run) == before
    repaired = {name for name, time in written().items() if time != times[name]}
    assert repaired == {"best.safetensors", "final.safetensors"}


def test_schedules_continue_when_steps_are_added(run: Path) -> None:
    ended, _ = checkpoint.latest(run)
    dqn = again(run, 150)
    assert dqn.agent.env_steps == 350
    assert dqn.agent.updates == ended.agent.updates + 150
    episodes = logs.read_run(run).episodes
    assert [episode.episode for episode in episodes] == list(range(1, len(episodes) + 1))
    after = [episode for episode in episodes if episode.env_steps > 200]
    settings, began = dqn.config, after[0].env_steps - after[0].length
    share = (began - settings.learning_starts) / settings.epsilon_decay_steps
    assert after[0].epsilon == pytest.approx(max(settings.epsilon_end, 1 - (1 - settings.epsilon_end) * share))
    assert manifest.read_config(run)["train"]["steps"] == 350
    assert is_intact(run)


FIXED = {"hidden": (9,), "gamma": 0.5, "optimizer": "sgd", "noisy": True, "ema_decay": 0.9, "buffer_size": 600}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"learning_rate": 0.01}, {}, r"learning_rate=0\.01 is invalid: expected 0\.001, as in the run"),
    ({"learning_rate": 0.01}, {"change": ["learning_rate"]}, r"learning_rate=0\.01 is invalid: .* budget is used up"),
    ({}, {"steps": 500}, "steps=500 is invalid: expected 200, as in the run"),
    ({}, {"steps": 100, "change": ["steps"]}, "steps=100 is invalid: expected more than this run has already used"),
    ({"seed": 3}, {}, "seed=3 is invalid: expected 2, as in the run"),
    ({"env": "Acrobot-v1"}, {}, "environment='Acrobot-v1' is invalid: expected 'CartPole-v1'"),
    ({"env": gym.make("CartPole-v1", sutton_barto_reward=True)}, {}, "sutton_barto_reward"),
    *(({name: value}, {"change": [name]}, f"{name}=.* cannot change") for name, value in FIXED.items()),
]


@pytest.mark.parametrize(("agent", "train", "message"), REFUSED)
def test_resuming_with_other_settings_is_refused(
    run: Path, agent: dict[str, Any], train: dict[str, Any], message: str
) -> None:
    before = content_of(run)
    dqn = DQN(**{"env": "CartPole-v1", "seed": 2} | AGENT | agent)
    with pytest.raises(ConfigError, match=message):
        dqn.train(run_dir=run, resume=True, quiet=True, **train)
    assert content_of(run) == before


def test_only_listed_settings_are_fixed_on_resume() -> None:
    known = {field.name for cls in (DQNConfig, TrainConfig) for field in fields(cls)}
    assert sorted(known - manifest.CHANGEABLE) == [
        "activation", "atoms", "buffer_size", "dueling", "ema_decay", "gamma", "head", "hidden", "initializer",
        "layer_norm", "learning_starts", "n_step", "noisy", "num_envs", "observation_scale", "optimizer",
        "output_scale", "priority_alpha", "quantiles", "reward_scale", "td_lambda", "value_range",
    ]  # fmt: skip


def test_changed_setting_is_saved_immediately(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "training_events", cut(1))  # killed before the next checkpoint
    with pytest.raises(PowerCutError):
        again(run, 100)
    monkeypatch.undo()
    assert again(run).agent.env_steps == 300


def test_edited_config_is_refused_unless_the_change_is_requested(run: Path) -> None:
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["train"]["steps"] = 300  # as if the process had been killed right after the change
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="steps=300 is invalid: expected 200, as in the checkpoint"):
        again(run)
    assert again(run, 100).agent.env_steps == 300
    assert not inspection.describe(run)["health"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"environment": "Acrobot-v1"}))
    (run / "host.json").write_text("nonsense")
    config_fault, host_fault = inspection.describe(run)["health"]
    assert "differs from the newest checkpoint" in config_fault
    assert "host.json is not JSON" in host_fault


def test_run_saved_before_a_setting_existed_resumes_with_its_default(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    del config["agent"]["munchausen"], config["train"]["keep_checkpoints"]
    (run / "config.json").write_text(json.dumps(config))

    def older(content: Any) -> Any:
        del content["setup"]["agent"]["munchausen"], content["setup"]["train"]["keep_checkpoints"]
        return content

    for path in checkpoint.paths(run):
        resealed(path, older)
    assert is_intact(run)
    assert again(run, 20).config.munchausen == 0
    assert manifest.read_config(run)["agent"]["munchausen"] == 0
    assert is_intact(run)


def test_unknown_setting_in_a_run_is_refused_by_name(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["agent"]["momentun"] = 0.9
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileFormatError, match=r"config\.json is invalid: Setup field='momentun'"):
        again(run, 20)


def test_edited_or_missing_log_is_refused(run: Path, tmp_path: Path) -> None:
    path = run / "episodes.jsonl"
    path.write_bytes(path.read_bytes().replace(b"terminated", b"truncated ", 1))
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match=r"episodes\.jsonl does not start with the .* bytes"):
        again(run, 100)
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(RunDirectoryError, match=r"episodes\.jsonl cannot be read.*Restore it") as raised:
        again(run, 100)
    (remedy,) = re.findall(r"DQN\.load\('(.+)'\)\.train", str(raised.value))
    assert is_intact(DQN.load(remedy).train(run_dir=tmp_path / "another", **STEPS).directory)


def test_resuming_on_another_machine_or_version_warns(run: Path) -> None:
    host = json.loads((run / "host.json").read_text())
    (run / "host.json").write_text(json.dumps(host | {"numpy": "1.0"}))
    with pytest.warns(PeriluneWarning, match=rf"numpy 1\.0 -> {np.__version__}"):
        again(run, 20)
    again(run, 40)  # host.json now describes this machine


# Damage and attacks


def test_unfinished_files_of_a_killed_process_are_removed(run: Path) -> None:
    (run / "videos").mkdir()
    for name in ("best.safetensors", "videos/episode-00007.mp4", "checkpoints/000000000300.safetensors"):
        (run / f"{name}.partial").write_bytes(b"half")
    again(run, 20)
    assert not list(run.rglob("*.partial"))


def test_run_without_intact_checkpoint_cannot_resume(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in checkpoint.paths(run):
        path.write_bytes(b"{}")
    with pytest.warns(PeriluneWarning), pytest.raises(FileFormatError, match="every checkpoint is damaged"):
        checkpoint.latest(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunDirectoryError, match="it has no checkpoint"):
        checkpoint.latest(run)
    assert "has no checkpoint" in output_of(capfd, "verify", run)[1]


@pytest.mark.parametrize(
    "name", ["episodes.jsonl", "checkpoints", "config.json", ".lock", "best.safetensors", "videos"]
)
def test_link_in_a_run_is_not_followed(run: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    if (run / name).exists():
        (run / name).rename(outside)
    else:
        outside.mkdir()
    (run / name).symlink_to(outside)
    with pytest.raises(FileFormatError, match=f"{name} is a link"):
        again(run, 100)
    with pytest.raises(FileFormatError, match=f"{name} is a link"):
        DQN("CartPole-v1", seed=2, **AGENT).train(run_dir=run, overwrite=True, **STEPS)
    assert outside.exists()


@pytest.mark.parametrize("name", ["owner.json", "best.safetensors", "checkpoints/000000000220.safetensors"])
def test_nothing_is_written_through_a_link(run: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("years of work")
    (run / f"{name}.partial").symlink_to(victim)
    with suppress(RunDirectoryError):
        again(run, 20)
    assert victim.read_text() == "years of work"


def test_pipe_directory_or_link_in_a_run_is_rejected(run: Path, tmp_path: Path) -> None:
    for name, make in itertools.product(["config.json", "episodes.jsonl"], [os.mkfifo, os.mkdir]):
        (run / name).rename(run / "aside")
        make(run / name)
        with pytest.raises(FileFormatError, match="not a regular file"):
            logs.read_run(run)
        assert run / name in [finding.path for finding in inspection.verify(run) if finding.fault]
        shutil.rmtree(run / name) if make is os.mkdir else (run / name).unlink()
        (run / "aside").rename(run / name)
    newest = checkpoint.paths(run)[-1]
    newest.rename(tmp_path / newest.name)
    newest.symlink_to(tmp_path / newest.name)
    with pytest.raises(FileFormatError, match="is a link"):
        checkpoint.load(newest)
    newest.unlink()
    os.mkfifo(newest)
    assert newest not in checkpoint.paths(run)


@pytest.mark.parametrize(
    "settings", [{"hidden": [100_000, 100_000]}, {"batch_size": 10**12, "buffer_size": 10**12, "hidden": [10**9]}]
)
def test_settings_larger_than_the_file_allocate_no_memory(run: Path, settings: dict[str, Any]) -> None:
    path = checkpoint.paths(run)[-1]

    def larger(content: Any) -> Any:
        content["setup"]["agent"] |= settings
        return content

    resealed(path, larger)
    with pytest.raises(FileFormatError, match="bytes, too few for"):
        checkpoint.load(path)


def expanding(size: int) -> str:
    """Return JSON of about ``size`` bytes that needs 25 times as much memory when decoded."""
    return '{"x": [' + "{}," * (size // 3) + "{}]}"


@pytest.mark.parametrize("size", [2**19, 2**24, pytest.param(2**26 + 1, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["config.json", "host.json", "checkpoint", "episodes.jsonl", "telemetry", "weights"])
def test_file_that_decodes_to_much_memory_is_refused(run: Path, name: str, size: int) -> None:
    path = {"checkpoint": checkpoint.paths(run)[-1], "weights": run / "best.safetensors"}.get(name, run / name)
    if path.suffix == ".safetensors":
        kind = unsealed(path)[0]
        text = expanding(size)
        parts = {"kind": kind, "perilune": text, "arrays": archive.checksum({})}
        save_file({}, path, parts | {"sha256": archive._seal(*parts.values())})
    else:
        path.write_text(expanding(size) + "\n")
    reads: dict[str, Callable[[], object]] = {
        "config.json": lambda: manifest.read_config(run),
        "host.json": lambda: files.read_json(path),
        "episodes.jsonl": lambda: logs.read_log(run, Episode),
        "telemetry": lambda: read_telemetry(path),
        "weights": lambda: load_weights(path),
        "checkpoint": lambda: checkpoint.read(path),
    }
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            reads[name]()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * path.stat().st_size + 2**21


def test_checkpoint_too_large_to_read_is_not_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = checkpoint.paths(run)
    loaded, agent = checkpoint.load(there[-1])
    monkeypatch.setattr(checkpoint, "LARGEST_HEADER", 3_000)
    with pytest.raises(RunDirectoryError, match=r"checkpoint is too large: .* are allowed.*max_episode_steps"):
        checkpoint.save(run, agent, setup=loaded.setup, training=loaded.training, logs=loaded.logs, best=False)
    monkeypatch.undo()
    assert checkpoint.paths(run) == there
    assert checkpoint.latest(run)[0].agent.env_steps == 200


# Other processes

HOLD = """
import sys, time
from pathlib import Path
from perilune.runs import lock
with lock.acquire(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_run_is_locked_by_one_process(run: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunDirectoryError, match=f"is in use by process {other.pid} on '.+'"):
            again(run, 20)
        with pytest.raises(RunDirectoryError, match=f"process {other.pid}"):
            DQN("CartPole-v1", seed=2, **AGENT).train(run_dir=run, overwrite=True, **STEPS)
        assert inspection.describe(run)["state"].startswith(f"running (process {other.pid} on ")
    finally:
        other.kill()
        other.communicate()
    assert (run / layout.OWNER).exists()  # stale: no process holds the lock
    assert inspection.describe(run)["state"] == "finished"
    again(run, 20)
    assert not (run / layout.OWNER).exists()
    with lock.acquire(run), pytest.raises(RunDirectoryError, match=f"process {os.getpid()}"), lock.acquire(run):
        pass


@pytest.mark.parametrize(("mode", "perhaps"), [(0o444, ""), (0, "perhaps ")])
def test_lock_of_another_user_is_reported(run: Path, mode: int, perhaps: str) -> None:
    info = [*without_root_override(), *perilune("info", run)]
    with lock.acquire(run):
        (run / layout.LOCK).chmod(mode)
        printed = subprocess.run(info, capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert re.search(rf"running \({perhaps}process {os.getpid()} on '.+'\)", printed)


class Disturbed(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that calls ``do`` in step ``at``. With ``elsewhere``, its initial observations are shifted."""

    def __init__(self, do: Callable[[], object] | None = None, at: int = 100, elsewhere: bool = False) -> None:
        super().__init__(cartpole())
        self.do, self.at, self.elsewhere, self.steps = do, at, elsewhere, 0

    def reset(self, **how: Any) -> Any:
        obs, info = self.env.reset(**how)
        return obs + self.elsewhere, info

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == self.at and self.do is not None:
            self.do()
        return self.env.step(action)


def fail() -> None:
    raise OSError("the simulator is gone")


def test_run_resumes_after_an_environment_error(tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    DQN(Disturbed(), seed=2, **AGENT).train(run_dir=whole, **STEPS)
    with pytest.raises(EnvironmentFaultError, match=r"CartPole-v1\.step raised OSError: the simulator") as caught:
        DQN(Disturbed(fail, 170), seed=2, **AGENT).train(run_dir=run, **STEPS)
    last = checkpoint.paths(run)[-1]
    assert caught.value.__notes__ == [f"Saved checkpoint {last}. Resume with: perilune resume {run}"]
    other = Path(shutil.copytree(run, tmp_path / "other"))
    DQN(Disturbed(), seed=2, **AGENT).train(run_dir=run, resume=True, quiet=True, pictures=False)
    assert everything(run) == everything(whole)
    with pytest.warns(PeriluneWarning, match="same seed"):
        DQN(Disturbed(elsewhere=True), seed=2, **AGENT).train(run_dir=other, resume=True, quiet=True, pictures=False)
    episodes = logs.read_run(other).episodes
    assert [episode.episode for episode in episodes] == list(range(1, len(episodes) + 1))


def test_training_stops_if_its_run_directory_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    dqn = DQN(Disturbed(lambda: shutil.rmtree(run)), seed=2, **AGENT)
    with pytest.raises(RunDirectoryError, match="is no longer a run"):
        dqn.train(run_dir=run, **STEPS)
    assert not run.exists()
    assert 100 <= dqn.agent.env_steps < 200


@pytest.mark.parametrize(("name", "replaced"), [("episodes.jsonl", False), ("notices.jsonl", True)])
def test_removed_or_replaced_log_is_restored(finished: Path, tmp_path: Path, name: str, replaced: bool) -> None:
    run = tmp_path / "run"

    def remove() -> None:
        (run / name).unlink()
        if replaced:
            (run / name).write_text("mine\n")

    dqn = DQN(Disturbed(remove), seed=2, **AGENT)
    with pytest.warns(PeriluneWarning, match=f"{name} was removed or replaced") as warned:
        dqn.train(run_dir=run, **STEPS)
    assert len([one for one in warned if "was removed" in str(one.message)]) == 1
    assert lines(run) == lines(finished)
    dqn.train(run_dir=run, resume=True, steps=240, change=["steps"], quiet=True, pictures=False)
    assert is_intact(run)


# The command line


def output_of(capfd: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    try:
        main([str(argument) for argument in arguments])
        ended: object = 0
    except SystemExit as stopped:
        ended = stopped.code
    out, err = capfd.readouterr()
    assert ended == status, err
    return out, err


def test_resume_command_changes_settings(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = output_of(capfd, "resume", run, "--steps", 60, "--change", "learning_rate=1e-4", "--quiet", "--json")
    assert json.loads(out)["env_steps"] == 260
    assert checkpoint.latest(run)[0].setup.agent.learning_rate == 1e-4
    assert "is not a run: it has no config.json" in output_of(capfd, "resume", run.parent, status=1)[1]


def test_info_describes_runs_and_weights(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = output_of(capfd, "info", run)
    for words in ("run of CartPole-v1, seed 2", "finished", "finished, no problems", "200", "learning_rate", "numpy"):
        assert words in out
    found = json.loads(output_of(capfd, "info", run, "--json")[0])
    assert found["counters"]["env_steps"] == 200
    assert found["train"]["steps"] == 200
    found = json.loads(output_of(capfd, "info", run / "best.safetensors", "--json")[0])
    assert (found["kind"], found["environment"], found["seed"]) == ("weights", "CartPole-v1", 2)


def test_verify_names_damaged_files(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, err = output_of(capfd, "verify", run)
    assert out.count("OK ") == len(out.splitlines()) - 2
    assert err == ""
    for path in (*run.glob("*.safetensors"), *checkpoint.paths(run), *list((run / "snapshots").iterdir())[:1]):
        intact = path.read_bytes()
        path.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
        out, err = output_of(capfd, "verify", run, status=1)
        assert f"DAMAGED  {path.relative_to(run)}" in out
        assert f"{path} is damaged" in err
        path.write_bytes(intact)


def test_missing_best_weights_are_restored(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    best = run / "best.safetensors"
    intact = best.read_bytes()
    best.unlink()
    assert "DAMAGED  best.safetensors" in output_of(capfd, "verify", run, status=1)[0]
    assert inspection.describe(run)["health"] == [f"{best} does not exist. Restore it with: perilune resume {run}"]
    output_of(capfd, "resume", run, "--quiet")
    assert best.read_bytes() == intact
    assert "DAMAGED" not in output_of(capfd, "verify", run)[0]


@pytest.mark.parametrize("after", [1, 3])
def test_verify_ignores_checkpoints_removed_during_the_check(run: Path, after: int) -> None:
    older, newest = checkpoint.paths(run)[-2:]
    findings = inspection.verify(run)
    first = list(itertools.islice(findings, after))
    older.unlink()
    found = [*first, *findings]
    assert all(finding.fault is None for finding in found)
    assert newest in [finding.path for finding in found]


def test_control_characters_of_a_run_are_escaped(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evil = "evil \x1b]0;mine\x07\x1b[31mred\u202e"
    host = json.loads((run / "host.json").read_text())
    (run / "host.json").write_text(json.dumps(host | {"platform": evil}))
    strange = run.rename(run.with_name("run\x1b[2J"))
    assert "platform evil \\x1b]0;mine\\x07\\x1b[31mred\\u202e," in output_of(capfd, "info", strange)[0]
    for words in (("verify",), ("evaluate", "--episodes", 1)):
        out, err = output_of(capfd, words[0], strange, *words[1:])
        assert not {"\x1b", "\x07"} & set(out + err)
        assert words[0] == "verify" or "run\\x1b[2J" in out
    _, err = output_of(capfd, "info", strange / "nothing\x1b[1m", status=1)
    assert "nothing\\x1b[1m" in err
