"""The commands video, plot, watch, report, maps and play."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from perilune import envs
from perilune._utils.blas import one_blas_thread
from perilune._utils.console import aside, say
from perilune._utils.extras import missing
from perilune._utils.text import printable
from perilune.api import DQN
from perilune.cli.runs import agent_name, load, make_env
from perilune.envs.rendering import can_draw
from perilune.errors import ConfigError, FileFormatError, PeriluneError, RunDirectoryError, UsageError
from perilune.history import History
from perilune.runs import files, logs, manifest, telemetry
from perilune.runs.logs import Run
from perilune.runs.search import find_runs
from perilune.viz import maps, play, plots, terminal
from perilune.viz.encoding import format_of
from perilune.viz.report.content import check_name, write_report
from perilune.viz.video import EpisodeOutcome


def run_video(options: Namespace) -> None:
    """Record a video of a trained agent that acts greedily."""
    source, out, stages = options.source, options.out, options.stages
    if out is None:
        name = ("stages" if stages else options.checkpoint) + ("-overlay" if options.overlay else "")
        is_run = source.is_dir() and not options.pretrained
        out = source / "videos" / f"{name}.mp4" if is_run else source.with_suffix(".mp4")
    format_of(out)
    if not stages:
        with terminal.progress_bar(f"perilune: recording {agent_name(options)}") as tell:
            result = load(options).record_video(
                out, options.episodes, options.max_episode_steps, overlay=options.overlay, tell=tell
            )
        say(f"{out}  ({_size(out)}, return {', '.join(f'{value:.1f}' for value in result.returns)})")
        if not format_of(out).small:
            say(f"{telemetry.path_of(out)}  (telemetry: time step and Q-values of each frame)")
        return
    if source.is_file() or options.pretrained:
        raise ConfigError("run_or_file", str(source), "a run directory with --stages")
    if options.episodes != 1:
        raise ConfigError("episodes", options.episodes, "1 with --stages, which plays one episode per stage")
    env = make_env(options, manifest.read_config(source)["environment"])
    with terminal.progress_bar(f"perilune: recording stages of {source}") as tell:
        endings = History.load(source).record_stages(
            out,
            env,
            checkpoint=options.checkpoint,
            overlay=options.overlay,
            max_episode_steps=options.max_episode_steps,
            tell=tell,
        )
    say(f"{out}  ({_size(out)})")
    for title, outcome, reward in endings:
        say(f"  {title:<24}{reward:9.1f}  {outcome or ''}".rstrip())


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def run_plot(options: Namespace) -> None:
    """Plot the learning curves of one or more runs."""
    out = options.out
    _check_directory(out, "curves.png and curves.svg")
    with terminal.progress_bar("perilune: plotting"):
        read, _ = _read("plot", options.runs)
        out = out or (read[0].directory / "plots" if len(read) == 1 else Path())
        written = []
        for number, runs in enumerate(plots.pages(read), 1):
            written += plots.curves(runs, options.x).save(out, "curves" if number == 1 else f"curves-{number}")
    for path in written:
        say(path)


def _read(command: str, given: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs in ``given``, or directly below a directory in ``given``, and messages about unreadable runs.

    Links to runs below a directory are skipped, because a directory of another person could link to any run. If a run
    in ``given`` itself cannot be read, raise an error instead.
    """
    if not given:
        raise RunDirectoryError(
            f"no run was given. Pass run directories or a directory of runs: perilune {command} runs"
        )
    found: dict[str, tuple[Path, bool]] = {}  # each run once, and whether it is only below a given directory
    for path in given:
        below = [] if (path / "config.json").exists() else sorted(find_runs(path, depth=1)[0])
        for directory in below or [path]:
            real = os.path.realpath(directory)
            first, is_below = found.get(real, (directory, True))
            found[real] = (first, is_below and bool(below))
    read, skipped = [], []
    for directory, is_below in found.values():
        try:
            read.append(logs.read_run(directory))
        except PeriluneError as error:
            if not is_below:
                if isinstance(error, FileFormatError):
                    error.add_note(f"Run perilune verify {directory} to list the damaged files.")
                raise
            skipped.append(f"{directory.name} cannot be read: {error}")
            _log(f"skipped: {skipped[-1]}")
    if not read:
        raise RunDirectoryError("none of the runs can be read. Run perilune verify RUN to list the damaged files.")
    return read, skipped


def run_watch(options: Namespace) -> None:
    """Show runs in a browser, during and after training."""
    try:
        from perilune.web.server import serve  # noqa: PLC0415 -- optional
    except ImportError as error:
        raise missing("perilune watch needs a web server", "web") from error
    serve(options.path, options.host, options.port, say, _log)


def run_report(options: Namespace) -> None:
    """Write an HTML report on one or more runs."""
    if options.episodes < 0:
        raise ConfigError("episodes", options.episodes, "a whole number >= 0")
    if options.out is not None:
        check_name(options.out)
    read, skipped = _read("report", options.runs)
    out = options.out or (read[0].directory if len(read) == 1 else Path()) / "report.html"
    if out.is_dir():  # check before playing episodes
        raise ConfigError("out", str(out), "a file, not a directory")
    files.check_regular(out)
    with files.reported("written", out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_report(read, out, options.episodes, _log, env=options.env, skipped=skipped)
    say(out)


def _log(words: str) -> None:
    aside(f"perilune: {printable(words)}")


def _check_directory(out: Path | None, content: str) -> None:
    """Raise ConfigError if ``out``, the directory for several pictures, has the suffix of a file."""
    if out is not None and re.fullmatch(r"\.[A-Za-z]{2,}\d?", out.suffix) and not out.is_dir():
        raise ConfigError("out", str(out), f"a directory, for {content}")


def run_maps(options: Namespace) -> None:
    """Plot what a run has learned."""
    _check_directory(options.out, "values.png, values.svg and the other maps")
    drawn = maps.draw(options.run, options.x, options.y, _log)
    for name, picture in drawn.pictures.items():
        for path in picture.save(options.out or options.run / "maps", name):
            say(path)
    for sentence in drawn.skipped:
        _log(f"skipped: {sentence}")


def run_play(options: Namespace) -> None:
    """Play an environment with the keyboard, alone or against an agent."""
    if Path(options.env).is_dir():
        expected = f"the ID of an environment before the run: perilune play ID {options.env}"
        raise ConfigError("env", options.env, expected)
    if options.pretrained and options.source is not None:
        raise UsageError(f"{options.source} cannot be combined with --pretrained. Pass only one of them.")
    env = envs.make(options.env, **dict(getattr(options, "env_kwargs", ())))
    opponent = None
    if options.pretrained:
        opponent = DQN.pretrained(env)
    elif options.source is not None:
        opponent = DQN.load(options.source, env)
    env = envs.flattened(env) if opponent is None else opponent.env
    envs.space_sizes(env)
    if not can_draw(env):
        raise ConfigError("env", options.env, 'an environment that can render (render_mode="rgb_array")')
    play.check_display()
    agent = None if opponent is None else opponent.agent
    title = "" if agent is None else f"agent, {agent.env_steps:,} steps"
    say(f"{play.key_help(envs.name(env), envs.space_sizes(env).actions)}. Press Escape or close the window to stop.")
    with one_blas_thread():
        played = []
        for scores in play.play(env, agent, title, options.seed):
            played.append(scores)
            endings = [f"{score.outcome or 'ended'} {score.reward:.1f}" for score in scores]
            say(f"episode {len(played)}: you {', the agent '.join(endings)}")
    if played:
        say(tally(played))


def tally(played_scores: Sequence[Sequence[EpisodeOutcome]]) -> str:
    """Return a sentence that compares the player and the agent over all episodes."""
    several = len(played_scores) > 1
    played = f"{len(played_scores)} episode{'s' if several else ''}"
    rewards = [[score.reward for score in scores] for scores in played_scores]
    returns = [f"{sum(side) / len(side):.1f}" for side in zip(*rewards, strict=True)]
    mean = "Mean return" if several else "Return"
    if len(returns) == 1:
        return f"{played}. {mean}: {returns[0]}"
    yours, agents = sum(you > agent for you, agent in rewards), sum(agent > you for you, agent in rewards)
    if several:
        ties = len(played_scores) - yours - agents
        better = f"you were better in {yours}, the agent in {agents}" + (f", and {ties} were ties" if ties else "")
    else:
        better = "you were better" if yours else "the agent was better" if agents else "it was a tie"
    return f"{played}: {better}. {mean}: you {returns[0]}, the agent {returns[1]}"
