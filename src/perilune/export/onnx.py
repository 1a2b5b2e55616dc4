"""Export a policy as an ONNX model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from perilune._utils import extras
from perilune._utils.arrays import Array
from perilune.export.golden import Golden, golden_json
from perilune.export.policy import Block, Policy, encoding
from perilune.export.text import fill, title
from perilune.nn.layers import LayerNorm
from perilune.runs.manifest import version

OPSET = 13  # of 2020: every runtime in use supports it
IR_VERSION = 8  # of 2021
OPERATORS = {"relu": "Relu", "tanh": "Tanh"}


def load_library() -> Any:
    """Return the module ``onnx``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnx  # noqa: PLC0415 -- optional
    except ImportError as error:
        raise extras.missing("ONNX files need onnx", "onnx") from error
    return onnx


def render(policy: Policy, golden: Golden) -> dict[str, str | bytes]:
    """Return the files of the export by name: policy.onnx, selftest.py and golden.json.

    The input of the model is ``obs``, float32 [B, N]. Its outputs are ``q_values``, float32 [B, A], and ``action``,
    int64 [B].

    Args:
        policy: the policy.
        golden: the golden vectors.

    Raises:
        MissingDependencyError: onnx is not installed.
    """
    onnx = load_library()
    graph = _Graph(onnx)
    x, taint = _encode(graph, policy)
    for block in policy.blocks:
        x = _block(graph, block, x)
    if policy.support is not None:
        x = _expect(graph, policy.support, len(policy.actions), x)
    graph.add("Add", x, taint, output="q_values")
    first = graph.add("ArgMax", "q_values", axis=1, keepdims=0)
    graph.add("Add", first, graph.constant(np.int64(policy.first_action)), output="action")
    helper, kinds = onnx.helper, onnx.TensorProto
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [helper.make_tensor_value_info("obs", kinds.FLOAT, ["batch", len(policy.entries)])],
            [
                helper.make_tensor_value_info("q_values", kinds.FLOAT, ["batch", len(policy.actions)]),
                helper.make_tensor_value_info("action", kinds.INT64, ["batch"]),
            ],
            initializer=graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="perilune",
        producer_version=version(),
        doc_string=title(policy),
    )
    helper.set_model_props(
        model,
        {
            "environment": policy.environment,
            "weights_sha256": policy.sha256,
            "observations": json.dumps([entry.name for entry in policy.entries]),
            "actions": json.dumps(policy.actions),
            "first_action": str(policy.first_action),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    selftest = fill(
        "selftest.py.txt",
        file="policy.onnx",
        needs="Python 3, NumPy and onnxruntime",
        imports="import onnxruntime",
        load="""session = onnxruntime.InferenceSession(HERE / "policy.onnx")


def run(obs):
    return session.run(["q_values", "action"], {"obs": obs})

""",
    )
    return {"policy.onnx": model.SerializeToString(), "selftest.py": selftest, "golden.json": golden_json(golden)}


class _Graph:
    """Nodes and constants of a model, whose outputs are numbered."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.float32 = int(onnx.TensorProto.FLOAT)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = output or f"value_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name


def _encode(graph: _Graph, policy: Policy) -> tuple[str, str]:
    """Return the encoded observation [B, O], and [B, 1] with 0 for valid observations and NaN for others."""
    code = encoding(policy.entries)
    zeros = graph.add("Mul", "obs", graph.constant(np.float32(0)))  # NaN where an entry is not finite
    axes = graph.constant(np.array([1], np.int64))
    taint = graph.add("ReduceSum", zeros, axes, keepdims=1)
    if not code.categories:
        return "obs", taint
    entries = graph.add("Gather", "obs", graph.constant(code.index), axis=1)
    one_hot = graph.constant(code.one_hot)
    matches = graph.add("And", graph.add("Equal", entries, graph.constant(code.value)), one_hot)
    numbers = graph.add("Cast", matches, to=graph.float32)
    found = graph.add("ReduceSum", numbers, axes, keepdims=1)
    complete = graph.add("Equal", found, graph.constant(np.float32(code.categories)))
    unknown = graph.add("Where", complete, graph.constant(np.float32(0)), graph.constant(np.float32(np.nan)))
    return graph.add("Where", one_hot, numbers, entries), graph.add("Add", taint, unknown)


def _block(graph: _Graph, block: Block, x: str) -> str:
    """Return the output of a block. Means are products, because fused normalization of runtimes is less precise."""
    x = graph.add("Gemm", x, graph.constant(block.weight), graph.constant(block.bias))
    if block.gain is not None and block.shift is not None:
        mean = graph.constant(np.full((len(block.bias), 1), 1 / len(block.bias), np.float32))
        x = graph.add("Sub", x, graph.add("MatMul", x, mean))
        variance = graph.add("MatMul", graph.add("Mul", x, x), mean)
        s = graph.add("Sqrt", graph.add("Add", variance, graph.constant(np.float32(LayerNorm.epsilon))))
        x = graph.add("Mul", graph.add("Div", x, s), graph.constant(block.gain))
        x = graph.add("Add", x, graph.constant(block.shift))
    return x if block.activation == "linear" else graph.add(OPERATORS[block.activation], x)


def _expect(graph: _Graph, support: Array, actions: int, x: str) -> str:
    """Return the means [B, A] of the distributions whose logits are ``x`` [B, A K] (C51)."""
    shape = graph.constant(np.array([-1, actions, len(support)], np.int64))
    probability = graph.add("Softmax", graph.add("Reshape", x, shape), axis=2)
    means = graph.add("MatMul", probability, graph.constant(support[:, None]))
    return graph.add("Reshape", means, graph.constant(np.array([-1, actions], np.int64)))
