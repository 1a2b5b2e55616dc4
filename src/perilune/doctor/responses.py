"""The steps of one weight whose gradient is known, because it is the TD error itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import networks, pushes
from perilune.doctor.patient import Transitions
from perilune.doctor.ward import CannotTell, Case, Ward


class Known(NamedTuple):
    """A weight of action 0's output: its array and its place there; ``exact``, if it is the output's bias.

    ``transition`` is one that pushes it.
    """

    transition: Transitions
    name: str
    place: int
    exact: bool


def known_weight(ward: Ward, case: Case) -> Known:
    """A weight whose gradient follows the TD error and nothing else.

    That of the output's bias is the TD error. Another weight of the output has its input for a factor, which changes
    while the layers before it learn; an optimiser that normalises hardly sees that.

    Raises:
        CannotTell: there is none.
    """
    # Small, so that the other gradients are, and clipping by their norm sets in late.
    transition = ward.transitions(1, scale=0.3)._replace(action=np.zeros(1, np.int64))
    step = pushes.step(case, pushes.towards(case, transition, 1.0))
    slopes = pushes.slopes(case, transition.obs)
    best = None
    for name, (places, slope) in slopes.items():
        touched = (np.abs(slope) > 1e-3 * np.abs(slope).max(initial=0)).sum(axis=1)
        if not len(places) or touched.max() != 1 or not step[name].any() or not slope[:, 0].any():
            continue
        exact = step[name].ndim == 1
        if exact or pushes.stepping(case) == "signs":
            known = Known(transition, name, int(places[np.abs(slope[:, 0]).argmax()]), exact)
            best = known if best is None or exact else best
    if best is None:
        raise CannotTell("no weight was found whose gradient is the TD error alone: a bias of an output")
    return best


def response(case: Case, weight: Known, errors: Sequence[float]) -> Array:
    """The steps [K] that the weight makes while its transition is trained with these TD errors [K] in turn."""
    aimed = pushes.aim(case, weight.transition)
    trained = case.copy()
    values = []
    for error in errors:
        values.append(float(networks.online(trained)[weight.name].reshape(-1)[weight.place]))
        trained.train(pushes.towards(trained, weight.transition, float(error), aimed))
    values.append(float(networks.online(trained)[weight.name].reshape(-1)[weight.place]))
    return np.diff(values)
