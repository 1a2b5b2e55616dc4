"""Make the pictures of docs/gallery.md: python docs/pictures/pretrained.py

Each picture shows one greedy episode of a pre-trained agent.
"""

from __future__ import annotations

from pathlib import Path

from perilune import DQN
from perilune.runs import pretrained

HERE = Path(__file__).parent
STEPS = {"CartPole-v1": 150}  # an episode of 500 steps is long and shows nothing new


def main() -> None:
    for env_id in pretrained.available():
        path = HERE / f"pretrained_{env_id}.gif"
        DQN.pretrained(env_id).record_video(path, max_episode_steps=STEPS.get(env_id))
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
