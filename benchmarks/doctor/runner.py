"""Inject known faults into agents of different styles, and measure which ones the doctor finds."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.doctor import mutants

from perilune import doctor
from perilune.bench import pool
from perilune.errors import ConfigError
from perilune.nn.backend import using

sys.path.append(str(mutants.AGENTS))  # the modules of faults and variants

Access = Literal["full", "two"]
# The library that each agent needs.
AGENTS = {"own": None, "beginner": None, "compact_torch": "torch", "sb3": "stable_baselines3"}
SEEDS = 4  # for each sound variant; odd seeds use the adapter with two methods

# The finding that the doctor must report for each fault number.
FAULTS = {
    1: "environment.old_interface",
    2: "environment.no_reset",
    3: "environment.observations_changed",
    4: "environment.reset_as_next",
    5: "environment.truncation_as_end",
    6: "environment.buffer_reused",
    7: "forward.output_activation",
    8: "forward.changes_input",
    9: "forward.batch_differs",
    10: "forward.narrow",
    11: "forward.one_sign",
    12: "forward.all_equal",
    13: "forward.spread",
    14: "backward.no_input",
    15: "backward.relu_derivative",
    16: "backward.chain",
    17: "backward.too_early",
    18: "backward.one_bias",
    19: "backward.bias_frozen",
    20: "backward.sign",
    21: "backward.accumulates",
    22: "backward.left_out",
    23: "optimizer.no_bias_correction",
    24: "optimizer.no_root",
    25: "optimizer.counter",
    26: "optimizer.moments_shared",
    27: "optimizer.no_memory",
    28: "optimizer.step_per_sample",
    29: "loss.all_actions",
    30: "loss.wrong_action",
    31: "loss.broadcast",
    32: "loss.others_to_zero",
    33: "loss.derivative",
    34: "loss.sum",
    35: "td_target.no_mask",
    36: "td_target.mask_inverted",
    37: "td_target.reward_masked",
    38: "td_target.gamma",
    39: "td_target.mean",
    40: "td_target.batch_axis",
    41: "td_target.own_action",
    42: "td_target.gradient_flows",
    43: "td_target.double_swapped",
    44: "target_network.shared",
    45: "target_network.never_synced",
    46: "target_network.every_update",
    47: "target_network.tau_reversed",
    48: "replay.next_is_current",
    49: "replay.terminal_lost",
    50: "replay.newest_only",
    51: "replay.mismatched",
    52: "exploration.argmin",
    53: "exploration.inverted",
    54: "exploration.action_never_tried",
    55: "loop.state_not_advanced",
    56: "hyperparameters.too_fast",
}
COMBINATIONS = (
    (10, 15), (14, 29), (29, 44), (11, 14, 29, 44), (35, 38), (20, 52), (18, 33), (19, 45), (13, 25), (34, 41),
    (37, 50), (5, 46), (16, 39), (23, 54), (48, 53), (22, 43),
)  # fmt: skip

NUMBERS = itertools.count()

# Faults that q_values and train_batch alone cannot reveal.
BEYOND_TWO = frozenset({1, 2, 3, 4, 5, 6, 45, 47, 48, 49, 50, 51, 52, 53, 54, 55})


@dataclass(frozen=True)
class Trial:
    """One examination of a reference agent, with ``faults`` or as a sound ``variant``."""

    agent: str
    faults: tuple[int, ...] = ()
    variant: str = ""
    seed: int = 0
    access: Access = "full"

    @property
    def name(self) -> str:
        what = "+".join(map(str, self.faults)) or self.variant
        return f"{self.agent} {what} seed {self.seed} {self.access}"


class Outcome(NamedTuple):
    """Findings of a trial, as IDs and components with root causes first, and the duration."""

    trial: Trial
    ids: list[str]
    components: list[str]
    seconds: float
    not_run: list[str]


class TwoMethods:
    """An adapter with the two required methods only."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.gamma, self.observation_size = adapter.gamma, adapter.observation_size
        if hasattr(adapter, "n_step"):
            self.n_step = adapter.n_step

    def q_values(self, obs: Any) -> Any:
        return self.adapter.q_values(obs)

    def train_batch(self, *batch: Any) -> None:
        self.adapter.train_batch(*batch)


def faults_of(agent: str) -> dict[int, Any]:
    """Return the changes of a reference agent for each fault."""
    return dict(importlib.import_module(f"{agent}_faults").FAULTS)


def variants_of(agent: str) -> dict[str, Any]:
    """Return the changes of a reference agent for each sound variant."""
    variants = importlib.import_module("variants")
    names = {"own": "OWN", "beginner": "BEGINNER", "compact_torch": "TORCH", "sb3": "SB3"}
    return dict(getattr(variants, names[agent]))


def trials(agents: Sequence[str], accesses: Sequence[Access] = ("full", "two")) -> Iterator[Trial]:
    """Yield one trial for each fault, each combination of faults and each sound variant."""
    for agent in agents:
        faults = faults_of(agent)
        for access in accesses:
            for number in faults:
                yield Trial(agent, (number,), access=access)
        for combination in COMBINATIONS:
            if all(number in faults for number in combination):
                yield Trial(agent, combination)
        for variant in variants_of(agent):
            for seed in range(SEEDS):
                yield Trial(agent, (), variant, seed, "full" if seed % 2 == 0 else "two")


def component(fault: int) -> str:
    """Return the component of a fault."""
    return FAULTS[fault].split(".", maxsplit=1)[0]


def installed(agent: str) -> bool:
    """Return whether the library of a reference agent is installed."""
    needs = AGENTS[agent]
    return needs is None or importlib.util.find_spec(needs) is not None


def factory(trial: Trial, directory: Path) -> Callable[..., Any]:
    """Write the agent of ``trial`` to ``directory`` and return its factory."""
    changes = [change for number in trial.faults for change in faults_of(trial.agent)[number]]
    name = f"examined_{next(NUMBERS)}"  # modules are cached by name
    if trial.agent == "own":
        if trial.variant:
            plain = importlib.import_module("variants").PLAIN
            changes.append(("own.py", plain, variants_of("own")[trial.variant]))
        make = mutants.copied(name, tuple(changes), directory).make
    else:
        if trial.variant:
            changes += variants_of(trial.agent)[trial.variant]
        make = mutants.load(name, mutants.mutated(mutants.text(trial.agent), tuple(changes)), directory).make
    return make if trial.access == "full" else lambda seed=0: TwoMethods(make(seed))


def examine(trial: Trial, budget: float = 60.0) -> Outcome:
    """Examine the agent of ``trial``."""
    with tempfile.TemporaryDirectory() as directory:
        report = doctor.check_agent(factory(trial, Path(directory)), seed=trial.seed, budget=budget)
    faults = sorted(report.faults, key=lambda finding: finding.caused_by is not None)
    return Outcome(
        trial,
        [finding.id for finding in faults],
        [finding.component for finding in faults],
        report.seconds,
        [f"{check.check}: {check.why}" for check in report.not_run],
    )


@dataclass(frozen=True)
class Work:
    """A trial and the file for its outcome."""

    trial: Trial
    file: Path


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    content = outcome._asdict()
    return asdict(content.pop("trial")) | content


def do(work: Work) -> None:
    """Examine an agent and write the outcome."""
    partial = work.file.with_suffix(".partial")
    with using("numpy"):  # faults of Perilune's own agent are changes to the NumPy code
        outcome = examine(work.trial)
    partial.write_text(json.dumps(to_json(outcome)), encoding="utf-8")
    partial.replace(work.file)


def run(agents: Sequence[str], out: Path, jobs: int) -> Iterator[str]:
    """Run the trials that have no outcome in ``out`` yet, ``jobs`` at a time. Yield one line for each trial."""
    for agent in agents:
        if agent not in AGENTS:
            raise ConfigError("agents", agent, f"one of {', '.join(AGENTS)}")
    out.mkdir(parents=True, exist_ok=True)
    todo = [
        Work(trial, file)
        for trial in trials([agent for agent in agents if installed(agent)])
        if not (file := out / f"{trial.name.replace(' ', '_')}.json").exists()
    ]
    done = 0
    for _, ended in pool.each(do, todo, jobs):
        for work, reason in ended.items():
            done += 1
            yield f"{done} of {len(todo)}  {work.trial.name}" + (f": {reason}" if reason else "")


def outcomes(out: Path) -> list[Outcome]:
    """Read what ``run`` wrote into ``out``."""
    read = []
    for file in sorted(out.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        fields = {name: content.pop(name) for name in ("agent", "faults", "variant", "seed", "access")}
        read.append(Outcome(Trial(**fields | {"faults": tuple(fields["faults"])}), **content))
    return read


class Share(NamedTuple):
    """A share with its Wilson 95 % interval."""

    hits: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        if not self.of:
            return "none examined"
        return f"{self.hits} of {self.of}: {self.hits / self.of:.1%} ({self.low:.1%} to {self.high:.1%})"


def share(hits: Iterable[bool]) -> Share:
    """Return the share of true values in ``hits``."""
    from scipy.stats import binomtest  # noqa: PLC0415 -- an extra

    counted = Counter(hits)
    count, total = counted[True], counted[True] + counted[False]
    if not total:
        return Share(0, 0, 0.0, 1.0)
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return Share(count, total, float(interval.low), float(interval.high))


def parts_found(outcome: Outcome) -> bool:
    """Return whether every fault of a combination has a finding of its component."""
    wanted = Counter(component(number) for number in outcome.trial.faults)
    return not wanted - Counter(outcome.components)


def summary(all_outcomes: Sequence[Outcome]) -> str:
    """Return the figures of the benchmark, and all missed faults and false alarms, as text."""
    full = [one for one in all_outcomes if len(one.trial.faults) == 1 and one.trial.access == "full"]
    two = [one for one in all_outcomes if len(one.trial.faults) == 1 and one.trial.access == "two"]
    visible = [one for one in two if one.trial.faults[0] not in BEYOND_TWO]
    combined = [one for one in all_outcomes if len(one.trial.faults) > 1]
    sound = [one for one in all_outcomes if not one.trial.faults]
    seconds = sorted(one.seconds for one in all_outcomes)
    lines = [
        f"faults detected, full adapter        {share(bool(one.ids) for one in full)}",
        f"right component first, full adapter  {share(_right(one) for one in full)}",
        f"faults detected, two methods only    {share(bool(one.ids) for one in visible)}",
        f"combinations found completely        {share(parts_found(one) for one in combined)}",
        f"sound agents with a false alarm      {share(bool(one.ids) for one in sound)}",
        f"seconds per examination              median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f}",
    ]
    missed = [one for one in (*full, *visible) if not one.ids]
    lines += ["", "missed"] + [f"  {one.trial.name}: {'; '.join(one.not_run) or 'nothing found'}" for one in missed]
    misplaced = [one for one in full if one.ids and not _right(one)]
    lines += ["", "another component first"] + [f"  {one.trial.name}: {', '.join(one.ids)}" for one in misplaced]
    lines += ["", "parts missing"] + [
        f"  {one.trial.name}: {', '.join(one.ids)}" for one in combined if not parts_found(one)
    ]
    lines += ["", "false alarms"] + [f"  {one.trial.name}: {', '.join(one.ids)}" for one in sound if one.ids]
    return "\n".join(lines)


def _right(outcome: Outcome) -> bool:
    return outcome.components[:1] == [component(outcome.trial.faults[0])]
