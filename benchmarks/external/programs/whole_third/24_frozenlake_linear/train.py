# FrozenLake with a linear Q function on one-hot states and experience replay
import gymnasium as gym
import numpy as np

env = gym.make("FrozenLake-v1", map_name="4x4", is_slippery=True)
np.random.seed(0)

n_states = env.observation_space.n
n_actions = env.action_space.n

# hyper-parameters
num_episodes = 2000
gamma = 0.99
alpha = 0.1
eps_max = 1.0
eps_min = 0.02
eps_rate = 0.0025
batch_size = 16
memory_size = 5000
learning_starts = 100
copy_every = 200


def one_hot(s):
    v = np.zeros(n_states)
    v[s] = 1.0
    return v


def q_values(x, w):
    return x @ w


def choose_action(x, w, eps):
    if np.random.uniform() < eps:
        return np.random.randint(0, n_actions - 1)
    return int(np.argmax(q_values(x, w)))


def replay(memory, w, w_old):
    picks = np.random.randint(len(memory), size=batch_size)
    grad = np.zeros_like(w)
    for p in picks:
        x, a, r, x2, terminated = memory[p]
        target = r
        if not terminated:
            target = r + gamma * np.max(q_values(x2, w_old))
        delta = target - q_values(x, w)[a]
        grad[:, a] += delta * x
    w += alpha * grad


W = np.zeros((n_states, n_actions))
W_old = W.copy()
memory = []
pos = 0
steps = 0
wins = []

for episode in range(num_episodes):
    s, _ = env.reset(seed=0 if episode == 0 else None)
    x = one_hot(s)
    eps = eps_min + (eps_max - eps_min) * np.exp(-eps_rate * episode)
    while True:
        a = choose_action(x, W, eps)
        s2, r, terminated, truncated, _ = env.step(a)
        x2 = one_hot(s2)
        item = (x, a, r, x2, terminated)
        if len(memory) < memory_size:
            memory.append(item)
        else:
            memory[pos] = item
            pos = (pos + 1) % memory_size
        x = x2
        steps += 1
        if len(memory) > learning_starts:
            replay(memory, W, W_old)
        if steps % copy_every == 0:
            W_old = W.copy()
        if terminated or truncated:
            wins.append(r)
            break
    if (episode + 1) % 100 == 0:
        print("episode %5d   success rate (100) %.2f   eps %.3f" % (episode + 1, np.mean(wins[-100:]), eps))

arrows = np.array(list("<v>^"))
print("greedy policy")
for row in arrows[W.argmax(axis=1)].reshape(4, 4):
    print(" ".join(row))

# greedy test
hits = 0
for _ in range(500):
    s, _ = env.reset()
    over = False
    while not over:
        s, r, terminated, truncated, _ = env.step(int(np.argmax(W[s])))
        over = terminated or truncated
    hits += r
print("test success rate:", hits / 500)
np.save("frozenlake_W.npy", W)
