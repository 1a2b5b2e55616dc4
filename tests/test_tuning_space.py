"""Search spaces: ranges, conditions, contradictions and files."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune import DQNConfig, TrainConfig
from perilune.agent.config import HeadName
from perilune.envs.known import presets
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError
from perilune.training.checks import check_budget, check_rollout
from perilune.tuning.defaults import default_space
from perilune.tuning.space import Base, Space, from_dict, load, of_parameters

ENVIRONMENTS = ("CartPole-v1", "LunarLander-v3", "MountainCar-v0", "Acrobot-v1", "Taxi-v4")
NAMES = ("recommended", "fast", "plain", "default", None)
HEADS: dict[HeadName, dict[str, Any]] = {
    "expected": {"head": "expected", "optimism": 0.0, "value_range": None},
    "qr": {"head": "qr", "loss": "huber", "value_range": None},
    "c51": {"head": "c51", "loss": "huber", "optimism": 0.0, "value_range": (-500.0, 300.0)},
}
BASES = [Base(*presets.resolve(env, name, {}, {})) for env, name in itertools.product(ENVIRONMENTS, NAMES)]
BASES += [Base(replace(base.agent, **head), base.train) for base in BASES[:4] for head in HEADS.values()]
BASES += [
    Base(DQNConfig(epsilon_decay=0.99, ema_acts=True, ema_decay=0.5), TrainConfig(episodes=100)),
    Base(DQNConfig(batch_size=7, buffer_size=7, learning_starts=3, gamma=1.0), TrainConfig(steps=50)),
    Base(DQNConfig(epsilon_start=0.01, epsilon_end=0.0, learning_rate_end=0.0, gamma=0.0), TrainConfig(steps=2_000)),
    Base(DQNConfig(td_lambda=0.0, buffer_size=96, batch_size=96), TrainConfig(steps=100, num_envs=3)),
    Base(DQNConfig(hidden=((8, "tanh"), 4), munchausen=0.5, priority_alpha=1.0), TrainConfig(steps=9_000)),
]
LOW, HIGH = {"low": 1e-4, "high": 1e-2, "log": True}, {"low": 32, "high": 64}


class Chooser:
    """Chooses values with Hypothesis, like ``optuna.Trial``."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.found: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        assert low > 0 or not log
        return self._chosen(name, st.floats(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        assert low > 0 or not log
        return self._chosen(name, st.integers(low, high))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._chosen(name, st.sampled_from(choices))

    def _chosen(self, name: str, values: st.SearchStrategy[Any]) -> Any:
        assert name not in self.found
        self.found[name] = self.data.draw(values)
        return self.found[name]


@given(base=st.sampled_from(BASES), symmetric=st.booleans(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_default_spaces_contain_no_contradiction(base: Base, symmetric: bool, data: st.DataObject) -> None:
    space = default_space(base, symmetric)
    chooser = Chooser(data)
    made = space.sample(chooser, base)  # DQNConfig refuses contradictions
    check_budget(made.agent, made.train, "env")
    check_rollout(made.agent, made.train)
    assert of_parameters(space, chooser.found, base) == made


@pytest.mark.parametrize("base", BASES)
def test_default_spaces_contain_the_starting_point(base: Base) -> None:
    space = default_space(base, symmetric=True)
    start = space.start(base)
    assert start is not None
    assert of_parameters(space, start, base) == base
    space.check(base, "env")


def test_learner_decides_which_settings_vary() -> None:
    replay, rollout = (
        default_space(Base(*presets.resolve("LunarLander-v3", name, {}, {})), symmetric=False).parameters.keys()
        for name in ("recommended", "fast")
    )
    assert {"n_step", "head", "tau", "priority_alpha"} <= replay
    assert {"td_lambda", "epochs", "buffer_size", "num_envs"} <= rollout
    assert not {"n_step", "head", "tau", "priority_alpha", "double"} & rollout
    assert "mirror" not in replay
    plain = default_space(Base(*presets.resolve("LunarLander-v3", "plain", {}, {})), symmetric=True).parameters
    assert "target_update_interval" in plain
    assert "tau" not in plain
    assert "mirror" in plain


def test_chosen_settings_do_not_vary() -> None:
    base = Base(*presets.resolve("CartPole-v1", "recommended", {"head": "qr", "gamma": 0.9}, {}))
    found = default_space(base, symmetric=True, given=["head", "gamma"]).parameters
    assert not {"head", "gamma"} & found.keys()
    assert {"quantiles", "optimism"} <= found.keys()
    assert "loss" not in found


class Fixed:
    """Chooses given values and records the ranges."""

    def __init__(self, **values: Any) -> None:
        self.values, self.ranges = values, dict[str, Any]()

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        self.ranges[name] = (low, high, log)
        return float(self.values[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        self.ranges[name] = (low, high, log)
        return int(self.values[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.ranges[name] = tuple(choices)
        return self.values[name]


BASE = Base(DQNConfig(learning_rate=1e-3, learning_rate_end=1e-4), TrainConfig(steps=10_000))


def test_values_of_parameters_by_hand() -> None:
    space = from_dict(
        {
            "learning_rate": LOW,
            "learning_rate_end": {"low": 0.1, "high": 1.0, "times": "learning_rate"},
            "gamma": {"low": 0.001, "high": 0.1, "log": True, "complement": True},
            "epsilon_decay_steps": {"low": 0.1, "high": 0.5, "times": "steps"},
            "batch_size": HIGH,
            "hidden": {"choices": [[64, 64], [[32, "tanh"], 16]]},
            "ema_decay": {"choices": ["none", 0.99]},
            "head": {"choices": ["expected", "qr"]},
            "quantiles": {"low": 8, "high": 64, "when": {"head": "qr"}},
            "munchausen": {"choices": [0.0, 0.9]},
            "munchausen_temperature": {"low": 0.01, "high": 1.0, "when": {"munchausen": [0.5, 0.9]}},
        }
    )
    fixed = Fixed(
        **{
            "learning_rate": 2e-3, "learning_rate_end / learning_rate": 0.25, "1 - gamma": 0.02,
            "epsilon_decay_steps / steps": 0.12345, "batch_size": 48, "hidden": '[[32, "tanh"], 16]',
            "ema_decay": "none", "head": "expected", "munchausen": 0.9, "munchausen_temperature": 0.5,
        }
    )  # fmt: skip
    made = space.sample(fixed, BASE)
    expected = DQNConfig(
        learning_rate=2e-3, learning_rate_end=5e-4, gamma=0.98, epsilon_decay_steps=1_234, batch_size=48,
        hidden=((32, "tanh"), 16), ema_decay=None, head="expected", munchausen=0.9, munchausen_temperature=0.5,
    )  # fmt: skip
    assert made == Base(expected, BASE.train)
    assert "quantiles" not in fixed.ranges
    assert fixed.ranges["learning_rate"] == (1e-4, 1e-2, True)
    assert fixed.ranges["ema_decay"] == ("none", 0.99)


def test_final_learning_rate_follows_the_initial_one() -> None:
    made = from_dict({"learning_rate": LOW}).sample(Fixed(learning_rate=5e-4), BASE)
    assert (made.agent.learning_rate, made.agent.learning_rate_end) == (5e-4, 5e-5)


def test_start_is_none_if_the_space_excludes_it() -> None:
    assert from_dict({"learning_rate": {"low": 0.1, "high": 0.2}}).start(BASE) is None
    assert from_dict({"hidden": {"choices": [[1], [2]]}}).start(BASE) is None
    assert from_dict({"ema_decay": {"low": 0.9, "high": 0.99}}).start(BASE) is None
    assert from_dict({"learning_rate": LOW}).start(BASE) == {"learning_rate": 1e-3}


def test_contradictions_of_a_space_are_refused_by_name() -> None:
    space = from_dict({"batch_size": {"low": 32, "high": 512}, "buffer_size": {"low": 256, "high": 1_024}})
    base = Base(DQNConfig(learning_starts=100), TrainConfig(steps=10_000))
    with pytest.raises(ConfigError, match=r"batch_size=512.* at most buffer_size=256.* with batch_size=512, buffer_si"):
        from_dict({"batch_size": {"low": 512, "high": 512}, "buffer_size": {"low": 256, "high": 256}}).check(
            base, "env"
        )
    with pytest.raises(ConfigError, match="at most buffer_size="):
        space.check(base, "env")
    with pytest.raises(ConfigError, match=r"value_range=None.*with head=c51"):
        from_dict({"head": {"choices": ["expected", "c51"]}}).check(base, "env")
    with pytest.raises(ConfigError, match=r"munchausen=0\.9.*expected 0 with td_lambda"):
        from_dict({"munchausen": {"choices": [0.0, 0.9]}, "td_lambda": {"choices": ["none", 0.9]}}).check(base, "env")
    from_dict(
        {"munchausen": {"choices": [0.0, 0.9], "when": {"td_lambda": "none"}}, "td_lambda": {"choices": ["none", 0.9]}}
    ).check(replace(base, agent=replace(base.agent, buffer_size=2_048)), "env")
    with pytest.raises(ConfigError, match="at least 9001 for env"):
        from_dict({"learning_starts": {"choices": [1_000, 9_000]}}).check(
            Base(DQNConfig(), TrainConfig(steps=5_000)), "env"
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"learning_rate": {"low": 1, "high": 0.1}}, "expected low <= high"),
        ({"learning_rate": {"low": 0, "high": 0.1, "log": True}}, "a number > 0 on a log scale"),
        ({"learning_rate": {"low": 1e-4}}, "expected low and high, or choices"),
        ({"learning_rate": {"low": 1e-4, "high": float("inf")}}, "both finite"),
        ({"learning_rate": {"low": 1e-4, "high": 1, "choices": [0.1]}}, "either choices, or low and high"),
        ({"head": {"low": 0, "high": 1}}, "expected choices"),
        ({"head": {"choices": []}}, "one or more different values"),
        ({"head": {"choices": ["qr", "qr"]}}, "one or more different values"),
        ({"n_step": {"low": 1.5, "high": 3}}, "whole numbers"),
        ({"learning_rate": {"low": 1, "high": 2, "step": 1}}, "unknown field `step`"),
        ({"learning_rate": {"low": "much", "high": 2}}, "Expected `float"),
        ({"tau": LOW | {"when": {"taw": 1}}}, "Did you mean tau?"),
        ({"tau": LOW | {"times": "tau"}}, "on another setting"),
        ({"tau": LOW | {"when": {"gamma": 1}}, "gamma": LOW | {"when": {"tau": 1}}}, "do not depend on each other"),
        ({"eval_every": {"low": 1, "high": 2}}, "expected a setting of the agent, or num_envs or max_episode_steps"),
    ],
)
def test_invalid_parameters_are_refused(content: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_dict(content)
    assert words in str(refused.value)


@pytest.mark.parametrize("base", BASES[:5])
def test_space_survives_a_file(tmp_path: Path, base: Base) -> None:
    space = default_space(base, symmetric=True)
    (tmp_path / "space.toml").write_text(space.to_toml())
    assert load(tmp_path / "space.toml").to_dict() == space.to_dict()


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="cannot be read"):
        load(tmp_path / "missing.toml")
    for text in ("[", "tau = 1", "[tau]\nlow = 'x'"):
        (tmp_path / "space.toml").write_text(text)
        with pytest.raises(FileFormatError, match=r"space\.toml is not a search space"):
            load(tmp_path / "space.toml")


def test_optuna_samples_every_parameter() -> None:
    base = Base(*presets.resolve("LunarLander-v3", "recommended", {}, {}))
    space: Space = default_space(base, symmetric=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(40):
        trial = study.ask()
        made = space.sample(trial, base)
        assert of_parameters(space, trial.params, base) == made
        study.tell(trial, 0.0)
    assert {name for one in study.trials for name in one.params} == set(map(space.label, space.parameters))
