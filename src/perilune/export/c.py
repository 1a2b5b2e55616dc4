"""Export a policy as one C99 header and one source, with a self-test and build files.

The weights are constants with the layout [inputs][outputs], so that the inner loop runs over the outputs and can skip
inputs that are 0. The source contains only the helper functions that the policy needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.export.golden import TOLERANCE, Golden, clear
from perilune.export.policy import Block, Entry, Policy, q_values
from perilune.export.text import describe, fill
from perilune.nn.layers import LayerNorm

WIDTH = 118  # of the lines of numbers
FRAMES = 512  # upper bound of the stack without the buffers, in bytes: saved registers and libm


def render(policy: Policy, golden: Golden, *, int8: bool = False) -> dict[str, str]:
    """Return the files of the export by name.

    Args:
        policy: the policy.
        golden: the golden vectors.
        int8: whether to round the weights to int8. The self-test then uses the Q-values of ``quantized(policy)``.
    """
    if int8:
        values = q_values(quantized(policy), golden.obs)
        golden = Golden(golden.obs, values, policy.first_action + values.argmax(axis=1))
    math = any(block.gain is not None or block.activation == "tanh" for block in policy.blocks)
    math |= policy.support is not None
    name = _comment(policy.environment)
    return {
        "policy.h": _header(policy, name),
        "policy.c": _source(policy, name, math, int8),
        "selftest.c": _selftest(policy, golden),
        "Makefile": fill("c/Makefile", link=" -lm"),
        "CMakeLists.txt": fill("c/CMakeLists.txt", link="target_link_libraries(policy m)\n" if math else ""),
        "library.json": fill("c/library.json", description=json.dumps(f"A policy for {policy.environment}")),
    }


def quantized(policy: Policy) -> Policy:
    """Return the policy with the weights that the int8 export computes with. Biases and normalization are unchanged.

    Args:
        policy: the policy.
    """
    blocks = []
    for block in policy.blocks:
        weight, scale = quantize(block.weight)
        blocks.append(replace(block, weight=weight * scale))
    return replace(policy, blocks=tuple(blocks))


def quantize(weight: Array) -> tuple[Array, Array]:
    """Return int8 weights [I, H] and the scale of each output, float32 [H]: W = weights * scale, to half a scale.

    The weights are symmetric, from -127 to 127, and rounded to the nearest.

    Args:
        weight: W, float32 [I, H].
    """
    scale = (np.abs(weight).max(axis=0) / 127).astype(np.float32)
    steps = np.divide(weight, scale, out=np.zeros(weight.shape), where=scale > 0)
    return np.rint(steps).clip(-127, 127).astype(np.int8), scale


def buffer_sizes(policy: Policy) -> list[int]:
    """Return the sizes of the buffers that policy_q_values needs for the outputs of the layers, in floats.

    Args:
        policy: the policy.
    """
    outputs = [len(block.bias) for block in policy.blocks[: None if policy.support is not None else -1]]
    if policy.has_categories:
        outputs.insert(0, policy.inputs)
    return [max(outputs[first::2]) for first in range(min(2, len(outputs)))]


def stack_size(policy: Policy) -> int:
    """Return an upper bound of the stack that policy_act needs, in bytes.

    Args:
        policy: the policy.
    """
    return 4 * (sum(buffer_sizes(policy)) + len(policy.actions)) + FRAMES


def _header(policy: Policy, name: str) -> str:
    inputs = [f" *   {index}: {_comment(describe(entry))}" for index, entry in enumerate(policy.entries)]
    actions = [f" *   {policy.first_action + index}: {_comment(action)}" for index, action in enumerate(policy.actions)]
    return fill(
        "c/policy.h",
        environment=name,
        inputs="\n".join(inputs),
        actions="\n".join(actions),
        unknown=", or a category does not exist" if policy.has_categories else "",
        stack=str(stack_size(policy)),
        inputs_count=str(len(policy.entries)),
        actions_count=str(len(policy.actions)),
        first_action=_int(policy.first_action),
    )


def _source(policy: Policy, name: str, math: bool, int8: bool) -> str:
    arrays = [text for number, block in enumerate(policy.blocks, 1) for text in _arrays(number, block, int8)]
    if policy.support is not None:
        arrays.append(_array("float", "support", _floats(policy.support), len(policy.support)))
    buffers = [f"{name}[{size}]" for name, size in zip("ab", buffer_sizes(policy), strict=False)]
    return fill(
        "c/policy.c",
        environment=name,
        include="\n#include <math.h>\n" if math else "",
        weights="\n\n".join(arrays),
        helpers="\n".join(_helpers(policy, int8)),
        buffers=f"    float {', '.join(buffers)};\n" if buffers else "",
        layers="\n".join(_layers(policy, int8)),
    )


def _arrays(number: int, block: Block, int8: bool) -> list[str]:
    """Return the definitions of the parameters of a block."""
    inputs, outputs = block.weight.shape
    size = f"{inputs * outputs} /* [{inputs}][{outputs}] */"
    vectors = {"bias": block.bias, "gain": block.gain, "shift": block.shift}
    if int8:
        weight, vectors["scale"] = quantize(block.weight)
        texts = [_array("signed char", f"weight{number}", map(str, weight.ravel().tolist()), size)]
    else:
        texts = [_array("float", f"weight{number}", _floats(block.weight), size)]
    for name, values in vectors.items():
        if values is not None:
            texts.append(_array("float", f"{name}{number}", _floats(values), outputs))
    return texts


def _helpers(policy: Policy, int8: bool) -> list[str]:
    """Return the functions that the policy needs."""
    texts = [fill("c/dense_int8.c" if int8 else "c/dense.c")]
    if any(block.gain is not None for block in policy.blocks):
        texts.append(fill("c/normalize.c", epsilon=f"{LayerNorm.epsilon}f"))
    activations = {block.activation for block in policy.blocks}
    texts += [fill(f"c/{activation}.c") for activation in ("relu", "tanh") if activation in activations]
    if policy.has_categories:
        texts.append(fill("c/one_hot.c"))
    if policy.support is not None:
        texts.append(fill("c/expected.c", atoms=str(len(policy.support))))
    return texts


def _layers(policy: Policy, int8: bool) -> list[str]:
    """Return the statements from the observation to the Q-values. The layers write to the buffers a and b in turn."""
    x, lines, free = "obs", [], "ab"
    if policy.has_categories:
        x, lines, free = "a", ["", *_encode(policy.entries)], "ba"
    for number, block in enumerate(policy.blocks, 1):
        inputs, outputs = block.weight.shape
        last = number == len(policy.blocks) and policy.support is None
        y, free = ("q", free) if last else (free[0], free[::-1])
        scale = f", scale{number}" if int8 else ""
        lines += ["", f"dense({inputs}, {outputs}, {x}, weight{number}{scale}, bias{number}, {y});"]
        if block.gain is not None:
            lines.append(f"normalize({outputs}, gain{number}, shift{number}, {y});")
        if block.activation != "linear":
            lines.append(f"apply_{block.activation}({outputs}, {y});")
        x = y
    if policy.support is not None:
        lines += ["", "for (int i = 0; i < POLICY_ACTIONS; i++)"]
        lines.append(f"    q[i] = expected({x} + {len(policy.support)} * i);")
    return [f"    {line}" if line else "" for line in [*lines, ""]]


def _encode(entries: Iterable[Entry]) -> list[str]:
    lines, offset = [], 0
    for index, entry in enumerate(entries):
        if entry.categories:
            call = (
                f"one_hot(obs[{index}], {_int(entry.start)}, {entry.categories}, a{f' + {offset}' if offset else ''})"
            )
            lines.append(f"invalid += {call};")
        else:
            lines.append(f"a[{offset}] = obs[{index}];")
        offset += entry.categories or 1
    return lines


def _selftest(policy: Policy, golden: Golden) -> str:
    unknown = []
    for index, entry in enumerate(policy.entries):
        if entry.categories:
            values = (entry.low - 1, entry.high + 1, entry.low + 0.5)
            calls = " && ".join(f"refuses({index}, {_float(value)})" for value in values)
            unknown.append(f"    refused = refused && {calls};\n")
    return fill(
        "c/selftest.c",
        count=str(len(golden.obs)),
        tolerance=f"{TOLERANCE:g}f",
        obs=_rows(golden.obs),
        q_values=_rows(golden.q_values),
        action=_wrap(map(str, golden.action.tolist())),
        certain=_wrap(map(str, clear(golden).astype(int).tolist())),
        categories="".join(unknown),
    )


def _rows(values: Array) -> str:
    return "\n".join(f"    {{\n{_wrap(_floats(row))}\n    }}," for row in values)


def _array(kind: str, name: str, values: Iterable[str], size: object) -> str:
    return f"static const {kind} {name}[{size}] = {{\n{_wrap(values)}\n}};"


def _wrap(values: Iterable[str]) -> str:
    """Return numbers as lines of at most ``WIDTH`` characters."""
    lines, line = [], "   "
    for value in values:
        if len(line) + len(value) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {value},"
    return "\n".join([*lines, line])


def _floats(values: Array) -> Iterable[str]:
    return map(_float, values.ravel())


def _float(value: Any) -> str:
    """Return the shortest literal of a float32."""
    return f"{np.float32(value)}f"


def _int(value: int) -> str:
    return f"({value})" if value < 0 else str(value)


def _comment(text: str) -> str:
    """Return text that can be part of a comment in C: it neither ends nor begins one, and has no trigraph."""
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return re.sub(r"\*(?=/)|/(?=\*)|\?(?=\?)", r"\g<0> ", printable)
