"""tianshou's DQN family, with the settings of its examples on CartPole-v1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gymnasium import spaces
from tianshou.algorithm.modelfree import c51, dqn, fqf, iqn, qrdqn, rainbow
from tianshou.algorithm.optim import AdamOptimizerFactory, RMSpropOptimizerFactory
from tianshou.data import PrioritizedReplayBuffer, ReplayBuffer
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import (
    FractionProposalNetwork,
    FullQuantileFunction,
    ImplicitQuantileNetwork,
    NoisyLinear,
)

from perilune.doctor.adapters import TianshouAdapter

OBSERVATION_SIZE, ACTIONS = 4, spaces.Discrete(2)
HIDDEN = (128, 128)
COMMON = {"gamma": 0.9, "n_step_return_horizon": 1, "target_update_freq": 320}


def net(**options: Any) -> Net:
    """Return the network of the examples."""
    return Net(state_shape=OBSERVATION_SIZE, action_shape=2, hidden_sizes=HIDDEN, **options)


def seeded(build: Callable[..., Any], settings: dict[str, Any], buffer: Any = ReplayBuffer, seed: int = 0) -> Any:
    """Return an adapter for a new algorithm and a new buffer."""
    torch.manual_seed(seed)
    made = {} if buffer is ReplayBuffer else {"alpha": 0.6, "beta": 0.4}
    return TianshouAdapter(build(**{**COMMON, **settings}), OBSERVATION_SIZE, buffer(2000, **made))


def plain(dueling: bool = False, optimizer: Any = None, **settings: Any) -> Any:
    """DQN; Double DQN by default, as in the library."""
    streams = ({"hidden_sizes": [64]}, {"hidden_sizes": [64]}) if dueling else None
    policy = dqn.DiscreteQLearningPolicy(model=net(dueling_param=streams), action_space=ACTIONS)
    return dqn.DQN(policy=policy, optim=optimizer or AdamOptimizerFactory(lr=1e-3), **settings)


def categorical(kind: Any = c51.C51, noisy: bool = False, **settings: Any) -> Any:
    """C51 and Rainbow."""
    options: dict[str, Any] = {}
    if noisy:

        def noisy_linear(inputs: int, outputs: int) -> NoisyLinear:
            return NoisyLinear(inputs, outputs, 0.1)

        stream = {"linear_layer": noisy_linear}
        options = {"dueling_param": (stream, stream)}
    model = net(softmax=True, num_atoms=51, **options)
    policy = c51.C51Policy(model=model, action_space=ACTIONS, num_atoms=51, v_min=-10.0, v_max=10.0)
    return kind(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), **settings)


def quantiles(**settings: Any) -> Any:
    """QR-DQN."""
    policy = qrdqn.QRDQNPolicy(model=net(num_atoms=200), action_space=ACTIONS)
    return qrdqn.QRDQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), num_quantiles=200, **settings)


def features() -> Net:
    """Return the features that the implicit quantile networks use."""
    return Net(state_shape=OBSERVATION_SIZE, action_shape=64, hidden_sizes=[64])


def implicit(**settings: Any) -> Any:
    """IQN."""
    model = ImplicitQuantileNetwork(preprocess_net=features(), action_shape=[2], hidden_sizes=[64], num_cosines=64)
    policy = iqn.IQNPolicy(
        model=model, action_space=ACTIONS, sample_size=32, online_sample_size=8, target_sample_size=8
    )
    return iqn.IQN(policy=policy, optim=AdamOptimizerFactory(lr=3e-3), num_quantiles=32, **settings)


def fractions(**settings: Any) -> Any:
    """FQF."""
    model = FullQuantileFunction(preprocess_net=features(), action_shape=[2], hidden_sizes=[64], num_cosines=64)
    proposal = FractionProposalNetwork(num_fractions=32, embedding_dim=64)
    policy = fqf.FQFPolicy(model=model, fraction_model=proposal, action_space=ACTIONS)
    return fqf.FQF(
        policy=policy, optim=AdamOptimizerFactory(lr=3e-3), fraction_optim=RMSpropOptimizerFactory(lr=2.5e-9),
        num_fractions=32, ent_coef=10.0, **settings,
    )  # fmt: skip


AGENTS: dict[str, Callable[..., Any]] = {
    "tianshou-dqn": partial(seeded, plain, {"is_double": False}),
    "tianshou-double-dqn": partial(seeded, plain, {"is_double": True}),
    "tianshou-huber": partial(seeded, plain, {"huber_loss_delta": 1.0, "is_double": False}),
    "tianshou-dueling": partial(seeded, plain, {"dueling": True}),
    "tianshou-n-step": partial(seeded, plain, {"n_step_return_horizon": 3}),
    "tianshou-prioritized": partial(seeded, plain, {}, PrioritizedReplayBuffer),
    "tianshou-rmsprop": partial(seeded, plain, {"optimizer": RMSpropOptimizerFactory(lr=1e-3)}),
    "tianshou-c51": partial(seeded, categorical, {}),
    "tianshou-rainbow": partial(seeded, categorical, {"kind": rainbow.RainbowDQN, "noisy": True}),
    "tianshou-qrdqn": partial(seeded, quantiles, {}),
    "tianshou-iqn": partial(seeded, implicit, {}),
    "tianshou-fqf": partial(seeded, fractions, {}),
}
