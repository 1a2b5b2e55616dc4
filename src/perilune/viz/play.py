"""Fly it yourself: a window in which somebody at the keyboard plays, and an agent beside them from the same start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.seeding import checked
from perilune.agent.dqn import Agent
from perilune.envs import rendering
from perilune.envs.known import Controls, lookup
from perilune.errors import DisplayError, MissingDependencyError
from perilune.training.evaluation import ENDLESS
from perilune.training.events import Timestep
from perilune.viz.overlay import Panel, drawn, following
from perilune.viz.pixels import captions, side_by_side
from perilune.viz.video import cannot_draw, frames_per_second

GAP = 6  # pixels between two pictures
FRESH = 30  # looks at the keyboard per second where the game waits for it


def controls(environment: str, actions: int) -> Controls:
    """The keys: arrows and WASD where the environment is known, else the number keys for its first ten actions."""
    known = lookup(environment).controls
    if known is not None and max(known.keys.values()) + 1 == actions:
        return known
    return Controls({str(action): action for action in range(min(actions, 10))})


def legend(environment: str, actions: int) -> str:
    """What the keys do, in words."""
    known, called = controls(environment, actions), lookup(environment).action_names(actions)
    keys: dict[int, list[str]] = {}
    for key, action in known.keys.items():
        keys.setdefault(action, []).append(key)
    return ", ".join(f"{'/'.join(each)}: {called[action]}" for action, each in keys.items())


class Keyboard:
    """The keys that are held, the latest first, and what else was asked for since the last look."""

    def __init__(self, keys: Mapping[str, int]) -> None:
        pygame = _pygame()
        codes = {key: getattr(pygame, f"K_{key if len(key) == 1 else key.upper()}") for key in keys}
        self._actions = {codes[key]: action for key, action in keys.items()}
        self._held: list[int] = []
        self._tapped: list[int] = []
        self.onward = self.over = False

    def look(self, events: Iterable[Any]) -> None:
        """Take in what has happened since the last look. A key that was let go at once counts until the next."""
        pygame = _pygame()
        self._tapped, self.onward = [], False
        for event in events:
            if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
                self.over = True
            elif event.type == pygame.KEYDOWN and event.key in self._actions:
                self._held.insert(0, event.key)
                self._tapped.insert(0, event.key)
            elif event.type == pygame.KEYDOWN and event.key in (pygame.K_SPACE, pygame.K_RETURN):
                self.onward = True
            elif event.type == pygame.KEYUP and event.key in self._held:
                self._held.remove(event.key)

    def pressed(self) -> int | None:
        """The action of the key that was pressed last since the last look, if any was."""
        return self._actions[self._tapped[0]] if self._tapped else None

    def action(self) -> int | None:
        """The action of that key, or of the latest that is held, if any is."""
        return self._actions[self._held[0]] if self._held and not self._tapped else self.pressed()


class Score(NamedTuple):
    """What an episode came to."""

    outcome: str | None
    reward: float


class Side:
    """One of those who play, in an environment of their own."""

    def __init__(self, title: str, env: envs.Env, agent: Agent | None = None) -> None:
        self._env, self._agent = env, agent
        self._spaces, self._known = envs.check(env), lookup(envs.name(env)).outcomes
        self._panel = Panel(title)
        self._endless = envs.time_limit(env) is None

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self.obs = envs.reset(self._env, seed)
        self.reward, self._steps = 0.0, 0
        self.ended = False
        self.outcome: str | None = None
        self._picture: Array | None = None

    def step(self, action: int) -> None:
        """Take a step: an agent its own, whatever ``action`` is. After the end there is none."""
        if self.ended:
            return
        chosen = action if self._agent is None else self._agent.greedy_action(self.obs)
        self.obs, reward, terminated, truncated = envs.step(self._env, self._spaces, chosen)
        self.reward += reward
        self._steps += 1
        self.ended = terminated or truncated or (self._endless and self._steps == ENDLESS)
        self._picture = None
        if self.ended and self._known is not None:
            self.outcome = self._known.label(self.obs, reward, terminated)

    @property
    def score(self) -> Score:
        return Score(self.outcome, self.reward)

    def picture(self) -> Array:
        """How it looks now, with who it is and the reward so far beneath, and the outcome at the end."""
        if self._picture is None:
            image = rendering.frame(self._env)
            frame = Timestep(1, self._steps, self.obs, None if self.ended else 0, self.reward, self.outcome)
            self._picture = drawn(image, following(None, frame, np.zeros(0), 1), self._panel)
        return self._picture


class Window:
    """A window that shows pictures of one size."""

    def __init__(self, title: str, picture: Array) -> None:
        pygame = _pygame()
        try:
            pygame.display.init()
            pygame.display.set_caption(title)  # before it opens: it has its name from the first
            height, width = picture.shape[:2]
            self._screen = pygame.display.set_mode((width, height), pygame.RESIZABLE | pygame.SCALED)
        except pygame.error as error:
            raise DisplayError(f"no window can be opened on the display here: {error}") from error

    def show(self, picture: Array) -> None:
        """Show ``picture``, uint8 [height, width, 3]."""
        pygame = _pygame()
        height, width = picture.shape[:2]
        self._screen.blit(pygame.image.frombuffer(np.ascontiguousarray(picture), (width, height), "RGB"), (0, 0))
        pygame.display.flip()

    def close(self) -> None:
        _pygame().display.quit()


def check_display() -> None:
    """Raise DisplayError where there is nothing to open a window on, before anything else is done."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    given = ", ".join(f"{name}={os.environ[name]}" for name in named if os.environ.get(name)) or "DISPLAY is not set"
    message = (
        f"playing needs a display to open a window on, and there is none here ({given}): run it on a desktop, or "
        "through ssh -X"
    )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DisplayError(message)
    pygame = _pygame()
    if os.environ.get("DISPLAY") and not (os.environ.get("WAYLAND_DISPLAY") or os.environ.get("XDG_RUNTIME_DIR")):
        # Wayland cannot be there, and its library would complain of that on stderr where X is not there either.
        os.environ.setdefault("SDL_VIDEODRIVER", "x11")
    try:
        pygame.display.init()
        if pygame.display.get_driver() in ("dummy", "offscreen"):  # which SDL takes where it finds no other
            raise DisplayError(message)
    except pygame.error as error:
        raise DisplayError(message) from error
    finally:
        pygame.display.quit()


def flights(env: envs.Env, agent: Agent | None = None, title: str = "agent", seed: int = 0) -> Iterator[list[Score]]:
    """Open a window and play, from one start state after the other, until it is closed.

    Args:
        env: the environment; everybody gets another one like it.
        agent: the opponent, if there is one, which plays greedily.
        title: what the opponent is called.
        seed: of the first start; each takes the next.

    Yields:
        What every finished episode came to: the player's score, then the agent's.

    Raises:
        ConfigError: the environment cannot draw, or ``seed`` is none.
        DisplayError: there is no display.
        MissingDependencyError: pygame or Pillow is not installed.
    """
    checked(seed)
    _pygame()
    if not rendering.can_draw(env):
        raise cannot_draw(env)
    with ExitStack() as opened:
        sides = []
        for name, player in [("you", None), *([] if agent is None else [(title, agent)])]:
            own = envs.again(env, "rgb_array")
            opened.callback(envs.close, own)
            sides.append(Side(name, own, player))
        yield from _flights(sides, envs.name(env), envs.check(env).actions, frames_per_second(env), seed)


def _flights(sides: Sequence[Side], environment: str, actions: int, fps: int, seed: int) -> Iterator[list[Score]]:
    pygame = _pygame()
    known = controls(environment, actions)
    keyboard, clock = Keyboard(known.keys), pygame.time.Clock()
    keys = legend(environment, actions)
    words = (
        f"{keys}. Press one to begin, Escape to end",
        f"{keys}. Escape ends it",
        "Space: the next episode. Escape ends it",
    )
    window: Window | None = None
    try:
        while True:
            for side in sides:
                side.begin(seed)
            steps = 0
            begun = False  # every start waits for a key: nobody is ready yet
            while not (sides[0].ended and keyboard.onward):
                row = side_by_side([side.picture() for side in sides], GAP)
                before, under_way, after = captions(row.shape[1], words)
                beneath = after if sides[0].ended else under_way if begun else before
                picture = np.concatenate([row, beneath])
                window = window or Window(f"Perilune: {environment}", picture)
                window.show(picture)
                clock.tick(fps if known.idle or sides[0].ended else FRESH)
                keyboard.look(pygame.event.get())
                if keyboard.over:
                    return
                action = keyboard.action() if known.idle else keyboard.pressed()
                begun = begun or keyboard.onward or keyboard.pressed() is not None
                if not begun:
                    continue  # though a key of the episode before be held still
                if action is None and known.idle:
                    action = known.idle[steps % len(known.idle)]
                if action is not None or sides[0].ended:
                    for side in sides:
                        side.step(action or 0)
                    steps += 1
            for side in sides:
                while not side.ended:  # which flies on unseen
                    side.step(0)
            seed += 1
            yield [side.score for side in sides]
    finally:
        if window is not None:
            window.close()


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise MissingDependencyError("playing needs pygame: pip install 'perilune[lunar]'") from error
    return pygame
