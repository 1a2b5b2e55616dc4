"""Learning curves: their data, labels and files, also for unusual numbers."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from fixtures_runs import episode, evaluated, made_up_run
from perilune._utils.arrays import Array
from perilune.errors import RunDirectoryError
from perilune.training.events import Episode
from perilune.viz.figures import COLORS, save_image
from perilune.viz.plots import Picture, curves, window

REWARD, LOSS, EPSILON, LENGTH = range(4)


def panel(picture: Picture, number: int) -> Any:
    return picture.figure.axes[number]


def lines(picture: Picture, number: int) -> list[Array]:
    """Return the points [x, y] of each line of a panel, in drawing order."""
    return [np.asarray(line.get_xydata()) for line in panel(picture, number).get_lines()]


def texts(picture: Picture) -> list[str]:
    """Return the texts outside the panels."""
    figure = picture.figure
    return [figure.get_suptitle(), *(text.get_text() for legend in figure.legends for text in legend.get_texts())]


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
    picture = curves([made_up_run(episodes)])
    for number, values in (
        (REWARD, [e.reward for e in episodes]),
        (LOSS, [e.loss for e in episodes]),
        (EPSILON, [e.epsilon for e in episodes]),
        (LENGTH, [e.length for e in episodes]),
    ):
        np.testing.assert_array_equal(lines(picture, number)[0], np.array([range(1, 61), values]).T)


@pytest.mark.parametrize("number", [REWARD, LOSS, LENGTH])
def test_strong_line_is_the_moving_average(number: int) -> None:
    picture = curves([made_up_run(learning(700))])
    raw, average = lines(picture, number)[:2]
    expected = [statistics.fmean(raw[stop - 35 : stop, 1].tolist()) for stop in range(35, 701)]  # only full windows
    np.testing.assert_array_equal(average[:, 0], raw[34:, 0])
    np.testing.assert_allclose(average[:, 1], expected, rtol=1e-9)
    assert "mean of the last 35" in texts(picture)
    faint, strong = panel(picture, number).get_lines()[:2]
    assert strong.get_linewidth() > 2 * faint.get_linewidth()
    assert (strong.get_alpha() or 1) > 2 * faint.get_alpha()


def test_episode_cut_off_by_the_budget_is_not_drawn() -> None:
    episodes = [*learning(20), episode(21, reward=-9_999.0, length=9_999, loss=9_999.0, epsilon=0.5, ended="budget")]
    picture = curves([made_up_run(episodes)])
    for number in range(4):
        for line in panel(picture, number).get_lines():
            if len(line.get_xdata()) > 2:
                assert max(line.get_xdata()) == 20
                assert -9_000 < min(line.get_ydata()) < max(line.get_ydata()) < 9_000


def test_episode_without_update_is_a_gap_in_the_loss() -> None:
    episodes = [episode(1, loss=None), episode(2, loss=None), *(episode(n, loss=2.0) for n in range(3, 9))]
    raw, average = lines(curves([made_up_run(episodes)]), LOSS)
    np.testing.assert_array_equal(raw[:, 1], [np.nan, np.nan, 2, 2, 2, 2, 2, 2])
    np.testing.assert_array_equal(average[:, 1], [2, 2, 2, 2, 2])
    raw, average = lines(curves([made_up_run(episodes[:3])]), LOSS)
    np.testing.assert_array_equal(average[:, 1], [np.nan, np.nan, 2])


def test_title_names_the_environments_of_all_runs() -> None:
    runs = [made_up_run(learning(9), seed=seed, directory=f"runs/{seed}") for seed in range(3)]
    assert texts(curves(runs))[0] == "LunarLander-v3"
    runs.append(made_up_run(learning(9), environment="CartPole-v1", directory="runs/cartpole"))
    assert texts(curves(runs))[0] == "CartPole-v1 and LunarLander-v3"
    runs.append(made_up_run(learning(9), environment="Taxi-v4", directory="runs/taxi"))
    assert texts(curves(runs))[0] == "3 environments"  # the names would overlap the legend


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
    runs = [made_up_run(learning(5), directory=f"runs/{name}"), made_up_run(learning(5), environment=f"{name}-v0")]
    picture = curves(runs)
    assert shown in texts(picture)
    ET.parse(picture.save(tmp_path, "curves")[1])  # noqa: S314
    assert texts(curves([made_up_run([], environment=name)]))[0] == f"{shown}, seed 0"


def test_reward_threshold_is_drawn_as_a_line() -> None:
    picture = curves([made_up_run(learning(9), reward_threshold=195.5)])
    assert "solved at 195.5" in texts(picture)
    assert [195.5, 195.5] in [list(line.get_ydata()) for line in panel(picture, REWARD).get_lines()]


@pytest.mark.parametrize("marks", [(None,), (None, None), (200.0, 475.0), (200.0, None)])
def test_runs_without_a_common_threshold_show_none(marks: Sequence[float | None]) -> None:
    runs = [made_up_run(learning(9), reward_threshold=mark, directory=str(number)) for number, mark in enumerate(marks)]
    assert not [text for text in texts(curves(runs)) if "solved" in text]


def test_evaluations_are_drawn_as_dots_at_their_episodes() -> None:
    run = made_up_run(learning(40), [evaluated(100, -150.0), evaluated(300, 99.5)])
    picture = curves([run])
    dots = [line for line in panel(picture, REWARD).get_lines() if line.get_label() == "greedy evaluation"]
    assert [line.get_xydata().tolist() for line in dots] == [[[10, -150.0], [30, 99.5]]]
    assert "greedy evaluation" in texts(picture)


def test_evaluations_of_several_runs_have_the_colors_of_the_runs() -> None:
    runs = [
        made_up_run(learning(40), [evaluated(100, number), evaluated(300, 99.5)], directory=f"{number}")
        for number in range(8)
    ]
    picture = curves([*runs, made_up_run(learning(40), directory="none")])
    dots = [line for line in panel(picture, REWARD).get_lines() if line.get_label() == "greedy evaluation"]
    assert [line.get_xydata().tolist() for line in dots] == [[[10, n], [30, 99.5]] for n in range(8)]
    assert [line.get_color() for line in dots] == [*COLORS, *COLORS[:2]]
    assert len({(line.get_color(), line.get_marker()) for line in dots}) == 8
    assert {line.get_linestyle() for line in dots} == {"None"}
    assert texts(picture).count("greedy evaluation") == 1
    assert "greedy evaluation" not in texts(curves([made_up_run(learning(40)), made_up_run(learning(4))]))


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
    assert image.shape[:2] == (1020, 1650)
    assert image[..., :3].std() > 0.05  # not blank
    assert ET.parse(paths[1]).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314


def test_empty_panel_is_labeled_no_data_yet() -> None:
    picture = curves([made_up_run([episode(1, loss=None), episode(2, loss=None)])])
    shown = [[text.get_text() for text in panel(picture, number).texts] for number in range(4)]
    assert shown == [[], ["no data yet"], [], []]


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
