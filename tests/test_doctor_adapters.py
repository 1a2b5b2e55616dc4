"""Test adapters that raise, hang, print or return wrong values: none of them ends the doctor with a traceback."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctor_agents import Array, Complete, Linear, NoMask, examine, ids
from perilune import doctor
from perilune.doctor import supervise

WITHOUT_OPTIONAL_METHODS = {"actions", "replay", "training loop"}


class Closure:
    """Hides the weights in closures, which deepcopy does not copy."""

    gamma, observation_size = 0.9, 4

    def __init__(self, seed: int = 0) -> None:
        agent = Linear(seed)

        def q_values(obs: Array) -> Array:
            return agent.q_values(obs)

        def train_batch(*batch: Array) -> None:
            agent.train_batch(*batch)

        self.q_values, self.train_batch = q_values, train_batch


class Uncopyable(Linear):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.lock = threading.Lock()


class FixedBatch(Linear):
    def train_batch(self, obs: Array, *rest: Array) -> None:
        assert len(obs) == 32
        super().train_batch(obs, *rest)


@pytest.mark.parametrize("agent", [Linear, Closure, Uncopyable, FixedBatch])
def test_two_methods_suffice_and_missing_methods_are_listed(agent: type[Any]) -> None:
    report = examine(agent)
    assert report.healthy
    assert {check.check for check in report.not_run} >= WITHOUT_OPTIONAL_METHODS


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("q_values", "forward.raises"),
        ("train_batch", "loss.raises"),
        ("target_q_values", "target_network.raises"),
        ("act", "exploration.raises"),
        ("remember", "replay.raises"),
        ("run", "loop.raises"),
    ],
)
def test_method_that_raises_is_a_finding_with_its_line(method: str, expected: str) -> None:
    class Raising(Linear):
        def sample(self, n: int) -> None:
            raise AssertionError("nothing was stored")

    def broken(self: object, *_: object) -> None:
        raise KeyError("oh no")

    setattr(Raising, method, broken)
    (finding,) = [finding for finding in examine(Raising).findings if finding.id == expected]
    assert "KeyError: 'oh no'" in finding.evidence
    assert finding.where is not None
    assert Path(finding.where.rpartition(":")[0]).name == Path(__file__).name


def test_sys_exit_in_the_agent_is_a_finding() -> None:
    report = examine(type("Exits", (Linear,), {"train_batch": lambda *_: sys.exit(3)}))
    assert ids(report) == ["loss.raises"]
    assert "SystemExit" in report.findings[0].evidence


class Waiting(Complete):
    """Never returns from ``act``, except by an exception."""

    def act(self, obs: Array, epsilon: float) -> int:
        while True:
            with contextlib.suppress(Exception):  # as loops that retry forever do
                while True:
                    pass


class Stubborn(Complete):
    """Never returns from ``act``."""

    def act(self, obs: Array, epsilon: float) -> int:
        while True:
            with contextlib.suppress(BaseException):
                while True:
                    pass


@pytest.mark.parametrize("agent", [Waiting, Stubborn])
def test_call_that_does_not_return_is_not_checked(agent: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "STUBBORN", 0.5)
    report = examine(agent, budget=8.0)
    assert (report.outcome, report.findings) == ("inconclusive", [])
    limited = {one.check: one.why for one in report.not_run if one.cause == "limit"}
    assert "act did not end within 2 s of CPU time" in limited["actions"]
    assert "--budget" in limited["actions"]
    assert ("replay" in limited) == (agent is Stubborn)  # the others could be checked


def test_sleeping_call_is_limited_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleeping(Complete):
        def act(self, obs: Array, epsilon: float) -> int:
            time.sleep(1000)
            return 0

    monkeypatch.setattr(supervise, "STUBBORN", 0.5)
    monkeypatch.setattr(supervise, "PATIENCE", 0.2)
    report = examine(Sleeping, budget=20.0)
    assert (report.outcome, report.findings) == ("inconclusive", [])
    assert any("act did not end within 1 s" in one.why for one in report.not_run)


def test_output_of_the_agent_is_discarded(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(Linear):
        def q_values(self, obs: Array) -> Array:
            print("LOUD")
            print("LOUD", file=sys.stderr)
            return super().q_values(obs)

    assert examine(Loud).healthy
    printed = capsys.readouterr()
    assert "LOUD" not in printed.out + printed.err


@pytest.mark.parametrize(
    "answer",
    [
        lambda q: q[0],
        lambda q: q[:, :, None],
        lambda q: q[:-1],
        lambda q: [["a"] * 2] * len(q),
        lambda q: None,
        lambda q: q * np.nan,
        lambda q: q.astype(complex),
        lambda q: [[1.0], [1.0, 2.0]] * (len(q) // 2),
    ],
)
def test_q_values_of_the_wrong_kind_are_a_finding(answer: Callable[[Array], object]) -> None:
    class Wrong(Linear):
        def q_values(self, obs: Array) -> Any:
            return answer(super().q_values(obs))

    report = examine(Wrong)
    assert len(report.faults) == 1
    assert report.faults[0].component in ("forward", "numerics")
    assert report.not_run


def test_divergence_is_a_finding() -> None:
    class Diverging(Linear):
        def train_batch(self, *batch: Array) -> None:
            super().train_batch(*batch)
            self.w *= 1e200

    assert "numerics.not_finite" in ids(examine(Diverging))


MEMBERS = {"gamma": 0.9, "observation_size": 4, "q_values": lambda obs: obs, "train_batch": lambda *batch: None}
UNUSABLE: list[tuple[Callable[..., Any], str]] = [
    *((type("Partial", (), {key: MEMBERS[key] for key in MEMBERS if key != name}), name) for name in MEMBERS),
    *((type("Odd", (Linear,), {"gamma": value}), "gamma") for value in ("0.9", None, True, np.nan)),
    *((type("Odd", (Linear,), {"n_step": value}), "n_step") for value in ("3", 0, 2.5)),
    (lambda: 1 / 0, "ZeroDivisionError"),
    (lambda: Closure(np.random.default_rng().integers(2**30)), "seed"),
]


@pytest.mark.parametrize(("factory", "problem"), UNUSABLE)
def test_agent_that_cannot_be_examined_has_no_fault(factory: Callable[..., Any], problem: str) -> None:
    report = examine(factory)
    assert (report.outcome, report.findings) == ("cannot run", [])
    assert problem in report.verdict


def test_global_random_generators_are_restored() -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    examine(Linear)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_equal_seeds_give_equal_reports() -> None:
    one, two = (examine(NoMask, seed=3).as_json() | {"seconds": 0} for _ in range(2))
    assert one == two
    assert [finding["id"] for finding in one["findings"]] == ["td_target.no_mask"]


def test_agent_adapter_is_a_runtime_protocol() -> None:
    assert isinstance(Linear(), doctor.AgentAdapter)
    assert not isinstance(object(), doctor.AgentAdapter)
