"""The C export: every kind of layer and head against the library, warnings, the self-test and the build files."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from perilune import DQN, envs
from perilune.agent.dqn import Agent
from perilune.export import c
from perilune.export.golden import COUNT, Golden, golden_vectors
from perilune.export.policy import Block, Entry, Policy, from_agent, q_values
from perilune.training.evaluation import SCORE_SEEDS, play_episode
from policies import agents, check_agreement, exact_q_values, invalid_observations, observations

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow"]
LIBM = {"sqrtf", "expf", "tanhf"}
FREESTANDING = {"memcpy", "memset", "memmove", "memcmp"}  # a compiler may call these without any library
WITHOUT_SHRINKING = settings(
    max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # each example needs a compiler; it is not made smaller
NUMBERS = itertools.count()  # a loaded library must have a path of its own


def program(name: str) -> str:
    """Return the path of a program. Skip the test if it is missing, but fail in continuous integration."""
    path = shutil.which(name)
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [program(command[0]), *command[1:]], cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False
    )


def succeed(*command: str, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(files: dict[str, str], directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def no_golden(policy: Policy) -> Golden:
    obs = np.array([[entry.start for entry in policy.entries]], np.float32)
    return Golden(obs, np.zeros((1, len(policy.actions)), np.float32), np.array([policy.first_action]))


Run = Callable[[Any], tuple[Any, Any]]


def compiled(policy: Policy, directory: Path, compiler: str = "gcc", *, int8: bool = False) -> Run:
    """Return a function from observations [B, N] to the Q-values [B, A] and actions [B] of the compiled export."""
    path = write(c.render(policy, no_golden(policy), int8=int8), directory / str(next(NUMBERS)))
    succeed(compiler, *STRICT, "-O2", "-shared", "-fPIC", "-o", "policy.so", "policy.c", "-lm", cwd=path)
    library = ctypes.CDLL(str(path / "policy.so"))
    pointer = np.ctypeslib.ndpointer(np.float32, flags="C")
    library.policy_q_values.argtypes = [pointer, pointer]
    library.policy_q_values.restype = None
    library.policy_act.argtypes = [pointer]

    def compute(obs: Any) -> tuple[Any, Any]:
        rows = np.ascontiguousarray(obs, np.float32)
        values = np.full((len(rows), len(policy.actions)), 7, np.float32)
        for row, out in zip(rows, values, strict=True):
            library.policy_q_values(row, out)
        return values, np.array([library.policy_act(row) for row in rows])

    return compute


def entry(number: int, **fields: Any) -> Entry:
    return Entry(f"x{number}", -np.inf, np.inf, **fields)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@WITHOUT_SHRINKING
@given(made=agents(), int8=st.booleans())
def test_every_architecture_agrees_with_the_library(
    compiler: str, made: tuple[Agent, envs.Env], int8: bool, tmp_path: Path
) -> None:
    policy = from_agent(*made)
    compute = compiled(policy, tmp_path, compiler, int8=int8)
    flat, raw = observations(policy, 60)
    if int8:
        check_agreement(policy, raw, *compute(raw), q_values(c.quantized(policy), raw, np.float64))
    else:
        check_agreement(policy, raw, *compute(raw), exact_q_values(made[0], flat))
    values, actions = compute(invalid_observations(policy, raw[0]))
    assert np.isnan(values).all()
    assert (actions == policy.first_action).all()


def block(weight: Any, bias: Any, activation: Any = "linear", gain: Any = None, shift: Any = None) -> Block:
    arrays: list[Any] = [None if each is None else np.array(each, np.float32) for each in (weight, bias, gain, shift)]
    return Block(*arrays, activation)


def policy_of(*blocks: Block, support: Any = None, first_action: int = 0) -> Policy:
    entries = tuple(map(entry, range(len(blocks[0].weight))))
    actions = len(blocks[-1].bias) // (1 if support is None else len(support))
    return Policy("Test-v0", entries, tuple(f"action {a}" for a in range(actions)), first_action, blocks, support)


def test_relu_matches_hand_computation(tmp_path: Path) -> None:
    policy = policy_of(block([[1, -1], [2, 0.5]], [0.5, -1], "relu"), block([[3, 1], [1, 2]], [0, -1]), first_action=-1)
    values, actions = compiled(policy, tmp_path)([[1, 1], [-1, 3], [0, 0]])
    # The hidden units are relu(3.5, -1.5), relu(5.5, 1.5) and relu(0.5, -1).
    np.testing.assert_array_equal(values, [[10.5, 2.5], [18, 7.5], [1.5, -0.5]])
    np.testing.assert_array_equal(actions, [-1, -1, -1])


def test_layer_norm_matches_hand_computation(tmp_path: Path) -> None:
    policy = policy_of(block(np.eye(2), [0, 0], "linear", [2, 1], [0.5, 0]), block(np.eye(2), [0, 0]))
    values, actions = compiled(policy, tmp_path)([[1, 3]])  # mean 2, variance 1
    np.testing.assert_allclose(values, [[-2 / np.sqrt(1 + 1e-5) + 0.5, 1 / np.sqrt(1 + 1e-5)]], rtol=1e-6)
    np.testing.assert_array_equal(actions, [1])


def test_c51_matches_hand_computation(tmp_path: Path) -> None:
    policy = policy_of(block(np.eye(6), [0] * 6), support=np.float32([-1, 0, 1]), first_action=5)
    weights = np.array([[1, 2, 1, 1, 1, 2], [4, 2, 2, 1, 1, 1]])  # probabilities, up to a factor
    values, actions = compiled(policy, tmp_path)(np.log(weights) - np.array([[0], [1000]]))
    np.testing.assert_allclose(values, [[0, 0.25], [-0.25, 0]], atol=1e-4)  # 1000 costs the logits three digits
    np.testing.assert_array_equal(actions, [6, 6])


def test_tanh_matches_hand_computation(tmp_path: Path) -> None:
    policy = policy_of(block([[1]], [0], "tanh"), block([[2, -2]], [0, 0]))
    values, actions = compiled(policy, tmp_path)([[0.5], [-1e6]])
    np.testing.assert_allclose(values, [[0.9242343, -0.9242343], [-2, 2]], rtol=1e-6)
    np.testing.assert_array_equal(actions, [0, 1])


def test_equal_q_values_give_the_first_action(tmp_path: Path) -> None:
    policy = policy_of(block(np.zeros((1, 4)), [1, 2, 2, 0]))
    np.testing.assert_array_equal(compiled(policy, tmp_path)([[3]])[1], [1])


def test_overflow_in_a_hidden_layer_gives_nan(tmp_path: Path) -> None:
    policy = policy_of(block([[10, -10]], [0, 0], "relu", [1, 1], [0, 0]), block(np.eye(2), [0, 0]))
    values, actions = compiled(policy, tmp_path)([[3e38], [1]])
    np.testing.assert_array_equal(np.isnan(values), [[True, True], [False, False]])
    np.testing.assert_array_equal(actions, [0, 0])


def test_int8_weights_are_within_half_a_scale() -> None:
    weight = np.array([[127, 0, 1e-3, 3], [-1.4, 0, -5e-4, 2], [0.6, 0, 0, -6]], np.float32)
    steps, scale = c.quantize(weight)
    np.testing.assert_array_equal(steps, [[127, 0, 127, 64], [-1, 0, -64, 42], [1, 0, 0, -127]])
    np.testing.assert_allclose(scale, [1, 0, 1e-3 / 127, 6 / 127], rtol=1e-6)
    trained = DQN.pretrained("LunarLander-v3")
    policy = from_agent(trained.agent, trained.env)
    for found, original in zip(c.quantized(policy).blocks, policy.blocks, strict=True):
        half = np.abs(original.weight).max(axis=0) / 127 / 2
        assert (np.abs(found.weight - original.weight) <= half * (1 + 1e-4)).all()
        assert (found.weight != original.weight).any()
        for name in ("bias", "gain", "shift", "activation"):
            assert getattr(found, name) is getattr(original, name)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("env_id", ["LunarLander-v3", "CartPole-v1"])
def test_pretrained_agents_choose_the_same_actions(env_id: str, compiler: str, tmp_path: Path) -> None:
    trained = DQN.pretrained(env_id)
    rows: list[Any] = []
    for seed in itertools.count(SCORE_SEEDS + 500):
        rows += [step.obs for step in play_episode(trained.agent.greedy_action, trained.env, seed)]
        if len(rows) >= 2_000:
            break
    obs = np.stack(rows[:2_000])
    policy = from_agent(trained.agent, trained.env)
    values, actions = compiled(policy, tmp_path, compiler)(obs)
    check_agreement(policy, obs, values, actions, exact_q_values(trained.agent, obs))
    np.testing.assert_array_equal(actions, trained.act(obs))


Exported = tuple[Policy, Any, list[Path]]


@pytest.fixture(scope="module", params=["LunarLander-v3", "Taxi-v4", "Blackjack-v1"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A policy, its golden observations, and its exports with float32 and with int8 weights."""
    trained = DQN.pretrained(request.param) if request.param == "LunarLander-v3" else DQN(request.param, hidden=(16,))
    policy = from_agent(trained.agent, trained.env)
    golden = golden_vectors(trained.agent, trained.env, policy)
    directory = tmp_path_factory.mktemp("c")
    exports = [write(c.render(policy, golden, int8=int8), directory / f"int8-{int8}") for int8 in (False, True)]
    return policy, golden.obs, exports


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_selftest_passes_without_warnings(exported: Exported, compiler: str) -> None:
    program(compiler)
    for path in exported[2]:
        succeed("make", "clean", cwd=path)
        printed = succeed("make", "test", f"CC={compiler}", f"CFLAGS=-O2 {' '.join(STRICT)}", cwd=path)
        assert f"OK: {COUNT} observations agree. Largest relative error: " in printed


def activity(policy: Policy, obs: Any, layers: int) -> int:
    """Return the index of the most active output of the first ``layers`` blocks."""
    shortened = replace(policy, blocks=policy.blocks[:layers], support=None)
    return int(np.abs(q_values(shortened, obs)).mean(axis=0).argmax())


def changed(source: str, name: str, index: int) -> str:
    """Return the source with one number of an array changed."""
    start = source.index("{", source.index(f" {name}[")) + 1
    end = source.index("}", start)
    numbers = source[start:end].split(",")
    value = numbers[index].strip()
    numbers[index] = f" {float(value[:-1]) + 0.01}f" if "f" in value else f" {(int(value) + 64) % 127}"
    return source[:start] + ",".join(numbers) + source[end:]


def test_selftest_fails_if_one_weight_changes(exported: Exported, tmp_path: Path) -> None:
    policy, obs, paths = exported
    for path, number in itertools.product(paths, range(len(policy.blocks))):
        outputs = len(policy.blocks[number].bias)
        x, y = activity(policy, obs, number), activity(policy, obs, number + 1)
        for name, index in ((f"weight{number + 1}", x * outputs + y), (f"bias{number + 1}", y)):
            copy = shutil.copytree(path, tmp_path / path.name / name)
            source = (copy / "policy.c").read_text(encoding="utf-8")
            (copy / "policy.c").write_text(changed(source, name, index), encoding="utf-8")
            (copy / "selftest").unlink(missing_ok=True)
            done = run("make", "test", cwd=copy)
            assert "FAILED: " in done.stdout, name
            assert done.returncode != 0


def test_selftest_fails_if_invalid_observations_have_q_values(exported: Exported, tmp_path: Path) -> None:
    copy = shutil.copytree(exported[2][0], tmp_path / "copy")
    source = (copy / "policy.c").read_text(encoding="utf-8")
    source = source.replace("q[i] += invalid", "q[i] += 0.0f * (invalid == 1.0f)")
    source = source.replace("y[j] < 0.0f ? 0.0f : y[j]", "y[j] > 0.0f ? y[j] : 0.0f")  # turns NaN into 0
    (copy / "policy.c").write_text(source, encoding="utf-8")
    (copy / "selftest").unlink(missing_ok=True)
    assert "FAILED: Invalid observations do not give NaN." in run("make", "test", cwd=copy).stdout


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_source_compiles_freestanding_and_needs_only_libm(exported: Exported, compiler: str) -> None:
    for path in exported[2]:
        succeed(compiler, *STRICT, "-ffreestanding", "-O2", "-c", "-o", "policy.o", "policy.c", cwd=path)
        symbols = [line.split()[:2] for line in succeed("nm", "-P", "policy.o", cwd=path).splitlines()]
        assert {name for name, kind in symbols if kind == "U"} <= LIBM | FREESTANDING
        assert not {kind for _, kind in symbols} & set("dDbBC")  # no variables: the functions are reentrant
        assert {name for name, kind in symbols if kind == "T"} == {"policy_q_values", "policy_act"}


def test_source_has_no_math_unless_needed(tmp_path: Path) -> None:
    relu = c.render(policy_of(block([[1]], [0], "relu"), block([[1]], [0])), no_golden(policy_of(block([[1]], [0]))))
    assert "math.h" not in relu["policy.c"]
    assert "apply_tanh" not in relu["policy.c"]
    assert "target_link_libraries(policy m)" not in relu["CMakeLists.txt"]
    path = write(relu, tmp_path / "relu")
    succeed("gcc", *STRICT, "-ffreestanding", "-nostdlib", "-shared", "-fPIC", "-O2", "policy.c", cwd=path)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_fast_math_is_an_error(exported: Exported, compiler: str) -> None:
    for option in ("-ffast-math", "-ffinite-math-only"):
        done = run(compiler, option, "-c", "-o", "fast.o", "policy.c", cwd=exported[2][0])
        assert done.returncode != 0
        assert "without -ffast-math" in done.stderr


@pytest.mark.parametrize("level", ["-O0", "-Os", "-O2", "-O3"])
def test_stack_is_within_the_documented_bound(exported: Exported, level: str) -> None:
    policy, _, paths = exported
    bound = c.stack_size(policy)
    for path in paths:
        assert f"less than {bound} bytes of stack" in (path / "policy.h").read_text(encoding="utf-8")
        succeed("gcc", "-std=c99", level, "-fstack-usage", "-c", "-o", "stack.o", "policy.c", cwd=path)
        frames = [line.split("\t") for line in (path / "stack.su").read_text(encoding="utf-8").splitlines()]
        assert all(kind in ("static", "dynamic,bounded") for *_, kind in frames)
        deep = {where.rpartition(":")[2]: int(size) for where, size, _ in frames}
        outer = deep.pop("policy_act") + deep.pop("policy_q_values")
        assert outer + max(deep.values(), default=0) <= bound


def test_names_cannot_leave_a_comment(tmp_path: Path) -> None:
    hostile = ("*/ int x = 1; /*", "a\nint y;", "??/", "end \\", "/*/", "Höhe [m/s]")
    entries = tuple(Entry(name, 0, 1) for name in hostile)
    policy = Policy('E"*/-v0\\', entries, hostile, 0, (block(np.eye(6), [0] * 6),), None)
    values, _ = compiled(policy, tmp_path)([[1, 2, 3, 4, 5, 6]])
    np.testing.assert_array_equal(values, [[1, 2, 3, 4, 5, 6]])
    files = c.render(policy, no_golden(policy))
    assert "Höhe [m/s]" in files["policy.h"]
    assert json.loads(files["library.json"])["description"] == 'A policy for E"*/-v0\\'


def test_header_documents_inputs_and_actions(exported: Exported) -> None:
    policy, _, paths = exported
    header = (paths[0] / "policy.h").read_text(encoding="utf-8")
    assert f"#define POLICY_INPUTS {len(policy.entries)}\n" in header
    assert f"#define POLICY_ACTIONS {len(policy.actions)}\n" in header
    lines = {
        "LunarLander-v3": ["0: x, from -2.5 to 2.5", "7: right leg down, from 0 to 1", "2: main engine"],
        "Taxi-v4": ["0: obs, a category from 0 to 499", "5: drop off", "or a category does not exist"],
        "Blackjack-v1": ["0: obs[0], a category from 0 to 31", "2: obs[2], a category from 0 to 1", "1: hit"],
    }
    for line in lines[policy.environment]:
        assert line in header


def test_header_works_in_cplusplus(exported: Exported, tmp_path: Path) -> None:
    path = shutil.copytree(exported[2][0], tmp_path / "copy")
    (path / "main.cpp").write_text(
        '#include "policy.h"\n'
        "int main() { float obs[POLICY_INPUTS] = {}; return policy_act(obs) < POLICY_FIRST_ACTION; }\n",
        encoding="utf-8",
    )
    succeed("gcc", "-std=c99", "-O2", "-c", "policy.c", cwd=path)
    succeed("g++", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "main", "main.cpp", "policy.o", "-lm", cwd=path)
    assert subprocess.run([path / "main"], check=False).returncode == 0  # noqa: S603


def test_cmake_builds_the_library_and_runs_the_selftest(exported: Exported, tmp_path: Path) -> None:
    path = exported[2][0]
    succeed("cmake", "-S", str(path), "-B", "build", cwd=tmp_path)
    succeed("cmake", "--build", "build", cwd=tmp_path)
    assert "100% tests passed" in succeed("ctest", "--test-dir", "build", cwd=tmp_path)
    # As a part of another project
    (tmp_path / "main.c").write_text('#include "policy.h"\nint main(void) { return POLICY_FIRST_ACTION; }\n', "utf-8")
    (tmp_path / "CMakeLists.txt").write_text(
        f'cmake_minimum_required(VERSION 3.10)\nproject(robot C)\nadd_subdirectory("{path}" policy)\n'
        "add_executable(robot main.c)\ntarget_link_libraries(robot policy)\n",
        encoding="utf-8",
    )
    succeed("cmake", "-S", ".", "-B", "other", cwd=tmp_path)
    succeed("cmake", "--build", "other", cwd=tmp_path)
    assert not list((tmp_path / "other").rglob("selftest*"))
