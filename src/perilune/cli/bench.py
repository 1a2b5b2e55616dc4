"""The commands that measure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import tyro

from perilune._utils.console import aside, say
from perilune.agent.config import TrainConfig, build
from perilune.bench import compare, from_repository, learning, results, speed
from perilune.bench import doctor as mutation
from perilune.cli.options import AgentOptions, TrainOptions, chosen, print_json
from perilune.envs.known.presets import RECOMMENDED, preset
from perilune.errors import ConfigError, MissingDependencyError, TrialError


@dataclass(frozen=True, kw_only=True)
class BenchSpeed:
    """Time an update against its matrix products and, in a clone, training against Stable-Baselines3."""

    steps: int = 10_000
    """Environment steps of each training."""
    json: bool = False
    """Print one JSON object on standard output."""

    def run(self) -> None:
        measured: list[Any] = []
        for result in itertools.chain(speed.update_speeds(), self._training_speed()):
            measured.append(result)
            if not self.json:
                say(result)
        if self.json:
            print_json({"results": [asdict(result) for result in measured]})

    def _training_speed(self) -> Iterator[Any]:
        try:
            peers = from_repository("peers", "training against Stable-Baselines3")
            peers.check_installed()
        except MissingDependencyError as error:
            if not self.json:
                say(f"not measured: {error}")
        else:
            yield peers.training_speed(self.steps)


@dataclass(frozen=True, kw_only=True)
class BenchLearning:
    """Train several seeds of one environment and score each on 100 fixed episodes. Resumes if it was stopped."""

    env: tyro.conf.Positional[str]
    """Id of a Gymnasium environment."""
    seeds: int = 10
    """Number of seeds (>= 1)."""
    first_seed: int = 0
    """The first of them (>= 0)."""
    preset: str | None = None
    """Preset that the options below change; default: that of ENV if it has one, else "default"."""
    jobs: int = 1
    """Seeds trained at the same time (>= 1)."""
    out: Path | None = None
    """Directory of the runs and the results; default: runs/bench/ENV, or runs/bench/ENV-PRESET with --preset."""
    against: Literal["sb3"] | None = None
    """Also train Stable-Baselines3's DQN with the RL Zoo's settings on the same seeds, into OUT/sb3 (in a clone)."""
    json: bool = False
    """Print one JSON object on standard output."""
    quiet: bool = False
    """Show no progress."""
    train: tyro.conf.OmitArgPrefixes[TrainOptions]
    agent: tyro.conf.OmitArgPrefixes[AgentOptions]

    def run(self) -> None:
        for name, value, low in (("seeds", self.seeds, 1), ("first_seed", self.first_seed, 0), ("jobs", self.jobs, 1)):
            if value < low:
                raise ConfigError(name, value, f"a whole number >= {low}")
        result = learning.benchmark(
            self.env,
            chosen(self.agent, preset(self.env, self.preset or RECOMMENDED).agent),
            build(TrainConfig, vars(self.train)),
            seeds=range(self.first_seed, self.first_seed + self.seeds),
            out=self.out or Path("runs", "bench", f"{self.env}-{self.preset}" if self.preset else self.env),
            jobs=self.jobs,
            against=self.against is not None,
            quiet=self.quiet,
        )
        if self.json:
            print_json(result.content)
        else:
            say(f"{result.text}\n")
            for path in result.files:
                say(f"  {path}")
        if result.failures:
            raise TrialError(learning.failed(result.failures))


@dataclass(frozen=True, kw_only=True)
class BenchCompare:
    """Compare two results of `bench learning`: the margin, and how certain it is."""

    a: tyro.conf.Positional[Path]
    """Directory that `bench learning` wrote, or its scores.json."""
    b: tyro.conf.Positional[Path]
    """Another result of the same environment. A positive margin is in favour of A."""
    json: bool = False
    """Print one JSON object on standard output."""

    def run(self) -> None:
        a, b = results.load(self.a), results.load(self.b)
        comparison = compare.compare(a, b, np.random.default_rng(0))
        if self.json:
            print_json({"a": str(self.a), "b": str(self.b), **compare.to_json(comparison)})
        else:
            say(compare.table(comparison, str(self.a), str(self.b)))


@dataclass(frozen=True, kw_only=True)
class BenchDoctor:
    """Put the catalogue's faults into agents of different style and examine each. Goes on where it was stopped."""

    hosts: tuple[str, ...] = tuple(mutation.HOSTS)
    """Agents that faults are put into; those whose library is not installed are left out, by name."""
    jobs: int = 1
    """Examinations at the same time (>= 1)."""
    out: Path = Path("runs", "bench", "doctor")
    """Directory of the outcomes."""
    json: bool = False
    """Print one JSON object on standard output."""

    def run(self) -> None:
        if self.jobs < 1:
            raise ConfigError("jobs", self.jobs, "a whole number >= 1")
        for line in mutation.run(self.hosts, self.out, self.jobs):
            aside(line)
        for host in self.hosts:
            if not mutation.installed(host):
                aside(f"{host} is left out: {mutation.HOSTS[host]} is not installed")
        outcomes = mutation.outcomes(self.out)
        if self.json:
            print_json({"outcomes": [mutation.to_json(outcome) for outcome in outcomes]})
        else:
            say(mutation.summary(outcomes))


# Which commands there are is said in _parse, where the preset's settings are known.
Benchmark = TypeVar("Benchmark", bound=BenchSpeed | BenchLearning | BenchCompare | BenchDoctor)


@dataclass(frozen=True, kw_only=True)
class Bench(Generic[Benchmark]):
    """Measure: speed, learning over many seeds, or what the doctor finds."""

    what: tyro.conf.OmitSubcommandPrefixes[Benchmark]

    def run(self) -> None:
        self.what.run()
