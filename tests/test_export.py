"""Exports: a policy as plain data, the Python and ONNX targets, contract.json, and the commands."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import onnxruntime
import pytest
from gymnasium import spaces
from hypothesis import given, settings

from perilune import DQN, envs
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, ExportError, FileFormatError, RunDirectoryError
from perilune.export import c, export_agent, golden, onnx, policy, python
from perilune.export.contract import Contract
from perilune.export.write import TARGETS
from perilune.training import evaluation
from policies import SPACES, Sampled, agents, check_agreement, exact_q_values, invalid_observations, observations
from test_cli import call, done

SCHEMA = json.loads((Path(policy.__file__).with_name("contract.schema.json")).read_text(encoding="utf-8"))


def no_golden(made: policy.Policy) -> golden.Golden:
    empty = np.zeros((0, len(made.entries)), np.float32)
    return golden.Golden(empty, np.zeros((0, len(made.actions)), np.float32), np.zeros(0, np.int64))


def python_policy(files: dict[str, str], directory: Path) -> Any:
    path = directory / "policy.py"
    path.write_text(files["policy.py"], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Policy()


def onnx_session(content: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options)


# The policy as plain data


def test_linear_layers_after_the_last_activation_become_one() -> None:
    # By hand: relu([x]) = [x], streams v = 1 + x, u = (3x, x), q_a = v + u_a - mean(u) = (1 + 2x, 1), times 10 and 5.
    agent = Agent(1, 2, DQNConfig(hidden=(1,), dueling=True, layer_norm=False, output_scale=10, reward_scale=5), 0)
    weights = agent.online.named_parameters()
    for name, value in zip(weights, ([[1]], [0], [[1, 3, 1]], [1, 0, 0]), strict=True):
        weights[name][...] = value
    blocks, support = policy.network_blocks(agent)
    assert support is None
    assert [block.activation for block in blocks] == ["relu", "linear"]
    np.testing.assert_allclose(blocks[1].weight, [[100, 0]])
    np.testing.assert_allclose(blocks[1].bias, [50, 50])


@settings(max_examples=60, deadline=None)
@given(made=agents())
def test_policy_agrees_with_the_agent(made: tuple[Agent, envs.Env]) -> None:
    agent, env = made
    found = policy.from_agent(agent, env)
    flat, raw = observations(found, 200)
    exact = exact_q_values(agent, flat)
    values = policy.q_values(found, raw)
    check_agreement(found, raw, values, found.first_action + values.argmax(axis=1), exact)


@pytest.mark.parametrize("name", SPACES)
def test_encoding_matches_the_flattening_of_gymnasium(name: str) -> None:
    env = envs.flattened(Sampled(SPACES[name], 2))
    entries = policy.observation_entries(env)
    SPACES[name].seed(3)
    for _ in range(20):
        observation = SPACES[name].sample()
        flat = np.asarray(spaces.flatten(SPACES[name], observation), np.float32)
        raw = policy.unencoded(entries, flat[None])
        leaves = observation.values() if isinstance(observation, dict) else observation
        leaves = leaves if isinstance(observation, dict | tuple) else [observation]
        np.testing.assert_array_equal(raw[0], np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(np.float32))
        code = policy.encoding(entries)
        encoded = np.where(code.one_hot, raw[0][code.index] == code.value, raw[0][code.index])
        np.testing.assert_array_equal(encoded, flat)


def test_noise_that_is_active_is_refused() -> None:
    agent = Agent(2, 2, DQNConfig(hidden=(4,), noisy=True), 0)
    agent.online.draw_noise(np.random.default_rng(0))
    with pytest.raises(ExportError, match="its noise is active"):
        policy.network_blocks(agent)


def test_exports_of_a_noisy_agent_have_no_noise() -> None:
    dqn = DQN("CartPole-v1", None, noisy=True, seed=3)
    dqn.agent.act(np.zeros((1, 4), np.float32), epsilon=0)  # draws noise
    found = policy.from_agent(dqn.agent, dqn.env)
    obs = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(policy.q_values(found, obs), dqn.q_values(obs), rtol=1e-5)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", None)
    dqn.agent.online.parameters[3] = np.nan
    with pytest.raises(ExportError, match="some of its weights are not finite"):
        dqn.export("python", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Python and ONNX


@settings(max_examples=25, deadline=None)
@given(made=agents())
def test_python_and_onnx_agree_with_the_agent(made: tuple[Agent, envs.Env], tmp_path_factory: Any) -> None:
    agent, env = made
    found = policy.from_agent(agent, env)
    flat, raw = observations(found, 200)
    exact = exact_q_values(agent, flat)
    exported = python_policy(python.render(found, no_golden(found)), tmp_path_factory.mktemp("export"))
    check_agreement(found, raw, exported.q_values(raw), exported.act(raw), exact)
    session = onnx_session(onnx.render(found, no_golden(found))["policy.onnx"])
    check_agreement(found, raw, *session.run(["q_values", "action"], {"obs": raw}), exact)
    wrong = invalid_observations(found, raw[0])
    assert np.isnan(exported.q_values(wrong)).all()
    assert (exported.act(wrong) == found.first_action).all()
    values, action = session.run(["q_values", "action"], {"obs": wrong})
    assert np.isnan(values).all()
    assert (action == found.first_action).all()


def test_python_export_accepts_one_observation_and_rejects_other_sizes(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", None)
    found = policy.from_agent(dqn.agent, dqn.env)
    exported = python_policy(python.render(found, no_golden(found)), tmp_path)
    assert exported.q_values([0, 0, 0, 0]).shape == (2,)
    assert type(exported.act(np.zeros(4))) is int
    assert exported.act(np.zeros((3, 4))).shape == (3,)
    with pytest.raises(ValueError, match="expected observations with 4 numbers"):
        exported.act(np.zeros(8))


def test_onnx_model_names_its_inputs_outputs_and_source() -> None:
    dqn = DQN.pretrained("CartPole-v1")
    found = policy.from_agent(dqn.agent, dqn.env)
    session = onnx_session(onnx.render(found, no_golden(found))["policy.onnx"])
    assert [(each.name, each.shape, each.type) for each in session.get_inputs()] == [
        ("obs", ["batch", 4], "tensor(float)")
    ]
    assert [(each.name, each.shape, each.type) for each in session.get_outputs()] == [
        ("q_values", ["batch", 2], "tensor(float)"),
        ("action", ["batch"], "tensor(int64)"),
    ]
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["environment"] == "CartPole-v1"
    assert json.loads(properties["actions"]) == ["push left", "push right"]
    assert json.loads(properties["observations"])[2] == "angle"
    assert properties["weights_sha256"] == found.sha256
    for rows in (1, 7):
        assert session.run(None, {"obs": np.zeros((rows, 4), np.float32)})[0].shape == (rows, 2)


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "CartPole-v1", "Acrobot-v1", "MountainCar-v0"])
def test_pretrained_agents_play_the_same_episodes_as_python_and_onnx(env_id: str, tmp_path: Path) -> None:
    dqn = DQN.pretrained(env_id)
    expected = dqn.evaluate(episodes=2)
    for target in ("python", "onnx"):
        out = dqn.export(target, tmp_path / target, episodes=0)
        played = out / "policy.py" if target == "python" else out
        result = json.loads(done("evaluate", str(played), "--episodes", "2", "--json"))
        assert tuple(result["returns"]) == expected.returns
        assert result["environment"] == env_id


# Self-tests, golden vectors and the contract


def selftest(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "selftest.py"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603


def test_self_test_passes_and_finds_a_changed_weight(tmp_path: Path) -> None:
    dqn = DQN.pretrained("CartPole-v1")
    for target in ("python", "onnx"):
        out = dqn.export(target, tmp_path / target, episodes=0)
        passed = selftest(out)
        assert passed.returncode == 0, passed.stderr
        assert passed.stdout.startswith("OK: 64 observations agree.")
    dqn.agent.policy_network.parameters[7] += 0.5
    for target in ("python", "onnx"):
        changed = dqn.export(target, tmp_path / f"{target}-changed", episodes=0)
        shutil.copy(tmp_path / target / "golden.json", changed)
        failed = selftest(changed)
        assert failed.returncode == 1
        assert failed.stderr.startswith("FAILED: ")


def test_contract_describes_the_export_and_matches_the_schema(tmp_path: Path) -> None:
    dqn = DQN("Blackjack-v1", None, head="c51", value_range=(-1, 1), atoms=11, hidden=(8,), seed=5)
    out = dqn.export("python", tmp_path / "out", episodes=3)
    content = json.loads((out / "contract.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, SCHEMA)
    assert content["observation"][0] == {"name": "obs[0]", "low": 0, "high": 31, "encoding": "category"}
    assert content["inputs"] == [{"name": "obs", "dtype": "float32", "shape": ["batch", 3]}]
    assert content["outputs"][0] == {"name": "q_values", "dtype": "float32", "shape": ["batch", 2]}
    assert content["actions"] == [{"value": 0, "name": "stick"}, {"value": 1, "name": "hit"}]
    assert content["layers"][-1] == {"units": 22, "normalization": False, "activation": "linear"}
    assert content["atoms"] == 11
    assert content["seed"] == 5
    assert content["score"]["mean"] == dqn.evaluate(3).mean_return
    assert set(content["files"]) == {path.name for path in out.iterdir()} - {"contract.json"}


def test_loss_of_8_bit_weights_is_that_of_the_same_episodes(tmp_path: Path) -> None:
    dqn = DQN.pretrained("MountainCar-v0")
    out = dqn.export("c", tmp_path / "out", int8=True, episodes=3)
    content = json.loads((out / "contract.json").read_text(encoding="utf-8"))
    found = policy.from_agent(dqn.agent, dqn.env)
    reduced = c.quantized(found)
    played = evaluation.evaluate(lambda obs: int(policy.q_values(reduced, obs[None]).argmax()), dqn.env, 3)
    differences = np.subtract(played.returns, dqn.evaluate(3).returns)
    assert content["int8_score"]["mean"] == played.mean_return
    assert content["int8_score"]["difference"] == pytest.approx(differences.mean())
    assert content["int8_score"]["standard_error"] == pytest.approx(differences.std(ddof=1) / np.sqrt(3))


def test_published_schema_is_that_of_the_contract() -> None:
    assert msgspec.json.schema(Contract) == SCHEMA


def test_golden_vectors_are_those_of_the_library() -> None:
    dqn = DQN.pretrained("MountainCar-v0")
    found = golden.golden_vectors(dqn.agent, dqn.env, policy.from_agent(dqn.agent, dqn.env))
    assert found.obs.shape == (64, 2)
    np.testing.assert_array_equal(found.q_values, dqn.q_values(found.obs))
    np.testing.assert_array_equal(found.action, dqn.act(found.obs))


# What is refused, and what is replaced


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", None)
    out = dqn.export("python", tmp_path / "out", episodes=0)
    with pytest.raises(RunDirectoryError, match=r"already contains an export\. Pass --overwrite"):
        dqn.export("python", out, episodes=0)
    dqn.export("onnx", out, episodes=0, overwrite=True)
    assert not (out / "policy.py").exists()
    assert selftest(out).returncode == 0
    (out / "__pycache__").mkdir(exist_ok=True)
    dqn.export("python", out, episodes=0, overwrite=True)  # what the self-test left does not count as another file
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunDirectoryError, match=r"contains other files: notes\.txt"):
        dqn.export("onnx", out, episodes=0, overwrite=True)
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"
    with pytest.raises(RunDirectoryError, match="is a file"):
        dqn.export("onnx", out / "notes.txt", episodes=0)


def test_a_contract_of_another_kind_protects_its_directory(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text('{"format": "deed of sale"}', encoding="utf-8")
    with pytest.raises(FileFormatError, match="is not the contract of an export"):
        DQN("CartPole-v1", None).export("python", tmp_path, episodes=0, overwrite=True)


def test_unknown_targets_and_options_are_refused(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", None)
    with pytest.raises(ConfigError, match=r"expected one of onnx, c, js, python\. Did you mean onnx\?"):
        dqn.export("onxx", tmp_path / "out")  # type: ignore[arg-type]
    for target in set(TARGETS) - {"c"}:
        with pytest.raises(ConfigError, match="only C supports 8-bit weights"):
            export_agent(dqn.agent, dqn.env, target, tmp_path / "out", int8=True)
    for arguments in ({"episodes": -1}, {"episodes": "3"}, {"episodes": 1.5}, {"int8": "yes"}):
        with pytest.raises(ConfigError, match="is invalid: expected"):
            dqn.export("c", tmp_path / "out", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="target=None is invalid"):
        dqn.export(None, tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


# Commands


@pytest.mark.parametrize("target", TARGETS)
def test_export_command_writes_every_target(target: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = done("export", "CartPole-v1", "--pretrained", "--to", target, "--episodes", "1", "--out", str(out))
    assert shown.startswith(f"{out}: CartPole-v1, ")
    assert "Mean return of the agent over 1 episode: 500" in shown
    assert f"Check it: cd {out} && " in shown
    assert json.loads((out / "contract.json").read_text(encoding="utf-8"))["target"] == target


def test_required_option_is_named() -> None:
    assert (
        "--to is missing: target of the export (onnx, c, js or python)"
        in call("export", "CartPole-v1", "--pretrained").err
    )
    assert "expected onnx, c, js or python" in call("export", "CartPole-v1", "--pretrained", "--to", "x").err


def test_evaluate_refuses_what_it_cannot_play(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", None)
    out = dqn.export("js", tmp_path / "js", episodes=0)
    assert (
        "which Perilune cannot play: expected onnx or python. To check it, run: cd " in call("evaluate", str(out)).err
    )
    other = tmp_path / "other.py"
    other.write_text("x = 1", encoding="utf-8")
    assert "Pass the environment with --env." in call("evaluate", str(other)).err
    assert "--checkpoint final requires a run directory" in call("evaluate", str(other), "--checkpoint", "final").err
    assert "is not a Python export" in call("evaluate", str(other), "--env", "CartPole-v1").err
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    assert "is not a valid ONNX model" in call("evaluate", str(broken), "--env", "CartPole-v1").err
    fits = dqn.export("python", tmp_path / "python", episodes=0)
    module = str(fits / "policy.py")
    assert "expected observations with 4 numbers" in call("evaluate", module, "--env", "MountainCar-v0").err


def test_evaluate_checks_the_file_and_the_environment(tmp_path: Path) -> None:
    out = DQN("CartPole-v1", None).export("onnx", tmp_path / "out", episodes=0)
    assert "takes 4 numbers, but an observation has 2. Pass the environment" in (
        call("evaluate", str(out), "--env", "MountainCar-v0").err
    )
    other = DQN("CartPole-v1", None, seed=1).export("onnx", tmp_path / "other", episodes=0)
    shutil.copy(other / "policy.onnx", out)
    assert (
        "is not the file that the export wrote: its SHA-256 is not in contract.json" in call("evaluate", str(out)).err
    )
    (out / "policy.onnx").unlink()
    assert f"{out / 'policy.onnx'} does not exist" in call("evaluate", str(out)).err


def test_export_names_the_arguments_of_its_environment(tmp_path: Path) -> None:
    dqn = DQN(envs.make("LunarLander-v3", enable_wind=True), None)
    out = dqn.export("onnx", tmp_path / "out", episodes=0)
    played = call("evaluate", str(out), "--episodes", "1", "--max-episode-steps", "5")
    assert "the agent was exported for LunarLander-v3 {'enable_wind': True}" in played.err
    assert "Pass the arguments of that environment with --env-kwargs." in played.err
    same = ["--env-kwargs", "enable_wind=True"]
    assert "exported for" not in call("evaluate", str(out), "--episodes", "1", "--max-episode-steps", "5", *same).err


def test_evaluating_a_directory_runs_no_code(tmp_path: Path) -> None:
    out = DQN("CartPole-v1", None).export("python", tmp_path / "out", episodes=0)
    mark = tmp_path / "ran"
    (out / "policy.py").write_text(f"open({str(mark)!r}, 'w')", encoding="utf-8")
    assert f"If you trust it, pass {out / 'policy.py'}." in call("evaluate", str(out)).err
    assert not mark.exists()
