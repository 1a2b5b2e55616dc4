"""Stable-Baselines3, measured like Perilune."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import peers
from benchmarks.peers import cleanrl, sb3

from perilune import DQNConfig, TrainConfig, bench
from perilune.bench import learning, results, speed
from perilune.cli import main
from perilune.errors import ConfigError, MissingDependencyError
from perilune.nn.backend import installed
from perilune.runs import logs
from perilune.viz import terminal

INSTALLED = importlib.util.find_spec("stable_baselines3") is not None


def test_peer_keeps_its_tuned_budget_and_the_same_evaluations() -> None:
    train = TrainConfig(episodes=5, max_episode_steps=20, stop_at_return=9.0, eval_every=300, eval_episodes=7)
    budget = peers.budget(sb3.ZOO["CartPole-v1"], train)
    assert budget == TrainConfig(steps=50_000, eval_every=300, eval_episodes=7)


@pytest.mark.parametrize(
    ("clone", "advice"),
    [
        (True, "pip install stable-baselines3"),
        (False, "--against sb3 requires the benchmarks/ directory of the repository"),
    ],
)
@pytest.mark.skipif(INSTALLED, reason="needs an environment without Stable-Baselines3")
def test_missing_stable_baselines3_error_names_the_install_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clone: bool, advice: str
) -> None:
    if not clone:
        monkeypatch.setattr(bench, "__file__", str(tmp_path / "lib" / "site-packages" / "perilune" / "bench" / "x.py"))
    with pytest.raises(SystemExit):
        main(["bench", "learning", "CartPole-v1", "--against", "sb3", "--out", str(tmp_path / "out")])
    assert advice in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_environment_without_tuned_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match="not Blackjack-v1"):
        sb3.settings("sb3", "Blackjack-v1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sb4", "against='sb4' is invalid: expected names from sb3, sbx, cleanrl"),
        ("sb3,", "against='sb3,' is invalid"),
        ("cleanrl-dqm", "Did you mean cleanrl-dqn"),
    ],
)
def test_unknown_peer_is_refused(given: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3, "check_installed", lambda name: None)
    with pytest.raises(ConfigError, match=message):
        peers.find(given, "CartPole-v1")


def test_cleanrl_stands_for_its_three_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3, "check_installed", lambda name: None)
    monkeypatch.setattr(cleanrl, "settings", lambda name: cleanrl.Script(script=cleanrl.SCRIPTS[name]))
    found = peers.find("sbx, cleanrl", "CartPole-v1")
    assert list(found) == ["sbx", "cleanrl-dqn", "cleanrl-dqn-jax", "cleanrl-pqn"]
    assert [peers.title(name) for name in found] == ["sbx", "CleanRL dqn", "CleanRL dqn-jax", "CleanRL pqn"]
    assert {peer.n_timesteps for peer in found.values()} == {50_000, 500_000}


def test_speed_command_prints_what_it_measures(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = speed.update_speed
    monkeypatch.setattr(speed, "update_speed", lambda *args: measure(*args, pairs=1, calls=1))
    plain, preset = "hidden 64,64", "recommended preset"
    monkeypatch.setattr(speed, "UPDATES", {name: speed.UPDATES[name] for name in (plain, preset)})
    monkeypatch.setattr(sb3, "training_speed", lambda steps: sb3.TrainingSpeed(10.0, 30.0, steps / 100))
    main(["bench", "speed", "--steps", "300"])
    lines = capfd.readouterr().out.splitlines()
    measured = [f"update, {name}, {backend}: " for name in (plain, preset) for backend in installed()]
    for line, start in zip(lines[:-1], measured, strict=True):
        assert line.startswith(start)
    last = "training LunarLander-v3 per step: 10 us, Stable-Baselines3 30 us, 3.0 times faster" if INSTALLED else "not"
    assert lines[-1].startswith(last)
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.0)
    main(["bench", "speed", "--json"])
    output = capfd.readouterr()
    assert output.err.splitlines() == ["perilune: measuring   33%", "perilune: measuring   67%"]
    printed = json.loads(output.out)["results"]
    assert set(printed[0]) == {"update", "backend", "floor_us", "update_us", "ratio"}
    assert len(printed) == len(measured) + INSTALLED


@pytest.mark.skipif(not INSTALLED, reason="needs Stable-Baselines3")
def test_peer_is_trained_evaluated_and_scored_like_perilune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = replace(sb3.ZOO["CartPole-v1"], learning_starts=100, train_freq=32, gradient_steps=4, n_timesteps=600)
    monkeypatch.setitem(sb3.ZOO, "CartPole-v1", tuned)
    agent = DQNConfig(hidden=(4,), learning_starts=50, batch_size=8, buffer_size=600)
    train = TrainConfig(steps=600, eval_every=200, eval_episodes=2)
    arguments: dict[str, Any] = {"seeds": range(2), "out": tmp_path / "out", "against": "sb3", "quiet": True}
    report = learning.benchmark("CartPole-v1", agent, train, **arguments)
    assert not report.failures

    peer = tmp_path / "out" / "sb3"
    for seed in range(2):
        run = logs.read_run(peer / f"seed-{seed}")
        assert (run.config["seed"], run.config["reward_threshold"]) == (seed, 475.0)
        assert run.config["agent"]["exploration_final_eps"] == 0.04
        steps = [evaluation.env_steps for evaluation in run.evaluations]
        ends = [episode.env_steps for episode in run.episodes]
        assert len(steps) == 3
        assert 200 <= steps[0] < 400 <= steps[1] < 600 <= steps[2] < 600 + 32
        assert set(steps[:-1]) <= set(ends)
        assert [episode.env_steps - episode.length for episode in run.episodes][1:] == ends[:-1]
        assert all(episode.reward == episode.length for episode in run.episodes)  # CartPole's reward is 1 per step
        seconds = [evaluation.seconds for evaluation in run.evaluations]
        assert 0 < seconds[0] < seconds[1] < seconds[2]
    ours, theirs = results.load(tmp_path / "out"), results.load(peer)
    assert report.content["peers"]["sb3"] == json.loads((peer / "scores.json").read_text())
    comparison = results.compare(ours, theirs, np.random.default_rng(0))
    assert results.comparison_table(comparison, "Perilune", sb3.NAME) in report.text

    before = {path: path.stat().st_mtime_ns for path in peer.rglob("evaluations.jsonl")}
    learning.benchmark("CartPole-v1", agent, train, **arguments)
    assert {path: path.stat().st_mtime_ns for path in peer.rglob("evaluations.jsonl")} == before


@pytest.mark.filterwarnings("ignore")  # the libraries give warnings of their own
@pytest.mark.parametrize("name", [name for name in peers.NAMES if name not in peers.GROUPS])
def test_run_of_a_peer_is_recorded(tmp_path: Path, name: str) -> None:
    try:
        peer: Any = peers.find(name, "CartPole-v1")[name]
    except MissingDependencyError as error:
        pytest.skip(str(error))
    small_peer = replace(peer, n_timesteps=2_048)
    train = peers.budget(small_peer, TrainConfig(steps=1, eval_every=600, eval_episodes=2))
    final, best = small_peer.train_and_score("CartPole-v1", train, 3, tmp_path / "run", 4)
    run = logs.read_run(tmp_path / "run")
    assert (run.config["seed"], run.config["train"]["steps"]) == (3, 2_048)
    steps = [evaluation.env_steps for evaluation in run.evaluations]
    assert 600 <= steps[0] < 1_200 <= steps[1] < 1_800 <= steps[2] < steps[3]
    assert 2_048 <= steps[3] < 2_048 + 256  # Stable-Baselines3 completes its last rollout
    assert all(episode.reward == episode.length for episode in run.episodes)  # CartPole's reward is 1 per step
    times = [evaluation.cpu_seconds or 0.0 for evaluation in run.evaluations]
    assert 0 < times[0] < times[1] < times[2] < times[3]
    assert 1 <= final <= 500
    assert 1 <= best <= 500
