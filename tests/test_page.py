"""The page of ``perilune watch`` in a real browser, with real runs."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from fixtures_watch import (
    DESKTOP,
    MINUS,
    PHONE,
    REWARD,
    assert_accessible,
    copy_run,
    count_values,
    description,
    served,
    visit,
    wait_until,
)
from perilune._utils.text import duration, number
from perilune.runs import lock

DISCONNECTED = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "503"]
EVALUATION = "[id='chart-evaluations.mean_return']"
LABELS = f"{REWARD} .readings .name"
EVIL = '<img src=x onerror="window.hacked=1;alert(1)"><script>window.hacked=2</script>'
OUTCOMES = {"balanced": 0, "fell": 3, "left the track": 1}


def change_log(run: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Keep the first rows of a log, with these changes."""
    lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
    (run / name).write_text("".join(json.dumps(line | row) + "\n" for line, row in zip(lines, rows, strict=False)))


@pytest.fixture(scope="module")
def variants(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve changed copies of the runs."""
    runs = tmp_path_factory.mktemp("variants")
    for age, (name, seed) in enumerate({"seed1": 1, "seed1-2": 1, "seed2": 2}.items()):
        run = copy_run(root / "other", runs / name, seed=seed, environment="CartPole-v0")
        os.utime(run / "config.json", (1e9 + age, 1e9 + age))
    (runs / "seed2" / "evaluations.jsonl").write_text("")
    endings = [{"outcome": label, "ended": "terminated"} for label, n in OUTCOMES.items() for _ in range(n)]
    change_log(copy_run(root / "a", runs / "outcomes", seed=9), "episodes.jsonl", endings[::-1])
    agent = json.loads((root / "a" / "config.json").read_text())["agent"] | {"head": EVIL, EVIL: 1}
    hostile = copy_run(root / "a", runs / "<b onclick=alert(2)>&amp;", environment=EVIL, agent=agent)
    change_log(hostile, "episodes.jsonl", [{"outcome": EVIL}] * 1000)
    (hostile / "notices.jsonl").write_text(json.dumps({"env_steps": 1, "what": EVIL, "words": EVIL}) + "\n")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "config.json").write_text("{" + EVIL)
    with served(runs) as (address, _):
        yield address


def test_page_follows_a_run_from_start_to_removal(browser: Browser, root: Path, tmp_path: Path) -> None:
    runs, run = tmp_path / "later", tmp_path / "later" / "live"
    command = f"perilune train LunarLander-v3 --out {runs}/moon"
    with served(runs) as (address, _), visit(browser, address, ignore=["404"]) as visited, ExitStack() as training:
        page = visited.open()
        empty, missing, state = page.locator("#curves .empty"), page.locator("#missing"), page.locator("#runs .state")
        expect(empty).to_have_text(f"There are no runs in {runs} yet. Start one with {command}. It will appear here.")
        copy_run(root / "other", run)
        lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
        (run / "episodes.jsonl").write_text("".join(lines[:-10]))
        training.enter_context(lock.acquire(run))
        expect(state).to_have_text(re.compile(r"^running, \d+%$"))
        expect(page.locator("#runs progress")).to_have_attribute("title", re.compile(r"^\d+% of the budget$"))
        before = count_values(page, "live")
        with (run / "episodes.jsonl").open("a") as log:
            log.writelines(lines[-10:])
        wait_until(page, lambda: count_values(page, "live") == before + 10)
        page.get_by_role("button", name="Videos").click()
        expect(page.locator("#videos > .empty")).to_contain_text("No videos yet")
        shutil.copytree(root / "a" / "videos", run / "videos")
        expect(page.locator(".strip li.new").first).to_be_visible()
        training.close()
        shutil.rmtree(run / "checkpoints")
        expect(state).to_have_text("interrupted")
        shutil.rmtree(run / "videos")
        expect(page.locator("#videos > .empty")).to_contain_text("This run has no videos. Record one with")
        page.get_by_role("button", name="Curves").click()
        page.get_by_label("All listed runs").uncheck()
        expect(empty).to_contain_text("Select one in the table of runs")
        page.get_by_role("button", name="Only live").click()
        expect(page.locator(LABELS)).to_have_text(["live"])
        shutil.rmtree(run)
        expect(missing).to_have_text(f"live was removed from {runs}.")
        expect(empty).to_contain_text("perilune train")
        expect(page.locator("#runs")).to_be_hidden()
        copy_run(root / "other", runs / "next")
        expect(page.locator(LABELS)).to_have_text(["next"])
        expect(missing).to_be_hidden()


def test_runs_are_compared_in_curves_bands_and_settings(browser: Browser, origin: str, root: Path) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=dream")
        expect(page.locator("#missing")).to_have_text(f"dream is not in {root}. Showing other instead.")
        page.get_by_label("a", exact=True).check()
        expect(page.locator("#missing")).to_be_hidden()
        expect(page.locator(LABELS)).to_have_text(["other", "a"])
        page.get_by_label("b", exact=True).check()
        expect(page.locator(LABELS)).to_have_text(["other", "a", "b"])
        page.get_by_label("Bands over seeds").check()
        expect(page.locator(LABELS)).to_have_text(["CartPole-v1, mean of 2 seeds", "other"])
        page.get_by_role("button", name="Settings").click()
        expect(page.locator(".settings")).to_contain_text("host.numpy")
        page.get_by_label("Only differences").check()
        expect(page.locator(".settings tr.differs")).to_have_count(3)
        script = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        rows = {name: values for name, *values in page.locator(".settings tr").evaluate_all(script)}
        assert set(rows) == {"Setting", "Differences", "seed", "agent.learning_rate", "train.video_every"}
        assert (rows["Setting"], rows["seed"]) == (["other", "a", "b"], ["1", "1", "2"])
        assert rows["agent.learning_rate"][0] == "0.0005changed" != rows["agent.learning_rate"][1]


def test_band_uses_only_the_newest_run_of_a_seed(browser: Browser, variants: str) -> None:
    with visit(browser, variants) as visited:
        page = visited.open("run=seed1&run=seed1-2&run=seed2")
        labels, warnings = page.locator(LABELS), page.locator(".warnings")
        expect(labels).to_have_text(["seed1", "seed1-2", "seed2"])
        page.get_by_label("Bands over seeds").check()
        expect(labels).to_have_text(["CartPole-v0, mean of 2 seeds"])
        expect(warnings).to_contain_text("A band uses only the newest run of each seed. Ignored: seed1.")
        page.get_by_label("seed2", exact=True).uncheck()
        expect(labels).to_have_text(["seed1", "seed1-2"])
        expect(warnings).not_to_contain_text("Ignored")
        expect(warnings).to_contain_text("There is no band, because no two selected runs differ only in the seed.")
        lines = page.locator(f"{REWARD} .readings line")
        assert len({line.get_attribute("class") for line in lines.all()}) == 2  # two colors
        page.get_by_label("Bands over seeds").uncheck()
        page.get_by_label("seed2", exact=True).check()
        page.get_by_label("x axis").select_option("seconds")
        expect(warnings).to_contain_text("Without an evaluation, the training time is unknown: seed2.")
        expect(labels).to_have_text(["seed1", "seed1-2"])


@pytest.mark.parametrize(
    ("size", "scheme", "views"),
    [
        (DESKTOP, "light", {"Curves", "Videos", "Settings"}),
        pytest.param(DESKTOP, "dark", {"Videos"}, marks=pytest.mark.long),
        (PHONE, "light", {"Curves"}),
    ],
)
def test_page_is_accessible_in_every_layout(
    browser: Browser, origin: str, variants: str, size: Any, scheme: str, views: set[str]
) -> None:
    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth") <= size["width"])

    with visit(browser, origin, size, scheme) as visited:
        page = visited.open("run=a&run=b")
        contents = {"Curves": f"{REWARD} canvas", "Videos": ".strip canvas.ready", "Settings": "#settings td"}
        for view, content in contents.items():
            page.get_by_role("button", name=view, exact=True).click()
            page.locator(content).first.wait_for()
            if view in views:  # the check is slow
                assert_accessible(page)
            assert fits()
        if size == PHONE:
            page.get_by_role("button", name="Runs", exact=True).click()
            expect(page.locator("#run-table")).to_be_hidden()
            assert_accessible(page)
    with visit(browser, variants, size, scheme) as visited:
        page = visited.open("run=outcomes")
        rows = page.locator("#outcomes tr")
        expect(rows).to_have_text(["balanced0%0", "fell75%3", "left the track25%1"])
        for row, number in zip(rows.all(), OUTCOMES.values(), strict=True):
            track, fill = row.locator(".track").bounding_box(), row.locator(".fill").bounding_box()
            assert track is not None
            assert fill is not None
            assert fill["width"] == pytest.approx(track["width"] * number / 4, abs=1)
            assert fill["height"] == track["height"] >= 6
        assert fits()


DRAWN = """async ([answer, x, runs, view]) => {
    const { chartContent } = await import("/static/content.js");
    const { draw } = await import("/static/drawing.js");
    const { modelOf } = await import("/static/model.js");
    const { assign } = await import("/static/palette.js");
    assign(runs, runs.map((run) => run.id));
    const content = chartContent(answer, x, modelOf({ root: "runs", message: null, runs }), view);
    const ctx = Object.assign(document.createElement("canvas"), { width: 400, height: 200 }).getContext("2d");
    const [labels, dots] = [[], []];
    ctx.fillText = (text, left, middle) => labels.push([text, left, middle, ctx.measureText(text).width]);
    ctx.arc = (x, y) => dots.push([x, y]);
    draw({ ctx, bbox: { left: 0, top: 0, width: 400, height: 200 } }, content, 1);
    return { labels, dots, ...content };
}"""


def content(
    page: Page, name: str, runs: list[dict[str, Any]], x: tuple[float, float] = (0, 100), **view: object
) -> dict[str, Any]:
    """Return the content of a chart, and its labels with their left ends, middles and widths in pixels."""
    series = [{"mean": run["y"], "count": len(run["x"])} | run for run in runs]
    answer = {"name": name, "x": view.get("by", "env_steps"), "series": series, "bands": []}
    found: dict[str, Any] = page.evaluate(DRAWN, [answer, x, runs, view])
    return found


def drawn(page: Page, name: str, runs: list[dict[str, Any]], x: tuple[float, float] = (0, 100)) -> Any:
    """Return the y range of a chart and its labels."""
    found = content(page, name, runs, x)
    return found["y"], found["labels"]


def test_chart_range_fits_the_data_and_labels_do_not_overlap(browser: Browser, origin: str) -> None:
    x = list(range(101))
    spike = {"id": "one", "x": x, "y": [410 if step == 50 else 20 for step in x], "mean": [20 for _ in x]}
    mark = {"reward_threshold": 475, "environment": "CartPole-v1"}
    rising = {"id": "up", "x": [0, 96], "y": [100, 476], "best": {"env_steps": 96, "mean_return": 476}} | mark
    close = [
        {"id": str(mark), "x": [0, 100], "y": [-20, 20], "reward_threshold": mark, "environment": f"Env-{mark}"}
        for mark in (0.7, 8, -1, 3)
    ]
    with visit(browser, origin) as visited:
        page = visited.open()
        for part, lowest, highest in (((0, 100), 410, 450), ((0, 40), 20, 30), ((0, 49.5), 215, 250)):
            (low, high), _ = drawn(page, "episodes.reward", [spike], part)
            assert low < 20
            assert lowest < high < highest  # of the visible part

        (low, high), [[label, left, middle, width]] = drawn(page, "evaluations.mean_return", [rising])
        assert label == "solved at 475"
        ring = [96 * 4, 200 * (high - 476) / (high - low)]
        assert left + width < ring[0] - 7 or abs(middle - ring[1]) > 7 + 5
        for step in range(int(left), int(left + width) + 1):
            value = 100 + 376 * step / 4 / 96
            assert abs(200 * (high - value) / (high - low) - middle) > 5  # half the height of a letter

        _, labels = drawn(page, "episodes.reward", close)
        assert {label for label, *_ in labels} == {
            "Env-0.7 solved at 0.7", "Env-8 solved at 8", f"Env--1 solved at {MINUS}1", "Env-3 solved at 3",
        }  # fmt: skip
        for index, (_, left, middle, width) in enumerate(labels):
            for _, other, level, length in labels[:index]:
                assert abs(middle - level) >= 11 or left + width <= other or other + length <= left


READINGS = """async ([lines, x, slack]) => {
    const { readings } = await import("/static/content.js");
    return readings(lines, x, null, slack).listed.map(({ label, value }) => [label, value]);
}"""


FORMATS = """async (values) => {
    const { duration, number } = await import("/static/text.js");
    return values.map((value) => [number(value), duration(Math.abs(value))]);
}"""


def test_axes_fit_single_points_logarithms_and_outcomes(browser: Browser, origin: str) -> None:
    mark = {"reward_threshold": 475, "environment": "CartPole-v1"}
    losses = {"id": "a", "x": [0, 50, 100], "y": [0, 0.5, 80]}
    zeros = {"id": "a", "x": [0, 50], "y": [0, 0]}
    shares = [
        {"id": "a", "outcome": label, "x": [0, 100], "y": y}
        for label, y in {"fell": [1, 0.25], "balanced": [0, 0.75]}.items()
    ]
    with visit(browser, origin) as visited:
        page = visited.open()
        point = content(page, "evaluations.mean_return", [{"id": "a", "x": [50], "y": [20]} | mark])
        assert [label for label, *_ in point["labels"]] == ["solved at 475"]
        (low, high), (x, y) = point["y"], point["dots"][-1]
        assert low < 20
        assert high > 475
        assert (x, y) == pytest.approx((200, 200 * (high - 20) / (high - low)))
        found = {"best": {"env_steps": 9, "seconds": 50, "mean_return": 20}}
        timed = content(page, "evaluations.mean_return", [{"id": "a", "x": [50], "y": [20]} | found], by="seconds")
        assert [(ring["x"], ring["y"]) for ring in timed["rings"]] == [(50, 20)]
        assert content(page, "evaluations.mean_return", [point["strong"][0] | mark], y=[10, 30])["y"] == [10, 30]

        default, linear = (content(page, "episodes.loss", [losses], scale=scale) for scale in (None, "linear"))
        assert (default["log"], default["hidden"], linear["log"], linear["hidden"]) == (True, 1, False, 0)
        assert 0 < default["y"][0] < 0.5
        assert [y for line in default["lines"] for y in line["y"]] == [None, 0.5, 80] * 2
        assert content(page, "episodes.loss", [losses], scale="log", y=[-5, 5])["y"] == default["y"]
        assert not content(page, "episodes.loss", [zeros], scale="log")["log"]
        assert not content(page, "episodes.reward", [losses], scale="log")["log"]  # a return can be negative

        stacked = content(page, "episodes.outcome", shares)
        assert [area["high"] for area in stacked["areas"]] == [[1, 0.25], [1, 1]]
        compared = content(page, "episodes.outcome", [*shares, shares[0] | {"id": "b"}], outcome="balanced")
        assert [(line["id"], line["y"]) for line in compared["strong"]] == [("a", [0, 0.75])]

        values = [
            0,
            -3,
            476.0,
            0.734,
            9.999,
            57.04,
            57.08,
            -312.44,
            12_345.6,
            4e-7,
            31.44,
            61,
            3_599,
            3_600,
            3_725.5,
            90_061,
        ]
        expected = [[number(value).replace("-", MINUS, value < 0), duration(abs(value))] for value in values]
        assert page.evaluate(FORMATS, values) == expected  # as in figures, reports and the terminal

        ends = [{"label": label, "x": x, "y": [1, 2]} for label, x in {"short": [0, 50], "late": [20, 100]}.items()]
        read = {x: dict(page.evaluate(READINGS, [ends, x, 2])) for x in (10, 30, 51, 60, None)}
        assert read[10] == {"short": 1, "late": None}  # no value before the first and after the last point
        assert read[60] == {"short": None, "late": 2}
        assert None not in {*read[30].values(), *read[51].values()}
        assert read[None] == {"short": 2, "late": 2}


def drag(page: Page, dx: float, dy: float) -> None:
    """Drag across the chart of the returns."""
    area = page.locator(f"{REWARD} .u-over").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + 100, area["y"] + 40)
    page.mouse.down()
    page.mouse.move(area["x"] + 100 + dx, area["y"] + 40 + dy, steps=3)
    page.mouse.up()


def zoomed_y(page: Page) -> list[float]:
    """Return the range of the returns in the URL."""
    (part,) = parse_qs(urlsplit(page.url).fragment)["y"]
    return [float(end) for end in part.split("~")[1:]]


def test_both_axes_zoom_with_mouse_and_keyboard(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a&run=b")
        charts = page.locator(".grid .chart:visible h3")
        expect(charts.first).to_have_text("Return")
        titles = charts.all_text_contents()
        expect(page.locator(".nothing", has_text="loading")).to_have_count(0)  # also charts that are not in view
        assert titles[:3] == ["Return", "Outcomes over time", "Evaluation mean"]
        assert len(set(titles)) == len(titles)
        assert len([title for title in titles if "Loss" in title or "Epsilon" in title]) == 2
        reward = page.locator(REWARD)
        whole = count_values(page, "a")
        area = page.locator(f"{REWARD} .u-over").bounding_box()
        other = page.locator("[id='chart-episodes.outcome'] .u-over").bounding_box()
        assert area is not None
        assert other is not None
        assert (area["width"], area["y"]) == (other["width"], other["y"])  # beside each other, with equal x axes

        drag(page, 100, 80)
        wait_until(page, lambda: "y=episodes.reward" in page.url and "env_steps=" in page.url)
        wait_until(page, lambda: 0 < count_values(page, "a") < whole)
        url = page.url
        low, high = zoomed_y(page)
        page.reload()
        wait_until(page, lambda: 0 < count_values(page, "a") < whole)
        assert page.url == url
        page.mouse.dblclick(area["x"] + 100, area["y"] + 40)
        wait_until(page, lambda: "y=" not in page.url and "env_steps" not in page.url)
        drag(page, 5, 40)  # keeps the x axis
        wait_until(page, lambda: "y=episodes.reward" in page.url)
        assert "env_steps" not in page.url
        assert zoomed_y(page) == pytest.approx([high - (high - low) / 2, high])
        page.get_by_role("button", name="Whole range").click()
        wait_until(page, lambda: "y=" not in page.url)
        reward.locator(".plot").focus()
        page.keyboard.press("y")
        page.keyboard.press("ArrowUp")
        wait_until(page, lambda: "y=episodes.reward" in page.url)
        page.keyboard.press("Y")
        page.keyboard.press("0")
        wait_until(page, lambda: "y=" not in page.url)


def test_scales_and_exports_of_a_chart(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a&run=b&smooth=5")
        reward = page.locator(REWARD)
        whole = count_values(page, "a")
        expect(reward.get_by_role("button", name="log")).to_be_hidden()
        loss = page.locator("[id='chart-episodes.loss']")
        loss.scroll_into_view_if_needed()
        log = loss.get_by_role("button", name="log axis of Loss")
        before = log.get_attribute("aria-pressed")
        log.click()
        expect(log).to_have_attribute("aria-pressed", "false" if before == "true" else "true")
        wait_until(page, lambda: "scale=episodes.loss" in page.url)
        loss.locator(".plot").focus()
        page.keyboard.press("l")
        expect(log).to_have_attribute("aria-pressed", str(before))

        page.get_by_label("x axis").select_option("seconds")
        expect(reward.locator(".axis")).to_have_text("training time")
        expect(page.locator("[id='chart-metrics.mean_q'] .axis")).to_have_text("training time")
        wait_until(page, lambda: "x=seconds" in page.url)
        assert count_values(page, "a") == whole
        page.locator(f"{REWARD} .u-over").hover(position={"x": 200, "y": 40})
        expect(reward.locator(".where")).to_have_text(re.compile(r"^at [\d.]+ (s|min)"))

        outcome = page.locator("[aria-label=Outcome]:visible")
        outcome.select_option("left the track")
        wait_until(page, lambda: "outcome=left" in page.url)
        page.get_by_label("Bands over seeds").check()
        expect(reward.locator(".note")).to_contain_text("band: minimum to maximum")
        expect(reward.locator(".readings")).to_have_text(
            re.compile(r"CartPole-v1, mean of 2 seeds[\d.]+ \([\d.]+ to [\d.]+\)")
        )
        with page.expect_download() as download:
            reward.get_by_role("button", name="PNG of Return").click()
        assert download.value.suggested_filename == "episodes.reward.png"
        with Image.open(download.value.path()) as image:
            colors = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
            legend = image.convert("RGB").crop((0, image.height - 100, image.width, image.height))
            assert image.width == 2 * (760 + 2 * 18)
            assert image.getpixel((2, 2)) == (255, 255, 255, 255)
            assert {(0x1D, 0x23, 0x2B), (0x5A, 0x62, 0x70)} <= colors  # the title; the note and the axes
            assert (0x00, 0x72, 0xB2) in {color for _, color in legend.getcolors(1 << 20)}
        with page.expect_download() as download:
            reward.get_by_role("button", name="CSV of Return").click()
        assert download.value.suggested_filename == "episodes.reward.csv"
        with download.value.path().open(newline="") as file:
            table = list(csv.DictReader(file))
        assert list(table[0]) == [
            "run", "seconds", "reward", "reward_mean_of_5",
            "reward_mean_of_5_over_seeds", "reward_mean_of_5_minimum", "reward_mean_of_5_maximum",
        ]  # fmt: skip
        assert [row["run"] for row in table].count("a") == whole
        assert {row["run"] for row in table} == {"a", "b", "CartPole-v1, mean of 2 seeds"}
        *_, last = (row for row in table if row["run"] == "a")
        assert float(last["reward"]) > 0
        assert last["reward_mean_of_5_minimum"] == ""
        assert_accessible(page)


def test_zoom_and_smoothing_apply_to_all_charts_and_the_url(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a&run=b")
        whole = count_values(page, "a")
        area = page.locator(f"{REWARD} .u-over").bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + area["width"] * 0.25, area["y"] + 50)
        page.mouse.down()
        page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + 60, steps=3)
        page.mouse.up()
        wait_until(page, lambda: 0 < count_values(page, "a") < whole)

        def zoomed() -> list[dict[str, list[str]]]:
            return [query for query in visited.queries("/api/series") if "from" in query]

        wait_until(page, lambda: len({query["name"][0] for query in zoomed()}) > 2)
        assert {tuple(query["id"]) for query in zoomed()} == {("a", "b")}  # one request for all runs
        page.get_by_label("Smoothing").fill("6")
        wait_until(page, lambda: any(query["smooth"] == ["100"] for query in visited.queries("/api/series")))
        wait_until(page, lambda: "smooth=100" in page.url)
        url = page.url
        page.reload()
        page.locator("#connection.live").wait_for()
        assert 0 < count_values(page, "a") < whole
        assert page.url == url
        expect(page.locator("output")).to_have_text("mean of 100 episodes")
        page.mouse.dblclick(area["x"] + 100, area["y"] + 40)
        wait_until(page, lambda: count_values(page, "a") == whole)
        wait_until(page, lambda: "env_steps" not in page.url)


def test_cursor_is_shared_by_charts_with_the_same_x_axis(browser: Browser, origin: str) -> None:
    length = "[id='chart-episodes.length']"
    with visit(browser, origin) as visited:
        page = visited.open("run=a&smooth=1&folded=true")
        for chart in (REWARD, EVALUATION, length):
            description(page, chart)
        page.locator(f"{REWARD} .u-over").hover(position={"x": 200, "y": 40})
        place = page.locator(f"{REWARD} .where")
        expect(place).to_have_text(re.compile(r"at [\d,]+"))
        expect(page.locator(f"{length} .where")).to_have_text(place.inner_text())
        page.locator("h1").hover()
        expect(place).to_have_text("latest")
        page.locator(f"{REWARD} .plot").focus()
        page.keyboard.press("Shift+ArrowRight")
        expect(place).to_have_text(re.compile(r"at [\d,]+"))
        page.locator("#x").select_option("episode")
        expect(place).to_have_text("latest")
        expect(page.locator(f"{EVALUATION} .axis")).to_have_text("episodes")
        expect(page.locator("[id='chart-metrics.mean_q'] .axis")).to_have_text("environment steps")


def test_page_can_be_used_with_the_keyboard_alone(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a")
        whole = count_values(page, "a")

        def tab_to(selector: str) -> None:
            for _ in range(60):
                if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    return
                page.keyboard.press("Tab")
            raise AssertionError(f"Tab does not reach {selector}")

        tab_to(f"{REWARD} .plot")
        page.keyboard.press("+")
        wait_until(page, lambda: 0 < count_values(page, "a") < whole)
        page.keyboard.press("Shift+ArrowRight")
        expect(page.locator("#announce")).to_contain_text("at ")
        page.keyboard.press("0")
        wait_until(page, lambda: count_values(page, "a") == whole)
        page.keyboard.press("/")
        page.keyboard.type("oth")
        expect(page.locator("#runs tbody th .name")).to_have_text(["other"])
        page.keyboard.press("Tab")
        tab_to("#runs tbody input")
        page.keyboard.press("Space")
        expect(page.locator(LABELS)).to_have_text(["a", "other"])
        page.keyboard.press("2")
        tab_to(".strip button")
        page.keyboard.press("Enter")
        tab_to(".scrub")
        page.keyboard.press("Space")
        wait_until(page, lambda: page.evaluate("document.querySelector('.player video').currentTime") > 0)
        page.keyboard.press("3")
        expect(page.locator("#settings table")).to_be_visible()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert_accessible(page)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()


def test_page_reconnects_to_a_restarted_or_stalled_server(browser: Browser, root: Path, tmp_path: Path) -> None:
    run = copy_run(root / "other", tmp_path / "other")
    with ExitStack() as stack:
        with served(tmp_path) as (address, _):
            visited = stack.enter_context(visit(browser, address, ignore=DISCONNECTED))
            visited.page.clock.install()
            page = visited.open()
            before, status = count_values(page, "other"), page.locator("#connection")
        expect(status).to_have_text("reconnecting")
        last = json.loads((run / "episodes.jsonl").read_text().splitlines()[-1])
        added = last | {"episode": 41, "env_steps": last["env_steps"] + 10, "ended": "terminated"}
        with (run / "episodes.jsonl").open("a") as log:
            log.write(json.dumps(added) + "\n")
        with served(tmp_path, port=int(address.rsplit(":", 1)[1])) as (_, process):
            expect(status).to_have_text("live")
            wait_until(page, lambda: count_values(page, "other") == before + 1)
            process.send_signal(signal.SIGSTOP)  # as behind a broken tunnel: the connection stays open and silent
            try:
                page.clock.fast_forward(26_000)
                expect(status).to_have_text("reconnecting")
            finally:
                process.send_signal(signal.SIGCONT)
            expect(status).to_have_text("live")


def test_malicious_run_is_shown_as_text(browser: Browser, variants: str) -> None:
    name = "<b onclick=alert(2)>&amp;"
    with visit(browser, variants) as visited:
        page = visited.open()
        page.get_by_role("button", name=f"Only {name}").click()
        expect(page.locator(LABELS)).to_have_text([name])
        expect(page.locator("#runs .state.unreadable")).to_have_count(1)
        for place in ("#runs", ".warnings", "#outcomes"):
            expect(page.locator(place)).to_contain_text(EVIL)
        page.get_by_role("button", name="Videos").click()
        expect(page.locator(".strip")).to_contain_text(EVIL)
        page.get_by_role("button", name="Settings").click()
        expect(page.locator(".settings")).to_contain_text(EVIL)
        assert page.evaluate("document.querySelectorAll('img[src=x], body script, [onerror], [onclick]').length") == 0
        assert page.evaluate("window.hacked") is None
