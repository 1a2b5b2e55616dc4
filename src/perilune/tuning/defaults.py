"""The search space of a search without ``--search-space``: the settings around the starting point."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perilune._utils import toml
from perilune.tuning.space import BUDGET, Base, Parameter, Space, allowed, word


def default_space(base: Base, symmetric: bool, given: Sequence[str] = ()) -> Space:
    """Return the default search space around a starting point, for its learner: a replay buffer or PQN.

    Every range includes the value of the starting point.

    Args:
        base: the starting point.
        symmetric: whether the environment has a symmetry, for the setting ``mirror``.
        given: settings that the user has chosen and the search keeps.
    """
    rollout = base.agent.td_lambda is not None
    found = _common(base) | (_rollout(base) if rollout else _replay(base))
    if symmetric:
        found["mirror"] = Parameter(choices=(False, True))
    fixed = {name: base.settings[name] for name in given}
    kept = {
        name: one
        for name, one in found.items()
        if name not in given and all(fixed[on] in allowed(value) for on, value in one.when.items() if on in fixed)
    }
    return Space({name: _widened(name, one, base) for name, one in kept.items()})


def _common(base: Base) -> dict[str, Parameter]:
    """Return the parameters of both learners."""
    agent = base.agent
    found = {
        "learning_rate": Parameter(low=agent.learning_rate / 10, high=agent.learning_rate * 10, log=True),
        "gamma": Parameter(low=0.001, high=0.1, log=True, complement=True),
        "huber_delta": Parameter(low=0.1, high=100.0, log=True),
        "hidden": Parameter(choices=([64, 64], [128, 128], [256, 256])),
        "epsilon_end": Parameter(low=0.005, high=min(0.2, agent.epsilon_start), log=True),
        "max_action_repeat": Parameter(low=1, high=20, log=True),
        "ema_decay": Parameter(choices=(toml.NONE, 0.99, 0.998, 0.9995)),
    }
    if agent.learning_rate_end:
        found["learning_rate_end"] = Parameter(low=0.005, high=1.0, log=True, times="learning_rate")
    if agent.epsilon_decay is None and base.train.steps is not None:
        found["epsilon_decay_steps"] = Parameter(low=0.02, high=0.6, log=True, times=BUDGET)
    elif agent.epsilon_decay is None:
        steps = agent.epsilon_decay_steps
        found["epsilon_decay_steps"] = Parameter(low=max(1, steps // 10), high=steps * 10, log=True)
    if agent.ema_acts:  # needs an average
        found["ema_decay"] = Parameter(choices=(0.99, 0.998, 0.9995))
    return found


def _replay(base: Base) -> dict[str, Parameter]:
    """Return the parameters of learning from a replay buffer."""
    agent = base.agent
    heads = ("expected", "qr") if agent.value_range is None else ("expected", "qr", "c51")
    found = {
        "batch_size": Parameter(low=min(32, agent.buffer_size), high=min(256, agent.buffer_size), log=True),
        "n_step": Parameter(low=1, high=10, log=True),
        "train_freq": Parameter(low=1, high=8, log=True),
        "head": Parameter(choices=heads),
        "quantiles": Parameter(low=8, high=64, log=True, when={"head": "qr"}),
        "optimism": Parameter(low=0.0, high=0.9, when={"head": "qr"}),
        "loss": Parameter(choices=("huber", "mse"), when={"head": "expected"}),
        "munchausen": Parameter(choices=(0.0, 0.9)),
        "munchausen_temperature": Parameter(low=0.01, high=1.0, log=True, when={"munchausen": 0.9}),
        "priority_alpha": Parameter(choices=(0.0, 0.6)),
        "priority_beta": Parameter(low=0.2, high=1.0, when={"priority_alpha": 0.6}),
        "double": Parameter(choices=(False, True)),
    }
    if "c51" in heads:
        found["atoms"] = Parameter(low=21, high=101, log=True, when={"head": "c51"})
    if agent.tau == 1:
        found["target_update_interval"] = Parameter(low=50, high=5_000, log=True)
    else:
        found["tau"] = Parameter(low=0.001, high=0.1, log=True)
    return found


def _rollout(base: Base) -> dict[str, Parameter]:
    """Return the parameters of PQN. Each size of the buffer is a multiple of each number of environments."""
    sizes = [size for size in (512, 1_024, 2_048, 4_096) if base.train.steps is None or size <= base.train.steps // 8]
    found = {
        "td_lambda": Parameter(low=0.5, high=1.0),
        "epochs": Parameter(low=1, high=8, log=True),
        "output_scale": Parameter(low=1.0, high=100.0, log=True),
    }
    agent, envs = base.agent, base.train.num_envs
    own = {*sizes, agent.buffer_size}
    if all(size % count == 0 for size in own for count in {8, 16, 32, 64, envs}) and not base.train.envpool:
        found["num_envs"] = Parameter(choices=tuple(sorted({8, 16, 32, 64, envs})))
        found["buffer_size"] = Parameter(choices=tuple(sorted(own)))
    smallest = min(own) if "buffer_size" in found else agent.buffer_size
    found["batch_size"] = Parameter(low=min(64, smallest), high=min(512, smallest), log=True)
    return found


def _widened(setting: str, parameter: Parameter, base: Base) -> Parameter:
    """Extend a parameter so that it includes the value of the starting point."""
    settings = base.settings
    value = settings[setting]
    if parameter.choices is not None:
        words = [word(one) for one in parameter.choices]
        if not parameter.active(settings) or word(value) in words:
            return parameter
        return msgspec.structs.replace(parameter, choices=(*parameter.choices, toml.NONE if value is None else value))
    if value is None or not parameter.active(settings):
        return parameter
    value = parameter.sampled(value, settings)
    low, high = parameter.low, parameter.high
    assert low is not None
    assert high is not None
    log = parameter.log and value > 0
    return msgspec.structs.replace(parameter, low=min(low, value), high=max(high, value), log=log)
