"""Pre-trained agents: scores, checksums, the commands that use them, and the program that makes them."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from safetensors.numpy import load_file

from perilune import DQN, envs, presets
from perilune.envs.known import ENVIRONMENTS
from perilune.errors import (
    ConfigError,
    FileFormatError,
    PeriluneError,
    PeriluneWarning,
    RunDirectoryError,
    UnsupportedEnvironmentError,
    UsageError,
)
from perilune.runs import files, pretrained
from perilune.runs.weights import load_weights
from perilune.training.evaluation import SCORE_SEEDS
from perilune.viz import play
from test_cli import call, done
from worlds import Numbered

AGENTS = pretrained.available()
LISTED = ", ".join(AGENTS)
EPISODES = {"LunarLander-v3": 2, "CartPole-v1": 1, "Acrobot-v1": 1, "MountainCar-v0": 1}
ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "examples" / "pretrain.py"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a copy of the directory of pre-trained agents, which a test may damage."""
    copy = tmp_path / "pretrained"
    shutil.copytree(pretrained.DIRECTORY, copy)
    monkeypatch.setattr(pretrained, "DIRECTORY", copy)
    return copy


# The agents that come with Perilune


def test_pretrained_agents_have_a_preset_and_a_file() -> None:
    assert set(AGENTS) == {"LunarLander-v3", "CartPole-v1", "Acrobot-v1", "MountainCar-v0"}
    assert all(ENVIRONMENTS[name].preset is not None for name in AGENTS)
    assert {path.stem for path in pretrained.DIRECTORY.glob("*.safetensors")} == set(AGENTS)


@pytest.mark.parametrize("env_id", AGENTS)
def test_shipped_weights_match_the_manifest_and_play_as_scored(env_id: str) -> None:
    listed, file = AGENTS[env_id], pretrained.weights_file(env_id)
    agent, saved = load_weights(file)
    preset = presets.preset(env_id)
    assert file.stat().st_size < 120_000
    assert {array.dtype for array in load_file(file).values()} == {np.dtype(np.float32)}
    assert (saved.environment, saved.seed, saved.env_steps) == (env_id, listed.seed, listed.env_steps)
    assert (listed.seed, listed.preset, listed.env_steps) == (0, presets.RECOMMENDED, preset.train.steps)
    assert (listed.score.episodes, listed.score.first_seed) == (100, SCORE_SEEDS)
    assert saved.config == preset.agent
    np.testing.assert_array_equal(agent.policy_network.parameters, agent.online.parameters)
    slack = listed.score.std  # other processors round differently
    for score in DQN.pretrained(env_id).evaluate(EPISODES[env_id]).returns:
        assert listed.score.min - slack <= score <= listed.score.max + slack


@pytest.mark.long
@pytest.mark.parametrize("env_id", AGENTS)
def test_shipped_agents_reach_their_scores_over_100_episodes(env_id: str) -> None:
    listed = AGENTS[env_id].score
    result = DQN.pretrained(env_id).evaluate(listed.episodes)
    assert abs(result.mean_return - listed.mean) <= 3 * listed.std / listed.episodes**0.5
    assert result.reward_threshold is not None
    assert result.mean_return >= result.reward_threshold


def test_pretrained_agent_plays_in_a_given_environment_and_trains_further() -> None:
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    agent = DQN.pretrained(env)
    assert agent.env is env
    before = agent.agent.online.parameters.copy()
    agent.train(steps=1_010, eval_episodes=1, max_episode_steps=30, quiet=True)
    assert agent.agent.env_steps == AGENTS["CartPole-v1"].env_steps + 1_010
    assert not np.array_equal(before, agent.agent.online.parameters)
    assert not np.array_equal(before, DQN("CartPole-v1").agent.online.parameters)


def test_gallery_shows_picture_score_and_checksum_of_every_agent() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    for env_id, listed in AGENTS.items():
        score, picture = listed.score, f"pictures/pretrained_{env_id}.gif"
        figures = (score.mean, score.iqm, score.min, score.max, score.std)
        assert f"| {env_id} | {listed.env_steps:,} | {' | '.join(f'{figure:.1f}' for figure in figures)} |" in page
        assert f"| `{env_id}.safetensors` | {listed.sha256} |" in page
        assert f"({picture})" in page
        assert (ROOT / "docs" / picture).stat().st_size < 300_000


# Refused


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Taxi-v4", f"no pre-trained agent for 'Taxi-v4': expected {LISTED}. For other environments, train"),
        ("CartPole-v0", "no pre-trained agent for 'CartPole-v0': .* Did you mean CartPole-v1?"),
        ("", f"no pre-trained agent for '': expected {LISTED}"),
        ("../CartPole-v1", "no pre-trained agent for '../CartPole-v1': .* Did you mean CartPole-v1?"),
        (Path("runs/moon"), "Path is not an environment: expected a Gymnasium environment or its ID"),
        (Numbered(), "no pre-trained agent for 'Numbered'"),
    ],
)
def test_environment_without_an_agent_is_refused(env: Any, message: str) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=message):
        DQN.pretrained(env)


def test_environment_with_other_spaces_is_refused() -> None:
    with pytest.raises(UnsupportedEnvironmentError, match="LunarLander-v3 has continuous actions"):
        DQN.pretrained(envs.make("LunarLander-v3", continuous=True))
    wider = gym.spaces.Box(-9, 9, (4,))
    env = gym.wrappers.TransformObservation(gym.make("CartPole-v1"), lambda obs: obs, wider)
    with pytest.raises(UnsupportedEnvironmentError, match=r"does not fit .* changes its observation_space\. Remove it"):
        DQN.pretrained(env)


def test_other_arguments_of_the_environment_warn() -> None:
    env = gym.make("CartPole-v1", sutton_barto_reward=True)
    with pytest.warns(PeriluneWarning, match=r"trained in CartPole-v1 \{\} .* now plays in .*sutton_barto_reward"):
        DQN.pretrained(env)


def test_pretrained_is_refused_on_an_agent() -> None:
    with pytest.raises(UsageError, match=r"pretrained returns a new agent .* Write agent = DQN\.pretrained\(env\)\."):
        DQN("CartPole-v1").pretrained("CartPole-v1")


def test_damaged_files_are_refused_by_name(package: Path) -> None:
    file, manifest = package / "CartPole-v1.safetensors", package / "manifest.json"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    damaged: list[tuple[type[PeriluneError], str]] = [
        (FileFormatError, r"CartPole-v1\.safetensors is damaged: its SHA-256 is \w{64}, but .* Install Perilune again"),
        (FileFormatError, r"CartPole-v1\.safetensors has [\d,]+ bytes, but at most"),
        (RunDirectoryError, r"CartPole-v1\.safetensors cannot be read"),
        (FileFormatError, r"manifest\.json is damaged: .*sha257.* Install Perilune again"),
    ]
    for step, (error, message) in enumerate(damaged):
        if step == 1:
            file.write_bytes(bytes(2**21))
        elif step == 2:
            file.unlink()
        elif step == 3:
            manifest.write_text(manifest.read_text().replace("sha256", "sha257"))
        with pytest.raises(error, match=message):
            DQN.pretrained("CartPole-v1")


def test_files_may_be_installed_as_links(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "cache")
    for path in package.iterdir():
        path.unlink()
        path.symlink_to(tmp_path / "cache" / path.name)
    assert DQN.pretrained("CartPole-v1").agent.env_steps == AGENTS["CartPole-v1"].env_steps


# Commands


def test_commands_use_a_pretrained_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "CartPole-v1").mkdir()  # --pretrained does not mean this directory
    agent = ("CartPole-v1", "--pretrained")
    short = ("--episodes", "1", "--max-episode-steps", "20")
    reads, read = [], files.read
    monkeypatch.setattr(files, "read", lambda path, largest: (reads.append(path.name), read(path, largest))[1])
    said = json.loads(done("evaluate", *agent, *short, "--json"))
    assert reads.count("CartPole-v1.safetensors") == 1  # the SHA-256 is computed once
    assert (said["checkpoint"], said["env_steps"]) == ("CartPole-v1, pre-trained", AGENTS["CartPole-v1"].env_steps)
    assert said["returns"] == [20]
    assert done("evaluate", *agent, *short).startswith("CartPole-v1, pre-trained, 1 greedy episode\n")
    assert done("video", *agent, *short).startswith("CartPole-v1.mp4  (")
    assert (tmp_path / "CartPole-v1.mp4").stat().st_size > 1_000
    described = done("info", *agent)
    for words in (AGENTS["CartPole-v1"].sha256, "python examples/pretrain.py CartPole-v1", "mean 500.00, lowest"):
        assert words in described
    listed = json.loads(done("list", str(tmp_path), "--json"))["pretrained"]
    assert listed == {name: entry.score.mean for name, entry in AGENTS.items()}
    assert "Pre-trained agents (--pretrained) and their mean returns:\n  " in done("list", str(tmp_path))


def test_play_against_a_pretrained_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    opponents = []
    monkeypatch.setattr(play, "check_display", lambda: None)
    monkeypatch.setattr(play, "play", lambda env, agent, title, seed: opponents.append(agent) or [])
    done("play", "CartPole-v1", "--pretrained")
    assert opponents[0].env_steps == AGENTS["CartPole-v1"].env_steps


def test_conflicting_and_unknown_agents_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = "moon"
    Path(run).mkdir()
    for arguments, words in {
        ("evaluate", run, "--pretrained"): f"{run} cannot be combined with --pretrained. To use this run",
        ("evaluate", "Taxi-v4", "--pretrained"): f"no pre-trained agent for 'Taxi-v4': expected {LISTED}",
        ("evaluate", "CartPole-v1"): "add --pretrained, or write DQN.pretrained('CartPole-v1')",
        ("evaluate", "CartPole-v1", "--pretrained", "--env", "Taxi-v4"): "--env Taxi-v4 cannot be combined",
        ("info", run, "--pretrained"): f"{run} cannot be combined with --pretrained",
        ("video", "CartPole-v1", "--pretrained", "--stages"): "expected a run directory with --stages",
        ("play", "CartPole-v1", run, "--pretrained"): f"{run} cannot be combined with --pretrained",
        ("play", "Taxi-v4", "--pretrained"): "no pre-trained agent for 'Taxi-v4'",
    }.items():
        ended = call(*arguments)
        assert (ended.status, ended.out) == (1, ""), arguments
        assert words in ended.err
        assert ended.err.count("\n") == 1
    with pytest.raises(ConfigError, match="episodes=0"):
        DQN.pretrained("CartPole-v1").evaluate(0)


# The program that makes them


def test_program_writes_the_same_files_again(tmp_path: Path) -> None:
    program = runpy.run_path(str(PROGRAM))
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        entry = program["make"]("CartPole-v1", tmp_path / name, steps=1_010, episodes=2)
        made.append((entry, (tmp_path / name / "CartPole-v1.safetensors").read_bytes()))
    assert made[0] == made[1]
    assert made[0][0].env_steps == 1_010
    again = DQN.load(tmp_path / "first" / "CartPole-v1.safetensors")
    assert again.evaluate(2).mean_return == made[0][0].score.mean
