"""A real browser, real runs, and ``perilune watch`` to serve them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, ViewportSize, expect, sync_playwright

from fixtures_runs import AGENT, cartpole
from perilune import DQN

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--mute-audio"),
)
DESKTOP, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
TIMEOUT = 240_000  # milliseconds; exceeded only if the page hangs
expect.set_options(timeout=TIMEOUT)
MINUS = "\N{MINUS SIGN}"
REWARD = "[id='chart-episodes.reward']"
VIDEO = "episode-00040"


@contextmanager
def served(*arguments: object, port: int = 0, cwd: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `perilune watch`, and return its address and the process once it prints the address."""
    command = [sys.executable, "-m", "perilune", "watch", *map(str, arguments), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)  # noqa: S603
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        found = re.fullmatch(r"Watching .+: (http://127\.0\.0\.1:\d+) \(press Ctrl-C to stop\)\n", ready)
        assert found, ready + process.communicate()[1]
        yield found[1], process
    finally:
        process.kill()
        process.communicate()


@dataclass
class Visit:
    """A page with all its errors and requests."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def queries(self, path: str) -> list[dict[str, list[str]]]:
        """Return the queries of all requests for ``path`` so far."""
        return [parse_qs(urlsplit(url).query) for url in self.requests if urlsplit(url).path == path]

    def open(self, fragment: str = "") -> Page:
        """Go to the page and wait until it is connected."""
        self.page.goto(f"{self.origin}/#{fragment}")
        self.page.locator("#connection.live").wait_for()
        return self.page


@contextmanager
def visit(
    browser: Browser, origin: str, size: ViewportSize = DESKTOP, scheme: Any = "light", ignore: Sequence[str] = ()
) -> Iterator[Visit]:
    """Open a page; fail at the end if it had an error other than those to ignore, or sent a request to another site."""
    with browser.new_context(viewport=size, color_scheme=scheme, has_touch=size == PHONE) as context:
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        visited = Visit(page, origin)

        def record(request: Request) -> None:
            visited.requests.append(request.url)

        page.on("request", record)
        page.on("pageerror", lambda error: visited.errors.append(str(error)))
        page.on("console", lambda line: visited.errors.append(line.text) if line.type in ("error", "warning") else None)
        page.on("dialog", lambda dialog: visited.errors.append(f"dialog: {dialog.message}"))
        yield visited
        assert [error for error in visited.errors if not any(text in error for text in ignore)] == []
        assert {url for url in visited.requests if not url.startswith(f"{origin}/")} == set()


@pytest.fixture(scope="module")  # asyncio.run fails while the browser is open
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        reason = "Chromium (apt-get install chromium)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of CartPole, a and b, and a run with other settings and no videos. Tests must not change them."""
    runs = tmp_path_factory.mktemp("runs")
    dqn = DQN(cartpole(), seed=1, **AGENT)
    dqn.train(
        run_dir=runs / "a", episodes=40, max_episode_steps=60, eval_every=100, eval_episodes=2, metrics_every=20,
        video_every=20, quiet=True,
    )  # fmt: skip
    config = json.loads((runs / "a" / "config.json").read_text())
    copy_run(runs / "a", runs / "b", seed=2)
    agent, train = config["agent"] | {"learning_rate": 5e-4}, config["train"] | {"video_every": None}
    copy_run(runs / "a", runs / "other", agent=agent, train=train)
    shutil.rmtree(runs / "other" / "videos")
    return runs


@pytest.fixture(scope="session")
def origin(root: Path) -> Iterator[str]:
    with served(root) as (address, _):
        yield address


def copy_run(run: Path, to: Path, **config: Any) -> Path:
    """Copy a run and change its config.json."""
    shutil.copytree(run, to)
    content = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(content | config))
    return to


def wait_until(page: Page, condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    for _ in range(TIMEOUT // 100):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("the condition was not met in time")


def assert_accessible(page: Page) -> None:
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


def description(page: Page, chart: str = REWARD) -> str:
    """Return what the chart tells screen readers, once it has data."""
    text = page.locator(f"{chart} > p.hidden")
    expect(text).to_contain_text("values")
    return text.inner_text()


def count_values(page: Page, run: str, chart: str = REWARD) -> int:
    """Return the number of values that the chart shows for a run."""
    found = re.search(rf"{run}: ([\d,]+) values", description(page, chart))
    return int(found[1].replace(",", "")) if found else 0
