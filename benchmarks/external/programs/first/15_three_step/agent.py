import numpy as np

# n-step Q-learning, relu network, rewards scaled before they are stored
GAMMA = 0.99
N_STEP = 4
REWARD_SCALE = 0.1
LEARNING_RATE = 0.001
BATCH_SIZE = 64
MEMORY_SIZE = 15000
SYNC_STEPS = 200
EPS_START, EPS_END, EPS_DECAY_STEPS = 1.0, 0.05, 4000


def init_net(rng, n_in, n_out, width=64):
    layers = {}
    sizes = [n_in, width, width, n_out]
    for i in range(3):
        layers[f"W{i}"] = rng.normal(0, 1 / np.sqrt(sizes[i]), (sizes[i], sizes[i + 1]))
        layers[f"c{i}"] = np.zeros(sizes[i + 1])
    return layers


def net_forward(net, x):
    z0 = x @ net["W0"] + net["c0"]
    a0 = np.maximum(z0, 0)
    z1 = a0 @ net["W1"] + net["c1"]
    a1 = np.maximum(z1, 0)
    out = a1 @ net["W2"] + net["c2"]
    return {"x": x, "z0": z0, "a0": a0, "z1": z1, "a1": a1, "out": out}


def net_backward(net, f, dout):
    g = {"W2": f["a1"].T @ dout, "c2": dout.sum(0)}
    d1 = (dout @ net["W2"].T) * (f["a1"] > 0)
    g["W1"], g["c1"] = f["a0"].T @ d1, d1.sum(0)
    d0 = (d1 @ net["W1"].T) * (f["a0"] > 0)
    g["W0"], g["c0"] = f["x"].T @ d0, d0.sum(0)
    return g


def new_state(seed, n_obs, n_actions):
    rng = np.random.default_rng(seed)
    net = init_net(rng, n_obs, n_actions)
    return {
        "rng": rng, "n_actions": n_actions, "net": net,
        "target": {k: v.copy() for k, v in net.items()},
        "m": {k: np.zeros_like(v) for k, v in net.items()},
        "v": {k: np.zeros_like(v) for k, v in net.items()},
        "t": 0, "memory": [], "cursor": 0, "pending": [],
    }


def append(state, transition):
    if len(state["memory"]) < MEMORY_SIZE:
        state["memory"].append(transition)
    else:
        state["memory"][state["cursor"]] = transition
    state["cursor"] = (state["cursor"] + 1) % MEMORY_SIZE


def emit(state, next_obs, terminated):
    pending = state["pending"]
    ret = sum(GAMMA**k * r for k, (_, _, r) in enumerate(pending))
    obs, action, _ = pending.pop(0)
    append(state, (obs, action, ret, next_obs, float(terminated)))


def add_step(state, obs, action, reward, next_obs, terminated, truncated):
    pending = state["pending"]
    pending.append((obs, action, reward * REWARD_SCALE))
    if len(pending) == N_STEP:
        emit(state, next_obs, terminated)


def sample_batch(state, n):
    picks = state["rng"].integers(len(state["memory"]), size=n)
    columns = zip(*(state["memory"][i] for i in picks))
    return tuple(np.array(c) for c in columns)


def learn(state, obs, action, ret, next_obs, terminated):
    bootstrap = net_forward(state["target"], next_obs)["out"].max(axis=1)
    y = ret + GAMMA**N_STEP * bootstrap * (1 - terminated)
    f = net_forward(state["net"], obs)
    rows = np.arange(len(y))
    dout = np.zeros_like(f["out"])
    dout[rows, action] = (f["out"][rows, action] - y) / len(y)
    grads = net_backward(state["net"], f, dout)
    state["t"] += 1
    for k, g in grads.items():
        state["m"][k] += 0.1 * (g - state["m"][k])
        state["v"][k] += 0.001 * (g * g - state["v"][k])
        m_hat = state["m"][k] / (1 - 0.9 ** state["t"])
        v_hat = state["v"][k] / (1 - 0.999 ** state["t"])
        state["net"][k] = state["net"][k] - LEARNING_RATE * m_hat / (np.sqrt(v_hat) + 1e-8)


def sync(state):
    state["target"] = dict(state["net"])


def epsilon(step):
    return max(EPS_END, EPS_START - step * (EPS_START - EPS_END) / EPS_DECAY_STEPS)


def pick_action(state, obs, eps):
    if state["rng"].random() < eps:
        return int(state["rng"].integers(state["n_actions"]))
    return int(net_forward(state["net"], obs[None, :])["out"][0].argmax())


def loop(state, env, steps):
    scores, score = [], 0.0
    obs, _ = env.reset()
    for step in range(steps):
        action = pick_action(state, obs, epsilon(step))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        add_step(state, obs, action, reward, next_obs, terminated, truncated)
        score += reward
        if len(state["memory"]) >= 2 * BATCH_SIZE:
            learn(state, *sample_batch(state, BATCH_SIZE))
        if step % SYNC_STEPS == SYNC_STEPS - 1:
            sync(state)
        obs = next_obs
        if terminated or truncated:
            scores.append(score)
            score = 0.0
            obs, _ = env.reset()
    return scores


class Adapter:
    gamma = GAMMA
    n_step = N_STEP

    def __init__(self, seed, n_obs, n_actions):
        self.state = new_state(seed, n_obs, n_actions)
        self.observation_size = n_obs

    def q_values(self, obs):
        return net_forward(self.state["net"], obs)["out"]

    def target_q_values(self, obs):
        return net_forward(self.state["target"], obs)["out"]

    def sync_target(self):
        sync(self.state)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        learn(self.state, obs, action, reward, next_obs, terminated)

    def parameters(self):
        return self.state["net"]

    def target_parameters(self):
        return self.state["target"]

    def act(self, obs, epsilon):
        return pick_action(self.state, obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        add_step(self.state, obs, action, reward, next_obs, terminated, truncated)

    def sample(self, n):
        return sample_batch(self.state, n)

    def run(self, env, env_steps):
        loop(self.state, env, env_steps)


def make(seed=0):
    return Adapter(seed, 4, 2)
