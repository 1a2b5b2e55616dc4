"""Copies of environments: they behave identically, render images, and do not change training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from perilune import DQN, envs
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.rendering import drawing, frame
from perilune.errors import ConfigError, EnvironmentFaultError, PeriluneWarning, UnsupportedEnvironmentError
from perilune.training.events import Episode, Event, Started, Timestep
from perilune.training.loop import training_events
from perilune.viz.video import record_episodes
from worlds import Numbered, Walk, small

Steps = list[tuple[Any, ...]]

BRIEF: dict[str, Any] = {"steps": 20, "eval_every": None, "eval_episodes": 1, "quiet": True}


def played(env: envs.Env, seed: int, steps: int, *, draw: bool = False) -> Steps:
    """Return what happens from ``seed`` on, with the same random actions each time, over several episodes."""
    actions = np.random.default_rng(seed).integers(envs.space_sizes(env).actions, size=steps)
    happened: Steps = [(env.reset(seed=seed)[0].tobytes(),)]
    for number, action in enumerate(actions):
        if draw:
            env.render()
        observation, reward, terminated, truncated, _ = env.step(int(action))
        happened.append((observation.tobytes(), float(reward), terminated, truncated))
        if terminated or truncated:
            happened.append((env.reset(seed=seed + number)[0].tobytes(),))
    return happened


def kinds(env: envs.Env) -> list[str]:
    """Return the names of the wrappers, without Gymnasium's own checker."""
    names = []
    while isinstance(env, gym.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    return [name for name in names if name != "PassiveEnvChecker"]


def made(env_id: str, **settings: Any) -> envs.Env:
    """Call ``gym.make`` without the import warnings of Box2D, which would end the process if raised as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(env_id, **settings)


# Copies of environments


MADE: dict[str, Callable[[], envs.Env]] = {
    "LunarLander": lambda: envs.make("LunarLander-v3"),
    "CartPole": lambda: envs.make("CartPole-v1"),
    "Acrobot": lambda: envs.make("Acrobot-v1"),
    "with other settings": lambda: made("LunarLander-v3", gravity=-3.0, enable_wind=True, wind_power=19.0),
    "with another limit": lambda: gym.make("CartPole-v1", max_episode_steps=7),
    "without a limit": lambda: gym.make("CartPole-v1").unwrapped,
    "a shorter limit around it": lambda: gym.wrappers.TimeLimit(gym.make("CartPole-v1"), 6),
    "a longer limit around it": lambda: gym.wrappers.TimeLimit(gym.make("CartPole-v1", max_episode_steps=9), 1_000),
    "a limit around other wrappers": lambda: gym.wrappers.TimeLimit(
        gym.wrappers.TransformReward(
            gym.wrappers.MaxAndSkipObservation(made("CartPole-v1"), 3), lambda reward: reward / 2
        ),
        5,
    ),
    "flattened": lambda: envs.flattened(envs.make("FrozenLake-v1")),
    "flattened, with a limit": lambda: envs.flattened(
        gym.wrappers.TimeLimit(gym.make("FrozenLake-v1", map_name="8x8", is_slippery=False), 5)
    ),
    "already drawing": lambda: gym.make("CartPole-v1", render_mode="rgb_array"),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
def test_copied_environment_behaves_identically(name: str, render_mode: str | None) -> None:
    env = MADE[name]()
    shadow = envs.again(env, render_mode)
    assert shadow.unwrapped is not env.unwrapped
    assert shadow.render_mode == render_mode
    assert kinds(shadow) == kinds(env)
    for seed in (0, 1):
        assert played(env, seed, 40) == played(shadow, seed, 40, draw=render_mode is not None)
    shadow.close()
    env.close()


@contextmanager
def known(entry_point: Any) -> Iterator[None]:
    gym.register(id="Own-v0", entry_point=entry_point)
    try:
        yield
    finally:
        del gym.registry["Own-v0"]


class Backwards(gym.ActionWrapper[Any, Any, Any]):
    """A wrapper without RecordConstructorArgs."""

    def action(self, action: int) -> int:
        return 1 - action


def test_copy_does_not_duplicate_wrappers_from_the_registration() -> None:
    def with_wrappers(render_mode: str | None = None) -> envs.Env:
        return Backwards(gym.wrappers.TimeLimit(gym.make("CartPole-v1", render_mode=render_mode), 11))

    with known(with_wrappers):
        env = gym.wrappers.TimeLimit(gym.make("Own-v0"), 8)
        shadow = envs.again(env, "rgb_array")
    assert kinds(shadow) == kinds(env)
    assert kinds(shadow).count("Backwards") == 1
    assert played(shadow, 3, 60) == played(env, 3, 60)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Numbered, "Numbered cannot be made a second time, because it has no ID. Register it with gymnasium.register"),
        (lambda: Backwards(gym.make("CartPole-v1")), "CartPole-v1 cannot .* its wrapper Backwards .*RecordConstructor"),
        (lambda: gym.wrappers.NormalizeObservation(gym.make("CartPole-v1")), "NormalizeObservation depends on"),
        (lambda: gym.wrappers.NormalizeReward(gym.make("CartPole-v1")), "NormalizeReward depends on"),
    ],
)
def test_environment_that_cannot_be_copied_is_refused(env: Callable[[], envs.Env], words: str) -> None:
    with pytest.raises(UnsupportedEnvironmentError, match=words):
        envs.again(env())


def test_copy_error_includes_the_constructor_error() -> None:
    def once() -> Any:
        calls.append(None)
        if len(calls) > 1:
            raise RuntimeError("no second one")
        return Numbered()

    calls: list[None] = []
    with known(once):
        env = gym.make("Own-v0")
        with pytest.raises(UnsupportedEnvironmentError, match=r"Own-v0 cannot .* no second one") as caught:
            envs.again(env)
    assert isinstance(caught.value.__cause__, RuntimeError)


# Images


@pytest.mark.parametrize("name", ["LunarLander-v3", "CartPole-v1"])
def test_shadow_renders_the_played_states(name: str) -> None:
    env, other = made(name), made(name, render_mode="rgb_array")
    rendered = drawing(env)
    assert rendered is not None
    assert rendered.render_mode == "rgb_array"
    assert (envs.name(rendered), envs.time_limit(rendered)) == (
        name,
        envs.time_limit(env),
    )
    for seed in (5, 6):
        np.testing.assert_array_equal(rendered.reset(seed=seed)[0], other.reset(seed=seed)[0])
        for action in (0, 1, 1, 0):
            np.testing.assert_array_equal(frame(rendered), frame(other))
            np.testing.assert_array_equal(rendered.step(action)[0], other.step(action)[0])
    rendered.close()


class Watched(Walk):
    """Renders images if it is made with a render mode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    made: list[Watched]

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(4, draws=render_mode is not None)
        self.closed = 0
        Watched.made.append(self)

    def render(self) -> Array:
        return np.full((8, 8, 3), 10 * self.steps, np.uint8)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def watched() -> Iterator[list[Watched]]:
    Watched.made = []
    with known(Watched):
        yield Watched.made


def agent_of(env: envs.Env) -> Agent:
    size, actions, _ = envs.space_sizes(env)
    return Agent(size, actions, small(), 0)


def run(env: envs.Env, **settings: Any) -> list[Event]:
    return list(training_events(agent_of(env), env, TrainConfig(**{"eval_every": None, "eval_episodes": 1} | settings)))


def test_only_recorded_episodes_are_rendered(watched: list[Watched]) -> None:
    events = run(gym.make("Own-v0"), episodes=7, video_every=3)
    lengths = {event.episode: event.length for event in events if isinstance(event, Episode)}
    given, tried, shadow = watched
    # The given environment plays every episode; the shadow environment repeats those that are recorded.
    assert [len(steps) for steps in given.trained()[-7:]] == list(lengths.values())
    assert not tried.seeds  # made only to check that copies are possible
    assert [len(steps) for steps in shadow.recorded] == [lengths[number] for number in (1, 3, 6)]
    assert [world.closed for world in watched] == [0, 1, 1]
    shown = [
        (event.episode, int(event.image[0, 0, 0]))
        for event in events
        if isinstance(event, Timestep) and event.image is not None
    ]
    assert shown == [(number, 10 * step) for number in (1, 3, 6) for step in range(lengths[number] + 1)]


# Recording does not change training


@pytest.mark.parametrize(("env_id", "num_envs"), [("CartPole-v1", 1), ("LunarLander-v3", 3)])
def test_recording_videos_does_not_change_weights(env_id: str, num_envs: int) -> None:
    def weights(env: envs.Env, **settings: Any) -> bytes:
        agent = agent_of(env)
        config = TrainConfig(steps=100, num_envs=num_envs, max_episode_steps=60, eval_episodes=1, **settings)
        for _ in training_events(agent, env, config):
            pass
        assert agent.updates == 92
        return agent.online.parameters.tobytes()

    plain = weights(made(env_id))
    assert weights(made(env_id), video_every=2) == plain
    assert weights(made(env_id, render_mode="rgb_array"), video_every=1) == plain


def test_changed_environment_stops_video_with_warning() -> None:
    def weights(**settings: Any) -> bytes:
        env: Any = gym.make("CartPole-v1")
        env.unwrapped.force_mag = 25.0  # a copy does not have this value
        agent = agent_of(env)
        for _ in training_events(agent, env, TrainConfig(steps=200, eval_every=None, eval_episodes=1, **settings)):
            pass
        return agent.online.parameters.tobytes()

    plain = weights()
    with pytest.warns(PeriluneWarning, match=r"images of CartPole-v1 stop .*render_mode=\"rgb_array\""):
        assert weights(video_every=1) == plain


# Training in environments that cannot be recorded


def test_wrapper_that_cannot_be_copied_disables_only_rendering(tmp_path: Path) -> None:
    env = Backwards(gym.make("CartPole-v1"))
    assert drawing(env) is None
    assert run(env, steps=40)[0] == Started(None)
    with pytest.raises(ConfigError, match=r"video_every=2 .*CartPole-v1 cannot render.*render_mode=\"rgb_array\""):
        training_events(agent_of(env), env, TrainConfig(steps=40, video_every=2))
    with pytest.raises(ConfigError, match="rgb_array"):
        record_episodes(lambda obs: 0, env, tmp_path / "video.mp4", q_values=lambda obs: obs)
    history = DQN(env, config=small()).train(run_dir=tmp_path / "run", **BRIEF)
    assert not list(history.directory.rglob("*.mp4"))
    # If the environment renders, its own images are recorded.
    draws = Backwards(gym.make("CartPole-v1", render_mode="rgb_array"))
    assert [event for event in run(draws, steps=20, video_every=1) if isinstance(event, Timestep)]


class Mute(Watched):
    """Declares that it renders, but takes no render mode."""

    def __init__(self) -> None:
        super().__init__()


def test_environment_without_render_mode_is_trained() -> None:
    Watched.made = []
    with known(Mute):
        env = gym.make("Own-v0")
        assert envs.again(env) is not env
        assert run(env, steps=40)[0] == Started(None)


class Faulty(Watched):
    """Renders faulty images."""

    images: Callable[[], Any]

    def render(self) -> Any:
        return type(self).images()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (lambda: None, "failed: TypeError"),
        (lambda: {}["color"], "failed: KeyError: 'color'"),
        (lambda: np.zeros((1, 1, 3), np.uint8), r"returned an array of shape \(1, 1, 3\): expected .* 2 by 2"),
    ],
)
def test_failed_rendering_only_causes_a_warning(images: Callable[[], Any], words: str, tmp_path: Path) -> None:
    Watched.made = []
    Faulty.images = images
    with known(Faulty):
        env = gym.make("Own-v0")
        with pytest.warns(PeriluneWarning, match=f"no image of the initial state: .*Own-v0.*{words}"):
            events = run(env, steps=40)
        assert events[0] == Started(None)
        assert sum(event.length for event in events if isinstance(event, Episode)) == 32
        with pytest.warns(PeriluneWarning) as warned:
            DQN(env, config=small()).train(run_dir=tmp_path / "run", **BRIEF)
        prefixes = [str(warning.message).partition(":")[0] for warning in warned]
        assert prefixes == ["no image of the initial state", "skipped a picture"]
        with pytest.warns(PeriluneWarning), pytest.raises(EnvironmentFaultError, match=words):
            run(env, steps=40, video_every=1)


class Stubborn(Watched):
    """Fails to close."""

    def close(self) -> None:
        super().close()
        raise RuntimeError("no")


class Blocked(Watched):
    """Fails to reset if it renders."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if self.render_mode is not None:
            raise RuntimeError("no screen")
        return super().reset(seed=seed, options=options)


def test_failed_close_only_causes_a_warning(tmp_path: Path) -> None:
    Watched.made = []
    with known(Stubborn):
        env = gym.make("Own-v0")
        with pytest.warns(
            PeriluneWarning, match=r"Own-v0\.close raised RuntimeError: no\. No results are lost"
        ) as warned:
            history = DQN(env, config=small()).train(run_dir=tmp_path / "run", **BRIEF)
        assert {str(warning.message).partition(":")[0] for warning in warned} == {"Own-v0.close raised RuntimeError"}
        assert history.run.episodes
        assert (tmp_path / "run" / "videos" / "best.mp4").is_file()
        assert sum(world.closed for world in Watched.made) == len(Watched.made) - 1  # all except the given environment


def test_failed_shadow_environment_only_causes_a_warning() -> None:
    Watched.made = []
    with known(Blocked):
        env = gym.make("Own-v0")
        with pytest.warns(PeriluneWarning, match="images of Own-v0 stop .* because .* raised RuntimeError: no screen"):
            events = run(env, steps=40)
        assert sum(event.length for event in events if isinstance(event, Episode)) == 32
