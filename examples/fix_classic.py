"""Apply the fixes in docs/tutorials/find-the-bug.md to examples/broken/classic.py, and train the fixed agent.

    python examples/fix_classic.py --fixes 3 --out classic_3.py        # write the agent with the first three fixes
    python examples/fix_classic.py --fixes 0 10 --seeds 0 1 2          # train both on LunarLander; minutes per seed
    python examples/fix_classic.py --plot fixing.png                  # plot the training rewards

The script reads the fixes from the tutorial. Each diff block is one fix.
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
from perilune.viz.figures import COLORS

ROOT = Path(__file__).parents[1]
CLASSIC = ROOT / "examples" / "broken" / "classic.py"
DOCUMENT = ROOT / "docs/tutorials/find-the-bug.md"
EPISODES = 100  # greedy episodes per evaluation


def diffs() -> list[str]:
    """Return the diffs of the tutorial, in order."""
    return re.findall(r"```diff\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def fixed(text: str, diff: str) -> str:
    """Return ``text`` with ``diff`` applied. Lines that contain only @@ separate the parts of a diff.

    Raises:
        ValueError: The old text of a part does not occur exactly once.
    """
    for part in diff.split("@@\n"):
        lines = part.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        if text.count(old) != 1:
            raise ValueError(f"expected this text once in the agent, found it {text.count(old)} times:\n{old}")
        text = text.replace(old, new)
    return text


def stage(fixes: int) -> str:
    """Return the source of the agent after the first ``fixes`` fixes."""
    text = CLASSIC.read_text(encoding="utf-8")
    for diff in diffs()[:fixes]:
        text = fixed(text, diff)
    return text


def load(file: Path) -> ModuleType:
    """Load the agent in ``file`` as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(file: Path, steps: int, seed: int) -> dict[str, list[float]]:
    """Train on LunarLander-v3. Return the returns of all training episodes and of 100 greedy episodes."""
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
    """Plot the training rewards of each stage that has been trained with seed 0."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    files = {fixes: directory / f"classic_{fixes}_seed_0.json" for fixes in range(len(diffs()) + 1)}
    trained_stages = [fixes for fixes, file in files.items() if file.exists()]
    for fixes, color in zip(trained_stages, COLORS, strict=False):
        rewards = json.loads(files[fixes].read_text(encoding="utf-8"))["training"]
        smooth = moving_average(rewards, 50)[25:]
        share = np.linspace(0, 100, len(smooth))
        axes.plot(share, smooth, color=color, linewidth=2.2 if fixes == trained_stages[-1] else 1.3)
        axes.annotate(f" {fixes}", (100, smooth[-1]), color=color, va="center", annotation_clip=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("training progress (%)")
    axes.set_ylabel("reward, mean of 50 episodes")
    axes.set_title("LunarLander-v3, by the number of fixes", loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixes", type=int, nargs="*", help="numbers of fixes to apply (default: every stage)")
    parser.add_argument("--out", type=Path, help="write the agent of the last stage to this file and exit")
    parser.add_argument("--plot", type=Path, help="plot the stages trained with seed 0 to this file and exit")
    parser.add_argument("--steps", type=int, default=300_000, help="environment steps (default: 300,000)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="seeds to train (default: 0)")
    options = parser.parse_args()
    stages = options.fixes or range(len(diffs()) + 1)
    if options.out is not None:
        options.out.write_text(stage(stages[-1]), encoding="utf-8")
        return
    directory = Path("runs") / "classic"
    if options.plot is not None:
        draw(directory, options.plot)
        return
    directory.mkdir(parents=True, exist_ok=True)
    for fixes in stages:
        file = directory / f"classic_{fixes}.py"
        file.write_text(stage(fixes), encoding="utf-8")
        for seed in options.seeds:
            returns = trained(file, options.steps, seed)
            (directory / f"classic_{fixes}_seed_{seed}.json").write_text(json.dumps(returns), encoding="utf-8")
            last, greedy = np.mean(returns["training"][-50:]), np.mean(returns["greedy"])
            print(f"{fixes} fixes, seed {seed}: last 50 episodes {last:.0f}, greedy {greedy:.0f}", flush=True)


if __name__ == "__main__":
    main()
