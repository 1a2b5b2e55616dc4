"""An environment in a module of the user, with each command that uses it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from perilune.runs import archive, checkpoint
from perilune.runs.checkpoint import Checkpoint

MODULE = """
import signal

import gymnasium as gym
import numpy as np

import perilune
from perilune.envs import known


class Line(gym.Env):
    observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None, interrupt=False):
        self.render_mode, self.interrupt = render_mode, interrupt

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0.0
        return np.array([self.at], np.float32), {}

    def step(self, action):
        if self.interrupt:
            signal.raise_signal(signal.SIGINT)
        self.at += 2 * action - 1
        return np.array([self.at], np.float32), self.at, abs(self.at) > 4, False, {}

    def render(self):
        return np.full((40, 60, 3), int(100 + self.at), np.uint8)


gym.register("Line-v0", Line, max_episode_steps=20)
gym.register("Alike-v0", Line, max_episode_steps=20)
preset = perilune.presets.Preset(perilune.DQNConfig(gamma=0.625), perilune.TrainConfig(steps=5_000))
known.register(known.KnownEnv(env_id="Line-v0", preset=preset))
"""
TINY = ["--hidden", "8", "--learning-starts", "50", "--batch-size", "8", "--eval-episodes", "2", "--quiet"]


def perilune(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -P: the current directory is not on the path, as with the installed command.
    return subprocess.run(  # noqa: S603 -- trusted arguments
        [sys.executable, "-P", "-m", "perilune", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the module and a run of it."""
    directory = tmp_path_factory.mktemp("own")
    (directory / "my_module.py").write_text(MODULE)
    trained = perilune(directory, "train", "my_module:Line-v0", "--out", "run", "--steps", "150", *TINY)
    assert trained.returncode == 0, trained.stderr
    assert "The environment defines no score at which it counts as solved." in trained.stdout
    for command in ("evaluate run --episodes 100", "report run", "resume run --steps 150"):
        assert f"  perilune {command} --env my_module:Line-v0 " in trained.stdout
    return directory


@pytest.mark.parametrize(("env", "gamma"), [("my_module:Line-v0", "0.625"), ("no_module:Line-v0", "0.99")])
def test_help_shows_the_preset_that_the_module_registers(place: Path, env: str, gamma: str) -> None:
    shown = perilune(place, "train", env, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"Discount factor per step (from 0 to 1). Default: {gamma}." in " ".join(shown.stdout.split())


def test_error_and_settings_file_name_the_id_with_its_module(place: Path) -> None:
    refused = perilune(place, "train", "Line-v0")
    assert refused.returncode == 1
    assert "or my_module:Line-v0 if your module my_module registers it" in refused.stderr
    command = (place / "run" / "settings.toml").read_text().splitlines()[1].removeprefix("#   perilune ")
    assert command == "train my_module:Line-v0 --config run/settings.toml"
    again = perilune(place, *command.split(), "--out", "again", "--quiet")
    assert again.returncode == 0, again.stderr
    assert (place / "again" / "final.safetensors").read_bytes() == (place / "run" / "final.safetensors").read_bytes()


def test_resume_command_of_interrupted_training_names_the_module(place: Path) -> None:
    options = ["--out", "stopped", "--steps", "150", *TINY, "--env-kwargs", "interrupt=True"]
    stopped = perilune(place, "train", "my_module:Line-v0", *options)
    assert stopped.returncode == 130
    assert "Add --env my_module:Line-v0 --env-kwargs interrupt=true to that command." in stopped.stderr


@pytest.mark.parametrize("command", ["evaluate", "video", "resume"])
def test_command_imports_the_module_only_if_env_names_it(place: Path, command: str) -> None:
    options = ["run", *(["--episodes", "2"] if command == "evaluate" else [])]
    refused = perilune(place, command, *options)
    assert refused.returncode == 1
    assert "'Line-v0' cannot be made" in refused.stderr
    assert "Traceback" not in refused.stderr
    if command != "resume":
        assert "--env my_module:Line-v0" in refused.stderr
    done = perilune(place, command, *options, "--env", "my_module:Line-v0")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["resume run --steps 100", "video run --stages"])
def test_module_named_in_a_forged_run_is_not_imported(
    place: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "spy.py").write_text("open('imported', 'w').close()")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"environment": "spy:Line-v0"}))
    for path in checkpoint.paths(tmp_path / "run"):
        found, digest = archive.read_content(path, checkpoint.KIND, Checkpoint, checkpoint.LARGEST_HEADER)
        forged = replace(found, setup=replace(found.setup, environment="spy:Line-v0"))
        arrays = archive.read_arrays(path, digest)
        archive.write(path, checkpoint.KIND, forged, arrays, checkpoint.LARGEST_HEADER)
    refused = perilune(tmp_path, *command.split())
    assert refused.returncode == 1
    assert "does not import modules named in files" in refused.stderr
    assert not (tmp_path / "imported").exists()


def test_play_error_asks_for_the_environment_id_before_the_run(place: Path) -> None:
    refused = perilune(place, "play", "run")
    assert refused.returncode == 1
    assert "the ID of an environment before the run: perilune play ID run" in refused.stderr


def test_report_scores_a_run_only_if_env_is_given(place: Path) -> None:
    without = perilune(place, "report", "run", "--episodes", "1", "--out", "run.html")
    assert without.returncode == 0, without.stderr
    page = (place / "run.html").read_text()
    assert "cannot be scored" in page
    assert "--env my_module:Line-v0" in page
    assert "greedy episode" not in without.stderr  # none was played
    done = perilune(place, "report", "run", "--episodes", "1", "--env", "my_module:Alike-v0")
    assert done.returncode == 0, done.stderr
    page = (place / "run" / "report.html").read_text()
    assert "cannot be scored" not in page
    assert "my_module:Alike-v0" in page  # not the environment of the run
    commands = re.findall(r"<pre><code>(.*?)</code>", page)
    assert commands
    assert all("my_module:Alike-v0" in command for command in commands)
