"""What the doctor reads off programs that use Keras."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perilune.doctor.program import old_keras, standins
from perilune.doctor.program.instrument import Function, Node, install, instrumented
from perilune.doctor.program.running import Trace

HAS_KERAS = standins.installed("keras")
PROGRAM = """
import random
import gym
import numpy as np
from tensorflow.keras.layers import Dense
from tensorflow.keras.models import Sequential
from tensorflow.keras.optimizers import Adam

random.seed(3)
env = gym.make("CartPole-v1")


def network():
    model = Sequential([
        Dense(16, input_dim=4, activation="relu"),
        Dense(env.action_space.n, activation="linear"),
    ])
    model.compile(loss="mse", optimizer=Adam(lr=0.01))
    return model


online, target = network(), network()
memory, steps = [], 0
for episode in range(200):
    obs = env.reset()
    done = False
    while not done:
        action = random.randrange(2)
        next_obs, reward, done, _ = env.step(action)
        memory.append((obs, action, reward, next_obs, done))
        obs = next_obs
        steps += 1
        if len(memory) > 64:
            s, a, r, s2, end = (np.array(one) for one in zip(*random.sample(memory, 32)))
            q = online.predict(s)
            future = target.predict(s2).max(axis=1)
            q[np.arange(32), a] = r + 0.9 * future * (1 - end)
            online.fit(s, q, verbose=0)
            if steps % 10 == 0:
                target.set_weights(online.get_weights())
"""
READ = """
import json, sys
from perilune.doctor.program.loop import Loop
from perilune.doctor.program.outputs import check_outputs
from perilune.doctor.program.running import Trace
from perilune.doctor.program.syncing import Syncing
from perilune.doctor.program.targets import Targets
from perilune.doctor.program.waiting import Waiting

readers, loop = [Targets(), Syncing(Waiting())], Loop()


def analyze(trace, window):
    for reader in (*readers, loop):
        reader.window(trace, window)
    return readers[0].done


trace = Trace(sys.argv[1], [], analyze)
trace.run()
found = [one for reader in readers for one in reader.findings(trace)] + list(check_outputs(trace))
print(json.dumps({
    "ids": [one.id for one in found if hasattr(one, "id")],
    "passed": [one.check for one in found if hasattr(one, "text")],
    "loop": [one.id for one in loop.findings(trace) if hasattr(one, "id")],
    "problems": trace.problems(),
    "rates": list(trace.recorder.window.rates.values()),
}))
"""


def read(directory: Path, program: str) -> dict[str, list[Any]]:
    """Return what a program shows."""
    path = directory / "train.py"
    path.write_text(program)
    command = [sys.executable, "-c", READ, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=directory)  # noqa: S603
    content: dict[str, list[Any]] = json.loads(result.stdout.splitlines()[-1])
    return content


@pytest.mark.skipif(not HAS_KERAS, reason="Keras is not installed")
def test_sound_program_with_old_names(tmp_path: Path) -> None:
    found = read(tmp_path, PROGRAM)
    assert found["problems"] == found["ids"] == []
    assert found["rates"] == [pytest.approx(0.01)]
    assert set(found["passed"]) == {"batch", "gradients", "TD target", "episode ends", "target network"}


@pytest.mark.skipif(not HAS_KERAS, reason="Keras is not installed")
@pytest.mark.parametrize(("rate", "expected"), [("0.01", []), ("0.1", ["hyperparameters.too_fast"])])
def test_learning_rate_is_judged_by_the_kind_of_optimizer(tmp_path: Path, rate: str, expected: list[str]) -> None:
    assert read(tmp_path, PROGRAM.replace("lr=0.01", f"lr={rate}"))["loop"] == expected


FAULTS = {
    "td_target.no_mask": (" * (1 - end)", ""),
    "td_target.same_state": ("target.predict(s2)", "target.predict(s)"),
    "forward.output_activation": ('activation="linear"', 'activation="softmax"'),
    "target_network.every_update": ("steps % 10 == 0", "steps"),
}


@pytest.mark.skipif(not HAS_KERAS, reason="Keras is not installed")
@pytest.mark.parametrize("name", FAULTS)
def test_faults(tmp_path: Path, name: str) -> None:
    old, new = FAULTS[name]
    assert PROGRAM.count(old) == 1
    assert read(tmp_path, PROGRAM.replace(old, new))["ids"] == [name]


@pytest.mark.skipif(HAS_KERAS or standins.installed("tensorflow"), reason="Keras is installed")
@pytest.mark.parametrize("package", ["keras", "tensorflow"])
def test_missing_package_is_named(tmp_path: Path, package: str) -> None:
    path = tmp_path / "train.py"
    path.write_text(f"import {package}\n")
    trace = Trace(path, [], lambda _trace, _window: False)
    trace.run()
    (problem,) = trace.problems()
    assert f"pip install {package} (train.py:1)" in problem


@pytest.mark.parametrize(
    "message",
    [
        "module 'tensorflow' has no attribute 'placeholder'",
        "module 'tensorflow._api.v2.compat.v2' has no attribute 'Session'",
        "tf.placeholder() is not compatible with eager execution.",
    ],
)
def test_programs_for_tensorflow_1_are_named(message: str) -> None:
    assert "TensorFlow 1" in old_keras.explained(AttributeError(message))


def test_other_errors_are_not_explained() -> None:
    assert not old_keras.explained(AttributeError("module 'numpy' has no attribute 'placeholder'"))


def test_functions_of_graphs_are_recorded() -> None:
    nodes: list[Node] = []
    functions: dict[int, Function] = {}
    recorded: list[object] = []
    tree = ast.parse("@tf.function(reduce_retracing=True)\ndef train(x):\n    return x + 1\n\n\ny = train(1)\n")
    code = compile(instrumented(tree, "train.py", nodes, functions), "train.py", "exec")
    install(lambda _, value: recorded.append(value) or value, lambda *_: None, lambda _, value: value)
    namespace: dict[str, Any] = {}
    exec(code, namespace)  # noqa: S102
    assert namespace["y"] == 2
    assert recorded.count(2) == 2  # x + 1 and train(1)
    assert [one.name for one in functions.values()] == ["train"]


def test_libraries_that_check_for_packages_get_no_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standins, "CHECKED", ("checking",))
    monkeypatch.setattr(standins, "IF_MISSING", {"missing_one"})
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "checking.py").write_text("try:\n    import missing_one\nexcept ImportError:\n    missing_one = None\n")
    with standins.imported():
        import checking  # type: ignore[import-not-found]  # noqa: PLC0415
        import missing_one  # type: ignore[import-not-found]  # noqa: PLC0415
    assert checking.missing_one is None
    assert isinstance(missing_one.anything, standins.StandIn)
