"""The history of a training, kept in memory or read from its run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.errors import UsageError
from perilune.runs import logs, weights
from perilune.training.events import Episode, Evaluated
from perilune.viz import notebook, plots, video


@dataclass(frozen=True, repr=False)
class History:
    """Rewards, losses and evaluations of a training. A notebook shows it as a page.

    An episode that the budget cut off is in ``run.episodes``, but not in the lists here.
    """

    directory: Path | None
    """The run directory; None for a training without one."""
    run: logs.Run
    """The settings and every logged event."""
    frames: dict[int, list[Array]] = field(default_factory=dict)
    """Images of each recorded episode, uint8 [height, width, 3], by its number, after ``train(frames=True)``."""

    @classmethod
    def load(cls, directory: str | Path) -> History:
        """Return the history of a run directory as it is now, also of a run that is still being trained.

        Raises:
            RunDirectoryError: the directory holds no run.
            FileFormatError: the run is damaged.
        """
        return cls(Path(directory), logs.read_run(Path(directory)))

    @cached_property
    def episodes(self) -> list[Episode]:
        """The episodes that ended by themselves or by a time limit."""
        return [episode for episode in self.run.episodes if episode.ended != "budget"]

    @property
    def rewards(self) -> list[float]:
        """Sum of the rewards of each episode."""
        return [episode.reward for episode in self.episodes]

    @property
    def losses(self) -> list[float | None]:
        """Mean loss of the updates during each episode; None if there were none."""
        return [episode.loss for episode in self.episodes]

    @property
    def lengths(self) -> list[int]:
        """Environment steps of each episode."""
        return [episode.length for episode in self.episodes]

    @property
    def epsilons(self) -> list[float]:
        """Epsilon at the start of each episode."""
        return [episode.epsilon for episode in self.episodes]

    @property
    def evaluations(self) -> list[Evaluated]:
        """The greedy evaluations during the training."""
        return self.run.evaluations

    @property
    def videos(self) -> list[Path]:
        """Paths of the videos of training episodes, in order."""
        return [] if self.directory is None else video.episode_videos(self.directory)

    def plot(self) -> plots.Picture:
        """Return the learning curves. A notebook shows them."""
        return plots.curves([self.run])

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
        """Record how the run learned: untrained, early, halfway and best agent, side by side from one start state.

        The video takes ten seconds at most. A longer episode plays faster, and the video shows by how much.

        Args:
            path: file to write, ending in .mp4 or .gif.
            env: the environment or its id; by default, the one named in the run.
            checkpoint: weights of the last stage, "best" or "final".
            overlay: show Q-values and actions.
            max_episode_steps: steps after which an episode is truncated.
            tell: called with the steps of the longest episode that are encoded, and all of its steps.

        Returns:
            Title, outcome and return of each stage, from left to right.

        Raises:
            UsageError: the training had no run directory.
            RunDirectoryError: the run kept no snapshots.
            ConfigError: the environment cannot render, or ``path`` has another ending.
            MissingDependencyError: the video library is not installed.
        """
        if self.directory is None:
            raise UsageError("record_stages needs a run directory: train with agent.train(run_dir='runs/first', ...).")
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
            *([] if best is None else [f"best={best:.1f}"]),
            *([] if self.directory is None else [f"directory={str(self.directory)!r}"]),
        ]
        return f"History({', '.join(parts)})"

    def _repr_html_(self) -> str:
        videos = [] if self.directory is None else (self.directory / "videos").glob("*.mp4")
        return notebook.run_html(self.run, videos)
