"""The mutation benchmark: faults of a catalogue, put into hosts of different style, and what the doctor finds."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from perilune.bench import mutants, pool
from perilune.bench.hosts import healthy
from perilune.errors import ConfigError

Access = Literal["full", "two"]
HOSTS = {"own": None, "beginner": None, "compact_torch": "torch", "sb3": "stable_baselines3"}  # and what each needs
SEEDS = 4  # of every healthy variant, every other one through two methods alone

# The catalogue: what the doctor calls each fault, by its number.
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

# Faults that cannot show in q_values and train_batch, wherever the weights are found.
BEYOND_TWO = frozenset({1, 2, 3, 4, 5, 6, 45, 47, 48, 49, 50, 51, 52, 53, 54, 55})


@dataclass(frozen=True)
class Trial:
    """One examination: of a host with ``faults`` put in, or of a healthy ``variant`` of it."""

    host: str
    faults: tuple[int, ...] = ()
    variant: str = ""
    seed: int = 0
    access: Access = "full"

    @property
    def name(self) -> str:
        what = "+".join(map(str, self.faults)) or self.variant
        return f"{self.host} {what} seed {self.seed} {self.access}"


class Outcome(NamedTuple):
    """What the doctor found in a trial: ids with their components, roots first; and in how many seconds."""

    trial: Trial
    ids: list[str]
    components: list[str]
    seconds: float
    not_run: list[str]


class Bare:
    """A patient with the two methods alone."""

    def __init__(self, patient: Any) -> None:
        self.patient = patient
        self.gamma, self.observation_size = patient.gamma, patient.observation_size
        if hasattr(patient, "n_step"):
            self.n_step = patient.n_step

    def q_values(self, obs: Any) -> Any:
        return self.patient.q_values(obs)

    def train_batch(self, *batch: Any) -> None:
        self.patient.train_batch(*batch)


def trials(hosts: Sequence[str], accesses: Sequence[Access] = ("full", "two")) -> Iterator[Trial]:
    """Everything that is examined: each fault, each combination, each healthy variant."""
    for host in hosts:
        faults = _faults(host)
        for access in accesses:
            for number in faults:
                yield Trial(host, (number,), access=access)
        for combination in COMBINATIONS:
            if all(number in faults for number in combination):
                yield Trial(host, combination)
        for variant in _variants(host):
            for seed in range(SEEDS):
                yield Trial(host, (), variant, seed, "full" if seed % 2 == 0 else "two")


def component(fault: int) -> str:
    """The component of a fault of the catalogue."""
    return FAULTS[fault].split(".", maxsplit=1)[0]


def installed(host: str) -> bool:
    """Whether the library that ``host`` is written with is here."""
    needs = HOSTS[host]
    return needs is None or importlib.util.find_spec(needs) is not None


def _faults(host: str) -> dict[int, Any]:
    module = importlib.import_module(f"perilune.bench.hosts.{host}_faults")
    return dict(module.FAULTS)


def _variants(host: str) -> dict[str, Any]:
    match host:
        case "own":
            return dict(healthy.OWN)
        case "beginner":
            return dict(healthy.BEGINNER)
        case "compact_torch":
            return dict(healthy.TORCH)
        case _:
            return dict(healthy.SB3)


def factory(trial: Trial, directory: Path) -> Callable[..., Any]:
    """The factory of the agent that ``trial`` examines, made in ``directory``."""
    changes = [change for number in trial.faults for change in _faults(trial.host)[number]]
    name = f"examined_{next(NUMBERS)}"  # modules are kept by name
    if trial.host == "own":
        if trial.variant:
            changes.append(("bench/hosts/own.py", healthy.PLAIN, _variants("own")[trial.variant]))
        make = mutants.copied(name, tuple(changes), directory).make
    else:
        if trial.variant:
            changes += _variants(trial.host)[trial.variant]
        make = mutants.load(name, mutants.mutated(mutants.text(trial.host), tuple(changes)), directory).make
    return make if trial.access == "full" else lambda seed=0: Bare(make(seed))


def examined(trial: Trial) -> Outcome:
    """Examine the agent of ``trial``."""
    from perilune.doctor import examine  # noqa: PLC0415 -- in the process that examines

    with tempfile.TemporaryDirectory() as directory:
        report = examine(factory(trial, Path(directory)), seed=trial.seed)
    roots = [finding for finding in report.faults if finding.caused_by is None]
    rest = [finding for finding in report.faults if finding.caused_by is not None]
    found = roots + rest
    return Outcome(
        trial,
        [finding.id for finding in found],
        [finding.component for finding in found],
        report.seconds,
        [f"{check.check}: {check.why}" for check in report.not_run],
    )


@dataclass(frozen=True)
class Work:
    """A trial whose outcome goes into a file of its own."""

    trial: Trial
    file: Path


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The trial's fields and what was found, as plain values."""
    found = outcome._asdict()
    return asdict(found.pop("trial")) | found


def do(work: Work) -> None:
    """Examine and write the outcome down."""
    content = to_json(examined(work.trial))
    partial = work.file.with_suffix(".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(work.file)


def run(hosts: Sequence[str], out: Path, jobs: int) -> Iterator[str]:
    """Examine all that was not examined yet, ``jobs`` at a time, and say of each how it ended."""
    for host in hosts:
        if host not in HOSTS:
            raise ConfigError("hosts", host, f"one of {', '.join(HOSTS)}")
    out.mkdir(parents=True, exist_ok=True)
    todo = [
        Work(trial, file)
        for trial in trials([host for host in hosts if installed(host)])
        if not (file := out / f"{trial.name.replace(' ', '_')}.json").exists()
    ]
    done = 0
    for event in pool.each(do, todo, jobs):
        if isinstance(event, pool.Ended):
            done += 1
            yield f"{done} of {len(todo)}  {event.item.trial.name}" + (f": {event.reason}" if event.reason else "")


def outcomes(out: Path) -> list[Outcome]:
    """What ``run`` wrote into ``out``."""
    read = []
    for file in sorted(out.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        trial = Trial(content["host"], tuple(content["faults"]), content["variant"], content["seed"], content["access"])
        read.append(Outcome(trial, content["ids"], content["components"], content["seconds"], content["not_run"]))
    return read


class Share(NamedTuple):
    """How many of how many, with Wilson's 95 % interval."""

    hits: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        if not self.of:
            return "none examined"
        return f"{self.hits} of {self.of}: {self.hits / self.of:.1%} ({self.low:.1%} to {self.high:.1%})"


def share(hits: Iterable[bool]) -> Share:
    """The share of ``hits`` that are true."""
    from scipy.stats import binomtest  # noqa: PLC0415 -- an extra

    counted = Counter(hits)
    count, total = counted[True], counted[True] + counted[False]
    if not total:
        return Share(0, 0, 0.0, 1.0)
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return Share(count, total, float(interval.low), float(interval.high))


def parts_found(outcome: Outcome) -> bool:
    """Whether every fault of a combination is answered by a finding of its component."""
    wanted = Counter(component(number) for number in outcome.trial.faults)
    return not wanted - Counter(outcome.components)


def summary(all_outcomes: Sequence[Outcome]) -> str:
    """The figures of the benchmark, and what was missed."""
    full = [one for one in all_outcomes if len(one.trial.faults) == 1 and one.trial.access == "full"]
    two = [one for one in all_outcomes if len(one.trial.faults) == 1 and one.trial.access == "two"]
    visible = [one for one in two if one.trial.faults[0] not in BEYOND_TWO]
    combined = [one for one in all_outcomes if len(one.trial.faults) > 1]
    sound = [one for one in all_outcomes if not one.trial.faults]
    seconds = sorted(one.seconds for one in all_outcomes)
    lines = [
        f"faults detected, full adapter        {share(bool(one.ids) for one in full)}",
        f"right component first, full adapter  {share(_right(one) for one in full)}",
        f"faults detected, two methods alone   {share(bool(one.ids) for one in visible)}",
        f"combinations reported whole          {share(parts_found(one) for one in combined)}",
        f"healthy, with any false alarm        {share(bool(one.ids) for one in sound)}",
        f"seconds an examination               median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f}",
    ]
    missed = [one for one in (*full, *visible) if not one.ids]
    lines += ["", "missed"] + [f"  {one.trial.name}: {'; '.join(one.not_run) or 'nothing seen'}" for one in missed]
    misplaced = [one for one in full if one.ids and not _right(one)]
    lines += ["", "another component first"] + [f"  {one.trial.name}: {', '.join(one.ids)}" for one in misplaced]
    lines += ["", "parts missing"] + [
        f"  {one.trial.name}: {', '.join(one.ids)}" for one in combined if not parts_found(one)
    ]
    lines += ["", "false alarms"] + [f"  {one.trial.name}: {', '.join(one.ids)}" for one in sound if one.ids]
    return "\n".join(lines)


def _right(outcome: Outcome) -> bool:
    return outcome.components[:1] == [component(outcome.trial.faults[0])]
