"""The command export."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import msgspec

from perilune import envs
from perilune._utils.blas import one_blas_thread
from perilune._utils.text import number
from perilune.cli.runs import agent_name, load, show
from perilune.export.contract import Contract
from perilune.export.write import CONTRACT, export_agent, next_command
from perilune.viz.terminal import progress_bar


def run_export(options: Namespace) -> None:
    """Export a trained agent."""
    dqn = load(options)
    out = options.out or Path("exports", f"{envs.name(dqn.env).replace('/', '-')}-{options.to}")
    with one_blas_thread(), progress_bar(f"perilune: exporting {agent_name(options)}") as tell:
        made = export_agent(
            dqn.agent,
            dqn.env,
            options.to,
            out,
            int8=options.int8,
            episodes=options.episodes,
            max_episode_steps=options.max_episode_steps,
            overwrite=options.overwrite,
            tell=tell,
        )
    sizes = {name: (out / name).stat().st_size for name in (*made.files, CONTRACT)}
    lines = [
        f"{out}: {made.environment}, {made.parameters:,} weights ({made.precision})",
        *(f"  {name:<20}{size:>12,} bytes" for name, size in sizes.items()),
        *_scores(made),
        f"Check it: {next_command(made.target, out)}",
    ]
    content = {"out": str(out), "files": sizes, "contract": msgspec.to_builtins(made)}
    show(options, content, "\n".join(lines))


def _scores(made: Contract) -> list[str]:
    """Return the lines about the returns of the agent, and of its 8-bit weights if there are any."""
    if made.score is None:
        return []
    episodes = "1 episode" if made.score.episodes == 1 else f"{made.score.episodes} episodes"
    line = f"Mean return of the agent over {episodes}: {number(made.score.mean)}"
    if made.int8_score is None:
        return [line]
    error = number(made.int8_score.standard_error)
    difference = f"difference {number(made.int8_score.difference)}, standard error {error}"
    return [line, f"With 8-bit weights: {number(made.int8_score.mean)} ({difference})"]
