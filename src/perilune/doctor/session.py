"""The patient handled with care: copies that share nothing, calls that are timed, and answers that are looked at."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.patient import Transitions
from perilune.doctor.supervise import Call


class CannotTell(Exception):  # noqa: N818 -- a verdict, not an error of ours
    """A check ends here without a verdict, for the reason that it carries."""


class PatientFailed(Exception):  # noqa: N818 -- a verdict, not an error of ours
    """A method of the patient raised, or answered with what cannot be used; ``error`` is what it raised."""

    def __init__(self, method: str, what: str, error: BaseException | None = None) -> None:
        super().__init__(f"{method} {what}")
        self.method = method
        self.error = error


class NotFinite(Exception):  # noqa: N818 -- a verdict, not an error of ours
    """The patient's numbers are no numbers any more; ``method`` is what gave them."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method


def as_array(value: Any) -> Array:
    """``value`` as a NumPy array that shares its memory where it can: arrays, lists, torch's tensors."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor
        value = value.detach().cpu()
        try:
            return np.asarray(value.numpy())
        except TypeError:  # bfloat16, which NumPy does not have
            return np.asarray(value.float().numpy())
    return np.asarray(value)


def steady(seed: int) -> None:
    """Seed the global generators, so that dropout and noise draw the same in calls that are to be compared."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- the patient may draw from it
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn from the global generators inside, they go on afterwards as if nothing had been."""
    torch = sys.modules.get("torch")
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        if torch is not None and kept[2] is not None:
            torch.set_rng_state(kept[2])
        elif torch is None and (torch := sys.modules.get("torch")) is not None:  # imported, and seeded, inside
            torch.seed()


@dataclass
class Ward:
    """What is known of the patient, and the way to another copy of it.

    ``size``: O. ``actions``: A. ``rows``: the smallest batch that ``train_batch`` learns from, and
    ``calls`` how many times it must be called for that. ``deep``: whether copies are
    deep copies; else they are made anew by the factory and live through the same calls again. ``noise``: how far
    ``q_values`` of the same obs differ between two calls. ``runs_on``: a call that could not be stopped.
    """

    factory: Callable[..., Any]
    seed: int
    random: np.random.Generator
    size: int = 0
    actions: int = 0
    gamma: float = 0.0
    n_step: int | None = None
    rows: int = 1
    calls: int = 1
    deep: bool = False
    noise: float = 0.0
    under_way: Call | None = None
    runs_on: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    _first: Any = None

    def make(self) -> Any:
        """A patient by the owner's factory, which is offered a seed if it takes one."""
        steady(self.seed)
        try:
            takes_seed = "seed" in inspect.signature(self.factory).parameters
        except (TypeError, ValueError):
            takes_seed = False
        return self.timed("the factory", self.factory, *(), **({"seed": self.seed} if takes_seed else {}))

    def fresh(self) -> Case:
        """A patient that nothing was done to."""
        if not self.deep:
            return Case(self, self.make())
        if self._first is None:
            self._first = self.make()
        return Case(self, copy.deepcopy(self._first))

    def timed(self, name: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        before, this = self.under_way, Call.now(name)
        self.under_way = this
        try:
            return function(*args, **keywords)
        except (Exception, SystemExit) as error:
            raise PatientFailed(name, f"raised {type(error).__name__}: {error}", error) from error
        finally:
            if self.under_way is this:  # else it was given up long ago, and another one is under way
                self.under_way = before

    # Made-up experience

    def states(self, count: int, scale: float = 1.0) -> Array:
        """``count`` observations, [N, O], normally distributed."""
        return (scale * self.random.standard_normal((count, self.size))).astype(np.float32)

    def transitions(self, count: int, terminated: bool = True, scale: float = 1.0) -> Transitions:
        """Transitions whose actions come in turn, from a random one on, and whose rewards are 0."""
        return Transitions(
            self.states(count, scale),
            (np.arange(count) + self.random.integers(self.actions)) % self.actions,
            np.zeros(count, np.float32),
            self.states(count, scale),
            np.full(count, terminated),
        )


class Case:
    """One copy of the patient, in the state that its history has brought it to."""

    def __init__(self, ward: Ward, patient: Any) -> None:
        self.ward = ward
        self.patient = patient
        self.history: list[Callable[[Case], object]] = []

    def has(self, *methods: str) -> bool:
        return all(callable(getattr(self.patient, method, None)) for method in methods)

    def call(self, method: str, *args: Any) -> Any:
        """The patient's ``method``, timed; what it raises comes as PatientFailed."""
        return self.ward.timed(method, getattr(self.patient, method), *args)

    def array(self, method: str, *args: Any) -> Array:
        """What the patient's ``method`` gives, as an array."""
        given = self.call(method, *args)
        try:
            return as_array(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise PatientFailed(method, f"gave what is no array: {error}", error) from error

    def copy(self) -> Case:
        """Another patient in the same state, that shares nothing with this one."""
        if self.ward.deep:
            return Case(self.ward, copy.deepcopy(self.patient))
        again = Case(self.ward, self.ward.make())
        for change in self.history:
            again.change(change)
        return again

    def change(self, how: Callable[[Case], object]) -> None:
        """Bring the patient into another state; a copy that is made anew will be changed likewise."""
        if not self.ward.deep:
            self.history.append(how)
        steady(1)
        how(self)

    def train(self, batch: Transitions) -> None:
        """One update. A batch smaller than the patient takes is repeated, which changes no mean over it."""
        repeats = -(-self.ward.rows // len(batch.action))
        columns = [np.concatenate([column] * repeats) for column in batch]

        def update(case: Case) -> None:
            for _ in range(self.ward.calls):
                case.call("train_batch", *(column.copy() for column in columns))

        self.change(update)

    def sync(self) -> None:
        self.change(lambda case: case.call("sync_target"))

    def q(self, obs: Array) -> Array:
        """Q(obs, a) in float64: [N, A]."""
        return self._values("q_values", obs)

    def target_q(self, obs: Array) -> Array:
        """The target network's Q(obs, a) in float64: [N, A]."""
        return self._values("target_q_values", obs)

    def _values(self, method: str, obs: Array) -> Array:
        steady(2)
        values = self.array(method, obs.copy())
        if values.ndim != 2 or len(values) != len(obs) or values.shape[1] != (self.ward.actions or values.shape[1]):
            raise PatientFailed(method, f"gave shape {list(values.shape)} for obs{list(obs.shape)}")
        if values.dtype.kind not in "fiu":
            raise PatientFailed(method, f"gave {values.dtype}; real numbers are wanted")
        if not np.isfinite(values).all():
            raise NotFinite(method)
        return values.astype(np.float64)
