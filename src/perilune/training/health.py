"""Health checks: signs that an agent learns nothing useful, although training can continue."""

from __future__ import annotations

import math
from collections.abc import Iterator

from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.agent.exploration import multiplicative_epsilon
from perilune.training.events import HealthWarning
from perilune.training.progress import TrainingProgress

BEYOND = 2.0  # tolerated multiple of the largest possible return, because good runs also overestimate for a while
MOVES = 0.02  # fraction of the fall from epsilon_start to epsilon_end that a training run must cover
ENOUGH = 20  # episodes; shorter runs need not lower epsilon
MOST_RANDOM = 0.5  # with a final epsilon at or above this, most actions are random


def _warning(what: str, words: str) -> HealthWarning:
    return HealthWarning(0, what, words)


def greatest_return(config: DQNConfig, actions: int, greatest_reward: float) -> float:
    """Return an upper bound on discounted returns: the largest reward / (1 - gamma).

    With Munchausen DQN, the scaled reward includes a share of the log-probability, and values include the entropy.
    """
    if config.gamma == 1:
        return math.inf
    most = greatest_reward
    if config.munchausen:
        bonus = config.munchausen * abs(config.munchausen_floor) + config.munchausen_temperature * math.log(actions)
        most += bonus * float(config.reward_scale)
    return most / (1 - config.gamma)


def beyond_rewards(config: DQNConfig, actions: int, mean_q: float, greatest_reward: float) -> HealthWarning | None:
    """Return a warning if Q-values exceed the return that any policy could reach."""
    limit = greatest_return(config, actions, greatest_reward)
    if not greatest_reward or abs(mean_q) <= BEYOND * limit:
        return None
    return _warning(
        "q_beyond_rewards",
        f"the mean of Q is {mean_q:.4g}, but with rewards up to {greatest_reward:.4g} and gamma={config.gamma:g} no "
        f"return is greater than {limit:.4g}. The values are about to diverge. Try a smaller learning_rate, a slower "
        "target network (smaller tau or larger target_update_interval), or double=True.",
    )


def epsilon_stays(config: DQNConfig, train: TrainConfig) -> HealthWarning | None:
    """Return a warning if epsilon stays high, or will hardly fall within the budget."""
    if config.epsilon_end >= MOST_RANDOM:
        return _warning(
            "epsilon_stays",
            f"epsilon never falls below epsilon_end={config.epsilon_end:g}, so most actions stay random. Try a "
            "smaller epsilon_end.",
        )
    way = config.epsilon_start - config.epsilon_end
    share = _share_of_way(config, train)
    if not way or share is None or share >= MOVES:
        return None
    return _hardly_falls(config, "will still be", config.epsilon_start - share * way)


def epsilon_stayed(config: DQNConfig, last: float, episodes: int) -> HealthWarning | None:
    """Return a warning if epsilon has hardly fallen at the end of training, and no earlier warning predicted this."""
    moved = config.epsilon_start - last
    if episodes < ENOUGH or moved >= MOVES * (config.epsilon_start - config.epsilon_end):
        return None
    return _hardly_falls(config, "is still", last)


def _hardly_falls(config: DQNConfig, is_still: str, last: float) -> HealthWarning:
    setting = "epsilon_decay_steps" if config.epsilon_decay is None else "epsilon_decay"
    return _warning(
        "epsilon_stays",
        f"epsilon starts at {config.epsilon_start:g} and {is_still} {last:.3g} when the budget is used up, so most "
        f"actions stay random. Try a smaller {setting} (now {getattr(config, setting):.12g}).",
    )


def _share_of_way(config: DQNConfig, train: TrainConfig) -> float | None:
    """Return the largest fraction of the fall of epsilon that the budget can cover, or None if unknown."""
    steps = None if train.steps is None else max(0, train.steps - config.warm_up_steps)
    if config.epsilon_decay is None:
        return None if steps is None else min(1.0, steps / config.epsilon_decay_steps)
    if config.epsilon_decay_per == "update":
        count = None if steps is None else steps // config.updates_due[0] * config.updates_due[1]
    else:
        count = steps if train.episodes is None else train.episodes  # an episode has at least one time step
    if count is None:
        return 0.0 if config.epsilon_decay == 1 else None
    last = multiplicative_epsilon(config.epsilon_start, config.epsilon_end, config.epsilon_decay, count)
    return (config.epsilon_start - last) / ((config.epsilon_start - config.epsilon_end) or 1)


def warned(agent: Agent, progress: TrainingProgress, found: HealthWarning | None) -> Iterator[HealthWarning]:
    """Yield a health warning, unless the run has already issued one of this kind."""
    if found is not None and found.what not in progress.warned:
        progress.warned += (found.what,)
        yield found._replace(env_steps=agent.env_steps)


def final_warnings(agent: Agent, progress: TrainingProgress, untrained: bool, used_up: bool) -> Iterator[HealthWarning]:
    """Yield the warnings at the end of training: no update was made, or epsilon has hardly fallen."""
    if untrained:
        name = "train_freq" if agent.config.td_lambda is None else "buffer_size"
        words = (
            f"no update was made, because the budget ended within {name}={getattr(agent.config, name)} environment "
            f"steps after the warm-up. Try a larger budget or a smaller {name}."
        )
        yield from warned(agent, progress, _warning("no_update", words))
    if used_up:
        episodes = agent.episodes - progress.start_episodes
        yield from warned(agent, progress, epsilon_stayed(agent.config, agent.epsilon, episodes))
