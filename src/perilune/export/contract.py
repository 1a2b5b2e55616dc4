"""contract.json: what an exported policy takes, what it returns, and where it comes from."""

from __future__ import annotations

import math
from typing import Literal

import gymnasium
import msgspec

from perilune._utils.validation import Count, Natural
from perilune.export.policy import Entry, Policy
from perilune.runs.manifest import version
from perilune.runs.pretrained import Score

FORMAT: Literal["perilune policy 1"] = "perilune policy 1"
INVALID = (
    "If a number of the observation is NaN or infinite, or a category does not exist, all Q-values are NaN and the "
    "action is the first one. For magnitudes above 1e6, float32 may overflow."
)
LICENSE = "You may use the exported code without restriction. The license of the weights is your choice."


class Number(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One number of an observation.

    Attributes:
        name: its name.
        low: its smallest value, or null if there is no limit.
        high: its largest value, or null if there is no limit.
        encoding: "number", or "one-hot" for a category, which the policy encodes itself.
    """

    name: str
    low: float | None
    high: float | None
    encoding: Literal["number", "one-hot"]


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action.

    Attributes:
        value: the number that the environment takes.
        name: its name.
    """

    value: int
    name: str


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


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of contract.json.

    Attributes:
        format: "perilune policy 1".
        target: the kind of export.
        perilune: version of Perilune that wrote the export.
        gymnasium: version of Gymnasium.
        environment: ID of the environment.
        observation: the numbers of an observation, in order. The input is float32 [batch, N].
        actions: the actions, in the order of the Q-values. The output ``q_values`` is float32 [batch, A].
        invalid_observation: the answer for observations that are not valid.
        layers: the exported network. All linear steps after the last activation are one layer.
        atoms: for C51, the number of outputs per action, whose mean is the Q-value; else null.
        parameters: number of weights.
        precision: type of the weights.
        weights_sha256: SHA-256 of the weights of the agent's policy network.
        seed: seed of the training run.
        env_steps: environment steps of the training run.
        score: returns of the agent in greedy episodes, or null if it was not measured.
        exported_score: the same for weights of reduced precision; else null.
        files: SHA-256 of the other files of the export.
        license: the conditions of use.
    """

    format: Literal["perilune policy 1"] = FORMAT
    target: Literal["onnx", "c", "js", "python"]
    perilune: str
    gymnasium: str
    environment: str
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
    exported_score: Score | None
    files: dict[str, str]
    license: str = LICENSE


def contract(
    policy: Policy,
    *,
    target: Literal["onnx", "c", "js", "python"],
    precision: Literal["float32", "int8"],
    seed: int,
    env_steps: int,
    score: Score | None,
    exported_score: Score | None,
    files: dict[str, str],
) -> Contract:
    """Return the contract of an export.

    Args:
        policy: the policy.
        target: the kind of export.
        precision: type of the weights.
        seed: seed of the agent.
        env_steps: environment steps of the agent.
        score: returns of the agent, or None.
        exported_score: returns of the policy with reduced precision, or None.
        files: SHA-256 of the other files of the export.
    """
    return Contract(
        target=target,
        perilune=version(),
        gymnasium=gymnasium.__version__,
        environment=policy.environment,
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
        exported_score=exported_score,
        files=files,
    )


def _number(entry: Entry) -> Number:
    return Number(
        name=entry.name,
        low=entry.low if math.isfinite(entry.low) else None,
        high=entry.high if math.isfinite(entry.high) else None,
        encoding="one-hot" if entry.categories else "number",
    )
