"""What a training gave, read from its run directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from perilune._utils.arrays import Array
from perilune.errors import PeriluneError
from perilune.runs import runlog
from perilune.training.events import Episode, Evaluated
from perilune.viz import notebook, plots, video


@dataclass(frozen=True)
class History:
    """What a training gave: its run directory, and the curves in it. In a notebook it shows itself.

    An episode that the budget cut off in the middle is in ``run.episodes`` but not in the lists here.
    """

    directory: Path
    videos: list[Path]
    frames: dict[int, list[Array]] = field(repr=False)
    """Pictures of every filmed episode by its number, where they were asked for."""

    @classmethod
    def load(cls, directory: str | Path) -> History:
        """The history of any run directory, also of one that is still being trained: as it is now.

        Raises:
            RunDirectoryError: there is no run there.
            FileFormatError: it is damaged or of another format.
        """
        runlog.read_config(Path(directory))
        return cls(Path(directory), video.episodes(Path(directory)), {})

    @cached_property
    def run(self) -> runlog.Run:
        """The run directory, read."""
        return runlog.read(self.directory)

    @cached_property
    def episodes(self) -> list[Episode]:
        """The episodes that came to their end."""
        return [episode for episode in self.run.episodes if episode.ended != "budget"]

    @property
    def rewards(self) -> list[float]:
        """Sum of the rewards of every episode."""
        return [episode.reward for episode in self.episodes]

    @property
    def losses(self) -> list[float | None]:
        """Mean loss of every episode's updates; None where an episode had none."""
        return [episode.loss for episode in self.episodes]

    @property
    def lengths(self) -> list[int]:
        """Environment steps of every episode."""
        return [episode.length for episode in self.episodes]

    @property
    def epsilons(self) -> list[float]:
        """Epsilon at the start of every episode."""
        return [episode.epsilon for episode in self.episodes]

    @property
    def evaluations(self) -> list[Evaluated]:
        """The greedy evaluations on the way."""
        return self.run.evaluations

    def plot(self) -> plots.Picture:
        """The learning curves: they show themselves in a notebook."""
        return plots.curves([self.run])

    def _repr_html_(self) -> str:
        try:
            run = self.run
        except PeriluneError as error:  # a notebook would show a traceback for it, of its own machinery above all
            return notebook.words_html(f"{error}")
        return notebook.run_html(run, (self.directory / "videos").glob("*.mp4"))
