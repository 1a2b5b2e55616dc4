"""DQN with proportional prioritized replay, NumPy only. Parameters live in one dict."""
import numpy as np

HP = dict(gamma=0.98, lr=0.005, momentum=0.9, clip=1.0, batch=32, size=8192, alpha=0.6, beta0=0.4,
          beta_steps=20000, prio_eps=1e-3, target_tau=0.02, eps0=1.0, eps1=0.04, eps_half_life=1200)


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def build(rng, n_obs, n_act, h=64):
    scale = lambda fan: np.sqrt(2.0 / fan)
    return {"W1": rng.normal(size=(n_obs, h)) * scale(n_obs), "b1": np.zeros(h),
            "W2": rng.normal(size=(h, h)) * scale(h), "b2": np.zeros(h),
            "W3": rng.normal(size=(h, n_act)) * 0.05, "b3": np.zeros(n_act)}


def q_function(theta, s):
    z1 = s @ theta["W1"] + theta["b1"]
    h1 = leaky(z1)
    z2 = h1 @ theta["W2"] + theta["b2"]
    h2 = leaky(z2)
    return h2 @ theta["W3"] + theta["b3"], (s, z1, h1, z2, h2)


def backward(theta, cache, dq):
    s, z1, h1, z2, h2 = cache
    g = {}
    g["W3"], g["b3"] = h2.T @ dq, dq.sum(axis=0)
    d2 = dq @ theta["W3"].T * np.where(z2 > 0, 1.0, 0.01)
    g["W2"], g["b2"] = h1.T @ d2, d2.sum(axis=0)
    d1 = d2 @ theta["W2"].T * np.where(z1 > 0, 1.0, 0.01)
    g["W1"], g["b1"] = s.T @ d1, d1.sum(axis=0)
    return g


def per_new(size, n_obs):
    return {"s": np.zeros((size, n_obs)), "a": np.zeros(size, np.int64), "r": np.zeros(size),
            "s2": np.zeros((size, n_obs)), "done": np.zeros(size), "p": np.zeros(size), "next": 0, "len": 0}


def per_add(mem, s, a, r, s2, done):
    i = mem["next"]
    mem["s"][i], mem["a"][i], mem["r"][i], mem["s2"][i], mem["done"][i] = s, a, r, s2, done
    mem["p"][i] = mem["p"].max() if mem["len"] else 1.0
    mem["next"] = (i + 1) % len(mem["p"])
    mem["len"] = min(mem["len"] + 1, len(mem["p"]))


def per_sample(mem, k, beta, rng):
    p = mem["p"][:mem["len"]] ** HP["alpha"]
    p = p / p.sum()
    idx = rng.choice(mem["len"], size=k, p=p)
    w = (mem["len"] * p[idx]) ** -beta
    return idx, w / w.max(), (mem["s"][idx], mem["a"][idx], mem["r"][idx], mem["s2"][idx], mem["done"][idx])


def per_update(mem, idx, td):
    mem["p"][idx] = np.abs(td) + HP["prio_eps"]


def new(seed, n_obs, n_act):
    rng = np.random.default_rng(seed)
    theta = build(rng, n_obs, n_act)
    return {"rng": rng, "theta": theta, "theta_target": {k: v.copy() for k, v in theta.items()},
            "vel": {k: np.zeros_like(v) for k, v in theta.items()}, "mem": per_new(HP["size"], n_obs),
            "n_act": n_act, "n_obs": n_obs}


def step_update(ag, s, a, r, s2, done, weights=None):
    theta = ag["theta"]
    n = len(a)
    weights = np.ones(n) if weights is None else weights
    next_value = q_function(ag["theta_target"], s2)[0].max(axis=1)
    target = r + HP["gamma"] * np.where(done, 0.0, next_value)
    q, cache = q_function(theta, s)
    td = q[np.arange(n), a] - target
    dq = np.zeros_like(q)
    dq[np.arange(n), a] = weights * np.clip(td, -HP["clip"], HP["clip"]) / n
    for k, g in backward(theta, cache, dq).items():
        ag["vel"][k] = HP["momentum"] * ag["vel"][k] - HP["lr"] * g
        theta[k] += ag["vel"][k]
    return td


def polyak(ag):
    tau = HP["target_tau"]
    for k in ag["theta"]:
        ag["theta_target"][k] = (1 - tau) * ag["theta_target"][k] + tau * ag["theta"][k]


def egreedy(ag, s, eps):
    if ag["rng"].uniform() < eps:
        return int(ag["rng"].integers(ag["n_act"]))
    return int(np.argmax(q_function(ag["theta"], s[None])[0]))


def interact(ag, env, steps):
    s, _ = env.reset()
    returns, g = [], 0.0
    for t in range(steps):
        eps = HP["eps1"] + (HP["eps0"] - HP["eps1"]) * 0.5 ** (t / HP["eps_half_life"])
        a = egreedy(ag, s, eps)
        s2, r, term, trunc, _ = env.step(a)
        per_add(ag["mem"], s, a, r, s2, term)
        g += r
        if ag["mem"]["len"] > 100:
            beta = min(1.0, HP["beta0"] + (1 - HP["beta0"]) * t / HP["beta_steps"])
            idx, w, batch = per_sample(ag["mem"], HP["batch"], beta, ag["rng"])
            per_update(ag["mem"], idx, step_update(ag, *batch, weights=w))
            polyak(ag)
        s = s2
        if term or trunc:
            returns.append(g)
            g = 0.0
            s, _ = env.reset()
    return returns


class Adapter:
    def __init__(self, ag):
        self.ag, self.gamma, self.observation_size = ag, HP["gamma"], ag["n_obs"]

    def q_values(self, obs):
        return q_function(self.ag["theta"], obs)[0]

    def target_q_values(self, obs):
        return q_function(self.ag["theta_target"], obs)[0]

    def sync_target(self):
        polyak(self.ag)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        step_update(self.ag, obs, action, reward, next_obs, terminated)

    def act(self, obs, epsilon):
        return egreedy(self.ag, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        per_add(self.ag["mem"], obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return per_sample(self.ag["mem"], n, 1.0, self.ag["rng"])[2]

    def parameters(self):
        return self.ag["theta"]

    def target_parameters(self):
        return self.ag["theta_target"]

    def run(self, env, env_steps):
        interact(self.ag, env, env_steps)


def make(seed=0):
    return Adapter(new(seed, 4, 2))
