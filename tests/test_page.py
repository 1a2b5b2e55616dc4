"""The page of perilune watch, in a real browser, over real runs, some of them still training."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from fixtures_watch import DESKTOP, LINE_0, MINUS, PHONE, check, copy_run, served, settle, start, visit, watch

REWARD = "[id='chart-episodes.reward']"
REFUSED = "ERR_CONNECTION_REFUSED"  # which a browser says of a server that is not there
BROKEN = [REFUSED, "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "503"]  # or is just going


def in_words(page: Page, chart: str = REWARD) -> str:
    """What the chart says to people who do not see it, once it has something to say."""
    said = page.locator(f"{chart} p.hidden")
    expect(said).to_contain_text("values")
    return said.inner_text()


def values(page: Page, run: str, chart: str = REWARD) -> int:
    found = re.search(rf"{run}: ([\d,]+) values", in_words(page, chart))
    return int(found[1].replace(",", "")) if found else 0


def painted(page: Page, chart: str, colour: tuple[int, int, int]) -> int:
    """Pixels of about that colour on the chart's canvas."""
    script = """([chart, colour]) => {
        const canvas = document.querySelector(`${chart} canvas`);
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let many = 0;
        for (let at = 0; at < data.length; at += 4)
            many += data[at + 3] > 200 && colour.every((part, index) => Math.abs(data[at + index] - part) < 12);
        return many;
    }"""
    return int(page.evaluate(script, [chart, list(colour)]))


def test_curves_grow_and_films_appear_while_a_training_runs(browser: Browser, tmp_path: Path) -> None:
    training = start(
        "train", "CartPole-v1", "--out", tmp_path / "live", "--steps", 100_000, "--hidden", 8, "--train-freq", 8,
        "--batch-size", 8, "--learning-starts", 100, "--eval-every", 1000, "--eval-episodes", 1, "--metrics-every", 100,
        "--video-every", 40, "--max-episode-steps", 40, "--quiet",
    )  # fmt: skip
    try:
        with watch(tmp_path) as origin, visit(browser, origin) as visited:
            page = visited.open()
            expect(page.locator("#runs .state")).to_have_text("training")
            expect(page.locator("#runs progress")).to_have_attribute("title", re.compile(r"^\d+ % of its budget$"))
            first = values(page, "live")
            settle(page, lambda: values(page, "live") > first + 20)
            settle(page, lambda: painted(page, REWARD, LINE_0) > 100)
            score = "[id='chart-evaluations.mean_return']"
            settle(page, lambda: values(page, "live", score) >= 2)
            expect(page.locator("#outcomes")).to_contain_text("fell")
            page.get_by_role("button", name="Flights").click()
            films = page.locator(".strip li")
            films.first.wait_for()
            there = films.count()
            settle(page, lambda: films.count() > there)
            expect(page.locator(".strip li.new").first).to_be_visible()
            training.send_signal(signal.SIGINT)
            training.communicate(timeout=60)
            expect(page.locator("#runs .state")).to_have_text("stopped")
    finally:
        training.kill()
        training.communicate()


def test_runs_are_compared_in_curves_bands_and_settings(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a&run=other")
        labels = page.locator(f"{REWARD} .readings .name")
        expect(labels).to_have_text(["a", "other"])
        page.get_by_label("b", exact=True).check()
        expect(labels).to_have_text(["a", "other", "b"])
        page.get_by_label("Bands over seeds").check()
        expect(labels).to_have_text(["CartPole-v1, 2 seeds", "other"])
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Only what differs").check()
        expect(page.locator(".settings tr.differs")).to_have_count(3)
        script = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        rows = {name: rest for name, *rest in page.locator(".settings tr").evaluate_all(script)}
        assert [rows["Setting"], rows["seed"], rows["agent.learning_rate"]] == [
            ["a", "other", "b"], ["1", "1", "2"], ["0.001", "0.0005", "0.001"],
        ]  # fmt: skip
        assert set(rows) == {"Setting", "What differs", "seed", "agent.learning_rate", "train.video_every"}
        page.get_by_label("Only what differs").uncheck()
        expect(page.locator(".settings")).to_contain_text("host.numpy")


def test_a_seed_that_was_trained_twice_is_one_seed(browser: Browser, root: Path, tmp_path: Path) -> None:
    for age, (name, seed) in enumerate({"cart-seed1": 1, "cart-seed1-2": 1, "cart-seed2": 2}.items()):
        config = copy_run(root / "a", tmp_path / name, seed=seed) / "config.json"
        os.utime(config, (1e9 + age, 1e9 + age))
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        page = visited.open()
        expect(page.locator("label.group")).to_have_text("CartPole-v12 seeds in 3 runs")
        labels, notices = page.locator(f"{REWARD} .readings .name"), page.locator(".notices")
        expect(labels).to_have_text(["cart-seed1", "cart-seed1-2", "cart-seed2"])
        expect(notices).not_to_contain_text("Left out")
        page.get_by_label("Bands over seeds").check()
        expect(labels).to_have_text(["CartPole-v1, 2 seeds"])
        expect(notices).to_contain_text("In a band a seed counts once, with its newest run. Left out: cart-seed1.")
        page.get_by_label("cart-seed2", exact=True).uncheck()  # what is left is one seed, and no band
        expect(labels).to_have_text(["cart-seed1", "cart-seed1-2"])
        expect(notices).not_to_contain_text("Left out")
        expect(notices).to_contain_text("There is no band: no two of the runs shown differ in nothing but the seed.")
        lines = page.locator(f"{REWARD} .readings line")
        assert len({line.get_attribute("class") for line in lines.all()}) == 2  # each of its own colour


def test_what_differs_in_long_names_is_to_be_seen(browser: Browser, root: Path, tmp_path: Path) -> None:
    names = [f"CartPole-v1-with-quite-a-name-seed0{end}" for end in ("", "-2", "-3")]
    for name in names:
        copy_run(root / "a", tmp_path / name)
    longest = f"{'so-long-a-name-' * 6}2"
    copy_run(root / "other", tmp_path / longest)
    whole = (
        "spans => spans.every(span => span.scrollWidth <= span.clientWidth && span.scrollHeight <= span.clientHeight)"
    )
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        page = visited.open()
        shown = page.locator(".groups li .name")
        expect(shown).to_have_count(4)
        assert shown.all_inner_texts()[:3] == names
        short = shown.last.inner_text()
        assert len(short) < 61
        assert short.startswith("so-long-a-name-")
        assert short.endswith("long-a-name-2")
        assert shown.last.get_attribute("title") == longest
        assert shown.evaluate_all(whole)
        assert page.locator("label.group span").evaluate_all(whole)
        expect(page.locator("label.group").first.locator("span").last).to_have_text("1 seed in 3 runs")


OUTCOMES = {"balanced": 0, "fell": 3, "left the track": 1}


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_outcomes_are_whole_bars_in_the_order_of_the_environment(
    browser: Browser, root: Path, tmp_path: Path, size: Any, scheme: str
) -> None:
    run = copy_run(root / "a", tmp_path / "a")
    came_to = [label for label, many in reversed(OUTCOMES.items()) for _ in range(many)]
    lines = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()[: len(came_to)]]
    changed = [line | {"outcome": label, "ended": "terminated"} for line, label in zip(lines, came_to, strict=True)]
    (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    with watch(tmp_path) as origin, visit(browser, origin, size, scheme) as visited:
        page = visited.open()
        table = page.locator("#outcomes table")
        expect(table.locator("tr")).to_have_count(3)
        read = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        assert table.locator("tr").evaluate_all(read) == [
            ["balanced", "", "0 %", "0"], ["fell", "", "75 %", "3"], ["left the track", "", "25 %", "1"],
        ]  # fmt: skip
        for (label, many), row in zip(OUTCOMES.items(), table.locator("tr").all(), strict=True):
            track, fill = row.locator(".track").bounding_box(), row.locator(".fill").bounding_box()
            assert track is not None
            assert fill is not None
            assert fill["width"] == pytest.approx(track["width"] * many / 4, abs=1), label
            assert fill["height"] == track["height"] >= 6
        inside = table.bounding_box()
        assert inside is not None
        assert inside["x"] + inside["width"] <= size["width"]
        assert table.locator("th, td").evaluate_all(
            "cells => cells.every(cell => cell.scrollWidth <= cell.clientWidth)"
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


DRAWN = """async ([answer, x, runs]) => {
    const { chartContent } = await import("/static/content.js");
    const { draw } = await import("/static/drawing.js");
    const { modelOf } = await import("/static/model.js");
    const { assign } = await import("/static/palette.js");
    assign(runs.map((run) => run.id), (id) => id);
    const content = chartContent(answer, x, modelOf({ root: "runs", words: null, runs }));
    const ctx = Object.assign(document.createElement("canvas"), { width: 400, height: 200 }).getContext("2d");
    const words = [];
    ctx.fillText = (text, left, middle) => words.push([text, left, middle, ctx.measureText(text).width]);
    draw({ ctx, bbox: { left: 0, top: 0, width: 400, height: 200 } }, content);
    return [content.y, words];
}"""


def drawn(page: Page, name: str, runs: list[dict[str, Any]], x: tuple[float, float] = (0, 100)) -> Any:
    """The range of a chart's y, and the words on it with their left ends, middles and widths."""
    series = [
        {"id": run["id"], "x": run["x"], "raw": run["y"], "mean": run.get("mean", run["y"]), "count": len(run["x"])}
        for run in runs
    ]
    return page.evaluate(DRAWN, [{"name": name, "x": "env_steps", "series": series, "bands": []}, x, runs])


def test_the_scale_has_all_that_is_drawn(browser: Browser, origin: str) -> None:
    x = list(range(101))
    one = {"id": "one", "x": x, "y": [410 if step == 50 else 20 for step in x], "mean": [20 for _ in x]}
    with visit(browser, origin) as visited:
        page = visited.open()
        for name in ("episodes.length", "episodes.reward", "metrics.mean_q"):
            (low, high), _ = drawn(page, name, [one])
            assert low < 20
            assert 410 < high < 450
        (_, high), _ = drawn(page, "episodes.length", [one], (0, 40))
        assert high < 30  # of what is seen
        (_, high), _ = drawn(page, "episodes.length", [one], (0, 49.5))
        assert 215 < high < 250  # half way up to it


def test_words_on_marks_keep_off_the_data_and_each_other(browser: Browser, origin: str) -> None:
    mark = {"reward_threshold": 475, "environment": "CartPole-v1"}
    best = {"env_steps": 96, "mean_return": 476}
    up = {"id": "up", "x": [0, 96], "y": [100, 476], "best": best} | mark
    with visit(browser, origin) as visited:
        page = visited.open()
        (low, high), [[words, left, middle, width]] = drawn(page, "evaluations.mean_return", [up])
        assert words == "solved at 475"
        ring = [96 * 4, 200 * (high - 476) / (high - low)]
        assert left + width < ring[0] - 7 or abs(middle - ring[1]) > 7 + 5
        for step in range(int(left), int(left + width) + 1):
            value = 100 + 376 * step / 4 / 96
            assert abs(200 * (high - value) / (high - low) - middle) > 5  # half of a letter's height

        near = [
            {"id": str(mark), "x": [0, 100], "y": [-20, 20], "reward_threshold": mark, "environment": f"Env-{mark}"}
            for mark in (0.7, 8, -1, 3)
        ]
        _, said = drawn(page, "episodes.reward", near)
        assert {words for words, *_ in said} == {
            "Env-0.7 solved at 0.7", "Env-8 solved at 8", f"Env--1 solved at {MINUS}1", "Env-3 solved at 3",
        }  # fmt: skip
        for place, (_, left, middle, width) in enumerate(said):
            for _, other, level, its in said[:place]:
                assert abs(middle - level) >= 11 or left + width <= other or other + its <= left


def test_zoom_and_smoothing_are_of_all_charts_and_the_address_keeps_them(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a&run=b")
        whole = values(page, "a")
        area = page.locator(f"{REWARD} .u-over").bounding_box()
        assert area is not None
        page.mouse.move(area["x"] + area["width"] * 0.25, area["y"] + 50)
        page.mouse.down()
        page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + 60, steps=3)
        page.mouse.up()
        settle(page, lambda: 0 < values(page, "a") < whole)
        settle(page, lambda: "from" in visited.asked("/api/series")[-1])
        zoomed = [asked for asked in visited.asked("/api/series") if "from" in asked]
        settle(page, lambda: len({one["name"][0] for one in visited.asked("/api/series") if "from" in one}) > 2)
        assert {tuple(asked["id"]) for asked in zoomed} == {("a", "b")}  # one question for all runs
        page.get_by_label("Smoothing").fill("5")
        settle(page, lambda: any(asked["smooth"] == ["100"] for asked in visited.asked("/api/series")))
        page.locator("#x").select_option("episode")
        settle(page, lambda: any(asked["x"] == ["episode"] for asked in visited.asked("/api/series")))
        page.locator("#x").select_option("env_steps")
        settle(page, lambda: "smooth=100" in page.url and "x=episode" not in page.url)
        address = page.url
        page.reload()
        page.locator("#connection.live").wait_for()
        assert 0 < values(page, "a") < whole
        assert page.url == address
        expect(page.locator("output")).to_have_text("mean of 100 episodes")
        page.mouse.dblclick(area["x"] + 100, area["y"] + 40)
        settle(page, lambda: values(page, "a") == whole)
        settle(page, lambda: "env_steps" not in page.url)


def test_the_cursor_reads_off_every_chart(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a")
        in_words(page)
        in_words(page, "[id='chart-episodes.length']")
        page.locator(f"{REWARD} .u-over").hover(position={"x": 200, "y": 40})
        places = page.locator(".chart .where")
        expect(places.first).to_have_text(re.compile(r"at [\d,]+"))
        expect(page.locator("[id='chart-episodes.length'] .where")).to_have_text(places.first.inner_text())
        page.locator("h1").hover()
        expect(places.first).to_have_text("last")


def test_a_reading_over_steps_is_none_over_episodes(browser: Browser, origin: str) -> None:
    evaluation = "[id='chart-evaluations.mean_return']"
    with visit(browser, origin) as visited:
        page = visited.open("run=a&smooth=1")
        for chart in (REWARD, evaluation):  # both are drawn before a key is pressed
            in_words(page, chart)
        plot = page.locator(f"{REWARD} .plot")
        plot.focus()
        page.keyboard.press("Shift+ArrowRight")
        place = page.locator(f"{REWARD} .where")
        expect(place).to_have_text(re.compile(r"at [\d,]+"))
        expect(page.locator(f"{REWARD} .axis")).to_have_text("environment steps")
        page.locator("#x").select_option("episode")
        expect(place).to_have_text("last")
        expect(page.locator(f"{REWARD} .axis")).to_have_text("episodes")
        expect(page.locator(f"{evaluation} .axis")).to_have_text("episodes")
        expect(page.locator("[id='chart-metrics.loss'] .axis")).to_have_text("environment steps")
        rings, answer = page.evaluate("""async () => {
            const { chartContent } = await import("/static/content.js");
            const { modelOf } = await import("/static/model.js");
            const model = modelOf(await fetch("/api/runs").then((answer) => answer.json()));
            const asked = "/api/series?id=a&name=evaluations.mean_return&x=episode";
            const answer = await fetch(asked).then((answer) => answer.json());
            return [chartContent(answer, [0, 41], model).rings, answer.series[0]];
        }""")
        (ring,) = rings
        highest = max(range(len(answer["raw"])), key=answer["raw"].__getitem__)
        assert (ring["x"], ring["y"]) == (answer["x"][highest], answer["raw"][highest])


def test_one_value_is_one(browser: Browser, origin: str) -> None:
    script = """async () => (await import("/static/content.js")).inWords(
        [1, 2000].map((count) => ({ label: "a", y: [3, 4], count })))"""
    with visit(browser, origin) as visited:
        assert visited.open().evaluate(script) == (
            "a: 1 value, from 3 to 4, the last 4. a: 2,000 values, from 3 to 4, the last 4."
        )


def test_the_keyboard_is_enough(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=a")
        whole = values(page, "a")

        def tab_to(selector: str, most: int = 60) -> None:
            for _ in range(most):
                if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                    return
                page.keyboard.press("Tab")
            raise AssertionError(f"Tab never comes to {selector}")

        tab_to(f"{REWARD} .plot")
        page.keyboard.press("+")
        settle(page, lambda: 0 < values(page, "a") < whole)
        before = page.locator("#announce").inner_text()
        page.keyboard.press("Shift+ArrowRight")
        settle(page, lambda: page.locator("#announce").inner_text() != before)
        page.keyboard.press("0")
        settle(page, lambda: values(page, "a") == whole)
        page.keyboard.press("/")
        page.keyboard.type("oth")
        expect(page.locator(".groups li .name")).to_have_text(["other"])
        page.keyboard.press("Tab")
        tab_to(".groups li input")
        page.keyboard.press("Space")
        expect(page.locator(f"{REWARD} .readings .name")).to_have_text(["a", "other"])
        page.keyboard.press("2")
        tab_to(".strip button")
        page.keyboard.press("Enter")
        tab_to(".scrub")
        page.keyboard.press("Space")
        settle(page, lambda: page.evaluate("document.querySelector('video').currentTime") > 0)
        page.keyboard.press("3")
        expect(page.locator("#settings table")).to_be_visible()
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()


def test_it_comes_back_when_the_server_does(browser: Browser, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "a", tmp_path / "a")
    with watch(tmp_path) as first:
        port = int(first.rsplit(":", 1)[1])
        context = visit(browser, first, forgive=BROKEN)
        visited = context.__enter__()
        page = visited.open()
        before = values(page, "a")
    try:
        expect(page.locator("#connection")).to_have_text("lost, trying again")
        with (tmp_path / "a" / "episodes.jsonl").open("a") as log:
            last = json.loads((root / "a" / "episodes.jsonl").read_text().splitlines()[-1])
            log.write(
                json.dumps(last | {"episode": 41, "env_steps": last["env_steps"] + 10, "ended": "terminated"}) + "\n"
            )
        with watch(tmp_path, port):
            expect(page.locator("#connection")).to_have_text("live")
            settle(page, lambda: values(page, "a") == before + 1)
    finally:
        context.__exit__(None, None, None)


def test_a_server_that_is_silent_is_lost_and_found_again(browser: Browser, root: Path) -> None:
    with served(root) as (address, process), visit(browser, address, forgive=BROKEN) as visited:
        visited.page.clock.install()
        page = visited.open()
        os.kill(process, signal.SIGSTOP)  # as behind a tunnel whose other end is gone: nothing comes, nothing breaks
        try:
            page.clock.fast_forward(24_000)
            expect(page.locator("#connection")).to_have_text("live")
            page.clock.fast_forward(2_000)
            expect(page.locator("#connection")).to_have_text("lost, trying again")
        finally:
            os.kill(process, signal.SIGCONT)
        expect(page.locator("#connection")).to_have_text("live")


def test_a_hostile_run_is_shown_as_text(browser: Browser, root: Path, tmp_path: Path) -> None:
    evil = '<img src=x onerror="window.hacked=1;alert(1)"><script>window.hacked=2</script>'
    config = json.loads((root / "a" / "config.json").read_text())
    run = copy_run(
        root / "a",
        tmp_path / "<b onclick=alert(2)>&amp;",
        environment=evil,
        agent=config["agent"] | {"head": evil, evil: 1},
    )
    episodes = [json.loads(line) | {"outcome": evil} for line in (run / "episodes.jsonl").read_text().splitlines()]
    (run / "episodes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in episodes))
    (run / "notices.jsonl").write_text(json.dumps({"env_steps": 1, "what": evil, "words": evil}) + "\n")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text("{" + evil)
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        page = visited.open()
        in_words(page)
        expect(page.locator("#runs .state.unreadable")).to_have_count(1)
        for place in ("#runs", ".notices", "#outcomes"):
            expect(page.locator(place)).to_contain_text(evil)
        expect(page.locator(f"{REWARD} .readings")).to_contain_text("<b onclick=alert(2)>&amp;")
        page.get_by_role("button", name="Flights").click()
        expect(page.locator(".strip")).to_contain_text(evil)
        page.get_by_role("button", name="Settings").click()
        expect(page.locator(".settings")).to_contain_text(evil)
        assert page.evaluate("document.querySelectorAll('img[src=x], body script, [onerror], [onclick]').length") == 0
        assert page.evaluate("window.hacked") is None


def test_where_there_is_nothing_it_says_what_to_do(browser: Browser, tmp_path: Path, root: Path) -> None:
    runs = tmp_path / "to come"
    with watch(runs) as origin, visit(browser, origin) as visited:
        page = visited.open()
        expect(page.locator("#curves .empty")).to_have_text(
            f"No runs in {runs} yet. perilune train LunarLander-v3 --out {runs}/moon makes one, which appears here by "
            "itself."
        )
        runs.mkdir()
        copy_run(root / "other", runs / "other")
        assert values(page, "other") > 30  # it appears by itself
        page.get_by_role("button", name="None").click()
        expect(page.locator("#curves .empty")).to_contain_text("Tick one in the list")
        page.get_by_role("button", name="Only other").click()
        page.get_by_role("button", name="Flights").click()
        expect(page.locator("#flights > .empty")).to_contain_text("This run has no films")


def test_a_run_that_is_removed_is_named_and_put_aside(browser: Browser, root: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        copy_run(root / name, tmp_path / name)
    gone = ["404"]  # what is asked for just then is not there
    with watch(tmp_path) as origin, visit(browser, origin, forgive=gone) as visited:
        page = visited.open("run=a&run=b&run=dream")
        missing, labels = page.locator("#missing"), page.locator(f"{REWARD} .readings .name")
        expect(missing).to_have_text(f"dream is not in {tmp_path}.")
        expect(labels).to_have_text(["a", "b"])
        shutil.rmtree(tmp_path / "a")
        expect(missing).to_have_text(f"a is not in {tmp_path} any more.")
        expect(labels).to_have_text(["b"])
        page.get_by_role("button", name="None").click()
        expect(missing).to_be_hidden()
        page.get_by_role("button", name="Only b").click()
        expect(labels).to_have_text(["b"])
        shutil.rmtree(tmp_path / "b")
        expect(missing).to_have_text(f"b is not in {tmp_path} any more.")
        expect(page.locator("#curves .empty")).to_contain_text("perilune train")
        expect(page.locator(".chart").first).to_be_hidden()
        expect(page.locator("#fold")).to_have_text("Runs (0 of 0)")
        expect(page.locator("#curves .problem")).to_be_hidden()
        copy_run(root / "other", tmp_path / "other")
        expect(labels).to_have_text(["other"])  # as if one had come to an empty directory
        expect(missing).to_be_hidden()


def test_a_link_to_an_unknown_run_says_what_is_shown_instead(browser: Browser, origin: str, root: Path) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("run=dream")
        expect(page.locator("#missing")).to_have_text(f"dream is not in {root}. Shown instead: a, b, other.")


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")], ids=["light", "dark", "phone"]
)
def test_nobody_is_left_out(browser: Browser, origin: str, size: Any, scheme: str) -> None:
    with visit(browser, origin, size, scheme) as visited:
        page = visited.open("run=a&run=b")
        for view, there in (
            ("Curves", f"{REWARD} canvas"),
            ("Flights", ".strip canvas.ready"),
            ("Settings", "#settings td"),
        ):
            page.get_by_role("button", name=view, exact=True).click()
            page.locator(there).first.wait_for()
            check(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]  # nothing sticks out
        if size == PHONE:
            expect(page.locator("#runs")).to_be_hidden()
            page.get_by_role("button", name="Runs (2 of 3)").click()
            page.get_by_label("other", exact=True).check()
            check(page)
            page.keyboard.press("Escape")
            expect(page.locator("#runs")).to_be_hidden()
            expect(page.locator("#fold")).to_be_focused()
        page.get_by_role("button", name="Keys and help").click()
        check(page)


def test_fifty_runs_do_not_make_it_slow(browser: Browser, root: Path, tmp_path: Path) -> None:
    for seed in range(50):
        copy_run(root / "other", tmp_path / f"run-{seed:02}", seed=seed)
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        visited.page.add_init_script(
            "window.tasks = []; new PerformanceObserver(list => tasks.push(...list.getEntries().map(e => e.duration)))"
            ".observe({type: 'longtask', buffered: true})"
        )
        page = visited.open()
        in_words(page)
        page.get_by_role("button", name="Compare all").click()
        settle(page, lambda: "And 42 more" in in_words(page))
        page.get_by_label("Bands over seeds").check()
        expect(page.locator(f"{REWARD} .readings .name")).to_have_text(["CartPole-v1, 50 seeds"])
        visible = [asked for asked in visited.asked("/api/series") if len(asked["id"]) == 50]
        assert len(visible) <= 3 * 8  # only charts on the screen are asked for, each once a change
        assert max(page.evaluate("tasks"), default=0) < 1000  # milliseconds, and a tenth of it where nothing else runs
