"""Play an environment with the keyboard in a window, next to an agent that starts from the same state."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.extras import missing
from perilune._utils.seeding import checked
from perilune.agent.dqn import Agent
from perilune.envs import rendering
from perilune.envs.known import Controls, lookup
from perilune.errors import DisplayError
from perilune.training.evaluation import ENDLESS
from perilune.training.events import Timestep
from perilune.viz.overlay import Panel, add_panel, captions, side_by_side
from perilune.viz.video import EpisodeOutcome, cannot_render, frames_per_second

GAP = 6  # pixels between two images
POLLS = 30  # per second, in an environment that waits for a key


def controls(env_id: str, actions: int) -> Controls:
    """Return the environment's keys, or number keys for its first ten actions if it defines none."""
    known = lookup(env_id).controls
    if known is not None and max(known.keys.values()) + 1 == actions:
        return known
    return Controls({str(action): action for action in range(min(actions, 10))})


def key_help(env_id: str, actions: int) -> str:
    """Return what each key does, in one line."""
    names = lookup(env_id).action_names(actions)
    keys: dict[int, list[str]] = {}
    for key, action in controls(env_id, actions).keys.items():
        keys.setdefault(action, []).append(key)
    return ", ".join(f"{'/'.join(each)}: {names[action]}" for action, each in keys.items())


class Keyboard:
    """Keys that are held, and key presses in the last poll.

    Attributes:
        pressed: Action of the newest key press in the last poll, or None.
        confirmed: Whether Space or Enter was pressed in the last poll.
        closed: Whether Escape was pressed or the window was closed.
    """

    def __init__(self, keys: dict[str, int]) -> None:
        pygame = _pygame()
        codes = {key: getattr(pygame, f"K_{key if len(key) == 1 else key.upper()}") for key in keys}
        self._actions = {codes[key]: action for key, action in keys.items()}
        self._held: list[int] = []
        self.pressed: int | None = None
        self.confirmed = self.closed = False

    def poll(self, events: Iterable[Any]) -> None:
        """Process the events since the previous poll. A key press between two polls always counts once."""
        pygame = _pygame()
        self.pressed, self.confirmed = None, False
        for event in events:
            if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
                self.closed = True
            elif event.type == pygame.KEYDOWN and event.key in self._actions:
                self._held.insert(0, event.key)
                self.pressed = self._actions[event.key]
            elif event.type == pygame.KEYDOWN and event.key in (pygame.K_SPACE, pygame.K_RETURN):
                self.confirmed = True
            elif event.type == pygame.KEYUP and event.key in self._held:
                self._held.remove(event.key)

    def action(self) -> int | None:
        """Return the action of ``pressed``, else of the latest key that is held, else None."""
        return self._actions[self._held[0]] if self._held and self.pressed is None else self.pressed


class Player:
    """A person or an agent that plays in its own environment."""

    def __init__(self, title: str, env: envs.Env, agent: Agent | None = None) -> None:
        self.title, self._env, self._agent = title, env, agent
        self._spaces, self._outcomes = envs.space_sizes(env), lookup(envs.name(env)).outcomes
        self._limit = ENDLESS if envs.time_limit(env) is None else None

    def begin(self, seed: int) -> None:
        """Begin an episode."""
        self._now = Timestep(
            1, 0, envs.reset(self._env, seed), action=0, reward=0.0
        )  # None would mean that the episode has ended
        self._image: Array | None = None

    @property
    def ended(self) -> bool:
        """Whether the episode has ended."""
        return self._now.action is None

    @property
    def score(self) -> EpisodeOutcome:
        """Outcome and return so far."""
        return EpisodeOutcome(self.title, self._now.outcome, self._now.reward)

    def step(self, action: int) -> None:
        """Take ``action``, or the agent's own action. Do nothing after the end of the episode."""
        if self.ended:
            return
        before, outcome = self._now, None
        chosen = action if self._agent is None else self._agent.greedy_action(before.obs)
        obs, reward, terminated, truncated = envs.step(self._env, self._spaces, chosen)
        ended = terminated or truncated or before.step + 1 == self._limit
        if ended and self._outcomes is not None:
            outcome = self._outcomes.label(obs, reward, terminated)
        self._now = Timestep(1, before.step + 1, obs, None if ended else 0, before.reward + reward, outcome)
        self._image = None

    def image(self) -> Array:
        """Return the rendered state with title and return below it and, after the episode, with the outcome."""
        if self._image is None:
            self._image = add_panel(self._now._replace(image=rendering.frame(self._env)), Panel(self.title))
        return self._image


def check_display() -> None:
    """Raise DisplayError if no window can be opened."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    given = ", ".join(f"{name}={os.environ[name]}" for name in names if os.environ.get(name)) or "DISPLAY is not set"
    message = (
        f"playing needs a display, but none is available ({given}). Run the command on a desktop or through ssh -X."
    )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DisplayError(message)
    pygame = _pygame()
    if os.environ.get("DISPLAY") and not (os.environ.get("WAYLAND_DISPLAY") or os.environ.get("XDG_RUNTIME_DIR")):
        os.environ.setdefault("SDL_VIDEODRIVER", "x11")  # otherwise the Wayland library prints an error
    try:
        pygame.display.init()
        if pygame.display.get_driver() in ("dummy", "offscreen"):  # SDL falls back to these drivers
            raise DisplayError(message)
    except pygame.error as error:
        raise DisplayError(message) from error
    finally:
        pygame.display.quit()


def play(
    env: envs.Env, agent: Agent | None = None, title: str = "agent", seed: int = 0
) -> Iterator[list[EpisodeOutcome]]:
    """Open a window and play one episode after another until the user closes it.

    Args:
        env: The environment. Each player gets its own copy.
        agent: The opponent, which plays greedily; None for no opponent.
        title: The opponent's title.
        seed: Seed of the first start state. Each further episode uses the next seed.

    Yields:
        The outcomes of each complete episode: the person's, then the agent's.

    Raises:
        ConfigError: The environment does not render images, or ``seed`` is invalid.
        DisplayError: There is no display.
        MissingDependencyError: pygame or Pillow is not installed.
    """
    checked(seed)
    if not rendering.can_draw(env):
        raise cannot_render(env)
    with ExitStack() as opened:
        players = []
        for name, opponent in [("you", None), *([] if agent is None else [(title, agent)])]:
            own = envs.again(env, "rgb_array")
            opened.callback(envs.close, own)
            players.append(Player(name, own, opponent))
        yield from play_episodes(players, envs.name(env), envs.space_sizes(env).actions, frames_per_second(env), seed)


def play_episodes(
    players: Sequence[Player], env_id: str, actions: int, fps: int, seed: int = 0
) -> Iterator[list[EpisodeOutcome]]:
    """Open a window in which ``players`` (the person first) play until the user closes it. See ``play``."""
    pygame = _pygame()
    known, clock = controls(env_id, actions), pygame.time.Clock()
    keyboard, keys = Keyboard(dict(known.keys)), key_help(env_id, actions)
    texts = (
        f"{keys}. Press a key to begin. Escape: quit",
        f"{keys}. Escape: quit",
        "Space: next episode. Escape: quit",
    )
    try:
        while True:
            for player in players:
                player.begin(seed)
            steps, begun = 0, False  # each episode waits for a key before it starts
            while not (players[0].ended and keyboard.confirmed):
                row = side_by_side([player.image() for player in players], GAP)
                before, during, after = captions(row.shape[1], texts)
                text = after if players[0].ended else during if begun else before
                show(np.concatenate([row, text]), f"Perilune: {env_id}")
                clock.tick(fps if known.idle or players[0].ended else POLLS)
                keyboard.poll(pygame.event.get())
                if keyboard.closed:
                    return
                begun = begun or keyboard.confirmed or keyboard.pressed is not None
                if not begun:
                    continue  # even if a key is still held from the previous episode
                action = keyboard.action() if known.idle else keyboard.pressed
                if action is None and known.idle:
                    action = known.idle[steps % len(known.idle)]
                if action is not None or players[0].ended:
                    for player in players:
                        player.step(action or 0)
                    steps += 1
            for player in players:
                while not player.ended:  # finish the agent's episode without showing it
                    player.step(0)
            seed += 1
            yield [player.score for player in players]
    finally:
        pygame.display.quit()


def show(image: Array, title: str) -> None:
    """Show an image, uint8 [height, width, 3], in the window. The first image opens it."""
    pygame = _pygame()
    height, width = image.shape[:2]
    try:
        window = pygame.display.get_surface() if pygame.display.get_init() else None
        if window is None:
            pygame.display.init()
            pygame.display.set_caption(title)
            window = pygame.display.set_mode((width, height), pygame.RESIZABLE | pygame.SCALED)
    except pygame.error as error:
        raise DisplayError(f"no window can be opened on this display: {error}") from error
    window.blit(pygame.image.frombuffer(np.ascontiguousarray(image), (width, height), "RGB"), (0, 0))
    pygame.display.flip()


def _pygame() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise missing("playing needs pygame", "view") from error
    return pygame
