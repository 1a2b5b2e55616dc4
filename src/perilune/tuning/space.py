"""Search spaces: which settings a search varies, in which ranges and under which conditions, as plain data.

A search space is a table of parameters by setting, as in a TOML file:

    [learning_rate]       # a number from a range, uniform on a log scale
    low = 1e-4
    high = 1e-2
    log = true

    [learning_rate_end]   # a share of another setting, so that it never exceeds it
    low = 0.01
    high = 1.0
    log = true
    times = "learning_rate"

    [gamma]               # 1 - gamma is sampled
    low = 0.001
    high = 0.1
    log = true
    complement = true

    [head]                # one of several values
    choices = ["expected", "qr"]

    [quantiles]           # sampled only with this value of another setting
    low = 8
    high = 64
    when = { head = "qr" }
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from perilune._utils import toml
from perilune._utils.text import suggestion
from perilune.agent.config import AUTO, MEASURED, DQNConfig, TrainConfig
from perilune.agent.settings import build
from perilune.errors import ConfigError, FileFormatError
from perilune.runs import files
from perilune.training.checks import check_budget, check_rollout

TRAINING = ("num_envs", "max_episode_steps")
"""Settings of ``TrainConfig`` that a search may vary. The others determine the budget and its measurement."""
BUDGET = "steps"
DIGITS = 6  # significant digits of a sampled number, so that settings stay readable
SMALLEST = 1e-20  # smaller numbers are 0 in single precision
DRAWS = 200  # random samples that check a space


class Suggester(Protocol):
    """The methods of ``optuna.Trial`` that choose values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Return a number from ``low`` to ``high``."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """Return a whole number from ``low`` to ``high``."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of ``choices``."""
        ...


class Parameter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a search varies one setting: a range, or a list of choices.

    Attributes:
        low: smallest value.
        high: largest value.
        log: sample uniformly on a log scale.
        choices: the values to choose from, instead of a range.
        times: name of a setting by which the value is multiplied, such as "learning_rate", or "steps" for the budget.
        complement: sample 1 minus the value.
        when: values of other settings that this one requires, as one value or a list of values.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None
    times: str = ""
    complement: bool = False
    when: dict[str, Any] = msgspec.field(default_factory=dict)

    def active(self, settings: Mapping[str, Any]) -> bool:
        """Return whether the conditions of the parameter hold."""
        return all(settings.get(name) in allowed(value) for name, value in self.when.items())

    def sampled(self, value: float, settings: Mapping[str, Any]) -> float:
        """Return the number from the range with which the setting has a value."""
        return _tidy(1 - value if self.complement else value / (settings[self.times] if self.times else 1), 12)


def allowed(value: Any) -> list[Any]:
    """Return the values that a condition accepts."""
    values = value if isinstance(value, list | tuple) else [value]
    return [None if one == toml.NONE else one for one in values]


@dataclass(frozen=True)
class Base:
    """The starting point of a search: settings that the search space does not vary keep these values."""

    agent: DQNConfig
    train: TrainConfig

    @property
    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        return vars(self.train) | vars(self.agent)


class Space:
    """A search space: parameters by setting, in an order in which each follows the settings that it depends on.

    Args:
        parameters: a parameter for each setting to vary.

    Raises:
        ConfigError: a parameter is invalid.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        if not parameters:
            raise ConfigError("search_space", {}, "one or more settings to vary")
        for setting, parameter in parameters.items():
            _check(setting, parameter, parameters)
        self.parameters = dict(_sorted(parameters))

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain data."""
        found: dict[str, Any] = msgspec.to_builtins(self.parameters)
        return found

    def to_toml(self) -> str:
        """Return the space as the content of a TOML file."""
        lines = []
        for setting, parameter in self.to_dict().items():
            lines += [f"[{setting}]", *(toml.entry(name, _with_none(value)) for name, value in parameter.items()), ""]
        return "\n".join(lines)

    def label(self, setting: str) -> str:
        """Return the name of a parameter in Optuna, which states what is sampled."""
        parameter = self.parameters[setting]
        if parameter.complement:
            return f"1 - {setting}"
        return f"{setting} / {parameter.times}" if parameter.times else setting

    def sample(self, trial: Suggester, base: Base) -> Base:
        """Return the settings of a trial.

        Args:
            trial: an ``optuna.Trial``, which chooses the values.
            base: the starting point.

        Raises:
            ConfigError: settings contradict each other.
        """
        settings, chosen = base.settings, {}
        ratio = base.agent.learning_rate_end / base.agent.learning_rate
        for setting, parameter in self.parameters.items():
            if parameter.active(settings):
                chosen[setting] = settings[setting] = self._value(setting, trial, settings)
        if "learning_rate" in chosen and "learning_rate_end" not in self.parameters:
            chosen["learning_rate_end"] = _tidy(ratio * chosen["learning_rate"])
        train = {name: chosen.pop(name) for name in TRAINING if name in chosen}
        return Base(build(DQNConfig, chosen, base.agent), build(TrainConfig, train, base.train))

    def _value(self, setting: str, trial: Suggester, settings: Mapping[str, Any]) -> Any:
        """Let ``trial`` choose the value of one setting."""
        parameter, name = self.parameters[setting], self.label(setting)
        if parameter.choices is not None:
            values = {word(value): value for value in parameter.choices}
            value = values[trial.suggest_categorical(name, list(values))]
            return tuple(map(_layer, value)) if setting == "hidden" else None if value == toml.NONE else value
        assert parameter.low is not None
        assert parameter.high is not None
        if _whole(setting) and not parameter.times:
            return trial.suggest_int(name, round(parameter.low), round(parameter.high), log=parameter.log)
        number = _tidy(trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log))
        number = number * settings[parameter.times] if parameter.times else number
        number = _tidy(1 - number, 12) if parameter.complement else _tidy(number)
        return max(1, round(number)) if _whole(setting) else number

    def start(self, base: Base) -> dict[str, Any] | None:
        """Return the parameters with which a trial has the settings of ``base``, or None if the space excludes them."""
        found, settings = {}, base.settings
        for setting, parameter in self.parameters.items():
            if not parameter.active(settings):
                continue
            value = settings[setting]
            if parameter.choices is not None:
                words = [word(one) for one in parameter.choices]
                chosen = word(value)
                if chosen not in words:
                    return None
                found[self.label(setting)] = chosen
                continue
            if value is None:
                return None
            value = parameter.sampled(value, settings)
            assert parameter.low is not None
            assert parameter.high is not None
            if not parameter.low <= value <= parameter.high:
                return None
            found[self.label(setting)] = round(value) if _whole(setting) and not parameter.times else value
        return found if self.sample(_Fixed(found), base) == base else None

    def check(self, base: Base, environment: str) -> None:
        """Check that no settings of the space contradict each other, with the extremes and with random samples.

        Raises:
            ConfigError: settings contradict each other. The message names them.
        """
        for suggester in self._suggesters():
            try:
                made = self.sample(suggester, base)
                check_budget(made.agent, made.train, environment)
                check_rollout(made.agent, made.train)
            except ConfigError as error:
                words = ", ".join(f"{name}={value}" for name, value in suggester.chosen.items())
                raise ConfigError(
                    "search_space", f"{error.name}={error.value}", f"{error.expected.rstrip('.')}, with {words}"
                ) from error

    def _suggesters(self) -> Iterator[_Draws]:
        """Yield the lowest and highest values, each alone and together, and random values."""
        yield _Draws(lambda name: 0.0)
        yield _Draws(lambda name: 1.0)
        for label in map(self.label, self.parameters):
            for end in (0.0, 1.0):
                yield _Draws(lambda name, label=label, end=end: end if name == label else 0.5)
        generator = np.random.default_rng(0)
        for _ in range(DRAWS):
            yield _Draws(lambda name: generator.random())


class _Draws:
    """Choose each value at a share, from 0 to 1, of its range."""

    def __init__(self, share: Any) -> None:
        self._share = share
        self.chosen: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        share = self._share(name)
        value = low * (high / low) ** share if log else low + (high - low) * share
        self.chosen[name] = min(max(value, low), high)
        return float(self.chosen[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        self.chosen[name] = round(self.suggest_float(name, low, high, log=log))
        return int(self.chosen[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.chosen[name] = choices[min(len(choices) - 1, int(self._share(name) * len(choices)))]
        return self.chosen[name]


class _Fixed:
    """Choose given values."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return float(self._values[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        return int(self._values[name])

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._values[name]


def of_parameters(space: Space, parameters: Mapping[str, Any], base: Base) -> Base:
    """Return the settings of a trial from its parameters in Optuna."""
    return space.sample(_Fixed(parameters), base)


def load(path: Path) -> Space:
    """Read a search space from a TOML file.

    Raises:
        RunDirectoryError: the file cannot be read.
        FileFormatError: the file is not a search space.
        ConfigError: a parameter is invalid.
    """
    content = files.read(path, files.LARGEST_JSON)
    try:
        parameters = msgspec.toml.decode(content, type=dict[str, Parameter])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not a search space: {error}") from error
    return Space(parameters)


def from_dict(content: Mapping[str, Any]) -> Space:
    """Return a search space from plain data.

    Raises:
        ConfigError: a parameter is invalid.
    """
    try:
        return Space(msgspec.convert(dict(content), dict[str, Parameter]))
    except msgspec.ValidationError as error:
        raise ConfigError("search_space", dict(content), f"parameters by setting ({error})") from error


def word(value: Any) -> Any:
    """Return a choice as Optuna stores it: as JSON if it is a list, else as it is."""
    return json.dumps(value) if isinstance(value, list | tuple) else toml.NONE if value is None else value


def _layer(layer: Any) -> Any:
    return tuple(layer) if isinstance(layer, list) else layer


def _with_none(value: Any) -> Any:
    """Replace None by the string that stands for it in TOML, at any depth."""
    if isinstance(value, Mapping):
        return {name: _with_none(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_with_none(one) for one in value]
    return toml.NONE if value is None else value


def _tidy(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}") if abs(value) > SMALLEST else 0.0


def _sorted(parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, Parameter]]:
    """Yield the parameters so that each follows the settings that it depends on."""
    left = dict(parameters)
    while left:
        ready = [name for name, one in left.items() if not (left.keys() - {name}) & {*one.when, one.times}]
        if not ready:
            raise ConfigError("search_space", sorted(left), "conditions (when, times) that do not depend on each other")
        yield ready[0], left.pop(ready[0])


def _check(setting: str, parameter: Parameter, parameters: Mapping[str, Parameter]) -> None:
    """Check one parameter."""
    agent = [field.name for field in fields(DQNConfig)]
    tunable = [*agent, *TRAINING]
    for name in (setting, *parameter.when, *([parameter.times] if parameter.times else [])):
        if name not in tunable and not (name == parameter.times == BUDGET):
            expected = f"a setting of the agent, or {' or '.join(TRAINING)}. {suggestion(name, tunable)}".rstrip()
            raise ConfigError("search_space", name, expected)
    if setting in (*parameter.when, parameter.times):
        raise ConfigError(f"search_space {setting}", setting, "a condition (when, times) on another setting")
    if parameter.choices is not None:
        if len({str(word(one)) for one in parameter.choices}) < max(1, len(parameter.choices)):
            raise ConfigError(f"search_space {setting}.choices", parameter.choices, "one or more different values")
        if setting in MEASURED and AUTO in parameter.choices:
            expected = "numbers, because Perilune measures auto before the search"
            raise ConfigError(f"search_space {setting}.choices", parameter.choices, expected)
        if (parameter.low, parameter.high, parameter.log, parameter.times, parameter.complement) != (
            None, None, False, "", False,
        ):  # fmt: skip
            raise ConfigError(f"search_space {setting}", parameter.choices, "either choices, or low and high")
        return
    if parameter.low is None or parameter.high is None or not _is_number(setting):
        raise ConfigError(f"search_space {setting}", parameter.low, _expected(setting))
    if not (math.isfinite(parameter.low) and math.isfinite(parameter.high) and parameter.low <= parameter.high):
        raise ConfigError(f"search_space {setting}", (parameter.low, parameter.high), "low <= high, both finite")
    if parameter.log and parameter.low <= 0:
        raise ConfigError(f"search_space {setting}.low", parameter.low, "a number > 0 on a log scale")
    whole = _whole(setting) and not parameter.times
    if whole and (parameter.low % 1 or parameter.high % 1 or parameter.complement):
        raise ConfigError(f"search_space {setting}", (parameter.low, parameter.high), "whole numbers")


def _expected(setting: str) -> str:
    return "low and high, or choices" if _is_number(setting) else "choices"


@cache
def _kind(setting: str) -> Any:
    """Return the type of a setting without None, "auto" and ranges."""
    hints = get_type_hints(TrainConfig) | get_type_hints(DQNConfig)
    kind = hints[setting]
    kind = get_args(kind)[0] if get_origin(kind) in (Union, UnionType) else kind
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_number(setting: str) -> bool:
    return _kind(setting) in (int, float)


def _whole(setting: str) -> bool:
    return _kind(setting) is int
