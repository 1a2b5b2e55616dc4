"""Learning curves: their data, labels and files, also for unusual numbers."""

from __future__ import annotations

import io
import math
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from PIL import Image

from fixtures_runs import episode, evaluated, made_up_run
from perilune._utils.arrays import Array
from perilune.errors import RunDirectoryError
from perilune.training.events import Episode
from perilune.viz import titles
from perilune.viz.figures import save_image, titled
from perilune.viz.plots import Picture, curves, pages
from perilune.viz.shared import COLORS, window

REWARD, LOSS, EPSILON, LENGTH, GREEDY = range(5)


def panel(picture: Picture, number: int) -> Any:
    return picture.figure.axes[number]


def lines(picture: Picture, number: int) -> list[Array]:
    """Return the points [x, y] of each line of a panel, in drawing order."""
    return [np.asarray(line.get_xydata()) for line in panel(picture, number).get_lines()]


def texts(picture: Picture) -> list[str]:
    """Return the titles, the names of the runs and the notes in and above the panels."""
    figure, panels = picture.figure, picture.figure.axes
    parts = figure.subfigs or [figure]
    names = [text.get_text() for part in parts for legend in part.legends for text in legend.get_texts()]
    notes = [note for axis in panels for note in (axis.get_title("right"), *(text.get_text() for text in axis.texts))]
    return [*(part.get_suptitle() for part in parts), *names, *notes]


def learning(count: int, seed: int = 0) -> list[Episode]:
    """Return episodes with returns from about -400 to 300, as in LunarLander."""
    generator = np.random.default_rng(seed)
    rewards = np.linspace(-300, 250, count) + generator.normal(0, 60, count)
    return [
        episode(number, reward, loss=math.exp(-number / count), length=50 + number % 9, epsilon=1 / number)
        for number, reward in enumerate(rewards.tolist(), 1)
    ]


def test_faint_line_shows_the_episode_values() -> None:
    episodes = learning(60)
    picture, over_steps = (curves([made_up_run(episodes)], x) for x in ("episodes", "steps"))
    for number, values in (
        (REWARD, [e.reward for e in episodes]),
        (LOSS, [e.loss for e in episodes]),
        (EPSILON, [e.epsilon for e in episodes]),
        (LENGTH, [e.length for e in episodes]),
    ):
        np.testing.assert_array_equal(lines(picture, number)[0], np.array([range(1, 61), values]).T)
        np.testing.assert_array_equal(lines(over_steps, number)[0], np.array([range(10, 601, 10), values]).T)


@pytest.mark.parametrize("number", [REWARD, LOSS, LENGTH])
def test_strong_line_is_the_moving_average(number: int) -> None:
    picture = curves([made_up_run(learning(700))])
    raw, average = lines(picture, number)[:2]
    expected = [statistics.fmean(raw[stop - 35 : stop, 1].tolist()) for stop in range(35, 701)]  # only full windows
    np.testing.assert_array_equal(average[:, 0], raw[34:, 0])
    np.testing.assert_allclose(average[:, 1], expected, rtol=1e-9)
    assert "faint: each episode, strong: mean of the last 35" in texts(picture)
    faint, strong = panel(picture, number).get_lines()[:2]
    assert strong.get_linewidth() > 2 * faint.get_linewidth()
    assert (strong.get_alpha() or 1) > 2 * faint.get_alpha()


def test_episode_cut_off_by_the_budget_is_not_drawn() -> None:
    episodes = [*learning(20), episode(21, reward=-9_999.0, length=9_999, loss=9_999.0, epsilon=0.5, ended="budget")]
    picture = curves([made_up_run(episodes)])
    for number in range(4):
        for line in panel(picture, number).get_lines():
            if len(line.get_xdata()) > 2:
                assert max(line.get_xdata()) == 200
                assert -9_000 < min(line.get_ydata()) < max(line.get_ydata()) < 9_000


def test_episode_without_update_is_a_gap_in_the_loss() -> None:
    episodes = [episode(1, loss=None), episode(2, loss=None), *(episode(n, loss=2.0) for n in range(3, 9))]
    raw, average = lines(curves([made_up_run(episodes)]), LOSS)
    np.testing.assert_array_equal(raw[:, 1], [np.nan, np.nan, 2, 2, 2, 2, 2, 2])
    np.testing.assert_array_equal(average[:, 1], [2, 2, 2, 2, 2])
    raw, average = lines(curves([made_up_run(episodes[:3])]), LOSS)
    np.testing.assert_array_equal(average[:, 1], [np.nan, np.nan, 2])


def test_page_title_names_the_environments_of_all_runs() -> None:
    runs = [made_up_run([], environment=name) for name in ("LunarLander-v3", "CartPole-v1", "Taxi-v4")]
    assert titles.named(runs[:1]) == "LunarLander-v3, seed 0"
    assert titles.named(runs[:2]) == "CartPole-v1 and LunarLander-v3"
    assert titles.named(runs) == "3 environments"


@pytest.mark.parametrize(
    ("returns", "threshold", "expected"),
    [
        ([], 200.0, "no evaluation yet"),
        ([-150.0, 143.0, 99.5], 200.0, "not solved, best 143, final 99.5 (20 episodes)"),
        ([-150.0, 201.0, 284.3], 200.0, "solved at 200 steps, final 284.3 (20 episodes)"),
        ([210.0, 143.0], 200.0, "solved at 100 steps, but final 143 (20 episodes)"),
        ([0.1, 0.734, math.nan], None, "best 0.734, final 0.734 (20 episodes)"),
    ],
)
def test_title_reports_the_outcome(returns: list[float], threshold: float | None, expected: str) -> None:
    scores = [evaluated(100 * number, value) for number, value in enumerate(returns, 1)]
    run = made_up_run(learning(9), scores, reward_threshold=threshold)
    run.config["train"] = {"eval_episodes": 20}
    assert texts(curves([run]))[0] == f"LunarLander-v3, seed 0: {expected}"
    failed = replace(run, failure="DivergenceError")
    assert titles.outcome([failed]) == (f"{expected}, training failed" if returns else expected)


def test_title_of_several_runs_counts_those_that_are_solved() -> None:
    runs = [made_up_run(learning(9), [evaluated(100, value)], directory=str(value)) for value in (210.0, -3.0, 9.0)]
    assert texts(curves(runs))[0] == "LunarLander-v3: 1 of 3 runs solved, final -3 to 210"


def test_environments_are_never_on_one_axis() -> None:
    names = ("LunarLander-v3", "CartPole-v1", "LunarLander-v3")
    runs = [
        made_up_run(learning(count), [evaluated(100, count)], environment=name, directory=f"runs/{count:02}")
        for count, name in zip((9, 12, 15), names, strict=True)
    ]
    picture = curves(runs)
    assert texts(picture)[:2] == [
        "LunarLander-v3: 0 of 2 runs solved, final 9 to 15",
        "CartPole-v1, seed 0: not solved, best 12, final 12",
    ]
    drawn = [sorted({len(line.get_xdata()) for line in axis.get_lines()} & {9, 12, 15}) for axis in picture.figure.axes]
    assert drawn == [[9, 15]] * 4 + [[]] + [[12]] * 4 + [[]]


def test_pictures_of_many_environments_are_split_and_bounded() -> None:
    runs = [made_up_run([], environment=f"Env{number % 60}-v0", seed=number) for number in range(120)]
    parts = pages(runs)
    assert sorted(run.config["seed"] for part in parts for run in part) == list(range(120))
    environments = [{run.config["environment"] for run in part} for part in parts]
    assert [len(found) for found in environments] == [8] * 7 + [4]
    assert len(set.union(*environments)) == 60
    with Image.open(io.BytesIO(Picture(titled(1, 1_000, "A long figure")).encoded("png", 150))) as image:
        assert image.size == (16, 16_000)


def test_each_run_has_a_color_and_a_name() -> None:
    # Matplotlib would parse text between two dollar signs as math.
    runs = [made_up_run(learning(30, seed), directory=f"runs/{seed}$\\no$", seed=seed) for seed in range(3)]
    picture = curves(runs)
    picture.figure.draw_without_rendering()
    assert {"0$\\no$", "1$\\no$", "2$\\no$"} < set(texts(picture))
    for number in (REWARD, LOSS, LENGTH):
        colors = [line.get_color() for line in panel(picture, number).get_lines() if len(line.get_xdata()) >= 26]
        assert colors == [color for color in COLORS[:3] for _ in range(2)]
    assert [line.get_color() for line in panel(picture, EPSILON).get_lines()] == list(COLORS[:3])


def test_colors_follow_the_order_of_creation(tmp_path: Path) -> None:
    for age, name in enumerate("cab"):
        (tmp_path / name).mkdir()
        for file, written in (("settings.toml", age), ("config.json", 9 - age)):  # config.json was rewritten later
            (tmp_path / name / file).touch()
            os.utime(tmp_path / name / file, (written, written))
    runs = [made_up_run(learning(1), directory=str(tmp_path / name)) for name in "abc"]
    picture = curves(runs)
    assert [line.get_color() for line in panel(picture, EPSILON).get_lines()] == list(COLORS[:3])
    assert [name for name in texts(picture) if name in {"a", "b", "c"}] == ["c", "a", "b"]


def test_runs_of_the_same_name_are_shown_by_path() -> None:
    runs = [made_up_run(learning(5), directory=f"{parent}/seed-0") for parent in ("a", "b")]
    assert {"a/seed-0", "b/seed-0"} < set(texts(curves(runs)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("red\x1b[31m\nlines", "red\\x1b[31m\\nlines"), ("no\udcffbytes\ufffe\x7f", "no\\udcffbytes\\ufffe\\x7f"),
        ("--><!-- <&>'\"]]>", "--><!-- <&>'\"]]>"),
    ],
)  # fmt: skip
def test_svg_is_valid_xml_for_any_run_name(tmp_path: Path, name: str, shown: str) -> None:
    runs = [made_up_run(learning(5), directory=f"runs/{each}") for each in (name, "other")]
    picture = curves([*runs, made_up_run(learning(5), environment=f"{name}-v0")])
    assert shown in texts(picture)
    ET.parse(picture.save(tmp_path, "curves")[1])  # noqa: S314
    assert texts(curves([made_up_run([], environment=name)]))[0] == f"{shown}, seed 0: no evaluation yet"


def test_reward_threshold_is_drawn_as_a_line() -> None:
    picture = curves([made_up_run(learning(9), reward_threshold=195.5)])
    assert "solved at 195.5" not in texts(picture)  # the panel of evaluations has no data
    assert [195.5, 195.5] in [list(line.get_ydata()) for line in panel(picture, REWARD).get_lines()]
    picture = curves([made_up_run(learning(9), [evaluated(50, 1.0)], reward_threshold=195.5)])
    assert "solved at 195.5" in texts(picture)
    assert [195.5, 195.5] in [list(line.get_ydata()) for line in panel(picture, GREEDY).get_lines()]


@pytest.mark.parametrize("marks", [(None,), (None, None), (200.0, 475.0), (200.0, None)])
def test_runs_without_a_common_threshold_show_none(marks: Sequence[float | None]) -> None:
    runs = [
        made_up_run(learning(9), [evaluated(50, 1.0)], reward_threshold=mark, directory=str(number))
        for number, mark in enumerate(marks)
    ]
    assert not [text for text in texts(curves(runs)) if text.startswith("solved")]


def bands_of(picture: Picture) -> list[Array]:
    """Return the vertices of the bands of the panel of evaluations."""
    return [collection.get_paths()[0].vertices for collection in panel(picture, GREEDY).collections]


def test_evaluations_are_joined_and_show_the_spread_over_episodes() -> None:
    scores = [evaluated(100, -150.0)._replace(std_return=30.0), evaluated(300, 99.5)._replace(std_return=0.5)]
    run = made_up_run(learning(40), [*scores, evaluated(400, math.nan)])
    picture = curves([run])
    (line,) = [line for line in panel(picture, GREEDY).get_lines() if line.get_label() == "greedy evaluation"]
    assert line.get_xydata().tolist() == [[100, -150.0], [300, 99.5]]
    assert line.get_linestyle() == "-"
    (band,) = bands_of(picture)
    assert {(100, -180), (100, -120), (300, 99), (300, 100)} <= {tuple(point) for point in band.tolist()}
    assert "band: standard deviation over the episodes of an evaluation" in texts(picture)
    over_episodes = lines(curves([run], "episodes"), GREEDY)[0]
    assert over_episodes.tolist() == [[10, -150.0], [30, 99.5]]


def test_evaluations_of_several_seeds_show_the_spread_over_seeds() -> None:
    # Seeds are evaluated at different steps, so the mean covers the steps that all seeds share.
    scores = ([(100, 0.0), (300, 20.0)], [(150, 40.0), (200, 60.0), (400, 60.0)])
    runs = [
        made_up_run(learning(40), [evaluated(*one) for one in own], seed=seed, directory=str(seed))
        for seed, own in enumerate(scores)
    ]
    picture = curves(runs)
    mean = lines(picture, GREEDY)[2]
    assert mean.tolist() == [[150, 22.5], [200, 35.0], [300, 40.0]]
    (band,) = bands_of(picture)
    assert {(150, 5), (150, 40), (300, 20), (300, 60)} <= {tuple(point) for point in band.tolist()}
    assert "black: mean over seeds, band: lowest to highest seed" in texts(picture)
    runs[1].config["agent"] = {"gamma": 0.5}  # other settings, so a mean would mislead
    assert not bands_of(curves(runs))


def test_evaluations_of_several_runs_have_the_colors_of_the_runs() -> None:
    runs = [
        made_up_run(learning(40), [evaluated(100, number), evaluated(300, 99.5)], directory=f"{number}")
        for number in range(8)
    ]
    picture = curves([*runs, made_up_run(learning(40), directory="none")])
    dots = [line for line in panel(picture, GREEDY).get_lines() if line.get_label() == "greedy evaluation"][:8]
    assert [line.get_xydata().tolist() for line in dots] == [[[100, n], [300, 99.5]] for n in range(8)]
    assert [line.get_color() for line in dots] == [*COLORS, *COLORS[:2]]
    assert len({(line.get_color(), line.get_marker()) for line in dots}) == 8


def test_loss_over_several_decades_is_logarithmic() -> None:
    episodes = [episode(number, loss=10.0 ** (-number / 20)) for number in range(1, 41)]
    picture = curves([made_up_run(episodes)])
    axis = panel(picture, LOSS)
    assert axis.get_yscale() == "log"
    low, high = axis.get_ylim()
    picture.figure.draw_without_rendering()
    shown = [tick.label1.get_text() for tick in axis.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert shown == ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    assert axis.yaxis.get_minor_ticks() == []


def test_zero_loss_is_a_gap_on_a_logarithmic_axis() -> None:
    episodes = [episode(number, loss=0.0 if number == 7 else 10.0 ** (-number / 20)) for number in range(1, 41)]
    axis = panel(curves([made_up_run(episodes)]), LOSS)
    with np.errstate(divide="ignore"):
        assert not np.isfinite(axis.yaxis.get_transform().transform([0.0])).any()


ODD: list[list[list[Episode]]] = [
    [[episode(1, loss=0.0), episode(2, loss=0.0)]],
    [[episode(1, loss=2e-311), episode(2, loss=1.0)]],
    [[episode(1, loss=0.0), episode(2, loss=1e12), episode(3, loss=None), episode(4, loss=1e-12)]],
    [[episode(1, reward=math.nan), episode(2, reward=1e9)]],
    [[episode(1, ended="budget")]],
    [[], [episode(5)]],
    [[episode(1, epsilon=0.0, length=1)], [], [episode(901)]],
]


# Warnings are errors in tests, so this also shows that matplotlib gives none.
@pytest.mark.parametrize("runs", ODD)
def test_unusual_numbers_can_be_plotted(runs: list[list[Episode]]) -> None:
    picture = curves([made_up_run(episodes, directory=f"run {n}") for n, episodes in enumerate(runs)])
    picture.figure.draw_without_rendering()


@pytest.mark.parametrize("count", [0, 1, 2_000])
def test_png_and_svg_are_written_for_any_number_of_episodes(tmp_path: Path, count: int) -> None:
    paths = curves([made_up_run(learning(count))]).save(tmp_path / "new" / "plots", "curves")
    assert paths == [tmp_path / "new" / "plots" / "curves.png", tmp_path / "new" / "plots" / "curves.svg"]
    image = imread(paths[0])
    assert image.shape[:2] == (1350, 1650)
    assert image[..., :3].std() > 0.05  # not blank
    assert ET.parse(paths[1]).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314


def test_empty_panel_is_labeled_no_data_yet() -> None:
    picture = curves([made_up_run([episode(1, loss=None), episode(2, loss=None)])])
    shown = [[text.get_text() for text in panel(picture, number).texts] for number in range(5)]
    assert shown == [[], ["no data yet"], [], [], ["no data yet"]]


def test_files_of_the_same_run_are_identical() -> None:
    run = made_up_run(learning(60), [evaluated(100, -150.0), evaluated(300, 99.5)])
    assert len({curves([run]).encoded("svg") for _ in range(3)}) == 1


def test_curves_do_not_use_pyplot() -> None:
    curves([made_up_run(learning(5))])
    assert "matplotlib.pyplot" not in sys.modules


def test_error_names_the_unwritable_figure_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match=f"{tmp_path / 'file' / 'plots'} cannot be written"):
        curves([made_up_run(learning(5))]).save(tmp_path / "file" / "plots", "curves")


@pytest.mark.parametrize(("height", "width"), [(400, 600), (57, 113), (1, 1), (29, 58)])
def test_image_is_saved_pixel_for_pixel(tmp_path: Path, height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    save_image(image, tmp_path / "frame.png")
    saved = np.round(imread(tmp_path / "frame.png")[..., :3] * 255).astype(np.uint8)
    np.testing.assert_array_equal(saved, image)


@given(st.integers(0, 10**6))
def test_moving_average_spans_a_twentieth_of_the_episodes(episodes: int) -> None:
    size = window(episodes)
    assert 5 <= size <= 100
    assert size % 5 == 0
    if 100 <= episodes <= 2_000:
        assert abs(size - episodes / 20) <= 2.5
