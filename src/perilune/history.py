"""The history of a training run, in memory or from its run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune._utils.text import show_return
from perilune.errors import UsageError
from perilune.runs import logs, weights
from perilune.training.events import Episode, Evaluated
from perilune.viz import notebook, plots, video


@dataclass(frozen=True, repr=False)
class History:
    """Episodes, losses and evaluations of a training run. Notebooks display it as learning curves.

    ``episodes`` and the lists derived from it omit an episode that the end of the budget cut off. ``run.episodes``
    includes this episode.

    >>> from perilune import DQN
    >>> history = DQN("CartPole-v1", learning_starts=200).train(steps=500, eval_episodes=3, quiet=True)
    >>> len(history.rewards) == len(history.lengths)
    True

    Attributes:
        directory: the run directory, or None if training had none.
        run: settings and logged events.
        frames: images of each recorded episode, by episode number, uint8 [height, width, 3]. Requires
            ``train(frames=True)``.
    """

    directory: Path | None
    run: logs.Run
    frames: dict[int, list[Array]] = field(default_factory=dict)

    @classmethod
    def load(cls, directory: str | Path) -> History:
        """Read the history of a run directory. The run may still be training.

        Args:
            directory: the run directory.

        Returns:
            The history logged so far.

        Raises:
            RunDirectoryError: the directory is not a run.
            FileFormatError: the run is damaged.
        """
        return cls(Path(directory), logs.read_run(Path(directory)))

    @cached_property
    def episodes(self) -> list[Episode]:
        """Episodes that terminated or were truncated by a time limit."""
        return [episode for episode in self.run.episodes if episode.ended != "budget"]

    @property
    def rewards(self) -> list[float]:
        """Return of each episode: the undiscounted sum of its rewards."""
        return [episode.reward for episode in self.episodes]

    @property
    def losses(self) -> list[float | None]:
        """Mean loss of the updates during each episode, or None if there were none."""
        return [episode.loss for episode in self.episodes]

    @property
    def lengths(self) -> list[int]:
        """Number of environment steps of each episode."""
        return [episode.length for episode in self.episodes]

    @property
    def epsilons(self) -> list[float]:
        """Epsilon at the start of each episode."""
        return [episode.epsilon for episode in self.episodes]

    @property
    def evaluations(self) -> list[Evaluated]:
        """Greedy evaluations during training."""
        return self.run.evaluations

    @property
    def videos(self) -> list[Path]:
        """Paths of the videos of training episodes, in the order of the episodes."""
        return [] if self.directory is None else video.episode_videos(self.directory)

    def plot(self, x: plots.Axis = "steps") -> plots.Picture:
        """Plot the learning curves.

        Args:
            x: horizontal axis, "steps" or "episodes".

        Returns:
            A picture that a notebook displays. ``save`` writes it as PNG and SVG.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        return plots.curves([self.run], x)

    def record_stages(
        self,
        path: str | Path,
        env: envs.Env | str | None = None,
        *,
        checkpoint: str = "best",
        overlay: bool = False,
        max_episode_steps: int | None = None,
        tell: Callable[[int, int], object] | None = None,
    ) -> list[video.EpisodeOutcome]:
        """Record the stages of the run side by side, from the same start state.

        The stages are the untrained agent, two snapshots and the weights named by ``checkpoint``. The snapshots are
        those nearest to one third and two thirds of the environment steps of the last stage. A run with few
        evaluations has fewer stages.

        The video lasts at most ten seconds. Longer episodes are played back faster, and the video shows the speed.

        Args:
            path: file to write, with the suffix .mp4 or .gif.
            env: the environment or its ID. By default, the environment of the run.
            checkpoint: weights of the last stage, "best" or "final".
            overlay: show Q-values and actions.
            max_episode_steps: steps after which an episode is truncated.
            tell: progress callback. Receives the number of encoded steps and the total steps of the longest episode.

        Returns:
            Title, outcome and return of each stage, from left to right.

        Raises:
            UsageError: training had no run directory.
            RunDirectoryError: the run has no snapshots, or ``path`` cannot be written.
            ConfigError: the environment cannot render, or ``path`` has an unsupported suffix.
            MissingDependencyError: the video library is not installed.
        """
        if self.directory is None:
            raise UsageError("record_stages requires a run directory. Write agent.train(run_dir='runs/first', ...).")
        chosen = video.run_stages(self.directory, checkpoint)
        loaded = [(title, *weights.load_with_env(weights_path, env)) for title, weights_path in chosen]
        with one_blas_thread():
            return video.record_stages(
                [(title, agent) for title, agent, _, _ in loaded],
                loaded[-1][-1],
                Path(path),
                overlay=overlay,
                max_episode_steps=max_episode_steps,
                tell=tell,
            )

    def __repr__(self) -> str:
        best = max((evaluation.mean_return for evaluation in self.evaluations), default=None)
        parts = [
            f"environment={self.run.config['environment']!r}",
            f"episodes={len(self.episodes)}",
            f"evaluations={len(self.evaluations)}",
            *([] if best is None else [f"best={show_return(best)}"]),
            *([] if self.directory is None else [f"directory={str(self.directory)!r}"]),
        ]
        return f"History({', '.join(parts)})"

    def _repr_html_(self) -> str:
        videos = [] if self.directory is None else (self.directory / "videos").glob("*.mp4")
        return notebook.run_html(self.run, videos)
