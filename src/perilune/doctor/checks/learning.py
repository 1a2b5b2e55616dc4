"""PROBE: can the agent learn one batch by heart? It confirms, late, what the other checks tell from its parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perilune.doctor import pushes
from perilune.doctor.catalogue import found
from perilune.doctor.report import Finding
from perilune.doctor.ward import CannotTell, NotFinite, Ward

UPDATES = 200


def check(ward: Ward) -> Iterator[Finding]:
    case = ward.fresh()
    rows = max(32, ward.rows)
    batch = ward.transitions(rows)
    goal = np.clip(ward.random.standard_normal(rows), -2, 2)
    aimed = pushes.aim(case, batch.rows(slice(0, 1)))
    if aimed.above.any() or not aimed.terminated:
        raise CannotTell("what becomes of the ends of episodes spoils it")
    batch = batch._replace(reward=goal.astype(np.float32))
    errors = []
    trained = case.copy()
    try:
        for _ in range(UPDATES):
            q = trained.q(batch.obs)[np.arange(rows), batch.action]
            errors.append(float(np.sqrt(np.mean((q - goal) ** 2))))
            trained.train(batch)
    except NotFinite:
        yield found("numerics.not_finite", f"after {len(errors)} updates on one batch Q is not finite any more")
        return
    first, last = errors[0], float(np.mean(errors[-20:]))
    said = (
        f"trained {UPDATES} times on one batch of {rows} terminated transitions, whose rewards spread by "
        f"{goal.std():.2f}, Q is {first:.3g} off at first, {errors[1]:.3g} after one update, {last:.3g} at the end"
    )
    overshot = errors[1] > 1.5 * first
    if overshot or (last > 2 * goal.std() and last > 0.9 * first):
        yield found("hyperparameters.too_fast", said)
