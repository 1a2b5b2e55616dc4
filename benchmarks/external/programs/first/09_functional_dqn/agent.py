"""Q-learning with a small neural network; everything is a function on dicts of arrays."""
import numpy as np

CONFIG = {
    "gamma": 0.99,
    "lr": 1e-3,
    "hidden": 64,
    "batch": 64,
    "capacity": 20000,
    "target_every": 300,
    "start": 200,
    "eps_end": 0.05,
    "eps_steps": 5000,
}


def init_params(n_obs, n_hidden, n_actions, rng):
    return {
        "w1": rng.normal(size=(n_obs, n_hidden)) * np.sqrt(2 / n_obs),
        "b1": np.zeros(n_hidden),
        "w2": rng.normal(size=(n_hidden, n_actions)) * np.sqrt(1 / n_hidden),
        "b2": np.zeros(n_actions),
    }


def copy_params(params):
    return dict(params)


def forward(params, x):
    hidden = np.maximum(x @ params["w1"] + params["b1"], 0)
    return hidden @ params["w2"] + params["b2"], hidden


def td_target(target_params, reward, next_obs, terminated, gamma):
    q_next, _ = forward(target_params, next_obs)
    return reward + gamma * (1 - terminated) * q_next.max(axis=1)


def loss_and_grads(params, obs, action, y):
    q, hidden = forward(params, obs)
    rows = np.arange(len(obs))
    diff = q[rows, action] - y
    loss = 0.5 * np.mean(diff**2)
    dq = np.zeros_like(q)
    dq[rows, action] = diff / len(obs)
    dh = dq @ params["w2"].T
    dh[hidden <= 0] = 0
    grads = {
        "w2": hidden.T @ dq,
        "b2": dq.sum(axis=0),
        "w1": obs.T @ dh,
        "b1": dh.sum(axis=0),
    }
    return loss, grads


def adam_init(params):
    return {"t": 0, "m": {k: 0 * v for k, v in params.items()}, "v": {k: 0 * v for k, v in params.items()}}


def adam_update(params, grads, opt, lr, b1=0.9, b2=0.999, eps=1e-7):
    opt["t"] += 1
    correction = np.sqrt(1 - b2 ** opt["t"]) / (1 - b1 ** opt["t"])
    for k in params:
        opt["m"][k] = b1 * opt["m"][k] + (1 - b1) * grads[k]
        opt["v"][k] = b2 * opt["v"][k] + (1 - b2) * grads[k] ** 2
        params[k] -= lr * correction * opt["m"][k] / (np.sqrt(opt["v"][k]) + eps)


def make_buffer(capacity, n_obs):
    return {
        "obs": np.zeros((capacity, n_obs)), "action": np.zeros(capacity, int),
        "reward": np.zeros(capacity), "next_obs": np.zeros((capacity, n_obs)),
        "terminated": np.zeros(capacity), "n": 0,
    }


def buffer_add(buffer, obs, action, reward, next_obs, terminated):
    i = buffer["n"] % len(buffer["reward"])
    buffer["obs"][i] = obs
    buffer["action"][i] = action
    buffer["reward"][i] = reward
    buffer["next_obs"][i] = next_obs
    buffer["terminated"][i] = terminated
    buffer["n"] += 1


def buffer_sample(buffer, size, rng):
    i = rng.integers(min(buffer["n"], len(buffer["reward"])), size=size)
    return tuple(buffer[k][i] for k in ("obs", "action", "reward", "next_obs", "terminated"))


def epsilon_at(step, config):
    fraction = min(step / config["eps_steps"], 1.0)
    return 1.0 + fraction * (config["eps_end"] - 1.0)


def select_action(params, obs, epsilon, n_actions, rng):
    if rng.random() < epsilon:
        return int(rng.integers(n_actions))
    q, _ = forward(params, obs[None])
    return int(q.argmax())


def new_agent(n_obs, n_actions, seed, config=CONFIG):
    rng = np.random.default_rng(seed)
    params = init_params(n_obs, config["hidden"], n_actions, rng)
    return {
        "config": config, "rng": rng, "n_obs": n_obs, "n_actions": n_actions, "params": params,
        "target": copy_params(params), "opt": adam_init(params),
        "buffer": make_buffer(config["capacity"], n_obs),
    }


def update(agent, batch):
    obs, action, reward, next_obs, terminated = batch
    y = td_target(agent["target"], reward, next_obs, terminated, agent["config"]["gamma"])
    loss, grads = loss_and_grads(agent["params"], obs, action, y)
    adam_update(agent["params"], grads, agent["opt"], agent["config"]["lr"])
    return loss


def train(agent, env, steps):
    config, rng = agent["config"], agent["rng"]
    history, total = [], 0.0
    obs, _ = env.reset()
    for step in range(steps):
        action = select_action(agent["params"], obs, epsilon_at(step, config), agent["n_actions"], rng)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        buffer_add(agent["buffer"], obs, action, reward, next_obs, terminated)
        total += reward
        obs = next_obs
        if step >= config["start"]:
            update(agent, buffer_sample(agent["buffer"], config["batch"], rng))
        if step % config["target_every"] == 0:
            agent["target"] = copy_params(agent["params"])
        if terminated or truncated:
            history.append(total)
            total = 0.0
            obs, _ = env.reset()
    return history


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent["config"]["gamma"]
        self.observation_size = agent["n_obs"]

    def q_values(self, obs):
        return forward(self.agent["params"], obs)[0]

    def target_q_values(self, obs):
        return forward(self.agent["target"], obs)[0]

    def sync_target(self):
        self.agent["target"] = copy_params(self.agent["params"])

    def train_batch(self, obs, action, reward, next_obs, terminated):
        update(self.agent, (obs, action, reward, next_obs, terminated))

    def loss(self, obs, action, reward, next_obs, terminated):
        y = td_target(self.agent["target"], reward, next_obs, terminated, self.gamma)
        return loss_and_grads(self.agent["params"], obs, action, y)[0]

    def gradients(self, obs, action, reward, next_obs, terminated):
        y = td_target(self.agent["target"], reward, next_obs, terminated, self.gamma)
        return loss_and_grads(self.agent["params"], obs, action, y)[1]

    def parameters(self):
        return self.agent["params"]

    def target_parameters(self):
        return self.agent["target"]

    def act(self, obs, epsilon):
        return select_action(self.agent["params"], obs, epsilon, self.agent["n_actions"], self.agent["rng"])

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        buffer_add(self.agent["buffer"], obs, action, reward, next_obs, terminated)

    def sample(self, n):
        return buffer_sample(self.agent["buffer"], n, self.agent["rng"])

    def run(self, env, env_steps):
        train(self.agent, env, env_steps)


def make(seed=0):
    return Adapter(new_agent(4, 2, seed))
