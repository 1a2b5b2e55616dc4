# q-learning with a two hidden layer net, no frameworks
import numpy as np

N_OBS, N_ACTIONS, H = 4, 2, 48
GAMMA = 0.98
LR = 1e-3
BATCH = 32
BUFFER = 20000
WARMUP = 500
SYNC = 250
CLIP = 10.0

rng = None
params = {}
target_params = {}
moments = {}
counters = {}
replay = {}


def he(n_in, n_out):
    return rng.standard_normal((n_in, n_out)) * np.sqrt(2 / n_in)


def setup(seed=0):
    global rng, params, moments, counters, replay
    rng = np.random.default_rng(seed)
    params = {
        "W1": he(N_OBS, H), "b1": np.zeros(H),
        "W2": he(H, H), "b2": np.zeros(H),
        "W3": he(H, N_ACTIONS) * 0.1, "b3": np.zeros(N_ACTIONS),
    }
    moments = {k: [np.zeros_like(v), np.zeros_like(v)] for k, v in params.items()}
    counters = {"updates": 0, "size": 0, "pos": 0}
    replay = {
        "s": np.zeros((BUFFER, N_OBS)), "a": np.zeros(BUFFER, dtype=int), "r": np.zeros(BUFFER),
        "s2": np.zeros((BUFFER, N_OBS)), "d": np.zeros(BUFFER),
    }
    sync()


def sync():
    global target_params
    target_params = {k: v.copy() for k, v in params.items()}


def forward(x, p):
    z1 = x @ p["W1"] + p["b1"]
    h1 = np.maximum(z1, 0)
    z2 = h1 @ p["W2"] + p["b2"]
    h2 = np.maximum(z2, 0)
    q = h2 @ p["W3"] + p["b3"]
    return q, (x, z1, h1, z2, h2)


def backward(dq, cache, p):
    x, z1, h1, z2, h2 = cache
    g = {}
    g["W3"], g["b3"] = h2.T @ dq, dq.sum(0)
    d2 = (dq @ p["W3"].T) * (z2 > 0)
    g["W2"], g["b2"] = h1.T @ d2, d2.sum(0)
    d1 = (d2 @ p["W2"].T) * (z2 > 0)
    g["W1"], g["b1"] = x.T @ d1, d1.sum(0)
    return g


def adam_step(g):
    counters["updates"] += 1
    t = counters["updates"]
    norm = np.sqrt(sum(np.sum(v ** 2) for v in g.values()))
    scale = min(1.0, CLIP / (norm + 1e-6))
    for k in params:
        m, v = moments[k]
        m[:] = 0.9 * m + 0.1 * g[k] * scale
        v[:] = 0.999 * v + 0.001 * (g[k] * scale) ** 2
        params[k] = params[k] - LR * (m / (1 - 0.9 ** t)) / (np.sqrt(v / (1 - 0.999 ** t)) + 1e-8)


def learn(s, a, r, s2, d):
    next_q, _ = forward(s2, target_params)
    y = r + GAMMA * next_q.max(axis=1) * (1 - d)
    q, cache = forward(s, params)
    i = np.arange(len(a))
    dq = np.zeros_like(q)
    dq[i, a] = (q[i, a] - y) / len(a)
    adam_step(backward(dq, cache, params))
    if counters["updates"] % SYNC == 0:
        sync()


def store(s, a, r, s2, d):
    i = counters["pos"]
    replay["s"][i], replay["a"][i], replay["r"][i], replay["s2"][i], replay["d"][i] = s, a, r, s2, d
    counters["pos"] = (i + 1) % BUFFER
    counters["size"] = min(counters["size"] + 1, BUFFER)


def draw(n):
    i = rng.integers(counters["size"], size=n)
    return replay["s"][i], replay["a"][i], replay["r"][i], replay["s2"][i], replay["d"][i]


def choose(s, eps):
    if rng.random() < eps:
        return int(rng.integers(N_ACTIONS))
    q, _ = forward(s[None, :], params)
    return int(q[0].argmax())


def train(env, steps):
    s, _ = env.reset()
    score, scores = 0, []
    for t in range(steps):
        eps = max(0.02, 1.0 - t / (0.3 * steps))
        a = choose(s, eps)
        s2, r, terminated, truncated, _ = env.step(a)
        store(s, a, r, s2, terminated)
        score += r
        s = s2
        if terminated or truncated:
            scores.append(score)
            score = 0
            s, _ = env.reset()
        if counters["size"] >= min(WARMUP, steps // 4):
            learn(*draw(BATCH))
    return scores


class Adapter:
    gamma = GAMMA
    observation_size = N_OBS

    def __init__(self, seed):
        setup(seed)

    def q_values(self, obs):
        return forward(obs, params)[0]

    def target_q_values(self, obs):
        return forward(obs, target_params)[0]

    def sync_target(self):
        sync()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        learn(obs, action, reward, next_obs, np.asarray(terminated, float))

    def act(self, obs, epsilon):
        return choose(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        store(obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return draw(n)

    def run(self, env, env_steps):
        return train(env, env_steps)

    def parameters(self):
        return params

    def target_parameters(self):
        return target_params


def make(seed=0):
    return Adapter(seed)
