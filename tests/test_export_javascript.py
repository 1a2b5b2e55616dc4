"""The JavaScript export: the module in Node, the physics against Gymnasium, and the page in a browser."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from benchmarks.javascript import drifts, gymnasium_episode, javascript_episodes
from hypothesis import given, settings
from playwright.sync_api import Browser, Page, expect

from fixtures_watch import DESKTOP, Visit, assert_accessible, visit
from perilune import DQN, envs
from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.export import javascript
from perilune.export.golden import golden_vectors
from perilune.export.policy import Entry, Policy, from_agent, network_blocks, unencoded
from perilune.training.evaluation import SCORE_SEEDS, play_episode
from policies import agents, check_agreement, exact_q_values, invalid_observations, observations

NODE = shutil.which("node")
DEMO = Path(javascript.__file__).parent / "templates" / "demo"
TOLERANCE = 1e-5  # of the largest absolute Q-value of an observation

# Answer each line of JSON on stdin with one line.
SERVER = """
import { createInterface } from "node:readline";
const numbers = (text) => new Float64Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
for await (const line of createInterface({ input: process.stdin })) {
  const { file, rows, size } = JSON.parse(line);
  const { act, qValues } = await import(file);
  const all = numbers(rows);
  const [q, action] = [[], []];
  for (let at = 0; at < all.length; at += size) {
    const obs = all.subarray(at, at + size);
    q.push(Array.from(qValues(obs)));
    action.push(act(obs));
  }
  console.log(JSON.stringify({ q, action }));
}
"""

# Replay recorded actions: all from the start state, and each from the recorded state before it.
REPLAY = """
import { readFileSync } from "node:fs";
const { file, episodes } = JSON.parse(readFileSync(0, "utf8"));
const game = await import(file);
console.log(JSON.stringify(episodes.map(({ states, actions }) => {
  game.state.set(states[0]);
  const replayed = actions.map((action) => (game.step(action), Array.from(game.state)));
  const single = actions.map((action, i) => {
    game.state.set(states[i]);
    const { reward, terminated } = game.step(action);
    return { state: Array.from(game.state), obs: Array.from(game.observe()), reward, terminated };
  });
  return { replayed, single };
})));
"""


# Move the lander up in steps of half a unit. After each, print whether a shape of the hull's color is in the view.
VISIBLE = """
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const { planck, file } = JSON.parse(readFileSync(0, "utf8"));
let bodies = [];
const library = createRequire(import.meta.url)(planck);
globalThis.planck = { ...library, World: class extends library.World {
  createDynamicBody(options) {
    const body = super.createDynamicBody(options);
    bodies.push(body);
    return body;
  }
} };
const game = await import(file);
game.reset(() => 0.5);
let [points, found] = [[], []];
const context = new Proxy({}, {
  get: (target, name) => (...values) => {
    if (name === "beginPath") points = [];
    if (name === "lineTo") points.push(values);
    if (name !== "fill" || target.fillStyle !== "#8d7bea") return;
    found.push(points.some(([x, y]) => x > 0 && x < 600 && y > 0));
  },
  set: (target, name, value) => ((target[name] = value), true),
});
const shown = [];
for (let i = 0; i < 12; i++) {
  found = [];
  game.draw(context, 600, 400, { blend: 1, push: 0 });
  shown.push(found.some(Boolean));
  for (const body of bodies) body.setPosition({ x: body.getPosition().x, y: body.getPosition().y + 0.5 });
}
console.log(JSON.stringify(shown));
"""

# Record in window.drawn whether the canvas has an opaque pixel after its size changed.
RESIZED = """
() => {
  const canvas = document.querySelector("canvas");
  const width = canvas.clientWidth;
  new ResizeObserver(() => {
    if (canvas.clientWidth !== width) window.drawn = canvas.getContext("2d").getImageData(0, 0, 1, 1).data[3] > 0;
  }).observe(canvas);
}
"""


@pytest.fixture(scope="module")
def node() -> str:
    if NODE is None:
        pytest.fail("Node") if os.environ.get("CI") else pytest.skip("Node (apt-get install nodejs)")
    return NODE


Evaluate = Callable[[Policy, Array], tuple[Array, Array]]


@pytest.fixture(scope="module")
def evaluate(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluate]:
    """A function that returns the Q-values and actions of the exported module of a policy. One Node process does it."""
    directory, count = tmp_path_factory.mktemp("modules"), 0
    with subprocess.Popen(  # noqa: S603
        [node, "--input-type=module", "-e", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(policy: Policy, rows: Array) -> tuple[Array, Array]:
            nonlocal count
            count += 1
            file = directory / f"{count}.mjs"
            file.write_text(javascript.module(policy), encoding="utf-8")
            assert process.stdin is not None
            assert process.stdout is not None
            content = base64.b64encode(np.asarray(rows, "<f8").tobytes()).decode()
            request = {"file": file.as_uri(), "rows": content, "size": len(policy.entries)}
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            return np.array(answer["q"], float), np.array(answer["action"])  # null, which stands for NaN, becomes NaN

        yield run


def pretrained(env_id: str) -> tuple[DQN, Policy]:
    agent = DQN.pretrained(env_id)
    return agent, from_agent(agent.agent, agent.env)


def written(directory: Path, agent: DQN) -> Path:
    """Write the files of an export."""
    policy = from_agent(agent.agent, agent.env)
    for name, text in javascript.render(policy, golden_vectors(agent.agent, agent.env, policy)).items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def largest_error(found: Array, expected: Array) -> float:
    scale = np.maximum(1, np.abs(expected).max(axis=1, keepdims=True))
    return float((np.abs(found - expected) / scale).max())


# The module


@settings(max_examples=60, deadline=None)
@given(made=agents())
def test_module_agrees_with_the_library_for_every_architecture(
    evaluate: Evaluate, made: tuple[Agent, envs.Env]
) -> None:
    policy = from_agent(*made)
    flat, raw = observations(policy, 60)
    check_agreement(policy, raw, *evaluate(policy, raw), exact_q_values(made[0], flat))
    values, action = evaluate(policy, invalid_observations(policy, raw[0]))
    assert np.isnan(values).all()
    assert (action == policy.first_action).all()


def test_module_computes_hand_worked_q_values(evaluate: Evaluate) -> None:
    agent = Agent(3, 2, DQNConfig(hidden=(2,), layer_norm=False), seed=0)
    first, first_bias, last, last_bias = agent.policy_network.named_parameters().values()
    first[:], first_bias[:] = [[1, -1], [2, 0], [0, 3]], [0.5, -0.5]
    last[:], last_bias[:] = [[1, 2], [10, 20]], [0, 1]
    entries = (Entry("x", -np.inf, np.inf), Entry("kind", 5, 6, 2, 5))
    policy = Policy("Any-v0", entries, ("a", "b"), 3, *network_blocks(agent))
    # x = 4, kind = 5: hidden = relu(4 + 2 + 0.5, -4 - 0.5) = (6.5, 0). x = -1, kind = 6: relu(-0.5, 1 + 3 - 0.5).
    found, action = evaluate(policy, np.array([[4, 5], [-1, 6]]))
    assert found.tolist() == [[6.5, 14], [35, 71]]
    assert action.tolist() == [4, 4]


@pytest.mark.parametrize("env_id", ["Taxi-v4", "Blackjack-v1"])
def test_categories_of_real_environments_are_one_hot(evaluate: Evaluate, env_id: str) -> None:
    agent = DQN(env_id, hidden=(16,), preset=None)
    policy = from_agent(agent.agent, agent.env)
    space = gym.make(env_id).observation_space
    space.seed(0)
    samples = [space.sample() for _ in range(200)]
    found, action = evaluate(policy, np.array([np.ravel(sample) for sample in samples]))
    expected = agent.q_values(np.array([gym.spaces.flatten(space, sample) for sample in samples]))
    assert largest_error(found, expected) <= TOLERANCE
    assert (action == expected.argmax(axis=1)).all()


@pytest.mark.parametrize("env_id", javascript.DEMOS)
def test_pretrained_agents_choose_the_same_actions_in_real_states(evaluate: Evaluate, env_id: str) -> None:
    agent, policy = pretrained(env_id)
    rows: list[Array] = []
    seed = SCORE_SEEDS + 50
    while len(rows) < 2_000:
        rows += [step.obs for step in play_episode(agent.agent.greedy_action, agent.env, seed, 200)]
        seed += 1
    states = np.stack(rows)
    found, action = evaluate(policy, unencoded(policy.entries, states))
    expected = agent.q_values(states)
    assert largest_error(found, expected) <= TOLERANCE
    assert (action == expected.argmax(axis=1)).all()


def test_module_refuses_observations_of_another_length(node: str, tmp_path: Path) -> None:
    (tmp_path / "policy.mjs").write_text(javascript.module(pretrained("CartPole-v1")[1]), encoding="utf-8")
    program = 'import { act } from "./policy.mjs"; act([1, 2, 3]);'
    done = subprocess.run(  # noqa: S603
        [node, "--input-type=module", "-e", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "RangeError: an observation has 4 numbers, but 3 were given." in done.stderr


def test_selftest_passes_and_reports_each_failure(node: str, tmp_path: Path) -> None:
    def selftest() -> subprocess.CompletedProcess[str]:
        return subprocess.run([node, "selftest.mjs"], capture_output=True, text=True, cwd=tmp_path, check=False)  # noqa: S603

    written(tmp_path, DQN.pretrained("CartPole-v1"))
    passed = selftest()
    assert (passed.returncode, passed.stderr) == (0, "")
    assert re.fullmatch(r"OK: 64 observations agree\. Largest relative error: [\d.]+e-\d+\.\n", passed.stdout)
    assert json.loads((tmp_path / "package.json").read_text())["scripts"] == {"test": "node selftest.mjs"}
    module = tmp_path / "policy.mjs"
    text = module.read_text()
    module.write_text(text.replace(".fill(NaN)", ""))
    failed = selftest()
    assert (failed.returncode, failed.stdout) == (1, "FAILED: Invalid observations do not give NaN.\n")
    weights = re.search(r'"([A-Za-z0-9+/=]{1000,})"', text)
    assert weights is not None
    changed = np.frombuffer(base64.b64decode(weights[1]), "<f4").copy()
    changed[-1] += 0.01  # a bias of the last layer
    module.write_text(text.replace(weights[1], base64.b64encode(changed.tobytes()).decode()))
    failed = selftest()
    assert failed.returncode == 1
    assert re.fullmatch(
        r"FAILED: 64 of 64 observations differ\. Largest relative error: [\d.]+e-\d+\.\n", failed.stdout
    )


def test_types_declare_every_export(tmp_path: Path) -> None:
    written(tmp_path, DQN.pretrained("CartPole-v1"))
    exports = re.findall(r"^export (?:const|function) (\w+)", (tmp_path / "policy.mjs").read_text(), re.MULTILINE)
    types = (tmp_path / "policy.d.mts").read_text()
    declared = re.findall(r"^export declare (?:const|function) (\w+)", types, re.MULTILINE)
    assert exports == declared == ["environment", "observations", "actions", "firstAction", "qValues", "act"]
    if tsc := shutil.which("tsc"):
        use = 'import { act, actions } from "./policy.mjs";\nexport const name: string = actions[act([1, 2])] ?? "";\n'
        (tmp_path / "use.mts").write_text(use)
        subprocess.run([tsc, "--strict", "--noEmit", "--module", "nodenext", "use.mts"], cwd=tmp_path, check=True)  # noqa: S603


# The physics


def answered(node: str, program: str, request: dict[str, Any]) -> Any:
    """Run a program in Node with a request on standard input, and return its answer."""
    command = [node, "--input-type=module", "-e", program]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def recorded(env_id: str, choose: Callable[[Array], int], seed: int) -> dict[str, Any]:
    """Play an episode in Gymnasium, and return its states, observations, actions, rewards and ends."""
    env = gym.make(env_id)
    obs, _ = env.reset(seed=seed)
    inner: Any = env.unwrapped
    found: dict[str, Any] = {"states": [list(map(float, inner.state))], "obs": [], "actions": [], "ends": []}
    ended = False
    while not ended:
        action = choose(obs)
        obs, reward, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        found["states"].append(list(map(float, inner.state)))
        found["obs"].append(obs.tolist())
        found["actions"].append(action)
        found["ends"].append((float(reward), terminated))
    return found


def again(env_id: str, actions: Sequence[int], seed: int, nudge: float) -> Array:
    """Return the states of Gymnasium after the same actions, from a start state changed by ``nudge``."""
    inner: Any = gym.make(env_id).unwrapped
    inner.reset(seed=seed)
    inner.state = np.asarray(inner.state) + nudge
    states = []
    for action in actions:
        inner.step(action)
        states.append(list(map(float, inner.state)))
    return np.array(states)


@pytest.mark.filterwarnings("ignore:.*You are calling 'step")
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"])
def test_physics_equal_those_of_gymnasium(node: str, env_id: str) -> None:
    agent, rng = DQN.pretrained(env_id), np.random.default_rng(0)
    actions = int(gym.make(env_id).action_space.n)  # type: ignore[attr-defined]
    policies: list[Callable[[Array], int]] = [lambda obs: int(agent.act(obs)), lambda _: int(rng.integers(actions))]
    seeds = [(index % 2, 100 + index) for index in range(10)]
    episodes = [recorded(env_id, policies[index], seed) for index, seed in seeds]
    request = {"file": (DEMO / f"{javascript.DEMOS[env_id]}.mjs").as_uri(), "episodes": episodes}
    played = answered(node, REPLAY, request)
    for episode, found, (_, seed) in zip(episodes, played, seeds, strict=True):
        states, single = np.array(episode["states"][1:]), found["single"]
        assert np.abs(np.array([each["state"] for each in single]) - states).max() < 1e-13
        assert np.abs(np.array([each["obs"] for each in single]) - np.array(episode["obs"])).max() < 1e-6
        assert [(each["reward"], each["terminated"]) for each in single] == episode["ends"]
        # Some trajectories amplify rounding errors. A change of the start state by 1e-15 shows how much.
        rounding = np.abs(again(env_id, episode["actions"], seed, 1e-15) - states).max()
        assert np.abs(np.array(found["replayed"]) - states).max() <= max(1e-9, 100 * rounding)


def test_lander_approximates_gymnasium(node: str) -> None:
    assert node
    agent = DQN.pretrained("LunarLander-v3")
    episodes = [gymnasium_episode(agent, SCORE_SEEDS + index) for index in range(4)]
    played = javascript_episodes(agent, [{"random": each["random"]} for each in episodes])
    repeated = javascript_episodes(agent, [{key: each[key] for key in ("random", "actions")} for each in episodes])
    for episode, mine, same in zip(episodes, played, repeated, strict=True):
        assert mine["outcome"] == "landed"
        assert mine["total"] == pytest.approx(episode["total"], abs=40)
        drift = drifts(episode, same)
        assert drift[1] < 1e-5  # units of length: terrain, start state and masses are the same
        assert drift[10] < 1e-4
        assert drift[60] < 0.02


# The page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of all environments."""
    directory = tmp_path_factory.mktemp("pages")
    for env_id in javascript.DEMOS:
        page = javascript.demo(pretrained(env_id)[1])
        assert page is not None
        (directory / f"{env_id}.html").write_text(page, encoding="utf-8")
    return directory


def opened(visited: Visit, env_id: str) -> Page:
    visited.page.goto(f"{visited.origin}/{env_id}.html")
    return visited.page


def reading(page: Page) -> list[str]:
    """Return the shown observation."""
    return page.locator("#observation td").all_text_contents()


def test_other_environments_have_no_page() -> None:
    policy = pretrained("CartPole-v1")[1]
    assert javascript.demo(Policy("Taxi-v4", policy.entries, policy.actions, 0, policy.blocks, None)) is None
    assert javascript.demo(Policy("CartPole-v1", policy.entries[:2], policy.actions, 0, policy.blocks, None)) is None


@pytest.mark.parametrize("env_id", javascript.DEMOS)
def test_page_works_on_a_phone_from_a_file(browser: Browser, pages: Path, env_id: str) -> None:
    with visit(browser, pages.as_uri(), {"width": 360, "height": 740}, "dark") as visited:
        page = opened(visited, env_id)
        page.locator("#step").filter(has_not_text=re.compile(r"^[0-5]$")).wait_for()
        agent = DQN.pretrained(env_id)
        figures = page.locator("#q-values td.number").all_text_contents()
        assert len(figures) == agent.agent.actions
        assert all(re.fullmatch("\N{MINUS SIGN}?\\d+\\.\\d\\d", figure) for figure in figures)
        expect(page.locator("#q-values tr.chosen")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        colors = "new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
        assert page.evaluate(f"{{ const canvas = document.querySelector('canvas'); {colors} }}") > 3
        assert_accessible(page)
        assert [url for url in visited.requests if not url.startswith("data:")] == [f"{visited.origin}/{env_id}.html"]


def test_lander_above_the_view_has_a_marker(node: str) -> None:
    planck = DEMO.parent / "vendor" / "planck.min.js"
    request = {"planck": str(planck), "file": (DEMO / "lunar_lander.mjs").as_uri()}
    assert answered(node, VISIBLE, request) == [True] * 12


def test_page_contains_the_license_of_planck(pages: Path) -> None:
    def words(text: str) -> str:
        return " ".join(word for word in text.split() if word != "*")

    license_text = (DEMO.parent / "vendor" / "planck.LICENSE").read_text(encoding="utf-8")
    _, copyright_line, terms = license_text.split("\n", 2)
    page = (pages / "LunarLander-v3.html").read_text(encoding="utf-8")
    assert copyright_line.removeprefix("Copyright (c) ") in page
    assert words(terms) in words(page)


def test_resized_page_is_never_blank(browser: Browser, pages: Path) -> None:
    with visit(browser, pages.as_uri(), DESKTOP) as visited:
        page = opened(visited, "LunarLander-v3")
        # This observer runs after that of the page, in the same frame, before the browser paints.
        page.evaluate(RESIZED)
        page.set_viewport_size({"width": 360, "height": 740})
        page.wait_for_function("window.drawn !== undefined")
        assert page.evaluate("window.drawn")


def test_agent_balances_for_500_steps_on_the_page(browser: Browser, pages: Path) -> None:
    with visit(browser, pages.as_uri(), DESKTOP) as visited:
        page = opened(visited, "CartPole-v1")
        page.get_by_label("Speed").select_option("8")
        expect(page.locator("#history tbody tr").last).to_have_text(re.compile("^1balanced500$"))


def test_controls_change_the_episode(browser: Browser, pages: Path) -> None:
    with visit(browser, pages.as_uri(), DESKTOP) as visited:
        page = visited.page
        page.emulate_media(reduced_motion="reduce")
        opened(visited, "CartPole-v1")
        expect(page.locator("#banner")).to_have_text("Paused")  # because of the reduced motion
        before = reading(page)
        page.keyboard.press("ArrowRight")
        expect(page.locator("#observation td").last).not_to_have_text(before[-1])
        velocities = [float(values[-1].replace("\N{MINUS SIGN}", "-")) for values in (before, reading(page))]
        assert velocities[1] - velocities[0] == pytest.approx(0.6, abs=2e-3)
        page.get_by_role("button", name="Push left").click()
        expect(page.locator("#observation td").last).to_have_text(before[-1])
        page.keyboard.press("r")
        assert reading(page) == before
        page.get_by_role("button", name="New seed").click()
        expect(page.locator("#observation td").first).not_to_have_text(before[0])
        page.get_by_label("Play yourself").check()
        page.keyboard.down("ArrowRight")
        page.locator("#pause").click()
        expect(page.locator("#history tbody")).to_contain_text("fell (you)")
        page.keyboard.up("ArrowRight")
        assert_accessible(page)
