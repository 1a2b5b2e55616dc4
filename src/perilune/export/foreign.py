"""Build an agent from the dense layers of another library, without running code from a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, ExportError, FileFormatError, ShapeError
from perilune.export.onnx import load_library
from perilune.nn.base import Activation
from perilune.runs import files

LARGEST = 2**30  # bytes of a file
PICKLES = (".zip", ".pt", ".pth", ".pkl", ".bin")


class Dense(NamedTuple):
    """One dense layer and its activation: y = activation(x W + b).

    Attributes:
        weight: W, float [inputs, outputs].
        bias: b, float [outputs].
        activation: the activation.
    """

    weight: Array
    bias: Array
    activation: Activation


def from_state_dict(source: str | Path | Mapping[str, Any], env: envs.Env, activation: Activation) -> Agent:
    """Return an agent with the weights of a PyTorch network of dense layers.

    Args:
        source: a .safetensors file whose layers have numbers, or a state dict whose values are arrays or tensors.
        env: the environment, with flattened observations.
        activation: the activation of the hidden layers.

    Raises:
        ExportError: the weights are not those of a sequence of dense layers.
        ShapeError: the network does not fit the environment.
        FileFormatError: the file is damaged.
        RunDirectoryError: the file cannot be read.
    """
    if activation not in ("relu", "tanh"):
        raise ConfigError("activation", activation, "relu or tanh")
    ordered = isinstance(source, Mapping)  # a safetensors file sorts the names
    arrays = _arrays(source if isinstance(source, Mapping) else _read(Path(source)))
    online = {name: array for name, array in arrays.items() if "target" not in name.lower()}
    weights = {name: array for name, array in online.items() if name.endswith(".weight") or name == "weight"}
    if not ordered and len({re.sub(r"\d+", "", name) for name in weights}) > 1:
        raise ExportError(
            f"the names {', '.join(weights)} do not give the order of the layers. Pass the state dict itself, or "
            "rename the layers to net.0, net.1, ..."
        )
    layers = []
    for name in weights if ordered else sorted(weights, key=_natural):
        bias = name.removesuffix("weight") + "bias"
        if weights[name].ndim != 2:
            raise ExportError(f"{name} has the shape {list(weights[name].shape)}: expected dense layers only.")
        width = weights[name].shape[0]
        layers.append(Dense(weights[name].T, online.pop(bias, np.zeros(width)), activation))
        online.pop(name)
    if online:
        raise ExportError(
            f"the state dict contains {', '.join(sorted(online)[:5])}: expected only the weight and bias of dense "
            "layers. Remove the other entries."
        )
    if not layers:
        raise ExportError("the state dict contains no weights: expected names such as q_net.q_net.0.weight.")
    return _agent([*layers[:-1], layers[-1]._replace(activation="linear")], env)


def _read(path: Path) -> Mapping[str, Any]:
    content = files.read(path, LARGEST)
    if path.suffix in PICKLES:
        raise ExportError(
            f"{path} is a pickle, which can run code when it is loaded: expected a .safetensors file. Convert it in "
            'the program that wrote it: safetensors.torch.save_file(model.policy.state_dict(), "policy.safetensors").'
        )
    try:
        found = load_safetensors(content)
    except SafetensorError as error:
        raise FileFormatError(f"{path} is not a safetensors file: {error}") from error
    if any(re.match(r"(\w+\.)?\d+\.(Noisy)?Dense\.", name) for name in found):
        raise ExportError(f"{path} is a file of Perilune. Load it with DQN.load.")
    return found


def _arrays(source: Mapping[str, Any]) -> dict[str, Array]:
    """Return the values of a state dict as arrays."""
    arrays = {}
    for name, value in source.items():
        tensor = value.detach().cpu() if hasattr(value, "detach") else value
        try:
            arrays[str(name)] = np.asarray(tensor, np.float32)
        except (TypeError, ValueError) as error:
            raise ExportError(f"{name} is {type(value).__name__}: expected an array of numbers.") from error
    return arrays


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts net.10 after net.2."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def from_onnx(path: Path, env: envs.Env) -> Agent:
    """Return an agent with the weights of an ONNX model of dense layers, ReLU and tanh.

    Args:
        path: the .onnx file.
        env: the environment, with flattened observations.

    Raises:
        ExportError: the model has other operators, or is damaged.
        ShapeError: the network does not fit the environment.
        RunDirectoryError: the file cannot be read.
        MissingDependencyError: onnx is not installed.
    """
    onnx = load_library()
    files.read(path, LARGEST)  # reports a missing file, a link and a file that is too large
    try:
        model = onnx.load(path)  # also weights in another file of the directory, as PyTorch writes them
        onnx.checker.check_model(model)
    except Exception as error:  # onnx and protobuf have many exceptions without a common base
        raise ExportError(f"{path} is not a valid ONNX model: {envs.safe_str(error)}") from error
    if model.producer_name == "perilune":
        raise ExportError(f"{path} is an export of Perilune: load the run or .safetensors file from which it was made.")
    return _agent(_onnx_layers(onnx, model.graph), env)


PASSED = ("Identity", "Flatten", "Cast", "Dropout")  # operators that do not change the numbers of an observation
END = ("ArgMax",)  # operators after the Q-values


def _onnx_layers(onnx: Any, graph: Any) -> list[Dense]:
    """Return the dense layers from the input of a model to its Q-values."""
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    inputs = [each.name for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        raise ExportError(f"the model has the inputs {', '.join(inputs) or 'none'}: expected one.")
    current, layers, ended = inputs[0], [], False
    for node in graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(attributes["value"])
            continue
        if ended or node.op_type in END:
            ended = True
            continue
        fixed = [constants[name] for name in node.input if name in constants]
        if current not in node.input:
            raise _unsupported(node)
        match node.op_type, fixed:
            case "Gemm", [weight, *bias] if node.input[0] == current:
                scale = {name: attributes.get(name, 1.0) for name in ("alpha", "beta")}
                weight = (weight.T if attributes.get("transB") else weight) * scale["alpha"]
                layers.append(Dense(weight, bias[0] * scale["beta"] if bias else np.zeros(weight.shape[1]), "linear"))
            case "MatMul", [weight] if node.input[0] == current:
                layers.append(Dense(weight, np.zeros(weight.shape[1]), "linear"))
            case "Add", [bias] if layers and layers[-1].activation == "linear":
                layers[-1] = layers[-1]._replace(bias=layers[-1].bias + bias)
            case (("Relu" | "Tanh"), []) if layers:
                layers[-1] = layers[-1]._replace(activation="relu" if node.op_type == "Relu" else "tanh")
            case operator, _ if operator in PASSED:
                pass
            case _:
                raise _unsupported(node)
        current = node.output[0]
    return layers


def _unsupported(node: Any) -> ExportError:
    name = f" {node.name!r}" if node.name else ""
    return ExportError(
        f"the model has the node{name} with the operator {node.op_type}: expected a sequence of dense layers (Gemm, or "
        "MatMul and Add), Relu and Tanh."
    )


def _agent(layers: list[Dense], env: envs.Env) -> Agent:
    """Return an agent whose networks have these layers.

    Raises:
        ExportError: the layers do not fit each other, the last one has an activation, or a weight is not finite.
        ShapeError: the network does not fit the environment.
    """
    if len(layers) < 2 or layers[-1].activation != "linear":
        raise ExportError("the network must have a hidden layer, and end with a dense layer without an activation.")
    shapes = [layer.weight.shape for layer in layers]
    fits = all(before[1] == after[0] for before, after in pairwise(shapes))
    if not fits or any(layer.bias.shape != (layer.weight.shape[1],) for layer in layers):
        raise ExportError(f"the layers do not fit together: their (inputs, outputs) are {_list(shapes)}.")
    sizes = envs.space_sizes(env)
    if (shapes[0][0], shapes[-1][1]) != (sizes.observation_size, sizes.actions):
        raise ShapeError(
            f"the network has {shapes[0][0]} inputs and {shapes[-1][1]} outputs, but {envs.name(env)} has observations "
            f"of size {sizes.observation_size} and {sizes.actions} actions. Pass the environment in which it was "
            "trained."
        )
    if not all(np.isfinite(array).all() for layer in layers for array in (layer.weight, layer.bias)):
        raise ExportError("some weights are NaN or infinite. Training may have diverged.")
    hidden = tuple((layer.weight.shape[1], layer.activation) for layer in layers[:-1])
    agent = Agent(sizes.observation_size, sizes.actions, DQNConfig(hidden=hidden, layer_norm=False), seed=0)
    named = list(agent.online.named_parameters().values())
    for layer, weight, bias in zip(layers, named[::2], named[1::2], strict=True):
        weight[...], bias[...] = layer.weight, layer.bias
    agent.target.parameters[:] = agent.online.parameters
    return agent


def _list(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join(str(shape) for shape in shapes)
