"""INIT: a new network's values over many states, and its weights against the spreads that are known to work."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import networks
from perilune.doctor.catalogue import found, listed
from perilune.doctor.report import Finding, NotRun, Spread
from perilune.doctor.ward import CannotTell, Case, Ward

STATES = 20_000


def check(ward: Ward) -> Iterator[Finding | NotRun]:
    case = ward.fresh()
    if ward.noise:
        raise CannotTell("q_values differ from call to call")
    obs = ward.states(STATES, 2.0)
    q = case.q(obs)
    if np.ptp(q, axis=0).max() <= 1e-9 * (np.abs(q).max() + 1):
        yield from _constant(ward, case)
        yield NotRun("initial weights", "Q is the same for all states, so that its spread does not show")
        return
    yield from _narrow(obs, q)
    yield from _output(ward, case, obs[:64], q[:64])
    yield from _weights(ward, case, obs, q)


def _constant(ward: Ward, case: Case) -> Iterator[Finding]:
    """Output weights of zero are in order if the rest can learn; weights of zero everywhere are not."""
    trained = case.copy()
    batch = ward.transitions(max(16, ward.rows))
    batch = batch._replace(reward=(3 * batch.obs[:, 0]).astype(np.float32))
    for _ in range(30):
        trained.train(batch)
    q = trained.q(batch.obs)
    if np.ptp(q, axis=0).max() <= 1e-6 * (np.abs(q).max() + 1e-9):
        yield found(
            "forward.all_equal",
            f"a new agent's Q is the same for every state, and after 30 updates on {len(batch.action)} transitions "
            f"with rewards of {batch.reward.min():.2g} to {batch.reward.max():.2g} it still is: {listed(q[0])}",
        )


def _narrow(obs: Array, q: Array) -> Iterator[Finding]:
    """Where a layer is so narrow that all its units can be off at once, states lose all that tells them apart."""
    digits = np.round(q / (np.abs(q).max() * 1e-9))
    _, group, counts = np.unique(digits, axis=0, return_inverse=True, return_counts=True)
    alike = obs[group.reshape(-1) == counts.argmax()]
    if counts.max() >= 4 and np.abs(alike).min() < 0.3:  # else all of their entries are clipped
        yield found(
            "forward.narrow",
            f"{counts.max()} of {len(q)} different states get the same Q-values to nine digits",
        )


def _output(ward: Ward, case: Case, obs: Array, q: Array) -> Iterator[Finding | NotRun]:
    """Q must be able to take any value: no activation may follow the last layer."""
    if not any(array.shape == (ward.actions,) for array in networks.online(case).values()):
        yield NotRun("initial weights", "the outputs have no biases that could show an activation behind them")
        return
    shifted = []
    for shift in (-100.0, 100.0):
        moved = case.copy()
        for array in networks.online(moved).values():
            if array.shape in ((ward.actions,), (1,)):
                array[...] += shift
        shifted.append(moved.q(obs))
    low, high = shifted[0].min(), shifted[1].max()
    if low > q.min() - 50 or high < q.max() + 50:
        yield found(
            "forward.output_activation",
            f"with 100 taken from the biases of the outputs Q does not fall below {low:.3g}, with 100 added to them it "
            f"does not rise above {high:.3g}",
        )


def _weights(ward: Ward, case: Case, obs: Array, q: Array) -> Iterator[Finding]:
    arrays = networks.online(case)
    matrices = {name: array for name, array in arrays.items() if array.ndim == 2 and array.size >= 8}
    if not matrices:
        raise CannotTell("no matrices of weights were found")
    layers = _chain(ward, list(matrices.values()))
    biases = [array.reshape(-1) for array in arrays.values() if array.ndim == 1 or 1 in array.shape]
    picture = _activations(obs, q, layers or [], biases)
    signs = {name: float((array > 0).mean()) for name, array in matrices.items()}
    if min(signs.values()) > 0.99 or max(signs.values()) < 0.01:
        said = ", ".join(f"{name} {share:.0%}" for name, share in signs.items())
        yield found("forward.one_sign", f"share of positive weights in a new agent: {said}", picture=picture)
    if layers is not None:
        yield from _spread(list(matrices), layers, picture)
        yield from _biases(arrays, layers)


def _activations(obs: Array, q: Array, layers: list[Array], biases: list[Array]) -> Spread:
    """What each layer puts out, where all is a plain ReLU network; else the outputs alone, which are Q."""
    groups: dict[str, Array] = {}
    if len(layers) == len(biases):
        carried = obs
        for number, (layer, bias) in enumerate(zip(layers, biases, strict=True), start=1):
            groups[f"layer {number}"] = carried @ layer + bias
            carried = np.maximum(groups[f"layer {number}"], 0)
    outputs = groups.pop(f"layer {len(layers)}", None)
    if outputs is None or outputs.shape != q.shape or np.abs(outputs - q).max() > 1e-3 * np.abs(q).max():
        groups.clear()
    groups["Q"] = q
    return Spread(
        "what a new agent's layers put out",
        f"value before any activation, for {len(obs):,} observations around 0",
        {name: values.reshape(-1) for name, values in groups.items()},
    )


def _biases(arrays: networks.Named, layers: list[Array]) -> Iterator[Finding]:
    """Every unit of a layer needs a bias of its own; a single one may only stand at a layer of a single unit."""
    single = [name for name, array in arrays.items() if array.size == 1]
    units = [layer.shape[1] for layer in layers]
    if single and 1 not in units:
        yield found(
            "backward.one_bias",
            f"{', '.join(single)}: one number each, for layers of {', '.join(map(str, units))} units",
        )


def _spread(names: list[str], layers: list[Array], picture: Spread) -> Iterator[Finding]:
    """Weights are scaled by the number of inputs of a layer (He), or by both numbers (Glorot), not by the outputs'."""
    inputs, outputs = np.array([layer.shape for layer in layers], float).T
    spread = np.array([float(np.sqrt(np.mean(np.square(layer)))) for layer in layers])
    by_inputs = spread * np.sqrt(inputs)
    if by_inputs.max() > 3 and by_inputs.max() > 2.5 * np.median(by_inputs):
        at = int(by_inputs.argmax())
        he, by_outputs = np.sqrt(2 / inputs), np.sqrt(2 / outputs)
        said = (
            f"{names[at]}, of {inputs[at]:.0f} inputs and {outputs[at]:.0f} outputs, has a spread of {spread[at]:.3g}; "
            f"sqrt(2 / inputs) is {he[at]:.3g}, and sqrt(2 / outputs) {by_outputs[at]:.3g}"
        )
    elif by_inputs.max() > 6:
        said = f"spread times the root of the number of inputs: {listed(by_inputs)}; He's is 1.41"
    else:
        return
    yield found("forward.spread", said, picture=picture)


def _chain(ward: Ward, matrices: list[Array]) -> list[Array] | None:
    """Each matrix as [inputs, outputs], where they can be read as layers in a row, either way round."""
    for turned in (False, True):
        layers = [matrix.T if turned else matrix for matrix in matrices]
        fits = all(before.shape[1] == after.shape[0] for before, after in pairwise(layers))
        if layers[0].shape[0] == ward.size and fits:
            return layers
    return None
