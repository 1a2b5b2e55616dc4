"""A benchmark of learning: many seeds, killed and gone on with, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from perilune import DQN, DQNConfig, TrainConfig
from perilune.bench import learning, report, results
from perilune.bench.learning import Trial, run_trials, stored_score
from perilune.cli import main
from perilune.envs.known.presets import PRESETS
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError
from perilune.runs import runlog
from perilune.runs.runlog import Run
from perilune.runs.scores import Score, score
from perilune.training.events import Episode, Evaluated

# So slow a learner that its greedy episodes stay short: the hundred that score it then take no time.
SETTINGS: dict[str, Any] = {
    "hidden": (4,), "learning_rate": 1e-6, "learning_rate_end": 0.0,
    "batch_size": 8, "buffer_size": 400, "learning_starts": 50,
}  # fmt: skip
AGENT = replace(PRESETS["default"].agent, **SETTINGS)
TRAIN = TrainConfig(steps=400, eval_every=100, eval_episodes=2, metrics_every=50)
OPTIONS = [
    *("--preset", "default", "--steps", "400", "--eval-every", "100", "--eval-episodes", "2", "--metrics-every", "50"),
    *(
        "--hidden",
        "4",
        "--learning-rate",
        "1e-6",
        "--learning-rate-end",
        "0",
        "--batch-size",
        "8",
        "--buffer-size",
        "400",
        "--learning-starts",
        "50",
    ),
]


def trials(out: Path, seeds: int, agent: DQNConfig = AGENT, train: TrainConfig = TRAIN) -> list[Trial]:
    return [Trial("CartPole-v1", agent, train, seed, out / f"seed-{seed}") for seed in range(seeds)]


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, run undisturbed. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    main(["bench", "learning", "CartPole", "--seeds", "2", "--jobs", "2", "--out", str(out), "--quiet", *OPTIONS])
    return out


@pytest.fixture
def copied(benchmark: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(benchmark, tmp_path / "copied"))


def scores(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / "scores.json").read_text())["scores"]
    return found


def timeless(out: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in found.items() if "seconds" not in name} for found in scores(out)]


# What a seed comes to


def test_a_score_is_of_the_final_and_of_the_best_weights_over_a_hundred_episodes(benchmark: Path) -> None:
    for seed, found in enumerate(scores(benchmark)):
        run = benchmark / f"seed-{seed}"
        final, best = (DQN.load(run / f"{which}.safetensors").evaluate(100) for which in ("final", "best"))
        assert (found["seed"], found["final"], found["best"]) == (seed, final.mean_return, best.mean_return)
        assert found["env_steps"] == 400
        assert found["seconds"] == runlog.read(run).evaluations[-1].seconds


def evaluation(env_steps: int, mean_return: float, seconds: float, best: bool = False) -> Evaluated:
    return Evaluated(env_steps, env_steps // 10, mean_return, 0.0, mean_return, best, seconds)


def episode(number: int, reward: float, ended: str = "terminated") -> Episode:
    return Episode(number, 10 * number, reward, 10, None, 0.5, 0, ended)  # type: ignore[arg-type]


def test_a_seed_is_solved_at_its_first_evaluation_at_the_mark() -> None:
    evaluations = [
        evaluation(1_000, 199.9, 5.0, best=True),
        evaluation(2_000, 200.0, 11.5, best=True),
        evaluation(3_000, 250.0, 17.0, best=True),
        evaluation(4_000, 90.0, 23.0),
    ]
    episodes = [*(episode(n, float(n)) for n in range(1, 151)), episode(151, 1e9, "budget")]
    run = Run(Path(), {"reward_threshold": 200.0, "seed": 7}, episodes, [], evaluations, [])
    assert score(run, final=88.0, best=240.0) == Score(
        seed=7, final=88.0, best=240.0, best_env_steps=3_000, solved_env_steps=2_000, solved_seconds=11.5,
        training_peak=sum(range(51, 151)) / 100, env_steps=4_000, episodes=400, seconds=23.0,
    )  # fmt: skip
    unmarked = score(replace(run, config={"reward_threshold": None, "seed": 7}), 1.0, 1.0)
    assert (unmarked.solved_env_steps, unmarked.solved_seconds) == (None, None)


def test_a_budget_within_the_first_episode_has_no_training_peak() -> None:
    run = Run(
        Path(),
        {"reward_threshold": 200.0, "seed": 0},
        [episode(1, 5.0, "budget")],
        [],
        [evaluation(9, 1.0, 1.0, True)],
        [],
    )
    assert score(run, 1.0, 1.0).training_peak is None


# What is left behind


def test_json_and_csv_say_the_same(benchmark: Path) -> None:
    with (benchmark / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row, found in zip(rows, scores(benchmark), strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in found.items()}


def test_the_result_tells_its_settings(benchmark: Path) -> None:
    content = json.loads((benchmark / "scores.json").read_text())
    assert (content["environment"], content["reward_threshold"]) == ("CartPole-v1", 475.0)  # asked for as "CartPole"
    config = runlog.read(benchmark / "seed-0").config
    assert content["settings"] == {"agent": config["agent"], "train": config["train"]}
    assert (content["settings"]["agent"]["hidden"], content["failures"]) == ([4], [])
    assert content["summary"]["never_solved"] == [0, 1]


def test_the_curves_are_drawn(benchmark: Path) -> None:
    assert imread(benchmark / "learning_curves.png")[..., :3].std() > 0.05
    assert (benchmark / "learning_curves.svg").stat().st_size > 5_000


def test_a_benchmark_that_is_done_is_read_and_not_run(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):  # whatever would run, would need or replace these
        (copied / f"seed-{seed}" / "final.safetensors").unlink()
    arguments = ["bench", "learning", "CartPole-v1", "--seeds", "2", "--out", str(copied), *OPTIONS]
    main([*arguments, "--json"])
    out, err = capfd.readouterr()
    assert json.loads(out) == json.loads((copied / "scores.json").read_text())
    assert err == "2 of 2 have their scores already\n"
    assert not list(copied.rglob("final.safetensors"))
    main([*arguments, "--quiet"])
    out, err = capfd.readouterr()
    assert err == ""
    assert "| 1 | " in out
    assert "- final: IQM " in out
    assert str(copied / "learning_curves.png") in out


# Going on


# Seconds long, so that a busy machine cannot finish the second seed before it is stopped.
LONG = ["bench", "learning", "CartPole-v1", "--seeds", "2", *OPTIONS, "--steps", "3000"]


@pytest.fixture(scope="session")
def long_benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long benchmark, run undisturbed."""
    out = tmp_path_factory.mktemp("long") / "out"
    main([*LONG, "--jobs", "2", "--out", str(out), "--quiet"])
    return out


def launch(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 -- our own words
        [sys.executable, "-m", "perilune", *LONG, "--out", str(out)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_benchmark_that_was_stopped_goes_on_where_it_was(
    long_benchmark: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = launch(out)
    while not (out / "seed-1" / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.005)
    if how is signal.SIGINT:  # Ctrl-C goes to all processes of the terminal
        os.killpg(process.pid, how)
        _, err = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("perilune: interrupted")
    else:
        process.kill()
        process.communicate()
    done = {path: path.stat().st_mtime_ns for path in (out / "seed-0").iterdir()}
    assert out / "seed-0" / "score.json" in done
    assert not (out / "seed-1" / "score.json").exists()
    assert not (out / "scores.json").exists()

    main([*LONG, "--out", str(out), "--quiet"])
    assert {path: path.stat().st_mtime_ns for path in (out / "seed-0").iterdir()} == done
    assert timeless(out) == timeless(long_benchmark)  # as if nothing had happened


def test_half_a_run_without_a_score_is_run_anew(copied: Path, benchmark: Path) -> None:
    (copied / "seed-1" / "score.json").unlink()
    (copied / "seed-1" / "config.json").write_text('{"format": 1, "envir')
    outcome = run_trials(trials(copied, 2), jobs=1, quiet=True)
    assert not outcome.failures
    assert [found.final for found in outcome.scores.values()] == pytest.approx(
        [found["final"] for found in scores(benchmark)]
    )


@pytest.mark.parametrize(
    ("agent", "train", "told"),
    [
        ({"gamma": 0.5}, {}, "gamma = 0.99 there, 0.5 asked"),
        ({"hidden": (4, 3)}, {}, "hidden = [4] there, [4, 3] asked"),
        ({}, {"eval_episodes": 3}, "eval_episodes = 2 there, 3 asked"),
        ({"double": False, "n_step": 1}, {"steps": 500}, "n_step = 3 there, 1 asked, double = True there, False asked"),
    ],
)
@pytest.mark.parametrize("scored", [True, False])
def test_a_run_with_other_settings_is_refused_by_name(
    copied: Path, agent: dict[str, Any], train: dict[str, Any], told: str, scored: bool
) -> None:
    if not scored:
        (copied / "seed-1" / "score.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    (trial,) = trials(copied, 2, replace(AGENT, **agent), replace(TRAIN, **train))[1:]
    with pytest.raises(RunDirectoryError, match=r"Choose another directory \(--out\), or remove") as refused:
        run_trials([trial], 1, quiet=True)
    assert f"{copied / 'seed-1'} holds a run with other settings" in str(refused.value)
    assert told in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_another_environment_and_another_seed_are_other_settings(copied: Path) -> None:
    trial = trials(copied, 1)[0]
    with pytest.raises(RunDirectoryError, match="environment = 'CartPole-v1' there, 'Acrobot-v1' asked"):
        stored_score(replace(trial, environment="Acrobot-v1"))
    with pytest.raises(RunDirectoryError, match="seed = 0 there, 4 asked"):
        stored_score(replace(trial, seed=4))
    assert stored_score(replace(trial, environment="some.module:CartPole-v1")) is not None


def test_a_setting_that_a_stored_run_does_not_know_was_at_its_default(copied: Path) -> None:
    path = copied / "seed-0" / "config.json"
    config = json.loads(path.read_text())
    del config["agent"]["tau"]
    path.write_text(json.dumps(config))
    assert stored_score(trials(copied, 1)[0]) is not None
    with pytest.raises(RunDirectoryError, match=r"tau = 0\.005 there, 0\.5 asked"):
        stored_score(trials(copied, 1, replace(AGENT, tau=0.5))[0])
    config["agent"]["older"] = 5
    path.write_text(json.dumps(config))
    with pytest.raises(RunDirectoryError, match="older = 5 there, 'nothing' asked"):
        stored_score(trials(copied, 1)[0])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no JSON object, but list"),
        ("{}", "damaged or of another version"),
        ('{"seed": 0, "surprise": 1}', "surprise"),
    ],
)
def test_a_damaged_score_is_named(copied: Path, text: str, wrong: str) -> None:
    (copied / "seed-0" / "score.json").write_text(text)
    with pytest.raises(FileFormatError, match=f"{wrong}.*Remove that file, and its seed is run anew") as refused:
        run_trials(trials(copied, 2), 1, quiet=True)
    assert str(copied / "seed-0" / "score.json") in str(refused.value)


def test_a_score_of_the_wrong_kind_is_named(copied: Path) -> None:
    path = copied / "seed-0" / "score.json"
    path.write_text(path.read_text().replace('"final": ', '"final": "great", "best": '))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"final": None}))
    with pytest.raises(FileFormatError, match="final is None"):
        stored_score(trials(copied, 1)[0])


def test_a_run_that_no_benchmark_began_is_not_lost(copied: Path) -> None:
    run = copied / "seed-1"
    (run / "score.json").unlink()
    (run / "plots").mkdir()
    (run / "plots" / "curves.png").touch()  # as `perilune train` leaves it
    (copied / learning.MARK).unlink()
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    with pytest.raises(RunDirectoryError, match="seed-1 holds a run that no benchmark began, and that would be lost"):
        run_trials(trials(copied, 2), 1, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_the_directory_of_a_run_gets_no_benchmark(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = copied / "seed-1"
    with pytest.raises(SystemExit):
        main(["bench", "learning", "CartPole-v1", "--seeds", "1", "--out", str(run), *OPTIONS])
    assert f"{run} is the directory of one run" in capfd.readouterr().err
    assert not (run / "seed-0").exists()


def test_seeds_that_were_not_asked_for_are_named(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["bench", "learning", "CartPole-v1", "--seeds", "1", "--out", str(copied), "--quiet", *OPTIONS])
    out = capfd.readouterr().out
    assert "Left out, because they were not asked for, though they are there: seed-1." in out
    assert [found["seed"] for found in scores(copied)] == [0]


# One that fails


def test_a_seed_that_fails_does_not_lose_the_others(
    tmp_path: Path, benchmark: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "seed-0").mkdir(parents=True)
    (out / "seed-0" / "notes.txt").touch()  # nothing is trained over somebody's files
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "learning", "CartPole-v1", "--seeds", "2", "--out", str(out), *OPTIONS])
    assert stopped.value.code == 1
    said, err = capfd.readouterr()
    assert "| 0 | " not in said
    assert "| 1 | " in said
    assert "perilune: 1 failed, and will be tried again by the same command:\n  out/seed-0: RunDirectoryError" in err
    content = json.loads((out / "scores.json").read_text())
    assert [found["seed"] for found in content["scores"]] == [1]
    (failure,) = content["failures"]
    assert failure["seed"] == 0
    assert "holds files that are not a run's" in failure["reason"]

    (out / "seed-0" / "notes.txt").unlink()
    main(["bench", "learning", "CartPole-v1", "--seeds", "2", "--out", str(out), "--quiet", *OPTIONS])
    assert timeless(out) == timeless(benchmark)


def test_where_every_seed_fails_there_is_no_result(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seed-0").mkdir()
    (tmp_path / "seed-0" / "notes.txt").touch()
    with pytest.raises(SystemExit):
        main(["bench", "learning", "CartPole-v1", "--seeds", "1", "--out", str(tmp_path), "--quiet", *OPTIONS])
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("perilune: 1 failed")
    assert not (tmp_path / "scores.json").exists()


def test_seeds_that_fail_for_one_reason_are_told_together() -> None:
    together = dict.fromkeys(trials(Path("out"), 2), "no room")
    (alone,) = trials(Path("out/sb3"), 1)
    said = report.failed(together | {alone: "no torch"}).splitlines()
    assert said[0].startswith("3 failed")
    assert said[1:] == ["  out/seed-0, out/seed-1: no room", "  sb3/seed-0: no torch"]


def test_jobs_are_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jobs=0"):
        run_trials(trials(tmp_path, 1), jobs=0)


# The environment of somebody's own module

MODULE = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
gymnasium.register("OfAModule-v3", entry_point=CartPoleEnv, max_episode_steps=20)
"""


def test_an_environment_that_a_module_registers_is_made_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_environment.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    arguments = [
        "bench",
        "learning",
        "own_environment:OfAModule-v3",
        "--seeds",
        "1",
        "--out",
        str(out),
        "--quiet",
        *OPTIONS,
    ]
    main(arguments)
    main(arguments)  # and known again
    result = results.load(out)
    assert (result.environment, result.reward_threshold) == ("OfAModule-v3", None)
    summary = json.loads((out / "scores.json").read_text())["summary"]
    assert (summary["final"]["solved_share"], summary["solved_env_steps"], summary["never_solved"]) == (None, None, [])
    assert (summary["final"]["low"], summary["final"]["high"]) == (None, None)  # one seed has no interval


# How far it is


def test_progress_is_read_off_the_ends_of_the_logs(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path, 1)
    assert learning._lane(trial) == (f"{tmp_path.name}/seed-0", 0.0, ["0 steps"])
    trial.directory.mkdir()
    lines = [json.dumps(episode(n, 1.0)._asdict()) for n in range(1, 21)]
    (trial.directory / "episodes.jsonl").write_text("\n".join(lines) + '\n{"episode": 21, "env_st')
    assert learning._lane(trial)[1:] == (0.5, ["200 steps"])
    (trial.directory / "metrics.jsonl").write_text('{"env_steps": 300}\n')
    (trial.directory / "evaluations.jsonl").write_text(json.dumps(asdict_evaluation(-12.25)) + "\n")
    assert learning._lane(trial)[1:] == (0.75, ["300 steps", "evaluation -12.2"])
    (trial.directory / "metrics.jsonl").write_text('{"env_steps": 450}\n')
    assert learning._lane(trial)[1:] == (1.0, ["scoring", "evaluation -12.2"])
    assert learning._lane(replace(trial, train=TrainConfig(episodes=80))).share == 0.25


def asdict_evaluation(mean_return: float) -> dict[str, Any]:
    return evaluation(100, mean_return, 1.0)._asdict()


def test_a_stored_score_is_the_score_that_was_written(benchmark: Path) -> None:
    found = [stored_score(trial) for trial in trials(benchmark, 2)]
    assert [asdict(each) for each in found if each is not None] == scores(benchmark)
