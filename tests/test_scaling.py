"""The settings observation_scale and reward_scale: measured once, and without effect on units that the user sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from perilune import DQN, DQNConfig, TrainConfig, presets
from perilune.agent.dqn import Agent
from perilune.cli.parser import CommandLineError
from perilune.cli.settings import choose
from perilune.doctor.adapters.perilune import PeriluneAdapter
from perilune.errors import ConfigError, EnvironmentFaultError, FileFormatError
from perilune.nn import mlp
from perilune.nn.layers import Scale
from perilune.nn.network import Dense
from perilune.recording import changes
from perilune.runs import logs, weights
from perilune.runs.manifest import read_config
from perilune.training.events import Episode, Metrics
from perilune.training.scaling import measured
from perilune.tuning.space import Base, from_dict, of_parameters
from perilune.viz.insight import units
from perilune.viz.report.content import _settings
from test_cli import parse
from worlds import World, registered, small

AUTO = DQNConfig(observation_scale="auto", reward_scale="auto")


class Ramp(World):
    """Four steps per episode, with observations (step, 0, -8 and then 2) and the rewards 0, 1, -2 and 6."""

    def __init__(self, limit: int = 4) -> None:
        super().__init__(3, 2)
        self.limit = limit

    def begin(self) -> Sequence[float]:
        return 0, 0, -8

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        reward = (0.0, 1.0, -2.0, 6.0)[(self.steps - 1) % 4]
        return (self.steps, 0, 2), reward, self.steps == self.limit, False


class Scaled(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Multiply each entry of the observation and the reward, which depends on the state, by a factor."""

    def __init__(self, env: gym.Env[Any, Any], factors: Sequence[float], reward: float) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, factors=factors, reward=reward)
        super().__init__(env)
        self.factors, self.reward = np.array(factors, np.float32), reward

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        return obs * self.factors, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = self.env.step(action)
        return obs * self.factors, self.reward * (0.3 + float(obs[1])), terminated, truncated, info


# Measuring


def test_measured_scales_match_hand_computation() -> None:
    found = measured(AUTO, Ramp())
    assert found.observation_scale == (4, 1, 8)  # an entry that is always 0 has scale 1
    assert found.reward_scale == 2  # the median of 1, 2 and 6: rewards of 0 do not count, rare large ones little
    assert found == replace(AUTO, observation_scale=(4, 1, 8), reward_scale=2)
    assert measured(found, Ramp()) is found
    assert measured(replace(AUTO, observation_scale=(7, 7, 7)), Ramp()).observation_scale == (7, 7, 7)
    assert measured(replace(AUTO, reward_scale=7), Ramp()).reward_scale == 7


def test_measuring_takes_1000_steps_in_short_episodes_with_training_seeds() -> None:
    world = Ramp(limit=1_000_000)
    assert measured(AUTO, world).observation_scale == (250, 1, 8)
    assert [len(steps) for steps in world.trained()] == [250] * 4
    assert len(set(world.seeds)) == 4
    assert {step.action for steps in world.trained() for step in steps} == {0, 1}


def test_registered_environment_is_measured_in_a_copy_and_the_same_for_all_seeds() -> None:
    with registered(lambda _: Ramp()) as made:
        agents = [DQN("World-v0", seed=seed) for seed in (0, 1)]
    assert not made[0].seeds
    assert len(made[1].seeds) == 250
    assert agents[0].config == agents[1].config
    assert agents[0].config.reward_scale == 2


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Taxi-v4"])
def test_one_hot_observations_are_not_scaled(name: str) -> None:
    assert DQN(name).config.observation_scale is None


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "Taxi-v4", "CliffWalking-v1"])
def test_rewards_of_plus_or_minus_one_are_not_scaled(name: str) -> None:
    assert DQN(name, "default").config.reward_scale == 1


def test_rewards_of_zero_are_not_scaled() -> None:
    class Barren(Ramp):
        def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
            obs, _, *over = super().move(action)
            return obs, 0.0, *over

    assert measured(AUTO, Barren()).reward_scale == 1


def test_extreme_scales_stay_in_the_range_of_single_precision() -> None:
    class Extreme(Ramp):
        def begin(self) -> Sequence[float]:
            return 1e38, 1e-40, 1

        def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
            return (0, 0, 0), 1e-38, False, True

    found = measured(AUTO, Extreme())
    assert found.observation_scale == (1e30, 1e-30, 1)
    assert found.reward_scale == 1e-30


def test_statistics_of_wrappers_do_not_change() -> None:
    env = gym.wrappers.NormalizeObservation(Ramp())
    env.reset(seed=0)
    before = env.obs_rms.mean.copy(), env.obs_rms.count
    DQN(env)
    np.testing.assert_array_equal(env.obs_rms.mean, before[0])
    assert env.obs_rms.count == before[1]


def test_fault_of_the_environment_is_reported() -> None:
    class Faulty(Ramp):
        def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
            return (float("nan"), 0, 0), 0.0, False, False

    with pytest.raises(EnvironmentFaultError, match=r"a random step that measures the scale.*nan"):
        DQN(Faulty())


# The network and the units


def test_first_layer_divides_the_observation(backend: str) -> None:
    network = mlp(2, [(4, "relu")], 3, layer_norm=True, input_scale=(4.0, 0.5))
    plain = mlp(2, [(4, "relu")], 3, layer_norm=True)
    network.parameters[:] = plain.parameters[:] = np.random.default_rng(0).normal(size=len(plain.parameters))
    x, d_outputs = np.array([[8, 1], [-4, 3]], np.float32), np.ones((2, 3), np.float32)
    expected = plain.forward(x / np.array([4, 0.5], np.float32))
    np.testing.assert_array_equal(network.forward(x), expected)
    network.backward(d_outputs.copy())
    plain.backward(d_outputs.copy())
    np.testing.assert_array_equal(network.gradients, plain.gradients)
    assert network.gradients.any()


def test_disabled_scale_adds_no_layer_and_enabled_scale_no_gradient_of_the_input() -> None:
    assert [type(layer) for layer in mlp(2, [], 3).layers] == [Dense]
    network = mlp(2, [(4, "relu")], 3, input_scale=(4.0, 0.5))
    assert [type(layer) for layer in network.layers[:2]] == [Scale, Dense]
    steps = network._layer_steps(2)
    assert [step.dx is None for step in steps] == [True, True, False, False]


def test_rewards_are_stored_scaled_and_results_are_in_units_of_return() -> None:
    agent, plain = (Agent(2, 3, small(reward_scale=scale), 0) for scale in (4.0, 1.0))
    obs = np.zeros(2, np.float32)
    agent.remember(obs, 0, 8.0, obs, True, False)
    plain.remember(obs, 0, 2.0, obs, True, False)
    assert agent.replay.arrays.reward[0] == 2
    np.testing.assert_array_equal(agent.q_values(obs[None]), 4 * plain.q_values(obs[None]))
    scaled, unscaled = agent.learn(), plain.learn()
    assert scaled.mean_td_target == 8 == 4 * unscaled.mean_td_target
    assert scaled == unscaled._replace(mean_q=4 * unscaled.mean_q, mean_td_target=8)


def test_doctor_adapter_reads_and_learns_from_rewards_in_units_of_return() -> None:
    agent = Agent(2, 3, small(reward_scale=4.0, learning_rate=0.1), 0)
    obs = np.ones(2, np.float32)
    agent.remember(obs, 1, 8.0, obs, True, False)
    adapter = PeriluneAdapter(agent)
    batch = adapter.sample(4)
    np.testing.assert_array_equal(batch[2], [8, 8, 8, 8])
    for _ in range(200):
        adapter.train_batch(*batch)
    assert adapter.q_values(obs[None])[0, 1] == pytest.approx(8, abs=0.5)


def test_hidden_units_do_not_include_the_scaled_observation() -> None:
    agent = Agent(2, 3, small(hidden=(8, 4), observation_scale=(2.0, 3.0)), 0)
    assert [unit.outputs.shape for unit in units(agent, np.ones((5, 2)))] == [(5, 8), (5, 4)]


# Training does not depend on the scale

LEARNERS: dict[str, dict[str, Any]] = {
    "replay": {"munchausen": 0.9, "priority_alpha": 0.6, "n_step": 3, "layer_norm": True, "ema_decay": 0.9},
    "quantiles": {"head": "qr", "quantiles": 4, "optimism": 0.5, "dueling": True, "noisy": True},
    "pqn": {"td_lambda": 0.9, "buffer_size": 64, "batch_size": 16, "epochs": 2, "optimizer": "rmsprop"},
    "c51": {"head": "c51", "atoms": 7, "value_range": (-4, 8)},
}


def trained(learner: str, factors: Sequence[float], reward: float) -> tuple[DQN, list[Metrics], list[float]]:
    settings = {"learning_starts": 100, "buffer_size": 1_000, "batch_size": 16} | LEARNERS[learner]
    if learner == "c51":
        settings["value_range"] = (-4 * reward, 8 * reward)
    config = small(observation_scale="auto", reward_scale="auto", **settings)
    dqn = DQN(Scaled(gym.make("CartPole-v1"), factors, reward), config=config, seed=5)
    history = dqn.train(steps=640, metrics_every=100, eval_every=300, eval_episodes=2, num_envs=2, quiet=True)
    return dqn, list(history.run.metrics), history.rewards


@pytest.mark.parametrize("learner", LEARNERS)
def test_powers_of_two_change_no_bit_of_the_weights(learner: str, backend: str) -> None:
    factors, reward = (2.0**10, 2.0**-7, 1.0, 2.0**3), 2.0**9
    plain, metrics, rewards = trained(learner, (1, 1, 1, 1), 1.0)
    scaled, scaled_metrics, scaled_rewards = trained(learner, factors, reward)
    assert scaled.agent.updates == plain.agent.updates > 0
    for name in ("online", "target"):
        ours, theirs = (getattr(dqn.agent, name).parameters for dqn in (scaled, plain))
        np.testing.assert_array_equal(ours, theirs)
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_array_equal(scaled.q_values(obs * np.array(factors, np.float32)), reward * plain.q_values(obs))
    assert scaled_rewards == [reward * one for one in rewards]
    assert scaled_metrics == [
        one._replace(mean_q=reward * one.mean_q, mean_td_target=reward * one.mean_td_target) for one in metrics
    ]
    assert metrics


def test_other_factors_change_decisions_only_by_rounding() -> None:
    factors, reward = np.array([1e3, 0.07, 5, 1e-3], np.float32), 100.0
    plain, scaled = (
        DQN(Scaled(gym.make("CartPole-v1"), *how), config=small(observation_scale="auto", reward_scale="auto"), seed=5)
        for how in (((1, 1, 1, 1), 1.0), (factors.tolist(), reward))
    )
    for dqn in (plain, scaled):
        dqn.train(steps=60, eval_every=None, eval_episodes=1, quiet=True)
    assert scaled.agent.updates == plain.agent.updates == 52
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_allclose(scaled.q_values(obs * factors), reward * plain.q_values(obs), rtol=1e-2, atol=1e-2)


# Settings, files and presets


def test_search_spaces_vary_scales_as_numbers() -> None:
    base = Base(small(), TrainConfig(steps=1_000))
    parameters = {
        "reward_scale": {"low": 1, "high": 100, "log": True},
        "observation_scale": {"choices": ["none", [2, 4]]},
    }
    space = from_dict(parameters)
    space.check(base, "World-v0")
    assert space.start(base) == {"reward_scale": 1, "observation_scale": "none"}
    made = of_parameters(space, {"reward_scale": 10.0, "observation_scale": "[2, 4]"}, base).agent
    assert (made.reward_scale, made.observation_scale) == (10, (2, 4))
    with pytest.raises(ConfigError, match="numbers, because Perilune measures auto before the search"):
        from_dict({"reward_scale": {"choices": [1, "auto"]}})


@pytest.mark.parametrize("name", ["observation_scale", "reward_scale"])
def test_agent_without_environment_refuses_auto(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}='auto' is invalid: expected numbers.*Use DQN\(env, \.\.\.\)"):
        Agent(4, 2, DQNConfig(**{name: "auto"}), 0)


@pytest.mark.parametrize("scale", [(1.0,), (1.0, 2.0, 3.0)])
def test_scale_of_the_wrong_length_is_refused(scale: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"observation_scale=.* expected 2 numbers, one for each entry"):
        Agent(2, 2, DQNConfig(observation_scale=scale), 0)


def test_default_and_tuned_settings_do_not_scale() -> None:
    for name, preset in presets.available().items():
        scales = preset.agent.observation_scale, preset.agent.reward_scale
        assert scales == (("auto", "auto") if name == "default" else (None, 1)), name
    assert presets.preset("Unknown-v0", "fast").agent.unmeasured == ("observation_scale", "reward_scale")
    assert not DQNConfig().unmeasured
    assert not presets.preset("CartPole-v1", "fast").agent.unmeasured


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--observation-scale", "auto", "--reward-scale", "AUTO"], ("auto", "auto")),
        (["--observation-scale", "none", "--reward-scale", "2e2"], (None, 200.0)),
        (["--observation-scale", "1,2,0.5"], ((1.0, 2.0, 0.5), 1.0)),
        (["--observation-scale", "3"], ((3.0,), 1.0)),
    ],
)
def test_command_line_options(words: list[str], expected: tuple[Any, Any]) -> None:
    config, _ = choose(parse(["train", "CartPole-v1", *words])).configs()
    assert (config.observation_scale, config.reward_scale) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reward-scale", "none"], "'none' is invalid: expected a number, such as 100, or auto"),
        (["--observation-scale", "1", "auto"], "'1 auto' is invalid: expected numbers, one for each entry"),
    ],
)
def test_invalid_command_line_options_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(CommandLineError, match=message):
        parse(["train", "CartPole-v1", *words])


TRAINING: dict[str, Any] = {"steps": 300, "eval_every": 100, "eval_episodes": 1, "quiet": True, "pictures": False}
QUICK: dict[str, Any] = {"hidden": (8,), "batch_size": 8, "learning_starts": 50, "buffer_size": 500}


def test_run_and_weights_hold_the_measured_numbers(tmp_path: Path) -> None:
    dqn = DQN("CartPole-v1", "default", seed=3, **QUICK)
    scale = dqn.config.observation_scale
    assert isinstance(scale, tuple)
    dqn.train(run_dir=tmp_path / "run", **TRAINING)
    assert (dqn.config.observation_scale, dqn.config.reward_scale) == (scale, 1)
    stored = read_config(tmp_path / "run")["agent"]
    assert (tuple(stored["observation_scale"]), stored["reward_scale"]) == (scale, 1)
    loaded = DQN.load(tmp_path / "run")
    assert loaded.config == dqn.config
    obs = np.ones((3, 4), np.float32)
    final = DQN.load(tmp_path / "run" / "final.safetensors")
    np.testing.assert_array_equal(final.q_values(obs), dqn.q_values(obs))
    final.train(steps=80, eval_episodes=1, quiet=True)
    assert final.config.observation_scale == scale
    again, _ = choose(parse(["train", "--config", str(tmp_path / "run" / "settings.toml")])).configs()
    assert again == dqn.config


def test_measured_numbers_do_not_count_as_changes_of_the_preset(tmp_path: Path) -> None:
    class Far(Ramp):
        def begin(self) -> Sequence[float]:
            return 0, 0, -80

    with registered(lambda _: Far()):
        for purpose in ("recommended", "fast"):
            dqn = DQN("World-v0", purpose, seed=0)
            assert dqn.config.observation_scale == (4, 1, 80)
            assert repr(dqn) == f"DQN('World-v0', preset='{purpose}')"
            assert presets.nearest("World-v0", asdict(dqn.config), 100_000) == purpose
        dqn = DQN("World-v0", "fast", learning_starts=50, reward_scale=7)
        assert changes(dqn.config, "World-v0", "fast") == ["learning_starts=50"]
        dqn.train(run_dir=tmp_path / "run", **TRAINING)
        (_, rows), _ = _settings([logs.read_run(tmp_path / "run")])
    assert not {"observation_scale", "reward_scale"} & {row[0] for row in rows}


@pytest.mark.parametrize("preset", ["default", None])
def test_stopped_run_resumes_with_its_numbers(tmp_path: Path, preset: str | None) -> None:
    def made(environment: gym.Env[Any, Any]) -> DQN:
        config = small(observation_scale="auto", reward_scale="auto") if preset is None else None
        return DQN(environment, preset, config=config, seed=3, **(QUICK if preset else {}))

    env = Scaled(gym.make("CartPole-v1"), (3.0, 5.0, 7.0, 9.0), 11.0)
    settings = TRAINING | {"checkpoint_seconds": 1e-9, "max_episode_steps": 50}
    made(env).train(run_dir=tmp_path / "whole", **settings)
    first = made(env)
    callback = lambda event: not isinstance(event, Episode) or event.env_steps < 150  # noqa: E731
    first.train(run_dir=tmp_path / "parts", callback=callback, **settings)
    assert first.agent.env_steps < 300
    resumed = made(env)
    other = replace(resumed.config, observation_scale=(1, 1, 1, 1), reward_scale=2.0)
    resumed.agent = Agent(4, 2, other, 3, resumed.agent.symmetry)  # as if other numbers had been measured now
    resumed.train(run_dir=tmp_path / "parts", resume=True, **settings)
    for name in ("config.json", "final.safetensors", "best.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_weights_file_with_auto_is_refused(tmp_path: Path) -> None:
    path = DQN("CartPole-v1", hidden=(8,), reward_scale=2.0).save(tmp_path / "agent")
    agent, saved = weights.load_weights(path)
    assert saved.config.reward_scale == 2
    agent.config = replace(agent.config, reward_scale="auto")
    weights.save_weights(path, agent, "CartPole-v1")
    with pytest.raises(FileFormatError, match="does not fit its own settings: reward_scale='auto'"):
        weights.load_weights(path)
