"""Make pictures for the README and the docs from a run: python docs/pictures/make.py runs/moon

learning.gif is the video of `perilune video RUN --stages --overlay --max-episode-steps 500`. curves.png is a smaller
copy of the run's plots/curves.png. values.png and visited.png are two of the run's maps.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

from perilune import History
from perilune.viz import maps

HERE = Path(__file__).parent


def main(run: Path) -> None:
    History.load(run).record_stages(HERE / "learning.gif", overlay=True, max_episode_steps=500)
    with Image.open(run / "plots" / "curves.png") as curves:
        save(curves, (1100, 680), "curves.png")
    pictures = maps.draw(run).pictures
    for name in ("values", "visited"):
        with Image.open(io.BytesIO(pictures[name]._repr_png_())) as drawn:
            save(drawn, (1100, round(1100 * drawn.height / drawn.width)), f"{name}.png")


def save(picture: Image.Image, size: tuple[int, int], name: str) -> None:
    """Write ``picture`` next to this file, scaled to ``size`` and reduced to 256 colors."""
    smaller = picture.resize(size, Image.Resampling.LANCZOS).convert("RGB").quantize(256)
    smaller.save(HERE / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
