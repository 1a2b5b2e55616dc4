"""The videos on the page of ``perilune watch``, and the values of each frame."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from fixtures_watch import DESKTOP, MINUS, VIDEO, assert_accessible, copy_run, served, visit, wait_until

Q_VALUES: dict[str, tuple[list[list[float | None]], float, list[tuple[float, float]]]] = {
    # Q-values of the first frame and of the others, the position of zero, and the left and right ends of both bars.
    "negative": ([[-2.0, -8.0], [-10.0, -4.0]], 1.0, [(0.8, 1.0), (0.2, 1.0)]),
    "positive": ([[2.0, 8.0], [10.0, 4.0]], 0.0, [(0.0, 0.2), (0.0, 0.8)]),
    "both": ([[-2.0, 4.0], [6.0, 0.0]], 0.25, [(0.0, 0.25), (0.25, 0.75)]),
    "missing": ([[-2.0, None], [0.0, -2.0]], 1.0, [(0.0, 1.0), (1.0, 1.0)]),
}
CHOICES: list[list[float | None]] = [[1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [1.0, None]]


@pytest.fixture(scope="module")
def variants(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a run whose videos have other telemetry, or none."""
    run = copy_run(root / "a", tmp_path_factory.mktemp("variants") / "a")
    video = run / "videos" / f"{VIDEO}.mp4"
    lines = [json.loads(line) for line in video.with_suffix(".jsonl").read_text().splitlines()]

    def add(name: str, change: Callable[[int], dict[str, Any]]) -> None:
        shutil.copy(video, video.with_stem(name))
        changed = [json.dumps(line | change(frame)) for frame, line in enumerate(lines)]
        video.with_name(f"{name}.jsonl").write_text("\n".join(changed) + "\n")

    for name, (q_values, _, _) in Q_VALUES.items():
        add(name, lambda frame, q=q_values: {"q_values": q[min(frame, 1)], "action": 1})
    add("choices", lambda frame: {"q_values": CHOICES[min(frame, 3)], "action": 0})
    add("coded", lambda frame: {"obs": [float(index == 100 + frame) for index in range(500)]})
    add("many", lambda frame: {"obs": [0.5, *(float(frame * index) for index in range(1, 41))]})
    for name in ("stages", "stages-overlay", "mine"):
        shutil.copy(video, video.with_stem(name))
    with served(run.parent) as (address, _):
        yield address


def open_video(page: Page, title: str) -> None:
    page.locator(".strip li").filter(has=page.get_by_text(title, exact=True)).get_by_role("button").click()
    expect(page.locator(".title")).to_have_text(title)
    wait_until_loaded(page)


def wait_until_loaded(page: Page) -> None:
    wait_until(page, lambda: video_property(page, "readyState") > 2)


def video_property(page: Page, name: str) -> Any:
    return page.evaluate(f"document.querySelector('.player video').{name}")


def test_q_values_follow_the_video(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open(f"view=videos&run=a&video={VIDEO}.mp4")
        bars = page.locator(".bars li")
        expect(bars).to_have_count(2)
        expect(page.locator(".gauges li .name")).to_have_text(["position", "velocity", "angle", "angular velocity"])
        expect(page.locator(".labels")).to_contain_text("fell")
        telemetry = page.evaluate(f"fetch('/api/telemetry?id=a&name={VIDEO}.mp4').then(answer => answer.json())")
        first = bars.all_inner_texts()
        page.get_by_role("button", name="Play").click()
        wait_until(page, lambda: bars.all_inner_texts() != first)
        wait_until(page, lambda: bool(video_property(page, "ended")))

        page.locator(".play").focus()
        page.keyboard.press("Home")
        for frame in range(3):
            expect(page.locator(".time")).to_contain_text(f"step {frame} ")
            q_values, action = telemetry["q_values"][frame], telemetry["action"][frame]
            shown = [f"{value:.2f}".replace("-", MINUS) for value in q_values]
            assert page.locator(".bars b").all_inner_texts() == shown
            expect(bars.nth(action)).to_contain_text("chosen")
            position = f"{telemetry['obs'][frame][0]:.3f}".replace("-", MINUS)
            assert page.locator(".gauges b").first.inner_text() == position
            page.keyboard.press("ArrowRight")
        page.locator(".trace .u-over").scroll_into_view_if_needed()
        box = page.locator(".trace .u-over").bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] * 0.99, box["y"] + 20)
        wait_until(page, lambda: video_property(page, "currentTime") > 0.9 * video_property(page, "duration"))
        page.get_by_label("advantage (Q - mean)").check()
        expect(page.locator(".bars b").first).to_have_text(re.compile(rf"^({MINUS}|0)"))


def test_keys_control_the_video_except_while_typing(browser: Browser, origin: str) -> None:
    is_settled = """() => {
        const video = document.querySelector(".player video");
        const frames = Number(document.querySelector(".scrub").max) + 1;
        const shown = Number(document.querySelector(".time").textContent.match(/step (\\d+)/)[1]);
        const frame = Math.min(frames - 1, Math.floor((video.currentTime / video.duration) * frames));
        return video.paused && !video.seeking && frame === shown;
    }"""
    with visit(browser, origin) as visited:
        page = visited.open(f"view=videos&run=a&video={VIDEO}.mp4")
        time = page.locator(".time")
        expect(time).to_contain_text("step 0 ")
        wait_until_loaded(page)
        for _ in range(3):  # faster than the video can seek
            page.keyboard.press("ArrowRight")
        expect(time).to_contain_text("step 3 ")
        page.keyboard.press("Space")
        wait_until(page, lambda: video_property(page, "currentTime") > 0.2)
        for key in ("End", "Home", "ArrowRight", "ArrowRight", "Space"):
            page.keyboard.press(key)
        wait_until(page, lambda: bool(page.evaluate(is_settled)))
        page.keyboard.press("End")
        expect(time).to_contain_text(f"step {page.locator('.scrub').get_attribute('max')} ")
        page.keyboard.press("Home")
        page.keyboard.press("/")
        page.keyboard.press("ArrowRight")
        page.keyboard.type(" a")
        expect(page.locator("#filter")).to_have_value(" a")
        page.get_by_label("Speed").focus()
        page.keyboard.press("ArrowRight")
        expect(time).to_contain_text("step 0 ")


def test_video_fills_the_screen(browser: Browser, origin: str) -> None:
    with visit(browser, origin) as visited:
        page = visited.open("view=videos&run=a&source=a&video=episode-99999.mp4")
        message = page.locator("#videos").get_by_role("status")
        expect(message).to_have_text("a has no video episode-99999.mp4. Showing Best weights instead.")
        open_video(page, "Episode 40")
        expect(message).to_be_hidden()
        expect(page.locator(".bars li")).to_have_count(2)
        is_full = "document.fullscreenElement?.querySelector('.screen video') != null"
        page.get_by_role("button", name="Full screen").click()
        wait_until(page, lambda: bool(page.evaluate(is_full)))
        expect(page.locator(".full")).to_have_text("Leave full screen")
        video, play = page.locator(".screen video").bounding_box(), page.locator(".play").bounding_box()
        assert video is not None
        assert play is not None
        assert 0.7 * DESKTOP["height"] < video["height"] <= play["y"] - video["y"]
        assert play["y"] + play["height"] <= DESKTOP["height"]
        assert_accessible(page)
        page.keyboard.press("3")  # would hide the video
        page.keyboard.press("End")
        expect(page.locator(".time")).not_to_contain_text("step 0 ")
        page.keyboard.press("f")
        wait_until(page, lambda: not page.evaluate(is_full))
        expect(page.locator("#videos")).to_be_visible()
        expect(page.locator(".full")).to_have_text("Full screen")


def test_long_observations_are_summarized(browser: Browser, variants: str) -> None:
    with visit(browser, variants) as visited:
        page = visited.open("view=videos&run=a&video=coded.mp4")
        expect(page.locator(".ones")).to_have_text("obs[100] is 1.")
        expect(page.get_by_text("500 entries, each 0 or 1")).to_be_visible()
        wait_until_loaded(page)
        page.keyboard.press("ArrowRight")
        expect(page.locator(".ones")).to_have_text("obs[101] is 1.")
        assert page.evaluate("document.documentElement.scrollHeight") < 2000
        open_video(page, "many")
        expect(page.locator(".gauges .name")).to_have_text([f"obs[{index}]" for index in range(1, 25)])
        expect(page.get_by_text("24 of 40 changing entries, 41 in total")).to_be_visible()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".gauges b").nth(4)).to_have_text("5.000")
        expect(page.locator(".ones")).to_be_hidden()


def test_bars_start_at_zero_and_mark_the_chosen_action(browser: Browser, variants: str) -> None:
    read = """[...document.querySelectorAll(".bars li")].map(item => {
        const box = item.querySelector(".track").getBoundingClientRect();
        const part = (name) => { const own = item.querySelector(name).getBoundingClientRect();
            return [(own.left - box.left) / box.width, (own.right - box.left) / box.width]; };
        const strong = getComputedStyle(item.querySelector(".fill")).opacity === "1";
        return [part(".fill"), part(".zero"), strong && item.classList.contains("is-highest")];
    })"""
    with visit(browser, variants) as visited:
        page = visited.open("view=videos&run=a&video=choices.mp4")
        wait_until_loaded(page)
        for marks in (("chosen, not the highest", "highest"), ("chosen", ""), ("chosen", ""), ("chosen", "")):
            expect(page.locator(".bars .chosen")).to_have_text(list(marks))
            page.keyboard.press("ArrowRight")
        for name, (q_values, zero, bars) in Q_VALUES.items():
            open_video(page, name)
            values = ["\N{EN DASH}" if q is None else f"{q:.2f}".replace("-", MINUS) for q in q_values[0]]
            expect(page.locator(".bars b")).to_have_text(values)
            highest = max(range(2), key=lambda action, q=q_values[0]: -99 if q[action] is None else q[action])
            for action, (bar, (left, right), strong) in enumerate(page.evaluate(read)):
                assert bar == pytest.approx(bars[action], abs=0.01), name
                assert left >= -0.001
                assert right <= 1.001
                assert (left + right) / 2 == pytest.approx(zero, abs=0.01)
                assert strong == (action == highest)
            expect(page.locator(".ends span", has_text=re.compile("^0$"))).to_have_count(1)


def test_page_explains_a_video_without_telemetry(browser: Browser, variants: str) -> None:
    with visit(browser, variants) as visited:
        page = visited.open("view=videos&run=a&video=stages-overlay.mp4")
        text = page.locator(".without")
        expect(text).to_contain_text("The panel of each stage shows its Q-values.")
        expect(page.locator(".details")).to_be_hidden()
        open_video(page, "Stages of training")
        expect(text).to_contain_text("With --overlay")
        open_video(page, "mine")
        expect(text).to_have_text(re.compile("^This video has no telemetry"))
        open_video(page, "Episode 40")
        expect(page.locator(".bars li")).to_have_count(2)
        expect(text).to_be_hidden()
