"""Mutants of Stable-Baselines3's DQN, by the operators of two papers on mutation testing of reinforcement learning.

- RLMutation: Tambon et al., "Mutation Testing of Deep Reinforcement Learning Based on Real Faults" (2301.05651),
  https://github.com/FlowSs/RLMutation. Ten of its operators apply to DQN. The authors publish which mutants their
  tests kill, in ``RLMT/mutations_results_initial_environment.txt``. ``KILLED`` cites their reward distribution test.
- muPRL: Thomas et al., "muPRL: A Mutation Testing Pipeline for Deep Reinforcement Learning Based on Real Faults"
  (2408.15150), https://github.com/testingautomated-usi/muPRL. Four of its operators change settings of DQN. The fifth,
  NEI, shortens the training. It is not part of the agent, so no examination can reveal it.

All classes are written from the descriptions of the operators. The settings are those of both papers: the tuned ones of
RL Baselines3 Zoo.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn, optim
from torch.nn import functional

from benchmarks.external.agents.stable_baselines3 import TUNED
from perilune.doctor.adapters import StableBaselines3Adapter

TRAINING = 50_000  # time steps of a training on CartPole-v1, in both papers


class Disturbed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Replace the observation and the reward of a time step, with probability ``rate``."""

    def __init__(self, env: Any, change: Callable[..., Any], rate: float, seed: int) -> None:
        super().__init__(env)
        self.change, self.rate = change, rate
        self.rng = np.random.default_rng(seed)
        self.seen: deque[tuple[Any, float]] = deque(maxlen=1000)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.seen.append((obs, float(reward)))
        if self.rng.random() < self.rate:
            obs, reward = self.change(self.rng, self.seen)
        return obs, reward, terminated, truncated, info


def reward_noise(rng: np.random.Generator, seen: deque[tuple[Any, float]]) -> tuple[Any, float]:
    obs, reward = seen[-1]
    return obs, rng.normal(reward, 0.1 * abs(reward))


def mangled(rng: np.random.Generator, seen: deque[tuple[Any, float]]) -> tuple[Any, float]:
    return seen[rng.integers(len(seen))][0], seen[rng.integers(len(seen))][1]


def at_random(rng: np.random.Generator, seen: deque[tuple[Any, float]]) -> tuple[Any, float]:
    return seen[rng.integers(len(seen))]


def repeat(rng: np.random.Generator, seen: deque[tuple[Any, float]]) -> tuple[Any, float]:
    return seen[-2] if len(seen) > 1 else seen[-1]


class Disturbing(DQN):  # type: ignore[misc]
    """Wrap every environment of the model, as RLMutation does in place of the Monitor wrapper."""

    def __init__(self, *args: Any, change: Callable[..., Any], rate: float, seed: int, **settings: Any) -> None:
        self.change, self.rate = change, rate
        super().__init__(*args, seed=seed, **settings)

    def _wrap_env(self, env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> Any:
        wrapped = Disturbed(env, self.change, self.rate, self.seed)
        return super()._wrap_env(wrapped, verbose, monitor_wrapper)


class Update(DQN):  # type: ignore[misc]
    """DQN with an update of its own, whose target a subclass can change. Without a change, it is sound."""

    def td_target(self, batch: Any, next_q: Any) -> Any:
        return batch.rewards + (1 - batch.dones) * self.gamma * next_q

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            with torch.no_grad():
                next_q = self.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values
                target = self.td_target(batch, next_q)
            q = self.q_net(batch.observations).gather(1, batch.actions.long())
            self.policy.optimizer.zero_grad()
            functional.smooth_l1_loss(q, target).backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps


class NoDiscount(Update):
    def td_target(self, batch: Any, next_q: Any) -> Any:
        return batch.rewards + (1 - batch.dones) * next_q


class NoDiscountAsPublished(Update):
    def td_target(self, batch: Any, next_q: Any) -> Any:
        return batch.rewards + batch.dones * next_q


class IncorrectLoss(Update):
    def td_target(self, batch: Any, next_q: Any) -> Any:
        return batch.rewards - (1 - batch.dones) * self.gamma * next_q


class NoTerminalState(ReplayBuffer):  # type: ignore[misc]
    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        super().add(obs, next_obs, action, reward, np.zeros_like(done), infos)


class NoStateUpdate(ReplayBuffer):  # type: ignore[misc]
    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
        super().add(obs, obs, action, reward, done, infos)


class NoStateAdvance(DQN):  # type: ignore[misc]
    _last_obs: Any

    def _store_transition(self, buffer: Any, action: Any, obs: Any, reward: Any, dones: Any, infos: Any) -> None:
        kept = self._last_obs
        super()._store_transition(buffer, action, obs, reward, dones, infos)
        if not dones.any():
            self._last_obs = kept


def model(env: str, algorithm: Any = DQN, seed: int = 0, policy: dict[str, Any] | None = None, **settings: Any) -> Any:
    """Return a new model with the tuned settings for ``env``, changed by ``settings`` and ``policy``."""
    settings = {**TUNED[env], **settings}
    settings["policy_kwargs"] = {**settings["policy_kwargs"], **(policy or {})}
    return algorithm("MlpPolicy", gymnasium.make(env), seed=seed, device="cpu", **settings)


class Mutant(NamedTuple):
    """A mutant, the components that may be blamed for it, and what is known about it.

    Attributes:
        operator: Paper and operator, or "settings" for values that no operator has.
        make: Return a new model. Takes a ``seed``.
        right: Components of the doctor that count as right. None: the mutant is a control, which is sound.
        why: Why these components are right, or why an examination cannot reveal the mutant.
        code: The functions and classes that contain the fault.
        killed: Whether tests of the trained agent kill the mutant. A mutant that they do not kill is equivalent, which
            is not a fault. None: unknown. A mutant that never updates a network needs no test.
        visible: Whether an examination through the adapter can reveal the mutant in principle.
    """

    operator: str
    make: Callable[..., Any]
    right: tuple[str, ...]
    why: str
    code: tuple[Any, ...] = ()
    killed: bool | None = None
    visible: bool = True


STORED = ("replay", "loop", "environment")
TUNING = ("hyperparameters",)


def _rlmutation() -> dict[str, Mutant]:
    found: dict[str, Mutant] = {}
    cartpole, lunar = "CartPole-v1", "LunarLander-v3"

    def disturbed(name: str, change: Any, rate: float, killed: bool, why: str, env: str = cartpole) -> None:
        make = partial(model, env, Disturbing, change=change, rate=rate)
        found[f"{env}-{name}-{rate}"] = Mutant(
            f"RLMutation {name}", make, STORED, why, (Disturbed.step, change), killed
        )

    def changed(
        name: str, right: tuple[str, ...], why: str, code: tuple[Any, ...], env: str = cartpole, **settings: Any
    ) -> None:
        operator = f"RLMutation {name.split('-', maxsplit=1)[0]}"
        found[f"{env}-{name}"] = Mutant(operator, partial(model, env, **settings), right, why, code, True)

    mixed = "The stored next observation and reward belong to another time step."
    late = "Every observation and reward arrives one time step late."
    for rate in (1.0, 0.2, 0.05):
        disturbed("M", mangled, rate, True, mixed)
        disturbed("Ra", at_random, rate, True, mixed)
    disturbed("R", repeat, 1.0, True, late)
    disturbed("R", repeat, 0.1, True, late)
    disturbed("RN", reward_noise, 1.0, False, "The stored reward is not the reward of the environment.")
    for env in (cartpole, lunar):
        changed("NDF", ("td_target",), "The target does not use gamma.", (NoDiscount,), env, algorithm=NoDiscount)
        changed(
            "ILF",
            ("td_target",),
            "The target subtracts the next value.",
            (IncorrectLoss,),
            env,
            algorithm=IncorrectLoss,
        )
        same = "The stored next observation is the observation before the time step."
        changed("MSU", STORED, same, (NoStateUpdate,), env, replay_buffer_class=NoStateUpdate)
        slow = "With SGD and the learning rate of Adam, the agent hardly learns."
        changed("POC", (*TUNING, "optimizer"), slow, (), env, policy={"optimizer_class": optim.SGD})
    ends = "The target continues only after the end of an episode, without gamma: the operator as first published."
    changed("NDF-published", ("td_target",), ends, (NoDiscountAsPublished,), algorithm=NoDiscountAsPublished)
    never = "No stored transition ends its episode."
    changed("MTS", STORED, never, (NoTerminalState,), replay_buffer_class=NoTerminalState)
    stays = "The loop keeps the first observation of the episode: the operator as described in the paper."
    changed("MSU-described", STORED, stays, (NoStateAdvance,), algorithm=NoStateAdvance)
    flat = "Two layers of sigmoids pass on little of the observation, and the agent learns slowly."
    changed("PAC", (*TUNING, "forward", "backward"), flat, (), policy={"activation_fn": nn.Sigmoid})
    disturbed("M", mangled, 1.0, True, mixed, lunar)
    disturbed("R", repeat, 1.0, True, late, lunar)
    return found


def _settings() -> dict[str, Mutant]:
    found: dict[str, Mutant] = {}

    def changed(
        operator: str,
        right: tuple[str, ...],
        why: str,
        killed: bool | None = None,
        visible: bool = True,
        **settings: Any,
    ) -> None:
        ((setting, value),) = settings.items()
        inner = next(iter(value)) if isinstance(value, dict) else setting
        shown = value[inner] if isinstance(value, dict) else value
        make = partial(model, "CartPole-v1", **settings)
        found[f"CartPole-v1-{inner}-{shown}"] = Mutant(operator, make, right, why, (), killed, visible)

    explores = ("exploration", *TUNING)
    for value in (1.0, 0.75, 0.5, 0.25):
        changed("muPRL SMR", explores, "Random actions never become rare.", exploration_final_eps=value)
    for value in (0.45, 0.6, 0.8, 0.999):
        changed("muPRL SDF", TUNING, f"The horizon is {1 / (1 - value):.1f} time steps.", gamma=value)
    for percent in (50, 25, 5, 0.5):
        length = "The adapter does not know the length of the training."
        changed("muPRL SLS", TUNING, length, visible=False, learning_starts=int(percent * TRAINING / 100))
    for percent in (30, 10, 1):
        old = "The target network is too old."
        changed("muPRL SNU", (*TUNING, "target_network"), old, target_update_interval=int(percent * TRAINING / 100))
    every = "The target network is the online network of the last time step."
    changed("muPRL SNU", (*TUNING, "target_network"), every, target_update_interval=1)

    changed("settings", TUNING, "Updates hardly change Q.", learning_rate=1e-6)
    changed("settings", TUNING, "One update changes Q by more than the TD error.", learning_rate=0.1)
    changed("settings", TUNING, "The gradient of one transition is mostly noise.", batch_size=1)
    changed("settings", (*TUNING, "replay"), "The buffer forgets before it can be sampled.", buffer_size=64)
    longer = "The warm-up is longer than the training, whose length the adapter does not know."
    changed("settings", (*TUNING, "loop"), longer, True, False, learning_starts=100_000)
    changed("settings", explores, "Random actions end after five time steps.", exploration_fraction=1e-4)
    changed("settings", explores, "Random actions stay frequent until the training ends.", exploration_fraction=1.0)
    changed("settings", explores, "Right after the warm-up, no action is random.", exploration_initial_eps=0.0)
    changed("settings", (*TUNING, "loop"), "The agent learns five times in a training.", train_freq=10_000)
    changed("settings", (*TUNING, "loop"), "The agent never learns.", True, gradient_steps=0)
    changed("settings", (*TUNING, "loss", "optimizer"), "Clipping leaves almost nothing.", max_grad_norm=1e-6)
    changed("settings", (*TUNING, "forward"), "One unit cannot represent the values.", policy={"net_arch": [1]})
    changed("settings", ("target_network", *TUNING), "A sync copies nothing.", True, tau=0.0)
    return found


MUTANTS: dict[str, Mutant] = {
    **_rlmutation(),
    **_settings(),
    "control-CartPole-v1": Mutant("control", partial(model, "CartPole-v1"), (), "The unchanged agent."),
    "control-own-update": Mutant("control", partial(model, "CartPole-v1", Update), (), "The update without a fault."),
    "control-wrapped": Mutant(
        "control",
        partial(model, "CartPole-v1", Disturbing, change=repeat, rate=0.0),
        (),
        "The wrapper without a fault.",
    ),
}


def adapter(name: str, seed: int = 0) -> StableBaselines3Adapter:
    """Return an adapter for a new mutant."""
    return StableBaselines3Adapter(MUTANTS[name].make(seed=seed))
