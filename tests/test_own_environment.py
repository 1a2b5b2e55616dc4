"""An environment of one's own, in a module of one's own, by every command that plays."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import gymnasium as gym
import numpy as np


class Line(gym.Env):
    observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0.0
        return np.array([self.at], np.float32), {}

    def step(self, action):
        self.at += 2 * action - 1
        return np.array([self.at], np.float32), self.at, abs(self.at) > 4, False, {}

    def render(self):
        return np.full((40, 60, 3), int(100 + self.at), np.uint8)


gym.register("Line-v0", Line, max_episode_steps=20)
gym.register("Alike-v0", Line, max_episode_steps=20)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the module and a run of it."""
    directory = tmp_path_factory.mktemp("own")
    (directory / "my_module.py").write_text(MODULE)
    said = perilune(
        directory, "train", "my_module:Line-v0", "--out", "run", "--steps", "300", "--hidden", "8",
        "--learning-starts", "50", "--batch-size", "8", "--eval-episodes", "2", "--quiet",
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return directory


def perilune(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own words
        [sys.executable, "-m", "perilune", *arguments],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [("evaluate", "run", "--episodes", "2"), ("video", "run"), ("video", "run", "--stages"), ("resume", "run")],
)
def test_a_command_that_plays_is_told_where_the_environment_is(place: Path, arguments: tuple[str, ...]) -> None:
    refused = perilune(place, *arguments)
    assert refused.returncode == 1
    assert "'Line-v0' cannot be made" in refused.stderr
    assert "Traceback" not in refused.stderr
    if arguments[0] != "resume":
        assert "--env my_module:Line-v0" in refused.stderr
    done = perilune(place, *arguments, "--env", "my_module:Line-v0")
    assert done.returncode == 0, done.stderr


def test_play_takes_an_environment_first(place: Path) -> None:
    refused = perilune(place, "play", "run")
    assert refused.returncode == 1
    assert "the id of an environment, and then the run: perilune play ID run" in refused.stderr


def test_a_report_is_told_where_the_environment_is_for_the_runs_that_need_it(place: Path) -> None:
    trained = perilune(
        place, "train", "CartPole-v1", "--out", "cart", "--steps", "300", "--hidden", "8", "--learning-starts", "50",
        "--batch-size", "8", "--eval-episodes", "2", "--quiet",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    both = ("report", "run", "cart", "--episodes", "2", "--out", "both.html")
    without = perilune(place, *both)
    assert without.returncode == 0, without.stderr
    page = (place / "both.html").read_text()
    assert "run cannot be scored here" in page
    assert "--env my_module:Line-v0" in page  # which the same command takes
    assert "cart: 2 greedy episodes" in without.stderr
    assert "run: 2 greedy episodes" not in without.stderr  # for none was played
    done = perilune(place, *both, "--env", "my_module:Line-v0")
    assert done.returncode == 0, done.stderr
    page = (place / "both.html").read_text()
    assert "cannot be scored" not in page
    for words in ("run: 2 greedy episodes", "cart: 2 greedy episodes"):
        assert words in done.stderr
    assert "run, best" in page
    assert "was trained on" not in page
    # Its commands say where the environment is too.
    assert perilune(place, "report", "run", "--episodes", "1", "--env", "my_module:Line-v0").returncode == 0
    commands = re.findall(r"<pre><code>(.*?)</code>", (place / "run" / "report.html").read_text())
    assert commands
    assert all("my_module:Line-v0" in command for command in commands)
    # What is played is said where it is not what the run names; and where there is no such environment.
    other = perilune(place, "report", "run", "--episodes", "1", "--env", "my_module:Alike-v0")
    assert other.returncode == 0, other.stderr
    assert "run was trained on Line-v0 and scored on my_module:Alike-v0." in (place / "run" / "report.html").read_text()
    nowhere = perilune(place, "report", "run", "--env", "my_module:None-v0")
    assert nowhere.returncode == 1
    assert "cannot be made" in nowhere.stderr
