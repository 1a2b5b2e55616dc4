"""The commands bench learning, compare, speed and doctor."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from perilune._utils.console import aside
from perilune.bench import from_repository, learning, results, speed
from perilune.cli.runs import show
from perilune.cli.settings import choose_registered
from perilune.errors import ConfigError, MissingDependencyError, TrialError
from perilune.viz.terminal import progress_bar


def run_bench_speed(options: Namespace) -> None:
    """Measure the time of an update and, in a clone of the repository, of a training run."""
    if options.steps < 1:
        raise ConfigError("steps", options.steps, "a whole number >= 1")
    measured: list[Any] = []
    with progress_bar("perilune: measuring") as tell:
        for done, (name, config) in enumerate(speed.UPDATES.items(), 1):
            measured += speed.update_speed(name, config)
            tell(done, len(speed.UPDATES) + 1)  # the last one is the training run
        try:
            sb3 = from_repository("peers.sb3", "the comparison with Stable-Baselines3")
            sb3.check_installed()
            measured.append(sb3.training_speed(options.steps))
            missing = []
        except MissingDependencyError as error:
            missing = [f"not measured: {error}"]
    content = {"results": [asdict(result) for result in measured]}
    show(options, content, "\n".join([*map(str, measured), *missing]))


def run_bench_learning(options: Namespace) -> None:
    """Train several seeds and score each on 100 fixed episodes. Resume an interrupted benchmark."""
    train_seeds(options, options.first_seed, options.against)


def train_seeds(options: Namespace, first_seed: int | None = None, against: str | None = None) -> None:
    """Train several seeds, and print and save their scores.

    Args:
        options: the options of a command with ``--seeds``.
        first_seed: the first seed, by default ``--seed`` or that of the settings file.
        against: names of other libraries to train on the same seeds.
    """
    chosen = choose_registered(options)
    named, first_seed = ("seed", chosen.seed) if first_seed is None else ("first_seed", first_seed)
    for name, value, low in (("seeds", options.seeds, 1), (named, first_seed, 0)):
        if value < low:
            raise ConfigError(name, value, f"a whole number >= {low}")
    agent, train = chosen.configs()
    named = f"{chosen.env}-{options.preset}" if getattr(options, "preset", None) else chosen.env
    result = learning.benchmark(
        chosen.env,
        agent,
        train,
        seeds=range(first_seed, first_seed + options.seeds),
        out=options.out or Path("runs", "bench", named),
        jobs=options.jobs,
        cluster=options.cluster,
        against=against,
        quiet=options.quiet,
    )
    show(options, result.content, "\n".join([result.text, "", *(f"  {path}" for path in result.files)]))
    if result.failures:
        raise TrialError(learning.failed(result.failures))


def run_bench_compare(options: Namespace) -> None:
    """Compare two results of bench learning: the margin of A over B, and its uncertainty."""
    a, b = results.load(options.a), results.load(options.b)
    with progress_bar("perilune: comparing"):
        comparison = results.compare(a, b, np.random.default_rng(0))
    names = str(options.a), str(options.b)
    content = {"a": names[0], "b": names[1], **results.plain(comparison)}
    show(options, content, results.comparison_table(comparison, *names))


def run_bench_doctor(options: Namespace) -> None:
    """Inject known faults into reference agents and count which ones the doctor finds."""
    if options.jobs < 1:
        raise ConfigError("jobs", options.jobs, "a whole number >= 1")
    runner = from_repository("doctor.runner", "perilune bench doctor")
    agents = tuple(options.agents) or tuple(runner.AGENTS)
    for line in runner.run(agents, options.out, options.jobs):
        aside(line)
    for agent in agents:
        if not runner.installed(agent):
            aside(f"Skipped {agent}: {runner.AGENTS[agent]} is not installed.")
    outcomes = runner.outcomes(options.out)
    show(options, {"outcomes": [runner.to_json(outcome) for outcome in outcomes]}, runner.summary(outcomes))
