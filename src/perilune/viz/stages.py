"""Learning in one film: what an agent was before, on the way and at its best, side by side from the same start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.envs import rendering
from perilune.envs.known import lookup
from perilune.errors import RunDirectoryError
from perilune.runs import snapshots, weights
from perilune.training.evaluation import SCORE_SEEDS, play_episode
from perilune.training.events import Timestep
from perilune.viz.encoding import VideoWriter, closed, format_of, thinning
from perilune.viz.overlay import NO_SCALE, Panel, Reading, drawn, following, widened
from perilune.viz.pixels import cornered, side_by_side
from perilune.viz.video import beforehand, cannot_draw, fitted, frames_per_second

WIDEST = 480  # pixels of a picture, so that four of them are no wider than a screen
GAP = 6  # pixels between two, less in a small format
SECONDS = 10  # that a film lasts at most, so that learning is seen at a glance; a rest comes after them
SMOOTH = 60  # pictures per second, of which more are not seen


class Stage(NamedTuple):
    """An agent on its way: what it is called, and its weights."""

    title: str
    agent: Agent


class Ending(NamedTuple):
    """What a stage came to."""

    title: str
    outcome: str | None
    reward: float


class Seen(NamedTuple):
    """What a stage shows at one time: uint8 [height, width, 3], and what is to be read there."""

    timestep: Timestep
    reading: Reading
    image: Array


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
    tell: Callable[[int, int], object] | None = None,
) -> list[Ending]:
    """Let all of ``which`` play greedily from one start state into one film; each stays where its episode ended.

    They are played unseen before, so that all bars have one scale, and the film is no longer than ``SECONDS``.

    Args:
        which: the stages, from left to right.
        env: the environment; each stage gets another one like it.
        path: where to; its ending is the format.
        overlay: show Q-values and actions.
        seed: of the start state.
        max_episode_steps: cut episodes off here.
        tell: takes how many steps of the longest episode are filmed, and how many there are.

    Raises:
        ConfigError: the environment cannot draw, or ``path`` has another ending than those that are written.
        UnsupportedEnvironmentError: the environment cannot be made a second time.
        RunDirectoryError: nothing can be written there.
        MissingDependencyError: a library is not installed.
    """
    small = format_of(path).small
    if not rendering.can_draw(env):
        raise cannot_draw(env)
    fps = frames_per_second(env)
    actions = lookup(envs.name(env)).action_names(which[0].agent.actions) if overlay else ()
    panels = [Panel(stage.title, actions, fps) for stage in which]
    with ExitStack() as drawing:
        own = []
        for _ in which:
            own.append(envs.again(env, "rgb_array"))
            drawing.callback(envs.close, own[-1])
        known = [
            beforehand(stage.agent.greedy_action, stage.agent.q_values, its, [seed], max_episode_steps)
            for stage, its in zip(which, own, strict=True)
        ]
        steps = max(each.steps[0] for each in known)
        scale = widened(NO_SCALE, [end for each in known for end in each.scale])
        faster = speed(steps, fps)
        every = max(thinning(path, faster * fps), -(-faster * fps // SMOOTH))
        rate = Fraction(faster * fps, every)
        tiles = [
            _seen(stage.agent, its, path, panel.memory, every, seed, max_episode_steps)
            for stage, its, panel in zip(which, own, panels, strict=True)
        ]
        with closed(VideoWriter(path, rate)) as written:

            def add(seen: Sequence[Seen]) -> None:
                pictures = [
                    drawn(each.image, each.reading, panel, scale) for each, panel in zip(seen, panels, strict=True)
                ]
                row = side_by_side(pictures, GAP // 2 if small else GAP)
                written.add(row if faster == 1 else cornered(row, f"{faster}x speed"))

            for number, seen in enumerate(_together(tiles)):
                scale = widened(scale, [q for each in seen for q in each.reading.q_values])
                add(seen)
                if tell is not None:
                    tell(min(number * every, steps), steps)
            for _ in range(int(rate)):
                add(seen)
    return [
        Ending(stage.title, last.timestep.outcome, last.timestep.reward)
        for stage, last in zip(which, seen, strict=True)
    ]


def speed(steps: int, fps: int) -> int:
    """How many times as fast a film of so many steps has to be to last no longer than ``SECONDS``."""
    return max(1, -(-steps // (SECONDS * fps)))


def _together(tiles: Sequence[Iterator[Seen]]) -> Iterator[list[Seen]]:
    """What all of ``tiles`` show at each time, until the last has ended; each stays with its last."""
    latest = [next(tile) for tile in tiles]
    moved: list[Seen | None] = [*latest]
    while any(moved):
        latest = [new or old for new, old in zip(moved, latest, strict=True)]
        yield latest
        moved = [next(tile, None) for tile in tiles]


def _seen(
    agent: Agent, env: envs.Env, path: Path, memory: int, every: int, seed: int, max_episode_steps: int | None
) -> Iterator[Seen]:
    """Every so many instants of an episode that ``agent`` plays, and the last."""
    reading: Reading | None = None
    for timestep in play_episode(agent.greedy_action, env, seed, max_episode_steps):
        reading = following(reading, timestep, agent.q_values(timestep.obs[None])[0], memory)
        if timestep.step % every == 0 or timestep.action is None:
            yield Seen(timestep, reading, fitted(rendering.frame(env), path, WIDEST))
