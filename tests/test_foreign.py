"""Weights of other libraries become an agent: state dicts and ONNX models of dense layers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from perilune import DQN
from perilune._utils.arrays import Array, Arrays
from perilune.errors import ConfigError, ExportError, FileFormatError, PeriluneError, RunDirectoryError, ShapeError

OBS = np.random.default_rng(1).normal(0, 1, (50, 4)).astype(np.float32)


def layers(*widths: int) -> list[tuple[Array, Array]]:
    """Return the weights [outputs, inputs] and biases of dense layers, as PyTorch stores them."""
    generator = np.random.default_rng(0)
    return [
        (generator.normal(0, 1, (out, into)).astype(np.float32), generator.normal(0, 1, out).astype(np.float32))
        for into, out in itertools.pairwise(widths)
    ]


def forward(made: list[tuple[Array, Array]], activation: Any = lambda x: np.maximum(x, 0)) -> Array:
    x = OBS
    for weight, bias in made[:-1]:
        x = activation(x @ weight.T + bias)
    return x @ made[-1][0].T + made[-1][1]


def state(names: str, made: list[tuple[Array, Array]]) -> Arrays:
    found = {}
    for index, (weight, bias) in enumerate(made):
        prefix = names.format(2 * index)
        found |= {f"{prefix}.weight": weight, f"{prefix}.bias": bias}
    return found


# State dicts


@pytest.mark.parametrize("names", ["q_net.q_net.{}", "network.{}", "{}"])
def test_state_dict_becomes_an_agent(names: str) -> None:
    made = layers(4, 16, 8, 2)
    agent = DQN.from_state_dict(state(names, made), "CartPole-v1")
    np.testing.assert_allclose(agent.q_values(OBS), forward(made), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(agent.agent.target.parameters, agent.agent.online.parameters)
    assert agent.config.hidden == ((16, "relu"), (8, "relu"))


def test_target_network_and_activation_of_a_stable_baselines3_policy() -> None:
    made = layers(4, 6, 2)
    both = state("q_net.q_net.{}", made) | state("q_net_target.q_net.{}", layers(4, 6, 2)[::1])
    both["q_net_target.q_net.0.weight"] = made[0][0] + 1
    agent = DQN.from_state_dict(both, "CartPole-v1", activation="tanh")
    np.testing.assert_allclose(agent.q_values(OBS), forward(made, np.tanh), rtol=1e-5, atol=1e-5)


def test_layers_follow_the_order_of_the_dict_and_not_of_their_names(tmp_path: Path) -> None:
    made = layers(4, 4, 4, 2)
    content = {}
    for name, (weight, bias) in zip(("input", "hidden", "output"), made, strict=True):
        content |= {f"{name}.weight": weight, f"{name}.bias": bias}
    agent = DQN.from_state_dict(content, "CartPole-v1")
    np.testing.assert_allclose(agent.q_values(OBS), forward(made), rtol=1e-4, atol=1e-4)
    save_file(content, tmp_path / "net.safetensors")  # which sorts the names
    with pytest.raises(ExportError, match="do not give the order of the layers"):
        DQN.from_state_dict(tmp_path / "net.safetensors", "CartPole-v1")


def test_own_weights_file_points_to_load(tmp_path: Path) -> None:
    path = DQN("CartPole-v1").save(tmp_path / "agent")
    with pytest.raises(ExportError, match=r"is a file of Perilune\. Load it with DQN\.load\."):
        DQN.from_state_dict(path, "CartPole-v1")


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(ConfigError, match="activation='gelu' is invalid: expected relu or tanh"):
        DQN.from_state_dict(state("{}", layers(4, 3, 2)), "CartPole-v1", activation="gelu")  # type: ignore[arg-type]


def test_layer_10_follows_layer_8(tmp_path: Path) -> None:
    made = layers(4, 3, 3, 3, 3, 3, 2)  # sorted as text, net.10 would come before net.2
    save_file(state("net.{}", made), tmp_path / "net.safetensors")
    agent = DQN.from_state_dict(tmp_path / "net.safetensors", "CartPole-v1")
    np.testing.assert_allclose(agent.q_values(OBS), forward(made), rtol=1e-4, atol=1e-4)


def test_safetensors_file_becomes_an_agent_that_can_be_saved_trained_and_exported(tmp_path: Path) -> None:
    made = layers(4, 16, 2)
    save_file(state("q_net.q_net.{}", made), tmp_path / "policy.safetensors")
    agent = DQN.from_state_dict(tmp_path / "policy.safetensors", "CartPole-v1")
    loaded = DQN.load(agent.save(tmp_path / "agent"))
    np.testing.assert_array_equal(loaded.q_values(OBS), agent.q_values(OBS))
    assert (agent.export("onnx", tmp_path / "out", episodes=1) / "policy.onnx").exists()
    assert agent.train(steps=1_200, eval_episodes=1, quiet=True).lengths


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.clear(), "contains no weights"),
        (lambda d: d.update({"conv.weight": np.zeros((2, 3, 4, 4))}), r"has the shape \[2, 3, 4, 4\]: expected dense"),
        (lambda d: d.update({"norm.gain": np.zeros(3)}), "the state dict contains norm.gain"),
        (lambda d: d.update({"0.weight": np.zeros((16, 4)), "0.bias": np.zeros(9)}), "do not fit together"),
        (lambda d: d.update({"2.weight": np.zeros((2, 5))}), r"are \(4, 16\), \(5, 2\)"),
        (lambda d: d.update({"0.weight": "text"}), "0.weight is str: expected an array of numbers"),
    ],
)
def test_other_state_dicts_are_refused(change: Any, message: str) -> None:
    content: dict[str, Any] = state("{}", layers(4, 16, 2))
    change(content)
    with pytest.raises(ExportError, match=message):
        DQN.from_state_dict(content, "CartPole-v1")


def test_network_of_another_environment_is_refused() -> None:
    with pytest.raises(ShapeError, match="has 4 inputs and 2 outputs, but LunarLander-v3 has observations of size 8"):
        DQN.from_state_dict(state("{}", layers(4, 16, 2)), "LunarLander-v3")


def test_weights_that_are_not_finite_are_refused() -> None:
    made = layers(4, 16, 2)
    made[0][0][2, 1] = np.inf
    with pytest.raises(ExportError, match="some weights are NaN or infinite"):
        DQN.from_state_dict(state("{}", made), "CartPole-v1")


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "policy.pth"
    path.write_bytes(b"would run code")
    with pytest.raises(
        ExportError, match=r"is a pickle, which can run code when it is loaded: expected a \.safetensors file"
    ):
        DQN.from_state_dict(path, "CartPole-v1")


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    for load in (DQN.from_state_dict, DQN.from_onnx):
        with pytest.raises(RunDirectoryError):
            load(path, "CartPole-v1")
    path.write_bytes(b"damaged")
    with pytest.raises(FileFormatError, match="is not a safetensors file"):
        DQN.from_state_dict(path, "CartPole-v1")
    with pytest.raises(ExportError, match="is not a valid ONNX model"):
        DQN.from_onnx(path, "CartPole-v1")


# ONNX


def model(path: Path, nodes: list[Any], constants: Arrays, outputs: int = 2) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", outputs])],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def test_onnx_model_of_gemm_and_relu_becomes_an_agent(tmp_path: Path) -> None:
    made = layers(4, 16, 2)
    nodes = [
        node("Flatten", "input", "flat"),
        node("Gemm", "flat w0 b0", "a", transB=1),
        node("Relu", "a", "b"),
        node("Gemm", "b w1 b1", "out", transB=1),
    ]
    constants = {"w0": made[0][0], "b0": made[0][1], "w1": made[1][0], "b1": made[1][1]}
    agent = DQN.from_onnx(model(tmp_path / "net.onnx", nodes, constants), "CartPole-v1")
    np.testing.assert_allclose(agent.q_values(OBS), forward(made), rtol=1e-5, atol=1e-5)


def test_onnx_model_of_matmul_add_and_tanh_becomes_an_agent(tmp_path: Path) -> None:
    made = layers(4, 5, 5, 2)
    nodes, name = [], "input"
    for index in range(3):
        nodes += [node("MatMul", f"{name} w{index}", f"m{index}")]
        # The bias may be the first or the second input.
        nodes += [node("Add", [f"m{index} b{index}", f"b{index} m{index}"][index % 2], f"a{index}")]
        nodes += [node("Tanh", f"a{index}", f"t{index}")] if index < 2 else []
        name = f"t{index}"
    nodes.append(node("Identity", "a2", "out"))
    constants = {f"w{i}": weight.T.copy() for i, (weight, _) in enumerate(made)}
    constants |= {f"b{i}": bias for i, (_, bias) in enumerate(made)}
    agent = DQN.from_onnx(model(tmp_path / "net.onnx", nodes, constants), "CartPole-v1")
    np.testing.assert_allclose(agent.q_values(OBS), forward(made, np.tanh), rtol=1e-5, atol=1e-5)


def test_operators_after_the_q_values_are_ignored(tmp_path: Path) -> None:
    ((weight, bias),) = layers(4, 2)
    hidden = np.eye(4, dtype=np.float32)
    nodes = [
        node("MatMul", "input h", "x"),
        node("Relu", "x", "r"),
        node("Gemm", "r w b", "out", transB=1, alpha=2.0, beta=0.5),
        node("ArgMax", "out", "action", axis=1),
    ]
    path = model(tmp_path / "net.onnx", nodes, {"h": hidden, "w": weight, "b": bias})
    agent = DQN.from_onnx(path, "CartPole-v1")
    expected = 2 * np.maximum(OBS, 0) @ weight.T + bias / 2
    np.testing.assert_allclose(agent.q_values(OBS), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Sigmoid", "input", "s"), node("MatMul", "s w", "out")], "with the operator Sigmoid: expected a seq"),
        (
            [node("MatMul", "input w", "y"), node("Relu", "y", "out")],
            "and end with a dense layer without an activation",
        ),
        ([node("MatMul", "input w", "y"), node("Add", "y y", "out")], "with the operator Add"),
        ([node("MatMul", "input w", "y"), node("MatMul", "input w", "out")], "with the operator MatMul"),
    ],
)
def test_other_onnx_models_are_refused(nodes: list[Any], message: str, tmp_path: Path) -> None:
    path = model(tmp_path / "net.onnx", nodes, {"w": np.ones((4, 2), np.float32)})
    with pytest.raises(ExportError, match=message):
        DQN.from_onnx(path, "CartPole-v1")


def test_weights_in_another_file_of_the_directory_are_read(tmp_path: Path) -> None:
    ((weight, _),) = layers(4, 2)
    nodes = [node("MatMul", "input h", "x"), node("MatMul", "x w", "out")]
    path = model(tmp_path / "net.onnx", nodes, {"h": np.eye(4, dtype=np.float32), "w": weight.T.copy()})
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    np.testing.assert_allclose(DQN.from_onnx(path, "CartPole-v1").q_values(OBS), OBS @ weight.T, rtol=1e-5, atol=1e-5)
    (tmp_path / "net.onnx.data").rename(tmp_path / "other.data")
    with pytest.raises(ExportError, match="is not a valid ONNX model"):
        DQN.from_onnx(path, "CartPole-v1")


def test_own_export_points_to_the_weights_file(tmp_path: Path) -> None:
    out = DQN("CartPole-v1", None).export("onnx", tmp_path / "out", episodes=0)
    with pytest.raises(PeriluneError, match=r"load the run or \.safetensors file from which it was made"):
        DQN.from_onnx(out / "policy.onnx", "CartPole-v1")
