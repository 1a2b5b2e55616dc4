"""The command line: read off the settings' dataclasses, one function per command."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Generic, Literal, TypeVar

import numpy as np
import tyro

from perilune import checkpoint, envs, inspection, runlog, weights
from perilune.api import DQN, History
from perilune.bench import compare, report, results, speed
from perilune.bench import doctor as mutation
from perilune.config import DQNConfig, TrainConfig, build
from perilune.doctor.examination import check_budget, examine
from perilune.doctor.loading import load_factory
from perilune.doctor.scaffold import write_scaffold
from perilune.errors import ConfigError, ExaminationError, FileFormatError, PeriluneError, PeriluneWarning, TrialError
from perilune.evaluate import ENDLESS
from perilune.presets import Preset, preset
from perilune.view import examination, page, plots

Which = Literal["best", "final"]


class TrainOptions(TrainConfig):
    """How long to train, and what to look at on the way."""

    def __post_init__(self) -> None:
        """Nothing is checked before all options are read: their defaults depend on the preset."""


class AgentOptions(DQNConfig):
    """What the agent is and how it learns."""

    def __post_init__(self) -> None:
        """As above."""


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
    json: bool = False
    """Print the result as one JSON object on standard output."""
    train: tyro.conf.OmitArgPrefixes[TrainOptions]
    agent: tyro.conf.OmitArgPrefixes[AgentOptions]

    def run(self) -> None:
        train = build(TrainConfig, vars(self.train))
        dqn = DQN(self.env, chosen(self.agent, preset(self.env, self.preset).agent), seed=self.seed)
        history = dqn.train(train, out=self.out, overwrite=self.overwrite, quiet=self.quiet)
        _print_trained(dqn, history, train, self.json)


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
    json: bool = False
    """Print the result as one JSON object on standard output."""

    def run(self) -> None:
        latest = checkpoint.latest(self.run_directory)
        setup, changes = latest.setup, _changes(self.change)
        for name, more in (("steps", self.steps), ("episodes", self.episodes)):
            if more is not None:
                changes[name] = _extended(latest, name, more)
        train_changes = {name: value for name, value in changes.items() if hasattr(setup.train, name)}
        agent_changes = {name: value for name, value in changes.items() if name not in train_changes}
        dqn = DQN(
            self.env or setup.environment,
            build(DQNConfig, agent_changes, setup.agent),
            seed=setup.seed,
            symmetry=setup.symmetry,
        )
        train = build(TrainConfig, train_changes, setup.train)
        if latest.training.over and not changes:
            print(f"perilune: {self.run_directory} is at its end; --steps MORE extends it.", file=sys.stderr)
        history = dqn.train(train, resume=self.run_directory, change=tuple(changes), quiet=self.quiet)
        _print_trained(dqn, history, train, self.json)


def _print_trained(dqn: DQN, history: History, train: TrainConfig, as_json: bool) -> None:
    best = [evaluation for evaluation in history.evaluations if evaluation.best][-1]
    final = history.evaluations[-1]
    if as_json:
        _print_json(
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
    print(f"\n{dqn.agent.env_steps:,} steps, {dqn.agent.episodes:,} episodes, {dqn.agent.updates:,} updates.")
    print(
        f"Greedy, mean of {episodes} episodes: best {best.mean_return:.1f} (after {best.env_steps:,} steps), ",
        end="",
    )
    print(f"final {final.mean_return:.1f}.\n")
    if dqn.agent.epsilon > dqn.config.epsilon_floor:
        print(f"Epsilon was still {dqn.agent.epsilon:.2f} at the end; how long its way down is, is a setting.\n")
    for name in ("plots/curves.png", "videos/best.mp4", "initial_state.png"):
        if (history.directory / name).exists():
            print(f"  {history.directory / name}")
    installed = shutil.which("perilune") or Path(sys.argv[0]).name != "perilune"
    program = "perilune" if installed else sys.argv[0]  # .venv/bin/perilune, say
    print("\nThat best was chosen by its figure, which flatters it. On other start states:")
    print(f"  {program} evaluate {history.directory} --episodes 100")


def _changes(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE by name; a value that is not JSON is a word."""
    changes = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigError("change", word, "NAME=VALUE, for example learning_rate=1e-4")
        try:
            changes[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            changes[name.replace("-", "_")] = None if value == "None" else value
    return changes


def _extended(latest: checkpoint.Checkpoint, name: str, more: int) -> int:
    """The budget of a run that is to have ``more`` than it was, or, where it is over, than it had."""
    if more < 1:
        raise ConfigError(name, more, "a whole number >= 1")
    training, agent = latest.training, latest.agent
    had = agent.env_steps - training.start_steps if name == "steps" else agent.episodes - training.start_episodes
    budget = getattr(latest.setup.train, name)
    return int((had if training.over or budget is None else budget) + more)


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
    json: bool = False
    """Print one JSON object, and nothing else, on standard output."""

    def run(self) -> None:
        dqn = _load(self.run_or_file, self.checkpoint)
        evaluation = dqn.evaluate(self.episodes, self.max_episode_steps)
        if self.json:
            _print_json(
                {
                    "environment": envs.name(dqn.env),
                    "checkpoint": self.checkpoint if self.run_or_file.is_dir() else str(self.run_or_file),
                    "env_steps": dqn.agent.env_steps,
                    "episodes": self.episodes,
                    "mean_return": evaluation.mean_return,
                    "std_return": evaluation.std_return,
                    "min_return": evaluation.min_return,
                    "solved_mark": evaluation.solved_mark,
                    "solved_share": evaluation.solved_share,
                    "outcome_shares": evaluation.outcome_shares,
                    "returns": evaluation.returns,
                    "lengths": evaluation.lengths,
                    "outcomes": evaluation.outcomes,
                }
            )
            return
        which = f", {self.checkpoint} checkpoint" if self.run_or_file.is_dir() else ""
        print(f"{self.run_or_file}{which}, {self.episodes} greedy episodes")
        print(f"  mean return         {evaluation.mean_return:9.2f}")
        print(f"  standard deviation  {evaluation.std_return:9.2f}")
        print(f"  minimum             {evaluation.min_return:9.2f}")
        if evaluation.solved_share is not None:
            print(f"  at or above {evaluation.solved_mark:<8g}{evaluation.solved_share:9.0%}")
        for label, share in (evaluation.outcome_shares or {}).items():
            print(f"  {label:<20}{share:9.0%}")
        endless = sum(length == ENDLESS for length in evaluation.lengths)
        if endless and self.max_episode_steps is None and envs.time_limit(dqn.env) is None:
            print(f"  {endless} went on without end and were cut off after {ENDLESS:,} steps")


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
        dqn = _load(self.run_or_file, self.checkpoint)
        out = self.out
        if out is None:
            run = self.run_or_file
            out = run / "videos" / f"{self.checkpoint}.mp4" if run.is_dir() else run.with_suffix(".mp4")
        evaluation = dqn.film(out, self.episodes, self.max_episode_steps)
        print(f"{out}  (return {', '.join(f'{value:.1f}' for value in evaluation.returns)})")


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
            _print_json(found)
        else:
            print("\n".join(inspection.told(found, str(self.run_or_file))))


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check every checksum of a run, and that all of its files can be read."""

    run_directory: tyro.conf.Positional[Path]
    """A run directory."""

    def run(self) -> None:
        findings = list(inspection.verify(self.run_directory))
        for path, fault in findings:
            print(f"{'whole  ' if fault is None else 'DAMAGED'}  {path.relative_to(self.run_directory)}")
        if faults := [fault for _, fault in findings if fault is not None]:
            raise FileFormatError("\n  ".join([f"{self.run_directory} is damaged", *faults]))


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
class BenchSpeed:
    """Time an update against its matrix products alone, and training against Stable-Baselines3 where installed."""

    steps: int = 10_000
    """Environment steps of each training."""
    json: bool = False
    """Print one JSON object on standard output."""

    def run(self) -> None:
        measured = []
        for result in speed.measure(self.steps):
            measured.append(result)
            if self.json:
                continue
            if isinstance(result, speed.UpdateSpeed):
                norm = ", LayerNorm" if result.layer_norm else ""
                print(
                    f"update, hidden {result.hidden[0]},{result.hidden[1]}{norm}: {result.update_us:.0f} us, "
                    f"its matrix products {result.floor_us:.0f} us, ratio {result.ratio:.2f}"
                )
            else:
                print(
                    f"training LunarLander-v3 per step: {result.perilune_us:.0f} us, "
                    f"Stable-Baselines3 {result.peer_us:.0f} us, {result.ratio:.1f} times faster"
                )
        if self.json:
            _print_json({"results": [asdict(result) for result in measured]})
        elif not speed.peer_installed():
            print("training against Stable-Baselines3: left out, it is not installed")


@dataclass(frozen=True, kw_only=True)
class BenchLearning:
    """Train several seeds of one environment and score each on 100 fixed episodes. Goes on where it was stopped."""

    env: tyro.conf.Positional[str]
    """Id of a Gymnasium environment."""
    seeds: int = 10
    """Number of seeds (>= 1)."""
    first_seed: int = 0
    """The first of them (>= 0)."""
    preset: str | None = None
    """Settings to start from, which the options below change; that of ENV where there is one, else "default"."""
    jobs: int = 1
    """Seeds trained at the same time (>= 1)."""
    out: Path | None = None
    """Directory of the runs and of the results; runs/bench/ENV, or ENV-PRESET, where it is left out."""
    against: Literal["sb3"] | None = None
    """Train Stable-Baselines3's DQN, with the RL Zoo's settings, on the same seeds too, into OUT/sb3."""
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
        result = report.benchmark(
            self.env,
            chosen(self.agent, preset(self.env, self.preset).agent),
            build(TrainConfig, vars(self.train)),
            seeds=range(self.first_seed, self.first_seed + self.seeds),
            out=self.out or Path("runs", "bench", f"{self.env}-{self.preset}" if self.preset else self.env),
            jobs=self.jobs,
            against=self.against is not None,
            quiet=self.quiet,
        )
        if self.json:
            _print_json(result.content)
        else:
            print(result.text, end="\n\n")
            for path in result.files:
                print(f"  {path}")
        if result.failures:
            raise TrialError(report.failed(result.failures))


@dataclass(frozen=True, kw_only=True)
class BenchCompare:
    """Say by which margin one result of `bench learning` is better than another, and how sure that is."""

    a: tyro.conf.Positional[Path]
    """A directory of results, or its scores.json."""
    b: tyro.conf.Positional[Path]
    """Another, of the same environment. A positive margin is in favour of A."""
    json: bool = False
    """Print one JSON object on standard output."""

    def run(self) -> None:
        a, b = results.load(self.a), results.load(self.b)
        comparison = compare.compare(a, b, np.random.default_rng(0))
        if self.json:
            _print_json({"a": str(self.a), "b": str(self.b), **compare.to_json(comparison)})
        else:
            print(compare.table(comparison, str(self.a), str(self.b)))


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Examine a DQN, whoever wrote it, and say what is wrong with it.

    Exit status 0: no fault; 1: faults; 2: it could not be examined.
    """

    agent: tyro.conf.Positional[str] = ""
    """FILE.py:FACTORY or FILE.ipynb:FACTORY; the factory gives a new agent each time (docs/doctor.md)."""
    new: Path | None = None
    """Write a commented adapter for an agent of your own to this file, and stop."""
    json: bool = False
    """Print one JSON object on standard output."""
    html: Path | None = None
    """Write the report as a page that can be passed on, with pictures."""
    budget: float = 60.0
    """Seconds that the examination may take (> 0)."""
    seed: int = 0
    """Seed that is offered to the factory (>= 0)."""

    def run(self) -> None:
        if self.new is not None:
            write_scaffold(self.new)
            print(f"{self.new} is written: fill it in, then run perilune doctor {self.new}:make")
            return
        if not self.agent:
            raise ExaminationError("which agent? perilune doctor FILE.py:FACTORY, or --new FILE.py for an adapter")
        if self.html is not None and (self.html.is_dir() or not self.html.parent.is_dir()):
            raise ConfigError("html", str(self.html), "a file in a directory that exists")
        check_budget(self.budget)
        with _stdout_apart() as out:
            result = examine(load_factory(self.agent, self.budget), budget=self.budget, seed=self.seed)
            if self.json:
                out.write(json.dumps(result.as_json(), indent=2) + "\n")
            else:
                examination.show(result, out)
            if self.html is not None:
                page.write(result, self.html, self.agent)
                if not self.json:
                    out.write(f"\n{self.html}\n")
        if result.faults:
            sys.exit(1)
        if not result.complete:
            raise ExaminationError(f"no fault was found, but {self.budget:g} s were not enough to look at everything")


@contextmanager
def _stdout_apart() -> Iterator[IO[str]]:
    """Standard output for us alone: what anybody else writes there meanwhile, in whatever language, is lost."""
    sys.stdout.flush()
    ours = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        with os.fdopen(os.dup(ours), "w", encoding="utf-8") as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)
        os.close(nowhere)


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
            print(line, file=sys.stderr)
        for host in self.hosts:
            if not mutation.installed(host):
                print(f"{host} is left out: {mutation.HOSTS[host]} is not installed", file=sys.stderr)
        outcomes = mutation.outcomes(self.out)
        if self.json:
            _print_json({"outcomes": [mutation.to_json(outcome) for outcome in outcomes]})
        else:
            print(mutation.summary(outcomes))


# Which commands there are is said in _parse, where the preset's settings are known.
Benchmark = TypeVar("Benchmark", bound=BenchSpeed | BenchLearning | BenchCompare | BenchDoctor)


@dataclass(frozen=True, kw_only=True)
class Bench(Generic[Benchmark]):
    """Measure: speed, learning over many seeds, or what the doctor finds."""

    what: tyro.conf.OmitSubcommandPrefixes[Benchmark]

    def run(self) -> None:
        self.what.run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Errors of ours end in one line and status 1, usage errors in status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    failed = 1
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if arguments == ["--version"]:
                print(f"perilune {runlog.version()}")
            else:
                command = parse(arguments)
                failed = 2 if isinstance(command, Doctor) else 1  # the doctor's 1 says that there are faults
                command.run()
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read along has seen enough, as in `perilune --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(failed)
    except (PeriluneError, OSError) as error:  # an OSError that is not ours: a full disk
        print("\n".join([f"perilune: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        sys.exit(failed)
    except KeyboardInterrupt:
        print(
            "perilune: interrupted. What is written is kept: `perilune resume RUN` goes on with a training, and a "
            "benchmark goes on with the same command.",
            file=sys.stderr,
        )
        sys.exit(130)


HELP = {"-h", "--help"}
Command = (
    Train
    | Resume
    | Evaluate
    | Video
    | Info
    | Verify
    | Plot
    | Doctor
    | Bench[BenchSpeed | BenchLearning | BenchCompare | BenchDoctor]
)


def parse(arguments: Sequence[str]) -> Command:
    """The command that ``arguments`` ask for.

    What trains is parsed twice: its first reading tells the preset, whose settings are the second's defaults.
    """
    helps = not HELP.isdisjoint(arguments)
    try:
        command = _parse([argument for argument in arguments if argument not in HELP], preset(""), say=not helps)
    except SystemExit:
        if not helps:
            raise
        return _parse(arguments, preset(""))
    trains = command.what if isinstance(command, Bench) else command
    settings = preset(trains.env, trains.preset) if isinstance(trains, Train | BenchLearning) else preset("")
    return _parse(arguments, settings)


def _parse(arguments: Sequence[str], settings: Preset, say: bool = True) -> Command:
    train, agent = TrainOptions(**vars(settings.train)), AgentOptions(**vars(settings.agent))
    learning = BenchLearning(env=tyro.MISSING, train=train, agent=agent)
    command: Command = tyro.cli(
        Annotated[Train, tyro.conf.subcommand("train", default=Train(env=tyro.MISSING, train=train, agent=agent))]
        | Annotated[Resume, tyro.conf.subcommand("resume")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Video, tyro.conf.subcommand("video")]
        | Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Plot, tyro.conf.subcommand("plot")]
        | Annotated[Doctor, tyro.conf.subcommand("doctor")]
        | Annotated[
            Bench[
                Annotated[BenchSpeed, tyro.conf.subcommand("speed")]
                | Annotated[BenchLearning, tyro.conf.subcommand("learning", default=learning)]
                | Annotated[BenchCompare, tyro.conf.subcommand("compare")]
                | Annotated[BenchDoctor, tyro.conf.subcommand("doctor")]
            ],
            tyro.conf.subcommand("bench"),
        ],
        prog="perilune",
        description="Deep Q-learning with the neural network written from scratch on NumPy.",
        args=arguments,
        console_outputs=say,
    )
    return command


def chosen(options: AgentOptions, base: DQNConfig) -> DQNConfig:
    """The options over the preset that they started from: those that differ from it were asked for."""
    return build(
        DQNConfig, {name: value for name, value in vars(options).items() if value != getattr(base, name)}, base
    )


def _load(run_or_file: Path, which: Which) -> DQN:
    return DQN.load(weights.weights_file(run_or_file, which))


def _print_json(value: object) -> None:
    print(json.dumps(value, allow_nan=False))


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our own warnings in one line; those of libraries are for their developers."""
    if issubclass(category, PeriluneWarning):
        print(f"perilune: {message}", file=sys.stderr)
