"""The commands train and resume."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perilune import envs
from perilune._utils.console import aside
from perilune._utils.text import number
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import build
from perilune.api import DQN
from perilune.cli.parser import nearest
from perilune.cli.runs import make_env, show
from perilune.cli.settings import choose
from perilune.errors import ConfigError
from perilune.history import History
from perilune.runs import checkpoint, layout
from perilune.runs.manifest import CHANGEABLE


def run_train(options: Namespace) -> None:
    """Train a DQN and record it in a run directory."""
    chosen = choose(options)
    env = envs.make(chosen.env, **chosen.env_kwargs)
    dqn = DQN(env, chosen.preset, seed=chosen.seed, **chosen.agent)
    with _resume_hint(chosen.env):
        history = dqn.train(
            run_dir=options.out or layout.free_directory(envs.name(dqn.env), chosen.seed),
            overwrite=options.overwrite,
            quiet=options.quiet,
            tensorboard=options.tensorboard,
            **chosen.train,
        )
    _report(options, dqn, history, chosen.env)


def run_resume(options: Namespace) -> None:
    """Resume a run exactly from its last checkpoint."""
    latest, _ = checkpoint.latest(options.run)
    setup, ended = latest.setup, latest.training.finished
    changes = {name.replace("-", "_"): value for name, value in options.change}
    for name in changes.keys() - CHANGEABLE:
        expected = f"one of {', '.join(sorted(CHANGEABLE))}.{nearest(name, CHANGEABLE)}"
        raise ConfigError(name, changes[name], expected)
    added = {name: more for name in ("steps", "episodes") if (more := getattr(options, name)) is not None}
    for name, more in added.items():
        if name in changes:
            expected = f"either --{name} {more} or --change {name}=..., not both"
            raise ConfigError(f"change {name}", changes[name], expected)
        changes[name] = _extended(latest, name, more)
    if ended and len(added) == 1:
        changes.setdefault("episodes" if "steps" in added else "steps", None)  # the other budget is used up
    train_changes = {name: value for name, value in changes.items() if hasattr(setup.train, name)}
    agent_changes = {name: value for name, value in changes.items() if name not in train_changes}
    env = make_env(options, setup.environment)
    if envs.name(env) != setup.environment:
        raise ConfigError("env", options.env, f"{setup.environment}, the environment of the run")
    config = build(DQNConfig, agent_changes, setup.agent)
    dqn = DQN(env, config=config, seed=setup.seed, symmetry=setup.symmetry)
    with _resume_hint(options.env):
        history = dqn.train(
            build(TrainConfig, train_changes, setup.train),
            run_dir=options.run,
            resume=True,
            change=tuple(changes),
            quiet=options.quiet,
            tensorboard=options.tensorboard,
        )
    if ended and not changes:
        aside(f"perilune: {options.run} has already reached its budget. To extend it, pass --steps.")
    _report(options, dqn, history, options.env)


@contextmanager
def _resume_hint(env: str) -> Iterator[None]:
    """After an interruption, name the option that resuming needs if a module registers the environment."""
    try:
        yield
    except KeyboardInterrupt as error:
        if ":" in env:
            error.add_note(f"Add --env {env} to that command.")
        raise


def _extended(latest: checkpoint.Checkpoint, name: str, more: int) -> int:
    """Return the budget of a run plus ``more``. For a finished run, ``more`` counts from where it ended."""
    if more < 1:
        raise ConfigError(name, more, "a whole number >= 1")
    training, agent = latest.training, latest.agent
    had = agent.env_steps - training.start_steps if name == "steps" else agent.episodes - training.start_episodes
    budget = getattr(latest.setup.train, name)
    return int((had if training.finished or budget is None else budget) + more)


def _report(options: Namespace, dqn: DQN, history: History, env: str) -> None:
    """Print the result of training."""
    agent, run, final = dqn.agent, history.run, history.evaluations[-1]
    best = [evaluation for evaluation in history.evaluations if evaluation.best][-1]
    counters = {name: getattr(agent, name) for name in ("seed", "env_steps", "updates", "episodes")}
    content = {"run": str(history.directory), "environment": run.config["environment"], **counters}
    pictures = [run.directory / name for name in ("plots/curves.png", "videos/best.mp4", "initial_state.png")]
    installed = shutil.which("perilune") or Path(sys.argv[0]).name != "perilune"
    program = "perilune" if installed else sys.argv[0]  # such as .venv/bin/perilune
    where = f" --env {env}" if ":" in env else ""
    lines = [
        f"\n{agent.env_steps:,} steps, {agent.episodes:,} episodes, {agent.updates:,} updates.",
        f"Mean return of {run.config['train']['eval_episodes']} greedy episodes: best {number(best.mean_return)} "
        f"(after {best.env_steps:,} steps), final {number(final.mean_return)}.\n",
        *(f"  {path}" for path in pictures if path.exists()),
        "\nThe best score is optimistic because it selected the checkpoint. Re-evaluate it on other start states:",
        f"  {program} evaluate {run.directory} --episodes 100{where}",
    ]
    show(options, content | {"best": best._asdict(), "final": final._asdict()}, "\n".join(lines))
