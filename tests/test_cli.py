"""The command line: commands, options, help and errors."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, fields
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import pytest
from matplotlib.image import imread
from PIL import Image

import perilune
from fixtures_runs import TinyRun, decode
from perilune import DQN, DQNConfig, TrainConfig
from perilune._utils.text import number
from perilune.cli import COMMANDS, main, parse, parser_of
from perilune.cli.parser import CommandLineError
from perilune.cli.settings import choose
from perilune.envs.known.presets import available, preset
from perilune.errors import ConfigError
from perilune.runs import failure, inspection, layout, lock, logs, telemetry
from perilune.viz import plots, video
from worlds import Numbered

TINY = ["--episodes", "3", "--max-episode-steps", "15", "--eval-episodes", "1", "--learning-starts", "30"]
TINY += ["--batch-size", "8", "--buffer-size", "300", "--hidden", "6", "5"]


class Ended(NamedTuple):
    """How a command ended and what it printed."""

    status: object
    out: str
    err: str


def call(*arguments: str) -> Ended:
    status: object = 0
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            main(arguments)
        except SystemExit as stop:
            status = stop.code
    return Ended(status, out.getvalue(), err.getvalue())


def done(*arguments: str) -> str:
    """Return the standard output of a command that succeeds."""
    ended = call(*arguments)
    assert ended.status == 0, ended.err
    return ended.out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """Return a run that the command line trained, and its output. Tests must not change the run."""
    run = tmp_path_factory.mktemp("cli") / "run"
    return run, call("train", "CartPole-v1", "--out", str(run), "--seed", "8", "--video-every", "2", *TINY)


# Commands


def test_train_writes_a_run_and_prints_a_summary(trained: tuple[Path, Ended]) -> None:
    run, ended = trained
    assert ended.status == 0
    read = logs.read_run(run)
    assert [episode.episode for episode in read.episodes] == [1, 2, 3]
    assert (read.config["seed"], read.config["agent"]["hidden"]) == (8, [6, 5])
    steps = 30 + sum(episode.length for episode in read.episodes)
    assert f"{steps} steps, 3 episodes, {steps - 30} updates." in ended.out
    assert "Not solved: no evaluation reached the threshold of 475." in ended.out
    best = next(evaluation for evaluation in reversed(read.evaluations) if evaluation.best)
    for name, score in (("final", read.evaluations[-1]), ("best ", best)):
        assert re.search(rf"  {name} +{number(score.mean_return)}   after {score.env_steps} steps", ended.out)
    for name in ("plots/curves.png", "videos/best.mp4"):
        assert f"{run / name}\n" in ended.out
    assert re.search(rf"2 training episodes +{run}/videos\n", ended.out)
    commands = re.findall(rf"^  perilune (\w+ {run} .*?) *# ", ended.out, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["evaluate", "watch", "report", "resume"]
    for command in commands:
        parse(command.split())
    first, second, *_ = ended.err.splitlines()
    assert first.startswith("perilune: training CartPole-v1 with the 'recommended' preset and hidden=(6, 5)")
    assert second.startswith("CartPole-v1, seed 8")  # the progress
    assert len(list((run / "videos").glob("*.mp4"))) == 3


def test_summary_reports_that_the_environment_is_solved(tmp_path: Path) -> None:
    gym.register("Solved-v0", entry_point=lambda: Numbered(lengths=(9,)), reward_threshold=-1e9)
    try:
        printed = done("train", "Solved-v0", "--quiet", "--out", str(tmp_path / "run"), *TINY)
        said = json.loads(done("resume", str(tmp_path / "run"), "--quiet", "--json"))
        again = call("resume", str(tmp_path / "run"), "--quiet")
    finally:
        del gym.registry["Solved-v0"]
    assert "Solved: the final score reaches the threshold of -1e+09." in printed
    assert "video" not in printed.partition("Next:")[0]  # the environment does not render
    assert said["solved"] is True
    assert (again.out, "has already reached its budget" in again.err) == ("", True)  # no summary of nothing


def test_run_that_stopped_at_a_return_names_the_command_that_uses_the_rest_of_its_budget(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    tiny = ("--learning-starts", "30", "--batch-size", "8", "--hidden", "6", "--eval-episodes", "1", "--quiet")
    printed = done("train", "CartPole-v1", "--steps", "600", "--eval-every", "100", "--stop-at-return", "1",
                   "--out", run, *tiny)  # fmt: skip
    assert "An evaluation reached stop_at_return=1, so training stopped." in printed
    (command,) = [line for line in printed.splitlines() if "# use the rest of the budget" in line]
    assert f"resume {run} --change stop_at_return=none" in command
    again = call("resume", run, "--quiet")
    assert "stopped at stop_at_return=1. To use the rest of its budget, pass --change stop_at_return=none." in again.err
    assert "Trained for 600 steps" in done("resume", run, "--change", "stop_at_return=none", "--quiet")
    assert "has already reached its budget" in call("resume", run, "--quiet").err


def test_train_command_learns_the_same_weights_as_the_python_call(trained: tuple[Path, Ended]) -> None:
    agent = DQN("CartPole-v1", seed=8, learning_starts=30, batch_size=8, buffer_size=300, hidden=(6, 5))
    agent.train(episodes=3, max_episode_steps=15, eval_episodes=1, quiet=True)
    final = DQN.load(trained[0] / "final.safetensors")
    assert final.agent.online.parameters.tobytes() == agent.agent.online.parameters.tobytes()
    assert final.config == agent.config


def test_settings_file_repeats_arguments_of_the_environment(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    board = "desc=" + json.dumps(["SF", "FG"])
    budget = ["--steps", "40", "--learning-starts", "20", "--hidden", "4", "--eval-episodes", "1", "--quiet"]
    done("train", "FrozenLake-v1", *budget, "--env-kwargs", board, "is_slippery=false", "--out", str(first))
    done("train", "--config", str(first / "settings.toml"), "--quiet", "--out", str(again))
    kwargs = tomllib.loads((again / "settings.toml").read_text())["env_kwargs"]
    assert (kwargs["desc"], kwargs["is_slippery"]) == (["SF", "FG"], False)
    assert (again / "final.safetensors").read_bytes() == (first / "final.safetensors").read_bytes()


def test_links_to_runs_are_not_followed(tiny_run: TinyRun, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    shutil.copytree(tiny_run.history.run.directory, victim)
    shutil.rmtree(victim / "plots", ignore_errors=True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "link").symlink_to(victim)
    for command in ("plot", "report"):
        assert call(command, str(tmp_path / "theirs")).status == 1
    assert "No runs in" in done("list", str(tmp_path / "theirs"))
    assert not (victim / "plots").exists()


def test_settings_file_repeats_the_run_and_options_override_it(trained: tuple[Path, Ended], tmp_path: Path) -> None:
    file = trained[0] / "settings.toml"
    assert set(tomllib.loads(file.read_text())["agent"]) == {field.name for field in fields(DQNConfig)}
    again = ["train", "--config", str(file), "--quiet", "--out", str(tmp_path / "again"), "--json"]
    said = json.loads(done(*again))
    assert (said["run"], said["episodes"], said["seed"]) == (str(tmp_path / "again"), 3, 8)
    for name in ("final.safetensors", "episodes.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (trained[0] / name).read_bytes()
    assert tomllib.loads((tmp_path / "again" / "settings.toml").read_text()) == tomllib.loads(file.read_text())
    assert f"perilune train --config {file}\n" in file.read_text()
    agent, train = configs("train", "--config", str(file), "--gamma", "0.5", "--max-grad-norm", "none")
    assert (agent.gamma, agent.max_grad_norm, agent.hidden, train.episodes) == (0.5, None, (6, 5), 3)


def test_quiet_json_prints_only_one_object(tmp_path: Path) -> None:
    ended = call("train", "CartPole-v1", "--out", str(tmp_path / "run"), "--json", "--quiet", *TINY)
    assert (ended.status, ended.err, ended.out.count("\n")) == (0, "", 1)
    said, run = json.loads(ended.out), logs.read_run(tmp_path / "run")
    assert (said["run"], said["environment"], said["seed"]) == (str(tmp_path / "run"), "CartPole-v1", 0)
    assert said["updates"] == said["env_steps"] - 30 > 0
    assert said["final"] == run.evaluations[-1]._asdict()
    assert said["best"]["mean_return"] == max(evaluation.mean_return for evaluation in run.evaluations)


def test_evaluate_json_has_the_scores_of_the_named_checkpoint(tiny_run: TinyRun, tmp_path: Path) -> None:
    agents = {"best": tiny_run.dqn, "final": DQN("CartPole-v1", hidden=(4,))}
    for which, dqn in agents.items():
        dqn.save(tmp_path / which)
    for which, dqn in agents.items():
        said = json.loads(done("evaluate", str(tmp_path), "--episodes", "3", "--checkpoint", which, "--json"))
        scored = dqn.evaluate(3)
        assert said == {
            "environment": "CartPole-v1", "checkpoint": which, "env_steps": dqn.agent.env_steps, "episodes": 3,
            "mean_return": scored.mean_return, "std_return": scored.std_return, "min_return": scored.min_return,
            "iqm_return": scored.iqm_return, "max_return": scored.max_return,
            "solved_mark": 475.0, "solved_share": scored.solved_share, "outcome_shares": scored.outcome_shares,
            "returns": list(scored.returns), "lengths": list(scored.lengths), "outcomes": list(scored.outcomes or ()),
        }  # fmt: skip


def test_evaluate_prints_scores_and_outcomes_of_a_weights_file(tiny_run: TinyRun) -> None:
    scored = DQN.load(tiny_run.history.run.directory).evaluate(4)
    file = str(tiny_run.history.run.directory / "best")  # the suffix may be omitted
    out = done("evaluate", file, "--episodes", "4")
    assert out.startswith(f"{file}, 4 greedy episodes\n")
    assert re.search(rf"mean return +{scored.mean_return:.2f}\n", out)
    for label, value in {"minimum": min(scored.returns), "maximum": max(scored.returns)}.items():
        assert re.search(rf"{label} +{value:.2f}\n", out)
    assert re.search(rf"interquartile mean +{sum(sorted(scored.returns)[1:3]) / 2:.2f}\n", out)
    for label, share in (scored.outcome_shares or {}).items():
        assert re.search(rf"{label} +{share:.0%}\n", out)
    said = json.loads(done("evaluate", file, "--episodes", "2", "--max-episode-steps", "3", "--json"))
    assert (said["lengths"], said["outcomes"]) == ([3, 3], ["balanced"] * 2)


def test_evaluate_reports_truncated_endless_episodes(tmp_path: Path) -> None:
    dqn = DQN("CliffWalking-v1", hidden=(2,))
    dqn.agent.online.parameters[:] = 0  # always up, which never ends the episode
    file = str(dqn.save(tmp_path / "cliff"))
    assert "1 of the episodes did not end and were truncated after 10,000 steps" in done(
        "evaluate", file, "--episodes", "1"
    )
    assert "did not end" not in done("evaluate", file, "--episodes", "1", "--max-episode-steps", "9")


def test_env_kwargs_are_passed_to_the_environment_and_checked(tmp_path: Path) -> None:
    run, kwargs = str(tmp_path / "run"), ["--env-kwargs", "sutton_barto_reward=True"]
    done("train", "CartPole-v1", "--out", run, "--quiet", *kwargs, *TINY)
    assert {episode.reward for episode in logs.read_run(Path(run)).episodes} <= {-1.0, 0.0}
    assert json.loads(done("evaluate", run, "--episodes", "1", "--json", *kwargs))["mean_return"] <= 0
    assert "with --env-kwargs" in call("evaluate", run, "--episodes", "1").err
    refused = call("resume", run, "--steps", "5")
    assert (refused.status, "sutton_barto_reward" in refused.err) == (1, True)
    assert call("train", "CartPole-v1", "--env-kwargs", "wind=1").status == 1


def test_video_records_from_a_run_or_a_weights_file(tiny_run: TinyRun, tmp_path: Path) -> None:
    directory = tiny_run.history.run.directory
    out = done("video", str(directory), "--out", str(tmp_path / "video.mp4"), "--episodes", "2")
    assert out.startswith(str(tmp_path / "video.mp4"))
    lengths = DQN.load(directory).evaluate(2).lengths
    assert len(decode(tmp_path / "video.mp4").frames) == sum(lengths) + 2
    weights = tiny_run.dqn.save(tmp_path / "mine")
    done("video", str(weights), "--max-episode-steps", "4")
    assert len(decode(tmp_path / "mine.mp4").frames) == 5


def test_video_writes_overlay_and_stages_into_the_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run.history.run.directory, run)
    path = run / "videos" / "best-overlay.mp4"
    out = done("video", str(run), "--overlay", "--max-episode-steps", "4")
    telemetry_path = telemetry.path_of(path)
    assert re.fullmatch(rf"{path}  \(\d+ kB, return 4\.0\)\n{telemetry_path}  \(telemetry: .*\)\n", out)
    assert len(telemetry.read(telemetry_path)) == len(decode(path).frames) == 5 + 50
    gif = run / "videos" / "stages.gif"
    ended = call("video", str(run), "--stages", "--max-episode-steps", "4", "--out", str(gif))
    assert ended.err == ""  # no progress, because the command is fast and has no terminal
    first, *rows = ended.out.splitlines()
    assert re.fullmatch(rf"{gif}  \(\d+ kB\)", first)
    titles = [title for title, _ in video.run_stages(run)]
    assert [row[2:26].rstrip() for row in rows] == titles
    with Image.open(gif) as animation:
        assert animation.width == len(titles) * 240 + (len(titles) - 1) * 3 - (len(titles) - 1) % 2
    layout.create(run, overwrite=True)  # removes what belongs to the run
    assert not (run / "videos").exists()


def test_plot_draws_each_run_once(tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    for name in ("config.json", "episodes.jsonl"):
        shutil.copy(tiny_run.history.run.directory / name, "run")
    assert done("plot", "run", ".", "run/../run").splitlines() == ["run/plots/curves.png", "run/plots/curves.svg"]
    assert imread("run/plots/curves.png").std() > 0.05
    shutil.copytree("run", "another")
    assert done("plot", "run", "another").splitlines() == ["curves.png", "curves.svg"]
    config = json.loads(Path("another/config.json").read_text())
    Path("another/config.json").write_text(json.dumps(config | {"environment": "Acrobot-v1"}))
    monkeypatch.setattr(plots, "MAX_ENVIRONMENTS", 1)
    assert done("plot", "run", "another").split() == ["curves.png", "curves.svg", "curves-2.png", "curves-2.svg"]
    (Path("another") / "episodes.jsonl").write_text('{"episode": 1,\n')
    stopped = call("plot", "another")
    assert (stopped.status, stopped.out) == (1, "")
    assert "another/episodes.jsonl, line 1," in stopped.err


def test_list_shows_runs_presets_and_environments(tiny_run: TinyRun) -> None:
    parent = tiny_run.history.run.directory.parent
    said = json.loads(done("list", str(parent), "--json"))
    (run,) = (run for run in said["runs"] if run["run"] == str(tiny_run.history.run.directory))
    about = {"environment": "CartPole-v1", "env_steps": tiny_run.dqn.agent.env_steps, "state": "finished"}
    assert about.items() <= run.items()
    assert said["presets"]["CartPole-v1"] == 40_000
    assert "LunarLander-v3" in said["environments"]
    assert "plain" in done("list", str(parent))


def test_list_shows_steps_and_state_of_an_interrupted_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run.history.run.directory, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    (run / "evaluations.jsonl").write_bytes(b"")
    steps = max(record.env_steps for record in (*tiny_run.history.run.episodes, *tiny_run.history.run.metrics))
    assert re.search(rf"{run} +CartPole-v1 +{steps} steps  interrupted +best -\n", done("list", str(tmp_path)))
    failure.write(run, ValueError("no reward"), steps)
    assert f"{steps} steps  failed" in done("list", str(tmp_path))
    with lock.acquire(run):
        assert f"{steps} steps  running" in done("list", str(tmp_path))
    (run / "config.json").write_text("{")
    assert "0 steps  unreadable" in done("list", str(tmp_path))


# Options

OPTIONS: dict[str, tuple[Sequence[str] | None, object]] = {
    # of TrainConfig
    "steps": (["9e3"], 9_000), "episodes": (["77"], 77), "max_episode_steps": (["5_00"], 500),
    "eval_every": (["None"], None), "eval_episodes": (["4"], 4), "stop_at_return": (["-12.5"], -12.5),
    "metrics_every": (["9"], 9), "video_every": (["20"], 20), "checkpoint_seconds": (["2.5"], 2.5),
    "keep_checkpoints": (["4"], 4), "num_envs": (["3"], 3), "workers": (["2"], 2), "envpool": ([], True),
    # of DQNConfig
    "hidden": (["32", "64", "tanh", "16"], (32, (64, "tanh"), 16)), "activation": (["tanh"], "tanh"),
    "noisy": ([], True), "dueling": ([], True), "mirror": ([], True), "layer_norm": (None, False),
    "initializer": (["glorot"], "glorot"), "huber_delta": (["2.5"], 2.5), "optimizer": (["sgd"], "sgd"),
    "learning_rate": (["3e-4"], 3e-4), "learning_rate_schedule": (["cosine"], "cosine"),
    "learning_rate_end": (["1e-6"], 1e-6), "learning_rate_decay_steps": (["11"], 11), "momentum": (["0.9"], 0.9),
    "weight_decay": (["0.5"], 0.5), "max_grad_norm": (["none"], None), "batch_size": (["32"], 32),
    "train_freq": (["4"], 4), "gamma": (["0.9"], 0.9), "n_step": (["2"], 2), "double": (None, False),
    "target_update_interval": (["1000"], 1_000), "tau": (["1"], 1.0), "buffer_size": (["4000"], 4_000),
    "learning_starts": (["400"], 400), "epsilon_start": (["0.8"], 0.8), "epsilon_end": (["0.2"], 0.2),
    "epsilon_decay_steps": (["300"], 300), "epsilon_decay": (["0.99"], 0.99),
    "epsilon_decay_per": (["update"], "update"), "max_action_repeat": (["8"], 8), "gradient_steps": (["2"], 2),
    "epochs": (["3"], 3), "munchausen_temperature": (["0.1"], 0.1), "munchausen_floor": (["-2e0"], -2.0),
    "ema_decay": (["0.99"], 0.99), "ema_acts": ([], True), "priority_beta": (["0.5"], 0.5),
    "priority_beta_steps": (["900"], 900), "atoms": (["21"], 21), "quantiles": (["8"], 8), "output_scale": (["5"], 5.0),
    "observation_scale": (["1", "0.5", "2e3"], (1.0, 0.5, 2_000.0)), "reward_scale": (["1e2"], 100.0),
}  # fmt: skip
HEADS: dict[str, dict[str, tuple[Sequence[str] | None, object]]] = {  # settings that exclude others
    "expected": {"head": (["expected"], "expected"), "loss": (["mse"], "mse"), "td_lambda": (["0.9"], 0.9)},
    "c51": {
        "head": (["c51"], "c51"), "value_range": (["-5e2", "300"], (-500.0, 300.0)), "munchausen": (["0.9"], 0.9),
    },
    "qr": {"optimism": (["0.25"], 0.25), "priority_alpha": (["0.6"], 0.6)},
}  # fmt: skip


def configs(*arguments: str) -> tuple[DQNConfig, TrainConfig]:
    return choose(parse(arguments)).configs()


def settings_of(*arguments: str) -> dict[str, Any]:
    agent, train = configs(*arguments)
    return asdict(train) | asdict(agent)


@pytest.mark.parametrize("head", HEADS)
def test_every_field_of_both_configs_is_an_option(head: str) -> None:
    assert set(OPTIONS).union(*HEADS.values()) == {
        field.name for cls in (TrainConfig, DQNConfig) for field in fields(cls)
    }
    options = OPTIONS | HEADS[head]
    arguments = ["train", "CartPole-v1", "--preset", "default"]
    for name, (values, _) in options.items():
        option = name.replace("_", "-")
        arguments += [f"--no-{option}"] if values is None else [f"--{option}", *values]
    made = settings_of(*arguments)
    defaults = asdict(available()["default"].agent) | asdict(available()["default"].train)
    assert made == defaults | {name: value for name, (_, value) in options.items()}
    assert not [name for name in options if made[name] == defaults[name]]  # each value differs from the default


@pytest.mark.parametrize("words", [["64", "32"], ["64,32"], ["6_4,3.2e1"]])
def test_options_accept_numbers_and_layers_in_several_formats(words: list[str]) -> None:
    agent, train = configs("train", "CartPole-v1", "--steps", "1e5", "--hidden", *words)
    assert (agent.hidden, train.steps) == ((64, 32), 100_000)
    assert configs("train", "CartPole-v1", "--steps", "15_000")[1].steps == 15_000


@pytest.mark.parametrize(
    ("arguments", "gamma"),
    [
        ("train", "0.99"),
        ("bench learning LunarLander-v3", "0.995"),
        ("train LunarLander-v3 --preset plain", "0.99"),
        ("bench learning --preset CartPole-v1 Taxi-v4", "0.995"),
        ("train LunarLander-v3 --preset fast", "0.99"),
        ("train LunarLander-v3 --gamma 0.98", "0.995"),
        ("train LunarLander-v3 --gamma much", "0.99"),
    ],
)
def test_help_shows_every_setting_with_the_preset_default(arguments: str, gamma: str) -> None:
    out = done(*arguments.split(), "--help")
    assert f"Discount factor per step (from 0 to 1). Default: {gamma}." in " ".join(out.split())
    assert all(f"--{name.replace('_', '-')}" in out for name in OPTIONS)
    assert out.index("--seed") < out.index("--steps") < out.index("--hidden") < out.index("--munchausen")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_is_listed_in_the_overview(command: str) -> None:
    assert f"  {command} " in done("--help")
    assert done(*command.split(), "-h").startswith(f"usage: perilune {command}")
    assert done("help", *command.split()) == done(*command.split(), "-h")
    assert done("help") == done("--help")


@pytest.mark.parametrize("name", [*sorted(available()), "fast", "none"])
def test_settings_start_from_the_named_preset(name: str) -> None:
    named = available() | {"fast": preset("Acrobot-v1", "fast")}
    agent, train = (DQNConfig(), preset("Acrobot-v1").train) if name == "none" else vars(named[name]).values()
    expected = asdict(agent) | asdict(train)
    for command in (["train"], ["bench", "learning"]):
        assert settings_of(*command, "Acrobot-v1", "--preset", name) == expected
        assert settings_of(*command, "Acrobot-v1", "--preset", name, "--gamma", "0.5") == expected | {"gamma": 0.5}
    if name not in ("plain", "fast", "none"):
        assert settings_of("train", "Taxi-v4" if name == "default" else name) == expected


# Errors

BAD = [
    (["train", "NoSuchEnv-v0"], 1, "'NoSuchEnv-v0' cannot be made", "for example LunarLander-v3"),
    (["train", "MountainCarContinuous-v0"], 1, "MountainCarContinuous-v0 has continuous actions", "Discrete"),
    (["train", "CartPole-v1", "--hidden", "0"], 1, "hidden=(0,)", "at least 1 unit"),
    (["train", "CartPole-v1", "--hidden", "64", "tahn"], 2, "--hidden: 'tahn' is invalid", "Did you mean tanh?"),
    (["train", "CartPole-v1", "--value-range", "1"], 2, "--value-range: '1' is invalid", "two numbers"),
    (["train", "CartPole-v1", "--gamma", "much"], 2, "--gamma: 'much' is invalid", "a number"),
    (["train", "CartPole-v1", "--steps", "1.5"], 2, "--steps: '1.5' is invalid", "a whole number"),
    (["train", "CartPole-v1", "--optimizer", "adagard"], 2, "'adagard' is invalid", "sgd, rmsprop, adam or adamw"),
    (["train", "CartPole-v1", "--optimism", "0.75", "--head", "expected"], 1, "optimism=0.75", "head='expected'"),
    (["train", "CartPole-v1", "--steps", "10"], 1, "steps=10", "at least 1001"),
    (["train", "CartPole-v1", "--steps", "None"], 1, "steps=None", "a budget: steps, episodes"),
    (["train", "CartPole-v1", "--preset", "nope"], 1, "preset='nope'", "one of recommended, fast, default, plain"),
    (["train", "CartPole-v1", "--gama", "3"], 2, "unknown option --gama", "Did you mean --gamma"),
    (["train", "CartPole-v1", "spare"], 2, "unknown argument spare", "perilune train --help"),
    (["train", "CartPole-v1", "--config", "{file}/a"], 1, "{file}/a cannot be read", ""),
    (["train", "CartPole-v1", "--config", "{other}/notes.txt"], 1, "{other}/notes.txt is not a settings file", ""),
    (["train", "CartPole-v1", "--env-kwargs", "wind"], 2, "'wind' is invalid", "expected NAME=VALUE"),
    (["train", "my_env.py"], 1, "expected an ID, not a file", "my_env:MyEnv-v0"),
    (["train", "a:b:c"], 1, "'a:b:c' cannot be made", "expected an ID"),
    (["train", ":b"], 1, "':b' cannot be made", "expected an ID"),
    (["train", "CartPole-v1", "--seed", "9223372036854775808"], 1, "seed=9223372036854775808", "from 0 to 92233"),
    (["train", "--config", "{other}/deep.toml"], 1, "{other}/deep.toml is not a settings file", ""),
    (["train", "--config", "{other}/digits.toml"], 1, "{other}/digits.toml is not a settings file", ""),
    (["plot", "{other}/loop"], 1, "{other}/loop is not a run: it does not exist", ""),
    (["train"], 2, "ENV is missing", "the ID of a Gymnasium environment"),
    (["play"], 2, "ENV is missing: ID of a Gymnasium environment", "--help"),
    (["train", "CartPole-v1", "--lr", "0.1"], 2, "unknown option --lr", "Did you mean --learning-rate?"),
    (["train", "CartPole-v1", "--out", "{file}/run"], 1, "{file}/run cannot be written", "Choose another"),
    (["train", "CartPole-v1", "--out", "{run}"], 1, "{run}' already exists", "--overwrite"),
    (["train", "CartPole-v1", "--out", "{other}"], 1, "{other} holds files", "empty directory"),
    (["evaluate"], 2, "RUN_OR_FILE is missing: run directory, .safetensors file", "--help"),
    (["train", "nowhere:Foo-v0"], 1, "no module 'nowhere'", "environment variable PYTHONPATH"),
    (["train", "{file}"], 1, "{file}' cannot be made", "expected an ID, such as LunarLander-v3"),
    (["evaluate", "{run}", "--env", "a", "--env", "b"], 2, "--env is given 2 times", "allowed once"),
    (["evaluate", "ferry:Ferry-v0"], 1, "ferry:Ferry-v0 does not exist", "expected a run directory"),
    (["evaluate", "{empty}"], 1, "{empty} is not a run", "it has no config.json. Pass a run directory"),
    (["resume", "{run}", "--steps", "9", "--change", "steps=20"], 1, "change steps=20", "--steps 9"),
    (["resume", "{run}", "--env", "LunarLander-v3"], 1, "env='LunarLander-v3'", "CartPole-v1, the environment"),
    (["resume", "{run}", "--change", "learning_rat=0.9"], 1, "learning_rat=0.9", "Did you mean"),
    (["video", "{run}", "--out", "{file}/video.mp4"], 1, "{file}/video.mp4 cannot be written", ""),
    (["video", "{run}", "--out", "{empty}/video.avi"], 1, "{empty}/video.avi' is invalid", ".mp4 or .gif"),
    (["video", "{run}/best.safetensors", "--stages"], 1, "best.safetensors' is invalid", "a run directory"),
    (["video", "{run}", "--stages", "--episodes", "2"], 1, "episodes=2", "1 with --stages"),
    (["plot"], 1, "no run was given", "perilune plot runs"),
    (["plot", "{empty}"], 1, "{empty} is not a run", "config.json"),
    (["plot", "{empty}", "--out", "many.png"], 1, "many.png", "a directory, for curves.png and curves.svg"),
    (["report", "{run}", "--out", "{file}/report.html"], 1, "{file}/report.html cannot be written", ""),
    (["bench", "learning", "CartPole-v1", "--seeds", "0"], 1, "seeds=0", ">= 1"),
    (["train", "CartPole-v1", "--jobs", "2"], 1, "--jobs requires --seeds", "--num-envs N --workers N"),
    (["train", "CartPole-v1", "--cluster", "auto"], 1, "--cluster requires --seeds", "--workers N"),
    (["train", "CartPole-v1", "--seeds", "2", "--overwrite"], 1, "--overwrite cannot be combined", "--seeds"),
    (["train", "CartPole-v1", "--seeds", "2", "--seed", "-1"], 1, "seed=-1", ">= 0"),
    (["train", "CartPole-v1", "--seeds", "2", "--env-kwargs", "a=1"], 1, "env_kwargs=", "Register"),
    (["list", "{file}"], 1, "{file} cannot be accessed", "Not a directory"),
    (["bench", "compare", "{empty}", "{empty}"], 1, "{empty} has no scores.json", "`perilune bench learning`"),
    (["bench", "lerning"], 2, "unknown command 'bench lerning'", "Did you mean bench learning"),
    (["train", "{run}"], 1, "or `perilune resume {run}` to resume this run.", "the ID of an environment"),
    (["train", "Taxi-v4", "--preset", "lunarlander-v3"], 1, "'lunarlander-v3'", "or none. Did you mean LunarLander-v3"),
    (["train", "CartPole-v1", "--max-grad-norm", "-1"], 1, "max_grad_norm=-1.0", "a number > 0, or none."),
    (["evaluate", "{run}", "--max-episode-steps", "0"], 2, "--max-episode-steps: '0'", "a whole number >= 1. See"),
    (["train", "CartPole-v1", "--", "--steps", "5"], 2, "--steps is not read as an option", "follows --. Remove --"),
    (["plot", "{run}", "--out", "x.jpgg"], 1, "out='x.jpgg'", "a directory, for curves.png and curves.svg"),
    (["maps", "{run}", "--out", "x.pdf"], 1, "out='x.pdf'", "a directory, for values.png"),
    (["trian"], 2, "unknown command 'trian'", "Did you mean train?"),
    ([], 2, "no command was given", "perilune --help"),
    (["--print-completion", "tcsh"], 2, "no completion for 'tcsh'", "bash, zsh or fish"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "wrong", "allowed"), BAD, ids=[" ".join(bad[0]) for bad in BAD])
def test_error_states_given_and_allowed_values_in_one_line(
    tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    status: int,
    wrong: str,
    allowed: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"run": tiny_run.history.run.directory} | {name: tmp_path / name for name in ("file", "empty", "other")}
    places["file"].touch()
    places["empty"].mkdir()
    places["other"].mkdir()
    (places["other"] / "notes.txt").write_text("= not TOML")
    (places["other"] / "deep.toml").write_text("x = " + "[" * 900)
    (places["other"] / "digits.toml").write_text("seed = " + "9" * 5_000)
    (places["other"] / "loop").symlink_to(places["other"] / "loop")
    before = sorted(tmp_path.rglob("*"))

    stopped = call(*(argument.format(**places) for argument in arguments))

    assert (stopped.status, stopped.out) == (status, "")
    assert wrong.format(**places) in stopped.err
    assert allowed in stopped.err
    assert stopped.err.count("\n") == 1
    assert stopped.err.startswith("perilune")
    assert sorted(tmp_path.rglob("*")) == before


ODD_NUMBERS = ("0", "-1", "nan", "1e400")
ARGUMENTS = {"train": ["CartPole-v1"], "bench learning": ["CartPole-v1"], "play": ["CartPole-v1"], "watch": ["{file}"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_odd_paths_and_numbers_give_a_clear_result(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    run, file, locked = tiny_run.history.run.directory, tmp_path / "file", tmp_path / "locked"
    file.touch()
    locked.mkdir(0)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    out = str(file / "x") + (".html" if command == "report" else ".mp4" if command == "video" else "")
    nowhere = ["--out", out] if "--out" in parser_of(command).options else []  # cannot be written
    calls = [
        [*command.split(), place, *nowhere, *(["--port", "-1"] if command == "watch" else [])]
        for place in (".", "..", "" if command == "list" else "/", "", str(file), str(locked))
        if command not in ("bench speed", "bench doctor")  # have no path
    ]
    given = [word.format(file=file) for word in ARGUMENTS.get(command, [str(run)])]
    numbers = [name for name, how in COMMANDS[command].options if how.get("metavar") in ("N", "X", "SECONDS")]
    if command not in ("bench speed", "bench doctor", "doctor"):  # some of these numbers are valid, and run for long
        calls += [[*command.split(), *given, *nowhere, name, word] for name in numbers for word in ODD_NUMBERS]
    with without_rights():
        for words in calls:
            ended = call(*words)  # a traceback fails the test
            assert ended.status in ((0, 1, 2) if command == "list" else (1, 2)), words
            assert "Errno" not in ended.err, words
    locked.chmod(0o700)


def test_odd_numbers_of_settings_are_valid_or_refused_by_name() -> None:
    parser = parser_of("train")
    for name in (field.name for cls in (TrainConfig, DQNConfig) for field in fields(cls)):
        for word in ODD_NUMBERS:
            option = f"--{name.replace('_', '-')}"
            with suppress(CommandLineError):
                try:
                    choose(parser.read(["CartPole-v1", option, word])).configs()
                except ConfigError as error:
                    assert name in str(error)  # noqa: PT017 -- valid values raise nothing


@contextmanager
def without_rights() -> Iterator[None]:
    """Apply file permissions to root too, as to every other user."""
    library = ctypes.CDLL(None)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    library.capget(header, data)
    effective = data[0]
    data[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    library.capset(header, data)
    yield
    data[0] = effective
    library.capset(header, data)


# In a subprocess


def test_training_completes_with_closed_output_and_no_display(tmp_path: Path) -> None:
    environment = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"), "")
    run = tmp_path / "run"
    words = [sys.executable, "-m", "perilune", "train", "CartPole-v1", "--out", str(run), "--quiet", *TINY]
    command = ["sh", "-c", '"$@" >&- 2>&-', "sh", *words]
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)  # noqa: S603
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (run / "videos" / "best.mp4").exists()
    assert all(finding.fault is None for finding in inspection.verify(run))


def test_help_imports_neither_gymnasium_nor_matplotlib() -> None:
    code = "import sys; from perilune.cli import main; main(['--help']); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 -- trusted arguments
    assert ended.stdout.startswith("usage: perilune")
    assert not {"gymnasium", "matplotlib", "safetensors"} & set(ended.stdout.split())


def test_closed_pipe_is_not_an_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "perilune", "--version"]
    ended = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    os.close(writes)
    assert ended.stderr == ""
    assert done("--version") == f"perilune {perilune.__version__}\n"
    assert perilune.__version__ == metadata.version("perilune")


def test_shell_completion_suggests_commands_and_options() -> None:
    assert "-l munchausen-floor" in done("--print-completion", "fish")
    script = done("--print-completion", "bash")
    assert done("--print-completion", "zsh").endswith(script)
    for words, expected in ((["perilune", "tr"], "train"), (["perilune", "evaluate", "--ep"], "--episodes")):
        typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _perilune; echo ${{COMPREPLY[@]}}"
        printed = subprocess.run(["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True, check=True)  # noqa: S603, S607
        assert printed.stdout.split() == [expected]


INTERRUPTED_IMPORT = """
import os, runpy, signal, sys

module = sys.argv.pop(1)

class Finder:
    def find_spec(name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
runpy.run_module("perilune", run_name="__main__")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no os.kill for SIGINT")
def test_interrupt_during_imports_prints_nothing() -> None:
    for module in ("perilune.cli", "numpy", "gymnasium"):
        command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, "list"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", ""), module
