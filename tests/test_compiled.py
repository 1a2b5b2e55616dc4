"""The compiled backend: equal to NumPy up to rounding, reproducible bit for bit, and chosen once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import perilune
from perilune import DQN
from perilune._utils.arrays import Array
from perilune._utils.extras import install_command
from perilune.agent import munchausen
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, DivergenceError, MissingDependencyError, PeriluneWarning
from perilune.nn import Adam, AdamW, Network, ReLU, huber, mlp
from perilune.nn.backend import VARIABLE, Backend, compiled, description, installed, using
from perilune.nn.backend import backend as chosen
from perilune.nn.base import Activation
from perilune.nn.distributional import quantile_huber
from perilune.replay.symmetry import Symmetry
from perilune.runs import inspection
from worlds import small

needs_numba = pytest.mark.skipif("numba" not in installed(), reason="needs Numba")
seeds = st.integers(0, 2**32 - 1)
scales = st.sampled_from([1e-30, 1e-8, 1.0, 1e4, 1e12])
specials = st.sampled_from([None, np.nan, np.inf, -np.inf])
MIRROR = Symmetry(observation_index=(1, 0, 2), observation_sign=(1, 1, -1), action_index=(1, 0, 2))
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "recommended": {
        "hidden": (16, 9), "layer_norm": True, "head": "qr", "quantiles": 5, "munchausen": 0.9, "mirror": True,
        "tau": 0.05, "target_update_interval": 1, "ema_decay": 0.9, "max_grad_norm": 1.0, "n_step": 3,
    },
    "rainbow": {
        "noisy": True, "dueling": True, "head": "c51", "atoms": 6, "value_range": (-9.0, 9.0), "layer_norm": True,
    },
    "tanh": {"activation": "tanh", "layer_norm": True, "optimizer": "adamw", "output_scale": 3.0, "ema_decay": 0.9},
}  # fmt: skip


SHORT: dict[str, Any] = {
    "preset": None, "hidden": (16,), "learning_starts": 40, "batch_size": 16, "buffer_size": 200,
    "epsilon_decay_steps": 60,
}  # fmt: skip
QUIET: dict[str, Any] = {"quiet": True, "pictures": False}


def resume(run: Path, steps: int) -> None:
    """Resume a run with the settings ``SHORT`` until it has ``steps`` steps."""
    DQN("CartPole-v1", seed=0, **SHORT).train(run_dir=run, resume=True, steps=steps, change=["steps"], **QUIET)


def assert_similar(actual: Array, expected: Array, tolerance: float = 1e-5) -> None:
    """Check that two arrays are equal within ``tolerance`` of the largest finite number, and not finite together."""
    assert actual.dtype == expected.dtype
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(actual), finite)
    largest = np.abs(expected[finite]).max(initial=0.0)
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=tolerance, atol=tolerance * float(largest))


def drawn(generator: np.random.Generator, shape: tuple[int, ...], scale: float, special: float | None) -> Array:
    """Return float32 numbers of size ``scale``; the first one is ``special``."""
    array = (generator.normal(size=shape) * scale).astype(np.float32)
    if special is not None:
        array.flat[0] = special
    return array


def experienced(variant: str, seed: int = 0) -> Agent:
    """Return an agent whose replay buffer has 60 transitions."""
    agent = Agent(3, 3, small(**VARIANTS[variant]), seed, MIRROR)
    generator = np.random.default_rng(1)
    for _ in range(60):
        obs, next_obs = generator.normal(size=(2, 3)).astype(np.float32)
        reward = float(generator.normal())
        agent.remember(obs, int(generator.integers(3)), reward, next_obs, bool(generator.random() < 0.2), False)
    return agent


def learn(agent: Agent, updates: int) -> Agent:
    for _ in range(updates):
        agent.learn()
        agent.sync_target()
    return agent


# Equal to NumPy up to rounding


def far_from_kinks(network: Network, x: Array) -> bool:
    """Return whether no input of a ReLU is so near 0 that rounding could change its sign."""
    passed = network.activations(x)
    inputs = [values for (_, values), (layer, _) in pairwise(passed) if isinstance(layer, ReLU)]
    finite = [np.abs(values[np.isfinite(values)]) for values in inputs]
    return all(values.min(initial=np.inf) > 1e-4 * values.max(initial=0.0) for values in finite)


@needs_numba
@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(3, 20), st.sampled_from(["relu", "tanh", "linear"])), max_size=3),
    st.booleans(), st.booleans(), st.booleans(), st.integers(1, 9), seeds, scales, specials, st.booleans(),
)  # fmt: skip
def test_networks_match_numpy(
    hidden: list[tuple[int, Activation]],
    layer_norm: bool,
    noisy: bool,
    dueling: bool,
    rows: int,
    seed: int,
    scale: float,
    special: float | None,
    in_input: bool,
) -> None:
    x = drawn(np.random.default_rng(seed), (rows, 5), scale, special if in_input else None)
    d_outputs = drawn(np.random.default_rng(seed + 1), (rows, 4), 1.0, None if in_input else special)
    found = {}
    for backend in installed():
        with using(backend), np.errstate(all="ignore"):
            network = mlp(5, hidden, 2, atoms=2, layer_norm=layer_norm, noisy=noisy, dueling=dueling)
            network.parameters[:] = np.random.default_rng(seed).normal(size=len(network.parameters))
            network.draw_noise(np.random.default_rng(seed))
            assume(far_from_kinks(network, x))
            y = network.forward(x).copy()
            network.backward(d_outputs.copy())
            found[backend] = {"y": y} | {name: view.copy() for name, view in network.named_gradients().items()}
    for name, expected in found["numpy"].items():
        assert_similar(found["numba"][name], expected, 1e-3)


@needs_numba
def test_relu_and_layer_norm_join_the_layer_below() -> None:
    with using("numba"):
        network = mlp(5, [(4, "relu"), (3, "tanh")], 2, layer_norm=True)
        network.forward(np.ones((2, 5), np.float32))
        joined = [type(step.layer).__name__ for step in network._workspaces[2]]
    assert joined == ["Block", "Block", "Tanh", "Block"]
    assert [type(layer).__name__ for layer in network.layers][:3] == ["Dense", "LayerNorm", "ReLU"]


@needs_numba
@given(
    st.integers(1, 9), st.integers(1, 7), st.integers(1, 7), st.sampled_from([0.3, 1.0, 50.0]), seeds, scales, specials
)
def test_quantile_loss_matches_numpy(
    rows: int, n: int, m: int, kappa: float, seed: int, scale: float, special: float | None
) -> None:
    quantiles = drawn(np.random.default_rng(seed), (rows, n), scale, None)
    target = drawn(np.random.default_rng(seed + 1), (rows, m), scale, special)
    found = {}
    for name in installed():
        with using(name), np.errstate(all="ignore"):
            found[name] = quantile_huber(quantiles, target, kappa)
    (loss, gradient), (expected_loss, expected) = found["numba"], found["numpy"]
    assert np.isfinite(loss) == np.isfinite(expected_loss)
    if special is None:
        assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert_similar(gradient, expected, 1e-4)


@needs_numba
@given(st.integers(1, 40), st.sampled_from([0.3, 1.0, 50.0]), seeds, scales, specials)
def test_huber_loss_matches_numpy(rows: int, delta: float, seed: int, scale: float, special: float | None) -> None:
    prediction = drawn(np.random.default_rng(seed), (rows,), scale, None)
    target = drawn(np.random.default_rng(seed + 1), (rows,), scale, special)
    found = {}
    for name in installed():
        with using(name), np.errstate(all="ignore"):
            found[name] = huber(prediction, target, delta)
    (loss, gradient), (expected_loss, expected) = found["numba"], found["numpy"]
    assert loss == pytest.approx(expected_loss, rel=1e-5, nan_ok=True)
    assert_similar(gradient, expected)


@needs_numba
@given(st.integers(1, 9), st.integers(1, 6), seeds, scales, specials, st.sampled_from([0.03, 0.3, 10.0]))
def test_soft_policy_matches_numpy(
    rows: int, actions: int, seed: int, scale: float, special: float | None, temperature: float
) -> None:
    generator = np.random.default_rng(seed)
    q, next_q = drawn(generator, (rows, actions), scale, None), drawn(generator, (rows, actions), scale, special)
    action = generator.integers(actions, size=rows)
    reward, discount = generator.random((2, rows)).astype(np.float32)
    config = small(munchausen=0.9, munchausen_temperature=temperature, munchausen_floor=-10.0)
    found = {}
    for name in installed():
        with using(name), np.errstate(all="ignore"):
            found[name] = munchausen.soft_policy(q, next_q, action, reward, discount, config)
    for actual, expected in zip(found["numba"], found["numpy"], strict=True):
        assert_similar(actual, expected, 1e-4)


@needs_numba
@given(st.integers(1, 9), seeds)
def test_mirror_equals_numpy(rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    arrays = (*generator.normal(size=(2, 2 * rows, 3)).astype(np.float32), generator.integers(3, size=2 * rows))
    found = {}
    for name in installed():
        obs, next_obs, action = (array.copy() for array in arrays)
        with using(name):
            MIRROR.mirror(obs[1::2], action[1::2], next_obs[1::2])
        found[name] = obs, action, next_obs
    for actual, expected in zip(found["numba"], found["numpy"], strict=True):
        np.testing.assert_array_equal(actual, expected)


@needs_numba
@pytest.mark.parametrize("maker", [Adam, AdamW])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("special", [None, np.nan, np.inf])
def test_optimizer_and_moving_average_match_numpy(maker: type[Adam], scale: float, special: float | None) -> None:
    found = {}
    for name in installed():
        with using(name), np.errstate(all="ignore"):
            network, average = mlp(5, [], 6), mlp(5, [], 6)
            optimizer, generator = maker(36), np.random.default_rng(0)
            network.parameters[:] = generator.normal(size=36)
            for step in range(6):
                gradients = drawn(generator, (36,), scale, special if step == 3 else None)
                optimizer.step(network.parameters, gradients, 0.01)
                average.move(network, 0.1)
            found[name] = network.parameters, average.parameters, *optimizer.arrays.values()
    for actual, expected in zip(found["numba"], found["numpy"], strict=True):
        assert_similar(actual, expected)


@needs_numba
@pytest.mark.parametrize("variant", VARIANTS)
def test_learning_matches_numpy(variant: str) -> None:
    found = {}
    for name in installed():
        with using(name):
            agent = learn(experienced(variant), 5)
            found[name] = agent.learn(), agent.online.parameters
    np.testing.assert_allclose(found["numba"][0], found["numpy"][0], rtol=1e-3)
    assert_similar(found["numba"][1], found["numpy"][1], 1e-3)


# Reproducible


@needs_numba
@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_runs_learn_equal_weights(variant: str) -> None:
    with using("numba"):
        first, second = (learn(experienced(variant), 20).online.parameters for _ in range(2))
    np.testing.assert_array_equal(first, second)


# Numbers that are not finite


@pytest.mark.parametrize("where", ["weights", "rewards"])
@pytest.mark.parametrize("variant", ["plain", "recommended"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, 3e38])
def test_divergence_is_an_error(backend: Backend, variant: str, poison: float, where: str) -> None:
    agent = experienced(variant)
    array = agent.online.parameters[5:6] if where == "weights" else agent.replay.arrays.reward
    array[:] = poison
    with pytest.raises(DivergenceError):
        learn(agent, 10)


# The choice of the backend


def python(code: str, **environment: str | None) -> str:
    """Run code in a process and return its output. A variable of the environment that is None is removed."""
    found = {name: value for name, value in (os.environ | environment).items() if value is not None}
    done = subprocess.run([sys.executable, "-c", code], env=found, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def automatic(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the variable that chooses the backend."""
    monkeypatch.delenv(VARIABLE, raising=False)
    compiled.cache_clear()
    return monkeypatch


@pytest.fixture(autouse=True)
def _choose_again() -> Iterator[None]:
    yield
    compiled.cache_clear()


def test_backend_is_numba_if_it_is_installed(automatic: pytest.MonkeyPatch) -> None:
    assert chosen() == ("numba" if "numba" in installed() else "numpy")
    automatic.setenv(VARIABLE, "numpy")
    assert (chosen(), compiled(), description()) == ("numpy", None, "numpy")
    automatic.setattr("importlib.util.find_spec", lambda name: None)
    automatic.setenv(VARIABLE, "")
    assert chosen() == "numpy"


def test_importing_perilune_does_not_import_numba() -> None:
    code = """if True:
        import sys, perilune.cli, perilune.agent.dqn
        print("numba" in sys.modules)
        perilune.agent.dqn.Agent(2, 3, perilune.DQNConfig(), 0)
        print("numba" in sys.modules)
    """
    assert python(code, **{VARIABLE: None}).split() == ["False", str("numba" in installed())]


def test_unknown_backend_is_refused(automatic: pytest.MonkeyPatch) -> None:
    automatic.setenv(VARIABLE, "nvmba")
    with pytest.raises(ConfigError, match='PERILUNE_BACKEND=\'nvmba\' is invalid: expected "numpy" or "numba"'):
        Agent(2, 3, small(), 0)


def test_missing_numba_is_an_error_only_if_it_was_chosen(automatic: pytest.MonkeyPatch) -> None:
    automatic.setitem(sys.modules, "numba", None)
    automatic.delitem(sys.modules, "perilune.nn.compiled", raising=False)
    automatic.delattr("perilune.nn.compiled", raising=False)
    automatic.setenv(VARIABLE, "numba")
    with pytest.raises(MissingDependencyError) as caught:
        Agent(2, 3, small(), 0)
    assert str(caught.value) == f"PERILUNE_BACKEND=numba needs Numba: {install_command('compiled')}"
    automatic.delenv(VARIABLE)
    automatic.setattr("importlib.util.find_spec", lambda name: object())  # installed, but it cannot be imported
    with pytest.warns(PeriluneWarning, match="Perilune uses NumPy alone, because Numba fails: .*(numba|llvmlite)"):
        assert description() == "numpy"
    Agent(2, 3, small(), 0)


@needs_numba
def test_run_records_its_backend_and_warns_on_resume_with_another(tmp_path: Path) -> None:
    run = tmp_path / "run"
    DQN("CartPole-v1", seed=0, **SHORT).train(run_dir=run, steps=60, eval_every=None, eval_episodes=1, **QUIET)
    assert json.loads((run / "host.json").read_text())["backend"] == "numpy"
    assert "backend numpy" in "\n".join(inspection.summary(inspection.describe(run), "run"))
    with using("numba"), pytest.warns(PeriluneWarning, match="another backend.*backend numpy -> numba"):
        resume(run, 90)
    assert json.loads((run / "host.json").read_text())["backend"].startswith("numba ")


@needs_numba
def test_functions_are_compiled_where_no_directory_is_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    with using("numba"):
        module = compiled()
    assert module is not None
    compile_function = module.numba.njit

    def refuse_to_cache(*, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_function(**options)

    monkeypatch.setattr(module.numba, "njit", refuse_to_cache)
    assert module.jit(lambda x: x + 1)(1) == 2


@needs_numba
@pytest.mark.long
@pytest.mark.parametrize("cache", ["package", "user", None])
def test_compiled_code_is_kept_where_it_can_be_written(tmp_path: Path, cache: str | None) -> None:
    package, home = tmp_path / "perilune", tmp_path / "home"
    shutil.copytree(Path(perilune.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    if cache != "package":
        (package / "nn" / "__pycache__").touch()  # a file, so nothing can be written there
    if cache is None:
        home.touch()
    else:
        home.mkdir()
    code = """if True:
        import numpy as np
        from perilune.nn import Network, Dense
        goal, network = (Network(2, [Dense(2, 3)]) for _ in range(2))
        goal.parameters[:] = 4
        network.move(goal, 0.5)
        print(network.parameters[0])
    """
    where = {"PYTHONPATH": str(tmp_path), "HOME": str(home), "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": None}
    assert python(code, **{VARIABLE: "numba"}, **where).split() == ["2.0"]
    kept = {"package" if path.is_relative_to(package) else "user" for path in tmp_path.rglob("*.nbc")}
    assert kept == ({cache} if cache else set())
