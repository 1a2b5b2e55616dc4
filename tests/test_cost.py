"""The cost of following a training run: the weights are the same, and the time grows by less than 2 %.

``pytest -m long`` compares short training runs. ``pytest -m long --torture -s tests/test_cost.py`` compares pairs of
long runs, prints the figures of docs/how-to/follow-a-training.md and asserts the limit of 2 %.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from playwright.sync_api import Browser

from fixtures_runs import TinyRun, episode
from fixtures_watch import served, visit
from terminals import shown

pytestmark = pytest.mark.long

PAIRS = 9
LIMIT = 1.02
TRAINING = """
import hashlib, json, sys, time
from pathlib import Path
from perilune import DQN

environment, steps, out, quiet = {environment!r}, {steps}, Path({out!r}), {quiet}
dqn = DQN(environment, seed=3)
wall, cpu = time.perf_counter(), time.process_time()
dqn.train(run_dir=out, overwrite=True, steps=steps, eval_every=None, eval_episodes=1, pictures=False, quiet=quiet)
measured = {{"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}}
measured["weights"] = hashlib.sha256(dqn.agent.online.parameters.tobytes()).hexdigest()
out.with_suffix(".json").write_text(json.dumps(measured))
"""


def trained(environment: str, out: Path, torture: bool, *, view: bool = False) -> dict[str, Any]:
    """Train in a separate process, with or without the terminal view; return times and the hash of the weights."""
    steps = 15_000 if torture else 1_500
    text, _ = shown(TRAINING.format(environment=environment, steps=steps, out=str(out), quiet=not view))
    assert bool(text) == view
    measured: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return measured


def compare(pairs: list[tuple[dict[str, Any], dict[str, Any]]], what: str, torture: bool) -> None:
    """Assert that all runs learn the same weights and, with --torture, that the time grows by less than 2 %."""
    assert len({one["weights"] for pair in pairs for one in pair}) == 1
    for kind in ("cpu", "wall"):
        plain, seen = (median(one[kind] for one in side) for side in zip(*pairs, strict=True))
        each = sorted(seen[kind] / plain[kind] for plain, seen in pairs)
        print(
            f"\n{what}: {kind} time {seen:.2f} s / {plain:.2f} s = {seen / plain:.3f} (medians of {len(pairs)} pairs); "
            f"ratio of each pair {median(each):.3f}, from {each[0]:.3f} to {each[-1]:.3f}"
        )
        if torture and kind == "cpu":
            assert min(seen / plain, median(each)) < LIMIT


@pytest.mark.parametrize("environment", ["LunarLander-v3", "CartPole-v1"])
def test_terminal_view_changes_neither_weights_nor_time(tmp_path: Path, torture: bool, environment: str) -> None:
    measured = [
        (trained(environment, tmp_path / "run", torture), trained(environment, tmp_path / "run", torture, view=True))
        for _ in range(PAIRS if torture else 1)
    ]
    compare(measured, f"{environment} in a terminal", torture)


def test_open_page_changes_neither_weights_nor_time(tmp_path: Path, torture: bool, browser: Browser) -> None:
    run = tmp_path / "run"

    def watched() -> dict[str, Any]:
        with served(run) as (origin, _), visit(browser, origin) as visited:
            page = visited.open()
            found = trained("LunarLander-v3", run, torture)
            page.locator("canvas").first.wait_for()
        return found

    trained("LunarLander-v3", run, torture)  # the page opens an existing run
    measured = [(trained("LunarLander-v3", run, torture), watched()) for _ in range(PAIRS if torture else 1)]
    compare(measured, "LunarLander-v3, watched in a browser", torture)


DRAWN = """chart => {
    const canvas = document.querySelector(`[id='chart-${chart}'] canvas`);
    if (canvas === null) return false;
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let many = 0;  // pixels of the first run's blue
    for (let at = 0; at < data.length; at += 4) many += data[at] < 40 && data[at + 2] > 150 && data[at + 3] > 200;
    return many > 20;
}"""


def test_page_shows_a_million_rows_in_bounded_memory(
    tmp_path: Path, torture: bool, tiny_run: TinyRun, browser: Browser
) -> None:
    rows = 1_000_000 if torture else 50_000
    shutil.copytree(tiny_run.history.directory, tmp_path / "long")
    shared = '"mean_td_target": 12.5678901, "gradient_norm": 1.2345, "learning_rate": 0.001, "epsilon": 0.1'
    with (tmp_path / "long" / "metrics.jsonl").open("w") as log:
        for row in range(rows):
            numbers = f'"env_steps": {row}, "updates": {row}, "loss": {1 + row % 977 / 7}, "mean_q": {row % 613 / 3}'
            log.write(f"{{{numbers}, {shared}}}\n")
    with (tmp_path / "long" / "episodes.jsonl").open("w") as log:
        for number in range(1, 20_001):
            ended = episode(number, reward=number % 200, env_steps=number * rows // 20_000)
            log.write(json.dumps(ended._asdict()) + "\n")
    began = time.perf_counter()
    with served(tmp_path) as (origin, process), visit(browser, origin) as visited:
        started = time.perf_counter() - began
        page, seconds = visited.page, []
        page.goto("about:blank")  # do not time the start of the browser
        for _ in range(2):
            began = time.perf_counter()
            page.goto(f"{origin}/#run=long")
            for chart in ("episodes.reward", "metrics.mean_q"):
                page.locator(f"[id='chart-{chart}']").scroll_into_view_if_needed()
                page.wait_for_function(DRAWN, arg=chart)
                seconds.append(time.perf_counter() - began)
            page.goto("about:blank")
        status = Path(f"/proc/{process.pid}/status").read_text()
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**10
    print(
        f"\n{rows:,} rows: the server starts in {started:.2f} s; the first curve after {seconds[0]:.2f} s, one of "
        f"all rows after {seconds[1]:.2f} s; opened again {seconds[2]:.2f} s, {seconds[3]:.2f} s; {peak:.0f} MB at most"
    )
    assert peak < 300
    if torture:
        assert started < 1
        assert seconds[0] < 2
