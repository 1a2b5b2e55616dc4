"""Check the Q-values and the initial weights of a new network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import finding
from perilune.doctor.report import Finding, Spread
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session
from perilune.doctor.weights import differ, online, randomize, response

STATES = 20_000
MIN_STATES = 64
ENTRIES = 4_000_000  # of all observations together, because images need much memory
UPDATES = 30


def check_network(session: Session, agent: AgentCopy) -> Iterator[Finding | str]:
    """Check that Q varies between states, that the last layer is linear, and the initial weights."""
    if session.noise:
        raise CannotTell("q_values returns different values for the same observations")
    wanted = min(STATES, max(MIN_STATES, ENTRIES // session.observation_size))
    states = min(wanted, max(MIN_STATES, session.affordable(0.05, state=1)))
    yield from session.fewer(wanted, states, "states")
    obs = session.observations(states, 2.0)
    q = agent.q(obs)
    if np.ptp(q, axis=0).max() <= 1e-9 * (np.abs(q).max() + 1):
        constant = list(_constant(session, agent))
        yield from constant
        yield "Q is the same in all states, so its variation between states cannot be checked"
        if not constant:
            _start_varied(session)
        return
    # If all units of a narrow layer are inactive, different states have the same Q-values.
    digits = np.round(q / (np.abs(q).max() * 1e-9))
    _, group, counts = np.unique(digits, axis=0, return_inverse=True, return_counts=True)
    alike = obs[group.reshape(-1) == counts.argmax()]
    if counts.max() >= 4 and np.abs(alike).min() < 0.3:  # otherwise the agent clips its observations
        yield finding("forward.narrow", same=counts.max(), count=len(q))
    yield from _output_activation(session, agent, obs[:64], q[:64])
    yield from _weights(session, agent, obs, q)


def _constant(session: Session, trained: AgentCopy) -> Iterator[Finding]:
    """Check that a network with constant Q can learn, as it can if only the last layer starts at zero."""
    batch = session.transitions(max(16, session.min_batch))
    batch = batch._replace(reward=(3 * batch.obs[:, 0]).astype(np.float32))
    for _ in range(UPDATES):
        trained.train(batch)
    q = trained.q(batch.obs)
    if np.ptp(q, axis=0).max() <= 1e-6 * (np.abs(q).max() + 1e-9):
        low, high = batch.reward.min(), batch.reward.max()
        yield finding("forward.all_equal", updates=UPDATES, count=len(batch.action), low=low, high=high, q=q[0])


def _start_varied(session: Session) -> None:
    """Let the following checks start with random weights, if these reveal the effect of next_obs."""
    change = partial(randomize, seed=4)
    try:
        varied = session.new_copy()
        varied.change(change)
        batch = session.transitions(max(16, session.min_batch), terminated=False)
        values = np.array([varied.q(obs).max(axis=1) for obs in (batch.next_obs, -batch.next_obs)])
        middle = (varied.q_taken(batch) - session.gamma * values.mean(axis=0)).astype(np.float32)
        batch = batch._replace(reward=middle)
        if differ(response(varied, batch), response(varied, batch._replace(next_obs=-batch.next_obs))):
            session.start_after(change)
    except (CannotTell, AgentFailed):
        return  # the other checks report that Q is the same in all states


def _output_activation(session: Session, agent: AgentCopy, obs: Array, q: Array) -> Iterator[Finding | str]:
    """Check that Q follows large shifts of the output biases in both directions."""
    single, *biases = (1,), (session.actions,), (session.actions, 1), (1, session.actions)
    if not any(array.shape in biases for array in online(agent).values()):
        yield "the last layer has no biases, so an activation after it cannot be detected"
        return
    shifted = []
    for shift in (-100.0, 100.0):
        moved = agent.copy()
        for array in online(moved).values():
            if array.shape in (single, *biases):
                array[...] += shift
        shifted.append(moved.q(obs))
    low, high = shifted[0].min(), shifted[1].max()
    if low > q.min() - 50 or high < q.max() + 50:
        yield finding("forward.output_activation", low=low, high=high)


def _weights(session: Session, agent: AgentCopy, obs: Array, q: Array) -> Iterator[Finding]:
    arrays = online(agent)
    matrices = {name: array for name, array in arrays.items() if array.ndim == 2 and array.size >= 8}
    if not matrices:
        raise CannotTell("the doctor found no weight matrices")
    layers = _as_layers(session, list(matrices.values()))
    biases = [array.reshape(-1) for array in arrays.values() if array.ndim == 1 or 1 in array.shape]
    picture = _activations(obs, q, layers, biases)
    positive = {name: float((array > 0).mean()) for name, array in matrices.items()}
    if min(positive.values()) > 0.99 or max(positive.values()) < 0.01:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in positive.items())
        yield finding("forward.one_sign", shares=shares, picture=picture)
    if not layers:
        return
    # The spread must shrink with the number of inputs of a layer (He et al., arXiv:1502.01852) or of inputs and outputs
    # (Glorot), not with the number of outputs alone.
    scaled = np.array([np.sqrt(np.square(layer).mean() * len(layer)) for layer in layers])
    if scaled.max() > 6 or scaled.max() > max(3, 2.5 * np.median(scaled)):
        shapes = ", ".join(f"{len(layer)} x {layer.shape[1]}" for layer in layers)
        yield finding("forward.spread", shapes=shapes, scaled=scaled, picture=picture)
    single = [name for name, array in arrays.items() if array.size == 1 and not name.endswith("weight")]  # of a PReLU
    units = [layer.shape[1] for layer in layers]
    if single and 1 not in units:  # a single bias is correct only in a layer of one unit
        details = f"Biases with one entry: {', '.join(single)}. Units per layer: {', '.join(map(str, units))}"
        yield finding("backward.one_bias", details=details)


def _as_layers(session: Session, matrices: list[Array]) -> list[Array]:
    """Return each matrix as (inputs, outputs) if they form consecutive layers in either orientation."""
    for layers in (matrices, [matrix.T for matrix in matrices]):
        fits = all(before.shape[1] == after.shape[0] for before, after in pairwise(layers))
        if layers[0].shape[0] == session.observation_size and fits:
            return layers
    return []


def _activations(obs: Array, q: Array, layers: list[Array], biases: list[Array]) -> Spread:
    """Return the pre-activations of each layer of a plain ReLU network, or Q only for other networks."""
    groups: dict[str, Array] = {}
    if len(layers) == len(biases):
        hidden = obs
        for number, (layer, bias) in enumerate(zip(layers, biases, strict=True), start=1):
            groups[f"layer {number}"] = hidden @ layer + bias
            hidden = np.maximum(groups[f"layer {number}"], 0)
    outputs = groups.pop(f"layer {len(layers)}", None)
    if outputs is None or outputs.shape != q.shape or np.abs(outputs - q).max() > 1e-3 * np.abs(q).max():
        groups.clear()
    label = f"value before the activation, for {len(obs):,} random observations"
    values = {name: value.reshape(-1) for name, value in (groups | {"Q": q}).items()}
    return Spread("Layer outputs of a new agent", label, values)
