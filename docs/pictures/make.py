"""Make pictures for the README and the docs from a run: python docs/pictures/make.py runs/moon

learning.gif is the video of `perilune video RUN --stages --overlay --max-episode-steps 500`. curves.png is the
plot of `perilune plot RUN`. values.png and visited.png are two of the maps of `perilune maps RUN`. The run of the docs:

    perilune train LunarLander-v3 --seed 1 --steps 60000 --video-every 20 --out runs/moon
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

from perilune import History
from perilune.runs.logs import read_run
from perilune.viz import maps, plots

HERE = Path(__file__).parent


def main(run: Path) -> None:
    History.load(run).record_stages(HERE / "learning.gif", overlay=True, max_episode_steps=500)
    pictures = {"curves": plots.curves([read_run(run)])} | maps.draw(run).pictures
    for name in ("curves", "values", "visited"):
        with Image.open(io.BytesIO(pictures[name].encoded("png"))) as drawn:
            drawn.convert("RGB").quantize(256).save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
