"""What a training can go on with and is yet a sign that nothing, or nonsense, is learned, is told once and in words."""

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


# Q beyond what rewards allow


@pytest.mark.parametrize(
    ("settings", "reward", "limit"),
    [
        ({"gamma": 0.99}, 1.0, 100.0),
        ({"gamma": 0.5}, 3.0, 6.0),
        ({"gamma": 0.0}, 3.0, 3.0),
        ({"gamma": 1.0}, 1.0, math.inf),
        # A reward of 1 has up to 0.9 |-1| of log-probability besides, and 0.03 log 2 of entropy.
        ({"gamma": 0.9, "munchausen": 0.9}, 1.0, 10 * (1 + 0.9 + 0.03 * math.log(2))),
    ],
)
def test_no_return_is_greater_than_this(settings: dict[str, Any], reward: float, limit: float) -> None:
    config = DQNConfig(**settings)
    assert health.greatest_return(config, 2, reward) == pytest.approx(limit)
    for sign in (1, -1):
        assert health.beyond_rewards(config, 2, sign * min(1.9 * limit, 1e30), reward) is None
    if limit < math.inf:
        notice = health.beyond_rewards(config, 2, -2.1 * limit, reward)
        assert notice is not None
        assert notice.what == "q_beyond_rewards"
        assert "learning_rate" in notice.words


def test_without_a_reward_yet_nothing_is_said() -> None:
    assert health.beyond_rewards(DQNConfig(), 2, 50.0, 0.0) is None


def test_values_that_feed_on_each_other_are_told_before_they_end_the_training(tmp_path: Path) -> None:
    dqn = DQN(
        Numbered(lengths=(30,)), **SMALL, head="expected", optimism=0.0,
        optimizer="sgd", learning_rate=0.3, max_grad_norm=None, loss="mse", tau=1.0,
        target_update_interval=1, layer_norm=False, epsilon_decay_steps=100,
    )  # fmt: skip
    told = pytest.warns(PeriluneWarning, match=r"the mean of Q is .* no return is greater than")
    with np.errstate(all="ignore"), told, pytest.raises(DivergenceError) as caught:
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
        ({"epsilon_decay_steps": 10**6}, {"episodes": 10}, False),  # whose steps nobody knows
        ({"epsilon_end": 1.0}, {"steps": 10_000}, True),
        ({"epsilon_start": 0.5, "epsilon_end": 0.5}, {"episodes": 10}, True),
        ({"epsilon_start": 0.4, "epsilon_end": 0.4}, {"steps": 10_000}, False),  # it is not meant to fall
        ({"epsilon_start": 0.0, "epsilon_end": 0.0, "noisy": True}, {"steps": 10_000}, False),
        ({"epsilon_decay": 1.0}, {"steps": 10_000}, True),
        ({"epsilon_decay": 0.9999}, {"episodes": 50}, True),
        ({"epsilon_decay": 0.99}, {"episodes": 50}, False),
        ({"epsilon_decay": 0.9999999}, {"steps": 10_000}, True),  # not even if every step were an episode
        ({"epsilon_decay": 0.9999}, {"steps": 10_000}, False),  # nobody knows how many episodes that makes
        ({"epsilon_decay": 0.9999999, "epsilon_decay_per": "update"}, {"steps": 10_000}, True),
        ({"epsilon_decay": 0.9999, "epsilon_decay_per": "update"}, {"steps": 10_000}, False),
    ],
)
def test_an_epsilon_that_hardly_falls_is_told(agent: dict[str, Any], train: dict[str, Any], stays: bool) -> None:
    notice = health.epsilon_stays(DQNConfig(**agent), TrainConfig(**train))
    assert (notice is not None) is stays
    if notice is not None:
        assert notice.what == "epsilon_stays"


@pytest.mark.parametrize("name", available())
def test_no_preset_gives_cause_to_say_anything(name: str) -> None:
    assert health.epsilon_stays(available()[name].agent, available()[name].train) is None


@pytest.mark.parametrize(
    ("settings", "budget", "stayed"),
    [
        ({"epsilon_decay": 0.9999}, {"steps": 400}, True),  # 0.9999^98 is 0.99
        ({"epsilon_decay": 0.9}, {"steps": 400}, False),
        ({"epsilon_decay_steps": 10**5}, {"episodes": 50}, True),  # of which 200 steps are two thousandths
        ({"epsilon_decay_steps": 5_000}, {"episodes": 50}, False),
        ({"epsilon_decay_steps": 10**5}, {"episodes": 19}, False),  # a trial
        ({"epsilon_decay_steps": 10**5, "epsilon_start": 0.1, "epsilon_end": 0.1}, {"episodes": 50}, False),
    ],
)
def test_where_a_budget_is_of_another_kind_it_is_told_at_its_end(
    settings: dict[str, Any], budget: dict[str, Any], stayed: bool
) -> None:
    world, agent = Numbered(lengths=(4,)), Agent(2, 3, DQNConfig(**SMALL | settings), 0)
    assert health.epsilon_stays(agent.config, TrainConfig(**budget)) is None
    events = list(training_events(agent, world, TrainConfig(**budget, eval_every=None, eval_episodes=1)))
    told = [event for event in events if isinstance(event, HealthWarning)]
    assert [notice.what for notice in told] == (["epsilon_stays"] if stayed else [])
    if stayed:
        (notice,) = told
        assert f"is still {agent.epsilon:.3g} when the budget is over" in notice.words
        assert notice.env_steps == agent.env_steps


def test_a_training_that_ends_before_its_budget_is_not_told_where_epsilon_would_have_been() -> None:
    agent = Agent(2, 3, DQNConfig(**SMALL, epsilon_decay=0.9999), 0)
    config = TrainConfig(steps=4_000, eval_every=100, eval_episodes=1, stop_at_return=-1e9)
    assert not [event for event in training_events(agent, Numbered(), config) if isinstance(event, HealthWarning)]
    assert agent.env_steps < 4_000


# No update


def test_a_training_without_an_update_is_told() -> None:
    agent = Agent(2, 3, DQNConfig(**SMALL, train_freq=1000, epsilon_decay_steps=100), 0)
    events = list(training_events(agent, Numbered(lengths=(3,)), TrainConfig(episodes=5, eval_episodes=1)))
    (notice,) = [event for event in events if isinstance(event, HealthWarning)]
    assert notice.what == "no_update"
    assert "train_freq = 1000" in notice.words


# Environments that break Gymnasium's interface


class Broken(gym.Env[Any, Any]):
    """Gives something else in its fifth step, or at its third reset."""

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
            return self.given
        return np.zeros(2, np.float32), 1.0, self.steps % 9 == 0, False, {}


FINE = np.zeros(2, np.float32)


class Raising:
    """Is nothing that could be made of it."""

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array")

    def __iter__(self) -> Any:
        raise RuntimeError("no values")

    def __repr__(self) -> str:
        return "Raising"


class SpeechlessError(Exception):
    """Cannot even be told."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"step": (FINE, 1.0, False, {})}, r"gave 4 values, not \(obs, reward, terminated, truncated, info\).*old Gym"),
        ({"step": 5}, "step gave int, not"),
        ({"step": (FINE, "much", False, False, {})}, "the reward 'much', which is no number"),
        ({"step": (FINE, None, False, False, {})}, "the reward None, which is no number"),
        ({"step": (FINE, "3", False, False, {})}, "the reward '3', which is no number"),
        ({"step": (FINE, np.array("3"), False, False, {})}, "the reward array.'3'.*, which is no number"),
        ({"step": (FINE, np.complex64(1 + 2j), False, False, {})}, r"the reward .*1\+2j.*, which is no number"),
        ({"step": (FINE, 10**400, False, False, {})}, r"the reward 10{50,99}\.\.\., which is no number"),
        ({"step": (FINE, Raising(), False, False, {})}, "the reward Raising, which is no number"),
        ({"step": (FINE, 3.5e38, False, False, {})}, r"the reward 3\.5e\+38, which is not finite in single precision"),
        ({"step": (FINE, 1.0, 7, False, {})}, "terminated = 7, which is neither True nor False"),
        ({"step": (FINE, 1.0, False, Raising(), {})}, "truncated = Raising, which is neither"),
        ({"step": (Raising(), 1.0, False, False, {})}, "no array of numbers: no array"),
        ({"step": (np.array([0, 3j]), 1.0, False, False, {})}, "no array of numbers: it is of complex128"),
        ({"step": (["1", "2"], 1.0, False, False, {})}, "no array of numbers: it is of <U1"),
        ({"step": Raising()}, r"step gave Raising, not \(obs"),
        ({"reset": Raising()}, r"reset gave Raising, not \(obs"),
        ({"step": (FINE, math.nan, False, False, {})}, "the reward nan.*not finite"),
        ({"step": (FINE, 1.0, None, False, {})}, "terminated = None, which is neither True nor False"),
        ({"step": (FINE, 1.0, False, "no", {})}, "truncated = 'no'"),
        ({"step": (np.zeros(3), 1.0, False, False, {})}, r"shape \(3,\), but its observation space says \(2,\)"),
        ({"step": (None, 1.0, False, False, {})}, "observation"),
        ({"step": (["a", "b"], 1.0, False, False, {})}, "no array of numbers"),
        ({"step": (np.array([0, np.inf]), 1.0, False, False, {})}, r"not finite in single precision: obs\[1\] = inf"),
        ({"step": (np.array([1e39, 0]), 1.0, False, False, {})}, r"not finite in single precision: obs\[0\] = inf"),
        ({"reset": np.zeros(2, np.float32)}, r"observation|not \(obs, info\)"),
        ({"reset": (np.zeros(2), {}, 1)}, r"reset gave tuple, not \(obs, info\)"),
        ({"reset": (np.array([np.nan, 0]), {})}, r"obs\[0\] = nan"),
    ],
    ids=str,
)
def test_an_environment_that_breaks_the_interface_is_told_by_what_it_gave(broken: dict[str, Any], said: str) -> None:
    agent = Agent(2, 2, DQNConfig(**SMALL), 0)
    with pytest.raises(EnvironmentFaultError, match=said) as caught:
        list(training_events(agent, Broken(**broken), TrainConfig(steps=200, eval_every=None)))
    if "step" in broken:
        assert "environment steps" in str(caught.value)
    assert np.isfinite(agent.online.parameters).all()


@pytest.mark.parametrize(
    ("reward", "value"),
    [(1, 1.0), (np.float32(0.5), 0.5), (np.int64(-3), -3.0), (np.array(2.5), 2.5), (True, 1.0), (3.4e38, 3.4e38)],
)
@pytest.mark.parametrize(("flag", "ends"), [(True, True), (np.False_, False), (0, False), (1, True)])
def test_whatever_is_a_number_or_a_truth_is_taken(reward: Any, value: float, flag: Any, ends: bool) -> None:
    world = Broken(step=([1, 2.5], reward, flag, np.True_, {}))
    world.steps = 49
    obs, *given = envs.step(world, envs.space_sizes(world), 0)
    assert obs.tolist() == [1, 2.5]
    assert given == [value, ends, True]
    assert list(map(type, given)) == [float, bool, bool]


def test_an_exception_that_cannot_be_told_is_named_all_the_same() -> None:
    class Speechless(Broken):
        def step(self, action: Any) -> Any:
            raise SpeechlessError

    with pytest.raises(EnvironmentFaultError, match=r"step raised SpeechlessError: \(its __str__ raised ValueError\)"):
        list(training_events(Agent(2, 2, DQNConfig(**SMALL), 0), Speechless(), TrainConfig(steps=200)))


def test_a_number_that_cannot_be_written_down_is_named_by_its_type() -> None:
    with pytest.raises(EnvironmentFaultError, match="the reward of type int, which is no number"):
        list(
            training_events(
                Agent(2, 2, DQNConfig(**SMALL), 0), Broken(step=(FINE, 10**9999, 0, 0, {})), TrainConfig(steps=200)
            )
        )
