"""Learning in one film: what an agent was before, on the way and at its best, side by side from the same start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from perilune import camera, envs, names, snapshots, weights
from perilune.dqn import Agent
from perilune.errors import RunDirectoryError
from perilune.evaluate import SCORE_SEEDS, played, shot
from perilune.events import Frame
from perilune.nn.layers import Array
from perilune.view.encoding import VideoWriter, closed, format_of, thinning
from perilune.view.overlay import Panel, side_by_side
from perilune.view.video import View, cannot_draw, frames_per_second

WIDEST = 480  # pixels of a picture, so that four of them are no wider than a screen
GAP = 6  # pixels between two, less in a small format


class Stage(NamedTuple):
    """An agent on its way: what it is called, and its weights."""

    title: str
    agent: Agent


class Ending(NamedTuple):
    """What a stage came to."""

    title: str
    outcome: str | None
    reward: float


def chosen(run: Path, checkpoint: str = "best") -> list[tuple[str, Path]]:
    """What to call them and where the weights are: before all learning, a third and two thirds on, and ``checkpoint``.

    Raises:
        RunDirectoryError: there is no such run, or it kept no weights on the way.
        FileFormatError: weights are damaged.
    """
    last = weights.weights_file(run, checkpoint)
    kept = snapshots.paths(run)
    if not kept:
        raise RunDirectoryError(
            f"{run} has no {snapshots.DIRECTORY}/ with weights on the way, which trainings of earlier versions did not "
            "keep: train again, or film its best weights alone, without --stages"
        )
    end, *steps = (weights.load_weights(path)[1].env_steps for path in (last, *kept))
    on_the_way = [(f"{steps[index]:,} steps", kept[index]) for index in spread(steps, end)]
    return [*on_the_way, (f"{checkpoint}, {end:,} steps", last)]


def spread(steps: Sequence[int], end: int) -> list[int]:
    """Which of ``steps``, increasing, are nearest to the beginning and to one and two thirds of the way to ``end``."""
    before = [index for index, step in enumerate(steps) if step < end]
    nearest = (min(before, key=lambda index: abs(steps[index] - end * part / 3), default=None) for part in range(3))
    return sorted({index for index in nearest if index is not None})


def film(
    which: Sequence[Stage],
    env: envs.Env,
    path: Path,
    *,
    overlay: bool = False,
    seed: int = SCORE_SEEDS,
    max_episode_steps: int | None = None,
) -> list[Ending]:
    """Let all of ``which`` play greedily from one start state into one film; each stays where its episode ended.

    Args:
        which: the stages, from left to right.
        env: the environment; each stage gets another one like it.
        path: where to; its ending is the format.
        overlay: show Q-values and actions.
        seed: of the start state.
        max_episode_steps: cut episodes off here.

    Raises:
        ConfigError: the environment cannot draw, or ``path`` has another ending than those that are written.
        UnsupportedEnvironmentError: the environment cannot be made a second time.
        RunDirectoryError: nothing can be written there.
        MissingDependencyError: a library is not installed.
    """
    small = format_of(path).small
    if not camera.can_draw(env):
        raise cannot_draw(env)
    fps, every = frames_per_second(env), thinning(path, frames_per_second(env))
    actions = names.actions(envs.name(env), which[0].agent.actions) if overlay else ()
    with ExitStack() as drawing, closed(VideoWriter(path, Fraction(fps, every))) as written:
        tiles = []
        for stage in which:
            own = envs.again(env, "rgb_array")
            drawing.callback(envs.close, own)
            view = View(path, fps, Panel(stage.title, actions, fps), WIDEST)
            tiles.append(_seen(stage.agent, own, view, seed, max_episode_steps))
        latest = [next(tile) for tile in tiles]
        moved: list[tuple[Array, Frame] | None] = [*latest]
        while any(moved):
            latest = [new or old for new, old in zip(moved, latest, strict=True)]
            written.add(side_by_side([picture for picture, _ in latest], GAP // 2 if small else GAP))
            moved = [next(tile, None) for tile in tiles]
        for _ in range(fps // every):
            written.add(side_by_side([picture for picture, _ in latest], GAP // 2 if small else GAP))
    return [Ending(stage.title, frame.outcome, frame.reward) for stage, (_, frame) in zip(which, latest, strict=True)]


def _seen(
    agent: Agent, env: envs.Env, view: View, seed: int, max_episode_steps: int | None
) -> Iterator[tuple[Array, Frame]]:
    """The pictures of an episode that ``agent`` plays, and the frames that they are of."""
    for instant in played(agent.greedy_action, env, seed, max_episode_steps):
        frame = shot(instant, env)
        picture = view.picture(frame, agent.q_values(frame.obs[None])[0])
        if picture is not None:
            yield picture, frame
