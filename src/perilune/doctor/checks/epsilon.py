"""Read the epsilon with which the training loop chooses actions, and check its schedule."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.locate import is_own
from perilune.doctor.numbered_env import NumberedEnv
from perilune.doctor.report import Finding
from perilune.doctor.session import AgentCopy, AgentFailed, Session, as_array

PROBE = 0.31415927  # an epsilon that no agent has by chance
NAME = re.compile("eps|explor", re.IGNORECASE)  # other variables may have the value of epsilon by chance
MAX_DEPTH = 3  # of the object that holds epsilon, below the adapter
ROWS = 16  # how many times as many transitions the second batch has
PER_ROW = ROWS / 4  # ratio of the two decreases of epsilon that is reported
EPISODES = 20  # in which epsilon restarts


class Epsilon(NamedTuple):
    """Epsilon at a choice of an action, after ``steps`` time steps of the run, in the state ``state``."""

    steps: int
    state: int
    value: float


Tracer = Callable[[FrameType, str, Any], Any]
Places = dict[CodeType, str]  # the user's functions that use epsilon, and the name of its variable or attribute


def find_epsilon(agent: AgentCopy) -> Places:
    """Return the functions that ``act`` runs and in which a variable, or an attribute of self, is epsilon."""
    places: Places = {}

    def returned(frame: FrameType) -> None:
        for name, value in _variables(frame):
            if NAME.search(name) and _number(value) == PROBE:
                places.setdefault(frame.f_code, name)

    if agent.has("act"):
        with contextlib.suppress(AgentFailed), _returns(lambda code: is_own(code.co_filename), returned):
            agent.call("act", agent.session.observations(1)[0], PROBE)
    return places


def recorded(places: Places, record: Callable[[float], object]) -> contextlib.AbstractContextManager[None]:
    """Call ``record`` with the value of epsilon each time one of the functions in ``places`` returns."""

    def returned(frame: FrameType) -> None:
        wanted = places[frame.f_code]
        value = next((value for name, value in _variables(frame) if name == wanted), None)
        if (number := _number(value)) is not None:
            record(number)

    return _returns(places.__contains__, returned) if places else contextlib.nullcontext()


def untraced() -> contextlib.AbstractContextManager[None]:
    """Call no trace function, for the doctor's own work during the run."""
    return _traced(None)


@contextlib.contextmanager
def _traced(trace: Tracer | None) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _returns(
    wanted: Callable[[CodeType], bool], returned: Callable[[FrameType], None]
) -> contextlib.AbstractContextManager[None]:
    """Call ``returned`` each time a ``wanted`` function returns."""

    def traced(frame: FrameType, event: str, _: Any) -> Tracer:
        if event == "return":
            returned(frame)
        return traced

    def trace(frame: FrameType, event: str, _: Any) -> Tracer | None:
        if not wanted(frame.f_code):
            return None
        frame.f_trace_lines = False
        return traced

    # A profile function takes more time: Python calls it for C functions too.
    return _traced(trace)


def _variables(frame: FrameType) -> list[tuple[str, Any]]:
    """Return the local variables of a function, and the attributes of self."""
    variables = frame.f_locals
    return [*variables.items(), *getattr(variables.get("self"), "__dict__", {}).items()]


def _number(value: Any) -> float | None:
    """Return ``value`` as a float, or None if it is not a number."""
    if value is None or isinstance(value, str | bytes):
        return None
    with contextlib.suppress(Exception):  # objects of the agent may raise anything when they are inspected
        array = as_array(value)
        return float(array) if array.ndim == 0 and array.dtype.kind in "fiu" else None
    return None


def check_schedule(session: Session, epsilons: list[Epsilon], env: NumberedEnv) -> Iterator[Finding]:
    """Check that epsilon stays between 0 and 1, and how it falls."""
    steps = len(env.steps)
    for step, _, epsilon in epsilons:
        if not -1e-6 <= epsilon <= 1 + 1e-6:
            yield finding("exploration.epsilon_out_of_range", epsilon=epsilon, step=step, steps=steps)
            return
    if not epsilons or steps < 300:
        return
    first = epsilons[0].value
    later = [one.value for one in epsilons if one.steps >= 10]
    values = np.array([one.value for one in epsilons])
    starts = np.flatnonzero([one.state in env.first for one in epsilons])[1:]
    rises = (values[starts] > values[starts - 1]).sum()
    if first >= 0.5 and later and max(later) <= 0.1:
        yield finding("exploration.decays_at_once", first=first, later=max(later), steps=steps)
    elif len(starts) >= EPISODES and rises > 0.9 * len(starts) and values[starts].min() > 0.9 * first:
        yield finding("exploration.restarts", rises=rises, episodes=len(starts), first=first, last=values[starts[-1]])
    else:
        yield from _decays_per_row(session, values)


def _decays_per_row(session: Session, epsilons: Array) -> Iterator[Finding]:
    """Check that an update lowers an epsilon of the agent's own once, not once for each transition of the batch."""
    largest = float(-np.diff(epsilons).min(initial=0))
    if largest == 0 or session.calls_per_update > 1 or getattr(session.new_copy().agent, "online", False):
        return
    few = session.min_batch
    before, one, many = (_fractions(session, rows) for rows in (0, few, ROWS * few))
    for path, value in before.items():
        if value != epsilons[0] or path not in one or path not in many:
            continue
        small, large = value - one[path], value - many[path]
        if small > 0 and large > PER_ROW * small and largest > PER_ROW * small:
            sizes: dict[str, Any] = {"path": path, "few": few, "many": ROWS * few}
            yield finding("exploration.decays_per_row", **sizes, small=small, large=large, largest=largest)
            return


def _fractions(session: Session, rows: int) -> dict[str, float]:
    """Return the attributes of an agent that are numbers from 0 to 1, by path, after an update on ``rows`` rows."""
    agent = session.new_copy()
    if rows:
        agent.call("train_batch", *agent.prepared(session.transitions(rows)))
    found: dict[str, float] = {}
    level = [("", agent.agent)]
    for _ in range(MAX_DEPTH):
        members = [(f"{path}.{name}", one) for path, owner in level for name, one in _own_attributes(owner)]
        numbers = {path.lstrip("."): number for path, one in members if (number := _number(one)) is not None}
        found |= {path: number for path, number in numbers.items() if 0 <= number <= 1}
        level = members
    return found


def _own_attributes(owner: Any) -> list[tuple[str, Any]]:
    """Return the attributes of an object whose class is the user's code or a plain namespace."""
    module = sys.modules.get(type(owner).__module__)
    own = type(owner).__module__ == "types" or is_own(getattr(module, "__file__", None) or "<built-in>")
    return list(getattr(owner, "__dict__", {}).items()) if own and not isinstance(owner, type) else []
