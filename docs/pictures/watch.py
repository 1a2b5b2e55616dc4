"""Make the pictures for docs/how-to/watch.md: python docs/pictures/watch.py DIR RUN COMPARED...

DIR is a directory of runs. The pictures show a video of RUN and the curves of the runs COMPARED. The script needs
Chromium. The command for the docs is

    python docs/pictures/watch.py runs moon1 moon1 moon2 moon3

after `perilune train LunarLander-v3 --seed S --steps 60000 --video-every 20 --out runs/moonS` for the seeds 1, 2 and 3.
"""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent


def main(root: str, run: str, *compared: str) -> None:
    server = subprocess.Popen(  # noqa: S603 -- this script sets the arguments
        [sys.executable, "-m", "perilune", "watch", root, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    address = re.search(r"http://[^\s/]+", server.stdout.readline())
    assert address is not None
    runs = [("run", name) for name in compared]
    video = [("run", run), ("view", "videos")]
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            picture(browser, f"{address[0]}/#{urlencode(runs)}", "watch_curves", (1440, 900), "light")
            picture(browser, f"{address[0]}/#{urlencode(video)}", "watch_video", (1440, 960), "dark")
            picture(
                browser, f"{address[0]}/#{urlencode([*runs, ('bands', 'true')])}", "watch_phone", (390, 844), "light"
            )
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def picture(browser: Browser, address: str, name: str, size: tuple[int, int], scheme: str) -> None:
    dark = scheme == "dark"
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_timeout(3000)
    if "videos" in address:
        seek(page)
    elif size[0] > 1000:
        page.locator("[id='chart-episodes.reward'] .u-over").hover(position={"x": 380, "y": 60})
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(HERE / f"{name}.png", optimize=True)
    context.close()


def seek(page: Page) -> None:
    """Move the video to a third of its length."""
    page.locator(".scrub").focus()
    page.evaluate(
        "slider => { slider.value = Math.round(slider.max / 3); slider.dispatchEvent(new Event('input')); }",
        page.locator(".scrub").element_handle(),
    )
    page.wait_for_timeout(800)
    page.locator(".scrub").blur()


if __name__ == "__main__":
    main(*sys.argv[1:])
