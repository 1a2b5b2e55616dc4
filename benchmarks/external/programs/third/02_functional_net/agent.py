"""Functional DQN: parameters live in a dict, every function is pure apart from the optimizer."""
import numpy as np

GAMMA = 0.99
LR = 5e-4
HIDDEN = 64
BATCH = 64
CAPACITY = 20_000
START = 500
SYNC_EVERY = 250


def init_params(rng, n_obs, n_actions):
    def glorot(i, o):
        limit = np.sqrt(6 / (i + o))
        return rng.uniform(-limit, limit, (i, o))

    return {
        "W1": glorot(n_obs, HIDDEN), "b1": np.zeros(HIDDEN),
        "W2": glorot(HIDDEN, HIDDEN), "b2": np.zeros(HIDDEN),
        "W3": glorot(HIDDEN, n_actions), "b3": np.zeros(n_actions),
    }


def forward(p, x):
    h1 = np.maximum(0, x @ p["W1"] + p["b1"])
    h2 = np.maximum(0, h1 @ p["W2"] + p["b2"])
    q = h2 @ p["W3"] + p["b3"]
    return q, (x, h1, h2)


def backward(p, cache, dq):
    x, h1, h2 = cache
    g = {"W3": h2.T @ dq, "b3": dq.sum(0)}
    d2 = (dq @ p["W3"].T) * (h2 > 0)
    g["W2"], g["b2"] = h1.T @ d2, d2.sum(0)
    d1 = (d2 @ p["W2"].T) * (h2 > 0)
    g["W1"], g["b1"] = x.T @ d1, d1.sum(0)
    return g


def init_opt(p):
    return {"t": 0, "m": {k: np.zeros_like(v) for k, v in p.items()}, "v": {k: np.zeros_like(v) for k, v in p.items()}}


def adam_step(p, g, opt, lr=LR, b1=0.9, b2=0.999, eps=1e-8):
    opt["t"] += 1
    for k in p:
        opt["m"][k] = b1 * opt["m"][k] + (1 - b1) * g[k]
        opt["v"][k] = b2 * opt["v"][k] + (1 - b2) * g[k] ** 2
        mh = opt["m"][k] / (1 - b1 ** opt["t"])
        vh = opt["v"][k] / (1 - b2 ** opt["t"])
        p[k] = p[k] - lr * mh / (np.sqrt(vh) + eps)


def td_update(p, target, opt, batch, gamma=GAMMA):
    s, a, r, s2, term = batch
    y = r + gamma * (1.0 - term) * forward(target, s2)[0].max(axis=1)
    q, cache = forward(p, s)
    idx = np.arange(len(a))
    err = q[idx, a] - y
    dq = np.zeros_like(q)
    dq[idx, a] = np.clip(err, -1, 1) / len(a)
    adam_step(p, backward(p, cache, dq), opt)
    return float(np.mean(err ** 2))


def epsilon_greedy(rng, p, s, eps):
    q = forward(p, s[None])[0][0]
    return int(rng.integers(len(q))) if rng.random() < eps else int(q.argmax())


def new_state(n_obs, n_actions, seed=0):
    rng = np.random.default_rng(seed)
    p = init_params(rng, n_obs, n_actions)
    return {"rng": rng, "p": p, "target": {k: v.copy() for k, v in p.items()}, "opt": init_opt(p), "mem": [], "pos": 0}


def store(st, item):
    if len(st["mem"]) < CAPACITY:
        st["mem"].append(item)
    else:
        st["mem"][st["pos"]] = item
    st["pos"] = (st["pos"] + 1) % CAPACITY


def draw(st, n):
    idx = st["rng"].integers(len(st["mem"]), size=n)
    s, a, r, s2, d = zip(*(st["mem"][i] for i in idx))
    return np.array(s), np.array(a), np.array(r), np.array(s2), np.array(d, dtype=float)


def sync(st):
    st["target"] = {k: v.copy() for k, v in st["p"].items()}


def train(st, env, steps):
    s, _ = env.reset()
    history, score = [], 0.0
    for step in range(1, steps + 1):
        eps = max(0.05, 1.0 - step / 5000)
        a = epsilon_greedy(st["rng"], st["p"], s, eps)
        s2, r, term, trunc, _ = env.step(a)
        store(st, (s, a, r, s2, term))
        score += r
        s = s2
        if term or trunc:
            history.append(score)
            score = 0.0
            s, _ = env.reset()
        if len(st["mem"]) >= min(START, steps // 3):
            td_update(st["p"], st["target"], st["opt"], draw(st, BATCH))
        if step % SYNC_EVERY == 0:
            sync(st)
    return history


class Adapter:
    gamma = GAMMA

    def __init__(self, n_obs, n_actions, seed):
        self.observation_size = n_obs
        self.state = new_state(n_obs, n_actions, seed)

    def q_values(self, obs):
        return forward(self.state["p"], obs)[0]

    def target_q_values(self, obs):
        return forward(self.state["target"], obs)[0]

    def train_batch(self, obs, action, reward, next_obs, terminated):
        batch = (obs, action, reward, next_obs, np.asarray(terminated, dtype=float))
        td_update(self.state["p"], self.state["target"], self.state["opt"], batch)

    def sync_target(self):
        sync(self.state)

    def act(self, obs, epsilon):
        return epsilon_greedy(self.state["rng"], self.state["p"], obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        store(self.state, (obs, action, reward, next_obs, terminated))

    def sample(self, n):
        return draw(self.state, n)

    def parameters(self):
        return self.state["p"]

    def target_parameters(self):
        return self.state["target"]

    def run(self, env, env_steps):
        return train(self.state, env, env_steps)


def make(seed=0):
    return Adapter(4, 2, seed)
