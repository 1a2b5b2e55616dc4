"""Train the pre-trained agents and write their weights and manifest into the package.

    python examples/pretrain.py                    # all environments: about six minutes of CPU time
    python examples/pretrain.py LunarLander-v3     # one environment

Each agent is trained with the recommended preset and seed 0. This seed was fixed before the first training run and not
selected among several. The files contain the final weights, not those of the best evaluation. The score is that of 100
greedy episodes from start states that training never uses. On one machine, every run of this program writes the same
weights. The results are in docs/gallery.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from perilune import DQN, presets
from perilune.runs import files, manifest, pretrained
from perilune.runs.pretrained import PretrainedAgent, Score
from perilune.runs.weights import save_weights

ENVIRONMENTS = ("LunarLander-v3", "CartPole-v1", "Acrobot-v1", "MountainCar-v0")
SEED = 0
EPISODES = 100


def make(env_id: str, directory: Path, steps: int | None = None, episodes: int = EPISODES) -> PretrainedAgent:
    """Train and score one agent, and write its weights. ``steps`` is the budget, by default that of the preset."""
    budget = presets.preset(env_id).train.steps if steps is None else steps
    dqn = DQN(env_id, seed=SEED)
    dqn.train(steps=budget, eval_every=None, pictures=False)  # evaluations take time and do not affect the weights
    path = directory / f"{env_id}.safetensors"
    save_weights(path, dqn.agent, env_id, policy_only=True)
    result = dqn.evaluate(episodes)
    host = manifest.host()
    blas = " ".join(str(host["blas"][name]) for name in ("internal_api", "version", "architecture"))
    return PretrainedAgent(
        preset=presets.RECOMMENDED,
        seed=SEED,
        env_steps=dqn.agent.env_steps,
        score=Score.of(result),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        command=f"python examples/pretrain.py {env_id}",
        versions={name: host[name] for name in ("perilune", "python", "numpy", "gymnasium", "machine")}
        | {"blas": blas},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the pre-trained agents of Perilune.")
    parser.add_argument("environments", nargs="*", metavar="ENV", help="default: all")
    parser.add_argument("--out", type=Path, default=pretrained.DIRECTORY, help="default: the package")
    parser.add_argument("--steps", type=int, help="budget in environment steps, to try the program")
    options = parser.parse_args(arguments)
    if unknown := set(options.environments) - set(ENVIRONMENTS):
        parser.error(f"{', '.join(sorted(unknown))} is invalid: expected {', '.join(ENVIRONMENTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / pretrained.MANIFEST
    listed = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for env_id in options.environments or ENVIRONMENTS:
        agent = make(env_id, options.out, options.steps)
        listed[env_id] = msgspec.to_builtins(agent)
        files.write_json(path, {name: listed[name] for name in ENVIRONMENTS if name in listed})
        print(f"{env_id}: mean return {agent.score.mean:.2f}, SHA-256 {agent.sha256}")


if __name__ == "__main__":
    main()
