"""Mend examples/broken/classic.py as docs/why_does_my_dqn_not_learn.md does, and train what comes of it.

    python examples/mend_classic.py --mends 3 --out classic_3.py        # the agent after the first three mends
    python examples/mend_classic.py --mends 0 10 --seeds 0 1 2          # what these learn on LunarLander: minutes each
    python examples/mend_classic.py --plot mending.png                  # the training rewards of all that was trained

The mends are read from the document itself: each of its diffs is one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure

from perilune._utils.statistics import moving_average
from perilune.viz.plots import COLOURS

ROOT = Path(__file__).parents[1]
CLASSIC = ROOT / "examples" / "broken" / "classic.py"
DOCUMENT = ROOT / "docs" / "why_does_my_dqn_not_learn.md"
EPISODES = 100  # of the greedy evaluation, from start states of their own


def diffs() -> list[str]:
    """The document's diffs in their order."""
    return re.findall(r"```diff\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def mended(text: str, diff: str) -> str:
    """``text`` with ``diff`` applied; its parts stand between lines of @@.

    Raises:
        ValueError: what a part takes out stands in ``text`` not exactly once.
    """
    for part in diff.split("@@\n"):
        lines = part.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        if text.count(old) != 1:
            raise ValueError(f"this stands {text.count(old)} times in the agent, not once:\n{old}")
        text = text.replace(old, new)
    return text


def stage(mends: int) -> str:
    """The agent's text after the first ``mends`` mends."""
    text = CLASSIC.read_text(encoding="utf-8")
    for diff in diffs()[:mends]:
        text = mended(text, diff)
    return text


def load(file: Path) -> ModuleType:
    """The agent in ``file`` as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(file: Path, steps: int, seed: int) -> dict[str, list[float]]:
    """Train on LunarLander-v3: the reward of every episode of training, and greedily of 100 new ones."""
    module = load(file)
    env = gym.make("LunarLander-v3")
    env.reset(seed=seed)
    agent = module.Agent(8, 4, seed=seed)
    training = [float(reward) for reward in agent.train(env, steps)]
    greedy = []
    for episode in range(EPISODES):
        obs, _ = env.reset(seed=1_000_000 + episode)
        total, ended = 0.0, False
        while not ended:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs, 0.0))
            total, ended = total + float(reward), terminated or truncated
        greedy.append(total)
    return {"training": training, "greedy": greedy}


def draw(directory: Path, path: Path) -> None:
    """The training rewards of every stage that was trained with seed 0, over the share of the training."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    files = {mends: directory / f"classic_{mends}_seed_0.json" for mends in range(len(diffs()) + 1)}
    trained_stages = [mends for mends, file in files.items() if file.exists()]
    for mends, colour in zip(trained_stages, COLOURS, strict=False):
        rewards = json.loads(files[mends].read_text(encoding="utf-8"))["training"]
        smooth = moving_average(rewards, 50)[25:]
        share = np.linspace(0, 100, len(smooth))
        axes.plot(share, smooth, color=colour, linewidth=2.2 if mends == trained_stages[-1] else 1.3)
        axes.annotate(f" {mends}", (100, smooth[-1]), color=colour, va="center", annotation_clip=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the training in per cent")
    axes.set_ylabel("reward, mean of 50 episodes")
    axes.set_title("LunarLander-v3, by the number of mends", loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mends", type=int, nargs="*", help="after how many mends (default: every stage)")
    parser.add_argument("--out", type=Path, help="write the agent there, and train nothing")
    parser.add_argument("--plot", type=Path, help="draw what was trained with seed 0, and train nothing")
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    options = parser.parse_args()
    stages = options.mends or range(len(diffs()) + 1)
    if options.out is not None:
        options.out.write_text(stage(stages[-1]), encoding="utf-8")
        return
    directory = Path("runs") / "classic"
    if options.plot is not None:
        draw(directory, options.plot)
        return
    directory.mkdir(parents=True, exist_ok=True)
    for mends in stages:
        file = directory / f"classic_{mends}.py"
        file.write_text(stage(mends), encoding="utf-8")
        for seed in options.seeds:
            returns = trained(file, options.steps, seed)
            (directory / f"classic_{mends}_seed_{seed}.json").write_text(json.dumps(returns), encoding="utf-8")
            last, greedy = np.mean(returns["training"][-50:]), np.mean(returns["greedy"])
            print(f"{mends} mended, seed {seed}: last 50 episodes {last:.0f}, greedy {greedy:.0f}", flush=True)


if __name__ == "__main__":
    main()
