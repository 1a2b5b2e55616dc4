"""The library as its users meet it: the notebook runs, learns, repeats itself to the bit, and goes on."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from matplotlib.image import imread

from fixtures_runs import AGENT, TRAINING, TinyRun, cartpole, decode
from perilune import DQN, DQNConfig, History, TrainConfig
from perilune._utils.arrays import Array
from perilune.agent.config import build
from perilune.envs.known.presets import preset
from perilune.errors import (
    ConfigError,
    FileFormatError,
    RunDirectoryError,
    ShapeError,
    UnsupportedEnvironmentError,
    UsageError,
)
from perilune.runs import logs, weights
from worlds import Numbered, small

LOGS = ("episodes.jsonl", "metrics.jsonl", "best.safetensors", "final.safetensors")


def files(history: History) -> dict[str, bytes]:
    return {name: (history.directory / name).read_bytes() for name in LOGS}


# The notebook


def test_the_notebook_runs_and_learns(tiny_run: TinyRun) -> None:
    dqn, history = tiny_run.dqn, tiny_run.history
    assert len(history.rewards) == len(history.losses) == len(history.lengths) == len(history.epsilons) == 4
    assert history.rewards == [float(length) for length in history.lengths]  # CartPole pays 1 for every step
    assert max(history.lengths) <= 20
    assert dqn.agent.episodes == 4
    assert dqn.agent.env_steps == 40 + sum(history.lengths)
    assert dqn.agent.updates == sum(history.lengths)
    assert all(isinstance(loss, float) and loss > 0 for loss in history.losses)
    assert np.abs(dqn.agent.online.parameters - tiny_run.initial_weights).max() > 1e-3
    assert history.epsilons == sorted(history.epsilons, reverse=True)


def test_a_run_directory_holds_all_that_is_promised(tiny_run: TinyRun) -> None:
    directory = tiny_run.history.directory
    names = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith(("checkpoints/", "snapshots/"))} == {
        "config.json", "host.json", "episodes.jsonl", "metrics.jsonl", "evaluations.jsonl", "notices.jsonl", ".lock",
        "best.safetensors", "final.safetensors", "initial_state.png", "plots/curves.png", "plots/curves.svg",
        *(
            f"videos/{film}.{ending}"
            for film in ("best", "episode-00001", "episode-00002", "episode-00004")
            for ending in ("mp4", "jsonl")
        ),
    }  # fmt: skip


def test_filmed_episodes_come_as_videos_and_as_frames(tiny_run: TinyRun) -> None:
    history = tiny_run.history
    assert [path.name for path in history.videos] == [f"episode-0000{number}.mp4" for number in (1, 2, 4)]
    assert list(history.frames) == [1, 2, 4]
    for path, (number, frames) in zip(history.videos, history.frames.items(), strict=True):
        assert len(frames) == history.lengths[number - 1] + 1
        shown = decode(path)
        assert (len(shown.frames), shown.width, shown.height, shown.fps) == (len(frames), 600, 400, 50)
        assert {(frame.shape, frame.dtype) for frame in frames} == {((400, 600, 3), np.dtype(np.uint8))}
        assert np.abs(shown.frames[-1].astype(int) - frames[-1]).mean() < 3


def test_the_picture_of_the_start_is_the_first_frame(tiny_run: TinyRun) -> None:
    picture = imread(tiny_run.history.directory / "initial_state.png")[..., :3]
    np.testing.assert_array_equal(np.round(picture * 255), tiny_run.history.frames[1][0])


def test_frames_are_not_kept_unasked(tmp_path: Path) -> None:
    history = DQN(cartpole(), **AGENT).train(run_dir=tmp_path / "run", video_every=1, pictures=False, **TRAINING)
    assert history.frames == {}
    assert len(history.videos) == 4


def test_the_plot_is_of_this_run(tiny_run: TinyRun) -> None:
    picture = tiny_run.history.plot()
    np.testing.assert_array_equal(picture.figure.axes[0].get_lines()[0].get_ydata(), tiny_run.history.rewards)
    assert imread(io.BytesIO(picture._repr_png_())).std() > 0.05


def test_the_history_tells_of_the_evaluations(tiny_run: TinyRun) -> None:
    evaluations = tiny_run.history.evaluations
    assert len(evaluations) >= 2
    assert evaluations[0].best
    assert evaluations[-1].episodes == 4


def test_an_episode_without_an_update_has_no_loss(tmp_path: Path) -> None:
    dqn = DQN(cartpole(), **AGENT | {"train_freq": 25})
    history = dqn.train(run_dir=tmp_path / "run", pictures=False, **TRAINING)
    assert None in history.losses
    assert dqn.agent.updates > 0


def test_an_episode_that_the_budget_cut_is_not_in_the_lists(tmp_path: Path) -> None:
    dqn = DQN(Numbered(lengths=(30,)), config=small())
    history = dqn.train(steps=8 + 30 + 11, run_dir=tmp_path / "run", eval_episodes=1, pictures=False, quiet=True)
    assert history.lengths == [30]
    assert [episode.ended for episode in history.run.episodes] == ["terminated", "budget"]
    assert history.run.episodes[1].length == 11


# The same again


def test_one_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    runs = [
        DQN(cartpole(), seed=seed, **AGENT).train(run_dir=tmp_path / str(number), pictures=False, **TRAINING)
        for number, seed in enumerate((6, 6, 7))
    ]
    assert files(runs[0]) == files(runs[1])
    for name in LOGS[2:]:
        assert files(runs[0])[name] != files(runs[2])[name]
    assert runs[0].rewards != runs[2].rewards


def test_to_be_looked_at_changes_nothing(tmp_path: Path) -> None:
    """Videos, frames, pictures and evaluations read a training; they have no part in it."""
    plain = DQN("CartPole-v1", seed=6, **AGENT).train(
        run_dir=tmp_path / "a", pictures=False, eval_every=None, **TRAINING
    )
    watched = DQN(cartpole(), seed=6, **AGENT).train(
        run_dir=tmp_path / "b", video_every=1, frames=True, eval_every=7, **TRAINING
    )
    for name in ("episodes.jsonl", "final.safetensors"):
        assert files(plain)[name] == files(watched)[name]


# Best and final


def test_the_best_weights_load_and_score_as_in_the_training(tiny_run: TinyRun) -> None:
    best = DQN.load(tiny_run.history.directory, cartpole())
    evaluation = [evaluation for evaluation in tiny_run.history.evaluations if evaluation.best][-1]
    assert best.agent.env_steps == evaluation.env_steps
    assert best.agent.updates == evaluation.env_steps - 40
    scored = best.evaluate(3)
    assert len(scored.returns) == 3
    assert scored == best.evaluate(3)
    film = tiny_run.history.directory / "videos" / "best.mp4"
    assert len(decode(film).frames) == scored.lengths[0] + 1


def test_the_final_weights_are_the_agents(tiny_run: TinyRun) -> None:
    final = DQN.load(tiny_run.history.directory / "final.safetensors")
    np.testing.assert_array_equal(final.agent.online.parameters, tiny_run.dqn.agent.online.parameters)
    assert final.config == tiny_run.dqn.config
    assert final.evaluate(2) == tiny_run.dqn.evaluate(2)


def test_an_agent_saved_is_an_agent_loaded(tiny_run: TinyRun, tmp_path: Path) -> None:
    assert tiny_run.dqn.save(tmp_path / "new" / "my.agent") == tmp_path / "new" / "my.agent.safetensors"
    assert tiny_run.dqn.save(str(tmp_path / "b.safetensors")) == tmp_path / "b.safetensors"
    again = DQN.load(str(tmp_path / "new" / "my.agent.safetensors"))
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(again.q_values(obs), tiny_run.dqn.q_values(obs))
    assert again.env.spec is not None
    assert again.env.spec.id == "CartPole-v1"


def test_a_film_is_of_the_episode_that_evaluate_scores(tiny_run: TinyRun, tmp_path: Path) -> None:
    shown = tiny_run.dqn.record_video(tmp_path / "film.mp4")
    assert shown == tiny_run.dqn.evaluate(1)
    assert len(decode(tmp_path / "film.mp4").frames) == shown.lengths[0] + 1


def test_an_environment_that_cannot_draw_cannot_be_filmed(tiny_run: TinyRun, tmp_path: Path) -> None:
    cart = gym.make("CartPole-v1").unwrapped
    cart.spec = None  # as of an environment of one's own, that was never registered
    blind = DQN.load(tiny_run.history.directory, cart)
    with pytest.raises(ConfigError, match="rgb_array"):
        blind.record_video(tmp_path / "film.mp4")
    with pytest.raises(ConfigError, match="video_every"):
        blind.train(episodes=1, video_every=1, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


class Endless(Numbered):
    """Goes on until it is left, which has to be soon."""

    def __init__(self) -> None:
        super().__init__(lengths=(), draws=True)

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        assert self.steps < 500, "nobody stopped it"
        return super().move(action)

    def render(self) -> Array:
        return np.zeros((8, 8, 3), np.uint8)


def test_an_environment_without_an_end_is_filmed_as_long_as_it_was_trained(tmp_path: Path) -> None:
    history = DQN(Endless(), config=small()).train(
        run_dir=tmp_path / "run", steps=60, max_episode_steps=20, eval_episodes=1, quiet=True
    )
    assert len(decode(history.directory / "videos" / "best.mp4").frames) == 21


def test_actions_are_counted_as_the_environment_counts_them() -> None:
    dqn = DQN(Numbered(first_action=3), config=small())
    for obs in np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32):
        assert dqn.act(obs) == 3 + int(np.argmax(dqn.q_values(obs[None])[0]))


def test_a_seed_may_be_one_of_numpys(tmp_path: Path) -> None:
    history = DQN(Numbered(), config=small(), seed=np.int64(3)).train(  # type: ignore[arg-type]
        run_dir=tmp_path / "run", steps=20, eval_episodes=1, pictures=False, quiet=True
    )
    assert history.run.config["seed"] == 3
    assert DQN.load(history.directory, Numbered()).agent.seed == 3


# Observations that are not numbers in a row


def walked(env: gym.Env[Any, Any]) -> set[int]:
    """Fields that a walk over FrozenLake comes by."""
    observations = [env.reset(seed=0)[0]]
    for action in (2, 2, 1, 1, 1, 2):  # right, right, down, down, down, right
        observation, _, terminated, *_ = env.step(action)
        observations.append(observation)
        assert terminated == (observation == 15)
    return set(observations)


def test_numbered_states_are_trained_kept_loaded_scored_and_filmed(tmp_path: Path) -> None:
    env = gym.make("FrozenLake-v1", is_slippery=False, render_mode="rgb_array")
    dqn = DQN(env, seed=3, **AGENT)
    assert dqn.env.unwrapped is env.unwrapped
    history = dqn.train(run_dir=tmp_path / "run", pictures=False, video_every=4, **TRAINING)
    assert dqn.agent.updates == sum(history.lengths) > 0
    assert history.run.config["environment"] == "FrozenLake-v1"
    assert decode(history.videos[0]).frames[0].std() > 0
    final = history.directory / "final.safetensors"
    by_name, by_object = DQN.load(final), DQN.load(final, env)
    assert (by_name.agent.observation_size, by_name.env.spec and by_name.env.spec.id) == (16, "FrozenLake-v1")
    assert by_object.evaluate(3) == dqn.evaluate(3)
    shown = by_object.record_video(tmp_path / "film.mp4", max_episode_steps=5)
    assert len(decode(tmp_path / "film.mp4").frames) == shown.lengths[0] + 1
    q_values = dqn.q_values(np.eye(16))
    for observation in walked(env):  # of the environment that was given, and not of the one around it
        assert dqn.act(observation) == dqn.act(np.eye(16)[observation]) == int(q_values[observation].argmax())


class Lamps(gym.Env[Any, int]):
    """One step: the reward of a lamp's number is 1 where it shines, and the sun shows as many lamps as shine."""

    observation_space = gym.spaces.Dict({"lamp": gym.spaces.Discrete(3), "sun": gym.spaces.Box(-1, 1, (1,))})
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.lamp = int(self.np_random.integers(3))
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        return {"lamp": self.lamp, "sun": np.zeros(1, np.float32)}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.seen(), float(action == self.lamp), True, False, {}


def test_what_a_dict_says_is_learned(tmp_path: Path) -> None:
    dqn = DQN(Lamps(), config=small(learning_rate=1e-2, epsilon_end=0.3))
    assert dqn.evaluate(30).mean_return < 1  # or there would be nothing to learn
    dqn.train(steps=500, run_dir=tmp_path / "run", eval_episodes=5, pictures=False, quiet=True)
    assert dqn.evaluate(30).mean_return == 1


# Going on


def test_training_again_goes_on(tmp_path: Path) -> None:
    dqn = DQN(cartpole(), seed=1, **AGENT)
    first = dqn.train(run_dir=tmp_path / "a", pictures=False, **TRAINING)
    weights, steps = dqn.agent.online.parameters.copy(), dqn.agent.env_steps
    second = dqn.train(run_dir=tmp_path / "b", pictures=False, **TRAINING)
    assert [episode.episode for episode in first.run.episodes] == [1, 2, 3, 4]
    assert [episode.episode for episode in second.run.episodes] == [5, 6, 7, 8]
    assert second.run.episodes[0].env_steps == steps + second.lengths[0]  # no second warm-up
    assert second.epsilons[0] < first.epsilons[0]
    assert not np.array_equal(dqn.agent.online.parameters, weights)
    assert DQN.load(tmp_path / "b" / "final.safetensors").agent.episodes == 8


def test_a_loaded_agent_trains_on(tiny_run: TinyRun, tmp_path: Path) -> None:
    dqn = DQN.load(tiny_run.history.directory / "final.safetensors")
    before, updates = dqn.agent.online.parameters.copy(), dqn.agent.updates
    history = dqn.train(run_dir=tmp_path / "run", pictures=False, **TRAINING)
    assert [episode.episode for episode in history.run.episodes] == [5, 6, 7, 8]
    assert dqn.agent.updates == updates + sum(history.lengths)
    assert not np.array_equal(dqn.agent.online.parameters, before)


class Interrupted(gym.Wrapper[Any, Any, Any, Any]):
    """Somebody presses Ctrl-C at a certain step."""

    def __init__(self, env: gym.Env[Any, Any], at: int) -> None:
        super().__init__(env)
        self.left = at

    def step(self, action: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().step(action)


def test_an_interrupted_training_keeps_what_it_has(tmp_path: Path) -> None:
    dqn = DQN(Interrupted(cartpole(), 40 + 150), seed=2, **AGENT)
    before = dqn.agent.online.parameters.copy()
    with pytest.raises(KeyboardInterrupt):
        dqn.train(run_dir=tmp_path / "run", steps=1_000, video_every=1, eval_every=None, quiet=True)
    run = logs.read_run(tmp_path / "run")
    assert len(run.episodes) >= 2
    assert sum(episode.length for episode in run.episodes) < 150
    final = DQN.load(tmp_path / "run" / "final.safetensors")
    np.testing.assert_array_equal(final.agent.online.parameters, dqn.agent.online.parameters)
    assert final.agent.updates == 149
    assert not np.array_equal(final.agent.online.parameters, before)
    # The episode in which it happened has no video, and none that was begun.
    assert len(list((tmp_path / "run" / "videos").glob("*.mp4"))) == len(run.episodes)
    assert len(list((tmp_path / "run" / "videos").iterdir())) == 2 * len(run.episodes)
    assert not list((tmp_path / "run").rglob("*.partial"))


# Where it goes


def test_a_run_is_not_overwritten_unasked_and_its_replacement_is_whole(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    first = DQN(cartpole(), seed=1, **AGENT).train(run_dir=out, video_every=1, **TRAINING)
    before = files(first)
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        DQN(cartpole(), seed=2, **AGENT).train(run_dir=out, **TRAINING)
    assert files(first) == before
    second = DQN(cartpole(), seed=2, **AGENT).train(run_dir=out, overwrite=True, pictures=False, **TRAINING)
    assert files(second) != before
    assert second.run.config["seed"] == 2
    assert not (tmp_path / "run" / "videos").exists()


# What is refused


def test_a_wrong_environment_is_refused_with_both_sizes(tiny_run: TinyRun) -> None:
    with pytest.raises(ShapeError, match=r"4 observations and 2 actions, but Acrobot-v1 has 6 and 3"):
        DQN.load(tiny_run.history.directory, "Acrobot-v1")


def test_an_environment_that_is_gone_is_named(tmp_path: Path) -> None:
    weights.save_weights(tmp_path / "a.safetensors", DQN(Numbered(), config=small()).agent, "Numbered")
    with pytest.raises(UnsupportedEnvironmentError, match="'Numbered' cannot be made"):
        DQN.load(tmp_path / "a.safetensors")
    assert DQN.load(tmp_path / "a.safetensors", Numbered()).agent.actions == 3


def test_what_is_no_agent_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_text("weights")
    with pytest.raises(FileFormatError):
        DQN.load(tmp_path / "a.safetensors")
    with pytest.raises(RunDirectoryError, match="holds no 'best' checkpoint"):
        DQN.load(tmp_path)


def test_settings_come_by_name_over_those_of_a_config() -> None:
    base = DQNConfig(gamma=0.9, hidden=(5,))
    dqn = DQN("CartPole-v1", config=base, hidden=[7, 6], batch_size=32)
    assert (dqn.config.gamma, dqn.config.hidden, dqn.config.batch_size) == (0.9, (7, 6), 32)
    with pytest.raises(UsageError, match="Did you mean gamma"):
        DQN("CartPole-v1", gama=0.9)


@pytest.mark.parametrize("settings", [{"episodes": 3, "video_evry": 2}, {"episodes": 0}, {"steps": 12}])
def test_a_training_that_makes_no_sense_writes_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    dqn = DQN(cartpole(), **AGENT)
    with pytest.raises((ConfigError, UsageError)):
        dqn.train(run_dir=tmp_path / "run", quiet=True, **settings)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_said_is_the_preset_of_the_environment(tmp_path: Path) -> None:
    known = preset("CartPole-v1")
    dqn = DQN("CartPole-v1", batch_size=8)
    assert dqn.config == replace(known.agent, batch_size=8)
    history = dqn.train(run_dir=tmp_path / "run", pictures=False, quiet=True, stop_at_return=-1.0, eval_every=1_000)
    assert build(TrainConfig, history.run.config["train"]) == replace(
        known.train, stop_at_return=-1.0, eval_every=1_000
    )
    assert DQN("CartPole-v1", config=DQNConfig()).config == DQNConfig()  # a whole config is taken as it is


def test_a_training_config_may_be_given_whole(tmp_path: Path) -> None:
    config = TrainConfig(steps=30, eval_episodes=1)
    history = DQN(Numbered(), config=small()).train(
        config, steps=40, run_dir=tmp_path / "run", pictures=False, quiet=True
    )
    assert history.run.episodes[-1].env_steps == 40
    assert history.run.config["train"]["eval_episodes"] == 1


# Without the extras

WITHOUT_EXTRAS = """
import json, sys, warnings
for name in {missing}:
    sys.modules[name] = None  # as if it were not installed
from pathlib import Path
from perilune import DQN
out = Path(sys.argv[1])
answer = dict()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    dqn = DQN("CartPole-v1", hidden=(8,), batch_size=8, buffer_size=500, learning_starts=40)
    dqn.train(episodes=3, run_dir=out / "run", eval_episodes=1, quiet=True)
answer["warnings"] = sorted([warning.category.__name__, str(warning.message)] for warning in caught)
answer["updates"] = dqn.agent.updates
for name, call in {{
    "video_every": lambda: DQN("CartPole-v1").train(episodes=3, video_every=1, run_dir=out / "films", quiet=True),
    "film": lambda: dqn.record_video(out / "film.mp4"),
    "plot": lambda: DQN("CartPole-v1", learning_starts=40, batch_size=8).train(
        episodes=1, run_dir=out / "plot", pictures=False, quiet=True).plot(),
}}.items():
    try:
        call()
        answer[name] = "done"
    except Exception as error:
        answer[name] = type(error).__name__ + ": " + str(error)
answer["files"] = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
print(json.dumps(answer))
"""


def without(tmp_path: Path, *missing: str) -> dict[str, Any]:
    """What a user meets where libraries are missing."""
    finished = subprocess.run(  # noqa: S603 -- our own words
        [sys.executable, "-c", WITHOUT_EXTRAS.format(missing=missing), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer


def test_without_the_view_extra_a_training_completes_and_the_rest_names_the_install_command(tmp_path: Path) -> None:
    answer = without(tmp_path, "av", "matplotlib")
    install = "pip install 'perilune[view]'"
    assert answer["updates"] > 0
    assert [category for category, _ in answer["warnings"]] == ["PeriluneWarning"] * 2  # curves and film
    assert all(install in message for _, message in answer["warnings"])
    names = {name.removeprefix("run/") for name in answer["files"] if name.startswith("run/")}
    assert {name for name in names if not name.startswith(("checkpoints/", "snapshots/"))} == {
        "config.json", "host.json", "episodes.jsonl", "metrics.jsonl", "evaluations.jsonl", "notices.jsonl", ".lock",
        "best.safetensors", "final.safetensors",
    }  # fmt: skip
    for name in ("video_every", "film", "plot"):
        assert answer[name].startswith("MissingDependencyError")
        assert install in answer[name]
    assert not [name for name in answer["files"] if name.startswith("film")]


def test_without_pygame_a_training_completes_and_says_what_is_missing(tmp_path: Path) -> None:
    answer = without(tmp_path, "pygame")
    assert answer["updates"] > 0
    assert {category for category, _ in answer["warnings"]} == {"PeriluneWarning"}
    assert all("pip install 'perilune[lunar]'" in message for _, message in answer["warnings"])
    assert answer["plot"] == "done"
    assert "run/plots/curves.png" in answer["files"]
    assert not [name for name in answer["files"] if name.endswith((".mp4", ".partial"))]
    for name in ("video_every", "film"):
        assert answer[name].startswith("MissingDependencyError")
