"""The command line: read off the settings' dataclasses, one function per command."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from perilune import checkpoint, envs, runlog
from perilune.api import DQN
from perilune.bench import learning, speed
from perilune.config import DQNConfig, TrainConfig, build
from perilune.errors import ConfigError, PeriluneError, PeriluneWarning
from perilune.presets import Preset, preset
from perilune.view import plots

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
        dqn = DQN(self.env, seed=self.seed, **vars(self.agent))
        history = dqn.train(train, out=self.out, overwrite=self.overwrite, quiet=self.quiet)
        best = [evaluation for evaluation in history.evaluations if evaluation.best][-1]
        final = history.evaluations[-1]
        if self.json:
            _print_json(
                {
                    "run": str(history.directory),
                    "environment": history.run.config["environment"],
                    "seed": self.seed,
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
        for name in ("plots/curves.png", "videos/best.mp4", "initial_state.png"):
            if (history.directory / name).exists():
                print(f"  {history.directory / name}")
        installed = shutil.which("perilune") or Path(sys.argv[0]).name != "perilune"
        program = "perilune" if installed else sys.argv[0]  # .venv/bin/perilune, say
        print("\nThat best was chosen by its figure, which flatters it. On other start states:")
        print(f"  {program} evaluate {history.directory} --episodes 100")


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
        print(f"{self.run_or_file}, {self.checkpoint} checkpoint, {self.episodes} greedy episodes")
        print(f"  mean return         {evaluation.mean_return:9.2f}")
        print(f"  standard deviation  {evaluation.std_return:9.2f}")
        print(f"  minimum             {evaluation.min_return:9.2f}")
        if evaluation.solved_share is not None:
            print(f"  at or above {evaluation.solved_mark:<8g}{evaluation.solved_share:9.0%}")
        for label, share in (evaluation.outcome_shares or {}).items():
            print(f"  {label:<20}{share:9.0%}")


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
        results = []
        for result in speed.measure(self.steps):
            results.append(result)
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
            _print_json({"results": [asdict(result) for result in results]})
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
    """Settings; those of ENV where it is left out."""
    jobs: int = 1
    """Seeds trained at the same time (>= 1)."""
    out: Path | None = None
    """Directory of the runs and of scores.json; runs/bench/ENV where it is left out."""
    json: bool = False
    """Print one JSON object on standard output."""

    def run(self) -> None:
        if self.seeds < 1:
            raise ConfigError("seeds", self.seeds, "a whole number >= 1")
        settings = preset(self.env, self.preset)
        out = self.out or Path("runs", "bench", self.preset or self.env)
        trials = [
            learning.Trial(self.env, settings.agent, settings.train, seed, out / f"seed-{seed}")
            for seed in range(self.first_seed, self.first_seed + self.seeds)
        ]

        def tell(trial: learning.Trial, score: learning.Score) -> None:
            print(f"seed {trial.seed}: best {score.best:.1f}, final {score.final:.1f}", file=sys.stderr)

        scores = learning.run_trials(trials, self.jobs, tell)
        result = {"environment": self.env, "scores": [asdict(score) for score in scores]}
        (out / "scores.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if self.json:
            _print_json(result)
        else:
            print(learning.table(scores))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure: speed, or learning over many seeds."""

    what: tyro.conf.OmitSubcommandPrefixes[
        Annotated[BenchSpeed, tyro.conf.subcommand("speed")]
        | Annotated[BenchLearning, tyro.conf.subcommand("learning")]
    ]

    def run(self) -> None:
        self.what.run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Errors of ours end in one line and status 1, usage errors in status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            parse(arguments).run()
    except (PeriluneError, OSError) as error:  # an OSError that is not ours: a full disk, a closed pipe
        print(f"perilune: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("perilune: interrupted; what the run directory holds is kept", file=sys.stderr)
        sys.exit(130)


Command = Train | Evaluate | Video | Plot | Bench


def parse(arguments: Sequence[str]) -> Command:
    """The command that ``arguments`` ask for.

    ``train`` is parsed twice: its first reading tells the preset, whose settings are the second's defaults.
    """
    command = _parse(arguments, preset(""))
    if isinstance(command, Train):
        return _parse(arguments, preset(command.env, command.preset))
    return command


def _parse(arguments: Sequence[str], settings: Preset) -> Command:
    train = Train(
        env=tyro.MISSING, train=TrainOptions(**vars(settings.train)), agent=AgentOptions(**vars(settings.agent))
    )
    command: Command = tyro.cli(
        Annotated[Train, tyro.conf.subcommand("train", default=train)]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Video, tyro.conf.subcommand("video")]
        | Annotated[Plot, tyro.conf.subcommand("plot")]
        | Annotated[Bench, tyro.conf.subcommand("bench")],
        prog="perilune",
        description="Deep Q-learning with the neural network written from scratch on NumPy.",
        args=arguments,
    )
    return command


def _load(run_or_file: Path, which: Which) -> DQN:
    return DQN.load(checkpoint.weights_file(run_or_file, which))


def _print_json(value: object) -> None:
    print(json.dumps(value, allow_nan=False))


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our own warnings in one line; those of libraries are for their developers."""
    if issubclass(category, PeriluneWarning):
        print(f"perilune: {message}", file=sys.stderr)
