import numpy as np

# Linear Q-learning on hashed tiles. The index table grows on demand, as in Sutton's tiles3.

WIDTH = np.array([0.6, 0.6, 0.06, 0.6])
NUM_TILINGS = 16
MAX_SIZE = 65536


class IHT:
    def __init__(self, size):
        self.size = size
        self.dictionary = {}

    def index(self, key):
        if key in self.dictionary:
            return self.dictionary[key]
        if len(self.dictionary) < self.size:
            self.dictionary[key] = len(self.dictionary)
            return self.dictionary[key]
        return hash(key) % self.size


def tiles(iht, num_tilings, floats):
    q = np.floor(np.asarray(floats) * num_tilings).astype(int)
    out = []
    for tiling in range(num_tilings):
        coords = [tiling]
        b = tiling
        for x in q:
            coords.append(int((x + b) // num_tilings))
            b += 2 * tiling
        out.append(iht.index(tuple(coords)))
    return np.array(out)


class LinearQ:
    def __init__(self, n_actions, gamma=0.98, step_size=0.3, seed=0):
        self.rng = np.random.default_rng(seed)
        self.iht = IHT(MAX_SIZE)
        self.n_actions = n_actions
        self.gamma = gamma
        self.step_size = step_size
        self.weights = np.zeros((n_actions, MAX_SIZE))
        self.old_weights = self.weights.copy()
        self.replay = []
        self.replay_max = 5000
        self.count = 0

    def features(self, obs):
        return tiles(self.iht, NUM_TILINGS, np.asarray(obs) / WIDTH)

    def values(self, obs, weights):
        return weights[:, self.features(obs)].sum(axis=1)

    def epsilon_greedy(self, obs, epsilon):
        if self.rng.random() < epsilon:
            return int(self.rng.integers(self.n_actions))
        v = self.values(obs, self.weights)
        return int(self.rng.choice(np.flatnonzero(v == v.max())))

    def put(self, *transition):
        if len(self.replay) < self.replay_max:
            self.replay.append(transition)
        else:
            self.replay[self.count % self.replay_max] = transition
        self.count += 1

    def get(self, n):
        return [self.replay[k] for k in self.rng.integers(len(self.replay), size=n)]

    def update(self, obs, action, reward, next_obs, terminated):
        target = reward
        if not terminated:
            target = target + self.gamma * self.values(next_obs, self.old_weights).max()
        f = self.features(obs)
        error = target - self.weights[action, f].sum()
        self.weights[action, f] += self.step_size * error

    def copy_weights(self):
        self.old_weights = self.weights.copy()

    def learn(self, env, total, planning=10):
        obs, _ = env.reset()
        for _ in range(total):
            action = self.epsilon_greedy(obs, max(0.03, 1 - self.count / 2500))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.put(obs, action, float(reward), next_obs, bool(terminated))
            for transition in self.get(planning):
                self.update(*transition)
            if self.count % 200 == 0:
                self.copy_weights()
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()


class Adapter:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = agent.gamma
        self.observation_size = len(WIDTH)

    def q_values(self, obs):
        return np.stack([self.agent.values(o, self.agent.weights) for o in obs])

    def target_q_values(self, obs):
        return np.stack([self.agent.values(o, self.agent.old_weights) for o in obs])

    def sync_target(self):
        self.agent.copy_weights()

    def train_batch(self, obs, action, reward, next_obs, terminated):
        for transition in zip(obs, action, reward, next_obs, terminated):
            self.agent.update(*transition)

    def act(self, obs, epsilon):
        return self.agent.epsilon_greedy(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.agent.put(obs.copy(), int(action), float(reward), next_obs.copy(), bool(terminated))

    def sample(self, n):
        return [np.array(c) for c in zip(*self.agent.get(n))]

    def run(self, env, env_steps):
        self.agent.learn(env, env_steps)


def make(seed=0):
    return Adapter(LinearQ(2, seed=seed))
