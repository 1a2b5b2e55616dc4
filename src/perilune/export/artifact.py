"""Play an exported policy: an ONNX model, or the Python file of an export."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from perilune import envs
from perilune._utils import extras
from perilune._utils.arrays import Array
from perilune.errors import ExportError
from perilune.export.contract import Contract
from perilune.export.policy import observation_entries, unencoded
from perilune.export.write import CONTRACT, read_contract

SUFFIXES = (".onnx", ".py")


def find_artifact(source: Path) -> Path | None:
    """Return the file of an exported policy that can be played, or None if ``source`` is not an export.

    A directory never selects a Python file, because opening a directory of another person must not run code.

    Args:
        source: an ONNX or Python file, or the directory of an export.

    Raises:
        ExportError: ``source`` is the directory of an export that Perilune does not play.
        FileFormatError: its contract.json is damaged.
    """
    if source.is_file() and source.suffix in SUFFIXES:
        return source
    if not (source / CONTRACT).is_file():
        return None
    match read_contract(source).target:
        case "onnx":
            return source / "policy.onnx"
        case "python":
            raise ExportError(
                f"{source} is a Python export, and evaluating it runs its code. If you trust it, pass "
                f"{source / 'policy.py'}."
            )
        case target:
            raise ExportError(
                f"{source} is an export as {target}, which Perilune cannot play: expected onnx or python. "
                "Run its self-test instead."
            )


def contract_of(file: Path) -> Contract | None:
    """Return the contract beside an exported file, or None if there is none.

    Args:
        file: the file.
    """
    return read_contract(file.parent) if (file.parent / CONTRACT).is_file() else None


def load_policy(file: Path, env: envs.Env) -> Callable[[Array], int]:
    """Return a function from a flattened observation [O] to the index of the action of an exported policy.

    A Python file is imported, which runs its code.

    Args:
        file: the ONNX or Python file.
        env: the environment, with flattened observations.

    Raises:
        ExportError: the file is not an exported policy, or does not fit the environment.
        MissingDependencyError: onnxruntime is not installed.
    """
    entries, sizes = observation_entries(env), envs.space_sizes(env)
    run = _onnx(file) if file.suffix == ".onnx" else _python(file)

    def act(obs: Array) -> int:
        try:
            action = run(unencoded(entries, obs[None]))
        except Exception as error:  # a runtime may raise anything
            raise ExportError(
                f"{file} failed for an observation with {len(entries)} numbers: {envs.safe_str(error)} Pass the "
                "environment in which the agent was trained with --env."
            ) from error
        index = action - sizes.first_action
        if not 0 <= index < sizes.actions:
            raise ExportError(f"{file} returned the action {action}, which {envs.name(env)} does not have.")
        return index

    return act


def _onnx(file: Path) -> Callable[[Array], int]:
    try:
        import onnxruntime  # noqa: PLC0415 -- optional
    except ImportError as error:
        raise extras.missing("evaluating an ONNX file needs onnxruntime", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(file, options)
    except Exception as error:  # onnxruntime has many exceptions without a common base
        raise ExportError(f"{file} is not a valid ONNX model: {envs.safe_str(error)}") from error
    inputs, outputs = ([each.name for each in found] for found in (session.get_inputs(), session.get_outputs()))
    if len(inputs) != 1 or not {"action", "q_values"} & set(outputs):
        raise ExportError(
            f"{file} has the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}: expected one input, and "
            "an output action or q_values."
        )
    wanted = "action" if "action" in outputs else "q_values"

    def run(obs: Array) -> int:
        (found,) = session.run([wanted], {inputs[0]: obs})
        return int(np.ravel(found)[0] if wanted == "action" else np.argmax(found))

    return run


def _python(file: Path) -> Callable[[Array], int]:
    spec = importlib.util.spec_from_file_location("exported_policy", file)
    if spec is None or spec.loader is None:
        raise ExportError(f"{file} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        policy = module.Policy()
    except Exception as error:  # the file may raise anything
        raise ExportError(f"{file} is not a Python export: {type(error).__name__}: {envs.safe_str(error)}") from error
    return lambda obs: int(policy.act(obs[0]))
