"""Check the outputs of a program's network, of PyTorch or Keras, after the program has run."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import catalogue
from perilune.doctor.locate import is_own
from perilune.doctor.numbered_env import codes
from perilune.doctor.program.keras_hooks import is_model, without_gradients
from perilune.doctor.report import Finding, Line

ROWS = 16
SHIFT = 100.0


def check_outputs(trace: Any) -> Iterator[Finding]:
    """Check that Q of a state does not depend on the other states of the batch, and that Q can take every value.

    Args:
        trace: The finished trace of the program.
    """
    if trace.log is None or trace.log.discrete or not trace.log.size:
        return
    obs = codes(np.arange(ROWS), trace.log.size).astype(np.float32)
    for module in list(trace.recorder.networks.values()):
        q = _evaluate(module, obs, trace.log.actions)
        if q is None or not np.array_equal(q, _evaluate(module, obs, trace.log.actions)):
            continue  # another kind of network, or one with noise
        layers = module.layers if is_model(module) else [one for one in module.modules() if one.training]
        if any("BatchNorm" in type(one).__name__ for one in layers):
            continue
        alone = np.concatenate([_evaluate(module, row[None], trace.log.actions) for row in obs])
        distance = np.abs(alone - q).max(axis=1)
        if distance.max() > 1e-3 * (np.abs(q).max() + 1e-6):
            row = int(distance.argmax())
            values = {"row": row, "alone": alone[row], "batched": q[row], "count": ROWS}
            yield catalogue.finding("forward.batch_differs", **values).at(_line(module, r"mean\(|max\(|norm|softmax"))
            return
        yield from _output_activation(trace, module, obs, q)
        return


def _evaluate(module: Any, obs: Array, actions: int) -> Any:
    """Return Q (N, A) of a network, or None if it is not a network of this kind."""
    try:
        with without_gradients():
            if is_model(module):
                q = module(obs)
            else:
                q = module(sys.modules["torch"].as_tensor(obs, dtype=next(module.parameters()).dtype))
        values = np.asarray(q.numpy(), np.float64)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, StopIteration):
        return None
    return values if values.shape == (len(obs), actions) else None


def _output_activation(trace: Any, module: Any, obs: Array, q: Array) -> Iterator[Finding]:
    """Check that Q follows large shifts of the output biases in both directions."""
    keras = is_model(module)
    named = [(one.path, one) for one in module.weights] if keras else module.named_parameters()
    biases = [one for name, one in named if name.endswith("bias") and tuple(one.shape) == (q.shape[1],)]
    if not biases:
        return
    shifted = []
    with without_gradients():
        add = biases[-1].assign_add if keras else biases[-1].add_
        for shift in (-SHIFT, SHIFT):
            add(shift)
            shifted.append(_evaluate(module, obs, q.shape[1]))
            add(-shift)
    softmax = bool((q >= 0).all()) and np.allclose(q.sum(axis=1), 1, atol=1e-4)
    if np.allclose(shifted[0], shifted[1], atol=1e-2) and not softmax:
        return  # a dueling network subtracts the mean of the advantages
    low, high = float(shifted[0].min()), float(shifted[1].max())
    if low > q.min() - SHIFT / 2 or high < q.max() + SHIFT / 2:
        found = catalogue.finding("forward.output_activation", low=low, high=high)
        line = _line(module, r"return .*(relu|tanh|sigmoid|softmax)|relu|tanh|sigmoid|softmax")
        yield found.at(line or _last_layer(trace))


def _last_layer(trace: Any) -> Line | None:
    """Return the last line of the program that makes a layer with an activation, or None."""
    for node in reversed(trace.nodes):
        if re.search(r"Dense\(.*(relu|tanh|sigmoid|softmax)|Activation\(", node.text):
            return Line(f"{node.file}:{node.line}", linecache.getline(node.file, node.line).strip())
    return None


def _line(module: Any, pattern: str) -> Line | None:
    """Return the last line of the module's forward pass that matches, or its last line, or None for a library's."""
    code = getattr(type(module).call if is_model(module) else type(module).forward, "__code__", None)
    if code is None or not is_own(code.co_filename):
        return None
    numbers = sorted({number for _, _, number in code.co_lines() if number})
    lines = [
        Line(f"{code.co_filename}:{number}", linecache.getline(code.co_filename, number).strip()) for number in numbers
    ]
    matching = [line for line in lines if re.search(pattern, line.text, re.IGNORECASE)]
    return (matching or lines)[-1]
