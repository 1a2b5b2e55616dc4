"""An environment of one's own, in a module of one's own, by every command that plays."""

from __future__ import annotations

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
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the module and a run of it."""
    directory = tmp_path_factory.mktemp("own")
    (directory / "my_module.py").write_text(MODULE)
    said = perilune(
        directory, "train", "my_module:Line-v0", "--out", "run", "--steps", "300", "--hidden", "8",
        "--warmup-steps", "50", "--batch-size", "8", "--eval-episodes", "2", "--quiet",
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
