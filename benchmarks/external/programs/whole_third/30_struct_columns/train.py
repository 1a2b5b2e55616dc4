"""CartPole with nothing but NumPy. Experience lives in packed bytes, weights in a dict,
the target network is a pickle that gets unpacked now and then."""
import math
import pickle
import random
import struct
import sys
from types import SimpleNamespace as NS

import gymnasium as gym
import numpy as np

PACK = struct.Struct("<4fif4f?")       # s, a, r, s', fell over

P = NS(episodes=900, gamma=0.98, lr=0.01, momentum=0.9, batch=32, keep=15000, begin=1000,
       freeze=600, scale=0.1, eps=(1.0, 0.02), eps_steps=8000, hidden=48)


def fresh(rng, n_in, n_hid, n_out):
    w = {}
    for name, (r, c) in {"A": (n_hid, n_in), "B": (n_hid, n_hid), "C": (n_out, n_hid)}.items():
        w[name] = rng.normal(0.0, math.sqrt(1.0 / c), (r, c))
        w[name.lower()] = np.zeros(r)
    return w


def run(w, x, trace=None):
    h = np.tanh(w["A"].dot(x) + w["a"])
    k = np.tanh(w["B"].dot(h) + w["b"])
    q = w["C"].dot(k) + w["c"]
    if trace is not None:
        trace.update(x=x, h=h, k=k)
    return q


def accumulate(grad, w, t, action, slope):
    """Adds the gradient of one sample; slope is dLoss/dQ(s, action)."""
    grad["C"][action] += slope * t["k"]
    grad["c"][action] += slope
    dk = slope * w["C"][action] * (1.0 - t["k"] ** 2)
    grad["B"] += np.outer(dk, t["h"])
    grad["b"] += dk
    dh = w["B"].T.dot(dk) * (1.0 - t["h"] ** 2)
    grad["A"] += np.outer(dh, t["x"])
    grad["a"] += dh


def learn(w, frozen, speed, shelf):
    grad = {k: np.zeros_like(v) for k, v in w.items()}
    for blob in random.choices(shelf, k=P.batch):
        rec = PACK.unpack(blob)
        s, a, r, s2, fell = np.array(rec[:4]), rec[4], rec[5], np.array(rec[6:10]), rec[10]
        y = r if fell else r + P.gamma * run(frozen, s2).max()
        t = {}
        q = run(w, s, t)[a]
        # log-cosh loss
        accumulate(grad, w, t, a, math.tanh(q - y))
    for k in w:
        speed[k] = P.momentum * speed[k] - P.lr * grad[k] / P.batch
        w[k] += speed[k]


def eps_now(steps):
    hi, lo = P.eps
    return lo + (hi - lo) * max(0.0, 1.0 - steps / P.eps_steps)


def main(seed):
    random.seed(seed)
    rng = np.random.default_rng(seed)
    env = gym.make("CartPole-v1")
    w = fresh(rng, 4, P.hidden, 2)
    speed = {k: np.zeros_like(v) for k, v in w.items()}
    frozen = pickle.loads(pickle.dumps(w))
    shelf, slot, steps, scores = [], 0, 0, {}

    for episode in range(P.episodes):
        s, _ = env.reset(seed=seed + episode)
        score, running = 0, True
        while running:
            a = random.getrandbits(1) if random.random() < eps_now(steps) else int(run(w, s).argmax())
            s2, r, fell, late, _ = env.step(a)
            blob = PACK.pack(*s, a, r * P.scale, *s2, fell)
            if len(shelf) < P.keep:
                shelf.append(blob)
            else:
                shelf[slot] = blob
                slot = (slot + 1) % P.keep
            s = s2
            score += 1
            steps += 1
            if len(shelf) >= P.begin:
                learn(w, frozen, speed, shelf)
            if steps % P.freeze == 0:
                frozen = pickle.loads(pickle.dumps(w))
            running = not (fell or late)
        scores[episode] = score
        if episode % 25 == 24:
            tail = list(scores.values())[-25:]
            sys.stdout.write(f"{episode + 1:4d} {sum(tail) / 25:7.1f}  steps {steps}  eps {eps_now(steps):.2f}\n")
            sys.stdout.flush()
            if sum(tail) / 25 > 490:
                break

    with open("weights.pkl", "wb") as fh:
        pickle.dump({"weights": w, "scores": scores}, fh)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
