"""contract.json: inputs, outputs and origin of an exported policy."""

from __future__ import annotations

import math
from typing import Literal

import gymnasium
import msgspec

from perilune import envs
from perilune._utils.validation import Count, Natural
from perilune.export.policy import Entry, Policy
from perilune.runs.manifest import version
from perilune.runs.pretrained import Score

FORMAT: Literal["perilune policy 1"] = "perilune policy 1"
INVALID = (
    "If a number of the observation is NaN or infinite, or a category does not exist, all Q-values are NaN and the "
    "action is the first one. For magnitudes above 1e6, float32 may overflow."
)
LICENSE = (
    "You may use the exported code without restriction. The license of the weights is your choice. If demo.html "
    "contains planck.js (MIT license), keep its notice."
)


class Number(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One number of an observation.

    Attributes:
        name: its name.
        low: its smallest value, or null if there is no limit.
        high: its largest value, or null if there is no limit.
        encoding: "number", or "category", which the policy encodes as one-hot itself.
    """

    name: str
    low: float | None
    high: float | None
    encoding: Literal["number", "category"]


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action.

    Attributes:
        value: the number that the environment takes.
        name: its name.
    """

    value: int
    name: str


class Tensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input or output of the policy.

    Attributes:
        name: its name.
        dtype: its type.
        shape: its shape. "batch" is any number of rows; the C and JavaScript exports take one row at a time.
    """

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[Count | Literal["batch"], ...]


class LayerSummary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One layer of the exported network.

    Attributes:
        units: number of outputs.
        normalization: whether layer normalization follows the dense layer.
        activation: the activation.
    """

    units: Count
    normalization: bool
    activation: Literal["relu", "tanh", "linear"]


class Int8Score(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Returns with 8-bit weights, in the episodes of ``score``.

    Attributes:
        mean: mean return.
        difference: mean return minus that of the agent.
        standard_error: standard error of the difference, from the differences of episodes with the same start state, or
            null for a single episode.
    """

    mean: float
    difference: float
    standard_error: float | None


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of contract.json.

    Attributes:
        format: "perilune policy 1".
        target: the kind of export.
        perilune: version of Perilune that wrote the export.
        gymnasium: version of Gymnasium.
        environment: ID of the environment.
        environment_description: the environment with its arguments, wrappers and spaces, as text.
        inputs: the inputs.
        outputs: the outputs.
        observation: the numbers of an observation, in order.
        actions: the actions, in the order of the Q-values.
        invalid_observation: what the policy returns for an invalid observation.
        layers: the exported network. All linear steps after the last activation are one layer.
        atoms: for C51, the number of outputs per action, whose mean is the Q-value; else null.
        parameters: number of weights.
        precision: type of the weights.
        weights_sha256: SHA-256 of the weights of the agent's policy network.
        seed: seed of the training run.
        env_steps: environment steps of the training run.
        score: returns of the agent in greedy episodes, or null if it was not measured.
        int8_score: returns with 8-bit weights, or null.
        files: SHA-256 of the other files of the export.
        license: the conditions of use.
    """

    format: Literal["perilune policy 1"] = FORMAT
    target: Literal["onnx", "c", "js", "python"]
    perilune: str
    gymnasium: str
    environment: str
    environment_description: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    observation: tuple[Number, ...]
    actions: tuple[Action, ...]
    invalid_observation: str = INVALID
    layers: tuple[LayerSummary, ...]
    atoms: Count | None
    parameters: Count
    precision: Literal["float32", "int8"]
    weights_sha256: str
    seed: Natural
    env_steps: Natural
    score: Score | None
    int8_score: Int8Score | None
    files: dict[str, str]
    license: str = LICENSE


def contract(
    policy: Policy,
    env: envs.Env,
    *,
    target: Literal["onnx", "c", "js", "python"],
    precision: Literal["float32", "int8"],
    seed: int,
    env_steps: int,
    score: Score | None,
    int8_score: Int8Score | None,
    files: dict[str, str],
) -> Contract:
    """Return the contract of an export.

    Args:
        policy: the policy.
        env: its environment.
        target: the kind of export.
        precision: type of the weights.
        seed: seed of the agent.
        env_steps: environment steps of the agent.
        score: returns of the agent, or None.
        int8_score: returns with 8-bit weights, or None.
        files: SHA-256 of the other files of the export.
    """
    return Contract(
        target=target,
        perilune=version(),
        gymnasium=gymnasium.__version__,
        environment=policy.environment,
        environment_description=envs.description(env),
        inputs=(Tensor(name="obs", dtype="float32", shape=("batch", len(policy.entries))),),
        outputs=(
            Tensor(name="q_values", dtype="float32", shape=("batch", len(policy.actions))),
            Tensor(name="action", dtype="int64", shape=("batch",)),
        ),
        observation=tuple(map(_number, policy.entries)),
        actions=tuple(Action(value=policy.first_action + i, name=name) for i, name in enumerate(policy.actions)),
        layers=tuple(
            LayerSummary(units=len(each.bias), normalization=each.gain is not None, activation=each.activation)
            for each in policy.blocks
        ),
        atoms=None if policy.support is None else len(policy.support),
        parameters=policy.parameters,
        precision=precision,
        weights_sha256=policy.sha256,
        seed=seed,
        env_steps=env_steps,
        score=score,
        int8_score=int8_score,
        files=files,
    )


def _number(entry: Entry) -> Number:
    return Number(
        name=entry.name,
        low=entry.low if math.isfinite(entry.low) else None,
        high=entry.high if math.isfinite(entry.high) else None,
        encoding="category" if entry.categories else "number",
    )
