"""Health warnings for training that learns nothing useful, and environments that break Gymnasium's interface."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from perilune import DQN, DQNConfig, TrainConfig, envs
from perilune.agent.dqn import Agent
from perilune.envs.known.presets import available
from perilune.errors import DivergenceError, EnvironmentFaultError, PeriluneWarning
from perilune.runs import logs
from perilune.training import health
from perilune.training.events import HealthWarning
from perilune.training.loop import training_events
from worlds import Numbered

SMALL: dict[str, Any] = {"hidden": (8,), "batch_size": 4, "buffer_size": 200, "learning_starts": 10}


# Q-values beyond the largest possible return


@pytest.mark.parametrize(
    ("settings", "reward", "limit"),
    [
        ({"gamma": 0.99}, 1.0, 100.0),
        ({"gamma": 0.5}, 3.0, 6.0),
        ({"gamma": 0.0}, 3.0, 3.0),
        ({"gamma": 1.0}, 1.0, math.inf),
        # Per step: reward 1, log-probability term up to 0.9 |-1|, entropy term 0.03 log 2.
        ({"gamma": 0.9, "munchausen": 0.9}, 1.0, 10 * (1 + 0.9 + 0.03 * math.log(2))),
    ],
)
def test_values_beyond_the_largest_return_are_reported(settings: dict[str, Any], reward: float, limit: float) -> None:
    config = DQNConfig(**settings)
    assert health.greatest_return(config, 2, reward) == pytest.approx(limit)
    for sign in (1, -1):
        assert health.beyond_rewards(config, 2, sign * min(1.9 * limit, 1e30), reward) is None
    if limit < math.inf:
        notice = health.beyond_rewards(config, 2, -2.1 * limit, reward)
        assert notice is not None
        assert notice.what == "q_beyond_rewards"
        assert "learning_rate" in notice.words
    assert health.beyond_rewards(config, 2, 50.0, 0.0) is None  # no reward so far


def test_diverging_values_are_reported_before_the_training_ends(tmp_path: Path) -> None:
    dqn = DQN(
        Numbered(lengths=(30,)), **SMALL, head="expected", optimism=0.0,
        optimizer="sgd", learning_rate=0.3, max_grad_norm=None, loss="mse", tau=1.0,
        target_update_interval=1, layer_norm=False, epsilon_decay_steps=100, observation_scale=None,
        reward_scale=1.0,
    )  # fmt: skip
    reported = pytest.warns(PeriluneWarning, match=r"the mean of Q is .* no return is greater than")
    with np.errstate(all="ignore"), reported, pytest.raises(DivergenceError) as caught:
        dqn.train(run_dir=tmp_path / "run", steps=5_000, metrics_every=1, eval_every=None, quiet=True, pictures=False)
    (notice,) = logs.read_run(tmp_path / "run").notices
    assert notice.what == "q_beyond_rewards"
    assert notice.env_steps <= dqn.agent.env_steps
    assert caught.value.__notes__
    assert DQN.load(tmp_path / "run" / "final.safetensors", Numbered()).agent.updates == dqn.agent.updates


# Epsilon


@pytest.mark.parametrize(
    ("agent", "train", "stays"),
    [
        ({"epsilon_decay_steps": 10**6}, {"steps": 10_000}, True),
        ({"epsilon_decay_steps": 10**5}, {"steps": 10_000}, False),
        ({"epsilon_decay_steps": 10**6}, {"episodes": 10}, False),  # the number of steps is unknown
        ({"epsilon_end": 1.0}, {"steps": 10_000}, True),
        ({"epsilon_start": 0.5, "epsilon_end": 0.5}, {"episodes": 10}, True),
        ({"epsilon_start": 0.4, "epsilon_end": 0.4}, {"steps": 10_000}, False),  # constant on purpose
        ({"epsilon_start": 0.0, "epsilon_end": 0.0, "noisy": True}, {"steps": 10_000}, False),
        ({"epsilon_decay": 0.9999}, {"episodes": 50}, True),
        ({"epsilon_decay": 0.99}, {"episodes": 50}, False),
        ({"epsilon_decay": 0.9999999}, {"steps": 10_000}, True),  # even if every step were an episode
        ({"epsilon_decay": 0.9999}, {"steps": 10_000}, False),  # the number of episodes is unknown
        ({"epsilon_decay": 0.9999999, "epsilon_decay_per": "update"}, {"steps": 10_000}, True),
        ({"epsilon_decay": 0.9999, "epsilon_decay_per": "update"}, {"steps": 10_000}, False),
    ],
)
def test_epsilon_that_stays_high_is_reported(agent: dict[str, Any], train: dict[str, Any], stays: bool) -> None:
    notice = health.epsilon_stays(DQNConfig(**agent), TrainConfig(**train))
    assert (None if notice is None else notice.what) == ("epsilon_stays" if stays else None)


@pytest.mark.parametrize("name", available())
def test_presets_raise_no_health_warning(name: str) -> None:
    assert health.epsilon_stays(available()[name].agent, available()[name].train) is None


def warnings_of(agent: Agent, env: gym.Env[Any, Any], **train: Any) -> list[HealthWarning]:
    """Train and return the health warnings."""
    events = training_events(agent, env, TrainConfig(eval_episodes=1, **train))
    return [event for event in events if isinstance(event, HealthWarning)]


@pytest.mark.parametrize(
    ("settings", "budget", "stays"),
    [
        ({"epsilon_decay": 0.9999}, {"steps": 400}, True),  # 0.9999^98 is 0.99
        ({"epsilon_decay": 0.9}, {"steps": 400}, False),
        ({"epsilon_decay_steps": 10**5}, {"episodes": 50}, True),  # 200 of 100,000 steps
        ({"epsilon_decay_steps": 5_000}, {"episodes": 50}, False),
        ({"epsilon_decay_steps": 10**5}, {"episodes": 19}, False),  # too short to judge
        ({"epsilon_decay_steps": 10**5, "epsilon_start": 0.1, "epsilon_end": 0.1}, {"episodes": 50}, False),
    ],
)
def test_epsilon_that_hardly_decayed_is_reported_at_the_end(
    settings: dict[str, Any], budget: dict[str, Any], stays: bool
) -> None:
    agent = Agent(2, 3, DQNConfig(**SMALL | settings), 0)
    assert health.epsilon_stays(agent.config, TrainConfig(**budget)) is None
    found = warnings_of(agent, Numbered(lengths=(4,)), eval_every=None, **budget)
    assert [(notice.what, notice.env_steps) for notice in found] == [("epsilon_stays", agent.env_steps)] * stays
    assert all(f"is still {agent.epsilon:.3g} when the budget is used up" in notice.words for notice in found)


def test_agent_trained_before_has_no_warning_about_its_schedule() -> None:
    agent = Agent(2, 3, DQNConfig(**SMALL, epsilon_decay_steps=10_000), 0)
    agent.env_steps = 20_000  # as of a loaded agent, whose epsilon has reached its end
    assert warnings_of(agent, Numbered(lengths=(4,)), steps=120) == []
    assert agent.epsilon == pytest.approx(agent.config.epsilon_end)
    assert [notice.what for notice in warnings_of(Agent(2, 3, agent.config, 0), Numbered(), steps=120)] == [
        "epsilon_stays"
    ]


def test_training_stopped_early_has_no_warning_about_epsilon() -> None:
    agent = Agent(2, 3, DQNConfig(**SMALL, epsilon_decay=0.9999), 0)
    assert warnings_of(agent, Numbered(), steps=4_000, eval_every=100, stop_at_return=-1e9) == []
    assert agent.env_steps < 4_000


@pytest.mark.parametrize(
    ("settings", "named"), [({"train_freq": 1000}, "train_freq=1000"), ({"td_lambda": 0.9}, "buffer_size=500")]
)
def test_training_without_an_update_is_reported(settings: dict[str, Any], named: str) -> None:
    agent = Agent(2, 3, DQNConfig(**SMALL | {"buffer_size": 500} | settings, epsilon_decay_steps=100), 0)
    (notice,) = warnings_of(agent, Numbered(lengths=(3,)), episodes=5)
    assert notice.what == "no_update"
    assert named in notice.words


# Environments that break Gymnasium's interface


class Broken(gym.Env[Any, Any]):
    """An environment that returns or raises ``step`` in its 50th step, or returns ``reset`` at its third reset."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, step: Any = None, reset: Any = None) -> None:
        self.given, self.first = step, reset
        self.steps = self.resets = 0

    def reset(self, **_: Any) -> Any:
        self.resets += 1
        return self.first if self.first is not None and self.resets == 3 else (np.zeros(2, np.float32), {})

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.given is not None and self.steps == 50:
            if isinstance(self.given, Exception):
                raise self.given
            return self.given
        return np.zeros(2, np.float32), 1.0, self.steps % 9 == 0, False, {}


FINE = np.zeros(2, np.float32)


class Raising:
    """An object that raises in every conversion."""

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array")

    def __iter__(self) -> Any:
        raise RuntimeError("no values")

    def __repr__(self) -> str:
        return "Raising"


class UnprintableError(Exception):
    """An error without a message."""

    def __str__(self) -> str:
        raise ValueError("no words")


REWARDS: list[tuple[Any, str]] = [
    ("much", "reward='much': expected a number"),
    (None, "reward=None: expected a number"),
    (np.array("3"), "reward=array.'3'.*: expected a number"),
    (np.complex64(1 + 2j), r"reward=.*1\+2j.*: expected a number"),
    (10**400, r"reward=10{50,99}\.\.\.: expected a number"),
    (10**9999, "reward=an object of type int: expected a number"),
    (Raising(), "reward=Raising: expected a number"),
    (3.5e38, r"reward=3\.5e\+38: expected a number that is finite in single precision"),
    (math.nan, "reward=nan: expected a number that is finite"),
]
OBSERVATIONS: list[tuple[Any, str]] = [
    (Raising(), "not an array of numbers: no array"),
    (np.array([0, 3j]), "not an array of numbers: its dtype is complex128"),
    (["1", "2"], "not an array of numbers: its dtype is <U1"),
    (np.zeros(3), r"shape \(3,\): expected \(2,\)"),
    (None, "observation"),
    (np.array([0, np.inf]), r"obs\[1\] = inf: expected numbers that are finite"),
    (np.array([1e39, 0]), r"obs\[0\] = inf: expected numbers that are finite"),
]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            {"step": (FINE, 1.0, False, {})},
            r"returned 4 values: expected \(obs, reward, terminated, trunc.*old Gym",
        ),
        ({"step": 5}, "step returned int: expected"),
        ({"step": Raising()}, r"step returned Raising: expected \(obs"),
        ({"step": UnprintableError()}, r"step raised UnprintableError: \(its __str__ raised ValueError\)"),
        *(({"step": (FINE, reward, False, False, {})}, message) for reward, message in REWARDS),
        *(({"step": (obs, 1.0, False, False, {})}, message) for obs, message in OBSERVATIONS),
        ({"step": (FINE, 1.0, 7, False, {})}, "terminated=7: expected True or False"),
        ({"step": (FINE, 1.0, None, False, {})}, "terminated=None: expected True or False"),
        ({"step": (FINE, 1.0, False, Raising(), {})}, "truncated=Raising: expected True or False"),
        ({"reset": Raising()}, r"reset returned Raising: expected \(obs"),
        ({"reset": np.zeros(2, np.float32)}, r"observation|expected \(obs, info\)"),
        ({"reset": (np.zeros(2), {}, 1)}, r"reset returned tuple: expected \(obs, info\)"),
        ({"reset": (np.array([np.nan, 0]), {})}, r"obs\[0\] = nan"),
    ],
)
def test_error_names_the_environment_that_breaks_the_interface(broken: dict[str, Any], message: str) -> None:
    agent = Agent(2, 2, DQNConfig(**SMALL), 0)
    with pytest.raises(EnvironmentFaultError, match=message) as caught:
        list(training_events(agent, Broken(**broken), TrainConfig(steps=200, eval_every=None)))
    if "step" in broken:
        assert "after 49 environment steps" in str(caught.value)
    assert np.isfinite(agent.online.parameters).all()


@pytest.mark.parametrize(
    ("reward", "value"),
    [(1, 1.0), (np.float32(0.5), 0.5), (np.int64(-3), -3.0), (np.array(2.5), 2.5), (True, 1.0), (3.4e38, 3.4e38)],
)
@pytest.mark.parametrize(
    ("flag", "ends"),
    [(True, True), (np.False_, False), (0, False), (1, True), (np.int64(0), False), (np.uint8(1), True)],
)
def test_rewards_and_flags_of_other_types_are_converted(reward: Any, value: float, flag: Any, ends: bool) -> None:
    world = Broken(step=([1, 2.5], reward, flag, np.True_, {}))
    world.steps = 49
    obs, *given = envs.step(world, envs.space_sizes(world), 0)
    assert obs.tolist() == [1, 2.5]
    assert given == [value, ends, True]
    assert list(map(type, given)) == [float, bool, bool]
