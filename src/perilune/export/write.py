"""Write an export: the files of the target, golden vectors with a self-test, and contract.json."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast, get_args

import msgspec
import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.text import quoted, suggestion
from perilune._utils.validation import Natural, check_value
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError
from perilune.export import c, javascript, onnx, python
from perilune.export.contract import FORMAT, Contract, Int8Score, contract
from perilune.export.golden import golden_vectors
from perilune.export.policy import Policy, from_agent, q_values, unencoded
from perilune.runs import files
from perilune.runs.pretrained import Score
from perilune.training.evaluation import Evaluation, evaluate

Target = Literal["onnx", "c", "js", "python"]
TARGETS: tuple[str, ...] = get_args(Target)
CONTRACT = "contract.json"
BY_PRODUCTS = {"selftest", "selftest.exe", "__pycache__", ".DS_Store"}  # of the self-tests, and of a file manager
SELFTESTS = {
    "onnx": "python selftest.py",
    "c": "make test",
    "js": "node selftest.mjs",
    "python": "python selftest.py",
}
"""The command that checks an export, in its directory."""


def export_agent(
    agent: Agent,
    env: envs.Env,
    target: str,
    out: Path,
    *,
    int8: bool = False,
    episodes: int = 100,
    max_episode_steps: int | None = None,
    overwrite: bool = False,
    tell: Callable[[int, int], object] | None = None,
) -> Contract:
    """Export the greedy policy of an agent.

    Args:
        agent: the agent.
        env: its environment, with flattened observations. It is reset.
        target: "onnx", "c", "js" or "python".
        out: directory to write.
        int8: store the weights of the C export as 8-bit integers.
        episodes: greedy episodes for the score in contract.json (>= 0).
        max_episode_steps: step limit of these episodes, by default that of the environment.
        overwrite: replace an earlier export in ``out``.
        tell: function that is called after each episode with the number of played and of all episodes.

    Returns:
        The content of contract.json.

    Raises:
        ConfigError: ``target`` does not exist, or does not support ``int8``, or ``episodes`` is negative.
        ExportError: the agent cannot be exported.
        RunDirectoryError: ``out`` contains other files, or cannot be written.
        FileFormatError: ``out`` contains a link or a damaged contract.json.
        MissingDependencyError: onnx is not installed.
        EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface.
    """
    if target not in TARGETS:
        hint = suggestion(str(target), TARGETS)
        raise ConfigError("target", target, f"one of {', '.join(TARGETS)}. {hint}".rstrip())
    if check_value("int8", int8, bool) and target != "c":
        raise ConfigError("int8", True, f"False for the target {target}, because only C supports 8-bit weights")
    episodes = check_value("episodes", episodes, Natural)
    if target == "onnx":
        onnx.load_library()
    earlier = _earlier_files(out, overwrite)
    policy = from_agent(agent, env)
    _create(out)
    golden = golden_vectors(agent, env, policy)
    match target:
        case "onnx":
            content = onnx.render(policy, golden)
        case "c":
            content = {**c.render(policy, golden, int8=int8)}
        case "js":
            content = {**javascript.render(policy, golden)}
        case _:
            content = {**python.render(policy, golden)}
    options: dict[str, Any] = {"max_episode_steps": max_episode_steps, "tell": tell}
    score = int8_score = None
    if episodes:
        result = evaluate(agent.greedy_action, env, episodes, **options)
        score = Score.of(result)
        if int8:
            reduced = c.quantized(policy)
            int8_score = _int8_score(result, evaluate(lambda obs: _index(reduced, obs), env, episodes, **options))
    encoded = {name: each.encode() if isinstance(each, str) else each for name, each in content.items()}
    made = contract(
        policy,
        env,
        target=cast(Target, target),
        precision="int8" if int8 else "float32",
        seed=agent.seed,
        env_steps=agent.env_steps,
        score=score,
        int8_score=int8_score,
        files={name: hashlib.sha256(each).hexdigest() for name, each in encoded.items()},
    )
    _write(out, encoded, made, earlier)
    return made


def _earlier_files(out: Path, overwrite: bool) -> set[str]:
    """Return the files of an earlier export in ``out``. Raise RunDirectoryError if some may not be replaced."""
    with files.reported("read", out):
        if not out.exists():
            return set()
        if not out.is_dir():
            raise RunDirectoryError(f"{out} is a file: expected a directory to write. Pass another --out.")
        found = {path.name for path in out.iterdir()} - BY_PRODUCTS
    if not found:
        return set()
    earlier = {CONTRACT, *read_contract(out).files} if CONTRACT in found else set()
    if others := sorted(found - earlier):
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise RunDirectoryError(f"{out} contains other files: {shown}. Pass a new or empty directory as --out.")
    if not overwrite:
        raise RunDirectoryError(f"{out} already contains an export. Pass --overwrite to replace it, or another --out.")
    return earlier


def _create(out: Path) -> None:
    """Create the directory of an export. An error now costs less time than after the episodes of the score."""
    with files.reported("written", out):
        out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise RunDirectoryError(f"{out} cannot be written: permission denied. Pass another --out.")


def _write(out: Path, content: dict[str, bytes], made: Contract, earlier: set[str]) -> None:
    """Write the files of an export, and contract.json last. Delete the other files of an earlier export."""
    with files.reported("written", out):
        for name in earlier - set(content):
            (out / name).unlink(missing_ok=True)
    for name, each in content.items():
        files.write(out / name, each)
    files.write(out / CONTRACT, msgspec.json.format(msgspec.json.encode(made), indent=2), b"\n")


def read_contract(directory: Path) -> Contract:
    """Return the content of contract.json of an export.

    Args:
        directory: the directory of the export.

    Raises:
        RunDirectoryError: the file cannot be read.
        FileFormatError: the file is damaged, or has another format.
    """
    path = directory / CONTRACT
    content = files.read_json(path)
    if content.get("format") != FORMAT:
        raise FileFormatError(f"{path} is not the contract of an export: its format is not {FORMAT!r}.")
    try:
        return msgspec.convert(content, Contract)
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{path} is invalid: {error}. Export the agent again.") from error


def _index(policy: Policy, obs: Array) -> int:
    """Return the index of the greedy action for a flattened observation [O]."""
    return int(q_values(policy, unencoded(policy.entries, obs[None])).argmax())


def _int8_score(exact: Evaluation, reduced: Evaluation) -> Int8Score:
    """Compare the returns of 8-bit weights with those of the agent, episode by episode."""
    differences = np.subtract(reduced.returns, exact.returns)
    error = None if len(differences) < 2 else float(differences.std(ddof=1) / math.sqrt(len(differences)))
    return Int8Score(mean=reduced.mean_return, difference=float(differences.mean()), standard_error=error)


def next_command(target: str, out: Path) -> str:
    """Return the command that runs the self-test of an export.

    Args:
        target: the kind of export.
        out: its directory.
    """
    return f"cd {quoted([str(out)])} && {SELFTESTS[target]}"
