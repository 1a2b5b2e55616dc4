"""The commands that make something to look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from perilune import runlog
from perilune.cli.runs import Which, load
from perilune.errors import ConfigError, MissingDependencyError
from perilune.view import plots


@dataclass(frozen=True, kw_only=True)
class Video:
    """Film a trained agent playing greedily, as an MP4."""

    run_or_file: tyro.conf.Positional[Path]
    """A run directory, or a .safetensors file."""
    out: Path | None = None
    """The video; RUN/videos/CHECKPOINT.mp4 (or FILE.mp4) where it is left out."""
    episodes: int = 1
    """Episodes to play, one after the other (>= 1)."""
    checkpoint: Which = "best"
    """Which weights of a run."""
    max_episode_steps: int | None = None
    """Cut episodes off after so many steps, for environments that set no limit themselves."""

    def run(self) -> None:
        if self.out is not None and self.out.suffix != ".mp4":
            raise ConfigError("out", str(self.out), "a file whose name ends in .mp4")
        dqn = load(self.run_or_file, self.checkpoint)
        out = self.out
        if out is None:
            run = self.run_or_file
            out = run / "videos" / f"{self.checkpoint}.mp4" if run.is_dir() else run.with_suffix(".mp4")
        evaluation = dqn.film(out, self.episodes, self.max_episode_steps)
        print(f"{out}  (return {', '.join(f'{value:.1f}' for value in evaluation.returns)})")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the learning curves of one run, or of several in one picture, as PNG and SVG."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path | None = None
    """Directory for the pictures; RUN/plots for one run, the current directory for several."""

    def run(self) -> None:
        if not self.runs:
            raise ConfigError("runs", self.runs, "at least one run directory")
        read = [runlog.read(directory) for directory in self.runs]
        out = self.out or (self.runs[0] / "plots" if len(read) == 1 else Path())
        for path in plots.curves(read).save(out, "curves"):
            print(path)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Follow runs in a browser, while they train and after."""

    path: tyro.conf.Positional[Path] = Path("runs")
    """A run directory, or a directory with runs in it, however deep."""
    port: int = 8080
    """Port of the page (from 0 to 65535; 0 takes a free one)."""
    host: str = "127.0.0.1"
    """Address to listen on; whoever can reach it sees the runs."""

    def run(self) -> None:
        try:
            from perilune.view.web.server import serve  # noqa: PLC0415 -- heavy, and optional
        except ImportError as error:
            raise MissingDependencyError("the page needs a web server: pip install 'perilune[web]'") from error
        serve(self.path, self.host, self.port, partial(print, flush=True))


@dataclass(frozen=True, kw_only=True)
class Report:
    """Put runs into one HTML file that can be passed on: curves, videos, settings, scores, and what to try next."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Path | None = None
    """The file; RUN/report.html for one run, report.html for several."""
    episodes: int = 100
    """Greedy episodes that score each run (>= 0; 0 for no scores)."""

    def run(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Draw what was learned: values and actions over two readings, visited states, units, weights and gradients."""

    run_directory: tyro.conf.Positional[Path]
    """A run directory."""
    x: int = 0
    """Reading along the horizontal axis (its place in the observation, from 0)."""
    y: int = 1
    """Reading along the vertical axis."""
    out: Path | None = None
    """Directory for the pictures; RUN/maps where it is left out."""

    def run(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Play:
    """Fly it yourself with the keyboard, against an agent if there is one."""

    env: tyro.conf.Positional[str]
    """Id of a Gymnasium environment."""
    run_or_file: tyro.conf.Positional[Path | None] = None
    """The opponent: a run directory, or a .safetensors file."""
    seed: int = 0
    """Seed of the first start (>= 0); each episode takes the next."""

    def run(self) -> None:
        raise NotImplementedError
