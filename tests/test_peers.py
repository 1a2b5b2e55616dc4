"""Stable-Baselines3 under the same roof, where it is installed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perilune import DQNConfig, TrainConfig
from perilune.bench import compare, peers, report, results
from perilune.bench.speed import peer_installed
from perilune.cli import main
from perilune.errors import ConfigError, MissingDependencyError
from perilune.runs import runlog

TRAIN = TrainConfig(steps=600, eval_every=200, eval_episodes=2)


def test_a_peer_has_its_own_budget_and_our_evaluations() -> None:
    train = TrainConfig(episodes=5, max_episode_steps=20, stop_at_return=9.0, eval_every=300, eval_episodes=7)
    budget = peers.budget(peers.ZOO["CartPole-v1"], train)
    assert budget == TrainConfig(steps=50_000, eval_every=300, eval_episodes=7)


@pytest.mark.skipif(peer_installed(), reason="nothing is missing: Stable-Baselines3 is installed")
def test_a_peer_that_is_not_installed_is_answered_with_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingDependencyError, match="pip install stable-baselines3"):
        peers.zoo("CartPole-v1")
    with pytest.raises(SystemExit):
        main(["bench", "learning", "CartPole-v1", "--against", "sb3", "--out", str(tmp_path / "out")])
    assert "pip install stable-baselines3" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_environment_without_tuned_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match="not for Blackjack-v1"):
        peers.zoo("Blackjack-v1")


def test_a_peer_is_trained_evaluated_and_scored_like_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    tuned = replace(peers.ZOO["CartPole-v1"], learning_starts=100, train_freq=32, gradient_steps=4, n_timesteps=600)
    monkeypatch.setitem(peers.ZOO, "CartPole-v1", tuned)
    agent = DQNConfig(hidden=(4,), learning_starts=50, batch_size=8, buffer_size=600)
    arguments = {"seeds": range(2), "out": tmp_path / "out", "against": True, "quiet": True}
    said = report.benchmark("CartPole-v1", agent, TRAIN, **arguments)  # type: ignore[arg-type]
    assert not said.failures

    peer = tmp_path / "out" / "sb3"
    for seed in range(2):
        run = runlog.read(peer / f"seed-{seed}")
        assert (run.config["seed"], run.config["reward_threshold"]) == (seed, 475.0)
        assert run.config["agent"]["exploration_final_eps"] == 0.04
        steps = [evaluation.env_steps for evaluation in run.evaluations]
        ends = {episode.env_steps for episode in run.episodes}
        assert len(steps) == 3
        assert 200 <= steps[0] < 400 <= steps[1] < 600 <= steps[2]
        assert set(steps[:-1]) <= ends
        assert 600 <= steps[2] < 600 + 32
        assert [episode.env_steps - episode.length for episode in run.episodes][1:] == [
            episode.env_steps for episode in run.episodes[:-1]
        ]
        assert all(episode.reward == episode.length for episode in run.episodes)  # CartPole's reward is one a step
        seconds = [evaluation.seconds for evaluation in run.evaluations]
        assert 0 < seconds[0] < seconds[1] < seconds[2]
    ours, theirs = results.load(tmp_path / "out"), results.load(peer)
    assert said.content["peer"] == json.loads((peer / "scores.json").read_text())
    assert compare.table(compare.compare(ours, theirs, np.random.default_rng(0)), "Perilune", peers.NAME) in said.text

    before = {path: path.stat().st_mtime_ns for path in peer.rglob("evaluations.jsonl")}
    report.benchmark("CartPole-v1", agent, TRAIN, **arguments)  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in peer.rglob("evaluations.jsonl")} == before
