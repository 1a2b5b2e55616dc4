"""What the doctor reads off epsilon and off conditions over the time of a program."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perilune.doctor.program.acting import Acting
from perilune.doctor.program.epsilon import Burst, Draw, Epsilon, check_schedule
from perilune.doctor.program.instrument import Node
from perilune.doctor.program.recorder import Value, Window
from perilune.doctor.program.waiting import Waiting, _filled
from perilune.doctor.report import Finding

LENGTH = 8  # time steps of an episode
STEPS = np.arange(2000)


def trace_of(*nodes: tuple[str, str, list[int]], limit: int = 500) -> Any:
    """Return a finished trace with these expressions: text, operator, operands."""
    steps = [SimpleNamespace(terminated=step % LENGTH == LENGTH - 1, truncated=False) for step in STEPS]
    return SimpleNamespace(
        log=SimpleNamespace(steps=steps, begun=set(range(0, len(STEPS), LENGTH)), size=3, actions=2, discrete=False),
        nodes=[Node("train.py", 1, "expression", text, children, operator) for text, operator, children in nodes],
        envs=[SimpleNamespace(limit=limit)],
        read=0,
        functions={},
    )


EPSILON = ("random() < epsilon", "Lt", [1, 2]), ("random()", "Call", []), ("epsilon", "", [])
DECAYS = {
    "constant": (0.1 + 0 * STEPS, set()),
    "linear over the first half": (np.maximum(0.05, 1 - STEPS / 1000), set()),
    "exponential": (np.maximum(0.01, 0.995**STEPS), set()),
    "linear to 0": (np.maximum(0, 1 - STEPS / 900), set()),
    "in each episode": (np.maximum(0.05, 0.98 ** (STEPS // LENGTH)), set()),
    "0 in evaluations": (np.where(STEPS // LENGTH % 10 == 9, 0, 1 - STEPS / 4000), set()),
    "one step": (np.where(STEPS < 500, 0.5, 0.0), set()),  # as intended
    "restarts": (1 - 0.01 * (STEPS % LENGTH), {"exploration.restarts"}),
    "at once": (np.maximum(0.05, 0.5**STEPS), {"exploration.decays_at_once"}),
    "a test sets it to 0": (np.where(STEPS < 500, 0.999**STEPS, 0), {"exploration.not_restored"}),
}


def schedule(
    epsilon: Any, limit: int = 500, learned: int = 2000, bursts: list[Burst] | None = None, file: str = "train.py"
) -> set[str]:
    """Return the ids of the findings about values of epsilon over time."""
    numbers = np.random.default_rng(0).random(len(STEPS))
    draws = [
        Draw(step, number, value, number < value)
        for step, number, value in zip(STEPS.tolist(), numbers, epsilon, strict=True)
    ]
    trace = trace_of(*EPSILON, limit=limit)
    for node in trace.nodes:
        node.file = file
    return {one.id for one in check_schedule(trace, Epsilon(0, random=True), draws, learned, bursts or [])}


@pytest.mark.parametrize("name", DECAYS)
def test_schedules(name: str) -> None:
    values, found = DECAYS[name]
    assert schedule(values) == found


def test_final_epsilon_before_the_end_of_a_long_episode() -> None:
    assert schedule(DECAYS["exponential"][0], limit=1000) == {"exploration.decays_at_once"}
    assert schedule(DECAYS["linear over the first half"][0], limit=900) == set()


def test_zero_epsilon_after_the_last_update_is_a_final_evaluation() -> None:
    assert schedule(DECAYS["a test sets it to 0"][0], learned=500) == set()


def test_epsilon_that_falls_for_each_row() -> None:
    values = np.maximum(0.05, 1 - STEPS / 1000)
    assert schedule(values, bursts=[Burst("self.epsilon", 32, 32)] * 5) == {"exploration.decays_per_row"}
    assert schedule(values, bursts=[Burst("self.beta", 32, 32)] * 5) == set()
    assert schedule(values, bursts=[Burst("self.epsilon", 16, 512)] * 5) == set()  # 16 batches
    assert schedule(values, bursts=[Burst("self.epsilon", rows, rows) for rows in (16, 20, 31)]) == set()  # episodes


def test_random_actions_that_the_network_also_prefers() -> None:
    acting, trace = Acting(), trace_of()
    for step in range(100):
        trace.log.steps[step].action = step % 2
    acting.random[0] = [(step, 0) for step in range(0, 100, 2)]
    acting.random[1] = [(step, 0) for step in range(100)]  # another random number
    assert acting._drawn_actions(trace.log) == [0] * 50


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("epsilon = 1.0\neps = eps * 0.99\n", {"exploration.never_decays"}),
        ("epsilon = 1.0\nif score > 100:\n    epsilon *= 0.9\n", set()),  # later
        ("epsilon, decay = 1.0, 0.9\nself.epsilon = max(0.1, epsilon - 0.1)\n", set()),
    ],
)
def test_epsilon_that_nothing_changes(tmp_path: Path, source: str, found: set[str]) -> None:
    (tmp_path / "train.py").write_text(source)
    assert schedule(1 + 0 * STEPS, file=str(tmp_path / "train.py")) == found


def waiting(nodes: Any, values: Any, updates: int = 0, limit: int = 500) -> tuple[Waiting, Any]:
    """Return the reader after ``values(step)``, the values of the nodes, were read at each time step."""
    reader, trace = Waiting(), trace_of(*nodes, limit=limit)
    reader.acts = True
    steps, trace.log.steps = trace.log.steps, []
    for step in STEPS.tolist():
        trace.log.steps.append(steps[step])
        window = Window(step, [Value(number, "value", np.asarray(value)) for number, value in values(step)], updates)
        reader.window(trace, window)
    return reader, trace


SIZE = ("len(memory)", "Call", []), ("START", "", []), ("len(memory) > START", "Gt", [0, 1])


@pytest.mark.parametrize(
    ("largest", "start", "updates", "found"),
    [
        (500, 1000, 0, True),
        (500, 500, 0, True),  # more than the memory can hold
        (5000, 3000, 0, False),  # a long warm-up
        (500, 1000, 1, False),  # learns: the comparison has another meaning
    ],
)
def test_warm_up_that_never_ends(largest: int, start: int, updates: int, found: bool) -> None:
    reader, trace = waiting(
        SIZE, lambda step: [(0, min(step, largest)), (1, start), (2, min(step, largest) > start)], updates
    )
    ids = {one.id for one in reader.findings(trace) if isinstance(one, Finding)}
    assert ids == ({"hyperparameters.warm_up"} if found else set())
    assert reader.proven == found


REST = (
    *(("t + 1", "Add", []), ("INTERVAL", "", []), ("(t + 1) % INTERVAL", "Mod", [0, 1])),
    *(("0", "", []), ("(t + 1) % INTERVAL == 0", "Eq", [2, 3])),
)


@pytest.mark.parametrize(
    ("count", "interval", "found"),
    [
        (lambda step: step % LENGTH + 1, 2000, True),
        (lambda step: step % LENGTH + 1, 500, False),  # the last step of the longest episode
        (lambda step: step + 1, 2000, False),  # later
    ],
)
def test_counter_that_restarts_before_the_sync(count: Any, interval: int, found: bool) -> None:
    def values(step: int) -> list[tuple[int, int]]:
        rest = count(step) % interval
        return [(0, count(step)), (1, interval), (2, rest), (3, 0), (4, rest == 0)]

    reader, trace = waiting(REST, values, updates=1)
    assert (reader.not_reached(trace) is not None) == found


@pytest.mark.parametrize("long", [False, True])
def test_counter_of_episodes_does_not_stop_in_a_long_episode(long: bool) -> None:
    size = np.minimum(STEPS // LENGTH, 50)
    begun = set(range(0, 51 * LENGTH if long else len(STEPS), LENGTH))
    seldom = STEPS % 37 == 0  # of the time steps that are recorded
    assert not _filled(size[seldom][:-40].astype(float), STEPS[seldom][:-40], begun)
    assert _filled(size.astype(float), STEPS, begun) is not long
