# CartPole mit einem kleinen neuronalen Netz, alles von Hand gerechnet (np.matrix)
import gymnasium as gym
import numpy as np
from collections import deque
from random import sample, random, randrange

N_HIDDEN_1 = 32
N_HIDDEN_2 = 24
ALPHA = 0.004
GAMMA = 0.97
MINI = 16
SPEICHER = 8000
START = 600
KOPIE = 250
EPISODEN = 1000


def tanh_prime(v):
    return 1.0 - np.power(v, 2)


class Netz:
    def __init__(self, n_in, n_out):
        self.W1 = np.matrix(np.random.randn(N_HIDDEN_1, n_in)) / np.sqrt(n_in)
        self.b1 = np.matrix(np.zeros((N_HIDDEN_1, 1)))
        self.W2 = np.matrix(np.random.randn(N_HIDDEN_2, N_HIDDEN_1)) / np.sqrt(N_HIDDEN_1)
        self.b2 = np.matrix(np.zeros((N_HIDDEN_2, 1)))
        self.W3 = np.matrix(np.random.randn(n_out, N_HIDDEN_2)) / np.sqrt(N_HIDDEN_2)
        self.b3 = np.matrix(np.zeros((n_out, 1)))

    def vorwaerts(self, x):
        self.x = x
        self.z1 = self.W1 * x + self.b1
        self.a1 = np.tanh(self.z1)
        self.z2 = self.W2 * self.a1 + self.b2
        self.a2 = np.tanh(self.z2)
        return self.W3 * self.a2 + self.b3

    def rueckwaerts(self, fehler):
        d3 = fehler
        d2 = np.multiply(self.W3.T * d3, tanh_prime(self.z2))
        d1 = np.multiply(self.W2.T * d2, tanh_prime(self.z1))
        self.W3 -= ALPHA * d3 * self.a2.T
        self.b3 -= ALPHA * d3
        self.W2 -= ALPHA * d2 * self.a1.T
        self.b2 -= ALPHA * d2
        self.W1 -= ALPHA * d1 * self.x.T
        self.b1 -= ALPHA * d1

    def kopiere(self, anderes):
        for name in ("W1", "b1", "W2", "b2", "W3", "b3"):
            setattr(self, name, getattr(anderes, name).copy())


def spalte(obs):
    return np.matrix(obs, dtype=float).T


np.random.seed(2)
env = gym.make("CartPole-v1")
aktionen = int(env.action_space.n)
netz = Netz(env.observation_space.shape[0], aktionen)
ziel = Netz(env.observation_space.shape[0], aktionen)
ziel.kopiere(netz)

speicher = deque(maxlen=SPEICHER)
verlauf = []
schritt = 0
eps = 1.0

for episode in range(EPISODEN):
    obs, _ = env.reset()
    x = spalte(obs)
    punkte = 0
    fertig = False

    while not fertig:
        if random() < eps:
            a = randrange(aktionen)
        else:
            a = int(np.argmax(netz.vorwaerts(x)))

        obs, r, gefallen, zeit_um, _ = env.step(a)
        x_neu = spalte(obs)
        speicher.append([x, a, r, x_neu, gefallen])
        x = x_neu
        punkte += r
        schritt += 1
        fertig = gefallen or zeit_um

        if len(speicher) >= START:
            for (xs, aa, rr, xn, ende) in sample(speicher, MINI):
                y = rr
                if not ende:
                    y += GAMMA * float(np.max(ziel.vorwaerts(xn)))
                q = netz.vorwaerts(xs)
                fehler = np.matrix(np.zeros((aktionen, 1)))
                fehler[aa, 0] = np.clip(q[aa, 0] - y, -1.0, 1.0)
                netz.rueckwaerts(fehler)

        if schritt % KOPIE == 0:
            ziel.kopiere(netz)

    eps = max(0.02, eps * 0.99)
    verlauf.append(punkte)
    if episode % 20 == 19:
        print("Episode %4d   Mittel(20) %6.1f   Bestes %4.0f   eps %.3f" %
              (episode + 1, np.mean(verlauf[-20:]), max(verlauf[-20:]), eps))
    if np.mean(verlauf[-50:]) > 475 and len(verlauf) >= 50:
        print("geloest")
        break

np.savetxt("verlauf.txt", verlauf, fmt="%d")
