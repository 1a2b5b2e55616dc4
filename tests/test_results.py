"""Summaries, result files, comparisons and learning curves of benchmarks."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures_runs import evaluated, made_up_run
from perilune._utils import statistics
from perilune.bench import results
from perilune.bench.results import Result, band, summarize
from perilune.cli import main
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError
from perilune.runs.scores import Score
from perilune.viz.plots import bands


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 1_000)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def one(seed: int, final: float, best: float, solved: int | None = None) -> Score:
    return Score(
        seed=seed, final=final, best=best, best_env_steps=900, solved_env_steps=solved,
        solved_seconds=None if solved is None else solved / 100, training_peak=None, env_steps=1_000, episodes=40,
        seconds=10.0,
    )  # fmt: skip


SCORES = [
    one(4, 210.0, 250.0, 300),
    one(5, 100.0, 220.0, 700),
    one(6, 200.0, 200.0),
    one(7, 240.0, 190.0, 100),
    one(8, -50.0, 260.0, 500),
]
RESULT = Result("LunarLander-v3", 200.0, {"agent": {"gamma": 0.99}, "train": {}}, SCORES, {9: "it failed"})


def shifted(by: float) -> Result:
    moved = [replace(score, final=score.final + by, best=score.best + by) for score in SCORES]
    return replace(RESULT, scores=moved, failures={})


def write(result: Result, directory: Path) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    content = results.to_json(result, summarize(result, rng()))
    results.save(content, directory)
    return content


# Summary


def test_summary_matches_hand_computation() -> None:
    found = summarize(RESULT, rng())
    assert found.seeds == 5
    assert (found.final.iqm, found.final.median) == (pytest.approx(510 / 3), 200.0)  # of 100, 200 and 210
    assert (found.final.worst, found.final.worst_seed) == (-50.0, 8)
    assert found.final.solved_share == pytest.approx(3 / 5)  # a score of exactly 200 is solved
    assert (found.best.iqm, found.best.median) == (pytest.approx(670 / 3), 220.0)
    assert (found.best.worst, found.best.worst_seed) == (190.0, 7)
    assert found.best.solved_share == pytest.approx(4 / 5)
    assert found.fall == 40.0  # of 40, 120, 0, -50, 310
    assert (found.solved_env_steps, found.solved_seconds) == (500.0, 5.0)  # of 100, 300, 500, 700 and never
    assert found.never_solved == [6]
    for spread in (found.final, found.best):
        assert spread.low < spread.iqm < spread.high


def test_summary_text_and_table_show_the_scores() -> None:
    text = results.describe(RESULT, summarize(RESULT, rng()))
    assert "- final: IQM 170.0 (" in text
    assert "median 200.0, worst -50.0 (seed 8), 3 of 5 solved" in text
    assert "- first solved (evaluation at 200 or above): median 500 steps, 5 s of training; never: seed 6" in text
    assert "- best minus final: median 40.0" in text
    rows = results.table(SCORES).splitlines()
    assert rows[2] == "| 4 | 250.0 | 900 | 210.0 | 300 | 3 s |  | 10 s |"
    assert rows[4] == "| 6 | 200.0 | 900 | 200.0 | never | never |  | 10 s |"
    assert len({row.count("|") for row in rows}) == 1


def test_cpu_time_is_shown_if_all_seeds_have_it() -> None:
    scores = [
        replace(score, cpu_seconds=9.0, solved_cpu_seconds=score.solved_seconds and score.solved_seconds / 2)
        for score in SCORES
    ]
    found = summarize(replace(RESULT, scores=scores), rng())
    assert (found.solved_seconds, found.solved_cpu_seconds) == (5.0, 2.5)
    assert "median 500 steps, 2.5 CPU s of training" in results.describe(replace(RESULT, scores=scores), found)
    rows = results.table(scores).splitlines()
    assert rows[2] == "| 4 | 250.0 | 900 | 210.0 | 300 | 1.5 CPU s |  | 9.0 CPU s |"
    assert rows[4] == "| 6 | 200.0 | 900 | 200.0 | never | never |  | 9.0 CPU s |"
    assert summarize(replace(RESULT, scores=[*scores, SCORES[0]]), rng()).solved_cpu_seconds is None


def test_median_time_to_solve_is_never_if_most_seeds_are_unsolved() -> None:
    scores = [replace(score, solved_env_steps=None, solved_seconds=None) for score in SCORES[:3]] + SCORES[3:]
    found = summarize(replace(RESULT, scores=scores), rng())
    assert (found.solved_env_steps, found.solved_seconds) == (math.inf, math.inf)
    assert "median never; never: seed 4, 5, 6" in results.describe(RESULT, found)
    summary = results.to_json(RESULT, found)["summary"]
    assert (summary["solved_env_steps"], summary["solved_seconds"]) == (None, None)


def test_no_seed_counts_as_solved_or_unsolved_without_a_threshold() -> None:
    result = replace(RESULT, reward_threshold=None)
    found = summarize(result, rng())
    assert (found.final.solved_share, found.solved_env_steps, found.never_solved) == (None, None, [])
    assert "solved" not in results.describe(result, found)


# Files


def test_saved_result_is_loaded(tmp_path: Path) -> None:
    content = write(RESULT, tmp_path)
    assert results.load(tmp_path) == results.load(tmp_path / "scores.json") == replace(RESULT, failures={})
    assert json.loads((tmp_path / "scores.json").read_text()) == content
    assert content["failures"] == [{"seed": 9, "reason": "it failed"}]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    assert [(row["seed"], row["final"], row["solved_env_steps"]) for row in rows] == [
        ("4", "210.0", "300"), ("5", "100.0", "700"), ("6", "200.0", ""), ("7", "240.0", "100"), ("8", "-50.0", "500"),
    ]  # fmt: skip


def test_non_finite_numbers_are_null(tmp_path: Path) -> None:
    final = write(replace(RESULT, scores=SCORES[2:3]), tmp_path)["summary"]["final"]  # one unsolved seed
    assert (final["iqm"], final["low"], final["high"]) == (200.0, None, None)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"format": 2}, "has format 2; this version of Perilune reads format 1"),
        ({"environment": None}, r"\$\.environment"),
        ({"scores": {}}, r"\$\.scores"),
        ({"scores": []}, "has no scores"),
        ({"scores": [{"seed": 1}]}, r"\$\.scores\[0\]"),
        ({"scores": [5]}, r"\$\.scores\[0\]"),
    ],
)
def test_damaged_result_is_refused_with_the_reason(tmp_path: Path, change: dict[str, Any], wrong: str) -> None:
    content = write(RESULT, tmp_path)
    (tmp_path / "scores.json").write_text(json.dumps(content | change))
    with pytest.raises(FileFormatError, match=wrong) as refused:
        results.load(tmp_path)
    assert str(refused.value).startswith(str(tmp_path / "scores.json"))


def test_missing_and_truncated_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"has no scores\.json"):
        results.load(tmp_path)
    (tmp_path / "scores.json").write_text('{"format": 1, "env')
    with pytest.raises(FileFormatError, match="is not JSON"):
        results.load(tmp_path)


# Comparison


def test_better_result_has_a_positive_margin_and_swapping_negates_it() -> None:
    a, b = shifted(30.0), shifted(0.0)
    there, back = results.compare(a, b, rng()), results.compare(b, a, rng())
    for one_way, other_way in ((there.final, back.final), (there.best, back.best)):
        assert one_way.margin.value == pytest.approx(30)
        assert one_way.improvement.value > 0.5
        assert other_way.margin.value == pytest.approx(-one_way.margin.value)
        assert other_way.improvement.value == pytest.approx(1 - one_way.improvement.value)
        assert (other_way.a.value, other_way.b.value) == (one_way.b.value, one_way.a.value)
        # Intervals are bootstrapped, so they are negated only approximately.
        assert other_way.margin.low == pytest.approx(-one_way.margin.high, abs=15)
        assert other_way.improvement.low == pytest.approx(1 - one_way.improvement.high, abs=0.05)
    assert [summary.solved_env_steps for summary in there.summaries] == [500.0, 500.0]


@pytest.mark.parametrize(("by", "probability"), [(1_000.0, 1), (0.0, 0.5)])
def test_probability_of_improvement_is_one_if_certain_and_half_if_tied(by: float, probability: float) -> None:
    found = results.compare(shifted(by), RESULT, rng()).final
    assert (found.margin.value, found.improvement.value) == (by, probability)
    assert (found.margin.low > 0) == (found.improvement.low == 1) == bool(by)


def test_one_and_two_seeds_are_listed_without_statistics() -> None:
    two = replace(RESULT, scores=SCORES[:2])
    found = results.compare(RESULT, two, rng())
    assert [summary.seeds for summary in found.summaries] == [5, 2]
    assert results.plain(found)["final"]["margin"]["low"] is None
    warning, _, header, _, final, *_ = results.comparison_table(found, "a", "b").splitlines()
    assert warning.startswith("2 seeds per side cannot show which side is better")
    assert header == "| LunarLander-v3 | A: a (5 seeds) | B: b (2 seeds) |"
    assert final == "| final, each seed | 210.0, 100.0, 200.0, 240.0, -50.0 | 210.0, 100.0 |"
    final, best, *_ = results.describe(two, summarize(two, rng())).splitlines()
    assert (final, best) == ("- final: 210.0, 100.0, 1 of 2 solved", "- best: 250.0, 220.0, 2 of 2 solved")
    for seeds, has_interval in ((1, False), (2, False), (3, True)):
        learner = band("x", [curve((100, float(y))) for y in range(seeds)], rng())
        assert ("interval" in bands("x", [learner], None).figure.axes[0].get_title(loc="left")) == has_interval


def test_results_of_different_environments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"CartPole-v1.* LunarLander-v3"):
        results.compare(RESULT, replace(RESULT, environment="CartPole-v1"), rng())


def test_command_compares_directories_and_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write(shifted(30.0), a)
    write(RESULT, b)
    expected = results.compare(shifted(30.0), RESULT, rng())
    main(["bench", "compare", str(a), str(b / "scores.json"), "--json"])
    printed = json.loads(capfd.readouterr().out)
    assert printed == {"a": str(a), "b": str(b / "scores.json"), **results.plain(expected)}
    main(["bench", "compare", str(a), str(b)])
    out = capfd.readouterr().out
    for part in (
        f"A: {a} (5 seeds)", "| final, IQM | 200.0 (", "| 30.0 (", "| first solved, median | 500 steps | 500 steps |",
        "Settings that differ (A and B): none.\n",
    ):  # fmt: skip
        assert part in out


def test_differing_settings_are_listed() -> None:
    other = replace(RESULT, settings={"agent": {"gamma": 0.9, "tau": 1.0}, "train": {}}, scores=SCORES[:2])
    text = results.comparison_table(results.compare(RESULT, other, rng()), "a", "b")
    assert "Settings that differ (A and B): gamma (0.99 and 0.9); tau ('nothing' and 1.0)." in text
    assert text.startswith("2 seeds per side cannot show which side is better")
    many = {f"setting {number}": number for number in range(15)}
    text = results.comparison_table(results.compare(RESULT, replace(RESULT, settings={"agent": many}), rng()), "a", "b")
    assert text.endswith("; and 4 more.")


# Learning curves


def curve(*points: tuple[int, Any]) -> Any:
    return made_up_run([], [evaluated(steps, mean) for steps, mean in points])


def test_strong_line_is_the_interquartile_mean_of_the_faint_lines() -> None:
    runs = [curve((100, y), (200, 2 * y), (300, 3 * y)) for y in (-90.0, 10.0, 20.0, 1_000.0)]
    found = band("Perilune", runs, rng())
    assert found.env_steps.tolist() == [100, 200, 300]
    assert found.mean.tolist() == [15, 30, 45]
    assert (found.low <= found.mean).all()
    assert (found.high >= found.mean).all()
    *faint, strong = bands("x", [found], None).figure.axes[0].get_lines()
    assert [line.get_ydata()[-1] for line in faint] == [-270, 30, 60, 3_000]
    assert strong.get_ydata().tolist() == [15, 30, 45]
    assert strong.get_linewidth() > 2 * faint[0].get_linewidth()


def test_curves_are_interpolated_where_all_seeds_have_evaluations() -> None:
    found = band("x", [curve((100, 0.0), (300, 200.0)), curve((140, 50.0), (240, 50.0), (400, 50.0))], rng())
    assert found.env_steps.tolist() == [140, 240, 300]
    assert found.mean.tolist() == [(40 + 50) / 2, (140 + 50) / 2, (200 + 50) / 2]
    damaged = curve((100, 0.0), (200, None), (300, 200.0))  # an evaluation that was not finite
    found = band("x", [damaged, curve((100, 0.0), (200, 0.0), (300, 0.0))], rng())
    assert (found.seeds[0][1].tolist(), found.mean.tolist()) == ([0, 200], [0, 50, 100])


@pytest.mark.parametrize(
    "runs",
    [
        [curve((100, 5.0)), curve((120, 7.0))],
        [curve((100, 5.0), (200, 6.0))],
        [curve((100, 5.0), (200, 6.0)), curve((900, 1.0))],
    ],
)
def test_few_evaluations_and_seeds_without_overlap_are_drawn(runs: list[Any]) -> None:
    figure = bands("LunarLander-v3", [band("Perilune", runs, rng())], 200.0).figure
    figure.draw_without_rendering()
    for line, run in zip(figure.axes[0].get_lines(), runs, strict=False):
        assert (line.get_marker() == "o") == (len(run.evaluations) == 1)
