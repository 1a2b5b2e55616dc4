"""Maps of networks with known values, units and gradients, and of a run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from fixtures_runs import TinyRun
from perilune import DQN, cli, envs
from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.envs.known.lunar_lander import LUNAR_LANDER
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError
from perilune.replay.buffer import Batch
from perilune.runs import snapshots
from perilune.runs.weights import save_weights
from perilune.viz import insight, maps
from perilune.viz.figures import shares

PLAIN = DQNConfig(
    hidden=((3, "linear"),), layer_norm=False, n_step=1, double=False, batch_size=4, buffer_size=50, learning_starts=4,
    tau=1, target_update_interval=100,
)  # fmt: skip
ALL = ["values", "actions", "visited", "units", "weights"]


def agent_with(hidden: Array, out: Array, bias: Array | None = None, config: DQNConfig = PLAIN) -> Agent:
    """Return an agent of one hidden layer with weights [O, U] and [U, A], and the bias [U] of the hidden layer."""
    agent = Agent(hidden.shape[0], out.shape[1], replace(config, hidden=((hidden.shape[1], config.hidden[0][1]),)), 0)  # type: ignore[index]
    agent.online.parameters[:] = 0
    dense, output = [view for name, view in agent.online.named_parameters().items() if name.endswith("weight")]
    dense[:], output[:] = hidden, out
    if bias is not None:
        agent.online.named_parameters()["0.Dense.bias"][:] = bias
    return agent


def square(count: int, seed: int = 0) -> Array:
    """Return states in the square from -1 to 1, with a third entry whose median is 7."""
    obs = np.random.default_rng(seed).uniform(-1, 1, (count, 3)).astype(np.float32)
    obs[:, 2] = np.linspace(6, 8, count)
    return obs


def test_value_map_shows_network_values_and_best_actions() -> None:
    # Q(obs, 0) = obs[0], Q(obs, 1) = obs[1], and the third action is the worst everywhere.
    x_edges, y_edges, q, _ = insight.value_map(agent_with(np.eye(3), np.diag([1, 1, -1])), square(4_000), 0, 1)
    x, y = (x_edges[1:] + x_edges[:-1]) / 2, (y_edges[1:] + y_edges[:-1]) / 2
    np.testing.assert_allclose(q[..., 0], np.broadcast_to(x, q.shape[:2]), atol=1e-6)
    np.testing.assert_allclose(q[..., 1], np.broadcast_to(y[:, None], q.shape[:2]), atol=1e-6)
    np.testing.assert_array_equal(q.argmax(axis=-1), y[:, None] > x)


def test_value_map_marks_states_that_were_never_visited() -> None:
    obs = square(40_000)
    obs = obs[(obs[:, 0] < 0) | (obs[:, 1] < 0)]
    *_, seen = insight.value_map(agent_with(np.eye(3), np.eye(3)), obs, 0, 1)
    half = insight.GRID // 2
    assert not seen[half + 4 :, half + 4 :].any()
    assert seen[8 : half - 4, 8 : half - 4].all()


def test_constant_observation_entry_can_be_mapped() -> None:
    obs = np.zeros((50, 3), np.float32)
    x_edges, *_, seen = insight.value_map(agent_with(np.eye(3), np.eye(3)), obs, 0, 1)
    assert (np.diff(x_edges) > 0).all()
    assert seen.any()
    assert not seen.all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 80))
def test_action_shares_sum_to_one(actions: list[int], parts: int) -> None:
    found = shares(np.array(actions), 4, parts)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert len(found) == min(parts, len(actions))
    np.testing.assert_allclose(shares(np.array(actions), 4, 1)[0] * len(actions), np.bincount(actions, minlength=4))


def test_visit_map_covers_the_first_and_last_third_of_training() -> None:
    obs = np.zeros((300, 2), np.float32)
    obs[:100] = -1
    obs[200:] = 1
    *_, first, last = insight.visits(obs, 0, 1, cells=10)
    early, late = np.argwhere(first > 0), np.argwhere(last > 0)
    assert early.tolist() == [[0, 0]] or early.max() < 5
    assert late.min() > 5
    assert first.sum() == pytest.approx(1)
    assert last.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("activation", "bias", "dead", "always"),
    [
        ("relu", [-100, 0, 100], [True, False, False], [False, False, True]),
        ("tanh", [-100, 0, 4.6], [True, False, False], [False, False, True]),
        ("linear", [-100, 0, 100], [False] * 3, [False] * 3),
    ],
)
def test_dead_and_always_active_units_are_found(
    activation: str, bias: list[float], dead: list[bool], always: list[bool]
) -> None:
    config = replace(PLAIN, hidden=((3, activation),))  # type: ignore[arg-type]
    agent = agent_with(np.eye(3), np.eye(3), np.array(bias), config)
    (found,) = insight.units(agent, np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32))
    assert (found.dead.tolist(), found.always.tolist()) == (dead, always)
    assert found.activation == activation


@pytest.mark.parametrize("config", [{"dueling": True}, {"noisy": True}, {"layer_norm": True}, {"head": "qr"}])
def test_maps_find_the_hidden_layers_of_every_network(config: dict[str, object]) -> None:
    agent = Agent(3, 2, replace(PLAIN, hidden=(5, (4, "tanh"), (6, "linear")), **config), 0)  # type: ignore[arg-type]
    found = insight.units(agent, square(20))
    assert [(unit.activation, unit.outputs.shape) for unit in found] == [
        ("relu", (20, 5)), ("tanh", (20, 4)), ("linear", (20, 6)),
    ]  # fmt: skip
    assert (found[0].outputs >= 0).all()
    assert (np.abs(found[1].outputs) <= 1).all()


def batch_of(agent: Agent, wrong_by: float) -> Batch:
    """Return four terminal transitions with rewards ``wrong_by`` above the agent's Q-values."""
    obs, action = square(4), np.array([0, 1, 0, 1])
    reward = agent.q_values(obs)[np.arange(4), action] + wrong_by
    return Batch(obs, action, reward.astype(np.float32), np.zeros(4, np.float32), obs)


def test_gradients_match_hand_computation(tmp_path: Path) -> None:
    agent = agent_with(np.eye(3), np.eye(3)[:, :2])
    save_weights(tmp_path / "0.safetensors", agent, "Some-v0")
    right = insight.layers_over_time([tmp_path / "0.safetensors"], batch_of(agent, 0), (3, 2))
    assert right.gradients is not None
    assert np.isnan(right.gradients).all()  # all gradients are 0
    np.testing.assert_array_equal(right.zeros, np.ones((1, 2)))
    # Huber's loss has slope -1 at an error of 5: output gradients are minus the mean of the units' outputs.
    batch = batch_of(agent, 5)
    wrong = insight.layers_over_time([tmp_path / "0.safetensors"], batch, (3, 2))
    expected = np.array([-batch.obs[batch.action == action].sum(axis=0) / 4 for action in (0, 1)])
    assert wrong.gradients is not None
    np.testing.assert_allclose(wrong.gradients[0, 1], np.quantile(np.abs(expected), insight.LEVELS), rtol=1e-5)
    np.testing.assert_array_equal(wrong.zeros, [[1 / 3, 0]])  # the third unit has no connection
    np.testing.assert_array_equal(wrong.weights[0, 0], np.quantile(np.eye(3), insight.LEVELS))
    assert wrong.layers == ["hidden 1, 3 x 3", "output, 3 x 2"]


def test_zero_gradients_are_counted_and_not_drawn(tmp_path: Path) -> None:
    # Four of five entries are always 0, as in a one-hot code, and so are their gradients.
    agent = agent_with(np.eye(5), np.ones((5, 2)))
    save_weights(tmp_path / "0.safetensors", agent, "Some-v0")
    obs, action = np.zeros((4, 5), np.float32), np.array([0, 1, 0, 1])
    obs[:, 3] = 1
    reward = agent.q_values(obs)[np.arange(4), action] + 5
    batch = Batch(obs, action, reward.astype(np.float32), np.zeros(4, np.float32), obs)
    history = insight.layers_over_time([tmp_path / "0.safetensors"], batch, (5, 2))
    assert history.zeros is not None
    assert history.gradients is not None
    np.testing.assert_allclose(history.zeros, [[4 / 5, 4 / 5]])
    np.testing.assert_allclose(history.gradients[0], [[1] * 5, [0.5] * 5])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ""),
        ({"head": "qr", "quantiles": 16}, "The 32 outputs represent 2 actions, with 16 quantiles each."),
        (
            {"head": "c51", "atoms": 16, "dueling": True, "value_range": (0, 9)},
            "The 48 outputs represent a value and the advantages of 2 actions, with 16 probabilities each.",
        ),
    ],
)
def test_outputs_of_the_network_are_described(config: dict[str, object], words: str, tmp_path: Path) -> None:
    agent = Agent(3, 2, replace(PLAIN, **config), 0)  # type: ignore[arg-type]
    save_weights(tmp_path / "0.safetensors", agent, "Some-v0")
    history = insight.layers_over_time([tmp_path / "0.safetensors"])
    assert history.outputs == words
    assert not words or history.layers[-1].endswith(f" {words.split()[1]}")


def test_full_replay_buffer_is_read_oldest_first(tmp_path: Path) -> None:
    settings = {"batch_size": 4, "buffer_size": 60, "learning_starts": 10, "n_step": 1, "epsilon_decay_steps": 50}
    dqn = DQN("CartPole-v1", seed=1, hidden=(4,), **settings)
    dqn.train(run_dir=tmp_path / "run", steps=150, eval_every=None, eval_episodes=1, pictures=False, quiet=True)
    found, overwritten, sizes = insight.replay(tmp_path / "run")
    assert (len(found.action), overwritten, sizes) == (60, 90, (4, 2))
    obs, next_obs = found.obs, found.next_obs
    continues = (obs[1:] == next_obs[:-1]).all(axis=1)
    ended = found.discount[:-1] == 0
    np.testing.assert_array_equal(continues, ~ended)
    assert 0 < ended.sum() < 20


@pytest.fixture
def run(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the tiny run that tests may change."""
    return Path(shutil.copytree(tiny_run.history.directory, tmp_path / "run"))


def test_maps_command_writes_every_figure(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["maps", str(run), "--x", "angle", "--y", "1"])
    output = capsys.readouterr()
    expected = [run / "maps" / f"{name}.{kind}" for name in ALL for kind in ("png", "svg")]
    figures = ["values", "actions", "visited states", "units, weights and gradients over time"]
    assert output.out.splitlines() == [str(path) for path in expected]
    assert output.err.splitlines() == [f"perilune: drawing {words}" for words in figures]
    for path in expected[::2]:
        assert imread(path).std() > 0.05


def test_each_figure_explains_itself(run: Path) -> None:
    drawn = maps.draw(run)
    assert [*maps.MEANINGS] == ALL
    for name, picture in drawn.pictures.items():
        assert maps.MEANINGS[name] in picture.figure.get_supxlabel().replace("\n", " ")


def test_lunar_lander_maps_show_terrain_and_pad_at_their_true_places(tmp_path: Path) -> None:
    scene = LUNAR_LANDER.scene
    assert scene is not None
    env = envs.make("LunarLander-v3")
    obs, _ = env.reset(seed=3)
    world: Any = env.unwrapped
    x, y = float(world.lander.position.x), float(world.lander.position.y)
    half_width, half_height = 10.0, 20 / 3  # of the image, in meters
    pad = [obs[0] + (end - x) / half_width for end in (world.helipad_x1, world.helipad_x2)]
    np.testing.assert_allclose(scene.pad, pad, atol=1e-6)
    np.testing.assert_allclose(scene.terrain, obs[1] + (world.helipad_y - y) / half_height, atol=1e-6)
    env.close()

    settings = {"batch_size": 4, "buffer_size": 100, "learning_starts": 10, "epsilon_decay_steps": 50}
    DQN("LunarLander-v3", hidden=(4,), **settings).train(
        run_dir=tmp_path / "run", steps=90, eval_every=None, eval_episodes=1, max_episode_steps=40, pictures=False,
        quiet=True,
    )  # fmt: skip
    for axes, shown in (((None, None), True), (("angle", "y velocity"), False)):
        drawn = maps.draw(tmp_path / "run", *axes).pictures
        for panel in (*drawn["values"].figure.axes[:3], *drawn["visited"].figure.axes[:2]):
            assert ("pad" in [text.get_text() for text in panel.texts]) == shown
            ends = [line.get_xydata().tolist() for line in panel.get_lines()]
            assert ([[x, scene.terrain] for x in scene.pad] in ends) == shown
            if shown:
                assert panel.get_ylim()[0] < scene.terrain < panel.get_ylim()[1]


def test_figures_name_entries_actions_and_steps(run: Path) -> None:
    drawn = maps.draw(run, "velocity", "angle")
    assert (list(drawn.pictures), drawn.skipped) == (ALL, [])
    values = drawn.pictures["values"].figure
    assert (values.axes[0].get_xlabel(), values.axes[0].get_ylabel()) == ("velocity", "angle")
    assert [text.get_text() for text in values.legends[0].get_texts()] == ["push left", "push right"]
    assert "extrapolates" in values.get_supxlabel()
    assert "position" in values.get_supxlabel()
    taken = drawn.pictures["actions"].figure.axes[0].patches
    assert max(patch.get_data().values.max() for patch in taken) == pytest.approx(1)
    steps = drawn.pictures["weights"].figure.axes[0].get_lines()[0].get_xdata()
    assert len(steps) == len(snapshots.paths(run))


@pytest.mark.parametrize(
    ("missing", "pictures", "words"),
    [
        ("checkpoints", ["weights"], "has no checkpoint"),
        ("snapshots", ["values", "actions", "visited"], "need snapshots"),
    ],
)
def test_maps_report_missing_checkpoints_or_snapshots(run: Path, missing: str, pictures: list[str], words: str) -> None:
    shutil.rmtree(run / missing)
    drawn = maps.draw(run)
    assert list(drawn.pictures) == pictures
    (sentence,) = drawn.skipped
    assert words in sentence


def test_maps_of_run_without_weights_give_an_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "snapshots")
    with pytest.raises(SystemExit):
        cli.main(["maps", str(run)])
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("perilune: nothing can be drawn\n")
    assert "has no checkpoint" in output.err
    assert "need snapshots" in output.err
    assert not (run / "maps").exists()


@pytest.mark.parametrize(
    ("x", "y", "name"),
    [("angle", "angle", "y"), ("angle", "2", "y"), ("3", None, "x"), (None, "angle", "y"), ("nonsense", None, "x")],
)
def test_invalid_axes_are_refused_by_name(run: Path, x: str | None, y: str | None, name: str) -> None:
    with pytest.raises(ConfigError, match="is invalid") as caught:
        maps.draw(run, x, y)
    assert (caught.value.name, caught.value.value) == (name, x if name == "x" else y)


def test_weights_of_other_sizes_are_refused(run: Path) -> None:
    other = Agent(3, 2, PLAIN, 0)
    save_weights(run / "best.safetensors", other, "CartPole-v1")
    with pytest.raises(FileFormatError, match="another observation size"):
        maps.draw(run)


def test_maps_prefer_best_then_final_then_newest_weights(run: Path) -> None:
    for name in ("best.safetensors", "final.safetensors"):
        expected = insight.load_agent(run / name)
        found = insight.best_agent(run, (4, 2))
        np.testing.assert_array_equal(found.online.parameters, expected.online.parameters)
        (run / name).unlink()
    newest = insight.load_agent(snapshots.paths(run)[-1])
    found = insight.best_agent(run, (4, 2))
    np.testing.assert_array_equal(found.online.parameters, newest.online.parameters)
    shutil.rmtree(run / "snapshots")
    with pytest.raises(RunDirectoryError, match="no weights"):
        insight.best_agent(run, (4, 2))


def test_one_hot_states_have_no_value_map(tmp_path: Path) -> None:
    dqn = DQN("FrozenLake-v1", hidden=(4,), batch_size=4, buffer_size=100, learning_starts=10, epsilon_decay_steps=20)
    dqn.train(run_dir=tmp_path / "run", steps=60, eval_every=30, eval_episodes=1, pictures=False, quiet=True)
    drawn = maps.draw(tmp_path / "run")
    assert list(drawn.pictures) == ["actions", "units", "weights"]
    assert "other than 0 and 1" in drawn.skipped[0]


def test_maps_report_missing_best_weights(run: Path) -> None:
    (run / "best.safetensors").unlink()
    steps = f"{insight.load_agent(run / 'final.safetensors').env_steps:,}"
    assert maps.draw(run).skipped == [
        f"There are no best weights, so values and actions show the agent after {steps} steps."
    ]
