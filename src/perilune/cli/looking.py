"""The commands that make something to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from perilune import envs
from perilune._utils.blas import one_blas_thread
from perilune._utils.console import aside, say
from perilune._utils.text import printable
from perilune.api import DQN
from perilune.cli.runs import Which, load
from perilune.envs.rendering import can_draw
from perilune.errors import ConfigError, FileFormatError, MissingDependencyError, PeriluneError, RunDirectoryError
from perilune.history import History
from perilune.runs import files, runlog
from perilune.runs.runlog import Run
from perilune.viz import maps, play, plots, terminal
from perilune.viz.encoding import format_of
from perilune.viz.play import Score
from perilune.viz.report.content import check_name, write_report


@dataclass(frozen=True, kw_only=True)
class Video:
    """Film a trained agent playing greedily, as MP4, or small for a page as GIF."""

    run_or_file: tyro.conf.Positional[Path]
    """A run directory, or a .safetensors file."""
    out: Path | None = None
    """The film, ending in .mp4 or .gif; RUN/videos/CHECKPOINT.mp4 (or FILE.mp4) where it is left out."""
    overlay: bool = False
    """Show what the agent thinks: Q-values, the chosen action, the reward so far, the outcome."""
    stages: bool = False
    """Show how the run learned: untrained, early, in the middle and at its best, side by side from the same start."""
    episodes: int = 1
    """Episodes to play, one after the other (>= 1)."""
    checkpoint: Which = "best"
    """Which weights of a run."""
    max_episode_steps: int | None = None
    """Cut episodes off after so many steps, for environments that set no limit themselves."""
    env: str = ""
    """Id of the environment, where its own is not enough: my_module:MyEnv-v0."""

    def run(self) -> None:
        run, out = self.run_or_file, self.out
        if out is None:
            name = "-".join(["stages" if self.stages else self.checkpoint, *(["overlay"] if self.overlay else [])])
            out = run / "videos" / f"{name}.mp4" if run.is_dir() else run.with_suffix(".mp4")
        format_of(out)
        if self.stages:
            self._film_stages(out)
            return
        evaluation = load(run, self.checkpoint, self.env).record_video(
            out, self.episodes, self.max_episode_steps, overlay=self.overlay
        )
        say(f"{out}  ({_size(out)}, return {', '.join(f'{value:.1f}' for value in evaluation.returns)})")

    def _film_stages(self, out: Path) -> None:
        if self.run_or_file.is_file():
            raise ConfigError("run_or_file", str(self.run_or_file), "a run directory, where there are --stages")
        if self.episodes != 1:
            raise ConfigError("episodes", self.episodes, "1 with --stages, which play one episode each")
        with terminal.done(f"perilune: filming stages of {self.run_or_file}") as tell:
            endings = History(self.run_or_file).record_stages(
                out,
                self.env or None,
                checkpoint=self.checkpoint,
                overlay=self.overlay,
                max_episode_steps=self.max_episode_steps,
                tell=tell,
            )
        say(f"{out}  ({_size(out)})")
        for title, outcome, reward in endings:
            say(f"  {title:<24}{reward:9.1f}  {outcome or ''}".rstrip())


def _size(path: Path) -> str:
    return (
        f"{path.stat().st_size / 1e6:.1f} MB" if path.stat().st_size >= 1e6 else f"{path.stat().st_size / 1e3:.0f} kB"
    )


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the learning curves of one run, or of several in one picture, as PNG and SVG."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, or directories of runs."""
    out: Path | None = None
    """Directory for the pictures; RUN/plots for one run, the current directory for several."""

    def run(self) -> None:
        if self.out is not None and self.out.suffix.lower() in (".png", ".svg"):
            raise ConfigError("out", str(self.out), "a directory, for curves.png and curves.svg")
        read, _ = _read("plot", self.runs)
        out = self.out or (read[0].directory / "plots" if len(read) == 1 else Path())
        for path in plots.curves(read).save(out, "curves"):
            say(path)


def _read(command: str, given: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs that ``given`` are, or that are right below them; and which of the latter cannot be read, and why.

    These are named on standard error too.
    """
    if not given:
        raise RunDirectoryError(
            f"no run is given. Give run directories, or a directory of runs: perilune {command} runs"
        )
    read, left_out = [], []
    once: set[Path] = set()
    for path in given:
        below = (
            [] if (path / "config.json").exists() else sorted(inside.parent for inside in path.glob("*/config.json"))
        )
        for directory in below or [path]:
            if directory.resolve() in once:
                continue
            try:
                read.append(runlog.read(directory))
                once.add(directory.resolve())
            except PeriluneError as error:
                if below:
                    left_out.append(f"{directory.name} cannot be read: {error}")
                    continue
                if isinstance(error, FileFormatError):
                    error.add_note(f"perilune verify {directory} looks at everything in it, and says what is damaged.")
                raise
    for sentence in left_out:
        _tell(f"left out: {sentence}")
    if not read:
        raise RunDirectoryError("none of the runs can be read. perilune verify RUN says what is damaged.")
    return read, left_out


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Follow runs in a browser, while they train and after."""

    path: tyro.conf.Positional[Path] = Path("runs")
    """A run directory, or a directory with runs in it, however deep; the first training may still have to make it."""
    port: int = 8080
    """Port of the page (from 0 to 65535; 0 takes a free one)."""
    host: str = "127.0.0.1"
    """Address to listen on; whoever can reach it sees the runs."""

    def run(self) -> None:
        try:
            from perilune.web.server import serve  # noqa: PLC0415 -- heavy, and optional
        except ImportError as error:
            raise MissingDependencyError("the page needs a web server: pip install 'perilune[web]'") from error
        serve(self.path, self.host, self.port, say, _tell)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Put runs into one HTML file that can be passed on: curves, videos, settings, scores, and what to try next."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, or directories of runs."""
    out: Path | None = None
    """The file, ending in .html or .htm; RUN/report.html for one run, report.html for several."""
    episodes: int = 100
    """Greedy episodes that score each run (>= 0; 0 for no scores)."""
    env: str = ""
    """Id of the environment, where a run's own is not enough: my_module:MyEnv-v0."""

    def run(self) -> None:
        if self.episodes < 0:
            raise ConfigError("episodes", self.episodes, "a whole number >= 0")
        if self.out is not None:
            check_name(self.out)
        read, left_out = _read("report", self.runs)
        out = self.out or (read[0].directory if len(read) == 1 else Path()) / "report.html"
        if out.is_dir():  # not after all has been played
            raise ConfigError("out", str(out), "a file, and this is a directory")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.cannot("written", out, error) from error
        write_report(read, out, self.episodes, _tell, env=self.env, left_out=left_out)
        say(out)


def _tell(words: str) -> None:
    aside(f"perilune: {printable(words)}")


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Draw what was learned: values and actions over two readings, visited states, units, weights and gradients."""

    run_directory: tyro.conf.Positional[Path]
    """A run directory."""
    x: str | None = None
    """Reading along the horizontal axis: its name, or its place in the observation (from 0)."""
    y: str | None = None
    """Reading along the vertical axis, likewise."""
    out: Path | None = None
    """Directory for the pictures; RUN/maps where it is left out."""

    def run(self) -> None:
        drawn = maps.draw(self.run_directory, self.x, self.y, _tell)
        for name, picture in drawn.pictures.items():
            for path in picture.save(self.out or self.run_directory / "maps", name):
                say(path)
        for sentence in drawn.left_out:
            _tell(f"left out: {sentence}")


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
        if Path(self.env).is_dir():
            raise ConfigError(
                "env", self.env, f"the id of an environment, and then the run: perilune play ID {self.env}"
            )
        opponent = None if self.run_or_file is None else DQN.load(self.run_or_file, self.env)
        env = envs.flattened(envs.make(self.env)) if opponent is None else opponent.env
        envs.check(env)
        if not can_draw(env):
            raise ConfigError("env", self.env, "an environment that can draw itself (render_mode rgb_array)")
        play.check_display()
        agent = None if opponent is None else opponent.agent
        title = "" if agent is None else f"agent, {agent.env_steps:,} steps"
        say(f"{play.legend(envs.name(env), envs.check(env).actions)}. Escape, or closing the window, ends it.")
        with one_blas_thread():
            flown = []
            for scores in play.flights(env, agent, title, self.seed):
                flown.append(scores)
                told = [f"{score.outcome or 'ended'} {score.reward:.1f}" for score in scores]
                say(f"episode {len(flown)}: you {', the agent '.join(told)}")
        if flown:
            say(tally(flown))


def tally(flown: Sequence[Sequence[Score]]) -> str:
    """Who was better, over all episodes."""
    several = len(flown) > 1
    played = f"{len(flown)} episode{'s' if several else ''}"
    rewards = [[score.reward for score in scores] for scores in flown]
    returns = [f"{sum(side) / len(side):.1f}" for side in zip(*rewards, strict=True)]
    mean = "Mean return" if several else "Return"
    if len(returns) == 1:
        return f"{played}. {mean}: {returns[0]}"
    yours, agents = sum(you > agent for you, agent in rewards), sum(agent > you for you, agent in rewards)
    if several:
        level = len(flown) - yours - agents
        better = f"you were better in {yours}, the agent in {agents}" + (
            f", and {level} came out even" if level else ""
        )
    else:
        better = "you were better" if yours else "the agent was better" if agents else "it came out even"
    return f"{played}: {better}. {mean}: you {returns[0]}, the agent {returns[1]}"
