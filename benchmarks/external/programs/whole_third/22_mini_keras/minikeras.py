"""A very small look-alike of Keras: Sequential, Dense, Adam, fit/predict."""
import numpy as np


class Dense:
    def __init__(self, units, activation="linear", input_dim=None):
        self.units, self.activation, self.input_dim = units, activation, input_dim

    def build(self, n_in, rng):
        limit = np.sqrt(6.0 / (n_in + self.units))
        self.kernel = rng.uniform(-limit, limit, (n_in, self.units))
        self.bias = np.zeros((1, self.units))

    def call(self, x):
        self.inp = x
        self.pre = np.dot(x, self.kernel) + self.bias
        if self.activation == "relu":
            return np.where(self.pre > 0, self.pre, 0)
        if self.activation == "tanh":
            return np.tanh(self.pre)
        return self.pre

    def grad(self, d):
        if self.activation == "relu":
            d = d * (self.pre > 0)
        elif self.activation == "tanh":
            d = d * (1 - np.tanh(self.pre) ** 2)
        self.d_kernel = np.dot(self.inp.T, d)
        self.d_bias = d.sum(axis=0, keepdims=True)
        return np.dot(d, self.kernel.T)


class Adam:
    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.learning_rate, self.beta_1, self.beta_2, self.epsilon = learning_rate, beta_1, beta_2, epsilon
        self.iterations = 0
        self.slots = None

    def apply(self, grads_and_vars):
        if self.slots is None:
            self.slots = [(np.zeros_like(v), np.zeros_like(v)) for _, v in grads_and_vars]
        self.iterations += 1
        scale = np.sqrt(1 - self.beta_2 ** self.iterations) / (1 - self.beta_1 ** self.iterations)
        for (g, v), (m, s) in zip(grads_and_vars, self.slots):
            m += (1 - self.beta_1) * (g - m)
            s += (1 - self.beta_2) * (g * g - s)
            v -= self.learning_rate * scale * m / (np.sqrt(s) + self.epsilon)


class Sequential:
    def __init__(self, seed=None):
        self.layers = []
        self.rng = np.random.RandomState(seed)

    def add(self, layer):
        n_in = layer.input_dim if not self.layers else self.layers[-1].units
        layer.build(n_in, self.rng)
        self.layers.append(layer)

    def compile(self, loss="mse", optimizer=None):
        assert loss == "mse"
        self.optimizer = optimizer or Adam()

    def predict(self, x, verbose=0):
        for layer in self.layers:
            x = layer.call(x)
        return x

    def train_on_batch(self, x, y):
        out = self.predict(x)
        diff = out - y
        d = 2.0 * diff / diff.size
        for layer in self.layers[::-1]:
            d = layer.grad(d)
        pairs = []
        for layer in self.layers:
            pairs += [(layer.d_kernel, layer.kernel), (layer.d_bias, layer.bias)]
        self.optimizer.apply(pairs)
        return float(np.mean(diff ** 2))

    def fit(self, x, y, batch_size=32, epochs=1, verbose=0):
        history = []
        for _ in range(epochs):
            order = self.rng.permutation(len(x))
            losses = []
            for start in range(0, len(x), batch_size):
                part = order[start:start + batch_size]
                losses.append(self.train_on_batch(x[part], y[part]))
            history.append(np.mean(losses))
            if verbose:
                print("loss: %.5f" % history[-1])
        return {"loss": history}

    def get_weights(self):
        return [w.copy() for layer in self.layers for w in (layer.kernel, layer.bias)]

    def set_weights(self, weights):
        it = iter(weights)
        for layer in self.layers:
            layer.kernel[...] = next(it)
            layer.bias[...] = next(it)

    def save_weights(self, path):
        np.savez(path, *self.get_weights())
