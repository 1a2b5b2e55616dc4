"""The command line: what people type, and what they read when it was wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from matplotlib.image import imread
from PIL import Image

import perilune
from fixtures_runs import TinyRun, decode
from perilune import DQN, DQNConfig, TrainConfig
from perilune.agent.config import build
from perilune.cli import main, parse
from perilune.cli.bench import Bench, BenchLearning
from perilune.cli.options import chosen
from perilune.cli.training import Train
from perilune.envs.known.presets import PRESETS, preset
from perilune.runs import inspection, runlog, telemetry
from perilune.viz import stages

TINY = ["--episodes", "3", "--max-episode-steps", "15", "--eval-episodes", "1", "--learning-starts", "30"]
TINY += ["--batch-size", "8", "--buffer-size", "300", "--hidden", "6", "5"]


class Ended(NamedTuple):
    """How a command ended and what it said."""

    status: object
    out: str
    err: str


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    capfd.readouterr()
    try:
        main(arguments)
        status: object = 0
    except SystemExit as stop:
        status = stop.code
    return Ended(status, *capfd.readouterr())


def done(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Standard output and standard error of a command that succeeds."""
    status, out, err = call(capfd, *arguments)
    assert status == 0, err
    return out, err


# What it does


def test_train_leaves_a_run_and_says_where(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--seed", "5", "--video-every", "2"]
    out, err = done(capfd, "train", "CartPole-v1", "--out", str(tmp_path / "run"), *options, *TINY)
    run = runlog.read(tmp_path / "run")
    assert [episode.episode for episode in run.episodes] == [1, 2, 3]
    assert (run.config["seed"], run.config["agent"]["hidden"]) == (5, [6, 5])
    steps = 30 + sum(episode.length for episode in run.episodes)
    assert f"{steps} steps, 3 episodes, {steps - 30} updates." in out
    for name in ("plots/curves.png", "videos/best.mp4", "initial_state.png"):
        assert str(tmp_path / "run" / name) in out
    assert f"perilune evaluate {tmp_path / 'run'}" in out
    assert err.startswith("CartPole-v1, seed 5")  # the progress
    assert len(list((tmp_path / "run" / "videos").glob("*.mp4"))) == 3


def test_what_it_trains_is_what_python_trains(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--seed", "8", "--quiet"]
    done(capfd, "train", "CartPole-v1", "--out", str(tmp_path / "a"), *options, *TINY)
    settings: dict[str, Any] = {"learning_starts": 30, "batch_size": 8, "buffer_size": 300, "hidden": (6, 5)}
    budget = replace(preset("CartPole-v1").train, episodes=3, max_episode_steps=15, eval_episodes=1)
    DQN("CartPole-v1", seed=8, **settings).train(budget, run_dir=tmp_path / "b", quiet=True, pictures=False)
    for name in ("final.safetensors", "episodes.jsonl", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_quiet_shows_no_progress(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, err = done(capfd, "train", "CartPole-v1", "--out", str(tmp_path / "run"), "--quiet", *TINY)
    assert err == ""


def test_train_as_json_is_one_object_and_nothing_else(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, _ = done(capfd, "train", "CartPole-v1", "--out", str(tmp_path / "run"), "--json", *TINY)
    assert out.count("\n") == 1
    said = json.loads(out)
    run = runlog.read(tmp_path / "run")
    assert (said["run"], said["environment"], said["seed"], said["episodes"]) == (
        str(tmp_path / "run"),
        "CartPole-v1",
        0,
        3,
    )
    assert said["updates"] == said["env_steps"] - 30 > 0
    assert said["final"] == run.evaluations[-1]._asdict()
    assert said["best"]["mean_return"] == max(evaluation.mean_return for evaluation in run.evaluations)


def test_evaluate_scores_the_checkpoint_that_is_asked_for(
    capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path
) -> None:
    agents = {"best": tiny_run.dqn, "final": DQN("CartPole-v1", hidden=(4,))}
    for which, dqn in agents.items():
        dqn.save(tmp_path / which)
    for which, dqn in agents.items():
        out, err = done(capfd, "evaluate", str(tmp_path), "--episodes", "3", "--checkpoint", which, "--json")
        assert (out.count("\n"), err) == (1, "")
        said = json.loads(out)
        scored = dqn.evaluate(3)
        assert (said["returns"], said["lengths"]) == (list(scored.returns), list(scored.lengths))
        assert (said["mean_return"], said["min_return"]) == (scored.mean_return, scored.min_return)
        assert (said["checkpoint"], said["episodes"], said["reward_threshold"]) == (which, 3, 475.0)
        assert said["env_steps"] == dqn.agent.env_steps


def test_evaluate_tells_people_the_same(capfd: pytest.CaptureFixture[str], tiny_run: TinyRun) -> None:
    scored = DQN.load(tiny_run.history.directory).evaluate(4)
    file = str(tiny_run.history.directory / "best.safetensors")
    out, _ = done(capfd, "evaluate", file, "--episodes", "4")
    assert out.startswith(f"{file}, 4 greedy episodes\n")
    assert re.search(rf"mean return +{scored.mean_return:.2f}\n", out)
    assert re.search(rf"minimum +{scored.min_return:.2f}\n", out)
    for label, share in (scored.outcome_shares or {}).items():
        assert re.search(rf"{label} +{share:.0%}\n", out)


def test_evaluate_names_what_the_episodes_came_to_and_their_shares(
    capfd: pytest.CaptureFixture[str], tiny_run: TinyRun
) -> None:
    arguments = ["evaluate", str(tiny_run.history.directory), "--episodes", "4", "--json"]
    said = json.loads(done(capfd, *arguments)[0])
    assert len(said["outcomes"]) == 4
    assert list(said["outcome_shares"]) == ["balanced", "fell", "left the track"]
    assert said["outcome_shares"]["fell"] == said["outcomes"].count("fell") / 4 > 0

    said = json.loads(done(capfd, *arguments, "--max-episode-steps", "3")[0])
    assert said["outcomes"] == ["balanced"] * 4
    assert said["outcome_shares"] == {"balanced": 1.0, "fell": 0.0, "left the track": 0.0}


def test_an_evaluation_can_be_cut_short(capfd: pytest.CaptureFixture[str], tiny_run: TinyRun) -> None:
    arguments = ["evaluate", str(tiny_run.history.directory), "--episodes", "2", "--max-episode-steps", "5", "--json"]
    assert json.loads(done(capfd, *arguments)[0])["lengths"] == [5, 5]


def test_video_films_a_run_or_a_file(capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path) -> None:
    directory = tiny_run.history.directory
    out, _ = done(capfd, "video", str(directory), "--out", str(tmp_path / "film.mp4"), "--episodes", "2")
    assert out.startswith(str(tmp_path / "film.mp4"))
    lengths = DQN.load(directory).evaluate(2).lengths
    assert len(decode(tmp_path / "film.mp4").frames) == sum(lengths) + 2
    weights = tiny_run.dqn.save(tmp_path / "mine")
    done(capfd, "video", str(weights), "--max-episode-steps", "4")
    assert len(decode(tmp_path / "mine.mp4").frames) == 5


def test_video_shows_what_the_agent_thinks_and_says_how_large_it_is(
    capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run.history.directory, run)
    before = (run / "videos" / "best.mp4").read_bytes()
    out, _ = done(capfd, "video", str(run), "--overlay", "--max-episode-steps", "4")
    path = run / "videos" / "best-overlay.mp4"
    assert re.fullmatch(rf"{path}  \(\d+ kB, return 4\.0\)\n", out)
    film = decode(path)
    assert film.height > 500  # of which 400 are the picture
    assert len(telemetry.read(telemetry.path_of(path))) == len(film.frames) == 5 + 50
    assert (run / "videos" / "best.mp4").read_bytes() == before
    done(capfd, "video", str(run), "--stages", "--max-episode-steps", "4")
    assert (run / "videos" / "stages.mp4").exists()
    runlog.create(run, overwrite=True)  # all of it is the run's, and goes with it
    assert not (run / "videos").exists()


def test_video_shows_the_stages_of_a_run(capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    out, err = done(capfd, "video", str(tiny_run.history.directory), "--stages", "--overlay", "--out", str(path))
    assert err == f"perilune: filming stages of {tiny_run.history.directory}\n"  # where no terminal is
    first, *rows = out.splitlines()
    assert re.fullmatch(rf"{path}  \(\d+ kB\)", first)
    titles = [title for title, _ in stages.chosen(tiny_run.history.directory)]
    assert [row[2:26].rstrip() for row in rows] == titles
    assert titles[0] == "0 steps"
    returns = [DQN.load(where).evaluate(1).returns[0] for _, where in stages.chosen(tiny_run.history.directory)]
    assert [float(row[26:35]) for row in rows] == returns
    with Image.open(path) as animation:
        assert animation.width == len(titles) * 240 + (len(titles) - 1) * 3 - (len(titles) - 1) % 2


def test_plot_draws_one_run_into_its_own_directory(
    capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "episodes.jsonl"):
        (run / name).write_bytes((tiny_run.history.directory / name).read_bytes())
    out, _ = done(capfd, "plot", str(run))
    assert out.splitlines() == [str(run / "plots" / "curves.png"), str(run / "plots" / "curves.svg")]
    assert imread(run / "plots" / "curves.png").std() > 0.05


def test_plot_draws_several_runs_into_one_picture(
    capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory, another = str(tiny_run.history.directory), str(tmp_path / "another")
    shutil.copytree(directory, another)
    assert done(capfd, "plot", directory, another)[0].splitlines() == ["curves.png", "curves.svg"]
    done(capfd, "plot", directory, another, "--out", "elsewhere")
    assert (tmp_path / "elsewhere" / "curves.svg").stat().st_size > 10_000


def test_a_run_that_is_given_twice_is_one_run(
    capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_run.history.directory, "run")
    assert done(capfd, "plot", "run", ".", "run/../run")[0].splitlines() == [
        "run/plots/curves.png",
        "run/plots/curves.svg",
    ]


def test_an_environment_of_numbered_states_goes_all_the_way(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    done(capfd, "train", "CliffWalking-v1", "--out", run, "--quiet", *TINY)
    said = json.loads(done(capfd, "evaluate", run, "--episodes", "2", "--max-episode-steps", "9", "--json")[0])
    assert (said["environment"], said["lengths"]) == ("CliffWalking-v1", [9, 9])  # the goal is 13 steps away
    assert (said["outcomes"], said["outcome_shares"]) == (None, None)  # which have no names there
    done(capfd, "video", run, "--max-episode-steps", "4", "--out", str(tmp_path / "film.mp4"))
    assert len(decode(tmp_path / "film.mp4").frames) == 5


def test_episodes_that_nobody_would_end_are_told(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    dqn = DQN("CliffWalking-v1", hidden=(2,))
    dqn.agent.online.parameters[:] = 0  # always up, into the wall
    file = str(dqn.save(tmp_path / "cliff"))
    out, _ = done(capfd, "evaluate", file, "--episodes", "1")
    assert out.endswith("  1 went on without end and were cut off after 10,000 steps\n")
    out, _ = done(capfd, "evaluate", file, "--episodes", "1", "--max-episode-steps", "9")
    assert "without end" not in out


def test_a_budget_that_ends_before_epsilon_is_told(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = "Epsilon was still 0.85 at the end; how long its way down is, is a setting."
    options = ["--epsilon-start", "0.9", "--epsilon-decay-steps", "1000", "--epsilon-end", "0.4", *TINY]
    budget = ["--episodes", "None", "--steps", "130", "--quiet"]
    out, _ = done(capfd, "train", "CartPole-v1", "--out", str(tmp_path / "short"), *options, *budget)
    assert said in out
    budget += ["--epsilon-decay-steps", "100"]
    out, _ = done(capfd, "train", "CartPole-v1", "--out", str(tmp_path / "long"), *options, *budget)
    assert "Epsilon" not in out


# Options are settings

OPTIONS: dict[str, tuple[Sequence[str] | None, object]] = {
    # of TrainConfig
    "steps": (["9000"], 9_000), "episodes": (["77"], 77), "max_episode_steps": (["500"], 500),
    "eval_every": (["None"], None), "eval_episodes": (["4"], 4), "stop_at_return": (["-12.5"], -12.5),
    "metrics_every": (["9"], 9), "video_every": (["20"], 20), "checkpoint_seconds": (["2.5"], 2.5),
    "keep_checkpoints": (["4"], 4),
    "num_envs": (["3"], 3),
    # of DQNConfig
    "hidden": (["32", "64", "tanh", "16"], (32, (64, "tanh"), 16)), "activation": (["tanh"], "tanh"),
    "noisy": ([], True), "dueling": ([], True), "mirror": ([], True), "layer_norm": (None, False),
    "initializer": (["glorot"], "glorot"),
    "huber_delta": (["2.5"], 2.5), "optimizer": (["sgd"], "sgd"), "learning_rate": (["3e-4"], 3e-4),
    "learning_rate_schedule": (["cosine"], "cosine"), "learning_rate_end": (["1e-6"], 1e-6),
    "learning_rate_decay_steps": (["11"], 11), "momentum": (["0.9"], 0.9), "weight_decay": (["0.5"], 0.5),
    "max_grad_norm": (["None"], None), "batch_size": (["32"], 32), "train_freq": (["4"], 4), "gamma": (["0.9"], 0.9),
    "n_step": (["2"], 2), "double": (None, False), "target_update_interval": (["1000"], 1_000), "tau": (["1"], 1.0),
    "buffer_size": (["4000"], 4_000), "learning_starts": (["400"], 400), "epsilon_start": (["0.8"], 0.8),
    "epsilon_end": (["0.2"], 0.2), "epsilon_decay_steps": (["300"], 300), "epsilon_decay": (["0.99"], 0.99),
    "epsilon_decay_per": (["update"], "update"), "max_action_repeat": (["8"], 8), "gradient_steps": (["2"], 2),
    "munchausen": (["0.9"], 0.9), "munchausen_temperature": (["0.1"], 0.1), "munchausen_floor": (["-2"], -2.0),
    "ema_decay": (["0.99"], 0.99), "ema_acts": ([], True), "priority_alpha": (["0.6"], 0.6),
    "priority_beta": (["0.5"], 0.5), "priority_beta_steps": (["900"], 900), "atoms": (["21"], 21),
    "quantiles": (["8"], 8),
}  # fmt: skip
# What does not go with every head.
HEADS: dict[str, dict[str, tuple[Sequence[str] | None, object]]] = {
    "expected": {"head": (["expected"], "expected"), "loss": (["mse"], "mse")},
    "c51": {"head": (["c51"], "c51"), "value_range": (["-500", "300"], (-500.0, 300.0))},
    "qr": {"optimism": (["0.25"], 0.25)},  # the preset's head
}


def test_all_options_together_are_all_fields() -> None:
    train, agent = ([field.name for field in fields(kind)] for kind in (TrainConfig, DQNConfig))
    assert set(OPTIONS).union(*HEADS.values()) == {*train, *agent}


@pytest.mark.parametrize("head", HEADS)
def test_every_field_of_both_configs_is_an_option(head: str) -> None:
    options = OPTIONS | HEADS[head]
    arguments = ["train", "CartPole-v1", "--preset", "default"]
    for name, (values, _) in options.items():
        option = name.replace("_", "-")
        arguments += [f"--no-{option}"] if values is None else [f"--{option}", *values]
    command = parse(arguments)
    assert isinstance(command, Train)
    made = asdict(build(TrainConfig, vars(command.train))) | asdict(chosen(command.agent, PRESETS["default"].agent))
    defaults = asdict(PRESETS["default"].agent) | asdict(PRESETS["default"].train)
    assert made == defaults | {name: value for name, (_, value) in options.items()}
    assert not [name for name in options if made[name] == defaults[name]]  # else the test would show nothing


def test_help_tells_every_setting_with_its_unit_and_default(capfd: pytest.CaptureFixture[str]) -> None:
    stopped = call(capfd, "train", "--help")
    assert stopped.status == 0
    for name in OPTIONS:
        assert f"--{name.replace('_', '-')}" in stopped.out
    assert "Discount of one step (from 0 to 1). (default: 0.99)" in " ".join(stopped.out.replace("│", " ").split())


@pytest.mark.parametrize("command", [["train"], ["bench", "learning"]])
@pytest.mark.parametrize(
    ("arguments", "gamma"),
    [
        ([], "0.99"),
        (["LunarLander-v3"], "0.995"),
        (["LunarLander-v3", "--preset", "plain"], "0.99"),
        (["--preset", "CartPole-v1", "Taxi-v4"], "0.995"),
        (["LunarLander-v3", "--gamma", "0.98"], "0.995"),
    ],
)
def test_help_tells_the_defaults_of_the_preset_that_is_meant(
    capfd: pytest.CaptureFixture[str], command: list[str], arguments: list[str], gamma: str
) -> None:
    for word in ("--help", "-h"):
        stopped = call(capfd, *command, *arguments, word)
        assert (stopped.status, stopped.err) == (0, "")
        assert f"(from 0 to 1). (default: {gamma})" in " ".join(stopped.out.replace("│", " ").split())


def settings_of(*arguments: str) -> dict[str, Any]:
    command = parse(arguments)
    if isinstance(command, Bench):
        command = command.what
    assert isinstance(command, Train | BenchLearning)
    base = preset(command.env, command.preset).agent
    return asdict(build(TrainConfig, vars(command.train))) | asdict(chosen(command.agent, base))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_where_settings_start_from(name: str) -> None:
    expected = asdict(PRESETS[name].agent) | asdict(PRESETS[name].train)
    assert settings_of("train", "Acrobot-v1", "--preset", name) == expected
    if name != "plain":
        assert settings_of("train", name if name != "default" else "Taxi-v4") == expected
    for command in (["train"], ["bench", "learning"]):
        assert settings_of(*command, "Acrobot-v1", "--preset", name, "--gamma", "0.5") == expected | {"gamma": 0.5}


def test_an_option_is_measured_by_the_preset_that_it_changes() -> None:
    # More than the default buffer holds, and a higher floor than the default rate.
    given = ["--learning-starts", "120000", "--learning-rate-end", "8e-4"]
    settings = settings_of("train", "LunarLander-v3", *given)
    assert (settings["learning_starts"], settings["learning_rate_end"]) == (120_000, 8e-4)


@pytest.mark.parametrize("environment", ["LunarLander-v3", "CartPole-v1", "Taxi-v4"])
def test_another_head_leaves_what_only_the_presets_head_can_use_behind(environment: str) -> None:
    settings = settings_of("train", environment, "--head", "c51", "--value-range", "-500", "300")
    assert (settings["head"], settings["value_range"], settings["optimism"]) == ("c51", (-500.0, 300.0), 0.0)
    settings = settings_of("train", environment, "--head", "expected", "--loss", "mse")
    assert (settings["head"], settings["loss"], settings["optimism"]) == ("expected", "mse", 0.0)
    assert settings["munchausen"] == preset(environment).agent.munchausen  # which goes with every head


# What is wrong, and what to do

BAD = [
    (["train", "NoSuchEnv-v0"], 1, "'NoSuchEnv-v0' cannot be made", "for example LunarLander-v3"),
    (["train", "LunarLander-v2"], 1, "'LunarLander-v2' cannot be made", "LunarLander-v3"),
    (["train", "MountainCarContinuous-v0"], 1, "MountainCarContinuous-v0 has continuous actions", "Discrete"),
    (["train", "CarRacing-v3"], 1, "CarRacing-v3 has continuous actions", "Discrete"),
    (["train", "CartPole-v1", "--hidden", "0"], 1, "hidden=(0,)", ">= 1"),
    (["train", "CartPole-v1", "--hidden", "-3"], 1, "hidden=(-3,)", ">= 1"),
    (["train", "CartPole-v1", "--hidden", "64", "sigmoid"], 2, "--hidden", "tanh"),
    (["train", "CartPole-v1", "--gamma", "1.5"], 1, "gamma=1.5", "from 0 to 1"),
    (["train", "CartPole-v1", "--gamma", "nan"], 1, "gamma=nan", "from 0 to 1"),
    (["train", "CartPole-v1", "--gamma", "much"], 2, "--gamma", "FLOAT"),
    (["train", "CartPole-v1", "--optimizer", "adagrad"], 2, "adagrad", "adamw"),
    (["train", "CartPole-v1", "--steps", "10"], 1, "steps=10", "at least 1001"),
    (["train", "CartPole-v1", "--episodes", "0"], 1, "episodes=0", ">= 1"),
    (["train", "CartPole-v1", "--steps", "None"], 1, "steps=None", "a budget: steps, episodes"),
    (["train", "CartPole-v1", "--batch-size", "70000"], 1, "batch_size=70000", "at most buffer_size=40000"),
    (["train", "CartPole-v1", "--seed", "-1"], 1, "seed=-1", ">= 0"),
    (["train", "CartPole-v1", "--preset", "nope"], 1, "preset='nope'", "one of default, plain, LunarLander-v3"),
    (["train", "CartPole-v1", "--nonsense", "3"], 2, "--nonsense", "--help"),
    (["train"], 2, "Missing from perilune train", "Id of a Gymnasium environment"),
    (["train", "CartPole-v1", "--out", "{file}/run"], 1, "{file}/run cannot be written", "Choose another"),
    (["train", "CartPole-v1", "--out", "{run}"], 1, "{run} already holds a run", "--overwrite"),
    (["train", "CartPole-v1", "--out", "{other}"], 1, "{other} holds files that are not a run's", "empty directory"),
    (["evaluate", "{empty}"], 1, "{empty} holds no 'best' checkpoint", "it has no best.safetensors"),
    (["evaluate", "{empty}/nowhere"], 1, "{empty}/nowhere holds no 'best' checkpoint", "no such directory"),
    (["evaluate", "{file}"], 1, "{file} is not a safetensors file", ""),
    (["evaluate", "{run}", "--episodes", "0"], 1, "episodes=0", ">= 1"),
    (["evaluate", "{run}", "--max-episode-steps", "0"], 1, "max_episode_steps=0", ">= 1"),
    (["video", "{run}", "--out", "{empty}/film.mp4", "--max-episode-steps", "0"], 1, "max_episode_steps=0", ">= 1"),
    (["video", "{run}", "--stages", "--max-episode-steps", "-5"], 1, "max_episode_steps=-5", ">= 1"),
    (["resume", "{run}", "--steps", "9", "--change", "steps=20"], 1, "change steps = 20", "--steps 9"),
    (["resume", "{run}", "--env", "LunarLander-v3"], 1, "env='LunarLander-v3'", "CartPole-v1, as in the run"),
    (["evaluate", "{run}", "--checkpoint", "worst"], 2, "worst", "final"),
    (["video", "{empty}"], 1, "{empty} holds no 'best' checkpoint", "it has no best.safetensors"),
    (["video", "{run}", "--out", "{file}/film.mp4"], 1, "{file}/film.mp4 cannot be written", ""),
    (["video", "{run}", "--out", "{empty}/film.mp4", "--episodes", "0"], 1, "episodes=0", ">= 1"),
    (["video", "{run}", "--out", "{empty}/film.avi"], 1, "{empty}/film.avi' is invalid", ".mp4, .gif"),
    (["video", "{empty}", "--stages"], 1, "{empty} holds no 'best' checkpoint", "it has no best.safetensors"),
    (["video", "{run}/best.safetensors", "--stages"], 1, "best.safetensors' is invalid", "a run directory"),
    (["video", "{run}", "--stages", "--episodes", "2"], 1, "episodes=2", "1 with --stages"),
    (["plot"], 1, "no run is given", "perilune plot runs"),
    (["report"], 1, "no run is given", "perilune report runs"),
    (["report", "{run}", "--out", "{file}/report.html"], 1, "{file}/report.html cannot be written", ""),
    (["plot", "{empty}"], 1, "{empty} holds no run", "config.json"),
    (["plot", "{run}", "--out", "{file}/plots"], 1, "cannot be written to {file}/plots", ""),
    (["plot", "{empty}", "--out", "many.png"], 1, "many.png", "a directory, for curves.png and curves.svg"),
    (["plot", "{run}", "--out", "{empty}/many.SVG"], 1, "many.SVG", "a directory, for curves.png and curves.svg"),
    (["bench", "learning", "CartPole-v1", "--seeds", "0"], 1, "seeds=0", ">= 1"),
    (["bench", "learning", "CartPole-v1", "--jobs", "0"], 1, "jobs=0", ">= 1"),
    (["bench", "learning", "CartPole-v1", "--first-seed", "-1"], 1, "first_seed=-1", ">= 0"),
    (["bench", "learning", "CartPole-v1", "--steps", "10"], 1, "steps=10", "at least 1001"),
    (["bench", "learning", "NoSuchEnv-v0"], 1, "'NoSuchEnv-v0' cannot be made", "for example LunarLander-v3"),
    (["bench", "learning", "CartPole-v1", "--out", "{file}/results"], 1, "written to {file}/results", "Choose another"),
    (["bench", "learning", "CartPole-v1", "--against", "cleanrl"], 2, "cleanrl", "sb3"),
    (["bench", "learning", "CarRacing-v3"], 1, "CarRacing-v3 has continuous actions", "Discrete"),
    (["bench", "compare", "{empty}", "{empty}"], 1, "{empty} holds no scores.json", "`perilune bench learning`"),
    (["bench", "compare", "{file}", "{file}"], 1, "{file} is not JSON", ""),
    (["land"], 2, "land", "train"),
    ([], 2, "subcommand", "train"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "wrong", "allowed"), BAD, ids=[" ".join(bad[0]) for bad in BAD])
def test_what_is_wrong_is_said_in_one_message_with_what_is_allowed(
    capfd: pytest.CaptureFixture[str],
    tiny_run: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    status: int,
    wrong: str,
    allowed: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"run": tiny_run.history.directory} | {name: tmp_path / name for name in ("file", "empty", "other")}
    places["file"].touch()
    places["empty"].mkdir()
    places["other"].mkdir()
    (places["other"] / "notes.txt").touch()
    before = sorted(tmp_path.rglob("*"))

    stopped = call(capfd, *(argument.format(**places) for argument in arguments))

    assert stopped.status == status
    assert stopped.out == ""
    assert "Traceback" not in stopped.err
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", stopped.err).split())
    assert wrong.format(**places) in said
    assert allowed in said
    if status == 1:  # one line of ours; usage errors come in a box of the command-line library's
        assert stopped.err.startswith("perilune: ")
        assert stopped.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_was_damaged_is_named_with_the_line(
    capfd: pytest.CaptureFixture[str], tiny_run: TinyRun, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((tiny_run.history.directory / "config.json").read_bytes())
    (tmp_path / "episodes.jsonl").write_text('{"episode": 1,\n')
    stopped = call(capfd, "plot", str(tmp_path))
    assert (stopped.status, stopped.out) == (1, "")
    assert f"{tmp_path / 'episodes.jsonl'}, line 1," in stopped.err


# As a program


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own words
        [sys.executable, "-m", "perilune", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_program_trains_and_leaves_a_clean_output(tmp_path: Path) -> None:
    environment = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"), "")  # a machine without a screen
    ended = program("train", "CartPole-v1", "--out", str(tmp_path / "run"), "--json", "--quiet", *TINY, **environment)
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert json.loads(ended.stdout)["episodes"] == 3
    assert (tmp_path / "run" / "videos" / "best.mp4").exists()


def test_the_program_ends_with_the_status_of_its_error(tmp_path: Path) -> None:
    ended = program("evaluate", str(tmp_path))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"perilune: {tmp_path} holds no 'best' checkpoint: it has no best.safetensors\n"


def test_the_program_tells_its_version() -> None:
    assert program("--version").stdout == f"perilune {perilune.__version__}\n"
    assert perilune.__version__ == metadata.version("perilune")


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_a_reader_who_has_seen_enough_is_no_error(word: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "perilune", word]
    ended = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    os.close(writes)
    assert ended.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_with_its_output_closed_a_training_ends_quietly_and_well(tmp_path: Path, closed: str) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-m", "perilune", "train", "CartPole-v1", "--out", str(run), "--quiet", *TINY]
    command = ["sh", "-c", f'"$@" {closed}', "sh", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
    assert (ended.returncode, ended.stderr) == (0, "")
    assert all(finding.fault is None for finding in inspection.verify(run))


def test_the_program_calls_itself_perilune() -> None:
    ended = program("--help")
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: perilune")
    for command in ("train", "evaluate", "video", "plot", "bench"):
        assert command in ended.stdout
