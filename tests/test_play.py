"""Playing with the keyboard: keys, players, and a window on a real X server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest

from fixtures_runs import TinyRun
from perilune import DQN, envs
from perilune.cli.viewing import tally
from perilune.envs.known import ENVIRONMENTS
from perilune.errors import ConfigError, MissingDependencyError
from perilune.training.evaluation import evaluate
from perilune.viz import play
from perilune.viz.play import Keyboard, Player
from perilune.viz.video import EpisodeOutcome
from worlds import Numbered

pytestmark = pytest.mark.filterwarnings("ignore:no fast renderer available")  # on a machine without a display

DOWN, UP = pygame.KEYDOWN, pygame.KEYUP
CONTROLS = {name: known.controls for name, known in ENVIRONMENTS.items() if known.controls is not None}
QUIT = pygame.event.Event(pygame.QUIT)


def key(name: str, kind: int = DOWN) -> pygame.event.Event:
    return pygame.event.Event(kind, key=getattr(pygame, f"K_{name if len(name) == 1 else name.upper()}"))


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use SDL's dummy display, which shows no window."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    yield
    pygame.display.quit()


class ScriptedClock:
    """A clock that posts the next events of a script at every tick, and closes the window at its end."""

    script: Sequence[Sequence[pygame.event.Event]] = ()
    speeds: list[int]

    def __init__(self) -> None:
        self._left = iter(self.script)

    def tick(self, fps: int) -> None:
        self.speeds.append(fps)
        for event in next(self._left, [QUIT]):
            pygame.event.post(event)


def play_with(
    monkeypatch: pytest.MonkeyPatch, players: Sequence[Player], environment: str, *script: Sequence[pygame.event.Event]
) -> tuple[list[list[EpisodeOutcome]], list[int]]:
    """Play with scripted keys. Return the scores, and the frame rates of the clock."""
    clock = type("Scripted", (ScriptedClock,), {"script": script, "speeds": []})
    monkeypatch.setattr(pygame.time, "Clock", clock)
    actions = CONTROLS[environment] if environment in CONTROLS else play.controls("", 3)
    count = max(actions.keys.values()) + 1
    return list(play.play_episodes(players, environment, count, 50, seed=7)), clock.speeds


def actions_of(world: Numbered) -> list[list[int]]:
    return [[step.action for step in episode] for episode in world.recorded]


@pytest.mark.parametrize("environment", CONTROLS)
def test_every_action_of_a_known_environment_has_a_key(environment: str) -> None:
    count = envs.space_sizes(envs.flattened(envs.make(environment))).actions
    known = play.controls(environment, count)
    assert known is CONTROLS[environment]
    assert set(known.keys.values()) | set(known.idle) == set(range(count))
    for name in known.keys:
        assert pygame.key.name(pygame.key.key_code(name)) == name


def test_unknown_environments_have_number_keys() -> None:
    assert play.controls("Blackjack-v1", 2) == play.Controls({"0": 0, "1": 1})
    assert list(play.controls("Other-v0", 14).keys.values()) == list(range(10))
    assert play.controls("CartPole-v1", 3).keys == {
        "0": 0,
        "1": 1,
        "2": 2,
    }  # an environment of the same name with other actions


def test_key_help_names_keys_and_actions() -> None:
    assert play.key_help("LunarLander-v3", 4) == "left/a: left engine, right/d: right engine, up/w: main engine"
    assert play.key_help("Other-v0", 2) == "0: action 0, 1: action 1"


def test_latest_pressed_key_selects_the_action() -> None:
    keyboard = Keyboard({"left": 0, "right": 2, "up": 1})

    def after(*events: pygame.event.Event) -> tuple[int | None, int | None]:
        keyboard.poll(events)
        return keyboard.action(), keyboard.pressed

    assert after() == (None, None)
    assert after(key("left")) == (0, 0)
    assert after() == (0, None)
    assert after(key("up")) == (1, 1)
    assert after() == (1, None)
    assert after(key("up", UP)) == (0, None)
    assert after(key("right"), key("right", UP)) == (2, 2)  # even if it was released at once
    assert after() == (0, None)
    assert after(key("left", UP), key("x"), key("x", UP)) == (None, None)
    assert not keyboard.confirmed
    assert not keyboard.closed


@pytest.mark.parametrize("event", [QUIT, key("escape")])
def test_escape_and_closing_the_window_end_the_game(monkeypatch: pytest.MonkeyPatch, event: pygame.event.Event) -> None:
    world = Numbered((3,), draws=True)
    assert play_with(monkeypatch, [Player("you", world)], "Other-v0", [key("0")], [event], [key("1")])[0] == []
    assert actions_of(world) == [[0]]
    assert not pygame.display.get_init()


def test_idle_actions_alternate_after_the_first_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Numbered((50,), actions=2, draws=True)
    script = [[], [], [key("right")], [], [key("right", UP)], [], [], [key("d"), key("d", UP)], []]
    _, speeds = play_with(monkeypatch, [Player("you", world)], "CartPole-v1", *script)
    assert actions_of(world) == [[1, 1, 0, 1, 0, 1, 0]]
    assert set(speeds) == {50}


def test_without_idle_action_each_key_press_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Numbered((3,), draws=True)
    script = [[], [key("2")], [], [], [key("2", UP)], [key("0")], [key("1")], [key("space")], []]
    scores, speeds = play_with(monkeypatch, [Player("you", world)], "Other-v0", *script)
    assert actions_of(world) == [[2, 0, 1], []]
    assert scores == [[EpisodeOutcome("you", None, 1 + 2 / 8 + 2 + 3 + 1 / 8)]]
    assert set(speeds[:6]) == {play.POLLS}


def test_each_episode_takes_the_next_seed_for_all_players(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, its = Numbered((2,), actions=2, draws=True), Numbered((4,), actions=2, draws=True)
    agent = DQN(Numbered(actions=2), hidden=(4,)).agent
    # The agent's second episode is not over when the player continues. It is finished in the background.
    script = [[key("left")], [], [], [], [], [key("space")], [key("right")], [], [key("space")], []]
    scores, _ = play_with(monkeypatch, [Player("you", mine), Player("agent", its, agent)], "CartPole-v1", *script)
    assert mine.seeds == its.seeds == [7, 8, 9]
    assert [len(episode) for episode in mine.recorded[:2]] == [2, 2]
    assert [len(episode) for episode in its.recorded[:2]] == [4, 4]
    assert len(scores) == 2
    assert actions_of(mine)[0] == [0, 0]
    for episode in its.recorded:
        for step in episode:
            assert step.action == agent.greedy_action(step.obs)
    for number, (own, other) in enumerate(scores):
        assert own.reward == sum(step.reward for step in mine.recorded[number])
        assert other.reward == sum(step.reward for step in its.recorded[number])


def test_every_episode_waits_for_a_new_key_press(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, its = Numbered((2,), actions=2, draws=True), Numbered((2,), actions=2, draws=True)
    agent = DQN(Numbered(actions=2), hidden=(4,)).agent
    lengths: list[tuple[int, int]] = []  # of the current episodes, at each image
    words: list[bytes] = []
    show = play.show

    def seen(picture: np.ndarray[Any, Any], title: str) -> None:
        show(picture, title)
        lengths.append((len(mine.recorded[-1]), len(its.recorded[-1])))
        words.append(picture[-34:].tobytes())

    monkeypatch.setattr(play, "show", seen)
    first = [[], [key("left")], [], [], [key("space")]]  # from here on, left is held
    second = [[], [], [], [key("x")], [key("right"), key("right", UP)], [], [], [key("space")]]
    third = [[], [key("space")], [], []]  # Space also begins an episode
    play_with(monkeypatch, [Player("you", mine), Player("agent", its, agent)], "CartPole-v1", *first, *second, *third)
    steps = [own for own, _ in lengths]
    assert steps == [other for _, other in lengths]
    assert steps == [0, 0, 1, 2, 2, *[0] * 5, 1, 2, 2, 0, 0, 1, 2, 2]
    assert actions_of(mine) == [[0, 0], [1, 0], [0, 0]]
    waiting = [step == 0 for step in steps]
    assert [text == words[0] for text in words] == waiting  # "Press a key to begin"


def test_opponent_plays_as_in_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    dqn = DQN("CartPole-v1", hidden=(8,), seed=10)
    own = [gym.make("CartPole-v1", render_mode="rgb_array") for _ in range(2)]
    players = [Player("you", own[0]), Player("agent", own[1], dqn.agent)]
    script = [*[[key("left")]] * 20, [key("space")]]
    ((mine, its),) = play_with(monkeypatch, players, "CartPole-v1", *script)[0]
    scored = evaluate(dqn.agent.greedy_action, gym.make("CartPole-v1"), 1, first_seed=7)
    assert (its,) == tuple(map(EpisodeOutcome, ["agent"], scored.outcomes or (), scored.returns))
    own_return = evaluate(lambda obs: 0, gym.make("CartPole-v1"), 1, first_seed=7).returns[0]
    assert mine == EpisodeOutcome("you", "fell", own_return)


def test_environment_without_images_and_invalid_seed_are_refused() -> None:
    with pytest.raises(ConfigError, match="render_mode"):
        next(play.play(Numbered()))
    with pytest.raises(ConfigError, match="seed=-1"):
        next(play.play(gym.make("CartPole-v1"), seed=-1))


def test_missing_pygame_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[view\]"):
        play.check_display()


@pytest.mark.parametrize(
    ("returns", "text"),
    [
        ([(-152, 241.3)], "1 episode: the agent was better. Return: you -152.0, the agent 241.3"),
        ([(30, 20)], "1 episode: you were better. Return: you 30.0, the agent 20.0"),
        ([(0, 0)], "1 episode: it was a tie. Return: you 0.0, the agent 0.0"),
        (
            [(1, 1), (5, 2)],
            "2 episodes: you were better in 1, the agent in 0, and 1 were ties. Mean return: you 3.0, the agent 1.5",
        ),
        ([(3,)], "1 episode. Return: 3.0"),
        ([(3,), (4,)], "2 episodes. Mean return: 3.5"),
    ],
)
def test_tally_names_the_better_player(returns: list[tuple[float, ...]], text: str) -> None:
    assert tally([[EpisodeOutcome("", None, reward) for reward in each] for each in returns]) == text


def test_docs_list_the_keys_of_every_environment() -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/record-videos.md").read_text()
    rows = dict(re.findall(r"^\| `(\S+-v\d)` \| (.+?) \|", page, re.MULTILINE))
    own = {name: envs.space_sizes(envs.flattened(envs.make(name))).actions for name in CONTROLS}
    assert rows == {name: play.key_help(name, count) for name, count in own.items()}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "perilune", "play", *arguments]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "DISPLAY is not set"),
        ({"DISPLAY": ":4711"}, "DISPLAY=:4711"),  # no server there
        ({"DISPLAY": ":0", "SDL_VIDEODRIVER": "dummy"}, "DISPLAY=:0, SDL_VIDEODRIVER=dummy"),
    ],
)
def test_missing_display_is_reported_in_one_sentence(variables: dict[str, str], words: str) -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR")  # containers have no XDG_RUNTIME_DIR
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | variables
    ended = subprocess.run(  # noqa: S603
        command("CartPole-v1"), env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(
        rf"perilune: playing needs a display, .* \({words}\)\. Run the command on a desktop or .*\n", ended.stderr
    )


XVFB = [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]


@pytest.fixture
def screen() -> Iterator[str]:
    """Start an X server and return the name of its display."""
    reads, writes = os.pipe()
    arguments = ["Xvfb", "-displayfd", str(writes), "-screen", "0", "1300x600x24", "-nolisten", "tcp"]
    server = subprocess.Popen(arguments, pass_fds=[writes], stderr=subprocess.DEVNULL)  # noqa: S603
    os.close(writes)
    with os.fdopen(reads) as text:
        number = text.readline().strip()
    assert number, "Xvfb does not start"
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.mark.long
@pytest.mark.skipif(bool(XVFB) and not os.environ.get("CI"), reason=f"needs {' and '.join(XVFB)}")
def test_real_window_reacts_to_real_keys(screen: str, tiny_run: TinyRun, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SDL_VIDEODRIVER"} | {"DISPLAY": screen}

    def do(*arguments: str) -> str:
        words = ["xdotool", *arguments]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout  # noqa: S603

    arguments = command("CartPole-v1", str(tiny_run.history.directory), "--seed", "3")
    printed = tmp_path / "printed"
    with printed.open("w") as out, subprocess.Popen(arguments, env=environment, stdout=out, stderr=out) as player:  # noqa: S603
        try:
            deadline = time.monotonic() + 120
            while not (window := do("search", "--onlyvisible", "--class", ".").split()):
                assert time.monotonic() < deadline, printed.read_text()
                assert player.poll() is None, printed.read_text()
                time.sleep(0.2)
            assert do("getwindowname", window[0]) == "Perilune: CartPole-v1\n"
            assert "WIDTH=1206\n" in do("getwindowgeometry", "--shell", window[0])
            do("keydown", "Left")  # held, the pole falls after ten steps or so
            while "episode 1" not in printed.read_text():
                assert time.monotonic() < deadline, printed.read_text()
                time.sleep(0.3)
                do("key", "space")
            do("keyup", "Left")
            do("key", "Escape")
            assert player.wait(120) == 0
        finally:
            player.kill()
    own = evaluate(lambda obs: 0, gym.make("CartPole-v1"), 1, first_seed=3)
    assert f"episode 1: you fell {own.returns[0]:.1f}, the agent " in printed.read_text()
