# Q-network with one hidden layer, everything by hand with numpy matrices
from collections import deque
from random import sample, random, randrange
import gymnasium as gym
import numpy as np

env = gym.make("CartPole-v1")

N_IN, N_HID, N_OUT = 4, 40, 2
ALPHA = 0.005
GAMMA = 0.97
BATCH = 24


class Brain:
    def __init__(self):
        self.w1 = np.matrix(np.random.normal(0, 0.5, (N_HID, N_IN)))
        self.b1 = np.matrix(np.zeros((N_HID, 1)))
        self.w2 = np.matrix(np.random.normal(0, 0.15, (N_OUT, N_HID)))
        self.b2 = np.matrix(np.zeros((N_OUT, 1)))

    def clone(self):
        twin = Brain()
        twin.w1, twin.b1 = self.w1.copy(), self.b1.copy()
        twin.w2, twin.b2 = self.w2.copy(), self.b2.copy()
        return twin

    def think(self, column):
        self.inp = column
        self.z = self.w1 * column + self.b1
        self.hid = np.tanh(self.z)
        return self.w2 * self.hid + self.b2

    def correct(self, action, target):
        """one step of gradient descent for the Q value of one action, after think()"""
        out = self.w2 * self.hid + self.b2
        delta_out = np.matrix(np.zeros((N_OUT, 1)))
        delta_out[action, 0] = max(-1.0, min(1.0, out[action, 0] - target))
        back = self.w2.T * delta_out
        delta_hid = np.multiply(back, 1 - np.square(self.z))
        self.w2 = self.w2 - ALPHA * delta_out * self.hid.T
        self.b2 = self.b2 - ALPHA * delta_out
        self.w1 = self.w1 - ALPHA * delta_hid * self.inp.T
        self.b1 = self.b1 - ALPHA * delta_hid
        return abs(delta_out[action, 0])


def col(obs):
    return np.matrix(obs, dtype=float).T


brain = Brain()
frozen = brain.clone()
memory = deque(maxlen=8000)
epsilon = 1.0
history = []
frames = 0

for episode in range(1200):
    obs, _ = env.reset()
    x = col(obs)
    length = 0
    while True:
        if random() < epsilon:
            action = randrange(N_OUT)
        else:
            action = int(np.argmax(brain.think(x)))
        obs, reward, fell, timeout, _ = env.step(action)
        x_next = col(obs)
        memory.append([x, action, reward, x_next, fell])
        x = x_next
        length += 1
        frames += 1

        if len(memory) >= 400:
            for bx, ba, br, bx_next, bfell in sample(memory, BATCH):
                target = br
                if not bfell:
                    target += GAMMA * float(np.max(frozen.think(bx_next)))
                brain.think(bx)
                brain.correct(ba, target)
        if frames % 300 == 0:
            frozen = brain.clone()
        if fell or timeout:
            break

    history.append(length)
    epsilon = max(0.02, epsilon * 0.99)
    if episode % 25 == 0:
        print("Episode %4d | last %3d | average %.1f | epsilon %.3f" % (episode, length, np.mean(history[-25:]), epsilon))
        with open("history.txt", "w") as f:
            f.write("\n".join(str(h) for h in history))
