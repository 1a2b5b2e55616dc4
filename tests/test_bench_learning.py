"""Benchmarks of learning: results, files, resuming and failures."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from fixtures_runs import episode, evaluated, made_up_run
from perilune import DQN, DQNConfig, TrainConfig
from perilune.bench import learning, results
from perilune.bench.learning import Trial, run_trials
from perilune.cli import main, parse
from perilune.cli.settings import choose
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs import logs
from perilune.runs.scores import Score, score
from perilune.training.events import Episode, Evaluated, Metrics

METRICS = Metrics(300, 100, 0.5, 1.0, 1.0, 0.1, 1e-3, 0.5)
# With this learning rate, greedy episodes stay short and scoring is fast.
OPTIONS = [
    *("--preset", "default", "--steps", "400", "--eval-every", "100", "--eval-episodes", "2", "--metrics-every", "50"),
    *("--hidden", "4", "--learning-rate", "1e-6", "--learning-rate-end", "0"),
    *("--batch-size", "8", "--buffer-size", "400", "--learning-starts", "50"),
]
AGENT, TRAIN = choose(parse(["train", "CartPole-v1", *OPTIONS])).configs()


def bench(out: Path, *options: str, seeds: int = 2, environment: str = "CartPole-v1") -> None:
    main(["bench", "learning", environment, "--seeds", str(seeds), "--out", str(out), *OPTIONS, *options])


def trials(out: Path, seeds: int, agent: DQNConfig = AGENT, train: TrainConfig = TRAIN) -> list[Trial]:
    return [Trial("CartPole-v1", agent, train, seed, out / f"seed-{seed}") for seed in range(seeds)]


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark of two seeds. Tests must not change it."""
    out = tmp_path_factory.mktemp("benchmark") / "out"
    bench(out, "--jobs", "2", "--quiet", environment="CartPole")
    return out


@pytest.fixture
def copied(benchmark: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(benchmark, tmp_path / "copied"))


def content(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return found


def without_times(out: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in found.items() if "seconds" not in name} for found in content(out)["scores"]]


def modified(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


# Scores


def test_scores_are_mean_returns_of_100_episodes(benchmark: Path) -> None:
    found, run = content(benchmark)["scores"][1], benchmark / "seed-1"
    final, best = (DQN.load(run / f"{which}.safetensors").evaluate(100) for which in ("final", "best"))
    assert (found["seed"], found["final"], found["best"]) == (1, final.mean_return, best.mean_return)
    last = logs.read_run(run).evaluations[-1]
    assert (found["env_steps"], found["seconds"], found["cpu_seconds"]) == (400, last.seconds, last.cpu_seconds)


def test_seed_counts_as_solved_at_its_first_evaluation_at_the_threshold() -> None:
    evaluations = [
        evaluated(steps, mean, best=bool(best))._replace(seconds=seconds, cpu_seconds=seconds - 1)
        for steps, mean, seconds, best in (
            (1_000, 199.9, 5.0, True), (2_000, 200.0, 11.5, True), (3_000, 250.0, 17.0, True), (4_000, 9.0, 23.0, 0),
        )
    ]  # fmt: skip
    episodes = [*(episode(n, float(n)) for n in range(1, 151)), episode(151, 1e9, ended="budget")]
    run = made_up_run(episodes, evaluations, seed=7)
    assert score(run, final=88.0, best=240.0) == Score(
        seed=7, final=88.0, best=240.0, best_env_steps=3_000, solved_env_steps=2_000, solved_seconds=11.5,
        training_peak=sum(range(51, 151)) / 100, env_steps=4_000, episodes=400, seconds=23.0,
        solved_cpu_seconds=10.5, cpu_seconds=22.0,
    )  # fmt: skip
    without = score(made_up_run(episodes, evaluations, reward_threshold=None), 1.0, 1.0)
    assert (without.solved_env_steps, without.solved_seconds, without.solved_cpu_seconds) == (None, None, None)
    assert score(made_up_run(episodes[-1:], evaluations), 1.0, 1.0).training_peak is None


# Files


def test_benchmark_files_contain_scores_settings_and_curves(benchmark: Path) -> None:
    found = content(benchmark)
    with (benchmark / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row, scored in zip(rows, found["scores"], strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in scored.items()}
    assert (found["environment"], found["reward_threshold"]) == ("CartPole-v1", 475.0)  # given as "CartPole"
    config = logs.read_run(benchmark / "seed-0").config
    assert found["settings"] == {"agent": config["agent"], "train": config["train"]}
    assert (found["settings"]["agent"]["hidden"], found["failures"]) == ([4], [])
    assert found["summary"]["never_solved"] == [0, 1]
    assert imread(benchmark / "learning_curves.png")[..., :3].std() > 0.05
    assert (benchmark / "learning_curves.svg").stat().st_size > 5_000


def test_finished_benchmark_is_not_run_again(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):  # training would read or rewrite these
        (copied / f"seed-{seed}" / "final.safetensors").unlink()
    bench(copied, "--json")
    out, err = capfd.readouterr()
    assert json.loads(out) == content(copied)
    assert err == "2 of 2 seeds already have a score\n"
    assert not list(copied.rglob("final.safetensors"))
    bench(copied, "--quiet")
    out, err = capfd.readouterr()
    assert err == ""
    for part in ("| 1 | ", "- final: ", str(copied / "learning_curves.png")):
        assert part in out
    main(["train", "CartPole-v1", "--seeds", "2", "--out", str(copied), "--json", *OPTIONS])
    assert json.loads(capfd.readouterr().out) == content(copied)
    main(["train", "CartPole-v1", "--seeds", "1", "--seed", "1", "--out", str(copied), "--json", *OPTIONS])
    assert [found["seed"] for found in json.loads(capfd.readouterr().out)["scores"]] == [1]
    bench(copied, "--quiet", seeds=1)
    assert f"Seeds in {copied} that are not included: seed-1." in capfd.readouterr().out
    assert [found["seed"] for found in content(copied)["scores"]] == [0]


# Resuming


def stopped(out: Path, how: signal.Signals, steps: int) -> dict[Path, int]:
    """Start a benchmark and stop it while it trains its second seed; return the files of the first."""
    command = [sys.executable, "-m", "perilune", "bench", "learning", "CartPole-v1", "--seeds", "2", "--out", str(out)]
    process = subprocess.Popen(  # noqa: S603
        [*command, *OPTIONS, "--steps", str(steps)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (out / "seed-1" / "config.json").exists():
        assert process.poll() is None
        time.sleep(0.005)
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as Ctrl-C in a terminal does
        _, err = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("perilune: interrupted")
    else:
        process.kill()
        process.communicate()
    assert not (out / "seed-1" / "score.json").exists()
    assert not (out / "scores.json").exists()
    assert (out / "seed-0" / "score.json").exists()
    return modified(out / "seed-0")


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_resumed_benchmark_equals_an_uninterrupted_one(tmp_path: Path, how: signal.Signals) -> None:
    done = stopped(tmp_path / "out", how, 3_000)
    bench(tmp_path / "out", "--quiet", "--steps", "3000")
    assert modified(tmp_path / "out" / "seed-0") == done
    bench(tmp_path / "uninterrupted", "--quiet", "--steps", "3000")
    assert without_times(tmp_path / "out") == without_times(tmp_path / "uninterrupted")


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        ({"agent": replace(AGENT, hidden=(4, 3))}, "hidden = [4] there, [4, 3] requested"),
        ({"agent": replace(AGENT, double=False, n_step=1)}, "n_step = 3 there, 1 requested, double = True there"),
        ({"environment": "Acrobot-v1"}, "environment = 'CartPole-v1' there, 'Acrobot-v1' requested"),
        ({"seed": 4}, "seed = 1 there, 4 requested"),
    ],
)
@pytest.mark.parametrize("scored", [True, False])
def test_existing_run_with_other_settings_is_refused(
    copied: Path, change: dict[str, Any], listed: str, scored: bool
) -> None:
    if not scored:
        (copied / "seed-1" / "score.json").unlink()
    before = modified(copied)
    trial = replace(trials(copied, 2)[1], **change)
    with pytest.raises(RunDirectoryError, match=r"Choose another directory \(--out\), or remove") as refused:
        run_trials([trial], 1, quiet=True)
    assert f"{copied / 'seed-1'} holds a run with other settings" in str(refused.value)
    assert listed in str(refused.value)
    assert modified(copied) == before


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"seed": 0, "final": null}'])
def test_damaged_score_error_names_the_file_and_remedy(copied: Path, text: str) -> None:
    path = copied / "seed-0" / "score.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match="Remove this file to run its seed again") as refused:
        run_trials(trials(copied, 2), 1, quiet=True)
    assert str(path) in str(refused.value)


def test_run_that_no_benchmark_started_is_not_overwritten(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (copied / "seed-1" / "score.json").unlink()
    (copied / learning.MARK).unlink()
    before = modified(copied)
    with pytest.raises(RunDirectoryError, match="seed-1 holds a run that no benchmark started"):
        run_trials(trials(copied, 2), 1, quiet=True)
    with pytest.raises(SystemExit):
        bench(copied / "seed-1")
    assert f"{copied / 'seed-1'} is a run directory" in capfd.readouterr().err
    assert modified(copied) == before


# Failures


def test_failed_seed_is_reported_and_retried(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    expected = without_times(copied)
    shutil.rmtree(copied / "seed-0")
    (copied / "seed-0").mkdir()
    (copied / "seed-0" / "notes.txt").touch()  # no run overwrites the user's files
    before = content(copied)
    with pytest.raises(SystemExit):
        bench(copied, "--quiet", seeds=1)  # all of them fail
    assert capfd.readouterr().out == ""
    assert content(copied) == before
    with pytest.raises(SystemExit) as stopped:
        bench(copied)
    assert stopped.value.code == 1
    out, err = capfd.readouterr()
    assert "| 0 | " not in out
    assert "| 1 | " in out
    assert "perilune: 1 seed failed. Run the same command again to retry.\n  copied/seed-0: RunDirectoryError" in err
    (failure,) = content(copied)["failures"]
    assert (failure["seed"], [found["seed"] for found in content(copied)["scores"]]) == (0, [1])
    assert failure["reason"].startswith("RunDirectoryError")

    (copied / "seed-0" / "notes.txt").unlink()
    (copied / "seed-0" / "config.json").write_text('{"format": 1, "envir')  # as an interrupted write leaves it
    bench(copied, "--quiet")
    assert without_times(copied) == expected


def test_failures_with_the_same_reason_are_listed_together() -> None:
    together = dict.fromkeys(trials(Path("out"), 2), "no room")
    (alone,) = trials(Path("out/sb3"), 1)
    lines = learning.failed(together | {alone: "no torch"}).splitlines()
    assert lines[0].startswith("3 seeds failed")
    assert lines[1:] == ["  out/seed-0, out/seed-1: no room", "  sb3/seed-0: no torch"]


# Environments that a module registers

MODULE = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
gymnasium.register("OfAModule-v3", entry_point=CartPoleEnv, max_episode_steps=20)
"""


def test_worker_processes_import_modules_that_register_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_environment.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    for _ in range(2):  # the second time the stored scores are read
        bench(out, "--quiet", seeds=1, environment="own_environment:OfAModule-v3")
    result = results.load(out)
    assert (result.environment, result.reward_threshold) == ("OfAModule-v3", None)
    summary = content(out)["summary"]
    assert (summary["final"]["solved_share"], summary["solved_env_steps"], summary["never_solved"]) == (None, None, [])
    assert (summary["final"]["low"], summary["final"]["high"]) == (None, None)  # one seed has no interval


# Progress


def test_progress_is_read_from_the_logs(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path, 1)
    assert learning.progress(trial) == (f"{tmp_path.name}/seed-0", 0.0, ["not started"])
    trial.directory.mkdir()

    def log(name: str, *records: Episode | Evaluated | Metrics) -> None:
        lines = "".join(json.dumps(record._asdict()) + "\n" for record in records)
        (trial.directory / f"{name}.jsonl").write_text(lines + '{"env_steps": 9')  # an incomplete last line

    log("episodes", *(episode(n) for n in range(1, 21)))
    assert learning.progress(trial)[1:] == (0.5, ["200 steps"])
    log("metrics", METRICS)
    log("evaluations", evaluated(100, -12.25))
    assert learning.progress(trial)[1:] == (0.75, ["300 steps", "evaluation -12.2"])
    log("metrics", METRICS._replace(env_steps=450))
    written = trial.directory / "evaluations.jsonl"
    os.utime(written, (time.time() - 100, time.time() - 100))
    share, (scoring, evaluation) = learning.progress(trial)[1:]
    assert (share, evaluation) == (1.0, "evaluation -12.2")
    assert re.fullmatch(r"scoring for \d+ min( \d+ s)?", scoring)
    assert learning.progress(replace(trial, train=TrainConfig(episodes=80)))[1] == 0.25
