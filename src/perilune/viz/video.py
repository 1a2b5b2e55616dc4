"""Record videos of training episodes, of greedy episodes, and of the stages of a run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.envs import rendering
from perilune.envs.known import lookup
from perilune.errors import ConfigError, MissingDependencyError, RunDirectoryError
from perilune.runs import snapshots, telemetry, weights
from perilune.training.evaluation import SCORE_SEEDS, Evaluation, evaluate, play_episode
from perilune.training.events import Episode, Event, Started, Timestep
from perilune.viz import overlay as drawing
from perilune.viz.encoding import FORMATS, VideoWriter, check_codec, format_of, frame_skip
from perilune.viz.figures import matplotlib_figure, save_image
from perilune.viz.overlay import NO_SCALE, Panel, Scale

QValues = Callable[[Array], Array]
"""A function that returns Q(obs, a) of all actions, [N, A], for obs[N, O]."""

MAX_STAGE_WIDTH = 480  # pixels, so that four stages fit on a screen
GAP = 6  # pixels between two stages; half as many in a small format
MAX_SECONDS = 10  # of a stage video, without the one-second still image at its end
MAX_FPS = 60  # of a stage video
START = "start"  # label of the first frame of a GIF, which repeats


class EpisodeOutcome(NamedTuple):
    """How the episode of a stage or player ended.

    Attributes:
        title: Title of the stage or player.
        outcome: Label of the outcome; None if the environment defines none.
        reward: Return, the sum of the rewards.
    """

    title: str
    outcome: str | None
    reward: float


def check_available() -> None:
    """Raise MissingDependencyError if images or videos cannot be written."""
    check_codec(FORMATS[".mp4"])
    matplotlib_figure(1, 1)


def frames_per_second(env: envs.Env) -> int:
    """Return the frame rate that the environment declares, or 30 if it declares none from 1 to 1,000.

    Args:
        env: The environment.
    """
    declared = env.metadata.get("render_fps")
    return int(declared) if isinstance(declared, int | float) and 1 <= declared <= 1_000 else 30


def episode_videos(directory: Path) -> list[Path]:
    """Return the paths of the videos of a run's training episodes, ordered by episode.

    Args:
        directory: The run directory.
    """
    return sorted((directory / "videos").glob("episode-*.mp4"), key=lambda path: (len(path.name), path.name))


def cannot_render(env: envs.Env) -> ConfigError:
    """Return the error for an environment that cannot render images.

    Args:
        env: The environment.
    """
    allowed = f"'rgb_array' to record {envs.name(env)}: gym.make(..., render_mode=\"rgb_array\")"
    return ConfigError("render_mode", env.render_mode, allowed)


class EpisodeVideo(VideoWriter):
    """A video of episodes. An MP4 also gets a telemetry file with the time step and the Q-values of every frame.

    A GIF has fewer frames and half the width and height. It repeats, so its first frame is labeled and shown for a
    second, and the last frame of each episode for two seconds. A video with a panel shows the last frame for a second.

    Args:
        path: The file; its name ends in .mp4 or .gif.
        fps: Time steps per second.
        q_values: Returns Q(obs, a) of all actions, [N, A], for obs[N, O].
        panel: Panel to draw below the images, if any.
        scale: Scale of the bars on the panel.
    """

    def __init__(
        self, path: Path, fps: int, q_values: QValues, panel: Panel | None = None, scale: Scale = NO_SCALE
    ) -> None:
        small, self._skip = format_of(path).small, frame_skip(path, fps)
        super().__init__(path, Fraction(fps, self._skip))
        self._panel, self._scale, self._q_values = panel, scale, q_values
        second = fps // self._skip
        self._start, self._still = (second, 2 * second) if small else (0, second if panel is not None else 0)
        self._count = 0
        self._recent: tuple[int, ...] = ()
        self._telemetry = None if small else telemetry.TelemetryWriter(telemetry.path_of(path))

    def show(self, now: Timestep) -> None:
        """Encode the image of a time step.

        Args:
            now: The time step, with its image.
        """
        q_values = self._q_values(now.obs[None])[0]
        if self._panel is not None:
            self._recent = drawing.latest_actions(self._recent, now, self._panel.memory)
        self._count += 1
        if (self._count - 1) % self._skip and now.action is not None:
            return
        image = _fit(now.image, self.path)
        still = self._still if now.action is None else 0
        if self._start and self._count == 1:
            image, still = drawing.label_corner(image, START), self._start
        now = now._replace(image=image, q_values=q_values)
        if self._panel is not None:
            image = drawing.add_panel(now, self._panel, self._scale, self._recent)
        for _ in range(1 + still):
            self.add(image)
            if self._telemetry is not None:
                self._telemetry.add(now)

    def close(self) -> None:
        """Finish the video and its telemetry file."""
        if self._telemetry is not None:
            self._telemetry.close()
        super().close()


class TrainingRecorder:
    """Save the initial state of a training run as an image, and the episodes that have images as videos.

    Args:
        directory: The run directory. It receives initial_state.png, videos/episode-NNNNN.mp4 and telemetry files.
        fps: Frames per second.
        q_values: Returns the agent's Q-values, [N, A], for obs[N, O].
    """

    def __init__(self, directory: Path, fps: int, q_values: QValues) -> None:
        self._directory, self._fps, self._q_values = directory, fps, q_values
        self._videos: dict[int, EpisodeVideo] = {}  # by episode; each environment may have one video

    def read(self, event: Event) -> None:
        """Process an event. At the end of an episode, finish its video.

        Args:
            event: The next event of the training run.
        """
        match event:
            case Started(image) if image is not None:
                with suppress(MissingDependencyError):  # a warning at the end of training reports it
                    save_image(image, self._directory / "initial_state.png")
            case Timestep(episode):
                if episode not in self._videos:
                    path = self._directory / "videos" / f"episode-{episode:05d}.mp4"
                    self._videos[episode] = EpisodeVideo(path, self._fps, self._q_values)
                self._videos[episode].show(event)
            case Episode(episode) if episode in self._videos:
                self._videos.pop(episode).close()

    def discard(self) -> None:
        """Delete the videos of unfinished episodes."""
        for video in self._videos.values():
            video.discard()


def record_episodes(
    policy: Callable[[Array], int],
    env: envs.Env,
    path: Path,
    *,
    q_values: QValues,
    episodes: int = 1,
    max_episode_steps: int | None = None,
    panel: Panel | None = None,
    tell: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Play episodes and record them in one video.

    With bars on a panel, play the episodes twice: the first time to find a scale that fits all bars.

    Args:
        policy: Returns an action for obs[O].
        env: The environment.
        path: The file; its name ends in .mp4 or .gif.
        q_values: Returns Q(obs, a) of all actions, [N, A], for obs[N, O].
        episodes: Number of episodes.
        max_episode_steps: Steps after which an episode is truncated.
        panel: Panel to draw below the images, if any.
        tell: Called after each episode with the number of recorded episodes and their total.

    Returns:
        The returns, lengths and outcomes of the episodes.

    Raises:
        ConfigError: The environment cannot render images, or ``path`` has another suffix.
        RunDirectoryError: The file cannot be written.
        MissingDependencyError: PyAV or Pillow is not installed.
    """
    format_of(path)
    rendered = rendering.drawing(env)
    if rendered is None:
        raise cannot_render(env)
    scale = NO_SCALE
    try:
        if panel is not None and panel.actions:
            played = (play_episode(policy, env, SCORE_SEEDS + number, max_episode_steps) for number in range(episodes))
            scale = drawing.widen(scale, _measure(chain.from_iterable(played), q_values)[0])
        with EpisodeVideo(path, frames_per_second(env), q_values, panel, scale) as video:
            return evaluate(policy, rendered, episodes, max_episode_steps=max_episode_steps, show=video.show, tell=tell)
    finally:
        if rendered is not env:
            envs.close(rendered)


def run_stages(run: Path, checkpoint: str = "best") -> list[tuple[str, Path]]:
    """Return the stages of a run: up to three earlier snapshots, and ``checkpoint``.

    The snapshots are those nearest to 0, 1/3 and 2/3 of the environment steps of ``checkpoint``.

    Args:
        run: The run directory.
        checkpoint: Weights of the last stage, "best" or "final".

    Returns:
        Title and weights file of each stage, in order.

    Raises:
        RunDirectoryError: There is no run, or it has no snapshots.
        FileFormatError: A weights file is damaged.
    """
    last = weights.weights_file(run, checkpoint)
    kept = snapshots.paths(run)
    if not kept:
        raise RunDirectoryError(
            f"{run} has no {snapshots.DIRECTORY}/ with weights from training. Train again, or record a video "
            "without --stages."
        )
    end, *steps = (weights.load_weights(path)[1].env_steps for path in (last, *kept))
    before = [index for index, step in enumerate(steps) if step < end]
    nearest = {min(before, key=lambda index: abs(steps[index] - end * part / 3)) for part in range(3) if before}
    during = [(f"{steps[index]:,} steps", kept[index]) for index in sorted(nearest)]
    return [*during, (f"{checkpoint}, {end:,} steps", last)]


def record_stages(
    stages: Sequence[tuple[str, Agent]],
    env: envs.Env,
    path: Path,
    *,
    overlay: bool = False,
    max_episode_steps: int | None = None,
    tell: Callable[[int, int], object] | None = None,
) -> list[EpisodeOutcome]:
    """Record one greedy episode of each stage from the same start state, side by side, in one video.

    All bars have the same scale. Long episodes are sped up, so that the video lasts at most ``MAX_SECONDS`` plus one
    second for the still image at its end. Each stage shows its last image until all stages have ended. A GIF repeats,
    so its first image is labeled and shown for a second, and its last image for two seconds.

    Args:
        stages: Title and agent of each stage, from left to right.
        env: The environment. Each stage gets its own copy.
        path: The file; its name ends in .mp4 or .gif.
        overlay: Whether to draw Q-values and actions below each stage.
        max_episode_steps: Steps after which an episode is truncated.
        tell: Called with the number of encoded time steps and their total.

    Returns:
        Title, outcome and return of each stage.

    Raises:
        ConfigError: The environment cannot render images, or ``path`` has another suffix.
        UnsupportedEnvironmentError: The environment cannot be copied.
        RunDirectoryError: The file cannot be written.
        MissingDependencyError: PyAV or Pillow is not installed.
    """
    repeats = format_of(path).small
    gap = GAP // 2 if repeats else GAP
    if not rendering.can_draw(env):
        raise cannot_render(env)
    titles, agents = zip(*stages, strict=True)
    fps = frames_per_second(env)
    actions = lookup(envs.name(env)).action_names(agents[0].actions) if overlay else ()
    with ExitStack() as opened:
        own = []
        for _ in stages:
            own.append(envs.again(env, "rgb_array"))
            opened.callback(envs.close, own[-1])

        def play(place: int) -> Iterator[Timestep]:
            return play_episode(agents[place].greedy_action, own[place], SCORE_SEEDS, max_episode_steps)

        measured = [_measure(play(place), agent.q_values) for place, agent in enumerate(agents)]
        scale = drawing.widen(NO_SCALE, [end for ends, _ in measured for end in ends])
        steps = max(length for _, length in measured)
        faster = max(1, -(-steps // (MAX_SECONDS * fps)))
        skip = max(frame_skip(path, faster * fps), -(-faster * fps // MAX_FPS))
        rate = Fraction(faster * fps, skip)
        frames = [
            _frames(play(place), agent.q_values, own[place], path, fps, skip) for place, agent in enumerate(agents)
        ]
        with VideoWriter(path, rate) as video:
            latest: list[tuple[Timestep, tuple[int, ...]]] = []
            for number, moved in enumerate(zip_longest(*frames)):
                latest = [new or latest[place] for place, new in enumerate(moved)]
                images = [
                    drawing.add_panel(now, Panel(title, actions, fps), scale, recent)
                    for title, (now, recent) in zip(titles, latest, strict=True)
                ]
                row = drawing.side_by_side(images, gap)
                starts = repeats and number == 0
                words = [START] * starts + [f"{faster}x speed"] * (faster > 1)
                row = drawing.label_corner(row, ", ".join(words)) if words else row
                for _ in range(1 + int(rate) * starts):
                    video.add(row)
                if tell is not None:
                    tell(min(number * skip, steps), steps)
            for _ in range(int(rate) * (1 + repeats)):
                video.add(row)
    return [EpisodeOutcome(title, end.outcome, end.reward) for title, (end, _) in zip(titles, latest, strict=True)]


def _frames(
    episode: Iterable[Timestep], q_values: QValues, env: envs.Env, path: Path, memory: int, skip: int
) -> Iterator[tuple[Timestep, tuple[int, ...]]]:
    """Yield every ``skip``-th time step of an episode, and the last one, each with the latest actions."""
    recent: tuple[int, ...] = ()
    for now in episode:
        recent = drawing.latest_actions(recent, now, memory)
        if now.step % skip == 0 or now.action is None:
            image = _fit(rendering.frame(env), path, MAX_STAGE_WIDTH)
            yield now._replace(image=image, q_values=q_values(now.obs[None])[0]), recent


def _measure(episodes: Iterable[Timestep], q_values: QValues) -> tuple[list[float], int]:
    """Play episodes. Return a range that contains 0 and all advantages, and the length of the longest episode."""
    low, high, steps = 0.0, 0.0, 0
    for now in episodes:
        shown = drawing.advantages(q_values(now.obs[None])[0])
        low, high, steps = np.fmin.reduce(shown, initial=low), np.fmax.reduce(shown, initial=high), max(steps, now.step)
    return [low, high], steps


def _fit(image: Array | None, path: Path, max_width: int | None = None) -> Array:
    """Return ``image`` scaled to at most ``max_width``; in a small format, half as wide."""
    assert image is not None
    width = min(image.shape[1], max_width or image.shape[1]) // (2 if format_of(path).small else 1)
    return drawing.resize(image, width) if width < image.shape[1] else image
