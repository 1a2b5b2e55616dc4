"""Settings, presets and errors: valid values are accepted, and invalid ones are refused by name."""

from __future__ import annotations

import json
import math
import pickle  # noqa: TID251 -- errors are sent between processes
import re
from dataclasses import FrozenInstanceError, asdict, fields, replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from perilune import errors
from perilune._utils.validation import description
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.agent.settings import build, check_names
from perilune.cli.settings import field_docs
from perilune.envs import known
from perilune.envs.known.presets import DEFAULT, FAST, PLAIN, RECOMMENDED, available, for_budget, nearest, preset
from perilune.errors import ConfigError, DivergenceError, PeriluneError, UsageError
from perilune.nn.base import Activation
from perilune.training.events import SafePoint
from perilune.training.loop import training_events
from worlds import Numbered

Settings = type[DQNConfig] | type[TrainConfig]

FIELDS = [pytest.param(cls, field.name, id=field.name) for cls in (DQNConfig, TrainConfig) for field in fields(cls)]
NOT_NUMBERS = [None, True, False, "1", "", b"1", 1j, (), [1], {}, object(), np.True_, np.array([1.0])]
NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")]
COUNTS, WORDS = st.integers(1, 10**7), st.sampled_from(get_args(Activation))
LAYERS = st.lists(COUNTS | st.tuples(COUNTS, WORDS), min_size=1, max_size=4).map(tuple)
PAIRS = st.tuples(st.floats(-1e6, 0), st.floats(0.1, 1e6)) | st.none()
NO_LAYERS = [(16, layer) for layer in ((), (8,), (8, "relu", 1), ("relu", 8), (0, "relu"), (8, "swish"), (8, None))]
NO_LAYERS += [np.array(64), np.zeros((0,), int), np.array([[64, 32]]), np.array([0.5])]
NO_LAYERS += [(), 64, "64", None, {64}, {64: "relu"}, 1.5, (0,), (0.5,), (True,), (None,)]
SCALES = st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=3).map(tuple)
NO_SCALES = [
    (),
    0,
    5,
    True,
    "none",
    "1",
    {1.0},
    (0,),
    (-1.0,),
    (1.0, None),
    ("1",),
    (True,),
    (1.0, math.inf),
    (math.nan,),
]
NO_SCALES += [np.array(1.0), np.array([[1.0]]), 1.5, "AUTO"]
NO_PAIRS = [(), (1,), (0, 1, 2), 5, "01", {0, 1}, (0, None), ("0", "1"), (False, True), (0, math.inf), (math.nan, 1)]


def annotation(cls: Settings, name: str) -> Any:
    return get_type_hints(cls, include_extras=True)[name]


def accepted(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values that an annotation allows."""
    base, *more = get_args(hint) or (hint,)
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return st.one_of(map(accepted, get_args(hint)))
    if base not in (int, float):
        return st.booleans() if base is bool else st.none()
    meta = more[0] if more else Meta()
    if base is int:
        return st.integers(meta.ge, min(meta.le, 10**7))
    low = -1e300 if meta.ge is meta.gt is None else meta.ge if meta.gt is None else meta.gt
    return st.floats(low, 1e300 if meta.le is None else meta.le, exclude_min=meta.gt is not None).map(in_float32)


def in_float32(value: float) -> float:
    """Return the nearest number that settings may have: 0, 1 and infinity are not confused with others in float32."""
    if 0 < value < 1 and np.float32(value) == 1:
        return 1.0
    return math.copysign(min(max(abs(value), 1e-30), 1e30), value) if value else value


def refused(hint: Any) -> list[Any]:
    """Return values that an annotation does not allow, including those just outside its range."""
    base, *more = get_args(hint) or (hint,)
    if get_origin(hint) is Literal:
        return [*map(str.upper, get_args(hint)), "", "nonsense", None, 0, 1.5, True, (), [base]]
    if get_origin(hint) in (Union, UnionType):
        return [value for value in refused(base) if value is not None]
    if base is bool:
        return [0, 1, 1.0, None, "yes", "True", "", (), [True]]
    meta = more[0] if more else Meta()
    if base is int:
        return [meta.ge - 1, -meta.ge - 1, meta.le + 1, 10**30, meta.ge + 0.5, *NOT_NUMBERS, *NOT_FINITE]
    ends = [(meta.ge, -math.inf), (meta.le, math.inf)]
    return [meta.gt, *(math.nextafter(end, way) for end, way in ends if end is not None), *NOT_NUMBERS, *NOT_FINITE]


def in_agreement(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values``, changed so that they do not contradict one another."""
    values = dict(values)
    values["buffer_size"] = max(values["buffer_size"], values["batch_size"], values["learning_starts"])
    for high, low in (("epsilon_start", "epsilon_end"), ("learning_rate", "learning_rate_end")):
        values[high] = max(values[high], values[low])
    if values["head"] != "c51":
        values["value_range"] = None
    else:
        values["value_range"], values["reward_scale"] = values["value_range"] or (-1.0, 1.0), 1.0
    if values["head"] != "expected":
        values["loss"] = "huber"
    if values["head"] != "qr":
        values["optimism"] = 0
    if values["ema_decay"] is None:
        values["ema_acts"] = False
    if values["td_lambda"] is not None:
        values["munchausen"] = values["priority_alpha"] = 0
    return values


def settings_of(cls: Settings) -> st.SearchStrategy[dict[str, Any]]:
    """Return valid values of all fields, which may contradict one another."""
    special = {"hidden": LAYERS, "value_range": PAIRS, "observation_scale": SCALES | st.sampled_from(["auto", None])}
    names = [field.name for field in fields(cls)]
    return st.fixed_dictionaries(
        {name: special[name] if name in special else accepted(annotation(cls, name)) for name in names}
    )


DQN_SETTINGS = settings_of(DQNConfig).map(in_agreement)
TRAIN_SETTINGS = settings_of(TrainConfig).filter(lambda values: values["steps"] or values["episodes"])


def made(cls: Settings, **values: Any) -> DQNConfig | TrainConfig:
    """Build ``cls``, with a budget if it needs one."""
    return cls(**({"episodes": 1} if cls is TrainConfig and "episodes" not in values else {}) | values)


# Accepted


@given(agent=DQN_SETTINGS, train=TRAIN_SETTINGS)
@settings(max_examples=50)
def test_settings_survive_a_json_round_trip(agent: dict[str, Any], train: dict[str, Any]) -> None:
    for cls, values in ((DQNConfig, agent), (TrainConfig, train), (DQNConfig, {}), (TrainConfig, {})):
        config = made(cls, **values)
        assert all(getattr(config, name) == value for name, value in values.items())
        again = build(cls, json.loads(json.dumps(asdict(config), allow_nan=False)))
        assert repr(again) == repr(config)  # 1, 1.0 and True are equal, but not in a repr


@pytest.mark.parametrize(
    ("values", "plain"),
    [
        ({"hidden": [np.int64(32), (np.uint8(16), "tanh")]}, (32, (16, "tanh"))),
        ({"hidden": np.array([64, 32])}, (64, 32)),
        ({"batch_size": np.int32(16)}, 16),
        ({"buffer_size": 1e5}, 100_000),
        ({"gamma": np.float32(0.5)}, 0.5),
        ({"learning_rate": 2}, 2.0),
        ({"double": np.False_}, False),
        ({"activation": np.str_("tanh")}, "tanh"),
        ({"value_range": [-1, 2], "head": "c51"}, (-1.0, 2.0)),
        ({"value_range": np.array([-1.0, 2.0]), "head": "c51"}, (-1.0, 2.0)),
        ({"observation_scale": [1, np.float32(0.5)]}, (1.0, 0.5)),
        ({"observation_scale": np.array([3, 4])}, (3.0, 4.0)),
        ({"reward_scale": np.int64(100)}, 100.0),
    ],
)
def test_numpy_values_and_sequences_become_builtin_types(values: dict[str, Any], plain: Any) -> None:
    found = getattr(DQNConfig(**values), next(iter(values)))
    assert (type(found), repr(found)) == (type(plain), repr(plain))


def test_network_layers_match_the_settings() -> None:
    config = DQNConfig(hidden=(64, (32, "linear"), 16), activation="tanh")
    assert config.hidden_layers == ((64, "tanh"), (32, "linear"), (16, "tanh"))
    sizes = {"atoms": 5, "quantiles": 7}
    heads: list[dict[str, Any]] = [{}, {"head": "qr"}, {"head": "c51", "value_range": (0, 1)}]
    assert [DQNConfig(**head, **sizes).outputs_per_action for head in heads] == [1, 7, 5]


# Refused


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_invalid_value_is_refused_by_name(cls: Settings, name: str) -> None:
    special = {"hidden": NO_LAYERS, "value_range": NO_PAIRS, "observation_scale": NO_SCALES}
    for value in special.get(name) or refused(annotation(cls, name)):
        with pytest.raises(ConfigError) as caught:
            made(cls, **{name: value})
        assert caught.value.name == name
        assert caught.value.value is value
        assert str(caught.value).startswith(f"{name}={value!r} is invalid: expected {caught.value.expected}")


@pytest.mark.parametrize(
    ("values", "name", "words"),
    [
        ({"gamma": 10**400}, "gamma", "a number from 0 to 1"),
        ({"batch_size": 10**400}, "batch_size", "a whole number >= 1"),
        ({"hidden": (10**400,)}, "hidden", "a tuple in which each entry is a whole number"),
        ({"batch_size": 33, "buffer_size": 32, "learning_starts": 1}, "batch_size", "at most buffer_size=32"),
        ({"learning_starts": 33, "buffer_size": 32, "batch_size": 1}, "learning_starts", "at most buffer_size=32"),
        ({"epsilon_start": 0.1, "epsilon_end": 0.2}, "epsilon_end", "at most epsilon_start=0.1"),
        ({"learning_rate": 1e-4, "learning_rate_end": 2e-4}, "learning_rate_end", "at most learning_rate=0.0001"),
        ({"learning_rate": 1e-46}, "learning_rate", "a magnitude from 1e-30 to 1e+30, for single precision"),
        ({"huber_delta": 1e-46}, "huber_delta", "a magnitude from 1e-30 to 1e+30, for single precision"),
        ({"max_grad_norm": 1e-46}, "max_grad_norm", "a magnitude from 1e-30 to 1e+30, for single precision"),
        ({"munchausen_temperature": 1e300}, "munchausen_temperature", "a magnitude from 1e-30 to 1e+30"),
        ({"munchausen_floor": -1e300}, "munchausen_floor", "a magnitude from 1e-30 to 1e+30"),
        ({"reward_scale": 1e-46}, "reward_scale", "a magnitude from 1e-30 to 1e+30, for single precision"),
        ({"observation_scale": (1, 1e31)}, "observation_scale", "a magnitude from 1e-30 to 1e+30, for single"),
        (
            {"value_range": (-1e9, 1e9), "reward_scale": 1e-25, "head": "c51"},
            "value_range",
            "a range of about reward_scale=1e-25",
        ),
        ({"tau": 1e-46}, "tau", "a magnitude from 1e-30 to 1e+30, for single precision"),
        ({"gamma": 1 - 1e-9}, "gamma", "1, or at most 0.99999994"),
        ({"ema_decay": 1 - 1e-9}, "ema_decay", "1, or at most 0.99999994"),
        ({"hidden": ()}, "hidden", "one or more layers"),
        ({"head": "c51", "value_range": None}, "value_range", "the lowest and highest return, as in"),
        ({"value_range": (0.0, 1.0)}, "value_range", "None, because head='expected' is not 'c51'"),
        ({"head": "c51", "value_range": (1.0, 0.0)}, "value_range", "a lower and a higher return"),
        ({"head": "c51", "value_range": (1e9, 1e9 + 1)}, "value_range", "far enough apart for 51 atoms in single"),
        ({"head": "c51", "value_range": (-1e300, 1e300)}, "value_range", "far enough apart for 51 atoms in single"),
        ({"head": "qr", "loss": "mse"}, "loss", "'huber' with head='qr'; 'mse' requires"),
        ({"optimism": 0.5}, "optimism", "0 with head='expected'; optimism requires head='qr'"),
        (
            {"head": "c51", "value_range": (0.0, 1.0), "optimism": 0.5},
            "optimism",
            "0 with head='c51'; optimism requires",
        ),
        ({"ema_acts": True}, "ema_acts", "False without ema_decay, which enables the average"),
    ],
)
def test_contradictory_or_huge_settings_are_refused(values: dict[str, Any], name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        DQNConfig(**values)
    assert (caught.value.name, caught.value.value) == (name, values[name])


def test_settings_at_limits_set_by_other_settings_are_accepted() -> None:
    limit = {"batch_size": 32, "learning_starts": 32, "buffer_size": 32}
    assert DQNConfig(**limit, epsilon_start=0.2, epsilon_end=0.2, learning_rate_end=5e-4).buffer_size == 32
    assert DQNConfig(head="c51", value_range=(0, 1e-9), ema_decay=0, ema_acts=True).value_range == (0.0, 1e-9)
    assert DQNConfig(head="qr", optimism=0.99, priority_alpha=1).optimism == 0.99


def test_configs_require_a_budget_and_keywords_and_are_frozen() -> None:
    with pytest.raises(ConfigError, match="a budget: steps, episodes, or both"):
        TrainConfig()
    with pytest.raises(FrozenInstanceError):
        DQNConfig().gamma = 0.5
    with pytest.raises(TypeError):
        DQNConfig((64, 64))


# Building


def test_build_takes_missing_settings_from_the_base() -> None:
    base = DQNConfig(gamma=0.5, n_step=7)
    built = build(DQNConfig, {"gamma": 0.25}, base)
    assert (built.gamma, built.n_step, built.batch_size) == (0.25, 7, DQNConfig().batch_size)
    assert (build(DQNConfig, {}), build(TrainConfig, {"steps": 9})) == (DQNConfig(), TrainConfig(steps=9))
    with pytest.raises(ConfigError, match="gamma=2 is invalid: expected a number from 0 to 1"):
        build(DQNConfig, {"gamma": 2})


def test_build_with_another_head_drops_settings_of_the_old_head() -> None:
    quantiles = DQNConfig(head="qr", optimism=0.5, gamma=0.5)
    built = build(DQNConfig, {"head": "expected", "loss": "mse"}, quantiles)
    assert (built.optimism, built.loss, built.gamma) == (0.0, "mse", 0.5)
    assert build(DQNConfig, {"head": "expected"}, build(DQNConfig, {"loss": "mse"})).loss == "mse"  # the same head
    assert build(DQNConfig, {"head": "qr"}, DQNConfig(head="c51", value_range=(0, 1))).value_range is None
    assert build(DQNConfig, {"head": "qr"}, quantiles).optimism == 0.5
    with pytest.raises(ConfigError, match=r"optimism=0\.5 is invalid: expected 0 with head"):  # given explicitly
        build(DQNConfig, {"head": "expected", "optimism": 0.5}, quantiles)


@pytest.mark.parametrize(
    ("cls", "unknown", "meant"),
    [
        (DQNConfig, "learnin_rate", "Did you mean learning_rate"),
        (DQNConfig, "Gamma", "Did you mean gamma"),
        (TrainConfig, "step", "Did you mean steps"),
        (TrainConfig, "zzzz", "Settings: steps, episodes"),
    ],
)
def test_unknown_setting_error_suggests_the_nearest_name_or_lists_all(cls: Settings, unknown: str, meant: str) -> None:
    with pytest.raises(UsageError, match=re.escape(meant)):
        check_names(cls, [unknown])
    with pytest.raises(ConfigError, match=rf"{unknown}=1 .*{cls.__name__}"):
        build(cls, {unknown: 1})


# Docstrings of the fields


def ranges(hint: Any) -> set[str]:
    """Return the descriptions of all ranges anywhere in an annotation."""
    if get_origin(hint) is Annotated:
        return {re.sub("^a (whole )?number ", "", description(hint))}
    return {text for part in get_args(hint) for text in ranges(part)}


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_field_docstring_states_range_and_whether_none_is_allowed(cls: Settings, name: str) -> None:
    text, hint = field_docs(cls)[name], annotation(cls, name)
    found = set(re.findall(r"\(((?:>=?|> [\d.]+ and <=|from [\d.]+ to) [\d.e-]+)[;)]", text))
    found |= set(re.findall(r"\(([<>]= \d+)[ ;)]", text))
    assert found == ranges(hint)
    assert bool(re.search(r"\bor None\b", text)) == (type(None) in get_args(hint))


# Presets


@pytest.mark.parametrize(
    ("environment", "name", "expected"),
    [
        ("CartPole-v1", RECOMMENDED, "CartPole-v1"),
        ("LunarLander", RECOMMENDED, "LunarLander-v3"),
        ("my_module:Acrobot-v1", RECOMMENDED, "Acrobot-v1"),
        ("Taxi-v4", RECOMMENDED, DEFAULT),
        ("CartPole-v1", "LunarLander-v3", "LunarLander-v3"),
        ("CartPole-v1", DEFAULT, DEFAULT),
    ],
)
def test_preset_is_selected_by_environment_or_name(environment: str, name: str, expected: str) -> None:
    assert preset(environment, name) is available()[expected]


@pytest.mark.parametrize("name", available())
def test_every_preset_budget_exceeds_warm_up_and_exploration(name: str) -> None:
    agent, train = available()[name].agent, available()[name].train
    assert train.steps is not None
    assert train.steps > 10 * (agent.learning_starts + agent.train_freq)
    assert agent.epsilon_decay_steps < train.steps
    assert train.eval_every is not None
    assert train.eval_every < train.steps


@pytest.mark.parametrize("environment", [*(name for name in available() if name not in (DEFAULT, PLAIN)), "Taxi-v4"])
def test_fast_preset_exists_for_every_environment(environment: str) -> None:
    found = preset(environment, FAST)
    assert found.train.num_envs > 1
    assert found.train.steps == found.agent.learning_rate_decay_steps > found.agent.epsilon_decay_steps
    assert found.agent.mirror <= (known.lookup(environment).symmetry is not None)
    if environment != "Taxi-v4":
        assert found is preset(f"my_module:{environment.rpartition('-')[0]}", FAST) is known.lookup(environment).fast
        assert found is not preset("Taxi-v4", FAST)


@pytest.mark.parametrize("environment", ["LunarLander-v3", "CartPole-v1", "MountainCar-v0", "Taxi-v4"])
@pytest.mark.parametrize("name", [RECOMMENDED, FAST])
def test_nearest_preset_is_that_of_the_run(environment: str, name: str) -> None:
    base = preset(environment, name)
    for steps in (base.train.steps, 5_000, None):
        config = for_budget(base.agent, base, steps)
        assert nearest(environment, vars(config), steps) == name
        assert nearest(environment, vars(replace(config, gamma=0.9, hidden=(8,))), steps) == name


def test_preset_of_a_registered_environment_is_available_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known.ENVIRONMENTS, "Corridor-v0", known.KnownEnv())  # undone after the test
    tuned_preset = preset("CartPole-v1")
    known.register(known.KnownEnv(env_id="Corridor-v0", preset=tuned_preset, fast=preset("Acrobot-v1")))
    assert preset("Corridor-v0") is tuned_preset
    assert preset("Corridor-v0", FAST) is preset("Acrobot-v1")
    assert preset("Acrobot-v1", "Corridor-v0") is tuned_preset


# Errors


ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PeriluneError)]


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind is not PeriluneError])
def test_error_is_also_a_builtin_error_and_can_be_pickled(kind: type[Exception]) -> None:
    assert issubclass(kind, PeriluneError)
    standard = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    assert standard not in (Exception, BaseException, object)
    arguments = ("gamma", (2,), "a number from 0 to 1") if kind is ConfigError else ("what happened",)
    error = kind(*arguments)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- trusted data
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


def test_config_error_has_name_value_and_expected() -> None:
    error = ConfigError("gamma", "1.5", "a number from 0 to 1")
    assert str(error) == "gamma='1.5' is invalid: expected a number from 0 to 1."
    assert (error.name, error.value, error.expected) == ("gamma", "1.5", "a number from 0 to 1")


# Valid settings train

MOST = {
    "batch_size": 16, "buffer_size": 60, "epochs": 3, "learning_starts": 30, "atoms": 9, "quantiles": 9,
    "gradient_steps": 3, "train_freq": 5, "n_step": 20, "eval_every": 200, "eval_episodes": 2, "num_envs": 3,
    "episodes": 10, "max_episode_steps": 20,
}  # fmt: skip


def smaller(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` with small sizes."""
    sized = {name: min(value, MOST[name]) if name in MOST and value else value for name, value in values.items()}
    if "hidden" in values:  # settings of an agent with two observations
        sized["observation_scale"] = values["observation_scale"] and (2.0, 1e-3)
        sized["reward_scale"] = 5.0 if values["reward_scale"] == "auto" else values["reward_scale"]
        layers = [layer if isinstance(layer, tuple) else (layer, "relu") for layer in values["hidden"][:2]]
        sized["hidden"] = tuple((min(units, 12), activation) for units, activation in layers)
        sized["mirror"] = False  # the world has no symmetry
        return in_agreement(sized)
    return sized | {"steps": 80, "video_every": None, "num_envs": 1, "workers": 1, "envpool": False}


@settings(max_examples=30)
@given(agent=DQN_SETTINGS.map(smaller), train=TRAIN_SETTINGS.map(smaller))
def test_training_with_any_valid_settings_completes_or_diverges(agent: dict[str, Any], train: dict[str, Any]) -> None:
    world = Numbered(lengths=(3, 8))
    learner = Agent(2, 3, DQNConfig(**agent), 0)
    with np.errstate(all="ignore"):
        try:
            events = list(training_events(learner, world, TrainConfig(**train)))
        except DivergenceError:  # for example with a learning rate of 1e300
            pass
        else:
            assert isinstance(events[-1], SafePoint)
            assert events[-1].progress.finished
            assert learner.env_steps > 0
    assert np.isfinite(learner.target.parameters).all()
