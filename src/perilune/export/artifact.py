"""Play an exported policy: an ONNX model, or the Python file of an export."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from perilune import envs
from perilune._utils import extras
from perilune._utils.arrays import Array
from perilune.errors import ExportError, RunDirectoryError
from perilune.export.contract import Contract
from perilune.export.policy import observation_entries, unencoded
from perilune.export.write import CONTRACT, next_command, read_contract
from perilune.runs import files

SUFFIXES = (".onnx", ".py")
LARGEST = 2**30  # bytes of a file
WRONG_ENV = "Pass the environment in which the agent was trained with --env."


def find_artifact(source: Path) -> Path | None:
    """Return the file of an exported policy that can be played, or None if ``source`` is not an export.

    A directory never selects a Python file, because evaluating someone else's directory must not run code.

    Args:
        source: an ONNX or Python file, or the directory of an export.

    Raises:
        ExportError: ``source`` is the directory of an export that Perilune does not play.
        FileFormatError: its contract.json is damaged.
    """
    if source.suffix in SUFFIXES and not source.is_dir():
        return _existing(source)
    if not (source / CONTRACT).is_file():
        return None
    match read_contract(source).target:
        case "onnx":
            return _existing(source / "policy.onnx")
        case "python":
            raise ExportError(
                f"{source} is a Python export, and evaluating it runs its code. If you trust it, pass "
                f"{source / 'policy.py'}."
            )
        case target:
            raise ExportError(
                f"{source} is an export with the target {target}, which Perilune cannot play: expected onnx or python. "
                f"To check it, run: {next_command(target, source)}"
            )


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise RunDirectoryError(f"{file} does not exist. Pass an exported file, or export the agent again.")
    return file


def contract_of(file: Path) -> Contract | None:
    """Return the contract beside an exported file, or None if there is none.

    Args:
        file: the file.

    Raises:
        ExportError: the file is not the one that the export wrote.
        FileFormatError: the contract is damaged.
    """
    if not (file.parent / CONTRACT).is_file():
        return None
    contract = read_contract(file.parent)
    if contract.files.get(file.name) != hashlib.sha256(files.read(file, LARGEST)).hexdigest():
        raise ExportError(
            f"{file} is not the file that the export wrote: its SHA-256 is not in {CONTRACT}. Export the agent again, "
            "or move the file to another directory and pass --env."
        )
    return contract


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
    run = _onnx(file, len(entries)) if file.suffix == ".onnx" else _python(file)

    def act(obs: Array) -> int:
        try:
            action = run(unencoded(entries, obs[None]))
        except Exception as error:  # a runtime may raise anything
            raise ExportError(f"{file} failed for an observation: {envs.safe_str(error)}. {WRONG_ENV}") from error
        index = action - sizes.first_action
        if not 0 <= index < sizes.actions:
            raise ExportError(f"{file} returned the action {action}, which {envs.name(env)} does not have.")
        return index

    return act


def _onnx(file: Path, size: int) -> Callable[[Array], int]:
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
    inputs = [each.name for each in session.get_inputs()]
    outputs = {each.name: each.type for each in session.get_outputs()}
    actions = outputs.get("action") in ("tensor(int64)", "tensor(int32)")
    if len(inputs) != 1 or not (actions or "q_values" in outputs):
        raise ExportError(
            f"{file} has the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}: expected one input, and "
            "an output action (integers) or q_values."
        )
    width = session.get_inputs()[0].shape[-1]
    if isinstance(width, int) and width != size:
        raise ExportError(f"{file} takes {width} numbers, but an observation has {size}. {WRONG_ENV}")
    wanted = "action" if actions else "q_values"

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
