"""The search for settings: studies, resuming, objective values and files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from perilune import DQN, DQNConfig, TrainConfig, tune
from perilune.bench import learning
from perilune.bench.pool import Engine, Local
from perilune.cli import main, parse
from perilune.cli.settings import choose
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError, TrialError, UsageError
from perilune.runs import files, weights
from perilune.runs.scores import Score, write_score
from perilune.training.evaluation import SCORE_SEEDS, SELECTION_SEEDS, TUNING_SEEDS, evaluate
from perilune.tuning import report, work
from perilune.tuning.plan import Plan
from perilune.tuning.result import TuningResult
from perilune.tuning.space import Base, from_dict
from perilune.tuning.storage import Journal
from perilune.tuning.study import Study
from perilune.tuning.work import Job, area, combined, unsolved

# With this learning rate, greedy episodes stay short and scoring is fast.
SETTINGS: dict[str, Any] = {
    "steps": 300, "eval_every": 75, "eval_episodes": 2, "metrics_every": 50, "hidden": (4,), "learning_rate": 1e-6,
    "learning_rate_end": 0.0, "batch_size": 8, "buffer_size": 400, "learning_starts": 50, "train_freq": 4,
}  # fmt: skip
TEXT = {name: "4" if name == "hidden" else str(value) for name, value in SETTINGS.items()}
OPTIONS = [word for name, value in TEXT.items() for word in (f"--{name.replace('_', '-')}", value)]
SEARCH = ["--trials", "3", "--seeds-per-trial", "2", "--pruner", "none", "--comparison-seeds", "1"]


def run(out: Path, *options: str) -> None:
    main(["tune", "CartPole-v1", "--out", str(out), *SEARCH, *OPTIONS, "--quiet", *options])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search of three trials with two seeds each. Tests must not change it."""
    out = tmp_path_factory.mktemp("tuning") / "out"
    run(out, "--jobs", "2", "--json")
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / finished.name, symlinks=True))


def trials(out: Path) -> list[optuna.trial.FrozenTrial]:
    """Read the trials with Optuna alone, as optuna-dashboard does."""
    backend = optuna.storages.journal.JournalFileBackend(str(out / "journal.log"))
    return optuna.load_study(study_name=out.name, storage=optuna.storages.JournalStorage(backend)).trials


def modified(out: Path) -> dict[Path, int]:
    """Return when each file was written, except for locks and figures."""
    found = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    return {path: when for path, when in found.items() if "lock" not in path.name}


# The result


def test_search_trains_every_seed_of_every_trial(finished: Path) -> None:
    found = trials(finished)
    assert [one.number for one in found] == [0, 1, 2]
    for one in found:
        assert one.state == TrialState.COMPLETE
        values = []
        for seed in (0, 1):
            directory = finished / f"trial-{one.number}" / f"seed-{seed}"
            scored = work.result(directory)
            assert scored is not None
            assert (scored.study, scored.trial, scored.objective) == ("out", one.number, "final-iqm")
            assert scored.value == one.intermediate_values[seed]
            values.append(scored.value)
        assert one.value == pytest.approx(np.mean(values))


def test_first_trial_is_the_starting_point(finished: Path) -> None:
    config = json.loads((finished / "trial-0" / "seed-0" / "config.json").read_text())
    dqn = DQN("CartPole-v1", seed=0)
    expected = {**{name: value for name, value in SETTINGS.items() if hasattr(dqn.config, name)}, "hidden": [4]}
    assert {name: config["agent"][name] for name in expected} == expected
    assert (config["agent"]["gamma"], config["agent"]["head"], config["agent"]["optimism"]) == (0.995, "qr", 0.75)
    assert config["agent"]["epsilon_decay_steps"] == round(10_000 * 300 / 40_000)


def test_objective_is_the_final_return_on_start_states_of_its_own(finished: Path) -> None:
    directory = finished / "trial-1" / "seed-1"
    agent, _ = weights.load_weights(directory / "final.safetensors")
    expected = evaluate(agent.greedy_action, DQN("CartPole-v1").env, 100, first_seed=TUNING_SEEDS).mean_return
    found = work.result(directory)
    assert found is not None
    assert found.value == found.final == expected


def test_seeds_of_start_states_do_not_overlap() -> None:
    first, last = sorted([SELECTION_SEEDS, TUNING_SEEDS, SCORE_SEEDS]), 2**31
    assert first == [SELECTION_SEEDS, TUNING_SEEDS, SCORE_SEEDS]
    assert all(high - low >= 2**28 for low, high in zip(first, [*first[1:], last], strict=True))


def test_winner_is_compared_with_the_starting_point_on_other_seeds(tmp_path: Path) -> None:
    result = tune(
        "CartPole-v1", trials=1, seeds_per_trial=1, comparison_seeds=2, pruner="none", out=tmp_path / "s", quiet=True,
        search_space={"learning_rate": {"choices": [1e-5]}},  # without the starting point, so that another trial wins
        **{name: value for name, value in SETTINGS.items() if name != "learning_rate"},
    )  # fmt: skip
    assert result.gain is not None
    for name, values in (("start", result.gain.start), ("trial-0", result.gain.winner)):
        directories = sorted((tmp_path / "s" / "comparison" / name).glob("seed-*"))
        assert [directory.name for directory in directories] == ["seed-1", "seed-2"]
        for directory, value in zip(directories, values, strict=True):
            scored = work.result(directory)
            assert scored is not None
            assert scored.trial is None
            assert value == scored.value == json.loads((directory / "score.json").read_text())["final"]


def test_trial_can_be_repeated_exactly_from_its_settings_file(finished: Path, tmp_path: Path) -> None:
    original = finished / "trial-2" / "seed-1"
    main(["train", "--config", str(original / "settings.toml"), "--out", str(tmp_path / "again"), "--quiet"])
    for name in ("final", "best"):
        found, expected = (
            weights.load_weights(path / f"{name}.safetensors")[0].online.parameters
            for path in (tmp_path / "again", original)
        )
        assert np.array_equal(found, expected)
    options = ["--config", str(finished / "trial-2" / "settings.toml"), "--seed", "1"]  # settings without a seed
    found_settings = choose(parse(["train", *options])).configs()
    assert found_settings == choose(parse(["train", "--config", str(original / "settings.toml")])).configs()


def test_finished_search_is_not_run_again(copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(copied, "--quiet")  # the report names the directory, which has just been copied
    capfd.readouterr()
    before = modified(copied)
    run(copied, "--json")
    assert modified(copied) == before
    content = json.loads(capfd.readouterr().out)
    assert [one["state"] for one in content["trials"]] == ["complete"] * 3
    assert content["best_value"] == max(one["value"] for one in content["trials"])
    run(copied)
    out = capfd.readouterr().out
    for part in (
        "3 trials with 2 seeds each: 3 complete",
        f"perilune train CartPole-v1 --config {copied}/settings.toml",
    ):
        assert part in out
    main(["tune", "CartPole-v1", "--out", str(copied), *SEARCH, *OPTIONS])
    assert "the search already has 3 trials. To run more, set --trials above 3\n" in capfd.readouterr().err


def test_more_trials_extend_a_search(copied: Path) -> None:
    run(copied, "--trials", "4", "--comparison-seeds", "0")
    assert [one.state for one in trials(copied)] == [TrialState.COMPLETE] * 4


def test_python_function_returns_the_result(copied: Path) -> None:
    options: dict[str, Any] = {"trials": 3, "seeds_per_trial": 2, "pruner": "none", "comparison_seeds": 0}
    result = tune("CartPole-v1", out=copied, quiet=True, **options, **SETTINGS)
    assert isinstance(result, TuningResult)
    assert len(result.trials) == 3
    assert result.best_value == max(one.value or 0.0 for one in result.trials)
    assert (result.agent.learning_rate, result.train.steps) == (1e-6, 300)
    assert result.gain is None


# Resuming


def test_search_resumes_after_sigkill_without_a_lost_or_repeated_trial(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / finished.name
    command = [sys.executable, "-m", "perilune", "tune", "CartPole-v1", "--out", str(out), *SEARCH, *OPTIONS]
    process = subprocess.Popen(  # noqa: S603
        [*command, "--quiet"], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, start_new_session=True
    )
    while not list((out / "trial-1").glob("seed-*/checkpoints/*.safetensors")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    states = [one.state for one in trials(out)]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]
    kept = modified(out / "trial-0")
    run(out, "--comparison-seeds", "0")
    assert modified(out / "trial-0") == kept
    assert [(one.number, one.state, one.params, one.value) for one in trials(out)] == [
        (one.number, one.state, one.params, one.value) for one in trials(finished)
    ]


@pytest.mark.long
def test_search_survives_kills_of_several_processes(finished: Path, tmp_path: Path) -> None:
    """Four processes share a search. One of them is killed at a random moment and started again, 100 times."""
    out, generator = tmp_path / finished.name, np.random.default_rng(0)
    options = ["--trials", "30", "--comparison-seeds", "0"]
    command = [sys.executable, "-m", "perilune", "tune", "CartPole-v1", "--out", str(out), *SEARCH, *OPTIONS, *options]

    def started() -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen([*command, "--quiet"], env=environment, stdout=subprocess.DEVNULL)  # noqa: S603

    processes = [started() for _ in range(4)]
    for _ in range(100):
        time.sleep(float(generator.uniform(0.5, 4.0)))
        place = int(generator.integers(4))
        processes[place].kill()
        processes[place].wait()
        processes[place] = started()
    assert [process.wait() for process in processes] == [0] * 4
    found = trials(out)
    assert [one.number for one in found] == list(range(30))
    assert {one.state for one in found} == {TrialState.COMPLETE}
    assert len({json.dumps(one.params, sort_keys=True) for one in found}) == 30
    for one in found[:3]:
        expected = trials(finished)[one.number]
        assert (one.params, one.value) == (expected.params, expected.value)


@pytest.mark.long
def test_interrupted_search_reports_how_to_resume(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "perilune", "tune", "CartPole-v1", "--out", str(out), *SEARCH, *OPTIONS]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(  # noqa: S603
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list(out.glob("trial-0/seed-*/config.json")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "perilune: interrupted. All results so far are kept. Run the same command to resume."


@pytest.mark.long
def test_study_can_be_in_a_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = Fake(near_one_hundredth)
    monkeypatch.setattr(work, "Workers", fake)
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    for count in (2, 4):
        options = RATES | {"trials": count, "storage": storage, "comparison_seeds": 0}
        result = tune("CartPole-v1", out=tmp_path / "s", quiet=True, **options)
        assert [one.state for one in result.trials] == ["complete"] * count
    assert len(fake.done) == 8
    assert not (tmp_path / "s" / "journal.log").exists()


# Scheduling, with made-up training


class Fake:
    """Replaces the worker processes. Returns for each seed depend on the settings only."""

    def __init__(self, returns: Callable[[Job], float | str]) -> None:
        self.returns, self.done, self.canceled = returns, list[Job](), list[Job]()
        self.waiting: list[Job] = []
        self.jobs = 0

    def __call__(self, work: object, engine: Engine, restarted: object) -> Fake:
        self.waiting, self.jobs = [], engine.jobs
        return self

    def __len__(self) -> int:
        return len(self.waiting)

    def submit(self, jobs: Iterable[Job]) -> None:
        self.waiting += jobs

    def running(self) -> list[Job]:
        return self.waiting

    def cancel(self, unwanted: Callable[[Job], bool]) -> None:
        self.canceled += [job for job in self.waiting if unwanted(job)]
        self.waiting = [job for job in self.waiting if not unwanted(job)]

    def wait(self) -> dict[Job, str | None]:
        job = self.waiting.pop(0)
        self.done.append(job)
        found = self.returns(job)
        if isinstance(found, str):
            return {job: found}
        directory = job.seed.directory
        directory.mkdir(parents=True, exist_ok=True)
        files.write_json(directory / "config.json", learning.settings(job.seed))
        steps = range(100, (job.until or 800) + 1, 100)
        lines = [
            {"env_steps": step, "episodes": 1, "mean_return": found, "std_return": 0.0, "min_return": 0.0, "best": True}
            | {"seconds": 1.0}
            for step in steps
        ]
        (directory / "evaluations.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        if job.until is None:
            scored = {"study": job.study, "trial": job.trial, "objective": job.objective}
            files.write_json(directory / "trial.json", scored | {"value": found, "final": found})
        if job.trial is None:
            score = Score(job.seed.seed, found, found + 1, 800, 100, 1.0, found, 800, 9, 2.0, 1.5, 3.0)
            write_score(score, directory)
        return {job: None}


def made_up(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    returns: Callable[[Job], float | str],
    *,
    seeds: int = 2,
    pruner: Any = "none",
    sampler: Any = "random",
    jobs: int = 2,
    count: int = 6,
) -> tuple[Study, Fake]:
    """Run a study of learning rates whose seeds have the given returns."""
    fake = Fake(returns)
    monkeypatch.setattr(work, "Workers", fake)
    base = Base(DQNConfig(learning_rate=1e-3, learning_rate_end=0.0), TrainConfig(steps=800, eval_every=100))
    space = from_dict({"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}})
    plan = Plan("CartPole-v1", "CartPole-v1", base, space, "final-iqm", tuple(range(seeds)), sampler, pruner, 0)
    made = Study(plan, out, out / "journal.log")
    with closing(Local(jobs)) as engine:
        made.run(count, engine, quiet=True)
    return made, fake


def rate(job: Job) -> float:
    assert isinstance(job.seed.agent, DQNConfig)
    return job.seed.agent.learning_rate


def states(made: Study) -> list[TrialState]:
    return [one.state for one in made.trials()]


def test_asha_compares_all_seeds_of_a_trial_at_each_rung(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Seed 0 of every later trial is lucky. The other two seeds are bad.
    def returns(job: Job) -> float:
        return 50.0 if job.trial == 0 else 1_000.0 if job.seed.seed == 0 else 0.0

    made, fake = made_up(monkeypatch, tmp_path / "s", returns, seeds=3, pruner="asha", count=4)
    assert states(made) == [TrialState.COMPLETE, *[TrialState.COMPLETE] * 3]
    assert made.best() is not None
    first = [(job.seed.seed, job.until) for job in fake.done if job.trial == 0]
    assert first == [(seed, until) for until in (200, 400, None) for seed in range(3)]


def test_asha_stops_a_bad_trial_at_the_first_rung(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, fake = made_up(
        monkeypatch, tmp_path / "s", lambda job: -float(job.trial or 0), seeds=3, pruner="asha", count=4, jobs=1
    )
    assert states(made) == [TrialState.COMPLETE, *[TrialState.PRUNED] * 3]
    assert [job.until for job in fake.done if job.trial == 2] == [200] * 3
    assert made.trials()[2].intermediate_values == {200: -2.0}
    assert made.trials()[2].user_attrs["reason"] == "stopped early by asha"


def test_wilcoxon_needs_more_than_one_bad_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def returns(job: Job) -> float:
        return float(job.seed.seed) - 100.0 * (job.trial or 0)

    made, fake = made_up(monkeypatch, tmp_path / "s", returns, seeds=6, pruner="wilcoxon", count=2, jobs=1)
    assert states(made) == [TrialState.COMPLETE, TrialState.PRUNED]
    assert [job.seed.seed for job in fake.done if job.trial == 1] == [0, 1, 2, 3]


def test_failed_trial_leaves_a_log_and_the_others_continue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def returns(job: Job) -> float | str:
        return "Traceback\nValueError: no" if job.trial == 1 else "DivergenceError: nan" if job.trial == 2 else 1.0

    made, _ = made_up(monkeypatch, tmp_path / "s", returns, count=4)
    assert states(made) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    assert "ValueError: no" in (made.directory(1) / "failure.txt").read_text()
    assert made.trials()[1].user_attrs["reason"] == "ValueError: no"


def test_search_stops_if_the_first_trials_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"the first 3 trials failed. The last one: ValueError: no") as raised:
        made_up(monkeypatch, tmp_path / "s", lambda job: "ValueError: no", count=10)
    assert "failure.txt" in str(raised.value)


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_sampler_depends_on_the_seed_and_the_history_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sampler: Any
) -> None:
    def returns(job: Job) -> float:
        return -abs(np.log10(rate(job)) + 2.0)

    a, b = (
        made_up(monkeypatch, tmp_path / name, returns, sampler=sampler, count=25, seeds=1, jobs=1)[0]
        for name in ("a", "b")
    )
    parameters = [[one.params for one in made.trials()] for made in (a, b)]
    assert parameters[0] == parameters[1]
    assert len({one["learning_rate"] for one in parameters[0]}) == 25
    if sampler != "random":  # it converges
        assert sum(-2.5 < np.log10(one["learning_rate"]) < -1.5 for one in parameters[0][15:]) >= 5


def test_journal_contains_no_pickle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_up(monkeypatch, tmp_path / "s", lambda job: -rate(job), sampler="cmaes", count=20, seeds=1, jobs=1)
    assert "cma:generation" in (tmp_path / "s" / "journal.log").read_text()
    assert "cma:optimizer" not in (tmp_path / "s" / "journal.log").read_text()


# The comparison and the report

RATES: dict[str, Any] = {
    "search_space": {"learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}},
    "trials": 12, "seeds_per_trial": 2, "steps": 800, "eval_every": 100, "learning_starts": 100, "pruner": "none",
}  # fmt: skip


def near_one_hundredth(job: Job) -> float:
    return 100 - 10 * abs(np.log10(rate(job)) + 2.0) + job.seed.seed


def test_winner_is_compared_with_an_interval(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake = Fake(near_one_hundredth)
    monkeypatch.setattr(work, "Workers", fake)
    result = tune("CartPole-v1", out=tmp_path / "s", quiet=True, comparison_seeds=4, first_seed=7, **RATES)
    assert result.gain is not None
    start, winner = (10 * abs(np.log10(rate) + 2.0) for rate in (1e-3, result.agent.learning_rate))
    assert result.gain.start == pytest.approx([100 - start + seed for seed in (9, 10, 11, 12)])
    assert result.gain.winner == pytest.approx([100 - winner + seed for seed in (9, 10, 11, 12)])
    assert result.gain.margin.value == pytest.approx(start - winner)
    assert result.gain.margin.low < result.gain.margin.value < result.gain.margin.high
    fresh = {job.seed.seed for job in fake.done if job.trial is None}
    assert fresh == {9, 10, 11, 12}
    assert not fresh & {job.seed.seed for job in fake.done if job.trial is not None}
    assert result.best_value == pytest.approx(100 - winner + 7.5)

    text = report.describe(result)
    assert f"trial {result.best}, final-iqm {result.best_value:.1f}. This figure is optimistic" in text
    assert "On 4 fresh seeds, the winner is better than the starting point: final-iqm differs by" in text
    (written,) = report.write(result)
    page = written.read_text()
    assert page.count("<img ") == 3  # history, parameters, importances
    assert "http" not in page.replace("http-equiv=", "")
    for part in (f"winner (trial {result.best})", "better than the starting point", "--config"):
        assert part in page
    assert "<html" not in result._repr_html_()
    assert list(result.importances) == ["learning_rate"]


def test_running_search_writes_its_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pages: list[str] = []

    def returns(job: Job) -> float:
        if (tmp_path / "s" / "report.html").exists():
            pages.append((tmp_path / "s" / "report.html").read_text())
        return near_one_hundredth(job)

    monkeypatch.setattr(work, "Workers", Fake(returns))
    tune("CartPole-v1", out=tmp_path / "s", quiet=True, comparison_seeds=1, **RATES | {"trials": 3})
    assert "The search is running" in pages[0]
    assert "The search is running" not in (tmp_path / "s" / "report.html").read_text()


def test_search_without_a_better_trial_reports_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(work, "Workers", Fake(lambda job: -abs(np.log10(rate(job)) + 3.0)))
    result = tune("CartPole-v1", out=tmp_path / "s", quiet=True, **RATES | {"trials": 3})
    assert (result.best, result.gain, result.importances) == (0, None, {})
    assert "No trial was better than the starting point, which is trial 0" in report.describe(result)
    assert "too few complete trials" in report.html(result)
    assert not (tmp_path / "s" / "comparison").exists()


def test_difference_that_may_be_noise_is_not_called_better(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def returns(job: Job) -> float:
        return near_one_hundredth(job) if job.trial is not None else float(job.seed.seed % 2)

    monkeypatch.setattr(work, "Workers", Fake(returns))
    result = tune("CartPole-v1", out=tmp_path / "s", quiet=True, comparison_seeds=6, **RATES | {"trials": 5})
    assert "the winner is not distinguishable from the starting point" in report.describe(result)


def test_winner_that_is_worse_on_fresh_seeds_is_not_recommended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def returns(job: Job) -> float:
        return near_one_hundredth(job) * (1 if job.trial is not None or "start" in job.seed.directory.parts else -1)

    monkeypatch.setattr(work, "Workers", Fake(returns))
    result = tune("CartPole-v1", out=tmp_path / "s", quiet=True, comparison_seeds=6, **RATES | {"trials": 5})
    assert "the winner is worse than the starting point" in report.describe(result)
    assert "Keep the settings of the starting point" in report.html(result)


def test_comparison_with_unsolved_seeds_counts_the_solved_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def seconds(job: Job) -> float:
        if job.trial is not None:
            return 5.0 - job.trial
        return 2e6 if job.seed.seed == 3 and "start" in job.seed.directory.parts else 7.0

    monkeypatch.setattr(work, "Workers", Fake(seconds))
    options = RATES | {"trials": 2, "objective": "cpu-seconds-to-solved", "comparison_seeds": 4}
    result = tune("CartPole-v1", out=tmp_path / "s", quiet=True, **options)
    assert "the winner solves CartPole-v1 with 4 seeds, the starting point with 3." in report.describe(result)
    assert result.gain is not None
    _, rows = report.comparison(result, result.gain)
    assert rows[0] == ["cpu-seconds-to-solved", "7.0 s", "not always solved", ""]


def test_unsolved_seeds_are_reported_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(work, "Workers", Fake(lambda job: 2e6 if job.trial == 1 else 5.0 + (job.trial or 0)))
    options = RATES | {"trials": 3, "objective": "cpu-seconds-to-solved"}
    result = tune("CartPole-v1", out=tmp_path / "s", quiet=True, **options)
    assert result.best == 0
    for part in ("| 0 | 5.0 s |", "| 1 | not always solved |", "| 2 | 7.0 s |"):
        assert part in report.describe(result)


def test_several_processes_share_a_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made, _ = made_up(monkeypatch, tmp_path / "s", near_one_hundredth, count=1)
    other = Study(made.plan, made.out, made.out / "journal.log")
    mine, theirs = made._claim(3), other._claim(3)
    assert mine is not None
    assert theirs is not None
    assert (mine.trial.number, theirs.trial.number) == (1, 2)
    assert made._claim(3) is other._claim(3) is None  # both trials are taken
    theirs.lock.release()  # the other process dies
    again = made._claim(3)
    assert again is not None
    assert again.trial.number == 2
    assert [seed.agent for seed in again.seeds] == [seed.agent for seed in theirs.seeds]
    for active in (mine, again):
        active.lock.release()


# Storage


def test_unfinished_line_of_a_journal_is_removed(copied: Path) -> None:
    before = (copied / "journal.log").read_bytes()
    (copied / "journal.log").write_bytes(before + b'{"op_code":4,"worker_id":"x-1","stu')
    run(copied, "--comparison-seeds", "0")
    assert (copied / "journal.log").read_bytes() == before


def test_every_cut_of_a_journal_can_be_opened(finished: Path, tmp_path: Path) -> None:
    content = (finished / "journal.log").read_bytes()
    path = tmp_path / "journal.log"
    for size in [*range(60), *range(60, len(content), 97)]:
        path.write_bytes(content[:size])
        Journal(path)
        assert path.read_bytes() == content[: content[:size].rfind(b"\n") + 1]


def test_unfinished_line_is_removed_before_another_process_appends(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    first.append_logs([{"op_code": 0, "worker_id": "a"}])
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"op_code":1,"wor')  # a killed process
    second.append_logs([{"op_code": 2, "worker_id": "b"}])
    assert [json.loads(line)["op_code"] for line in (tmp_path / "j").read_bytes().splitlines()] == [0, 2]


@pytest.mark.parametrize("line", [b'{"op_code":4,"wor{"op_code":5,"worker_id":"x"}\n', b"\n", b"[]\n", b"\xff\n"])
def test_damaged_journal_is_refused_by_name(copied: Path, line: bytes) -> None:
    lines = (copied / "journal.log").read_bytes().splitlines(keepends=True)
    (copied / "journal.log").write_bytes(b"".join([*lines[:4], line, *lines[4:]]))
    before = modified(copied)
    with pytest.raises(FileFormatError, match=r"journal\.log is damaged: line 5 is not a record"):
        Journal(copied / "journal.log")
    assert modified(copied) == before


def test_other_file_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no journal")
    with pytest.raises(FileFormatError, match=r"notes\.txt is damaged: line 1"):
        Journal(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "no journal"


# Wrong inputs


def call(out: Path, **options: Any) -> None:
    tune("CartPole-v1", out=out, quiet=True, **{"trials": 1, **SETTINGS, **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "trials=0 is invalid: expected a whole number >= 1"),
        ({"jobs": 0}, "jobs=0 is invalid"),
        ({"objective": "loss"}, "expected one of final-iqm, auc, cpu-seconds-to-solved"),
        ({"sampler": "grid"}, "expected one of tpe, cmaes, random"),
        ({"pruner": "wilcoxon"}, "seeds_per_trial=3 is invalid: expected at least 5"),
        ({"eval_every": 200}, "eval_every=200 is invalid: expected at most 75"),
        ({"storage": "nosql://x/y"}, "storage='nosql://x/y' is invalid"),
        ({"search_space": {"gama": {"low": 0, "high": 1}}}, "Did you mean gamma?"),
        ({"search_space": {"learning_rate": {"low": 1e-4, "high": 1e-2}}}, "the search space varies learning_rate"),
        ({"search_space": {"steps": {"low": 1, "high": 2}}}, "expected a setting of the agent"),
        ({"search_space": {}}, "one or more settings to vary"),
    ],
)
def test_invalid_options_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        call(tmp_path / "out", **options)
    assert words in str(refused.value)
    assert not list(tmp_path.rglob("config.json"))


def test_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean gamma"):
        call(tmp_path, gama=0.9)


def test_time_to_solved_needs_a_threshold(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Blackjack-v1 has no reward threshold"):
        tune("Blackjack-v1", objective="cpu-seconds-to-solved", out=tmp_path, quiet=True)


def test_other_options_for_the_same_study_are_refused(copied: Path) -> None:
    with pytest.raises(RunDirectoryError, match="searches with other settings: sampler = 'tpe' there, 'random'"):
        call(copied, seeds_per_trial=2, pruner="none", sampler="random")
    (copied / "journal.log").unlink()
    with pytest.raises(RunDirectoryError, match="holds trials of a study that is not in"):
        call(copied, seeds_per_trial=2, pruner="none")


# Objectives


def test_area_is_the_mean_return_during_training() -> None:
    assert area([0, 100, 400], [0.0, 10.0, 40.0]) == pytest.approx((100 * 5 + 300 * 25) / 400)
    assert area([7], [3.0]) == 3.0


def test_trial_value_is_the_interquartile_mean_of_returns_and_the_mean_of_times() -> None:
    assert combined("final-iqm", [0.0, 10.0, 20.0, 1_000.0]) == 15.0
    assert combined("cpu-seconds-to-solved", [1.0, 2.0, 6.0]) == 3.0


def test_more_solved_seeds_rank_before_less_time() -> None:
    fast = combined("cpu-seconds-to-solved", [1.0, 1.0, unsolved(474.9, 475.0)])
    slow = combined("cpu-seconds-to-solved", [9_000.0] * 3)
    assert slow < fast
    assert unsolved(400.0, 475.0) < unsolved(100.0, 475.0) < 2 * unsolved(475.0, 475.0)


def test_report_formats_values() -> None:
    assert report.number(0.000123456) == "0.0001235"
    assert report.parameters({"head": "qr", "n_step": 3}) == "head qr, n_step 3"
