"""A Chromium browser and a ``perilune watch`` server over trained runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
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
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
DESKTOP, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
PATIENCE = 120_000  # milliseconds; a busy machine is slow
expect.set_options(timeout=PATIENCE)
MINUS = "\N{MINUS SIGN}"
LINE_0 = (0x00, 0x72, 0xB2)  # the first run's colour on light paper


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start ``perilune`` in a process."""
    command = [sys.executable, "-m", "perilune", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603


@contextmanager
def watch(root: Path, port: int = 0) -> Iterator[str]:
    """Run ``perilune watch`` and yield the address that it prints."""
    with served(root, port) as (address, _):
        yield address


@contextmanager
def served(root: Path, port: int = 0) -> Iterator[tuple[str, int]]:
    """Run ``perilune watch`` and yield the address that it prints and its process id."""
    process = start("watch", root, "--port", port)
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:  # the address comes last
        said.append(line)
        if "http://" in line:
            break
    found = re.search(r"http://\S+", said[-1]) if said else None
    try:
        assert found, said
        yield found[0].rstrip("/"), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


@dataclass
class Visit:
    """A page with its errors and requests."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def asked(self, path: str) -> list[dict[str, list[str]]]:
        """Return the query of every request for ``path`` so far."""
        return [parse_qs(urlsplit(url).query) for url in self.requests if urlsplit(url).path == path]

    def open(self, fragment: str = "") -> Page:
        """Open the page and wait until it is connected."""
        self.page.goto(f"{self.origin}/#{fragment}")
        self.page.locator("#connection.live").wait_for()
        return self.page


@contextmanager
def visit(
    browser: Browser, origin: str, size: ViewportSize = DESKTOP, scheme: Any = "light", forgive: Sequence[str] = ()
) -> Iterator[Visit]:
    """Open a page. Fail at the end if the console has an error or a request went to another server."""
    with browser.new_context(viewport=size, color_scheme=scheme, has_touch=size == PHONE) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        visited = Visit(page, origin)

        def asked(request: Request) -> None:
            visited.requests.append(request.url)

        page.on("request", asked)
        page.on("pageerror", lambda error: visited.errors.append(str(error)))
        page.on("console", lambda said: visited.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("dialog", lambda dialog: visited.errors.append(f"dialog: {dialog.message}"))
        yield visited
        assert [error for error in visited.errors if not any(words in error for words in forgive)] == []
        assert {url for url in visited.requests if not url.startswith(f"{origin}/")} == set()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        words = "no Chromium was found: install it (apt-get install chromium) to test the page of perilune watch"
        pytest.fail(words) if os.environ.get("CI") else pytest.skip(words)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of CartPole with videos and a third run with other settings. Tests must not change them."""
    runs = tmp_path_factory.mktemp("runs")
    for name, seed, learning_rate, films in (("a", 1, 1e-3, 10), ("b", 2, 1e-3, 10), ("other", 1, 5e-4, None)):
        dqn = DQN(cartpole(), seed=seed, **AGENT | {"learning_rate": learning_rate})
        dqn.train(
            run_dir=runs / name, episodes=40, max_episode_steps=60, eval_every=100, eval_episodes=2, metrics_every=20,
            video_every=films, quiet=True,
        )  # fmt: skip
    return runs


@pytest.fixture(scope="module")
def origin(root: Path) -> Iterator[str]:
    with watch(root) as address:
        yield address


def copy_run(run: Path, to: Path, **changes: Any) -> Path:
    """Copy a run, with ``changes`` in its config.json."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("checkpoints", "snapshots"))
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return to


def settle(page: Page, true: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until ``true()``."""
    for _ in range(int(seconds * 10)):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError("the condition did not become true")


def check(page: Page) -> None:
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
