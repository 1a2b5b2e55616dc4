"""Weights files: an exact round trip, and damaged or foreign files that are refused before memory is allocated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from fixtures_runs import resealed, unsealed
from perilune import DQNConfig, cli
from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, FileFormatError, PeriluneError, RunDirectoryError
from perilune.replay.symmetry import Symmetry
from perilune.runs.weights import load_weights, save_weights, weights_file

SMALL: dict[str, Any] = {"hidden": (3,), "batch_size": 2, "buffer_size": 10, "learning_starts": 4, "n_step": 1}
MIRROR = Symmetry(observation_index=(1, 0), observation_sign=(-1, -1), action_index=(1, 0))


def trained(
    config: DQNConfig | None = None, observation_size: int = 2, actions: int = 2, symmetry: Symmetry | None = None
) -> Agent:
    """Return an agent after a few updates."""
    agent = Agent(observation_size, actions, config or DQNConfig(**SMALL), seed=5, symmetry=symmetry)
    generator = np.random.default_rng(0)
    for step in range(30):
        obs, next_obs = generator.normal(size=(2, observation_size)).astype(np.float32)
        if agent.warm:
            agent.observe(obs[None], [step % actions], [1.0], next_obs[None], [step % 7 == 0], [False])
        else:
            agent.remember(obs, step % actions, 1.0, next_obs, False, False)
    assert agent.updates > 0
    return agent


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "agent.safetensors"
    save_weights(path, trained(), "CartPole-v1")
    return path


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Return a path and the content of a weights file with an average and a symmetry."""
    path = tmp_path_factory.mktemp("weights") / "agent.safetensors"
    save_weights(path, trained(DQNConfig(**SMALL, ema_decay=0.9, mirror=True), symmetry=MIRROR), "CartPole-v1")
    return path, path.read_bytes()


@pytest.fixture
def mirrored(content: tuple[Path, bytes]) -> Path:
    content[0].write_bytes(content[1])
    return content[0]


CONFIGS = [
    DQNConfig(**SMALL),
    DQNConfig(**SMALL | {"hidden": (5, (4, "tanh"), (3, "linear")), "layer_norm": False, "initializer": "glorot"}),
    DQNConfig(**SMALL | {"optimizer": "adamw", "loss": "mse", "max_grad_norm": None, "ema_decay": 0.9}),
    DQNConfig(**SMALL | {"head": "qr", "quantiles": 5, "dueling": True, "munchausen": 0.9, "priority_alpha": 0.6}),
    DQNConfig(**SMALL | {"head": "c51", "atoms": 5, "value_range": (-2, 3), "noisy": True, "ema_decay": 0.9}),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_saved_agent_loads_bit_identical(tmp_path: Path, config: DQNConfig) -> None:
    agent = trained(config, 4, 3)
    for name in ("a", "b"):
        save_weights(tmp_path / name, agent, "Some/Env-v3")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again, saved = load_weights(tmp_path / "a")
    assert again.online.parameters.tobytes() == agent.online.parameters.tobytes()
    assert again.target.parameters.tobytes() == agent.online.parameters.tobytes()
    if agent.average is not None and again.average is not None:
        assert again.average.parameters.tobytes() == agent.average.parameters.tobytes()
        assert not np.shares_memory(again.average.parameters, again.online.parameters)
    assert again.config == agent.config == config
    assert (saved.environment, saved.seed) == ("Some/Env-v3", 5)
    counters = ("observation_size", "actions", "env_steps", "updates", "episodes", "target_syncs", "seed")
    assert [getattr(again, name) for name in counters] == [getattr(agent, name) for name in counters]
    obs = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(again.q_values(obs), agent.q_values(obs))
    assert len(again.replay) == 0


def test_policy_only_file_has_the_weights_of_evaluation_and_no_others(tmp_path: Path) -> None:
    agent = trained(DQNConfig(**SMALL, ema_decay=0.9))
    save_weights(tmp_path / "agent.safetensors", agent, "CartPole-v1", policy_only=True)
    again, saved = load_weights(tmp_path / "agent.safetensors")
    assert saved.config == again.config == agent.config
    assert agent.average is not None
    assert again.average is not None
    assert not np.shares_memory(again.average.parameters, again.online.parameters)
    for network in (again.online, again.target, again.average):
        np.testing.assert_array_equal(network.parameters, agent.average.parameters)
    assert load_file(tmp_path / "agent.safetensors").keys() == agent.online.named_parameters().keys()


def test_safetensors_library_reads_the_weights(tmp_path: Path) -> None:
    agent = trained(DQNConfig(**SMALL, ema_decay=0.9))
    save_weights(tmp_path / "agent.safetensors", agent, "CartPole-v1")
    arrays = load_file(tmp_path / "agent.safetensors")
    online = agent.online.named_parameters()
    assert {name: online[name].shape for name in online} == {
        "0.Dense.weight": (2, 3), "0.Dense.bias": (3,), "1.LayerNorm.gain": (3,), "1.LayerNorm.bias": (3,),
        "3.Dense.weight": (3, 2), "3.Dense.bias": (2,),
    }  # fmt: skip
    assert agent.average is not None
    assert arrays.keys() == online.keys() | {f"average.{name}" for name in online}
    for name, view in agent.average.named_parameters().items():
        np.testing.assert_array_equal(arrays[name], online[name])
        np.testing.assert_array_equal(arrays[f"average.{name}"], view)


def test_symmetry_is_saved_and_restored(mirrored: Path, saved: Path) -> None:
    again, content = load_weights(mirrored)
    assert again.symmetry == content.symmetry == MIRROR
    obs = np.ones((1, 2), np.float32)
    for _ in range(4):
        again.remember(obs[0], 0, 1.0, obs[0], False, False)
    assert np.isfinite(again.learn().loss)
    assert load_weights(saved)[0].symmetry is None


def test_failed_save_names_the_path_and_leaves_no_file(tmp_path: Path, saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == ["agent.safetensors"]
    saved.unlink()
    saved.mkdir()  # a file cannot replace it
    with pytest.raises(FileFormatError, match=r"agent\.safetensors is not a regular file"):
        save_weights(saved, trained(), "CartPole-v1")
    assert list(tmp_path.rglob("*")) == [saved]
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match=r"file/agent\.safetensors cannot be written"):
        save_weights(tmp_path / "file" / "agent.safetensors", trained(), "CartPole-v1")


# Damaged and foreign files

SWAPPED = {"observation_index": [1, 0], "observation_sign": [-1, -1], "action_index": [1, 0]}


@pytest.mark.parametrize(
    ("symmetry", "message"),
    [
        (SWAPPED | {"observation_index": [1, 1]}, "observation_index=.* is invalid"),
        (SWAPPED | {"observation_sign": [1, -1]}, "observation_sign=.* is invalid"),
        (SWAPPED | {"more": [1]}, "more"),
        ({"action_index": [1, 0]}, "observation_index"),
        (5, "Expected `object"),
        # valid, but for three actions
        (SWAPPED | {"action_index": [1, 0, 2]}, r"symmetry=\(2, 3\) .* 2 observations and 2 actions"),
        (None, "mirror=True is invalid"),
    ],
    ids=str,
)
def test_invalid_symmetry_is_refused(mirrored: Path, symmetry: Any, message: str) -> None:
    assert unsealed(mirrored)[1]["symmetry"] == SWAPPED
    resealed(mirrored, lambda content: content | {"symmetry": symmetry})
    with pytest.raises(FileFormatError, match=message) as caught:
        load_weights(mirrored)
    assert str(mirrored) in str(caught.value)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("0.Dense.weight", np.transpose, r"0\.Dense\.weight is float32\[3, 2\]: expected float32\[2, 3\]"),
        ("0.Dense.weight", lambda array: array.astype(np.float64), r"float64\[2, 3\]: expected float32"),
        ("3.Dense.bias", lambda array: array * np.nan, r"3\.Dense\.bias has values that are not finite"),
        ("average.0.Dense.bias", lambda array: array - np.inf, r"average\.0\..* values that are not finite"),
        ("4.Dense.bias", lambda array: array, "its arrays are .*: expected"),
        ("average.0.Dense.weight", None, "its arrays are .*: expected .*average.0.Dense.weight"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    mirrored: Path, name: str, change: Callable[[Array], Array] | None, message: str
) -> None:
    resealed(mirrored, arrays={name: change})
    with pytest.raises(FileFormatError, match=message):
        load_weights(mirrored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"gama": 0.9}}, "field='gama' is invalid: expected a known field"),
        ({"config": SMALL | {"gamma": 1.5}}, r"Expected `float` <= 1\.0"),
        ({"config": SMALL | {"head": "c51"}}, "value_range=None is invalid"),
        ({"config": SMALL | {"head": "qr", "quantiles": 10**4}}, "has 23 weights"),
        ({"config": SMALL | {"noisy": True}}, "its arrays are .*: expected .*weight_sigma"),
        ({"config": 5}, "Expected `object`"),
        ({"more": 1}, "more"),
        ({"env_steps": -1}, "env_steps"),
        ({"updates": 1.5}, "updates"),
        ({"actions": True}, "actions"),
        ({"actions": 10**12}, "has 23 weights"),  # before memory is allocated for them
        ({"config": SMALL | {"hidden": [2**20, 2**20]}}, "has 23 weights"),
        ({"environment": "antigravity:Env-v0"}, "environment"),  # Gymnasium would import the module
    ],
)
def test_invalid_settings_are_refused(saved: Path, change: dict[str, Any], message: str) -> None:
    resealed(saved, lambda content: content | change)
    with pytest.raises(FileFormatError, match=message):
        load_weights(saved)


def test_missing_settings_are_refused(saved: Path) -> None:
    whole, (_, settings, _) = saved.read_bytes(), unsealed(saved)
    for key in settings:
        saved.write_bytes(whole)
        resealed(saved, lambda content, key=key: {name: content[name] for name in content if name != key})
        with pytest.raises(FileFormatError, match=key):
            load_weights(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"format"', "[" * 100_000])
def test_content_that_is_not_a_json_object_is_refused(saved: Path, text: str) -> None:
    resealed(saved, lambda content: text)
    with pytest.raises(FileFormatError, match=r"has invalid content|at most"):
        load_weights(saved)


def test_huge_replay_buffer_is_not_allocated_on_loading(saved: Path) -> None:
    resealed(saved, lambda content: content | {"config": SMALL | {"buffer_size": 10**17, "priority_alpha": 0.5}})
    agent, _ = load_weights(saved)
    with pytest.raises(ConfigError, match=r"buffer_size=10+ is invalid: .*fits into memory"):
        agent.take_memory()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", b"\x80\x04\x95 pickle", b"\xff" * 64, b"{}", b"\0" * 8])
def test_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is not a safetensors file"):
        load_weights(path)


def test_missing_or_unknown_weights_are_refused(tmp_path: Path, saved: Path) -> None:
    for name in ("nowhere.safetensors", "."):
        with pytest.raises(FileFormatError, match="is not a file"):
            load_weights(tmp_path / name)
    resealed(saved, kind="perilune weights 2")
    with pytest.raises(FileFormatError, match=r"of kind 'perilune weights 2'; .* expects 'perilune weights 1'"):
        load_weights(saved)
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(FileFormatError, match="was not saved by Perilune"):
        load_weights(tmp_path / "other.safetensors")


def test_every_truncated_file_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in {*range(0, len(content), 37), *range(len(content) - 5, len(content))}:
        saved.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=str(saved)):
            load_weights(saved)


@pytest.mark.parametrize("dtype", ["F64", "F16", "BF16", "F8_E4M3", "I32", "BOOL", "F4", "C64", "X"])
def test_wrong_dtypes_are_refused(saved: Path, dtype: str) -> None:
    saved.write_bytes(saved.read_bytes().replace(b'"F32"', f'"{dtype}"'.encode(), 1))
    with pytest.raises(FileFormatError):
        load_weights(saved)


def loads_or_is_refused(path: Path) -> None:
    """Assert that a damaged file raises one of Perilune's errors, or that its content is valid."""
    try:
        agent, saved = load_weights(path)
    except PeriluneError:
        return
    assert np.isfinite(agent.online.parameters).all()
    assert min(saved.env_steps, saved.updates, saved.episodes, saved.target_syncs) >= 0


@given(st.integers(0, 10_000), st.integers(0, 200), st.binary(max_size=50))
def test_file_with_changed_bytes_loads_or_is_refused(
    content: tuple[Path, bytes], start: int, length: int, piece: bytes
) -> None:
    path, whole = content
    start %= len(whole)
    path.write_bytes(whole[:start] + piece + whole[start + length :])
    loads_or_is_refused(path)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=5), inner, max_size=3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=5),
    nested,
    max_leaves=5,
)


@given(st.data())
def test_file_with_any_setting_loads_or_is_refused(content: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = content
    path.write_bytes(whole)

    def changed(header: Any) -> Any:
        part = data.draw(st.sampled_from([header, header["config"], header["symmetry"]]))
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
        return header

    resealed(path, changed)
    loads_or_is_refused(path)


# File names


def test_weights_files_are_found_by_run_directory_and_name(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    assert weights_file(tmp_path) == weights_file(tmp_path / "best.safetensors", "final")
    with pytest.raises(RunDirectoryError, match=r"no final weights: .* Pass --checkpoint best or the file .*best\."):
        weights_file(tmp_path, "final")
    with pytest.raises(RunDirectoryError, match=r"nowhere does not exist: expected a run directory or"):
        weights_file(tmp_path / "nowhere")
    with pytest.raises(RunDirectoryError, match=r"file, not the ID of an environment\. `perilune list`"):
        weights_file(tmp_path / "ferry:Ferry-v0")
    (tmp_path / "cartpole.safetensors").touch()
    assert weights_file(tmp_path / "cartpole") == tmp_path / "cartpole.safetensors"


def test_missing_weights_of_a_run_are_explained(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()

    def error(checkpoint: str) -> str:
        with pytest.raises(RunDirectoryError) as caught:
            weights_file(tmp_path, checkpoint)
        return str(caught.value)

    resume = f"esume the run with: perilune resume {tmp_path}"
    assert error("final").endswith(f"does not exist, because training has not ended. R{resume}")
    hint = f"train with a smaller --eval-every, or r{resume}"
    assert error("best").endswith(f", because training has not evaluated the agent yet. T{hint[1:]}")
    (tmp_path / "final.safetensors").touch()
    assert error("best").endswith(f" yet. Pass --checkpoint final or the file {tmp_path}/final.safetensors, or {hint}")


@pytest.mark.parametrize("command", [["evaluate"], ["video"], ["video", "--stages"], ["maps"], ["play", "CartPole-v1"]])
def test_commands_for_one_agent_list_the_runs_to_choose_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    def error() -> str:
        with pytest.raises(SystemExit):
            cli.main([*command, str(tmp_path)])
        return capsys.readouterr().err

    assert error().endswith(
        ("Pass a run directory. `perilune list` lists the runs in runs/.\n", ".safetensors file.\n")
    )
    names = [str(tmp_path / f"seed-{number}") for number in range(10)]
    for count, words in (
        (1, f"Pass its run: {names[0]}."),
        (3, f"Pass one of its 3 runs: {', '.join(names[:3])}."),
        (10, f"{names[7]} and 2 more (perilune list {tmp_path})."),
    ):
        for name in names[:count]:
            Path(name).mkdir(exist_ok=True)
            (Path(name) / "config.json").touch()
        assert error().endswith(f"{words}\n")
