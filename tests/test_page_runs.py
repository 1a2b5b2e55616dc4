"""The table of runs on the page of ``perilune watch``, the colors of runs, and their settings."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from fixtures_watch import DESKTOP, PHONE, REWARD, assert_accessible, copy_run, served, visit, wait_until
from perilune.runs import failure, lock
from perilune.viz import shared

NAMES = "#runs tbody th .name"
LABELS = f"{REWARD} .readings .name"
UNKNOWN = "\N{EN DASH}"
SLOW = {"learning_rate": 2e-5, "hidden": [64, [32, "tanh"]], "noisy": True}
SWATCHES = """rows => Object.fromEntries(rows.map(row => {
    const line = row.querySelector("line");
    const [color, dash] = ["class", "stroke-dasharray"].map((name) => line.getAttribute(name));
    return [row.querySelector("span.name").textContent, `${color} ${dash}`];
}))"""
FIRST = "rows => rows.map(row => [row.cells[0].textContent, row.cells[1].textContent])"
LOOKS = """async (runs) => {
    const { assign, ink, look, slot } = await import("/static/palette.js");
    assign(runs, runs.map((run) => run.id));
    return [runs.map(({ id }) => look(slot(id))), [ink("paper"), ink("surface")]];
}"""


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, an older and slower run, and older runs that failed, are unreadable, or have another environment."""
    runs = tmp_path_factory.mktemp("table")
    agent = json.loads((root / "other" / "config.json").read_text())["agent"]
    variants: dict[str, dict[str, Any]] = {
        "unreadable": {}, "failed": {"agent": agent | {"learning_rate": 1e-3}},
        "else": {"environment": "Acrobot-v1", "agent": agent | SLOW, "seed": 7},
        "slow": {"agent": agent | SLOW}, "seed1": {"seed": 1}, "seed2": {"seed": 2},
    }  # fmt: skip
    for age, (name, config) in enumerate(variants.items()):
        run = copy_run(root / "other", runs / name, **config)
        evaluations = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
        last = evaluations[-1] | {"mean_return": 480.0 - age, "best": True}
        (run / "evaluations.jsonl").write_text(json.dumps(last) + "\n")
        if name == "failed":
            shutil.rmtree(run / "checkpoints")
            (run / "evaluations.jsonl").write_text("")
            failure.write(run, ValueError("observation is NaN"), 5)
        if name == "unreadable":
            (run / "config.json").write_text("{")
        if name == "slow":
            *lines, end = (run / "episodes.jsonl").read_text().splitlines()
            lines.append(json.dumps(json.loads(end) | {"env_steps": 12_345}))
            (run / "episodes.jsonl").write_text("\n".join(lines) + "\n")
        for file in ("config.json", "settings.toml"):
            os.utime(run / file, (1e9 + age, 1e9 + age))
    return runs


@pytest.fixture(scope="module")
def table(runs: Path) -> Iterator[str]:
    with served(runs) as (address, _):
        yield address


def row(page: Page, name: str) -> dict[str, str]:
    """Return the texts of a row by the titles of the columns."""
    cells = "cells => cells.map(cell => cell.textContent)"
    titles = page.locator("#runs thead th").evaluate_all(cells)
    found = page.locator("#runs tbody tr").filter(has=page.get_by_text(name, exact=True))
    return dict(zip(titles, found.locator("> *").evaluate_all(cells), strict=True))


def swatches(page: Page, rows: str = "#runs tbody tr") -> Any:
    return page.locator(rows).evaluate_all(SWATCHES)


def test_table_shows_and_sorts_runs(browser: Browser, table: str) -> None:
    with visit(browser, table) as visited:
        page = visited.open()
        names = page.locator(NAMES)
        expect(names).to_have_text(["seed2", "seed1", "slow", "else", "failed", "unreadable"])  # newest first
        expect(page.locator(LABELS)).to_have_text(["seed1", "seed2"])  # all seeds of the newest run
        shown = row(page, "seed1")
        assert {title: shown[title] for title in ("Status", "Score", "Best", "Environment", "seed")} == {
            "Status": "finished", "Score": "476", "Best": "476", "Environment": "CartPole-v1", "seed": "1",
        }  # fmt: skip
        assert re.fullmatch(r"at [\d,]+", shown["Solved"])
        assert {"Time", "Steps/s", "Steps", "Started"} <= shown.keys() - {"ETA"}
        assert row(page, "slow")["Steps"] == "12,345"
        assert (shown["noisy"], row(page, "slow")["noisy"]) == ("no", "yes")
        assert (row(page, "slow")["hidden"], row(page, "slow")["learning_rate"]) == ("64, 32 (tanh)", "2e-5")
        assert "gamma" not in shown  # equal in all runs of an environment
        assert "ValueError: observation is NaN (after 5 environment steps)" in row(page, "failed")["Status"]
        assert row(page, "failed")["Score"] == row(page, "unreadable")["Score"] == UNKNOWN
        assert "config.json is not JSON" in row(page, "unreadable")["Status"]

        score = page.get_by_role("columnheader", name="Score")
        score.get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(score).to_have_attribute("aria-sort", "descending")
        expect(names).to_have_text(["else", "slow", "seed1", "seed2", "failed", "unreadable"])
        page.keyboard.press("Enter")
        expect(score).to_have_attribute("aria-sort", "ascending")
        ascending = ["seed2", "seed1", "slow", "else", "failed", "unreadable"]  # runs without a score stay last
        expect(names).to_have_text(ascending)
        expect(page.locator("#runs [aria-sort]")).to_have_count(1)
        wait_until(page, lambda: "sort=score" in page.url)
        page.set_viewport_size({"width": 800, "height": 800})
        page.reload()
        expect(names).to_have_text(ascending)
        page.locator("#runs tbody tr").first.hover()
        heights = (
            "rows => rows.slice(1, 4).map(row => row.clientHeight)"  # the first has no border, the last have errors
        )
        assert len(set(page.locator("#runs tbody tr").evaluate_all(heights))) == 1
        expect(page.locator(f"{REWARD} .note")).to_have_text("sum of rewards per episode, mean of 5")
        cut = "notes => notes.filter(note => note.scrollWidth > note.clientWidth).length"
        assert page.locator(".chart .note").evaluate_all(cut) == 0


def test_runs_keep_their_colors_when_others_are_selected(browser: Browser, table: str) -> None:
    with visit(browser, table) as visited:
        page = visited.open()
        names = page.locator(NAMES)
        expect(names).to_have_count(6)
        before = swatches(page)
        assert len(set(before.values())) == 6
        page.get_by_label("seed1", exact=True).uncheck()
        expect(page.locator(LABELS)).to_have_text(["seed2"])
        assert swatches(page) == before
        assert swatches(page, f"{REWARD} .readings li") == {"seed2": before["seed2"]}
        page.get_by_role("button", name="Only slow").focus()
        page.keyboard.press("Enter")
        expect(page.locator(LABELS)).to_have_text(["slow"])
        page.locator("#filter").fill("seed 2")
        expect(names).to_have_text(["seed2"])
        assert swatches(page) == {"seed2": before["seed2"]}
        page.get_by_label("All listed runs").check()
        expect(page.locator(LABELS)).to_have_text(["slow", "seed2"])
        page.reload()
        expect(page.locator(LABELS)).to_have_text(["slow", "seed2"])
        assert swatches(page, f"{REWARD} .readings li") == {name: before[name] for name in ("slow", "seed2")}
        page.locator("#filter").fill("")
        page.get_by_role("button", name="Only all 2 seeds of seed1").focus()
        page.keyboard.press("Enter")
        page.get_by_label("Bands over seeds").check()
        expect(page.locator(LABELS)).to_have_text(["CartPole-v1, mean of 2 seeds"])
        assert [*swatches(page, f"{REWARD} .readings li").values()] == [before["seed1"]]
        page.get_by_role("button", name="Runs", exact=True).click()
        expect(page.locator("#run-table")).to_be_hidden()


def test_run_in_training_is_selected_and_has_an_estimated_end(browser: Browser, runs: Path, table: str) -> None:
    with lock.acquire(runs / "slow"), visit(browser, table, PHONE, "dark") as visited:
        (runs / "slow" / "checkpoints").rename(runs / "slow" / "aside")
        page = visited.open()
        expect(page.locator(LABELS)).to_have_text(["slow"])
        expect(page.locator("#runs .state.running")).to_have_text(re.compile(r"running, \d+%"))
        assert re.fullmatch(r"[\d.]+ s|\d+ min( \d\d s)?", row(page, "slow")["ETA"])
        assert_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.locator("#run-table").evaluate("table => table.scrollWidth > table.clientWidth")
        page.locator("#run-table").evaluate("table => table.scrollBy(400, 0)")
        name = page.locator(NAMES).first.bounding_box()
        assert name is not None
        assert 0 <= name["x"] < PHONE["width"] / 2  # the names stay in view
        (runs / "slow" / "aside").rename(runs / "slow" / "checkpoints")


def test_settings_are_words_and_mark_changes(browser: Browser, table: str) -> None:
    with visit(browser, table, scheme="dark") as visited:
        page = visited.open("run=slow&run=seed1&view=settings")
        cells = page.locator("#settings tr").filter(has=page.get_by_text("agent.hidden")).locator("td")
        expect(cells).to_have_count(2)
        expect(cells.first).to_have_text("64, 32 (tanh) unitschanged")
        mark = cells.first.locator(".changed")
        expect(mark).to_have_attribute("title", "recommended: 128, 128 units")
        values = dict(page.locator("#settings tr:has(td)").evaluate_all(FIRST))
        text = " ".join(values.values())
        assert re.findall(r"None|True|False|null|\btrue\b|\bfalse\b|[\[\]{}']", text) == []
        assert values["agent.noisy"] == "yeschanged"
        assert values["agent.learning_rate"] == "2e-5changed"
        assert values["agent.epsilon_decay"] == "none"
        assert "made" not in values
        assert_accessible(page)


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_twelve_and_two_hundred_runs_stay_distinct_and_usable(browser: Browser, table: str) -> None:
    with visit(browser, table, ignore=["404"]) as visited:
        page = visited.open()
        listed = page.evaluate("fetch('/api/runs').then(answer => answer.json())")
        many = [
            listed["runs"][-1] | {"id": f"run{n}", "group": f"group{n}", "started": n, "created": n} for n in range(200)
        ]
        page.route("**/api/runs", lambda route: route.fulfill(json=listed | {"runs": many}))
        page.goto("about:blank")
        visited.open("run=run3&run=run150")
        expect(page.locator("#runs tbody tr")).to_have_count(200)
        assert page.locator("#runs").evaluate("runs => runs.clientHeight") < DESKTOP["height"] / 2
        page.locator("#filter").fill("run19")
        expect(page.locator(NAMES)).to_have_count(11)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            looks, backgrounds = page.evaluate(LOOKS, many[:24])
            colors = shared.COLORS if scheme == "light" else shared.DARK_COLORS
            assert [look["color"] for look in looks[:6]] == list(colors)  # those of the figures
            assert len({json.dumps(look) for look in looks}) == 24
            for look in looks:
                for background in backgrounds:
                    low, high = sorted((luminance(look["color"]), luminance(background)))
                    assert (high + 0.05) / (low + 0.05) >= 3


def test_error_is_shown_where_it_occurs(browser: Browser, table: str) -> None:
    with visit(browser, table, ignore=["Error"]) as visited:
        page = visited.open()
        listed = page.evaluate("fetch('/api/runs').then(answer => answer.json())")
        listed["runs"][0]["started"] = 1e300  # not a date
        page.route("**/api/runs", lambda route: route.fulfill(json=listed))
        page.route("**/api/series?*name=episodes.length*", lambda route: route.fulfill(json={"series": [0]}))
        page.goto("about:blank")
        visited.open(f"run={listed['runs'][0]['id']}")
        expect(page.locator("#runs .broken")).to_have_text(re.compile("RangeError"))
        expect(page.locator("#runs tbody tr")).to_have_count(6)
        expect(page.locator("[id='chart-episodes.length'] .problem")).to_contain_text("flatMap")
        expect(page.locator(LABELS)).to_have_count(1)
        expect(page.locator(".grid .problem:visible")).to_have_count(1)
        expect(page.locator("#problem")).to_be_hidden()

        runs = {"root": "runs", "message": None, "runs": [{"id": "a", "state": "finished"}]}
        page.route("**/api/runs", lambda route: route.fulfill(json=runs))
        page.goto("about:blank")
        visited.open()
        expect(page.locator("#problem")).to_contain_text("The page cannot show the runs: TypeError")
