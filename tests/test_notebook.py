"""Output in notebooks: training progress, the summary of a run, and the example notebook."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.image import imread
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from fixtures_runs import TinyRun, decode, episode, evaluated, made_up_run
from html_reader import Html
from perilune._utils.extras import install_command
from perilune.agent.config import TrainConfig
from perilune.viz import notebook
from perilune.viz.summary import TrainingSummary

EXAMPLE = Path(__file__).parents[1] / "examples" / "cartpole.ipynb"


def executed(book: Any, directory: Path) -> Any:
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(directory)}}).execute()
    return book


@pytest.mark.long
def test_example_notebook_runs_and_shows_its_results(tmp_path: Path) -> None:
    book = executed(nbformat.read(EXAMPLE, 4), tmp_path)
    cells = {cell.id: cell.outputs for cell in book.cells if cell.cell_type == "code"}
    for output in (output for outputs in cells.values() for output in outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"

    progress = cells["train"][-1]  # after the line that names the preset
    page = Html(progress.data["text/html"])
    assert page.named("div")[2]["aria-valuenow"] == "100"
    assert any(word.startswith("took ") for word in page.texts)
    assert "100%" in progress.data["text/plain"]
    assert len(page.named("polyline")) == 1

    for cell in ("run", "load"):
        (run,) = cells[cell]
        page = Html(run.data["text/html"])
        (video,), (image,) = page.named("video"), page.named("img")
        path = tmp_path / "video.mp4"
        path.write_bytes(base64.b64decode(video["src"].removeprefix("data:video/mp4;base64,")))
        assert len(decode(path).frames) > 50
        assert "best.mp4" in page.texts
        png = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert imread(io.BytesIO(png), "png").shape[1] > 600
        assert "History(" in run.data["text/plain"]

    for line, action in zip(cells["values"][0].text.splitlines()[1:], ("right", "left"), strict=True):
        assert line.endswith(f"action: {action}")  # toward the falling pole
    assert "balanced" in cells["score"][1].data["text/plain"]
    assert "env_steps=8500" in cells["resume"][1].data["text/plain"]


def test_example_notebook_is_stored_without_outputs() -> None:
    book = nbformat.read(EXAMPLE, nbformat.NO_CONVERT)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor >= 5) == (4, True)  # cells have ids
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert EXAMPLE.stat().st_size < 10_000


TRAINING = """
import sys, time
sys.path[:0] = {path!r}
from IPython import get_ipython
from fixtures_runs import episode
from perilune._utils.extras import install_command
from perilune.agent.config import TrainConfig
from perilune.viz.summary import TrainingSummary
from perilune.viz.terminal import live

sent = []
publish = get_ipython().display_pub.publish
get_ipython().display_pub.publish = lambda *args, **more: (sent.append(more.get("update")), publish(*args, **more))
began = time.perf_counter()
with live("a <title>", TrainingSummary(TrainConfig(episodes=40), 0, 0)) as show:
    for number in range(1, 41):
        show(episode(number, reward=float(number)))
        time.sleep(0.025)
print(time.perf_counter() - began, sent)
get_ipython().display_pub.publish = publish
"""


@pytest.mark.long
def test_notebook_progress_updates_one_display_a_few_times_a_second(tmp_path: Path) -> None:
    (cell,) = executed(new_notebook(cells=[new_code_cell(TRAINING.format(path=sys.path))]), tmp_path).cells
    (display,) = [output for output in cell.outputs if output.output_type == "display_data"]
    page = Html(display.data["text/html"])
    assert "a <title>" in page.texts
    assert "100%" in page.texts
    assert "returns from 1.0 to 40.0" in page.texts
    (words,) = [output.text for output in cell.outputs if output.output_type == "stream"]
    sent = [word == "True" for word in re.findall("True|False|None", words)]
    assert sent[0] is False
    assert all(sent[1:])
    seconds = float(words.split()[0])
    assert 3 <= len(sent) <= 3 + notebook.REFRESHES * seconds


def test_in_kernel_is_false_outside_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not notebook.in_kernel()
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.in_kernel()
    assert "IPython" not in sys.modules


def test_notebook_progress_shows_the_warm_up_before_the_first_return() -> None:
    page = Html(notebook.progress_html("t", TrainingSummary(TrainConfig(episodes=5), 0, 0)))
    assert "filling the replay buffer" in page.texts
    assert not page.named("svg")


def test_notebook_curve_spans_the_lowest_to_the_highest_return() -> None:
    summary = TrainingSummary(TrainConfig(episodes=5), 0, 0, outcomes=("landed", "<crashed>"))
    for number, reward in enumerate((-10.0, 30.0, 10.0), 1):
        summary.read(episode(number, reward=reward, outcome="landed"))
    page = Html(notebook.progress_html("t", summary))
    assert page.named("polyline")[0]["points"] == "0.0,50.0 300.0,6.0 600.0,28.0"
    assert "returns from -10 to 30" in page.texts
    assert "<crashed>" in page.texts
    assert page.texts[page.texts.index("landed") + 1 :][:2] == ["3 ", "(3 of the last 100)"]


def test_run_html_shows_figures_and_outcomes() -> None:
    episodes = [episode(number, reward=2.0, outcome="landed" if number > 20 else "crashed") for number in range(1, 121)]
    run = made_up_run(
        episodes, [evaluated(600, 200.0), evaluated(1_200, 150.0, best=False)], directory="runs/<i>", seed=4
    )
    page = Html(notebook.run_html(run, []))
    for label, value in (
        ("mean of 100", "2.0"), ("best evaluation", "200.0"), ("last evaluation", "150.0"), ("episodes", "120"),
        ("steps", "1,200"), ("training time", "1 s"), ("landed", "100 "), ("crashed", "20 "), ("hovered", "0 "),
    ):  # fmt: skip
        assert page.texts[page.texts.index(label) + 1] == value
    assert "LunarLander-v3, seed 4" in page.texts
    assert "runs/<i>" in page.texts
    assert not page.named("video")


def test_newest_video_within_the_size_limit_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "MAX_VIDEO", 100)
    for age, (name, size) in enumerate((("large.mp4", 101), ("right & good.mp4", 100), ("old.mp4", 5))):
        (tmp_path / name).write_bytes(bytes([age]) * size)
        os.utime(tmp_path / name, (1_000 - age, 1_000 - age))
    (tmp_path / "link.mp4").symlink_to(tmp_path / "old.mp4")  # the newest file
    page = Html(notebook.run_html(made_up_run([]), tmp_path.glob("*.mp4")))
    (video,) = page.named("video")
    assert base64.b64decode(video["src"].partition(",")[2]) == b"\x01" * 100
    assert "right & good.mp4" in page.texts
    link, large = [word for word in page.texts if word.startswith("skipped: ")]
    assert "is a link" in link
    assert "101 bytes, but at most 100" in large


def test_history_html_shows_its_run(tiny_run: TinyRun) -> None:
    page = Html(tiny_run.history._repr_html_())
    poster = base64.b64decode(page.named("video")[0]["poster"].removeprefix("data:image/png;base64,"))
    assert imread(io.BytesIO(poster), "png").shape[:2] == (400, 600)  # something to see before the video plays
    assert page.texts[page.texts.index("episodes") + 1] == "4"
    assert len(page.named("img")) == len(page.named("video")) == 1
    assert not page.named("script")


def test_run_html_works_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = Html(notebook.run_html(made_up_run([episode(1)]), []))
    assert any(install_command("view") in word for word in page.texts)
    assert not page.named("img")
