"""Compare the exports of the pre-trained agents with the library, on states of real episodes and on extreme states.

    python -m benchmarks.exports

Prints one row per environment and kind of state. For each form: the largest difference of a Q-value, relative to the
largest Q-value of the state, and the number of states with another action. Needs gcc, Node and the extras of Perilune.
The results are in docs/how-to/export.md.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from perilune import DQN
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.export.policy import Policy, from_agent, q_values, unencoded
from perilune.runs import pretrained
from perilune.training.evaluation import SCORE_SEEDS, play_episode

Form = Callable[[Array], Array]  # observations [B, N] to Q-values [B, A]
NODE = """
import {readFileSync, writeFileSync} from "node:fs";
const {qValues} = await import(process.argv[1]);
const [rows, width] = [Number(process.argv[4]), Number(process.argv[5])];
const obs = new Float32Array(new Uint8Array(readFileSync(process.argv[2])).buffer);
const found = [];
for (let row = 0; row < rows; row++) found.push(...qValues(obs.subarray(row * width, (row + 1) * width)));
writeFileSync(process.argv[3], Buffer.from(Float32Array.from(found).buffer));
"""


def python_form(directory: Path) -> Form:
    """Return the Q-values of a Python export, one state at a time, as a program would call it."""
    spec = importlib.util.spec_from_file_location("exported", directory / "policy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    policy = module.Policy()
    return lambda obs: np.stack([policy.q_values(row) for row in obs])


def onnx_form(directory: Path) -> Form:
    """Return the Q-values of an ONNX export, one state at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(directory / "policy.onnx", options)
    return lambda obs: np.asarray(np.concatenate([session.run(["q_values"], {"obs": row[None]})[0] for row in obs]))


def c_form(directory: Path, actions: int) -> Form:
    """Return the Q-values of a C export, compiled with gcc -O3."""
    library = directory / "policy.so"
    command = ["gcc", "-std=c99", "-O3", "-shared", "-fPIC", "policy.c", "-o", str(library), "-lm"]
    subprocess.run(command, cwd=directory, check=True)  # noqa: S603
    function = ctypes.CDLL(str(library)).policy_q_values
    pointer = ctypes.POINTER(ctypes.c_float)

    def run(obs: Array) -> Array:
        found = np.empty((len(obs), actions), np.float32)
        for row, values in zip(np.ascontiguousarray(obs, np.float32), found, strict=True):
            function(row.ctypes.data_as(pointer), values.ctypes.data_as(pointer))
        return found

    return run


def javascript_form(directory: Path, actions: int) -> Form:
    """Return the Q-values of a JavaScript export in Node."""

    def run(obs: Array) -> Array:
        given, found = directory / "obs.bin", directory / "q.bin"
        given.write_bytes(np.ascontiguousarray(obs, "<f4").tobytes())
        module = (directory / "policy.mjs").as_uri()
        command = ["node", "--input-type=module", "-e", NODE, module, str(given), str(found), *map(str, obs.shape)]
        subprocess.run(command, check=True)  # noqa: S603
        q: Array = np.fromfile(found, "<f4").reshape(len(obs), actions)
        return q

    return run


def episodes(dqn: DQN, policy: Policy, count: int) -> Array:
    """Return the states of greedy episodes from the fixed start states, as the environment returns them [B, N]."""
    rows = [
        step.obs
        for episode in range(count)
        for step in play_episode(dqn.agent.greedy_action, dqn.env, SCORE_SEEDS + episode)
        if step.action is not None
    ]
    return unencoded(policy.entries, np.stack(rows))


def extremes(policy: Policy, count: int) -> Array:
    """Return random states: within or far outside the limits, zeros, denormals, and magnitudes of 1e6 [B, N]."""
    generator = np.random.default_rng(0)
    shape = (count, len(policy.entries))
    scale = generator.choice([0, 1e-40, 1e-6, 1e-2, 1, 10, 1e3, 1e6], (count, 1))
    mixed = generator.choice([1, 0, 1e-40, 1e6], shape, p=[0.9, 0.04, 0.03, 0.03])
    states: Array = (generator.uniform(-1, 1, shape) * np.minimum(scale * mixed, 1e6)).astype(np.float32)
    return states


def compare(name: str, found: Array, expected: Array) -> str:
    """Return the cells of one form: the largest relative difference, and the states with another action."""
    scale = np.maximum(abs(expected).max(axis=1), np.finfo(np.float32).tiny)
    error = abs(found - expected).max(axis=1) / scale
    best = np.sort(expected, axis=1)
    clear = best[:, -1] - best[:, -2] > 1e-5 * scale
    other = found.argmax(axis=1) != expected.argmax(axis=1)
    return f"{name}: {error.max():.1e}, {int((other & clear).sum())} ({int((other & ~clear).sum())} of equal values)"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare exports with the library.")
    parser.add_argument("--episodes", type=int, default=100, help="episodes of each agent")
    parser.add_argument("--states", type=int, default=10_000, help="random and extreme states")
    options = parser.parse_args()
    with one_blas_thread(), tempfile.TemporaryDirectory() as scratch:
        for env_id in pretrained.available():
            dqn = DQN.pretrained(env_id)
            policy = from_agent(dqn.agent, dqn.env)
            actions = len(policy.actions)
            paths = {target: Path(scratch, env_id, target) for target in ("python", "onnx", "c", "js")}
            for target, path in paths.items():
                dqn.export(target, path, episodes=0)  # type: ignore[arg-type]
            forms = {
                "python": python_form(paths["python"]),
                "onnx": onnx_form(paths["onnx"]),
                "c": c_form(paths["c"], actions),
                "js": javascript_form(paths["js"], actions),
            }
            played, random = episodes(dqn, policy, options.episodes), extremes(policy, options.states)
            for kind, obs in (("episodes", played), ("extreme", random)):
                library = np.concatenate([dqn.agent.q_values(row[None]) for row in obs])
                exact = q_values(policy, obs, np.float64)
                cells = [compare(name, form(obs), library) for name, form in forms.items()]
                print(env_id, kind, f"{len(obs):,}", *cells, compare("library, exact", library, exact), sep=" | ")


if __name__ == "__main__":
    main()
