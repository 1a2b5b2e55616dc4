"""The commands that train."""

from __future__ import annotations

import difflib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from perilune import envs
from perilune._utils.console import aside, say
from perilune._utils.text import number
from perilune.agent.config import DQNConfig, TrainConfig, build
from perilune.api import DQN
from perilune.cli.options import AgentOptions, TrainOptions, chosen, print_json
from perilune.envs.known.presets import RECOMMENDED, preset
from perilune.errors import ConfigError
from perilune.history import History
from perilune.runs import checkpoint, runlog
from perilune.runs.recorder import CHANGEABLE


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a deep Q-network and keep everything in a run directory."""

    env: tyro.conf.Positional[str]
    """Id of a Gymnasium environment, for example LunarLander-v3."""
    preset: str | None = None
    """Settings to start from, which the options below change; that of ENV where there is one, else "default"."""
    seed: int = 0
    """Seed of everything random (>= 0)."""
    out: Path | None = None
    """Run directory; runs/ENV-seedS, or the next free name after it, where it is left out."""
    overwrite: bool = False
    """Replace a run that is already there."""
    quiet: bool = False
    """Show no progress."""
    tensorboard: bool = False
    """Write the figures and the films for TensorBoard too, into RUN/tensorboard."""
    json: bool = False
    """Print the result as one JSON object on standard output."""
    train: tyro.conf.OmitArgPrefixes[TrainOptions]
    agent: tyro.conf.OmitArgPrefixes[AgentOptions]

    def run(self) -> None:
        train = build(TrainConfig, vars(self.train))
        dqn = DQN(
            self.env, config=chosen(self.agent, preset(self.env, self.preset or RECOMMENDED).agent), seed=self.seed
        )
        history = dqn.train(
            train,
            run_dir=self.out or runlog.free_directory(envs.name(dqn.env), self.seed),
            overwrite=self.overwrite,
            quiet=self.quiet,
            tensorboard=self.tensorboard,
        )
        _tell_trained(dqn, history, train, self.env, self.json)


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a run exactly where its last checkpoint is."""

    run_directory: tyro.conf.Positional[Path]
    """A run directory."""
    steps: int | None = None
    """So many environment steps more than the run was to have (>= 1)."""
    episodes: int | None = None
    """So many episodes more than the run was to have (>= 1)."""
    change: tuple[str, ...] = ()
    """Settings to go on with otherwise, each as NAME=VALUE: learning_rate=1e-4."""
    env: str = ""
    """Id of the environment, where its own is not enough: my_module:MyEnv-v0."""
    quiet: bool = False
    """Show no progress."""
    tensorboard: bool = False
    """Write the figures and the films for TensorBoard too, into RUN/tensorboard."""
    json: bool = False
    """Print the result as one JSON object on standard output."""

    def run(self) -> None:
        latest = checkpoint.latest(self.run_directory)
        setup, changes = latest.setup, _changes(self.change)
        for name, more in (("steps", self.steps), ("episodes", self.episodes)):
            if more is None:
                continue
            if name in changes:
                allowed = f"left out where --{name} {more} is given, or the other way round: both say how far to go"
                raise ConfigError(f"change {name}", changes[name], allowed)
            changes[name] = _extended(latest, name, more)
        if latest.training.over and (self.steps is None) != (self.episodes is None):
            changes.setdefault("steps" if self.steps is None else "episodes", None)  # it is used up
        train_changes = {name: value for name, value in changes.items() if hasattr(setup.train, name)}
        agent_changes = {name: value for name, value in changes.items() if name not in train_changes}
        env = envs.make(self.env) if self.env else envs.make_named(setup.environment)
        if envs.name(env) != setup.environment:  # before its sizes are compared with settings that are not for it
            raise ConfigError("env", self.env, f"{setup.environment}, as in the run that goes on")
        dqn = DQN(
            env,
            config=build(DQNConfig, agent_changes, setup.agent),
            seed=setup.seed,
            symmetry=setup.symmetry,
        )
        train = build(TrainConfig, train_changes, setup.train)
        history = dqn.train(
            train,
            run_dir=self.run_directory,
            resume=True,
            change=tuple(changes),
            quiet=self.quiet,
            tensorboard=self.tensorboard,
        )
        if latest.training.over and not changes:
            aside(f"perilune: {self.run_directory} is at its end; --steps MORE extends it.")
        _tell_trained(dqn, history, train, self.env, self.json)


def _tell_trained(dqn: DQN, history: History, train: TrainConfig, env: str, as_json: bool) -> None:
    best = [evaluation for evaluation in history.evaluations if evaluation.best][-1]
    final = history.evaluations[-1]
    if as_json:
        print_json(
            {
                "run": str(history.directory),
                "environment": history.run.config["environment"],
                "seed": dqn.agent.seed,
                "env_steps": dqn.agent.env_steps,
                "updates": dqn.agent.updates,
                "episodes": dqn.agent.episodes,
                "best": best._asdict(),
                "final": final._asdict(),
            }
        )
        return
    episodes = train.eval_episodes
    say(f"\n{dqn.agent.env_steps:,} steps, {dqn.agent.episodes:,} episodes, {dqn.agent.updates:,} updates.")
    say(
        f"Greedy, mean of {episodes} episodes: best {number(best.mean_return, 1)} (after {best.env_steps:,} steps), "
        f"final {number(final.mean_return, 1)}.\n"
    )
    if dqn.agent.epsilon > dqn.config.epsilon_end + 0.005:  # or it would be told as the same
        say(f"Epsilon was still {dqn.agent.epsilon:.2f} at the end; how long its way down is, is a setting.\n")
    run = history.run.directory
    for name in ("plots/curves.png", "videos/best.mp4", "initial_state.png"):
        if (run / name).exists():
            say(f"  {run / name}")
    installed = shutil.which("perilune") or Path(sys.argv[0]).name != "perilune"
    program = "perilune" if installed else sys.argv[0]  # .venv/bin/perilune, say
    say("\nThat best was chosen by its figure, which flatters it. On other start states:")
    where = f" --env {env}" if ":" in env else ""  # else its own id is enough
    say(f"  {program} evaluate {history.directory} --episodes 100{where}")


def _changes(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE by name; a value that is not JSON is a word."""
    changes = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError("change", word, "NAME=VALUE, for example learning_rate=1e-4")
        name = name.replace("-", "_")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = None if value == "None" else value
        except RecursionError:  # lists in lists in lists
            raise ConfigError("change", f"{word[:40]}...", "NAME=VALUE, for example learning_rate=1e-4") from None
        if name not in CHANGEABLE:
            known = {field.name for settings in (DQNConfig, TrainConfig) for field in fields(settings)}
            what = "a setting that can change" if name in known else "a setting that exists"
            near = difflib.get_close_matches(name, CHANGEABLE, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            can = ", ".join(sorted(CHANGEABLE))
            raise ConfigError(name, changes[name], f"{what}{hint} These can change: {can}")
    return changes


def _extended(latest: checkpoint.Checkpoint, name: str, more: int) -> int:
    """The budget of a run that is to have ``more`` than it was, or, where it is over, than it had."""
    if more < 1:
        raise ConfigError(name, more, "a whole number >= 1")
    training, agent = latest.training, latest.agent
    had = agent.env_steps - training.start_steps if name == "steps" else agent.episodes - training.start_episodes
    budget = getattr(latest.setup.train, name)
    return int((had if training.over or budget is None else budget) + more)
