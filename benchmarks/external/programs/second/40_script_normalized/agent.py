import numpy as np

# A script in the old style: constants on top, functions below, all variables in one dict.

OBS, ACT, HID = 4, 2, 64
GAMMA = 0.98
LR, LR_END, LR_STEPS = 0.02, 0.005, 20_000
CLIP = 1.0
EPS, EPS_END, EPS_STEPS = 1.0, 0.05, 3000
SIZE, START, BATCH, EVERY, SYNC = 10_000, 200, 64, 2, 100
LO = np.array([-2.4, -3.0, -0.21, -3.0])
HI = -LO


def scale(obs):
    return np.clip(2 * (np.asarray(obs, dtype=np.float64) - LO) / (HI - LO) - 1, -5, 5)


def setup(seed):
    rng = np.random.default_rng(seed)

    def dense(a, b):
        return np.concatenate([rng.normal(0, np.sqrt(2 / a), (a, b)), np.zeros((1, b))])

    theta = [dense(OBS, HID), dense(HID, HID), dense(HID, ACT)]
    return {
        "rng": rng,
        "theta": theta,
        "theta_minus": [w.copy() for w in theta],
        "momentum": [np.zeros_like(w) for w in theta],
        "s": np.zeros((SIZE, OBS), np.float32),
        "a": np.zeros(SIZE, np.int64),
        "r": np.zeros(SIZE, np.float32),
        "s2": np.zeros((SIZE, OBS), np.float32),
        "end": np.zeros(SIZE, np.bool_),
        "stored": 0,
        "updates": 0,
    }


def forward(theta, x, tape=None):
    for i, w in enumerate(theta):
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)  # the last row of w is the bias
        if tape is not None:
            tape.append(x)
        x = x @ w
        if i < len(theta) - 1:
            x = np.maximum(x, 0.0)
    return x


def store(g, s, a, r, s2, end):
    i = g["stored"] % SIZE
    for k, value in zip(("s", "a", "r", "s2", "end"), (s, a, r, s2, end)):
        g[k][i] = value
    g["stored"] += 1


def batch(g, n):
    i = g["rng"].integers(0, min(g["stored"], SIZE), n)
    return tuple(g[k][i] for k in ("s", "a", "r", "s2", "end"))


def policy(g, s, eps):
    if g["rng"].random() < eps:
        return int(g["rng"].integers(ACT))
    return int(forward(g["theta"], scale(s)[None]).argmax())


def learn(g, s, a, r, s2, end):
    n, rows = len(a), np.arange(len(a))
    s, s2 = scale(s), scale(s2)
    best = forward(g["theta"], s2).argmax(axis=1)
    value = forward(g["theta_minus"], s2)[rows, best]
    y = r + GAMMA * np.where(end, 0.0, value)
    tape = []
    q = forward(g["theta"], s, tape)
    d = np.zeros_like(q)
    d[rows, a] = np.clip(q[rows, a] - y, -CLIP, CLIP) / n
    grads = []
    for w, x in zip(g["theta"][::-1], tape[::-1]):
        grads.append(x.T @ d)
        d = (d @ w.T)[:, :-1] * (x[:, :-1] > 0)
    lr = LR + (LR_END - LR) * min(1.0, g["updates"] / LR_STEPS)
    for w, m, grad in zip(g["theta"], g["momentum"], grads[::-1]):
        m *= 0.9
        m += 0.1 * grad
        w -= lr * m
    g["updates"] += 1
    if g["updates"] % SYNC == 0:
        sync(g)


def sync(g):
    g["theta_minus"] = [w.copy() for w in g["theta"]]


def main(g, env, steps):
    s = env.reset()[0]
    for _ in range(steps):
        eps = max(EPS_END, EPS - (EPS - EPS_END) * g["stored"] / EPS_STEPS)
        a = policy(g, s, eps)
        s2, r, terminated, truncated, _ = env.step(a)
        store(g, s, a, r, s2, terminated)
        if g["stored"] >= START and g["stored"] % EVERY == 0:
            learn(g, *batch(g, BATCH))
        s = env.reset()[0] if terminated or truncated else s2


class Adapter:
    gamma, observation_size = GAMMA, OBS

    def __init__(self, g):
        self.g = g

    def q_values(self, obs):
        return forward(self.g["theta"], scale(obs))

    def target_q_values(self, obs):
        return forward(self.g["theta_minus"], scale(obs))

    def sync_target(self):
        sync(self.g)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        learn(self.g, obs, np.asarray(action), np.asarray(reward), next_obs, np.asarray(terminated, dtype=bool))

    def act(self, obs, epsilon):
        return policy(self.g, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        store(self.g, obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return batch(self.g, n)

    def run(self, env, env_steps):
        main(self.g, env, env_steps)


def make(seed=0):
    return Adapter(setup(seed))
