"""Checkpoints say what there is, share what has not changed, and go on with nothing but what they were."""

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
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fixtures_runs import AGENT, cartpole
from perilune import DQN, DQNConfig, TrainConfig, envs, recording
from perilune._utils.validation import from_json
from perilune.cli import main
from perilune.errors import ConfigError, EnvironmentFaultError, FileFormatError, PeriluneWarning, RunDirectoryError
from perilune.replay.buffer import Replay
from perilune.runs import checkpoint, files, inspection, lock, recorder, runlog
from perilune.runs.telemetry import read as read_telemetry
from perilune.runs.weights import load_weights
from perilune.training.events import Episode
from test_resume import PowerCutError, cut, everything, lines
from test_torture import as_others_are, perilune

STEPS: dict[str, Any] = {"steps": 300, "eval_every": 100, "eval_episodes": 1, "quiet": True, "pictures": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at its end. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("finished") / "run"
    DQN("CartPole-v1", seed=2, **AGENT).train(run_dir=out, **STEPS)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def again(run: Path, **settings: Any) -> DQN:
    dqn = DQN("CartPole-v1", seed=2, **AGENT)
    dqn.train(resume=True, run_dir=run, quiet=True, pictures=False, **settings)
    return dqn


# What of the replay is new


@given(st.integers(1, 40), st.integers(0, 130), st.integers(0, 130), st.integers(1, 12))
def test_an_object_is_written_anew_if_and_only_if_one_of_its_slots_was(
    capacity: int, before: int, more: int, rows: int
) -> None:
    replay = Replay(capacity, 1)
    replay.added = before + more
    written = {number % capacity for number in range(before, before + more)}
    for start in range(0, replay.size, rows):
        stop = min(start + rows, replay.size)
        assert checkpoint._written(start, stop, before, replay) == bool(written & set(range(start, stop)))


def test_checkpoints_share_the_objects_that_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK", 50 * (8 * 4 + 16))  # fifty transitions an object
    run = tmp_path / "run"
    DQN("CartPole-v1", seed=2, **AGENT).train(run_dir=run, **STEPS)
    earlier, last = [checkpoint.read(path) for path in checkpoint.paths(run)][-2:]
    assert len(last.replay) == 6
    common = len(set(last.replay) & set(earlier.replay))
    assert common == earlier.agent.added // 50 > 1
    objects = {path.name for path in (run / "checkpoints" / "objects").iterdir()}
    kept = [checkpoint.read(path) for path in checkpoint.paths(run)]
    assert objects == {stored.sha256 for one in kept for stored in one.objects}  # and none besides


def test_the_newest_and_the_best_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SHARE", float("inf"))
    run = tmp_path / "run"
    DQN("CartPole-v1", seed=3, **AGENT).train(
        run_dir=run, keep_checkpoints=3, checkpoint_seconds=1e-9, **STEPS | {"steps": 1000}
    )
    there = [checkpoint.read(path) for path in checkpoint.paths(run)]
    best = max(evaluation.env_steps for evaluation in runlog.read(run).evaluations if evaluation.best)
    assert 3 <= len(there) <= 4
    assert [one.agent.env_steps for one in there if one.best][-1:] == [best]
    assert there[-1].training.over
    assert len({one.agent.env_steps for one in there[-3:]}) == 3


def test_a_checkpoint_costs_no_more_than_its_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves, save = [], checkpoint.save

    def counted(*arguments: Any, **how: Any) -> checkpoint.Checkpoint:
        saves.append(arguments)
        return save(*arguments, **how)

    monkeypatch.setattr(checkpoint, "save", counted)
    DQN("CartPole-v1", seed=2, **AGENT).train(
        run_dir=tmp_path / "run", checkpoint_seconds=1e-9, **STEPS | {"steps": 2_000, "eval_every": None}
    )
    assert len(saves) < 12  # of some hundred episodes


# What may be changed


def test_a_run_at_its_end_stays_as_it_is(run: Path) -> None:
    before = everything(run)
    dqn = again(run)
    assert everything(run) == before
    assert dqn.agent.env_steps == 300


def test_more_steps_go_on_where_the_schedules_were(run: Path) -> None:
    ended = checkpoint.latest(run)
    dqn = again(run, steps=500, change=["steps"])
    assert dqn.agent.env_steps == 500
    assert dqn.agent.updates == ended.agent.updates + 200
    episodes = runlog.read(run).episodes
    assert [episode.episode for episode in episodes] == list(range(1, len(episodes) + 1))
    after = [episode for episode in episodes if episode.env_steps > 300]
    # Epsilon as it would have been: its way goes on from the end of the warm-up.
    settings, began = dqn.config, after[0].env_steps - after[0].length
    share = (began - settings.learning_starts) / settings.epsilon_decay_steps
    assert after[0].epsilon == pytest.approx(1 - (1 - settings.epsilon_end) * share)
    assert runlog.read_config(run)["train"]["steps"] == 500
    assert all(finding.fault is None for finding in inspection.verify(run))


def test_what_was_changed_is_refused_unless_it_is_named(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    dqn = DQN("CartPole-v1", seed=2, **AGENT | {"learning_rate": 0.01})
    with pytest.raises(ConfigError, match=r"learning_rate=0\.01 is invalid: expected 0\.001, as in the run.*by name"):
        dqn.train(resume=True, run_dir=run, quiet=True)
    with pytest.raises(ConfigError, match="steps=500 is invalid: expected 300, as in the run"):
        again(run, steps=500)
    with pytest.raises(ConfigError, match="steps=200 is invalid: expected more than this run has already had"):
        again(run, steps=200, change=["steps"])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    dqn.train(resume=True, run_dir=run, steps=400, change=["learning_rate", "steps"], quiet=True, pictures=False)
    assert checkpoint.latest(run).setup.agent.learning_rate == 0.01
    assert runlog.read_config(run)["agent"]["learning_rate"] == 0.01


FIXED = sorted({field.name for cls in (DQNConfig, TrainConfig) for field in fields(cls)} - recorder.CHANGEABLE)


def test_every_setting_is_told_whether_it_can_be_changed() -> None:
    assert FIXED == [
        "activation", "atoms", "ema_decay", "buffer_size", "dueling", "num_envs", "gamma", "head", "hidden",
        "initializer", "layer_norm", "n_step", "noisy", "optimizer", "priority_alpha", "quantiles", "value_range",
        "learning_starts",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", (9,)), ("gamma", 0.5), ("n_step", 2), ("optimizer", "sgd"), ("buffer_size", 600), ("noisy", True),
        ("ema_decay", 0.9), ("priority_alpha", 0.5), ("learning_starts", 41), ("activation", "tanh"),
    ],
)  # fmt: skip
def test_what_is_in_the_shape_of_a_run_cannot_be_changed_even_by_name(run: Path, name: str, value: object) -> None:
    dqn = DQN("CartPole-v1", seed=2, **AGENT | {name: value})
    with pytest.raises(ConfigError, match=f"{name} = .* cannot be changed on the way"):
        dqn.train(resume=True, run_dir=run, change=[name], quiet=True)


def test_another_seed_or_environment_is_another_run(run: Path) -> None:
    with pytest.raises(ConfigError, match="seed=3 is invalid: expected 2, as in the run"):
        DQN("CartPole-v1", seed=3, **AGENT).train(resume=True, run_dir=run, quiet=True)
    with pytest.raises(ConfigError, match="environment='Acrobot-v1' is invalid: expected 'CartPole-v1'"):
        DQN("Acrobot-v1", seed=2, **AGENT).train(resume=True, run_dir=run, quiet=True)
    wider = gym.make("CartPole-v1", sutton_barto_reward=True)
    with pytest.raises(ConfigError, match="sutton_barto_reward"):
        DQN(wider, seed=2, **AGENT).train(resume=True, run_dir=run, quiet=True)


def test_settings_that_were_edited_in_the_directory_are_refused(run: Path) -> None:
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["agent"]["learning_rate"] = 1.0
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"learning_rate=1\.0 is invalid: expected 0\.001, as in the checkpoint"):
        again(run)


def test_a_change_holds_from_the_moment_it_is_made(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "training", cut(1))  # killed before anything else is saved
    with pytest.raises(PowerCutError):
        again(run, steps=400, change=["steps"])
    monkeypatch.undo()
    assert again(run).agent.env_steps == 400


def test_a_change_that_was_only_begun_can_be_asked_for_again(run: Path) -> None:
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["train"]["steps"] = 400
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="steps=400 is invalid: expected 300, as in the checkpoint"):
        again(run)
    assert again(run, steps=400, change=["steps"]).agent.env_steps == 400


def test_a_log_that_was_edited_is_refused(run: Path) -> None:
    path = run / "episodes.jsonl"
    path.write_bytes(path.read_bytes().replace(b"terminated", b"truncated ", 1))
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match=r"episodes\.jsonl does not begin any more with the .* bytes"):
        again(run, steps=400, change=["steps"])
    assert path.read_bytes() == before


# Damage


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(run: Path) -> None:
    newest = checkpoint.paths(run)[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(PeriluneWarning, match="is passed over.*not JSON"):
        earlier = checkpoint.latest(run)
    assert earlier.agent.env_steps < 300


def test_what_a_killed_process_left_half_written_is_swept_away(run: Path) -> None:
    (run / "videos").mkdir()
    halves = ["best.safetensors.partial", "videos/episode-00007.mp4.partial", "checkpoints/000000000300.json.partial"]
    halves.append(f"checkpoints/objects/{'0' * 64}.partial")
    for name in halves:
        (run / name).write_bytes(b"half")
    again(run, steps=400, change=["steps"])
    assert not list(run.rglob("*.partial"))


def test_where_no_checkpoint_is_whole_that_is_said(run: Path) -> None:
    for path in checkpoint.paths(run):
        path.write_bytes(b"{}")
    with pytest.warns(PeriluneWarning), pytest.raises(FileFormatError, match="has no checkpoint that is whole"):
        checkpoint.latest(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunDirectoryError, match="has no checkpoint"):
        checkpoint.latest(run)


def test_a_name_in_a_checkpoint_leads_nowhere_else(run: Path) -> None:
    path = checkpoint.paths(run)[-1]
    content = json.loads(path.read_text())
    content["checkpoint"]["arrays"]["sha256"] = "../../../../../etc/passwd"
    content["sha256"] = checkpoint._checksum(content["checkpoint"])
    path.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="says what no checkpoint can say: sha256 = "):
        checkpoint.read(path)


@pytest.mark.parametrize(
    "name", ["episodes.jsonl", "checkpoints", "config.json", ".lock", "best.safetensors", "videos"]
)
def test_a_link_in_a_run_is_not_followed(run: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    if (run / name).exists():
        (run / name).rename(outside)
    else:
        outside.mkdir()
    (run / name).symlink_to(outside)
    with pytest.raises(FileFormatError, match=f"{name} is a link"):
        again(run, steps=400, change=["steps"])
    with pytest.raises(FileFormatError, match=f"{name} is a link"):
        DQN("CartPole-v1", seed=2, **AGENT).train(run_dir=run, overwrite=True, **STEPS)
    assert outside.exists()


@pytest.mark.parametrize("name", ["owner.json", "best.safetensors", "checkpoints/000000000400.json"])
def test_nothing_is_written_through_a_link(run: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("years of work")
    (run / f"{name}.partial").symlink_to(victim)
    with suppress(RunDirectoryError):
        again(run, steps=400, change=["steps"])
    assert victim.read_text() == "years of work"


@pytest.mark.parametrize("name", ["config.json", "episodes.jsonl"])
def test_a_pipe_in_a_run_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(FileFormatError, match="no ordinary file"):
        runlog.read(run)


def test_settings_that_ask_for_more_than_a_file_holds_are_refused_before_it_is_taken(run: Path) -> None:
    path = checkpoint.paths(run)[-1]
    content = json.loads(path.read_text())
    content["checkpoint"]["setup"]["agent"]["hidden"] = [100_000, 100_000]
    content["sha256"] = checkpoint._checksum(content["checkpoint"])
    path.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="too few for 10,00"):
        checkpoint.read(path)


def hollow(size: int) -> str:
    """A list of about so many bytes that would take twenty-five times as much memory."""
    return "[" + "{}," * (size // 3) + "{}]"


@pytest.mark.parametrize("size", [2**19, 2**24, 2**26 + 1])
@pytest.mark.parametrize(
    "name", ["config.json", "host.json", "checkpoints/000000000300.json", "episodes.jsonl", "telemetry", "weights"]
)
def test_what_a_file_holds_for_no_reason_takes_no_memory(run: Path, name: str, size: int) -> None:
    path = run / name
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"x": 0}).replace('"x": 0', f'"x": {hollow(size)}'))
    elif name == "weights":
        path = run / "best.safetensors"
        save_file({}, path, {"perilune": f'{{"x": {hollow(size)}}}'})
    else:
        path = path.with_suffix(".jsonl")
        path.write_text(f'{{"x": {hollow(size)}}}\n')
    reads: dict[str, Callable[[], object]] = {
        "config.json": lambda: runlog.read_config(run),
        "host.json": lambda: files.read_json(path),
        "episodes.jsonl": lambda: runlog.read_log(run, Episode),
        "telemetry": lambda: read_telemetry(path),
        "weights": lambda: load_weights(path),
    }
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=r"at most [0-9,]+ are read"):
            reads.get(name, lambda: checkpoint.read(path))()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * path.stat().st_size + 2**21


def test_a_checkpoint_that_could_not_be_read_again_is_not_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = checkpoint.paths(run)
    largest = max(path.stat().st_size for path in there)
    monkeypatch.setattr(files, "PART", 1)
    monkeypatch.setattr(checkpoint, "LARGEST", largest)  # a little too small for the next one
    with pytest.raises(RunDirectoryError, match=r"no checkpoint can be taken: .* are read.*max_episode_steps"):
        again(run, steps=10**9, change=["steps"])
    monkeypatch.undo()
    assert checkpoint.paths(run) == there
    assert checkpoint.latest(run).agent.env_steps == 300


# Whose it is

HOLD = """
import sys, time
from pathlib import Path
from perilune.runs import lock
with lock.claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_belongs_to_one_process(run: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunDirectoryError, match=f"belongs to process {other.pid} on '.+', which is at work on it"):
            again(run, steps=400, change=["steps"])
        with pytest.raises(RunDirectoryError, match=f"process {other.pid}"):
            DQN("CartPole-v1", seed=2, **AGENT).train(run_dir=run, overwrite=True, **STEPS)
        assert f"process {other.pid}" in inspection.about(run)["state"]
    finally:
        other.kill()
        other.communicate()
    assert (run / runlog.OWNER).exists()  # stale: nobody holds it
    assert inspection.about(run)["state"] == "at its end"
    again(run, steps=400, change=["steps"])
    assert not (run / runlog.OWNER).exists()


@pytest.mark.parametrize(("mode", "perhaps"), [(0o444, ""), (0, "perhaps ")])
def test_somebody_elses_training_is_seen_though_its_lock_cannot_be_written(run: Path, mode: int, perhaps: str) -> None:
    info = [*as_others_are(), *perilune("info", run)]
    with lock.claimed(run):
        (run / runlog.LOCK).chmod(mode)
        told = subprocess.run(info, capture_output=True, text=True, check=True).stdout  # noqa: S603
        assert re.search(rf"state +{perhaps}process {os.getpid()} on '.+' is at work on it", told)
    told = subprocess.run(info, capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert re.search("state +at its end", told)


def test_in_one_process_too_a_run_is_held_once(run: Path) -> None:
    with (
        lock.claimed(run),
        pytest.raises(RunDirectoryError, match=f"process {os.getpid()}"),
        lock.claimed(run),
    ):
        pass
    with lock.claimed(run):
        pass


# Environments that are not what they were


class Fading(gym.Wrapper[Any, Any, Any, Any]):
    """Fails in a step, or begins its episodes elsewhere than their seed says."""

    def __init__(self, env: gym.Env[Any, Any], fails_at: int | None = None, elsewhere: bool = False) -> None:
        super().__init__(env)
        self.left, self.elsewhere = fails_at, elsewhere

    def reset(self, **how: Any) -> Any:
        obs, info = self.env.reset(**how)
        return obs + self.elsewhere, info

    def step(self, action: Any) -> Any:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise OSError("the simulator is gone")
        return self.env.step(action)


def test_an_environment_that_fails_is_named_with_the_step_and_the_run_goes_on_later(tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    DQN(Fading(cartpole()), seed=2, **AGENT).train(run_dir=whole, **STEPS)
    failing = DQN(Fading(cartpole(), fails_at=250), seed=2, **AGENT)
    with pytest.raises(EnvironmentFaultError) as caught:
        failing.train(run_dir=run, **STEPS)
    assert "CartPole-v1.step raised OSError: the simulator is gone" in str(caught.value)
    last = checkpoint.paths(run)[-1]
    assert caught.value.__notes__ == [
        f"Nothing saved is lost: the last checkpoint is {last}. Go on from there: perilune resume {run}"
    ]
    DQN(Fading(cartpole()), seed=2, **AGENT).train(resume=True, run_dir=run, quiet=True, pictures=False)
    assert everything(run) == everything(whole)


def test_an_environment_that_goes_another_way_is_told(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(EnvironmentFaultError):
        DQN(Fading(cartpole(), fails_at=250), seed=2, **AGENT).train(run_dir=run, **STEPS)
    assert checkpoint.latest(run).training.flights
    elsewhere = DQN(Fading(cartpole(), elsewhere=True), seed=2, **AGENT)
    with pytest.warns(PeriluneWarning, match="does not lead where it did with the same seed"):
        elsewhere.train(resume=True, run_dir=run, quiet=True, pictures=False)
    episodes = runlog.read(run).episodes
    assert [episode.episode for episode in episodes] == list(range(1, len(episodes) + 1))


class Meanwhile(gym.Wrapper[Any, Any, Any, Any]):
    """An environment in whose hundredth step somebody does something."""

    def __init__(self, env: gym.Env[Any, Any], do: Callable[[], object]) -> None:
        super().__init__(env)
        self.do, self.steps = do, 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 100:
            self.do()
        return self.env.step(action)


def test_a_run_that_is_removed_meanwhile_ends_and_is_not_made_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    dqn = DQN(Meanwhile(cartpole(), lambda: shutil.rmtree(run)), seed=2, **AGENT)
    with pytest.raises(RunDirectoryError, match="is no run any more"):
        dqn.train(run_dir=run, **STEPS)
    assert not run.exists()
    assert 100 <= dqn.agent.env_steps < 300


@pytest.mark.parametrize("name", ["episodes.jsonl", "evaluations.jsonl", "notices.jsonl"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_that_is_removed_meanwhile_is_written_again(
    finished: Path, tmp_path: Path, name: str, replaced: bool
) -> None:
    run = tmp_path / "run"

    def remove() -> None:
        (run / name).unlink()
        if replaced:
            (run / name).write_text("mine\n")

    dqn = DQN(Meanwhile(cartpole(), remove), seed=2, **AGENT)
    with pytest.warns(PeriluneWarning, match=f"{name} was removed, or replaced, while") as warned:
        dqn.train(run_dir=run, **STEPS)
    assert len([one for one in warned if "was removed" in str(one.message)]) == 1
    assert lines(run) == lines(finished)
    assert all(finding.fault is None for finding in inspection.verify(run))
    dqn.train(resume=True, run_dir=run, steps=400, change=["steps"], quiet=True, pictures=False)
    assert all(finding.fault is None for finding in inspection.verify(run))


def test_without_a_log_a_run_does_not_go_on_but_its_weights_do(run: Path, tmp_path: Path) -> None:
    (run / "episodes.jsonl").unlink()
    with pytest.raises(RunDirectoryError, match=r"episodes\.jsonl is not there any more.*Put the log back") as raised:
        again(run, steps=400, change=["steps"])
    (remedy,) = re.findall(r"DQN\.load\('(.+)'\)\.train", str(raised.value))
    history = DQN.load(remedy).train(run_dir=tmp_path / "another", **STEPS)
    assert all(finding.fault is None for finding in inspection.verify(history.directory))


def test_another_machine_or_version_is_told(run: Path) -> None:
    host = json.loads((run / "host.json").read_text())
    (run / "host.json").write_text(json.dumps(host | {"numpy": "1.0"}))
    with pytest.warns(PeriluneWarning, match=rf"perhaps not to the bit.*numpy 1\.0 there, {np.__version__} here"):
        again(run, steps=400, change=["steps"])
    again(run, steps=500, change=["steps"])  # which is the run's from then on


def test_the_videos_from_before_are_the_runs_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = STEPS | {"video_every": 5}
    first = DQN(cartpole(), seed=2, **AGENT).train(run_dir=run, **settings)
    more = DQN(cartpole(), seed=2, **AGENT).train(
        resume=True, run_dir=run, change=["steps"], **settings | {"steps": 400}
    )
    assert more.videos[: len(first.videos)] == first.videos
    assert len(more.videos) > len(first.videos) > 1


# Asked from the command line


def said(capfd: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> tuple[str, str]:
    try:
        main([str(argument) for argument in arguments])
        ended: object = 0
    except SystemExit as stopped:
        ended = stopped.code
    out, err = capfd.readouterr()
    assert ended == status, err
    return out, err


def test_resume_goes_on_and_says_what_came_of_it(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capfd, "resume", run, "--steps", 100, "--change", "learning_rate=1e-4", "--quiet", "--json")
    assert json.loads(out)["env_steps"] == 400
    assert checkpoint.latest(run).setup.agent.learning_rate == 1e-4
    _, err = said(capfd, "resume", run, "--steps", 0, status=1)
    assert "steps=0 is invalid: expected a whole number >= 1" in err
    _, err = said(capfd, "resume", run, "--change", "gamma=0.5", status=1)
    assert "gamma=0.5 is invalid: expected a setting that can change" in err
    _, err = said(capfd, "resume", run, "--change", "lerning_rate=0.5", status=1)
    assert "did you mean learning_rate?" in err
    _, err = said(capfd, "resume", run, "--change", "gamma", status=1)
    assert "NAME=VALUE" in err
    _, err = said(capfd, "resume", run.parent, status=1)
    assert "holds no run: there is no config.json" in err


def test_info_tells_what_a_run_and_a_file_are(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capfd, "info", run)
    for words in ("run of CartPole-v1, seed 2", "at its end", "env steps  ", "300", "learning_rate", "numpy"):
        assert words in out
    found = json.loads(said(capfd, "info", run, "--json")[0])
    assert found["counters"]["env_steps"] == 300
    assert found["train"]["steps"] == 300
    found = json.loads(said(capfd, "info", run / "best.safetensors", "--json")[0])
    assert (found["kind"], found["environment"], found["seed"]) == ("weights", "CartPole-v1", 2)


def test_verify_names_what_is_damaged(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = said(capfd, "verify", run)
    assert "DAMAGED" not in out
    assert f"All {len(out.splitlines()) - 2} are whole." in out
    for path in itertools.chain(run.glob("*.safetensors"), (run / "checkpoints" / "objects").iterdir()):
        intact = path.read_bytes()
        path.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
        out, err = said(capfd, "verify", run, status=1)
        assert f"DAMAGED  {path.relative_to(run)}" in out
        assert f"{path} is damaged" in err
        path.write_bytes(intact)
    assert said(capfd, "verify", run)[1] == ""
    shutil.rmtree(run / "checkpoints")
    assert "has no checkpoint: it cannot be gone on with" in said(capfd, "verify", run)[1]


def test_verify_takes_a_run_of_an_earlier_version_that_has_no_host(run: Path) -> None:
    (run / "host.json").unlink()
    assert all(finding.fault is None for finding in inspection.verify(run))
    (run / "host.json").write_text("{")
    assert [finding.path.name for finding in inspection.verify(run) if finding.fault] == ["host.json"]


@pytest.mark.parametrize("goes", [1, 3, 6])
def test_verify_leaves_out_what_a_training_removes_meanwhile(run: Path, goes: int) -> None:
    older, newest = checkpoint.paths(run)
    only = {stored.sha256 for stored in checkpoint.read(older).objects}
    only -= {stored.sha256 for stored in checkpoint.read(newest).objects}
    assert only
    findings = inspection.verify(run)
    first = list(itertools.islice(findings, goes))  # its directories, the checkpoints, config.json, host.json, ...
    older.unlink()
    for name in only:
        (run / "checkpoints" / "objects" / name).unlink()
    rest = list(findings)
    assert all(finding.fault is None for finding in [*first, *rest])
    assert newest in [finding.path for finding in [*first, *rest]]
    missing = checkpoint.object_path(run, checkpoint.read(newest).arrays)
    missing.unlink()  # of one that stands, it is missed
    assert [finding.path for finding in inspection.verify(run) if finding.fault] == [missing]


def test_a_setup_comes_back_from_its_json(run: Path) -> None:
    setup = checkpoint.latest(run).setup
    content = setup.to_json()
    content.pop("format")
    assert from_json(json.dumps(content).encode(), checkpoint.Setup) == setup
    assert asdict(replace(setup, seed=5))["seed"] == 5
    assert setup.made == envs.description(gym.make("CartPole-v1", render_mode="rgb_array"))
    assert np.isfinite(setup.reward_threshold or 0)


def test_verify_misses_the_best_weights_and_resume_brings_them_back(
    run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    best = run / "best.safetensors"
    intact = best.read_bytes()
    best.unlink()
    out, err = said(capfd, "verify", run, status=1)
    assert "DAMAGED  best.safetensors" in out
    assert f"perilune resume {run} writes it again" in err
    assert inspection.about(run)["health"] == [f"{best} is not there any more: perilune resume {run} writes it again"]
    said(capfd, "resume", run, "--quiet")
    assert best.read_bytes() == intact
    assert "DAMAGED" not in said(capfd, "verify", run)[0]


def test_a_terminal_does_not_obey_what_a_strangers_run_says(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evil = "evil \x1b]0;mine\x07\x1b[31mred\u202e"
    host = json.loads((run / "host.json").read_text())
    (run / "host.json").write_text(json.dumps(host | {"platform": evil}))
    strange = run.rename(run.with_name("run\x1b[2J"))
    assert "platform evil \\x1b]0;mine\\x07\\x1b[31mred\\u202e," in said(capfd, "info", strange)[0]
    for words in (("info",), ("verify",), ("evaluate", "--episodes", 1), ("resume", "--steps", 1, "--quiet")):
        out, err = said(capfd, words[0], strange, *words[1:])
        assert "\x1b" not in out + err
        assert "\x07" not in out + err
        assert words[0] == "verify" or "run\\x1b[2J" in out
    _, err = said(capfd, "info", strange / "nothing\x1b[1m", status=1)
    assert "nothing\\x1b[1m" in err
    assert "\x1b" not in err


def test_an_environment_of_ones_own_is_named_by_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_module.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Elsewhere-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=50)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = (
        "--steps",
        80,
        "--learning-starts",
        32,
        "--epsilon-decay-steps",
        40,
        "--eval-every",
        60,
        "--eval-episodes",
        1,
        "--quiet",
    )
    out, _ = said(capfd, "train", "my_module:Elsewhere-v0", "--out", tmp_path / "own", *words)
    evaluating = out.splitlines()[-1].split()
    assert evaluating[1:] == ["evaluate", str(tmp_path / "own"), "--episodes", "100", "--env", "my_module:Elsewhere-v0"]
    gym.registry.pop("Elsewhere-v0")
    monkeypatch.delitem(sys.modules, "my_module")
    _, err = said(capfd, "resume", tmp_path / "own", "--steps", 60, status=1)
    assert "--env my_module:Elsewhere-v0 on the command line" in err
    out, _ = said(capfd, "resume", tmp_path / "own", "--steps", 60, "--env", "my_module:Elsewhere-v0", "--quiet")
    assert out.splitlines()[-1].endswith("--env my_module:Elsewhere-v0")
    gym.registry.pop("Elsewhere-v0")
