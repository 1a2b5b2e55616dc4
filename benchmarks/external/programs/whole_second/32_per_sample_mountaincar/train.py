"""MountainCar, one transition at a time, radial features, dictionary memory."""
import itertools
import random

import gymnasium as gym
import numpy as np

LOW, HIGH = np.array([-1.2, -0.07]), np.array([0.6, 0.07])
GRID = np.array(list(itertools.product(np.linspace(0, 1, 9), np.linspace(0, 1, 9))))
N_FEAT = len(GRID)
SHAPE = 2 * 0.125 ** 2


def features(obs):
    x = (np.asarray(obs) - LOW) / (HIGH - LOW)
    f = np.exp(-((GRID - x) ** 2).sum(axis=1) / SHAPE)
    return f / f.sum()


class LinearQ:
    def __init__(self, n_actions=3):
        self.theta = [np.zeros(N_FEAT) for _ in range(n_actions)]     # zero is optimistic here: all rewards are -1

    def all(self, f):
        return [float(th.dot(f)) for th in self.theta]

    def clone(self):
        other = LinearQ(len(self.theta))
        other.theta = [th.copy() for th in self.theta]
        return other

    def nudge(self, f, action, error, rate):
        self.theta[action] += rate * error * f / f.dot(f)


class Box:
    """Dictionary keyed by serial number; the oldest keys are dropped."""

    def __init__(self, limit):
        self.limit, self.items, self.first, self.next = limit, {}, 0, 0

    def put(self, item):
        self.items[self.next] = item
        self.next += 1
        while len(self.items) > self.limit:
            del self.items[self.first]
            self.first += 1

    def draw(self):
        return self.items[random.randrange(self.first, self.next)]


random.seed(4)
env = gym.make("MountainCar-v0")
q = LinearQ()
old = q.clone()
box = Box(30_000)
gamma, rate, replays = 0.995, 0.1, 8
clock = 0
record = []

for game in range(800):
    eps = max(0.01, 0.2 * 0.99 ** game)
    obs, _ = env.reset()
    f = features(obs)
    moves = 0
    while True:
        values = q.all(f)
        if random.random() < eps:
            a = random.randrange(3)
        else:
            top = max(values)
            a = random.choice([i for i, v in enumerate(values) if v >= top - 1e-12])
        obs, reward, goal, timeout, _ = env.step(a)
        g = features(obs)
        box.put({"f": f, "a": a, "r": reward, "g": g, "goal": goal})
        f = g
        moves += 1
        clock += 1
        if clock > 500:
            for _ in range(replays):
                m = box.draw()
                y = m["r"] if m["goal"] else m["r"] + gamma * max(old.all(m["g"]))
                err = y - float(q.theta[m["a"]].dot(m["f"]))
                q.nudge(m["f"], m["a"], err, rate)
        if clock % 250 == 0:
            old = q.clone()
        if goal or timeout:
            break
    record.append(moves)
    if game % 10 == 9:
        print(f"game {game + 1}: moves {moves}, mean of the last ten {np.mean(record[-10:]):.0f}, eps {eps:.3f}")

np.save("theta.npy", np.array(q.theta))
