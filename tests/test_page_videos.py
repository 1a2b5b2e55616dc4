"""The films on the page of perilune watch, and what goes with each frame."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from fixtures_watch import DESKTOP, MINUS, check, copy_run, settle, visit, watch


def film_with(run: Path, name: str, changes: Callable[[int, dict[str, Any]], dict[str, Any]]) -> None:
    """Change the telemetry of a film: what differs in each of its lines."""
    path = run / "videos" / f"{name}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line | changes(frame, line)) + "\n" for frame, line in enumerate(lines)))


def test_a_film_plays_and_the_q_values_move_with_it(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&film=episode-00040.mp4")
        bars = page.locator(".bars li")
        expect(bars).to_have_count(2)
        expect(page.locator(".gauges li .name")).to_have_text(["position", "velocity", "angle", "angular velocity"])
        expect(page.locator(".labels")).to_contain_text("fell")
        telemetry = page.evaluate("fetch('/api/telemetry?id=a&name=episode-00040.mp4').then(a => a.json())")
        first = bars.all_inner_texts()
        page.get_by_role("button", name="Play").click()
        settle(page, lambda: page.evaluate("document.querySelector('video').currentTime") > 0.1)
        settle(page, lambda: bars.all_inner_texts() != first)
        settle(page, lambda: bool(page.evaluate("document.querySelector('video').ended")))

        page.locator(".play").focus()
        page.keyboard.press("Home")
        for frame in range(3):  # every frame has its own numbers, not its neighbour's
            expect(page.locator(".time")).to_contain_text(f"step {frame} ")
            q, chosen = telemetry["q_values"][frame], telemetry["action"][frame]
            assert page.locator(".bars b").all_inner_texts() == [f"{value:.2f}".replace("-", MINUS) for value in q]
            expect(bars.nth(chosen)).to_contain_text("chosen")
            assert page.locator(".gauges b").first.inner_text() == f"{telemetry['obs'][frame][0]:.3f}".replace(
                "-", MINUS
            )
            page.keyboard.press("ArrowRight")
        width = page.locator(".trace .u-over").bounding_box()
        assert width is not None
        page.mouse.click(width["x"] + width["width"] * 0.99, width["y"] + 20)  # to near the end
        settle(page, lambda: page.evaluate("v = document.querySelector('video'), v.currentTime / v.duration") > 0.9)


def test_of_very_many_readings_a_few_are_shown(browser: Browser, root: Path, tmp_path: Path) -> None:
    run = copy_run(root / "a", tmp_path / "a")

    def coded(frame: int, line: dict[str, Any]) -> dict[str, Any]:
        return {"obs": [float(index == 100 + frame) for index in range(500)]}

    def many(frame: int, line: dict[str, Any]) -> dict[str, Any]:
        return {"obs": [0.5, *(float(frame * index) for index in range(1, 41))]}

    film_with(run, "episode-00040", coded)
    film_with(run, "episode-00030", many)
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&film=episode-00040.mp4")
        expect(page.locator(".ones")).to_have_text("obs[100] is 1.")
        expect(page.get_by_text("500, each 0 or 1")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".ones")).to_have_text("obs[101] is 1.")
        assert page.evaluate("document.documentElement.scrollHeight") < 2000
        page.get_by_role("button", name="Episode 30").click()
        expect(page.locator(".gauges .name")).to_have_text([f"obs[{index}]" for index in range(1, 25)])
        expect(page.get_by_text("24 of 40 that change; there are 41")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".gauges b").nth(4)).to_have_text("5.000")
        expect(page.locator(".ones")).to_be_hidden()


def test_a_choice_that_is_not_the_highest_is_said_to_be_that(browser: Browser, root: Path, tmp_path: Path) -> None:
    run = copy_run(root / "a", tmp_path / "a")
    q_values = [[1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [1.0, None]]
    film_with(run, "episode-00040", lambda frame, line: {"q_values": q_values[min(frame, 3)]} if frame < 4 else {})
    film_with(run, "episode-00040", lambda frame, line: {"action": 0} if frame < 4 else {})
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&film=episode-00040.mp4")
        for words, other in (("chosen, not the highest", "highest"), ("chosen", ""), ("chosen", ""), ("chosen", "")):
            expect(page.locator(".bars .chosen").first).to_have_text(words)
            expect(page.locator(".bars .chosen").last).to_have_text(other)
            page.keyboard.press("ArrowRight")


@pytest.mark.parametrize(
    ("q_values", "zero", "bars"),
    [
        ([[-2.0, -8.0], [-10.0, -4.0]], 1.0, [(0.8, 1.0), (0.2, 1.0)]),
        ([[2.0, 8.0], [10.0, 4.0]], 0.0, [(0.0, 0.2), (0.0, 0.8)]),
        ([[-2.0, 4.0], [6.0, 0.0]], 0.25, [(0.0, 0.25), (0.25, 0.75)]),
        ([[-2.0, None], [0.0, -2.0]], 1.0, [(0.0, 1.0), (1.0, 1.0)]),
    ],
    ids=["negative", "positive", "both", "none"],
)
def test_bars_grow_from_zero_on_one_scale(
    browser: Browser, root: Path, tmp_path: Path, q_values: Any, zero: float, bars: Any
) -> None:
    run = copy_run(root / "a", tmp_path / "a")
    film_with(run, "episode-00040", lambda frame, line: {"q_values": q_values[min(frame, 1)], "action": 1})
    read = """[...document.querySelectorAll(".bars li")].map(item => {
        const box = item.querySelector(".track").getBoundingClientRect();
        const part = (name) => { const its = item.querySelector(name).getBoundingClientRect();
            return [(its.left - box.left) / box.width, (its.right - box.left) / box.width]; };
        const strong = getComputedStyle(item.querySelector(".fill")).opacity === "1";
        return [part(".fill"), part(".zero"), strong && item.classList.contains("is-highest")];
    })"""
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&film=episode-00040.mp4")
        expect(page.locator(".bars li")).to_have_count(2)
        told = page.evaluate(read)  # in one go: the bars are made anew when the film is known
        highest = max(range(2), key=lambda action: -99 if q_values[0][action] is None else q_values[0][action])
        for action, (bar, (before, behind), strong) in enumerate(told):
            assert bar == pytest.approx(bars[action], abs=0.01)
            assert before >= -0.001
            assert behind <= 1.001
            assert (before + behind) / 2 == pytest.approx(zero, abs=0.01)
            assert strong == (action == highest)
        expect(page.locator(".ends span", has_text=re.compile("^0$"))).to_have_count(1)


def test_a_film_of_stages_has_the_whole_width_and_says_what_it_is(browser: Browser, root: Path, tmp_path: Path) -> None:
    run = copy_run(root / "a", tmp_path / "a")
    for name in ("stages", "stages-overlay", "mine"):
        shutil.copy(run / "videos" / "episode-00040.mp4", run / "videos" / f"{name}.mp4")
    with watch(tmp_path) as origin, visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&film=stages-overlay.mp4")
        words = page.locator(".without")
        expect(words).to_contain_text("at several stages of its training")
        expect(words).to_contain_text("The Q-values in a picture are that stage's.")
        expect(page.locator(".thinking")).to_be_hidden()
        screen, strip = page.locator(".screen").bounding_box(), page.locator(".strip").bounding_box()
        assert screen is not None
        assert strip is not None
        assert screen["width"] > strip["width"] - 10
        page.get_by_role("button", name="Stages of learning", exact=True).click()
        expect(words).to_contain_text("With --overlay")
        page.get_by_role("button", name="mine").click()
        expect(words).to_have_text(re.compile("^There is no telemetry beside this film"))
        page.get_by_role("button", name="Episode 40").click()
        expect(page.locator(".bars li")).to_have_count(2)
        expect(words).to_be_hidden()


def test_a_film_fills_the_screen(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&film=episode-00040.mp4")
        expect(page.locator(".bars li")).to_have_count(2)
        fills = "document.fullscreenElement?.querySelector('.screen video') != null"
        page.get_by_role("button", name="Full screen").click()
        settle(page, lambda: bool(page.evaluate(fills)))
        expect(page.locator(".full")).to_have_text("Leave full screen")
        video, play = page.locator(".screen video").bounding_box(), page.locator(".play").bounding_box()
        assert video is not None
        assert play is not None
        assert 0.7 * DESKTOP["height"] < video["height"] <= play["y"] - video["y"]
        assert play["y"] + play["height"] <= DESKTOP["height"]
        check(page)
        page.keyboard.press("3")  # would hide what is on the screen
        page.keyboard.press("End")
        expect(page.locator(".time")).not_to_contain_text("step 0 ")
        page.keyboard.press("f")
        settle(page, lambda: not page.evaluate(fills))
        expect(page.locator("#flights")).to_be_visible()
        page.keyboard.press("f")
        settle(page, lambda: bool(page.evaluate(fills)))
        page.locator(".full").click()
        settle(page, lambda: not page.evaluate(fills))
        expect(page.locator(".full")).to_have_text("Full screen")


def test_a_link_to_an_unknown_film_says_what_is_shown_instead(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&flight=a&film=episode-99999.mp4")
        said = page.locator("#flights").get_by_role("status")
        expect(said).to_have_text("a has no film episode-99999.mp4. Shown instead: Best weights.")
        page.get_by_role("button", name="Episode 40").click()
        expect(said).to_be_hidden()


def test_keys_move_a_flight_wherever_the_focus_is(browser: Browser, origin: str) -> None:
    together = """() => {
        const video = document.querySelector(".player video");
        const frames = Number(document.querySelector(".scrub").max) + 1;
        const shown = Number(document.querySelector(".time").textContent.match(/step (\\d+)/)[1]);
        const frame = Math.min(frames - 1, Math.floor((video.currentTime / video.duration) * frames));
        return video.paused && !video.seeking && frame === shown;
    }"""
    with visit(browser, origin) as visited:
        page = visited.open("view=flights&run=a&film=episode-00040.mp4")
        time = page.locator(".time")
        expect(time).to_contain_text("step 0 ")
        settle(page, lambda: page.evaluate("document.querySelector('.player video').readyState") > 2)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")  # quicker than a film can follow
        page.keyboard.press("ArrowRight")
        expect(time).to_contain_text("step 3 ")
        for _ in range(3):
            page.keyboard.press("Space")
            settle(page, lambda: page.evaluate("document.querySelector('.player video').currentTime") > 0.2)
            page.keyboard.press("End")
            page.keyboard.press("Home")
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Space")
            settle(page, lambda: bool(page.evaluate(together)))
        last = int(page.locator(".scrub").get_attribute("max") or 0)
        page.keyboard.press("End")
        expect(time).to_contain_text(f"step {last} ")
        page.keyboard.press("Home")
        expect(time).to_contain_text("step 0 ")
        settle(page, lambda: bool(page.evaluate(together)))
        page.keyboard.press("/")
        page.keyboard.press("ArrowRight")
        page.keyboard.type(" a")
        expect(page.locator("#filter")).to_have_value(" a")
        expect(time).to_contain_text("step 0 ")
        page.get_by_label("Speed").focus()
        page.keyboard.press("ArrowRight")
        expect(time).to_contain_text("step 0 ")
