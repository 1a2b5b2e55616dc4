"""The commands train and resume."""

from __future__ import annotations

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from perilune import envs
from perilune._utils.console import aside
from perilune._utils.text import number, quoted, suggestion
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import build
from perilune.api import DQN
from perilune.cli.runs import make_env, show
from perilune.cli.settings import choose
from perilune.envs.workers import on_cluster
from perilune.errors import ConfigError, UsageError
from perilune.history import History
from perilune.runs import checkpoint, layout
from perilune.runs.manifest import CHANGEABLE
from perilune.training.events import Evaluated


def run_train(options: Namespace) -> None:
    """Train a DQN and record it in a run directory, or train several seeds."""
    _check_seeds(options)
    if options.seeds is not None:
        from perilune.cli.bench import train_seeds  # noqa: PLC0415 -- slow to import

        train_seeds(options)
        return
    chosen = choose(options)
    where = nullcontext() if options.cluster is None else on_cluster(options.cluster)
    if options.cluster is not None and chosen.configs()[1].workers == 1:
        raise UsageError(
            "--cluster requires --seeds N, to train several seeds, or --num-envs N --workers N, to step the "
            "environments of one run in N processes (N > 1)."
        )
    env = envs.make(chosen.env, **chosen.env_kwargs)
    dqn = DQN(env, chosen.preset, seed=chosen.seed, **chosen.agent)
    env_options = _env_options(chosen.env, chosen.env_kwargs)
    directory = options.out or layout.free_directory(envs.name(dqn.env), chosen.seed)
    with _resume_hint(directory, env_options), where:
        history = dqn.train(
            run_dir=directory,
            overwrite=options.overwrite,
            quiet=options.quiet,
            tensorboard=options.tensorboard,
            **chosen.train,
        )
    _report(options, dqn, history, env_options)


def _check_seeds(options: Namespace) -> None:
    """Raise UsageError if an option requires ``--seeds`` or cannot be combined with it."""
    if options.seeds is None:
        if options.jobs is not None:
            raise UsageError(
                "--jobs requires --seeds N: it is the number of seeds to train at the same time. To step the "
                "environments of one run in parallel, pass --num-envs N --workers N."
            )
        return
    remedies = {"overwrite": "Remove the old runs, or choose another directory with --out.", "tensorboard": "Omit it."}
    for name, remedy in remedies.items():
        if getattr(options, name):
            raise UsageError(f"--{name} cannot be combined with --seeds. {remedy}")


def run_resume(options: Namespace) -> None:
    """Resume a run exactly from its last checkpoint."""
    latest, _ = checkpoint.latest(options.run)
    setup, ended = latest.setup, latest.training.finished
    changes = {name.replace("-", "_"): value for name, value in options.change}
    for name in changes.keys() - CHANGEABLE:
        expected = f"one of {', '.join(sorted(CHANGEABLE))}. {suggestion(name, CHANGEABLE)}".rstrip()
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
    env_options = _env_options(options.env, dict(getattr(options, "env_kwargs", ())))
    with _resume_hint(options.run, env_options):
        history = dqn.train(
            build(TrainConfig, train_changes, setup.train),
            run_dir=options.run,
            resume=True,
            change=tuple(changes),
            quiet=options.quiet,
            tensorboard=options.tensorboard,
        )
    if ended and not changes:
        why, how = "has already reached its budget. To extend it", "--steps"
        if _stopped_early(history.run.config["train"], history.evaluations[-1]):
            why = f"stopped at stop_at_return={setup.train.stop_at_return:g}. To use the rest of its budget"
            how = "--change stop_at_return=none"
        aside(f"perilune: {options.run} {why}, pass {how}.")
        if not options.json:
            return
    _report(options, dqn, history, env_options)


@contextmanager
def _resume_hint(run: Path, env_options: str) -> Iterator[None]:
    """After an interruption, report that nothing was saved, or the options that resuming needs."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not checkpoint.paths(run):
            error.add_note("Training had not begun, so nothing was saved.")
        elif env_options:
            error.add_note(f"Add{env_options} to that command.")
        raise


def _extended(latest: checkpoint.Checkpoint, name: str, more: int) -> int:
    """Return the budget of a run plus ``more``. For a finished run, ``more`` counts from where it ended."""
    if more < 1:
        raise ConfigError(name, more, "a whole number >= 1")
    training, agent = latest.training, latest.agent
    had = agent.env_steps - training.start_steps if name == "steps" else agent.episodes - training.start_episodes
    budget = getattr(latest.setup.train, name)
    return int((had if training.finished or budget is None else budget) + more)


def _report(options: Namespace, dqn: DQN, history: History, env_options: str) -> None:
    """Print the result of training, the paths of the pictures and what to do next."""
    agent, run, final = dqn.agent, history.run, history.evaluations[-1]
    best = [evaluation for evaluation in history.evaluations if evaluation.best][-1]
    threshold = run.config["reward_threshold"]
    counters = {name: getattr(agent, name) for name in ("seed", "env_steps", "updates", "episodes")}
    content = {"run": str(history.directory), "environment": run.config["environment"], **counters}
    content |= {"solved": None if threshold is None else final.mean_return >= threshold}
    train = run.config["train"]
    early = _stopped_early(train, final)
    why = f"\nAn evaluation reached stop_at_return={train['stop_at_return']:g}, so training stopped." if early else ""
    rows = [
        f"  {name:<8}{number(score.mean_return):>9}   after {score.env_steps:,} steps{caveat}"
        for name, score, caveat in (
            ("final", final, ""),
            ("best", best, "; optimistic, because it selected the checkpoint"),
        )
    ]
    lines = [
        f"\nTrained for {agent.env_steps:,} steps, {agent.episodes:,} episodes, {agent.updates:,} updates.{why}",
        _verdict(threshold, final, best),
        f"\nMean return of {train['eval_episodes']} greedy episodes:",
        *rows,
        "",
        *_pictures(history),
        "\nNext:",
        *_next_commands(run.directory, train, early, env_options),
    ]
    show(options, content | {"best": best._asdict(), "final": final._asdict()}, "\n".join(lines))


def _stopped_early(train: dict[str, Any], last: Evaluated) -> bool:
    """Return whether the last evaluation ended training with the settings ``train``."""
    return train["stop_at_return"] is not None and last.mean_return >= train["stop_at_return"]


def _verdict(threshold: float | None, final: Evaluated, best: Evaluated) -> str:
    """Return whether the environment is solved, as a sentence."""
    if threshold is None:
        return "The environment defines no score at which it counts as solved."
    if final.mean_return >= threshold:
        return f"Solved: the final score reaches the threshold of {threshold:g}."
    if best.mean_return >= threshold:
        return f"Only the best weights, not the final ones, reach the threshold of {threshold:g}."
    return f"Not solved: no evaluation reached the threshold of {threshold:g}."


def _pictures(history: History) -> list[str]:
    """Return the paths of the learning curves and videos of a run, each with a label."""
    directory = history.run.directory
    labels = {
        "learning curves": directory / "plots" / "curves.png",
        "video of the best weights": directory / "videos" / "best.mp4",
    }
    lines = [f"  {label:<28}{path}" for label, path in labels.items() if path.exists()]
    if count := len(history.videos):
        lines.append(f"  {f'{count} training episodes':<28}{directory / 'videos'}")
    return lines or ["  There are no pictures. Draw them with perilune plot and perilune video."]


def _next_commands(directory: Path, train: dict[str, Any], early: bool, env_options: str) -> list[str]:
    """Return the commands that are useful after training, each with its purpose."""
    installed = shutil.which("perilune") or Path(sys.argv[0]).name != "perilune"
    program, run = "perilune" if installed else sys.argv[0], quoted([str(directory)])  # such as .venv/bin/perilune
    more = f"--episodes {train['episodes']}" if train["steps"] is None else f"--steps {train['steps']}"
    more = "--change stop_at_return=none" if early else more
    commands = {
        f"evaluate {run} --episodes 100{env_options}": "score on other start states",
        f"watch {run}": "show curves and videos in a browser",
        f"report {run}{env_options.partition(' --env-kwargs')[0]}": "write a report with suggestions",
        f"resume {run} {more}{env_options}": "use the rest of the budget" if early else "train longer",
    }
    width = max(map(len, commands))
    return [f"  {program} {command:<{width}}  # {purpose}" for command, purpose in commands.items()]


def _env_options(env: str | None, kwargs: dict[str, Any]) -> str:
    """Return the options that make the environment again if its ID in the run is not enough, else ""."""
    words = ["--env", env] if env and ":" in env else []
    words += ["--env-kwargs", *(f"{name}={json.dumps(value)}" for name, value in kwargs.items())] if kwargs else []
    return f" {quoted(words)}" if words else ""
