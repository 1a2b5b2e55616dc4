"""The Python API: training, acting, files, copies, and errors for calls in the style of other libraries."""

from __future__ import annotations

import copy
import io
import multiprocessing
import os
import pickle  # noqa: TID251 -- a user may pickle an agent; Perilune reads and writes no pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import gymnasium as gym
import numpy as np
import pytest
from matplotlib.image import imread

import perilune
from fixtures_runs import AGENT, TRAINING, TinyRun, cartpole, decode
from perilune import DQN, DQNConfig, History, TrainConfig, presets
from perilune._utils.arrays import Array
from perilune.agent.settings import AgentSettings, TrainSettings, build
from perilune.errors import (
    ConfigError,
    FileFormatError,
    RunDirectoryError,
    ShapeError,
    UnsupportedEnvironmentError,
    UsageError,
)
from perilune.runs import logs, weights
from perilune.training.events import Episode, Event, Metrics, SafePoint
from worlds import Numbered, small

LOGS = ("episodes.jsonl", "metrics.jsonl", "best.safetensors", "final.safetensors")
ENDINGS = ("mp4", "jsonl")  # of the two files of a video
PUBLIC = [
    "Agent",
    "DQN",
    "DQNConfig",
    "Evaluation",
    "History",
    "TrainConfig",
    "__version__",
    "errors",
    "presets",
    "tune",
]


def directory(history: History) -> Path:
    assert history.directory is not None
    return history.directory


def files(history: History) -> dict[str, bytes]:
    return {name: (directory(history) / name).read_bytes() for name in LOGS}


def parameters(dqn: DQN) -> Array:
    return dqn.agent.online.parameters


def test_package_lists_only_public_names() -> None:
    assert dir(perilune) == sorted(perilune.__all__) == PUBLIC
    assert all(getattr(perilune, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="'perilune' has no attribute 'dqn'"):
        _ = perilune.dqn


@pytest.mark.parametrize(("settings", "config"), [(AgentSettings, DQNConfig), (TrainSettings, TrainConfig)])
def test_keyword_arguments_match_config_fields(settings: type, config: type) -> None:
    given, stored = get_type_hints(settings), get_type_hints(config)
    assert list(given) == [field.name for field in fields(config)]
    assert {name: hint for name, hint in given.items() if name != "hidden"} == {
        name: hint for name, hint in stored.items() if name != "hidden"
    }


# Training in a run directory


def test_history_has_one_entry_per_episode(tiny_run: TinyRun) -> None:
    dqn, history = tiny_run.dqn, tiny_run.history
    assert len(history.rewards) == len(history.losses) == len(history.lengths) == len(history.epsilons) == 4
    assert history.rewards == [float(length) for length in history.lengths]  # the reward of CartPole is 1 per step
    assert dqn.agent.env_steps == 40 + sum(history.lengths)
    assert dqn.agent.updates == sum(history.lengths)
    assert all(isinstance(loss, float) and loss > 0 for loss in history.losses)
    assert np.abs(parameters(dqn) - tiny_run.initial_weights).max() > 1e-3
    assert history.epsilons == sorted(history.epsilons, reverse=True)
    assert len(history.evaluations) >= 2
    assert repr(history).startswith("History(environment='CartPole-v1', episodes=4, evaluations=")
    picture = history.plot()
    np.testing.assert_array_equal(picture.figure.axes[0].get_lines()[0].get_ydata(), history.rewards)
    assert imread(io.BytesIO(picture._repr_png_())).std() > 0.05


def test_run_directory_holds_every_documented_file(tiny_run: TinyRun) -> None:
    run = directory(tiny_run.history)
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith(("checkpoints/", "snapshots/"))} == {
        "config.json", "host.json", "settings.toml", "episodes.jsonl", "metrics.jsonl", "evaluations.jsonl",
        "notices.jsonl", ".lock", "best.safetensors", "final.safetensors", "initial_state.png", "plots/curves.png",
        "plots/curves.svg",
        *(f"videos/{name}.{end}" for name in ("best", *(f"episode-0000{i}" for i in (1, 2, 4))) for end in ENDINGS),
    }  # fmt: skip


def test_recorded_episodes_are_videos_and_frames(tiny_run: TinyRun) -> None:
    history = tiny_run.history
    assert [path.name for path in history.videos] == [f"episode-0000{number}.mp4" for number in (1, 2, 4)]
    assert list(history.frames) == [1, 2, 4]
    for path, (number, frames) in zip(history.videos, history.frames.items(), strict=True):
        assert len(frames) == history.lengths[number - 1] + 1
        shown = decode(path)
        assert (len(shown.frames), shown.width, shown.height, shown.fps) == (len(frames), 600, 400, 50)
        assert {(frame.shape, frame.dtype) for frame in frames} == {((400, 600, 3), np.dtype(np.uint8))}
        assert np.abs(shown.frames[-1].astype(int) - frames[-1]).mean() < 3
    picture = imread(directory(history) / "initial_state.png")[..., :3]
    np.testing.assert_array_equal(np.round(picture * 255), history.frames[1][0])


def test_history_lists_omit_episode_cut_off_by_the_budget(tmp_path: Path) -> None:
    dqn = DQN(Numbered(lengths=(30,)), config=small())
    history = dqn.train(steps=8 + 30 + 11, run_dir=tmp_path / "run", eval_episodes=1, pictures=False, quiet=True)
    assert history.lengths == [30]
    assert [(episode.ended, episode.length) for episode in history.run.episodes] == [("terminated", 30), ("budget", 11)]


def test_same_seed_gives_identical_files(tmp_path: Path) -> None:
    quick = {"pictures": False, **TRAINING}
    first = DQN("CartPole-v1", seed=6, **AGENT).train(run_dir=tmp_path / "a", eval_every=None, **quick)
    again = DQN(cartpole(), seed=6, **AGENT).train(run_dir=tmp_path / "b", eval_every=None, **quick)
    other = DQN("CartPole-v1", seed=7, **AGENT).train(run_dir=tmp_path / "c", eval_every=None, **quick)
    watched = DQN(cartpole(), seed=6, **AGENT).train(
        run_dir=tmp_path / "d", video_every=1, frames=True, eval_every=7, **TRAINING
    )
    assert files(first) == files(again)
    assert files(first)["final.safetensors"] != files(other)["final.safetensors"]
    for name in ("episodes.jsonl", "final.safetensors"):
        assert files(first)[name] == files(watched)[name]


def test_loaded_best_and_final_weights_match_the_run(tiny_run: TinyRun) -> None:
    run = directory(tiny_run.history)
    best, final = DQN.load(run, cartpole()), DQN.load(run / "final")
    evaluation = [evaluation for evaluation in tiny_run.history.evaluations if evaluation.best][-1]
    assert best.agent.env_steps == evaluation.env_steps
    scored = best.evaluate(3)
    assert scored == best.evaluate(3)
    assert len(decode(run / "videos" / "best.mp4").frames) == scored.lengths[0] + 1
    np.testing.assert_array_equal(parameters(final), parameters(tiny_run.dqn))
    assert final.config == tiny_run.dqn.config
    assert final.evaluate(2) == tiny_run.dqn.evaluate(2)


def test_best_video_of_an_endless_environment_is_truncated(tmp_path: Path) -> None:
    dqn = DQN(Numbered(lengths=(), draws=True), config=small())
    dqn.train(run_dir=tmp_path / "run", steps=60, max_episode_steps=20, eval_episodes=1, quiet=True)
    assert len(decode(tmp_path / "run" / "videos" / "best.mp4").frames) == 21


def test_interrupted_training_keeps_logs_and_weights(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Metrics) and event.updates >= 149:
            raise KeyboardInterrupt

    dqn = DQN(cartpole(), seed=2, **AGENT)
    settings: dict[str, Any] = {"steps": 1_000, "metrics_every": 1, "eval_every": None, "quiet": True}
    with pytest.raises(KeyboardInterrupt):
        dqn.train(run_dir=tmp_path / "run", video_every=3, callback=interrupt, **settings)
    assert 2 <= len(logs.read_run(tmp_path / "run").episodes) < 150
    final = DQN.load(tmp_path / "run" / "final.safetensors")
    np.testing.assert_array_equal(parameters(final), parameters(dqn))
    assert final.agent.updates == 149
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_run_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    first = DQN(cartpole(), seed=1, **AGENT).train(run_dir=run, video_every=3, **TRAINING)
    before = files(first)
    with pytest.raises(RunDirectoryError, match="already exists"):
        DQN(cartpole(), seed=2, **AGENT).train(run_dir=run, **TRAINING)
    assert files(first) == before
    second = DQN(cartpole(), seed=2, **AGENT).train(run_dir=run, overwrite=True, pictures=False, **TRAINING)
    assert second.run.config["seed"] == 2
    assert not (tmp_path / "run" / "videos").exists()


def test_second_train_call_continues_with_the_same_agent(tiny_run: TinyRun, tmp_path: Path) -> None:
    dqn = DQN(cartpole(), seed=1, **AGENT)
    first = dqn.train(**TRAINING)
    steps = dqn.agent.env_steps
    second = dqn.train(run_dir=tmp_path / "b", pictures=False, **TRAINING)
    assert [episode.episode for episode in second.run.episodes] == [5, 6, 7, 8]
    assert second.run.episodes[0].env_steps == steps + second.lengths[0]  # no second warm-up
    assert second.epsilons[0] < first.epsilons[0]
    loaded = DQN.load(directory(tiny_run.history) / "final.safetensors")
    before = parameters(loaded).copy()
    assert [episode.episode for episode in loaded.train(**TRAINING).run.episodes] == [5, 6, 7, 8]
    assert not np.array_equal(parameters(loaded), before)


# Training in memory, events and callbacks


def test_training_without_run_dir_writes_no_files_and_learns_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a signal handler was changed"))
    dqn = DQN("CartPole-v1", seed=6, **AGENT)
    history = dqn.train(**TRAINING | {"quiet": False})
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err.startswith(
        "perilune: training CartPole-v1 with the 'recommended' preset and hidden=(8,), batch_size=8, "
    )
    assert history.directory is None
    assert (history.videos, history.frames, len(history.evaluations)) == ([], {}, 1)
    assert "best=" in repr(history)
    assert "CartPole-v1, seed 6" in history._repr_html_()
    monkeypatch.undo()
    recorded = DQN("CartPole-v1", seed=6, **AGENT)
    written = recorded.train(run_dir=tmp_path / "run", pictures=False, **TRAINING)
    assert written.rewards == history.rewards
    np.testing.assert_array_equal(parameters(recorded), parameters(dqn))
    with pytest.raises(UsageError, match="record_stages requires a run directory"):
        history.record_stages(tmp_path / "a.mp4")


def test_iterate_and_learn_train_the_same_weights_as_train() -> None:
    settings: dict[str, Any] = {"steps": 200, "metrics_every": 50, "eval_episodes": 1}
    trained, looped, learned = (DQN("CartPole-v1", seed=3, **AGENT) for _ in range(3))
    seen: list[Event] = []
    trained.train(quiet=True, callback=seen.append, **settings)
    events = list(looped.iterate(**settings))
    assert [type(event) for event in events] == [type(event) for event in seen]
    assert isinstance(events[-1], SafePoint)
    assert {Episode, Metrics} <= {type(event) for event in events}
    assert learned.learn(200, eval_episodes=1) is learned
    for other in (looped, learned):
        np.testing.assert_array_equal(parameters(other), parameters(trained))


@pytest.mark.parametrize("recorded", [False, True])
def test_callback_that_returns_false_stops_the_training(tmp_path: Path, recorded: bool) -> None:
    dqn = DQN("CartPole-v1", **AGENT)
    run: dict[str, Any] = {"run_dir": tmp_path / "run", "pictures": False} if recorded else {}
    dqn.train(steps=5_000, quiet=True, callback=lambda event: not isinstance(event, Episode), **run)
    assert dqn.agent.episodes == 1
    if recorded:
        assert DQN.load(tmp_path / "run" / "final").agent.episodes == 1


# Presets


def test_agent_starts_from_the_named_preset_and_shows_differences() -> None:
    known = presets.preset("CartPole-v1").agent
    assert DQN("CartPole-v1", batch_size=8).config == replace(known, batch_size=8)
    assert DQN("CartPole-v1", "plain").config == presets.available()["plain"].agent
    assert DQN("CartPole-v1", preset="Acrobot-v1").config == presets.available()["Acrobot-v1"].agent
    assert DQN("CartPole-v1", preset=None).config == DQN("CartPole-v1", config=DQNConfig()).config == DQNConfig()
    mixed = DQN("CartPole-v1", config=DQNConfig(gamma=0.9, hidden=(5,)), hidden=[7, 6]).config
    assert (mixed.gamma, mixed.hidden) == (0.9, (7, 6))
    with pytest.raises(
        ConfigError, match="preset='faster' is invalid: expected one of recommended, fast, default, plain"
    ):
        DQN("CartPole-v1", "faster")
    assert DQN("CartPole-v1", "fast").config == presets.preset("CartPole-v1", "fast").agent
    assert repr(DQN("CartPole-v1", config=DQNConfig())) == "DQN('CartPole-v1', preset=None)"
    agent = DQN("CartPole-v1", "plain", seed=3, hidden=(64, 64), gamma=0.98)
    assert repr(agent) == "DQN('CartPole-v1', preset='plain', seed=3, hidden=(64, 64), gamma=0.98)"


@pytest.mark.parametrize(
    ("steps", "given", "expected"),
    [
        (40_000, {}, (40_000, 100_000, 10_000)),  # the preset's own budget
        (20_000, {}, (20_000, 50_000, 5_000)),
        (80_000, {}, (80_000, 200_000, 10_000)),  # exploration does not get longer
        (300, {"learning_starts": 150}, (300, 750, 75)),
        (20_000, {"learning_rate_decay_steps": 123, "epsilon_decay_steps": 9}, (123, 50_000, 9)),
        (None, {}, (40_000, 100_000, 10_000)),
    ],
)
def test_preset_schedules_scale_with_the_step_budget(
    steps: int | None, given: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    budget: dict[str, Any] = {"episodes": 5} if steps is None else {"steps": steps}
    for start in (lambda dqn: dqn.iterate(**budget), lambda dqn: dqn.iterate(TrainConfig(**budget))):
        dqn = DQN("CartPole-v1", **given)
        start(dqn)
        config = dqn.config
        assert (config.learning_rate_decay_steps, config.priority_beta_steps, config.epsilon_decay_steps) == expected


def test_schedules_do_not_change_when_training_continues_or_resumes(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"pictures": False, "quiet": True, "eval_episodes": 1}
    dqn = DQN("CartPole-v1", seed=1, **AGENT)
    dqn.train(steps=200, run_dir=tmp_path / "run", **settings)
    config = dqn.config
    dqn.train(steps=400, **settings)
    assert dqn.config == config
    resumed = DQN("CartPole-v1", seed=1, **AGENT)
    more = {"change": ["steps"], "steps": 300, "resume": True, **settings}
    assert resumed.train(run_dir=tmp_path / "run", **more).run.config["train"]["steps"] == 300
    assert resumed.config == config


def test_training_without_a_budget_uses_the_preset_budget() -> None:
    settings: dict[str, Any] = {"stop_at_return": -1.0, "eval_every": 1_000}
    history = DQN("CartPole-v1", batch_size=8).train(quiet=True, **settings)
    expected = replace(presets.preset("CartPole-v1").train, **settings)
    assert build(TrainConfig, history.run.config["train"]) == expected
    history = DQN(Numbered(), config=small()).train(TrainConfig(steps=30, eval_episodes=1), steps=40, quiet=True)
    assert (history.run.episodes[-1].env_steps, history.run.config["train"]["eval_episodes"]) == (40, 1)


# Observations and actions


def test_act_accepts_one_observation_or_a_batch() -> None:
    dqn = DQN(Numbered(first_action=3), config=small())
    many = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    actions = dqn.act(many)
    assert actions.tolist() == [dqn.act(obs) for obs in many] == [dqn.act(list(obs)) for obs in many]
    np.testing.assert_allclose(dqn.q_values(many[0]), dqn.q_values(many)[0], rtol=1e-6)
    assert (actions - 3).tolist() == dqn.q_values(many).argmax(axis=1).tolist()
    predicted, state = dqn.predict(many, deterministic=True)
    assert (predicted.tolist(), state) == (actions.tolist(), None)
    assert dqn.predict(many[0])[0].item() == actions[0]
    random = dqn.predict(np.repeat(many[:1], 500, axis=0), deterministic=False)[0]  # epsilon is 1 before the warm-up
    assert set(random.tolist()) == {3, 4, 5}
    for wrong in (many.T, [0.0], [0.0, np.nan], "text", None, [[]]):
        with pytest.raises(ShapeError, match="expected finite numbers of shape"):
            dqn.act(wrong)


def test_discrete_states_can_be_passed_as_numbers_or_one_hot(tmp_path: Path) -> None:
    env = gym.make("FrozenLake-v1", is_slippery=False, render_mode="rgb_array")
    dqn = DQN(env, seed=3, **AGENT)
    history = dqn.train(run_dir=tmp_path / "run", pictures=False, video_every=4, **TRAINING)
    assert history.run.config["environment"] == "FrozenLake-v1"
    assert decode(history.videos[0]).frames[0].std() > 0
    final = DQN.load(directory(history) / "final.safetensors", env)
    assert final.evaluate(3) == dqn.evaluate(3)
    one_hot = np.eye(16, dtype=np.float32)
    expected = dqn.q_values(one_hot).argmax(axis=1).tolist()
    assert [dqn.act(state) for state in range(16)] == [dqn.act(row) for row in one_hot] == expected
    assert dqn.act(list(range(16))).tolist() == dqn.act(np.arange(16)).tolist() == expected


def test_dict_observations_are_flattened_for_training_and_acting() -> None:
    space = gym.spaces.Dict({"obs": Numbered().observation_space, "lamp": gym.spaces.Discrete(3)})
    wrapped = gym.wrappers.TransformObservation(Numbered(lengths=(4,)), lambda obs: {"obs": obs, "lamp": 2}, space)
    dqn = DQN(wrapped, config=small())
    dqn.train(steps=60, eval_episodes=2, quiet=True)
    assert dqn.agent.updates > 0
    many = [{"obs": np.array([0, step], np.float32), "lamp": step} for step in range(3)]
    rows = np.array([[*np.eye(3)[step], 0, step] for step in range(3)], np.float32)  # keys in alphabetical order
    assert dqn.act(many).tolist() == dqn.act(rows).tolist() == [dqn.act(obs) for obs in many]


# Files and copies


def test_agent_loads_with_the_name_passed_to_save(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for name, written in (("new/my.agent", "new/my.agent.safetensors"), ("b.safetensors", "b.safetensors")):
        assert tiny_run.dqn.save(name) == Path(written)
        again = DQN.load(name)
        np.testing.assert_array_equal(again.q_values(obs), tiny_run.dqn.q_values(obs))
        assert again.env.spec is not None
        assert again.env.spec.id == "CartPole-v1"


def test_load_refuses_incompatible_or_damaged_files(tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"size 4 and 2 actions, but Acrobot-v1 has size 6 and 3 actions"):
        DQN.load(directory(tiny_run.history), "Acrobot-v1")
    (tmp_path / "a.safetensors").write_text("weights")
    with pytest.raises(FileFormatError):
        DQN.load(tmp_path / "a")
    with pytest.raises(RunDirectoryError, match=r"is not a run: it has no config\.json"):
        DQN.load(tmp_path)
    weights.save_weights(tmp_path / "b.safetensors", DQN(Numbered(), config=small()).agent, "Numbered")
    with pytest.raises(UnsupportedEnvironmentError, match="'Numbered' cannot be made"):
        DQN.load(tmp_path / "b")
    assert DQN.load(tmp_path / "b", Numbered()).agent.actions == 3


def test_record_video_shows_the_episode_that_evaluate_scores(tiny_run: TinyRun, tmp_path: Path) -> None:
    shown = tiny_run.dqn.record_video(tmp_path / "video.mp4")
    assert shown == tiny_run.dqn.evaluate(1)
    assert len(decode(tmp_path / "video.mp4").frames) == shown.lengths[0] + 1
    cart = gym.make("CartPole-v1").unwrapped
    cart.spec = None  # as an environment that is not registered
    blind = DQN.load(directory(tiny_run.history), cart)
    with pytest.raises(ConfigError, match="rgb_array"):
        blind.record_video(tmp_path / "other.mp4")
    with pytest.raises(ConfigError, match="video_every"):
        blind.train(episodes=1, video_every=1, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def trained_further(dqn: DQN) -> bytes:
    """Train a copy and return its weights."""
    dqn.train(steps=150, eval_every=None, eval_episodes=1, quiet=True)
    return parameters(dqn).tobytes()


def test_copy_is_independent_and_learns_like_the_original() -> None:
    dqn = DQN("FrozenLake-v1", **AGENT)
    dqn.train(steps=100, eval_every=None, eval_episodes=1, quiet=True)
    before = parameters(dqn).copy()
    learned = [trained_further(copy.deepcopy(dqn)), trained_further(pickle.loads(pickle.dumps(dqn)))]  # noqa: S301
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        learned.append(pool.apply(trained_further, (dqn,)))
    np.testing.assert_array_equal(parameters(dqn), before)
    assert set(learned) == {trained_further(dqn)} != {before.tobytes()}


# Invalid calls


def gym_env() -> Any:
    return type("OldEnv", (), {"__module__": "gym.envs.old"})()


@pytest.mark.parametrize(
    ("call", "kind", "answer"),
    [
        (lambda dqn: DQN("MlpPolicy", dqn.env), UsageError, "Write DQN(env), or DQN(env, hidden=(64, 64))"),
        (lambda dqn: DQN(dqn.env, DQNConfig()), UsageError, "DQN(env, config=DQNConfig(...))"),
        (lambda dqn: DQN(gym_env()), UnsupportedEnvironmentError, "import gymnasium as gym"),
        (lambda dqn: DQN(dqn.env, exploration_fraction=0.1), UsageError, "Use epsilon_decay_steps"),
        (lambda dqn: DQN(dqn.env, policy_kwargs={}), UsageError, "Use hidden and activation"),
        (lambda dqn: DQN(dqn.env, gama=0.9), UsageError, "Did you mean gamma"),
        (lambda dqn: DQN(dqn.env, lr=0.9), UsageError, "Did you mean learning_rate?"),
        (lambda dqn: DQN(dqn.env, nonsense=1), UsageError, "Settings: hidden, activation"),
        (lambda dqn: DQN(dqn.env, steps=1), UsageError, "Write agent.train(steps=...)"),
        (lambda dqn: dqn.train(gamma=1), UsageError, "Write DQN(env, gamma=...)"),
        (lambda dqn: dqn.train(1000), UsageError, "agent.train(steps=1000) for environment steps"),
        (lambda dqn: dqn.train(total_timesteps=9), UsageError, "Use steps, as in agent.train(steps=50_000)"),
        (lambda dqn: dqn.train(steps=99, video_every=3), UsageError, "video_every requires a run directory"),
        (lambda dqn: dqn.train(resume=True), UsageError, "resume requires a run directory"),
        (lambda dqn: dqn.train(run_dir="a", resume=True, overwrite=True), UsageError, "cannot be combined"),
        (lambda dqn: dqn.train(run_dir="a", resume=True), RunDirectoryError, "a is not a run"),
        (lambda dqn: dqn.train(run_dir="a", steps=12), ConfigError, "at least 41 for CartPole-v1"),
        (lambda dqn: DQN("LunarLander-v3").train(steps=300), ConfigError, "DQN(env, learning_starts=150)"),
        (lambda dqn: dqn.learn(99, callback=object()), UsageError, "expected a function that takes an event"),
        (lambda dqn: dqn.evaluate(dqn.env), UsageError, "Write agent.evaluate(episodes=100)"),
        (lambda dqn: dqn.load("moon"), UsageError, "Write agent = DQN.load(path, env)"),
    ],
)
def test_invalid_call_raises_an_error_that_shows_the_correct_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Any], object], kind: type[Exception], answer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        call(DQN("CartPole-v1", **AGENT))
    assert answer in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Without optional libraries

WITHOUT_EXTRAS = """
import sys, warnings
for name in {missing}:
    sys.modules[name] = None  # as if it were not installed
from perilune import DQN
dqn = DQN("CartPole-v1", hidden=(8,), batch_size=8, buffer_size=500, learning_starts=40)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    history = dqn.train(episodes=3, run_dir="run", eval_episodes=1, quiet=True)
assert dqn.agent.updates > 0
assert caught
assert all(each.category.__name__ == "PeriluneWarning" and "[{extra}]" in str(each.message) for each in caught)
for call in [
    lambda: DQN("CartPole-v1").train(episodes=3, video_every=1, run_dir="videos", quiet=True),
    lambda: dqn.record_video("video.mp4"),
] + [history.plot] * ("matplotlib" in {missing}):
    try:
        call()
    except Exception as error:
        assert type(error).__name__ == "MissingDependencyError" and "[{extra}]" in str(error), error
    else:
        assert False, "a library is missing, but the call succeeds"
"""


@pytest.mark.parametrize(("missing", "extra"), [(("av", "matplotlib"), "view"), (("pygame",), "view")])
def test_training_completes_without_optional_libraries(tmp_path: Path, missing: tuple[str, ...], extra: str) -> None:
    finished = subprocess.run(  # noqa: S603 -- trusted arguments
        [sys.executable, "-c", WITHOUT_EXTRAS.format(missing=missing, extra=extra)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert ("run/plots/curves.png" in files) == ("matplotlib" not in missing)
    assert {"run/final.safetensors", "run/settings.toml"} <= files
    assert not [name for name in files if name.endswith((".mp4", ".partial"))]
