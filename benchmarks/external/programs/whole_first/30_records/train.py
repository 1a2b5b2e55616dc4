# DQN with a record array as memory and a loop over the single samples.
# The gradient of the whole handful is summed first, then applied once.
import datetime
import json
import math
import random

import gymnasium as gym
import numpy as np

record = np.dtype([("s", "f8", (4,)), ("a", "i4"), ("r", "f8"), ("s2", "f8", (4,)), ("ended", "?")])
memory = np.recarray(15000, dtype=record)
used = 0
cursor = 0

HIDDEN = 36
HANDFUL = 20
GAMMA = 0.98


def new_weights():
    return {
        "in": np.random.uniform(-1, 1, (HIDDEN, 5)) * math.sqrt(6 / (5 + HIDDEN)),
        "out": np.random.uniform(-1, 1, (2, HIDDEN + 1)) * math.sqrt(6 / (HIDDEN + 3)),
    }


def q(weights, s):
    x = np.append(s, 1.0)                       # last entry is the bias
    pre = weights["in"].dot(x)
    h = np.append(np.where(pre > 0, pre, 0.1 * pre), 1.0)
    return weights["out"].dot(h), x, pre, h


def freeze(weights):
    return {k: [list(row) for row in v] for k, v in weights.items()}


def thaw(frozen):
    return {k: np.array(v) for k, v in frozen.items()}


def learn(weights, reference, velocity, rate):
    total = {k: np.zeros_like(v) for k, v in weights.items()}
    mean_error = 0.0
    for i in random.sample(range(used), HANDFUL):
        t = memory[i]
        goal = t.r
        if not t.ended:
            goal += GAMMA * q(reference, t.s2)[0].max()
        out, x, pre, h = q(weights, t.s)
        err = out[t.a] - goal
        mean_error += abs(err) / HANDFUL
        d_out = np.zeros(2)
        d_out[t.a] = min(1.0, max(-1.0, err))
        d_pre = weights["out"].T.dot(d_out)[:-1] * np.where(pre > 0, 1.0, 0.1)
        total["out"] += np.outer(d_out, h)
        total["in"] += np.outer(d_pre, x)
    for k in weights:
        g = total[k] / HANDFUL
        velocity[k] *= 0.99
        velocity[k] += 0.01 * g * g
        weights[k] -= rate * g / (np.sqrt(velocity[k]) + 1e-4)
    return mean_error


def keep(s, a, r, s2, ended):
    global used, cursor
    memory[cursor] = (s, a, r, s2, ended)
    cursor = (cursor + 1) % len(memory)
    used = min(used + 1, len(memory))


env = gym.make("CartPole-v1")
weights = new_weights()
velocity = {k: np.zeros_like(v) for k, v in weights.items()}
reference = thaw(freeze(weights))
clock = 0
diary = open("diary.jsonl", "w")
durations = []

for episode in range(1000):
    curiosity = 0.02 + 0.98 * math.exp(-episode / 80)
    rate = 1e-3 if episode < 600 else 4e-4
    s, _ = env.reset()
    t, error = 0, None
    while True:
        a = random.getrandbits(1) if random.random() < curiosity else int(q(weights, s)[0].argmax())
        s2, r, fell, out_of_time, _ = env.step(a)
        keep(s, a, r, s2, fell)
        s = s2
        t += 1
        clock += 1
        if used >= 500:
            error = learn(weights, reference, velocity, rate)
        if clock % 250 == 0:
            reference = thaw(freeze(weights))
        if fell or out_of_time:
            break
    durations.append(t)
    diary.write(json.dumps({"episode": episode, "steps": t, "error": error,
                            "when": datetime.datetime.now().isoformat()}) + "\n")
    diary.flush()
    if episode % 20 == 0:
        print("episode", episode, "steps", t, "mean of 40", sum(durations[-40:]) / len(durations[-40:]), "error", error)
    if len(durations) > 100 and min(durations[-30:]) == 500:
        print("thirty full episodes in a row, stopping")
        break

diary.close()
with open("weights.json", "w") as f:
    json.dump(freeze(weights), f, default=float)
