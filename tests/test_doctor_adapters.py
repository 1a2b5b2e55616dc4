"""Patients that raise, hang, print, lie or break: a finding or a line among the checks not made, never a traceback."""

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

from perilune import doctor
from perilune.errors import ExaminationError

Array = Any


class Linear:
    """Q = x W + b, trained by the book: the smallest healthy patient. Faulty ones change a method of it."""

    gamma = 0.9
    observation_size = 4

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.w = rng.normal(0, 0.5, (4, 2))
        self.b = np.zeros(2)
        self.target = self.w.copy(), self.b.copy()

    def q_values(self, obs: Array) -> Array:
        return obs @ self.w + self.b

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        next_q = next_obs @ self.target[0] + self.target[1]
        target = reward + self.gamma * ~terminated * next_q.max(axis=1)
        rows = np.arange(len(action))
        error = np.zeros((len(action), 2))
        error[rows, action] = (self.q_values(obs)[rows, action] - target) / len(action)
        self.w -= 0.01 * obs.T @ error
        self.b -= 0.01 * error.sum(axis=0)


def hidden(agent: Linear) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """An agent's two methods as functions that hold it in their closures."""

    def q_values(obs: Array) -> Array:
        return agent.q_values(obs)

    def train_batch(*batch: Array) -> None:
        agent.train_batch(*batch)

    return q_values, train_batch


def ids(report: doctor.Report) -> list[str]:
    return [finding.id for finding in report.faults]


def examine(patient: Callable[..., Any], **options: Any) -> doctor.Report:
    report = doctor.examine(patient, **options)
    assert not [check for check in report.not_run if "the doctor itself failed" in check.why], report.not_run
    return report


def test_the_smallest_patient_is_healthy_and_what_it_lacks_is_listed() -> None:
    report = examine(Linear)
    assert report.healthy
    assert ids(report) == []
    assert {check.check for check in report.not_run} == {"actions", "replay", "training loop"}


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
def test_a_method_that_raises_is_a_finding_with_its_place(method: str, expected: str) -> None:
    class Raising(Linear):
        def sample(self, n: int) -> None:
            raise AssertionError("nothing was remembered")

    def broken(self: object, *_: object) -> None:
        raise KeyError("oh no")

    setattr(Raising, method, broken)
    report = examine(Raising)
    (finding,) = [finding for finding in report.findings if finding.id == expected]
    assert "KeyError: 'oh no'" in finding.evidence
    assert finding.where is not None
    assert Path(finding.where.rpartition(":")[0]).name == Path(__file__).name


@pytest.mark.parametrize("error", [SystemExit(3), NotImplementedError(), MemoryError()])
def test_whatever_is_raised_is_told(error: BaseException) -> None:
    class Raising(Linear):
        def train_batch(self, *_: object) -> None:
            raise error

    report = examine(Raising)
    assert ids(report) == ["loss.raises"]
    assert type(error).__name__ in report.findings[0].evidence


def test_a_method_that_hangs_is_interrupted_and_the_rest_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Linear):
        def act(self, obs: Array, epsilon: float) -> int:
            while True:
                pass

    monkeypatch.setattr(
        doctor.examination, "CHECKS", tuple(c._replace(call_seconds=1.0) for c in doctor.examination.CHECKS)
    )
    began = time.monotonic()
    report = examine(Hanging)
    assert ids(report) == ["exploration.hangs"]
    assert time.monotonic() - began < 30
    assert not [thread for thread in threading.enumerate() if thread.name == "doctor"]


def test_the_budget_is_kept_and_what_did_not_fit_is_listed() -> None:
    class Slow(Linear):
        def train_batch(self, *batch: Array) -> None:
            time.sleep(0.05)
            super().train_batch(*batch)

    began = time.monotonic()
    report = examine(Slow, budget=3.0)
    assert time.monotonic() - began < 6
    assert any("not enough" in check.why or "time was up" in check.why for check in report.not_run)
    assert not report.healthy
    assert not report.complete


def test_a_call_that_lets_nothing_stop_it_ends_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    class Stubborn(Linear):
        def act(self, obs: Array, epsilon: float) -> int:
            while not stop.is_set():
                with contextlib.suppress(BaseException):  # as "retry until it works" loops do
                    time.sleep(0.001)
            return 0

        def run(self, env: Any, env_steps: int) -> None:
            raise AssertionError

    monkeypatch.setattr(
        doctor.examination, "CHECKS", tuple(c._replace(call_seconds=1.0) for c in doctor.examination.CHECKS)
    )
    try:
        report = examine(Stubborn)
    finally:
        stop.set()
    assert ids(report) == ["exploration.hangs"]
    assert {check.check: check.why for check in report.not_run}["training loop"].startswith("act still runs")


def test_what_returns_late_does_not_disturb_the_watch_over_others() -> None:
    ward = doctor.ward.Ward(Linear, 0, np.random.default_rng(0))
    first, second = threading.Event(), threading.Event()
    late = threading.Thread(target=ward.timed, args=("late", first.wait))
    late.start()
    other = threading.Thread(target=ward.timed, args=("other", second.wait))
    while ward.under_way is None:
        time.sleep(0.001)
    other.start()
    while ward.under_way.name != "other":
        time.sleep(0.001)
    first.set()
    late.join()
    assert ward.under_way is not None
    assert ward.under_way.name == "other"
    second.set()
    other.join()


def test_nothing_that_the_patient_prints_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_answers_of_the_wrong_kind_are_findings(answer: Callable[[Array], object]) -> None:
    class Wrong(Linear):
        def q_values(self, obs: Array) -> Any:
            return answer(super().q_values(obs))

    report = examine(Wrong)
    assert len(report.faults) == 1
    assert report.faults[0].component in ("forward", "numerics")
    assert report.not_run


def test_numbers_that_break_later_are_a_finding() -> None:
    class Diverging(Linear):
        def train_batch(self, *batch: Array) -> None:
            super().train_batch(*batch)
            self.w *= 1e200

    assert "numerics.not_finite" in ids(examine(Diverging))


def test_a_patient_that_changes_what_it_is_given_is_told_of_it() -> None:
    class Changing(Linear):
        def train_batch(self, obs: Array, *rest: Array) -> None:
            super().train_batch(obs, *rest)
            obs *= 0

    report = examine(Changing)
    assert ids(report)[0] == "forward.changes_input"
    assert "obs" in report.findings[0].evidence


@pytest.mark.parametrize(
    ("lack", "said"),
    [
        ("gamma", "gamma"),
        ("observation_size", "observation_size"),
        ("q_values", "q_values"),
        ("train_batch", "train_batch"),
    ],
)
def test_what_is_no_patient_cannot_be_examined(lack: str, said: str) -> None:
    kept = {"gamma": 0.9, "observation_size": 4, "q_values": lambda obs: obs, "train_batch": lambda *batch: None}
    kept.pop(lack)
    with pytest.raises(ExaminationError, match=said):
        doctor.examine(type("Half", (), kept))


@pytest.mark.parametrize("gamma", [1.5, -0.1, "0.9", None, True, np.nan])
def test_a_gamma_that_is_none_is_refused_by_name(gamma: object) -> None:
    class Odd(Linear):
        pass

    Odd.gamma = gamma  # type: ignore[assignment]
    with pytest.raises(ExaminationError, match="gamma"):
        doctor.examine(Odd)


def test_a_factory_that_raises_is_told() -> None:
    with pytest.raises(ExaminationError, match="ZeroDivisionError"):
        doctor.examine(lambda: 1 / 0)


def test_agents_that_deepcopy_does_not_truly_copy_are_made_anew() -> None:
    class Closed:
        """All that is learned hides in closures, which deepcopy shares in silence."""

        gamma, observation_size = 0.9, 4

        def __init__(self, seed: int = 0) -> None:
            agent = Linear(seed)
            self.q_values, self.train_batch = hidden(agent)

    class Opened(Linear):
        """What cannot be copied at all."""

        def __init__(self, seed: int = 0) -> None:
            super().__init__(seed)
            self.lock = threading.Lock()

    for patient in (Closed, Opened):
        report = examine(patient)
        assert report.healthy
        assert {check.check for check in report.not_run} == {"actions", "replay", "training loop"}


def test_a_factory_without_a_seed_that_cannot_be_copied_either_is_told_what_to_do() -> None:
    class Closed:
        gamma, observation_size = 0.9, 4

        def __init__(self) -> None:
            agent = Linear(np.random.default_rng().integers(2**30))
            self.q_values, self.train_batch = hidden(agent)

    with pytest.raises(ExaminationError, match="seed"):
        doctor.examine(Closed)


def test_an_examination_leaves_the_global_generators_as_they_were() -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    examine(Linear)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_one_seed_gives_one_report() -> None:
    class Sick(Linear):
        def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
            super().train_batch(obs, action, reward, next_obs, np.zeros_like(terminated))

    one, two = (doctor.examine(Sick, seed=3).as_json() for _ in range(2))
    one.pop("seconds")
    two.pop("seconds")
    assert one == two
    assert [finding["id"] for finding in one["findings"]] == ["td_target.no_mask"]


def test_patients_that_take_only_their_own_batch_size_are_examined() -> None:
    class Fixed(Linear):
        def train_batch(self, obs: Array, *rest: Array) -> None:
            assert len(obs) == 32
            super().train_batch(obs, *rest)

    assert examine(Fixed).healthy
