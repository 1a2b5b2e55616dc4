"""Weights come back bit for bit, and a file that is not ours, or no longer whole, is told apart from one that is."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from perilune import DQNConfig
from perilune._utils.arrays import Array, Arrays
from perilune.agent.dqn import Agent
from perilune.errors import ConfigError, FileFormatError, PeriluneError, RunDirectoryError
from perilune.replay.symmetry import Symmetry
from perilune.runs.weights import _checksum, load_weights, save_weights, weights_file

SMALL: dict[str, Any] = {"hidden": (3,), "batch_size": 2, "buffer_size": 10, "learning_starts": 4, "n_step": 1}


MIRROR = Symmetry(observation_index=(1, 0), observation_sign=(-1, -1), action_index=(1, 0))


def trained(
    config: DQNConfig | None = None, observation_size: int = 2, actions: int = 2, symmetry: Symmetry | None = None
) -> Agent:
    """An agent whose weights and counters have moved from where they start."""
    agent = Agent(observation_size, actions, config or DQNConfig(**SMALL), seed=5, symmetry=symmetry)
    generator = np.random.default_rng(0)
    for step in range(30):
        obs, next_obs = generator.normal(size=(2, observation_size)).astype(np.float32)
        if agent.warm:
            agent.observe(obs, step % actions, 1.0, next_obs, step % 7 == 0, False)
        else:
            agent.remember(obs, step % actions, 1.0, next_obs, False, False)
    assert agent.updates > 0
    return agent


def taken_apart(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The settings and the arrays in a file, taken apart by the format's own words."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    settings: dict[str, Any] = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["perilune"])
    return settings, dict(load_file(path))


def put_together(path: Path, settings: Any, arrays: Arrays) -> None:
    """Write a file by the format's own words, with the checksum that fits: whoever means harm can do so too."""
    if isinstance(settings, dict) and "sha256" in settings:
        settings = {name: value for name, value in settings.items() if name != "sha256"}
        settings["sha256"] = _checksum(settings, arrays)
    save_file(arrays, path, metadata={"perilune": settings if isinstance(settings, str) else json.dumps(settings)})


def replaced(name: str, change: Callable[[Array], Array]) -> Callable[[Arrays], object]:
    return lambda arrays: arrays.update({name: np.ascontiguousarray(change(arrays[name]))})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "agent.safetensors"
    save_weights(path, trained(), "CartPole-v1")
    return path


CONFIGS = [
    DQNConfig(**SMALL),
    DQNConfig(**SMALL | {"hidden": (5, (4, "tanh"), (3, "linear")), "layer_norm": False, "initializer": "glorot"}),
    DQNConfig(**SMALL | {"optimizer": "adamw", "loss": "mse", "max_grad_norm": None, "epsilon_decay": 0.99}),
    DQNConfig(**SMALL | {"head": "qr", "quantiles": 5, "dueling": True, "munchausen": 0.9, "priority_alpha": 0.6}),
    DQNConfig(**SMALL | {"head": "c51", "atoms": 5, "value_range": (-2, 3), "noisy": True}),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_an_agent_comes_back_bit_for_bit(tmp_path: Path, config: DQNConfig) -> None:
    agent = trained(config, 4, 3)
    save_weights(tmp_path / "agent.safetensors", agent, "Some/Env-v3")
    again, said = load_weights(tmp_path / "agent.safetensors")
    assert again.online.parameters.tobytes() == agent.online.parameters.tobytes()
    assert again.target.parameters.tobytes() == agent.online.parameters.tobytes()
    assert again.config == agent.config == config
    assert (said.environment, said.seed) == ("Some/Env-v3", 5)
    counters = ("observation_size", "actions", "env_steps", "updates", "episodes", "target_syncs", "seed")
    assert [getattr(again, name) for name in counters] == [getattr(agent, name) for name in counters]
    obs = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(again.q_values(obs), agent.q_values(obs))


@pytest.mark.parametrize("noisy", [False, True])
def test_the_average_comes_back_beside_the_weights_that_it_averages(tmp_path: Path, noisy: bool) -> None:
    agent = trained(DQNConfig(**SMALL, ema_decay=0.9, noisy=noisy))
    assert agent.average is not None
    assert not np.array_equal(agent.average.parameters, agent.online.parameters)
    save_weights(tmp_path / "agent.safetensors", agent, "CartPole-v1")
    again, _ = load_weights(tmp_path / "agent.safetensors")
    assert again.average is not None
    assert again.average.parameters.tobytes() == agent.average.parameters.tobytes()
    assert again.online.parameters.tobytes() == agent.online.parameters.tobytes()
    assert again.target.parameters.tobytes() == agent.online.parameters.tobytes()
    assert not np.shares_memory(again.average.parameters, again.online.parameters)
    obs = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
    np.testing.assert_array_equal(again.q_values(obs), agent.q_values(obs))
    assert [again.greedy_action(row) for row in obs] == agent.q_values(obs).argmax(axis=1).tolist()


def test_any_program_can_tell_the_average_from_the_weights(tmp_path: Path) -> None:
    agent = trained(DQNConfig(**SMALL, ema_decay=0.9))
    save_weights(tmp_path / "agent.safetensors", agent, "CartPole-v1")
    arrays = load_file(tmp_path / "agent.safetensors")
    online = agent.online.named_parameters()
    assert arrays.keys() == online.keys() | {f"average.{name}" for name in online}
    assert agent.average is not None
    for name, view in agent.average.named_parameters().items():
        np.testing.assert_array_equal(arrays[name], online[name])
        np.testing.assert_array_equal(arrays[f"average.{name}"], view)


def test_a_symmetry_comes_back_equal_and_mirrors_on(tmp_path: Path) -> None:
    agent = trained(DQNConfig(**SMALL, mirror=True), symmetry=MIRROR)
    save_weights(tmp_path / "agent.safetensors", agent, "CartPole-v1")
    again, saved = load_weights(tmp_path / "agent.safetensors")
    assert again.symmetry == saved.symmetry == MIRROR
    obs = np.ones((1, 2), np.float32)
    for _ in range(4):
        again.remember(obs[0], 0, 1.0, obs[0], False, False)
    assert np.isfinite(again.learn().loss)


def test_without_a_symmetry_none_comes_back(saved: Path) -> None:
    again, said = load_weights(saved)
    assert again.symmetry is None
    assert said.symmetry is None


def test_a_file_from_before_there_were_symmetries_still_loads(saved: Path) -> None:
    settings, arrays = taken_apart(saved)
    del settings["symmetry"]
    put_together(saved, settings, arrays)
    assert load_weights(saved)[0].symmetry is None


SWAPPED = {"observation_index": [1, 0], "observation_sign": [-1, -1], "action_index": [1, 0]}


@pytest.mark.parametrize(
    ("symmetry", "said"),
    [
        (SWAPPED | {"observation_index": [1, 1]}, r"observation_index =.* is invalid"),
        (SWAPPED | {"observation_index": [0.0, 1.0]}, "cannot be read"),
        (SWAPPED | {"action_index": ["a", 1]}, "cannot be read"),
        (SWAPPED | {"observation_sign": [1, -1]}, "observation_sign =.* is invalid"),
        (SWAPPED | {"observation_sign": [[1], [1]]}, "cannot be read"),
        (SWAPPED | {"observation_sign": [2, 2]}, "observation_sign =.* is invalid"),
        (SWAPPED | {"more": [1]}, "more"),
        (SWAPPED | {"action_index": 1}, "cannot be read"),
        ({"action_index": [1, 0]}, "observation_index"),
        (5, "cannot be read"),
        ("mirror", "cannot be read"),
        ([], "cannot be read"),
        # Whole, but not this agent's
        (SWAPPED | {"action_index": [1, 0, 2]}, r"symmetry = \(2, 3\) .* 2 observations and 2 actions"),
        (SWAPPED | {"observation_index": [0], "observation_sign": [1]}, r"symmetry = \(1, 2\) .* 2 observations"),
        (None, "mirror=True is invalid"),
    ],
    ids=str,
)
def test_a_damaged_symmetry_is_refused_by_name(tmp_path: Path, symmetry: Any, said: str) -> None:
    path = tmp_path / "agent.safetensors"
    save_weights(path, trained(DQNConfig(**SMALL, mirror=True), symmetry=MIRROR), "CartPole-v1")
    settings, arrays = taken_apart(path)
    assert settings["symmetry"] == SWAPPED
    put_together(path, settings | {"symmetry": symmetry}, arrays)
    with pytest.raises(FileFormatError, match=said) as caught:
        load_weights(path)
    assert str(path) in str(caught.value)
    assert "memory" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays.pop("average.0.Dense.weight"), "has arrays .* ask for .*average.0.Dense.weight"),
        (lambda arrays: [arrays.pop(name) for name in list(arrays) if "average" in name], "has arrays .* ask for"),
        (lambda arrays: arrays.update({"average.9.Dense.bias": np.zeros(2, np.float32)}), "average.9.Dense.bias"),
        (replaced("average.0.Dense.weight", np.transpose), r"average\.0\.Dense\.weight is float32\[3, 2\]"),
        (replaced("average.0.Dense.bias", lambda array: array * np.nan), r"average\.0\..* values that are not finite"),
    ],
)
def test_a_damaged_average_is_refused_by_name(tmp_path: Path, change: Callable[[Arrays], object], said: str) -> None:
    path = tmp_path / "agent.safetensors"
    save_weights(path, trained(DQNConfig(**SMALL, ema_decay=0.9)), "CartPole-v1")
    settings, arrays = taken_apart(path)
    change(arrays)
    put_together(path, settings, arrays)
    with pytest.raises(FileFormatError, match=said):
        load_weights(path)


def test_an_average_that_nobody_asks_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    save_weights(path, trained(DQNConfig(**SMALL, ema_decay=0.9)), "CartPole-v1")
    settings, arrays = taken_apart(path)
    put_together(path, settings | {"config": settings["config"] | {"ema_decay": None}}, arrays)
    with pytest.raises(FileFormatError, match=r"has arrays .*average.* ask for"):
        load_weights(path)


def test_the_replay_comes_back_empty(saved: Path) -> None:
    again, _ = load_weights(saved)
    assert len(again.replay) == 0
    assert not again.warm


def test_saving_the_same_agent_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(tmp_path / name, trained(), "CartPole-v1")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_program_can_read_the_weights(saved: Path) -> None:
    arrays = load_file(saved)
    assert {name: array.shape for name, array in arrays.items()} == {
        "0.Dense.weight": (2, 3), "0.Dense.bias": (3,), "1.LayerNorm.gain": (3,), "1.LayerNorm.bias": (3,),
        "3.Dense.weight": (3, 2), "3.Dense.bias": (2,),
    }  # fmt: skip
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_nothing_is_left_beside_the_file(saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == ["agent.safetensors"]


def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "agent.safetensors"
    with pytest.raises(RunDirectoryError, match=f"{path} cannot be written"):
        save_weights(path, trained(), "CartPole-v1")


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "agent.safetensors"
    path.mkdir()  # which a file cannot replace
    with pytest.raises(RunDirectoryError, match=r"agent\.safetensors cannot be written"):
        save_weights(path, trained(), "CartPole-v1")
    assert list(tmp_path.rglob("*")) == [path]


def test_every_truncated_file_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in {*range(0, len(content), 17), *range(len(content) - 5, len(content))}:
        saved.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=str(saved)):
            load_weights(saved)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", b"\x80\x04\x95 pickle", b"\xff" * 64, b"{}", b"\0" * 8])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="is not a safetensors file"):
        load_weights(path)


@pytest.mark.parametrize("name", ["nowhere.safetensors", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileFormatError, match="is not a file"):
        load_weights(tmp_path / name)


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(FileFormatError, match="was not saved by Perilune"):
        load_weights(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced("0.Dense.weight", np.transpose), r"0\.Dense\.weight is float32\[3, 2\], but must be float32\[2, 3\]"),
        (replaced("0.Dense.weight", lambda array: array.astype(np.float64)), r"float64\[2, 3\], but must be float32"),
        (replaced("0.Dense.bias", lambda array: array.astype(np.int32)), r"int32\[3\], but must be float32\[3\]"),
        (replaced("3.Dense.bias", lambda array: np.zeros(3, np.float32)), r"3\.Dense\.bias is float32\[3\]"),
        (replaced("3.Dense.bias", lambda array: array * np.nan), r"3\.Dense\.bias has values that are not finite"),
        (replaced("0.Dense.bias", lambda array: array - np.inf), r"0\.Dense\.bias has values that are not finite"),
        (lambda arrays: arrays.update({"4.Dense.bias": np.zeros(2, np.float32)}), "has arrays .* ask for"),
        (lambda arrays: arrays.pop("1.LayerNorm.bias"), "has arrays .* ask for"),
        (lambda arrays: arrays.clear(), "has 0 weights, but its settings ask for 17 or more"),
    ],
)
def test_weights_that_do_not_fit_the_settings_are_refused(
    saved: Path, change: Callable[[Arrays], object], said: str
) -> None:
    settings, arrays = taken_apart(saved)
    change(arrays)
    put_together(saved, settings, arrays)
    with pytest.raises(FileFormatError, match=said):
        load_weights(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 3}, "the format is none of"),
        ({"config": {"gama": 0.9}}, "did you mean gamma"),
        ({"config": SMALL | {"gamma": 1.5}}, "Expected `float` <= 1.0"),
        ({"config": SMALL | {"head": "c51"}}, "value_range=None is invalid"),
        ({"config": SMALL | {"head": "qr", "quantiles": 10**9}}, "Expected `int` <= 10000"),
        ({"config": SMALL | {"head": "qr", "quantiles": 10**4}}, "has 23 weights"),
        ({"config": SMALL | {"dueling": True}}, "has arrays|must be"),
        ({"config": SMALL | {"noisy": True}}, "has arrays .* ask for .*weight_sigma"),
        ({"config": 5}, "cannot be read"),
        ({"config": None}, "cannot be read"),
        ({"more": 1}, "more"),
        ({"env_steps": -1}, "counters"),
        ({"updates": 1.5}, "counters"),
        ({"seed": "1"}, "counters"),
        ({"actions": 0}, "sizes"),
        ({"actions": True}, "sizes"),
        ({"actions": 10**12}, "sizes"),
        ({"actions": 10**6}, "has 23 weights"),  # before a gigabyte is taken for them
        ({"config": SMALL | {"hidden": [2**20, 2**20]}}, "has 23 weights"),
        ({"config": SMALL | {"buffer_size": 10**40}}, "more memory than there is|Expected `int`"),
        ({"environment": 5}, "environment"),
    ],
)
def test_settings_that_are_not_ours_are_refused(saved: Path, change: dict[str, Any], said: str) -> None:
    settings, arrays = taken_apart(saved)
    put_together(saved, settings | change, arrays)
    with pytest.raises(FileFormatError, match=said):
        load_weights(saved)


def test_a_replay_beyond_memory_takes_none_before_it_is_filled(saved: Path) -> None:
    settings, arrays = taken_apart(saved)
    put_together(saved, settings | {"config": SMALL | {"buffer_size": 10**17, "priority_alpha": 0.5}}, arrays)
    agent, _ = load_weights(saved)
    with pytest.raises(ConfigError, match=r"buffer_size=10+ is invalid: .*fits into memory"):
        agent.take_memory()


@pytest.mark.parametrize("key", ["format", "environment", "observation_size", "actions", "seed", "updates", "config"])
def test_settings_without_one_of_their_parts_are_refused(saved: Path, key: str) -> None:
    settings, arrays = taken_apart(saved)
    del settings[key]
    put_together(saved, settings, arrays)
    with pytest.raises(FileFormatError, match=key):
        load_weights(saved)


@pytest.mark.parametrize("settings", ["", "{", "[]", "null", "3", '"format"', "[" * 100_000])
def test_settings_that_are_no_settings_are_refused(saved: Path, settings: str) -> None:
    put_together(saved, settings, taken_apart(saved)[1])
    with pytest.raises(FileFormatError, match="settings that cannot be read"):
        load_weights(saved)


def test_a_file_cannot_have_a_module_imported(saved: Path) -> None:
    # Gymnasium imports what stands before a colon in an id; no registered id has one.
    settings, arrays = taken_apart(saved)
    put_together(saved, settings | {"environment": "antigravity:Env-v0"}, arrays)
    with pytest.raises(FileFormatError, match="environment"):
        load_weights(saved)


def loads_or_is_refused(path: Path) -> None:
    """A damaged file is refused with an error of ours, or it was not damaged in what it holds."""
    try:
        agent, saved = load_weights(path)
    except PeriluneError:
        return
    assert np.isfinite(agent.online.parameters).all()
    with np.errstate(all="ignore"):  # one byte can make a weight huge, and that is a weight all the same
        assert agent.q_values(np.zeros((1, agent.observation_size))).shape == (1, agent.actions)
    assert isinstance(saved.environment, str)
    assert min(saved.env_steps, saved.updates, saved.episodes, saved.target_syncs) >= 0


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("checkpoint") / "agent.safetensors"
    save_weights(path, trained(DQNConfig(**SMALL, ema_decay=0.9, mirror=True), symmetry=MIRROR), "CartPole-v1")
    return path, path.read_bytes()


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_file_with_other_bytes_loads_or_is_refused(content: tuple[Path, bytes], edits: list[tuple[int, int]]) -> None:
    path, whole = content
    damaged = bytearray(whole)
    for place, byte in edits:
        damaged[place % len(whole)] = byte
    path.write_bytes(damaged)
    loads_or_is_refused(path)


@given(st.integers(0, 10_000), st.integers(0, 200), st.binary(max_size=50))
def test_a_file_with_a_piece_replaced_loads_or_is_refused(
    content: tuple[Path, bytes], start: int, length: int, piece: bytes
) -> None:
    path, whole = content
    start %= len(whole)
    path.write_bytes(whole[:start] + piece + whole[start + length :])
    loads_or_is_refused(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.data())
def test_a_file_with_any_other_setting_loads_or_is_refused(content: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = content
    path.write_bytes(whole)
    header, arrays = taken_apart(path)
    part = data.draw(st.sampled_from([header, header["config"], header["symmetry"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    put_together(path, header, arrays)
    loads_or_is_refused(path)


@pytest.mark.parametrize("dtype", ["F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I32", "U8", "BOOL", "F4", "C64", "X"])
def test_weights_of_any_other_kind_of_number_are_refused(saved: Path, dtype: str) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole.replace(b'"F32"', f'"{dtype}"'.encode(), 1))
    with pytest.raises(FileFormatError):
        load_weights(saved)


# Which file is meant


def test_a_run_directory_has_a_best_and_a_final_file(tmp_path: Path) -> None:
    for name in ("best", "final"):
        (tmp_path / f"{name}.safetensors").touch()
    assert weights_file(tmp_path) == tmp_path / "best.safetensors"
    assert weights_file(tmp_path, "final") == tmp_path / "final.safetensors"
    assert weights_file(tmp_path / "final.safetensors", "best") == tmp_path / "final.safetensors"


def test_what_a_directory_does_not_have_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    said = f"{tmp_path} holds no 'final' checkpoint: it has no final.safetensors, but 'best' is there"
    with pytest.raises(RunDirectoryError, match=said):
        weights_file(tmp_path, "final")
    with pytest.raises(RunDirectoryError, match=r"there is no such directory$"):
        weights_file(tmp_path / "nowhere")


def test_what_may_have_been_meant_is_named(tmp_path: Path) -> None:
    (tmp_path / "cartpole.safetensors").touch()
    with pytest.raises(RunDirectoryError, match=f"Did you mean {tmp_path}/cartpole.safetensors?"):
        weights_file(tmp_path / "cartpole")
    (tmp_path / "bench" / "seed-0").mkdir(parents=True)
    (tmp_path / "bench" / "seed-0" / "final.safetensors").touch()
    with pytest.raises(RunDirectoryError, match=r"Did you mean .*/bench/seed-0/final\.safetensors\?"):
        weights_file(tmp_path / "bench", "final")
