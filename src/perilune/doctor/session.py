"""Work with the examined agent: independent copies, timed calls, and validated results."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, Literal

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.protocol import Transitions
from perilune.doctor.supervise import MORE, Call, Interrupted

RECURSION = 1000  # the doctor needs this recursion limit, even if the agent lowers it

Stepping = Literal["proportional", "signs", "damped", "inverse", "unknown"]
Steps = Callable[[Array], Array]  # gradients (K,) -> an optimizer's steps (K,) for a learning rate of 1


class CannotTell(Exception):  # noqa: N818 -- a result, not an error
    """A check cannot reach a result. The message is the reason."""


class AgentFailed(Exception):  # noqa: N818 -- a result, not an error
    """A method of the agent raised ``error`` or returned a value that cannot be used."""

    def __init__(self, method: str, problem: str, error: BaseException | None = None) -> None:
        super().__init__(f"{method} {problem}")
        self.method = method
        self.error = error


class NotFinite(AgentFailed):
    """A method of the agent returned NaN or infinity."""


def as_array(value: Any) -> Array:
    """Convert an array, a list or a torch tensor to a NumPy array, sharing memory where possible."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor
        value = value.detach().cpu()
        try:
            return np.asarray(value.numpy())
        except TypeError:  # bfloat16 does not exist in NumPy
            return np.asarray(value.float().numpy())
    return np.asarray(value)


def seed_global_generators(seed: int) -> None:
    """Seed the global random generators, so that compared calls have the same dropout and noise."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- the agent may draw from it
    if (torch := sys.modules.get("torch")) is not None:
        _seeder(torch)(seed)


@cache
def _seeder(torch: ModuleType) -> Callable[[int], object]:
    """Return the function that seeds PyTorch. Without a GPU, ``manual_seed`` would record a stack trace each time."""
    accelerator = getattr(torch, "accelerator", None)  # since PyTorch 2.6
    seed: Callable[[int], object] = torch.manual_seed
    if accelerator is not None and not accelerator.is_available():
        seed = torch.default_generator.manual_seed
    return seed


@contextlib.contextmanager
def keep_generators() -> Iterator[None]:
    """Restore the state of the global random generators on exit."""
    kept = _generator_states()
    try:
        yield
    finally:
        _restore_generators(kept)


class KeptGenerators:
    """Restores the global random generators after each of many similar steps.

    Reading the states takes longer than most steps. After ``STEPS`` steps in a row that drew no random number, it no
    longer reads them.
    """

    STEPS = 20

    def __init__(self) -> None:
        self._unused = 0  # steps in a row that drew nothing

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Restore the state of the generators on exit."""
        if self._unused >= self.STEPS:
            yield
            return
        before = _generator_states()
        try:
            yield
        finally:
            own, numpy, torch = _generator_states()
            drawn = own != before[0] or any(map(np.any, map(np.not_equal, numpy[1:], before[1][1:])))
            drawn |= torch is not None and (before[2] is None or not torch.equal(before[2]))
            self._unused = 0 if drawn else self._unused + 1
            _restore_generators(before)


def _generator_states() -> tuple[Any, Any, Any]:
    """Return the states of the global random generators of Python, NumPy and PyTorch."""
    torch = sys.modules.get("torch")
    return random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None  # noqa: NPY002


def _restore_generators(states: tuple[Any, Any, Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    if states[2] is not None:
        sys.modules["torch"].set_rng_state(states[2])


@dataclass
class Session:
    """One examination: how to make agents, and what the checks know about the agent so far."""

    factory: Callable[..., Any]
    seed: int  # passed to the factory if it takes one
    rng: np.random.Generator  # for the observations and transitions of the checks
    observation_size: int = 0
    actions: int = 0  # number of actions, A
    gamma: float = 0.0
    n_step: int | None = None  # time steps that each reward sums over; None if the adapter has no n_step
    min_batch: int = 1  # size of the smallest batch with which train_batch changes Q
    calls_per_update: int = 1  # calls of train_batch until Q changes
    deepcopy: bool = False  # copy agents with copy.deepcopy; otherwise make new ones and repeat the changes
    noise: float = 0.0  # largest difference between two calls of q_values with the same observations
    under_way: Call | None = None  # the running call of the agent
    announce: Callable[[str], object] = str  # called with the name of each call that starts, and "" when it returns
    caught: type[BaseException] = Exception  # exceptions of the agent that become results
    budget: float = 60.0  # CPU seconds of the examination
    # CPU seconds of "copy", "train_batch" (one update), "q_values" (of one state) and "state" (each further state).
    cost: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)  # ids of the findings so far, with notes
    ends: str = "sound"  # how the target treats terminated transitions: "sound" or the name of a finding
    routing: str = "sound"  # whether updates train the action taken only: "sound" or the id of a finding
    not_regression: str | None = None  # why updates do not move Q toward a number; "" if they do; None: unknown
    weights: tuple[str, list[str]] | None = None  # source of the online arrays ("parameters" or "walk") and their names
    target_weights: list[str] | None = None  # names of the target network's arrays
    unexplained: bool = False  # whether the target is not a known one
    uses_torch_optimizer: bool | None = None  # whether a PyTorch optimizer receives the gradients of the weights
    optimizer_steps: int = 0  # of PyTorch optimizers in the last update whose gradients were recorded
    statistics: bool = False  # whether updates change statistics of the observations, which q_values uses
    reward_scale: float = 1.0  # factor by which the update multiplies rewards. Copies divide by it
    trials: list[Any] | None = None  # of an agent in its initial state
    running_next: tuple[Array, float] | None = None  # next_obs (1, O) and its bootstrap, if updates need running rows
    stepping: Stepping | None = None  # how the first step depends on the gradient
    weight_decay: bool | None = None  # whether weights shrink without an error; None: unknown
    optimizer: Steps | None = None  # the reference optimizer that matches the agent's steps
    replay_faulty: bool = False
    start: list[Callable[[AgentCopy], object]] = field(default_factory=list)  # changes to every new copy
    _original: Any = None

    @property
    def discount(self) -> float:
        """The discount of the next value: gamma^n."""
        return float(self.gamma ** (self.n_step or 1))

    def new_agent(self) -> Any:
        """Call the user's factory, with ``seed`` if it takes one."""
        seed_global_generators(self.seed)
        try:
            takes_seed = "seed" in inspect.signature(self.factory).parameters
        except (TypeError, ValueError):
            takes_seed = False
        return self.timed("the factory", self.factory, **({"seed": self.seed} if takes_seed else {}))

    def new_copy(self) -> AgentCopy:
        """Return an agent in its initial state, after the changes in ``start``."""
        if self._original is not None:
            return AgentCopy(self, copy.deepcopy(self._original))
        new = AgentCopy(self, self.new_agent())
        for change in self.start:
            new.change(change)
        if self.deepcopy:
            self._original = copy.deepcopy(new.agent)
        return new

    def start_after(self, change: Callable[[AgentCopy], object]) -> None:
        """Apply ``change`` to every new copy."""
        self.start.append(change)
        self._original = None

    def timed(self, name: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call ``function``, and record it as the running call. Raise AgentFailed if it raises an exception."""
        before, this = self.under_way, Call(name)
        self.under_way = this
        self.announce(name)
        try:
            return function(*args, **keywords)
        except Interrupted:
            raise
        except (self.caught, SystemExit) as error:
            raise AgentFailed(name, f"raised {type(error).__name__}: {error}", error) from error
        finally:
            self.under_way = before
            self.announce(before.name if before else "")
            if sys.getrecursionlimit() < RECURSION:
                sys.setrecursionlimit(RECURSION)

    def affordable(self, share: float, **calls: float) -> int:
        """Return how many probes fit into a share of the time limit, for example to probe a slow agent less often.

        ``calls`` has the number of calls of each kind in ``cost`` that one probe makes:
        ``affordable(0.05, train_batch=1, q_values=2)``.
        """
        seconds = sum(self.cost.get(name, 0.0) * count for name, count in calls.items())
        return int(min(share * self.budget / max(seconds, 1e-9), 1e9))

    def fewer(self, wanted: int, affordable: int, probes: str) -> Iterator[str]:
        """Yield a note for the report if a check affords fewer probes than it wants."""
        if affordable < wanted:
            yield f"the agent is slow, so only {affordable} of {wanted} {probes} were tested. {MORE}"

    def observations(self, count: int, scale: float = 1.0) -> Array:
        """Draw ``count`` observations (N, O) from a normal distribution."""
        return (scale * self.rng.standard_normal((count, self.observation_size))).astype(np.float32)

    def transitions(self, count: int, terminated: bool = True, scale: float = 1.0) -> Transitions:
        """Draw transitions with reward 0. The actions cycle, starting with a random one."""
        return Transitions(
            self.observations(count, scale),
            (np.arange(count) + self.rng.integers(self.actions)) % self.actions,
            np.zeros(count, np.float32),
            self.observations(count, scale),
            np.full(count, terminated),
        )


class AgentCopy:
    """A copy of the agent with its own state."""

    def __init__(self, session: Session, agent: Any) -> None:
        self.session = session
        self.agent = agent
        self.history: list[Callable[[AgentCopy], object]] = []

    def has(self, *methods: str) -> bool:
        """Return whether the agent has all ``methods``."""
        return all(callable(getattr(self.agent, method, None)) for method in methods)

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the agent with a time limit. Raise AgentFailed if it raises an exception."""
        return self.session.timed(method, getattr(self.agent, method), *args)

    def array(self, method: str, *args: Any) -> Array:
        """Call a method of the agent and return its result as an array."""
        given = self.call(method, *args)
        try:
            return as_array(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise AgentFailed(method, f"returned a value that is not an array: {error}", error) from error

    def copy(self) -> AgentCopy:
        """Return an independent agent in the same state."""
        if self.session.deepcopy:
            return AgentCopy(self.session, copy.deepcopy(self.agent))
        again = AgentCopy(self.session, self.session.new_agent())
        for change in self.history:
            again.change(change)
        return again

    def change(self, how: Callable[[AgentCopy], object]) -> None:
        """Apply ``how`` to the agent, and record it if copies must repeat it."""
        if not self.session.deepcopy:
            self.history.append(how)
        seed_global_generators(1)
        how(self)

    def train(self, batch: Transitions) -> None:
        """Run one update. If the batch is too small, repeat its rows, which does not change their mean."""
        batch = self.prepared(batch)
        repeats = -(-self.session.min_batch // len(batch.action))
        columns = [np.concatenate([column] * repeats) for column in batch]

        def update(agent: AgentCopy) -> None:
            for _ in range(self.session.calls_per_update):
                agent.call("train_batch", *(column.copy() for column in columns))

        self.change(update)

    def prepared(self, batch: Transitions) -> Transitions:
        """Return the batch with undone reward scaling, and with running rows if updates need them."""
        session = self.session
        if session.running_next is not None and batch.terminated.all():
            batch = self._with_running_rows(batch, *session.running_next)
        if session.reward_scale != 1:
            batch = batch._replace(reward=(batch.reward / session.reward_scale).astype(batch.reward.dtype))
        return batch

    @staticmethod
    def _with_running_rows(batch: Transitions, next_obs: Array, bootstrap: float) -> Transitions:
        """Return the batch with a running copy of each transition that has the same target."""
        running = batch._replace(
            reward=(batch.reward - bootstrap).astype(batch.reward.dtype),
            next_obs=np.repeat(next_obs, len(batch.action), axis=0),
            terminated=np.zeros_like(batch.terminated),
        )
        return Transitions(*(np.concatenate(pair) for pair in zip(batch, running, strict=True)))

    def trained(self, batch: Transitions) -> AgentCopy:
        """Return a copy after one update on ``batch``."""
        trained = self.copy()
        trained.train(batch)
        return trained

    def sync(self) -> None:
        """Update the target network once."""
        self.change(lambda agent: agent.call("sync_target"))

    def effect(self, batch: Transitions) -> Array:
        """Return the change of Q(obs, a) by an update on ``batch``, (B, A)."""
        return self.trained(batch).q(batch.obs) - self.q(batch.obs)

    def q(self, obs: Array, method: str = "q_values") -> Array:
        """Return Q(obs, a) in float64, (N, A): of the online network, unless ``method`` is "target_q_values"."""
        if self.session.noise or not self.session.actions:
            seed_global_generators(2)
        values = self.array(method, obs.copy())
        if values.ndim != 2 or len(values) != len(obs) or self.session.actions not in (0, values.shape[1]):
            expected = f"({len(obs)}, {self.session.actions or 'A'})"
            raise AgentFailed(
                method, f"returned shape {values.shape} for obs of shape {obs.shape}: expected {expected}"
            )
        if values.dtype.kind not in "fiu":
            raise AgentFailed(method, f"returned dtype {values.dtype}: expected real numbers")
        if not np.isfinite(values).all():
            raise NotFinite(method, "returned NaN or infinity")
        return values.astype(np.float64)

    def q_taken(self, batch: Transitions) -> Array:
        """Return Q(obs, action) of the online network, (B,)."""
        return self.q(batch.obs)[np.arange(len(batch.action)), batch.action]

    def target_q(self, obs: Array) -> Array:
        """Return Q(obs, a) of the target network in float64, (N, A)."""
        return self.q(obs, "target_q_values")
