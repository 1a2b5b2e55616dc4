"""The commands that say what a run is, and what it has learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from perilune import envs
from perilune._utils.console import aside, say
from perilune.api import DQN
from perilune.cli.options import print_json
from perilune.errors import FileFormatError
from perilune.runs import checkpoint, inspection, weights
from perilune.training.evaluation import ENDLESS

Which = Literal["best", "final"]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Play greedily from fixed start states that training never sees; report returns, and what episodes came to."""

    run_or_file: tyro.conf.Positional[Path]
    """A run directory, or a .safetensors file."""
    episodes: int = 100
    """Episodes to play (>= 1)."""
    checkpoint: Which = "best"
    """Which weights of a run."""
    max_episode_steps: int | None = None
    """Cut episodes off after so many steps, for environments that set no limit themselves."""
    env: str = ""
    """Id of the environment, where its own is not enough: my_module:MyEnv-v0."""
    json: bool = False
    """Print one JSON object, and nothing else, on standard output."""

    def run(self) -> None:
        dqn = load(self.run_or_file, self.checkpoint, self.env)
        evaluation = dqn.evaluate(self.episodes, self.max_episode_steps)
        if self.json:
            print_json(
                {
                    "environment": envs.name(dqn.env),
                    "checkpoint": self.checkpoint if self.run_or_file.is_dir() else str(self.run_or_file),
                    "env_steps": dqn.agent.env_steps,
                    "episodes": self.episodes,
                    "mean_return": evaluation.mean_return,
                    "std_return": evaluation.std_return,
                    "min_return": evaluation.min_return,
                    "solved_mark": evaluation.reward_threshold,
                    "solved_share": evaluation.solved_share,
                    "outcome_shares": evaluation.outcome_shares,
                    "returns": evaluation.returns,
                    "lengths": evaluation.lengths,
                    "outcomes": evaluation.outcomes,
                }
            )
            return
        which = f", {self.checkpoint} checkpoint" if self.run_or_file.is_dir() else ""
        say(f"{self.run_or_file}{which}, {self.episodes} greedy episodes")
        say(f"  mean return         {evaluation.mean_return:9.2f}")
        say(f"  standard deviation  {evaluation.std_return:9.2f}")
        say(f"  minimum             {evaluation.min_return:9.2f}")
        if evaluation.solved_share is not None:
            say(f"  at or above {evaluation.reward_threshold:<8g}{evaluation.solved_share:9.0%}")
        for label, share in (evaluation.outcome_shares or {}).items():
            say(f"  {label:<20}{share:9.0%}")
        endless = sum(length == ENDLESS for length in evaluation.lengths)
        if endless and self.max_episode_steps is None and envs.time_limit(dqn.env) is None:
            say(f"  {endless} went on without end and were cut off after {ENDLESS:,} steps")


@dataclass(frozen=True, kw_only=True)
class Info:
    """Tell what a run or a weights file is: its counters, settings, machine, and whether it can be gone on with."""

    run_or_file: tyro.conf.Positional[Path]
    """A run directory, or a .safetensors file."""
    json: bool = False
    """Print one JSON object on standard output."""

    def run(self) -> None:
        found = inspection.about(self.run_or_file)
        if self.json:
            print_json(found)
        else:
            say("\n".join(inspection.told(found, str(self.run_or_file))))


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check every checksum of a run, and that its checkpoints, logs and weights can be read."""

    run_directory: tyro.conf.Positional[Path]
    """A run directory."""

    def run(self) -> None:
        findings = list(inspection.verify(self.run_directory))
        for path, fault in findings:
            name = "its directories" if path == self.run_directory else path.relative_to(self.run_directory)
            say(f"{'whole  ' if fault is None else 'DAMAGED'}  {name}")
        if faults := [fault for _, fault in findings if fault is not None]:
            raise FileFormatError("\n  ".join([f"{self.run_directory} is damaged", *faults]))
        say(f"\nAll {len(findings)} are whole. Films and pictures have no checksum: they were not looked at.")
        if not checkpoint.paths(self.run_directory):
            aside(f"perilune: {self.run_directory} has no checkpoint: it cannot be gone on with.")


def load(run_or_file: Path, which: Which, env: str) -> DQN:
    """The agent of a run or a weights file, for the environment ``env``, or where that is empty for its own."""
    return DQN.load(weights.weights_file(run_or_file, which), env or None)
