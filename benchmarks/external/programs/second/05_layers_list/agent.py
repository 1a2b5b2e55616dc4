import numpy as np


class Dense:
    def __init__(self, n_in, n_out):
        bound = 1.0 / np.sqrt(n_in)
        self.weights = np.random.uniform(-bound, bound, size=(n_in, n_out))
        self.bias = np.random.uniform(-bound, bound, size=n_out)
        self.reset()

    def reset(self):
        self.grad_weights = np.zeros_like(self.weights)
        self.grad_bias = np.zeros_like(self.bias)

    def forward(self, x):
        self.inputs = x
        return np.dot(x, self.weights) + self.bias

    def backward(self, grad_out):
        self.grad_weights += np.outer(self.inputs, grad_out)
        self.grad_bias += grad_out
        return np.dot(self.weights, grad_out)


class ReLU:
    def reset(self):
        pass

    def forward(self, x):
        self.inputs = x
        return np.maximum(x, 0)

    def backward(self, grad_out):
        return grad_out * (self.inputs > 0).astype(float)


class MLP:
    def __init__(self, *layers):
        self.layers = list(layers)

    def __call__(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad):
        for layer in self.layers[::-1]:
            grad = layer.backward(grad)

    def reset(self):
        for layer in self.layers:
            layer.reset()

    @property
    def dense(self):
        return [layer for layer in self.layers if isinstance(layer, Dense)]

    def copy_from(self, other):
        for mine, theirs in zip(self.dense, other.dense):
            mine.weights = theirs.weights.copy()
            mine.bias = theirs.bias.copy()


class Learner:
    def __init__(self, n_obs, n_actions, gamma=0.95, lr=0.02, batch_size=20, max_memory=5000):
        self.n_actions = n_actions
        self.gamma = gamma
        self.lr = lr
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.net = MLP(Dense(n_obs, 32), ReLU(), Dense(32, 32), ReLU(), Dense(32, n_actions))
        self.old_net = MLP(Dense(n_obs, 32), ReLU(), Dense(32, 32), ReLU(), Dense(32, n_actions))
        self.old_net.copy_from(self.net)
        self.memory = []
        self.total = 0

    def pick(self, obs, epsilon):
        if np.random.rand() < epsilon:
            return np.random.randint(self.n_actions)
        return int(np.argmax(self.net(obs)))

    def save(self, transition):
        self.memory.append(transition)
        if len(self.memory) > self.max_memory:
            del self.memory[0]

    def minibatch(self, n):
        order = np.random.permutation(n)
        return [self.memory[i] for i in order]

    def improve(self, batch):
        self.net.reset()
        for obs, action, reward, next_obs, terminated in batch:
            if terminated:
                goal = reward
            else:
                goal = reward + self.gamma * self.old_net(next_obs)[action]
            q = self.net(obs)
            grad = np.zeros(self.n_actions)
            grad[action] = q[action] - goal
            self.net.backward(grad)
        for layer in self.net.dense:
            layer.weights -= self.lr * layer.grad_weights / len(batch)
            layer.bias -= self.lr * layer.grad_bias / len(batch)

    def loop(self, env, n):
        obs, _ = env.reset()
        for _ in range(n):
            action = self.pick(obs, max(0.05, 1 - self.total / 3000))
            next_obs, reward, terminated, truncated, _ = env.step(action)
            self.save((np.array(obs), action, reward, np.array(next_obs), terminated))
            self.total += 1
            if len(self.memory) >= 100:
                self.improve(self.minibatch(self.batch_size))
            if self.total % 200 == 0:
                self.old_net.copy_from(self.net)
            obs = next_obs
            if terminated or truncated:
                obs, _ = env.reset()


class Adapter:
    def __init__(self, learner, n_obs):
        self.learner = learner
        self.gamma = learner.gamma
        self.observation_size = n_obs

    def q_values(self, obs):
        return np.array([self.learner.net(x) for x in obs])

    def target_q_values(self, obs):
        return np.array([self.learner.old_net(x) for x in obs])

    def sync_target(self):
        self.learner.old_net.copy_from(self.learner.net)

    def train_batch(self, obs, action, reward, next_obs, terminated):
        self.learner.improve(list(zip(obs, action, reward, next_obs, terminated)))

    def act(self, obs, epsilon):
        return self.learner.pick(obs, epsilon)

    def remember(self, obs, action, reward, next_obs, terminated, truncated):
        self.learner.save((np.array(obs), action, reward, np.array(next_obs), terminated))

    def sample(self, n):
        return [np.array(c) for c in zip(*self.learner.minibatch(n))]

    def run(self, env, env_steps):
        self.learner.loop(env, env_steps)


def make(seed=0):
    np.random.seed(seed)
    return Adapter(Learner(4, 2), 4)
