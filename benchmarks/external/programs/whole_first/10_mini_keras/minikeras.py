"""A very small Keras lookalike on numpy: Sequential, Dense, compile/fit/predict."""
import numpy as np


class Dense:
    def __init__(self, units, input_dim=None, activation="linear"):
        self.units, self.input_dim, self.activation = units, input_dim, activation

    def build(self, n_in):
        limit = np.sqrt(6.0 / (n_in + self.units))
        self.kernel = np.random.uniform(-limit, limit, (n_in, self.units))
        self.bias = np.zeros((1, self.units))

    def call(self, x):
        self.x = x
        z = x.dot(self.kernel) + self.bias
        if self.activation == "relu":
            self.mask = z > 0
            return z * self.mask
        return z

    def grad(self, g):
        if self.activation == "relu":
            g = g * self.mask
        self.d_kernel = self.x.T.dot(g)
        self.d_bias = g.sum(axis=0, keepdims=True)
        return g.dot(self.kernel.T)


class Adam:
    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999):
        self.lr, self.b1, self.b2 = learning_rate, beta_1, beta_2
        self.slots, self.t = {}, 0

    def apply(self, pairs):
        self.t += 1
        for key, (w, g) in enumerate(pairs):
            m, v = self.slots.get(key, (np.zeros_like(w), np.zeros_like(w)))
            m = self.b1 * m + (1 - self.b1) * g
            v = self.b2 * v + (1 - self.b2) * g ** 2
            self.slots[key] = (m, v)
            w -= self.lr * (m / (1 - self.b1 ** self.t)) / (np.sqrt(v / (1 - self.b2 ** self.t)) + 1e-7)


class Sequential:
    def __init__(self):
        self.layers = []

    def add(self, layer):
        n_in = layer.input_dim if not self.layers else self.layers[-1].units
        layer.build(n_in)
        self.layers.append(layer)

    def compile(self, loss="mse", optimizer=None):
        assert loss == "mse"
        self.optimizer = optimizer or Adam()

    def predict(self, x):
        for layer in self.layers:
            x = layer.call(x)
        return x

    def fit(self, x, y, epochs=1, batch_size=32):
        for _ in range(epochs):
            order = np.random.permutation(len(x))
            losses = []
            for start in range(0, len(x), batch_size):
                idx = order[start:start + batch_size]
                diff = self.predict(x[idx]) - y[idx]
                losses.append(np.mean(diff ** 2))
                g = 2.0 * diff / diff.size
                for layer in reversed(self.layers):
                    g = layer.grad(g)
                self.optimizer.apply([p for l in self.layers for p in ((l.kernel, l.d_kernel), (l.bias, l.d_bias))])
        return float(np.mean(losses))

    def get_weights(self):
        return [w.copy() for l in self.layers for w in (l.kernel, l.bias)]

    def set_weights(self, ws):
        it = iter(ws)
        for l in self.layers:
            l.kernel = next(it).copy()
            l.bias = next(it).copy()
