"""The progress of a training run, without its agent, as plain values that a checkpoint stores."""

from __future__ import annotations

import math

import msgspec

from perilune._utils.validation import Count, Natural, NonNegative, Share
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs import Statistics
from perilune.errors import ConfigError

MOST_CHECKED = 1_000  # time steps of earlier episodes that are replayed to check that a run resumes exactly


class PlayedEpisode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An earlier episode, to replay it and compare what the environment returns.

    Attributes:
        number: its number, 0 in the warm-up.
        seed: seed of its reset.
        actions: its first actions, at most ``MOST_CHECKED``.
        checksum: checksum of what the environment returned.
        statistics: running statistics of the wrappers before its reset.
    """

    number: Natural
    seed: Natural
    actions: tuple[Natural, ...]
    checksum: Natural
    statistics: Statistics = ()


class EpisodeState(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A running episode, with everything that is needed to replay it.

    Attributes:
        number: its number, counted from 1 in the order in which episodes begin.
        seed: seed of its reset.
        epsilon: epsilon at its beginning.
        actions: all actions so far.
        obs: the observation [O] after them, up to date at a safe point.
        loss_sum: sum of the losses of all updates since its beginning.
        updates: number of these updates.
        checksum: checksum of what the environment returned at the reset and in the first ``MOST_CHECKED`` time steps.
            0 in checkpoints of earlier versions.
    """

    number: Count
    seed: Natural
    epsilon: Share
    actions: list[Natural] = []
    obs: tuple[float, ...] = ()
    loss_sum: NonNegative = 0.0
    updates: Natural = 0
    checksum: Natural = 0


class TrainingProgress(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The progress of a training run. The loop changes it in place. A checkpoint can store it at a safe point.

    Attributes:
        start_steps: environment steps of the agent when the budget began.
        start_episodes: episodes of the agent when the budget began.
        next_episode: number of the next episode to begin.
        last_eval_check: environment steps at the last check for a due evaluation.
        best_return: mean return of the best evaluation so far, or None.
        seconds: duration of the training run so far, without evaluations and the code that reads events.
        cpu_seconds: CPU time of the same parts.
        largest_reward: largest absolute reward so far.
        warned: kinds of the health warnings so far. Each kind is issued once.
        finished: whether training has reached its end.
        episodes: the running episodes, one per environment.
        statistics: running statistics of the wrappers of each environment, before its running episode or at the end of
            training.
        played: the last episodes that ended, up to ``MOST_CHECKED`` time steps in total.
    """

    start_steps: Natural
    start_episodes: Natural
    next_episode: Count
    last_eval_check: Natural
    best_return: float | None = None
    seconds: NonNegative = 0.0
    cpu_seconds: NonNegative = 0.0
    largest_reward: NonNegative = 0.0
    warned: tuple[str, ...] = ()
    finished: bool = False
    episodes: tuple[EpisodeState, ...] = ()
    statistics: tuple[Statistics, ...] = ()
    played: tuple[PlayedEpisode, ...] = ()

    def __post_init__(self) -> None:
        """Bound the time that replaying ``played`` takes."""
        steps = sum(len(episode.actions) for episode in self.played)
        if steps > MOST_CHECKED:
            raise ConfigError("played", f"{steps} time steps", f"at most {MOST_CHECKED}")

    @classmethod
    def start(cls, agent: Agent) -> TrainingProgress:
        """Return the progress of a training run that begins now.

        Args:
            agent: the agent to train.
        """
        return cls(
            start_steps=agent.env_steps,
            start_episodes=agent.episodes,
            next_episode=agent.episodes + 1,
            last_eval_check=agent.env_steps,
        )

    def copy(self) -> TrainingProgress:
        """Return a copy that the training loop does not change."""
        episodes = (msgspec.structs.replace(episode, actions=[*episode.actions]) for episode in self.episodes)
        return msgspec.structs.replace(self, episodes=tuple(episodes))

    def remember(self, episode: EpisodeState, statistics: Statistics) -> None:
        """Add an episode that ended to ``played``, and remove the oldest that are no longer needed.

        Args:
            episode: the episode.
            statistics: running statistics of the wrappers before its reset.
        """
        kept: list[PlayedEpisode] = []
        if not statistics:  # they may be large, so keep only one episode with statistics
            room = MOST_CHECKED - len(episode.actions)
            for earlier in reversed(self.played):
                room -= len(earlier.actions)
                if room < 0:
                    break
                kept.insert(0, earlier)
        last = PlayedEpisode(
            number=episode.number,
            seed=episode.seed,
            actions=tuple(episode.actions[:MOST_CHECKED]),
            checksum=episode.checksum,
            statistics=statistics,
        )
        self.played = (*kept, last)

    def stop_step(self, config: TrainConfig) -> float:
        """Return the environment step at which the budget ends.

        Args:
            config: the budget.
        """
        return math.inf if config.steps is None else self.start_steps + config.steps

    def stop_episode(self, config: TrainConfig) -> float:
        """Return the number of episodes at which the budget ends.

        Args:
            config: the budget.
        """
        return math.inf if config.episodes is None else self.start_episodes + config.episodes

    def is_recorded(self, number: int, config: TrainConfig) -> bool:
        """Return whether an episode is recorded on video: the first, and every ``video_every``-th.

        Args:
            number: its number.
            config: the training settings.
        """
        every = config.video_every
        return every is not None and (number == self.start_episodes + 1 or number % every == 0)
