"""Deep Q-learning in one file, with only NumPy and Gymnasium.

    python examples/one_file_dqn.py                                  # CartPole-v1, half a minute
    python examples/one_file_dqn.py Acrobot-v1 --steps 30000 --seed 7

Q(obs, action) is the discounted return of taking `action` and then always the best action. Therefore,
Q(obs, action) = reward + gamma max over a of Q(next_obs, a). The network starts with random weights. Each update moves
the left side a little toward the right side, for random transitions from the replay buffer (Mnih et al., Human-level
control through deep reinforcement learning, Nature 518, 2015). Start reading at `train`.

A test trains this file and the library with the same seed and checks that the weights are bit-for-bit identical.
"""

from __future__ import annotations

import argparse
import os
from itertools import pairwise

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported; threads do not speed up small matrices

import gymnasium as gym
import numpy as np

HIDDEN = (128, 128)  # units of the hidden layers
LEARNING_RATE = 1.5e-3  # initial value; it falls linearly to 0
HUBER_DELTA = 10.0  # the loss is quadratic up to this error and linear above it
BATCH_SIZE = 64
GAMMA = 0.99
TARGET_UPDATE_EVERY = 200  # environment steps
BUFFER_SIZE = 50_000  # transitions
WARMUP_STEPS = 1_000  # random actions that fill the buffer before learning starts
EPSILON_START, EPSILON_FLOOR, EPSILON_DECAY_STEPS = 1.0, 0.05, 10_000  # probability of a random action
REPORT_EVERY = 2_500  # environment steps

Array = np.ndarray
Network = list[Array]  # weight[inputs, outputs], bias[outputs], weight, bias, ...


def new_network(sizes: list[int], rng: np.random.Generator) -> Network:
    """Return weights ~ N(0, 2 / inputs) and biases 0 (He et al., arXiv:1502.01852)."""
    network = []
    for inputs, outputs in pairwise(sizes):
        network.append(rng.normal(0.0, (2 / inputs) ** 0.5, (inputs, outputs)).astype(np.float32))
        network.append(np.zeros(outputs, np.float32))
    return network


def forward(network: Network, x: Array) -> list[Array]:
    """Return the input of every layer, and the output: x[B, inputs], hidden[B, units], ..., q[B, actions].

    A layer computes y = x W + b. ReLU, max(0, y), follows each layer except the last.
    """
    values = [x]
    for weight, bias in zip(network[:-2:2], network[1:-2:2], strict=True):
        values.append(np.maximum(0, values[-1] @ weight + bias))
    values.append(values[-1] @ network[-2] + network[-1])
    return values


def backward(network: Network, values: list[Array], dy: Array) -> Network:
    """Return d loss / d network for dy = d loss / d q. Apply the chain rule from the last layer to the first.

    For y = x W + b, dW = x^T dy, db is the sum of dy over the batch, and dx = dy W^T is passed to the previous layer.
    """
    gradients = []
    ones = np.ones(len(dy), np.float32)
    for weight, x in zip(network[-2::-2], values[-2::-1], strict=True):
        gradients += [ones @ dy, x.T @ dy]  # ones @ dy sums over the batch, faster than sum()
        dy = dy @ weight.T * (x > 0)  # no gradient where ReLU returned 0
    return gradients[::-1]


def huber(error: Array) -> tuple[float, Array]:
    """Return the mean Huber loss (e^2 / 2 if |e| <= delta, else delta (|e| - delta / 2)) and its derivative."""
    clipped = np.clip(error, -HUBER_DELTA, HUBER_DELTA)  # c (e - c / 2) covers both cases
    return float(clipped @ (error - clipped / 2)) / len(error), clipped / len(error)


def adam(network: Network, gradients: Network, moments: tuple[Network, Network], update: int, rate: float) -> None:
    """Update the network in place with Adam (Kingma and Ba, arXiv:1412.6980).

    m and v are moving averages of the gradient g and of g^2. In update n, dividing by 1 - beta^n corrects their bias:
    w <- w - rate (m / (1 - beta1^n)) / (sqrt(v / (1 - beta2^n)) + epsilon). The code factors out both corrections.
    """
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    root = (1 - beta2**update) ** 0.5
    for w, g, m, v in zip(network, gradients, *moments, strict=True):
        m[:] = beta1 * m + (1 - beta1) * g
        v[:] = beta2 * v + (1 - beta2) * g**2
        w[:] -= rate * root / (1 - beta1**update) * (m / (np.sqrt(v) + epsilon * root))


def loss_and_gradients(online: Network, target: Network, batch: Array) -> tuple[float, Network]:
    """Return the loss between Q(obs, action) and reward + discount max over a of Q(next_obs, a), and its gradients."""
    next_q = forward(target, batch["next_obs"])[-1]
    td_target = batch["reward"] + batch["discount"] * next_q.max(axis=1)  # constant: receives no gradient
    values = forward(online, batch["obs"])
    taken = np.arange(len(batch)), batch["action"]
    loss, d_taken = huber(values[-1][taken] - td_target)
    d_q = np.zeros_like(values[-1])  # only the actions taken receive a gradient
    d_q[taken] = d_taken
    return loss, backward(online, values, d_q)


def greedy_action(network: Network, obs: Array) -> int:
    """Return the action with the highest Q-value."""
    return int(forward(network, np.asarray(obs, np.float32)[None])[-1].argmax())


def train(env: gym.Env, steps: int, seed: int) -> tuple[Network, list[float]]:
    """Train a network. Return the network and the return of every episode after the warm-up."""
    # One random generator per purpose, so that an additional draw from one does not change the others.
    weight_rng, action_rng, batch_rng, episode_rng = np.random.default_rng(seed).spawn(4)
    size, actions = env.observation_space.shape[0], int(env.action_space.n)
    online = new_network([size, *HIDDEN, actions], weight_rng)
    target = [w.copy() for w in online]  # constant between two copies, which stabilizes learning
    moments = [0 * w for w in online], [0 * w for w in online]
    row = [("obs", "f4", size), ("action", "i4"), ("reward", "f4"), ("discount", "f4"), ("next_obs", "f4", size)]
    memory = np.zeros(BUFFER_SIZE, row)
    rewards, losses, total, obs = [], [], 0.0, None
    for step in range(1, steps + 1):
        if obs is None:
            obs, _ = env.reset(seed=int(episode_rng.integers(2**30)))
        learning = step > WARMUP_STEPS
        progress = min(1.0, (step - 1 - WARMUP_STEPS) / EPSILON_DECAY_STEPS)
        epsilon = EPSILON_START + (EPSILON_FLOOR - EPSILON_START) * progress
        explore = not learning or action_rng.random() < epsilon
        action = int(action_rng.integers(actions)) if explore else greedy_action(online, obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        # No reward follows a termination. A truncated episode could have continued, so its future still counts.
        memory[(step - 1) % BUFFER_SIZE] = obs, action, reward, 0.0 if terminated else GAMMA, next_obs
        obs, total = next_obs, total + float(reward)
        if learning:
            batch = memory[batch_rng.integers(min(step, BUFFER_SIZE), size=BATCH_SIZE)]
            loss, gradients = loss_and_gradients(online, target, batch)
            losses.append(loss)
            adam(online, gradients, moments, len(losses), LEARNING_RATE - LEARNING_RATE * (step / steps))
        if step % TARGET_UPDATE_EVERY == 0:
            target = [w.copy() for w in online]
        if terminated or truncated or step == WARMUP_STEPS:
            if learning:
                rewards.append(total)
            obs, total = None, 0.0
        if step % REPORT_EVERY == 0 and rewards:
            print(
                f"step {step:7,}  episode {len(rewards):5,}  reward (last 20) {np.mean(rewards[-20:]):7.1f}  "
                f"loss {np.mean(losses[-REPORT_EVERY:]):8.4f}  epsilon {epsilon:.2f}"
            )
    return online, rewards


def evaluate(env: gym.Env, network: Network, episodes: int) -> list[float]:
    """Return the return of each greedy episode. The seeds never occur in training, where seeds are below 2^30."""
    returns = [0.0] * episodes
    for episode in range(episodes):
        obs, _ = env.reset(seed=2**30 + 2**29 + episode)
        ended = False
        while not ended:
            obs, reward, terminated, truncated, _ = env.step(greedy_action(network, obs))
            returns[episode] += float(reward)
            ended = terminated or truncated
    return returns


def main() -> None:
    """Train on the environment given on the command line and print the score."""
    parser = argparse.ArgumentParser(description="Train a DQN and evaluate it.")
    parser.add_argument("env", nargs="?", default="CartPole-v1", help="ID of a Gymnasium environment")
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps, including the warm-up")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training run")
    options = parser.parse_args()
    env = gym.make(options.env)
    network, _ = train(env, options.steps, options.seed)
    returns = evaluate(env, network, episodes=100)
    print(f"greedy, {len(returns)} episodes: mean {np.mean(returns):.1f}, lowest {min(returns):.1f}")


if __name__ == "__main__":
    main()
