import numpy as np

# Q-network as a list of layers, trained one transition at a time


class Layer:
    params = ()

    def forward(self, x):
        raise NotImplementedError

    def backward(self, dout):
        raise NotImplementedError


class Dense(Layer):
    def __init__(self, rng, fan_in, fan_out):
        limit = np.sqrt(6.0 / (fan_in + fan_out))
        self.w = rng.uniform(-limit, limit, (fan_in, fan_out))
        self.b = np.zeros(fan_out)
        self.gw = np.zeros_like(self.w)
        self.gb = np.zeros_like(self.b)

    def forward(self, x):
        self.inp = x
        return np.dot(x, self.w) + self.b

    def backward(self, dout):
        self.gw += self.inp[:, None] * dout[None, :]
        self.gb += dout
        return np.dot(self.w, dout)


class ReLU(Layer):
    def forward(self, x):
        self.out = np.maximum(0.0, x)
        return self.out

    def backward(self, dout):
        dx = dout.copy()
        dx[dx <= 0] = 0.0
        return dx


def build(rng, n_obs, n_actions, hidden):
    return [Dense(rng, n_obs, hidden), ReLU(), Dense(rng, hidden, hidden), ReLU(), Dense(rng, hidden, n_actions)]


def forward(layers, x):
    for l in layers:
        x = l.forward(x)
    return x


def backward(layers, dout):
    for l in layers[::-1]:
        dout = l.backward(dout)


class Memory:
    def __init__(self, size, rng):
        self.size, self.rng = size, rng
        self.items, self.pos = [], 0

    def push(self, item):
        if len(self.items) < self.size:
            self.items.append(item)
        else:
            self.items[self.pos] = item
        self.pos = (self.pos + 1) % self.size

    def draw(self, n):
        return [self.items[i] for i in self.rng.integers(len(self.items), size=n)]


class Agent:
    LR = 0.01
    GAMMA = 0.97
    BATCH = 32
    SYNC = 250
    START = 80

    def __init__(self, n_obs, n_actions, seed=0):
        self.rng = np.random.default_rng(seed)
        self.n_actions = n_actions
        self.q_layers = build(self.rng, n_obs, n_actions, 40)
        self.t_layers = build(self.rng, n_obs, n_actions, 40)
        self.memory = Memory(10000, self.rng)
        self.t = 0
        self.copy_weights()

    def copy_weights(self):
        for src, dst in zip(self.q_layers, self.t_layers):
            if isinstance(src, Dense):
                dst.w[...] = src.w
                dst.b[...] = src.b

    def choose(self, s, eps):
        if self.rng.random() < eps:
            return int(self.rng.integers(self.n_actions))
        return int(forward(self.q_layers, s).argmax())

    def train_step(self, batch):
        for l in self.q_layers:
            if isinstance(l, Dense):
                l.gw[:] = 0
                l.gb[:] = 0
        for s, a, r, s2, term in batch:
            best_next = 0.0 if term else forward(self.t_layers, s2).max()
            delta = forward(self.q_layers, s)[a] - (r + self.GAMMA * best_next)
            dout = np.zeros(self.n_actions)
            dout[a] = delta
            backward(self.q_layers, dout)
        for l in self.q_layers:
            if isinstance(l, Dense):
                l.w -= self.LR * l.gw / len(batch)
                l.b -= self.LR * l.gb / len(batch)

    def fit(self, env, steps):
        s, _ = env.reset()
        s = np.asarray(s, dtype=np.float64)
        for _ in range(steps):
            a = self.choose(s, max(0.05, 1 - self.t / 3000))
            s2, r, term, trunc, _ = env.step(a)
            s2 = np.asarray(s2, dtype=np.float64)
            self.memory.push((s, a, float(r), s2, bool(term)))
            self.t += 1
            if len(self.memory.items) > self.START:
                self.train_step(self.memory.draw(self.BATCH))
                if self.t % self.SYNC == 0:
                    self.copy_weights()
            s = s2
            if term or trunc:
                s, _ = env.reset()
                s = np.asarray(s, dtype=np.float64)


class Adapter:
    gamma = Agent.GAMMA
    observation_size = 4

    def __init__(self, agent):
        self.agent = agent

    def q_values(self, obs):
        return np.stack([forward(self.agent.q_layers, o) for o in obs])

    def target_q_values(self, obs):
        return np.stack([forward(self.agent.t_layers, o) for o in obs])

    def sync_target(self):
        self.agent.copy_weights()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.agent.train_step([*zip(obs, action, reward, next_obs, terminated)])

    def act(self, obs, epsilon):
        return self.agent.choose(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.memory.push((np.array(obs), int(action), float(reward), np.array(next_obs), bool(terminated)))

    def sample(self, n):
        s, a, r, s2, d = zip(*self.agent.memory.draw(n))
        return np.array(s), np.array(a), np.array(r), np.array(s2), np.array(d)

    def run(self, env, env_steps):
        self.agent.fit(env, env_steps)


def make(seed=0):
    return Adapter(Agent(4, 2, seed=seed))
