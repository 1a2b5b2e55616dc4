"""n-step DQN on Acrobot, no functions, no classes."""
from collections import deque
import random
import gymnasium as gym
import numpy as np
import torch as th
import torch.nn as nn

N, GAMMA = 3, 0.99
env = gym.make("Acrobot-v1")
net = nn.Sequential(nn.Linear(6, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 3))
frozen = nn.Sequential(nn.Linear(6, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 3))
frozen.load_state_dict(net.state_dict())
opt = th.optim.RMSprop(net.parameters(), lr=3e-4, alpha=0.95, eps=1e-2, centered=True)
memory = deque(maxlen=50_000)
t_global = 0
avg = None

for ep in range(400):
    window = deque()
    obs, _ = env.reset()
    ret, over = 0.0, False
    while not over:
        eps = max(0.05, 1 - t_global / 20_000)
        if random.random() < eps:
            act = random.choice([0, 1, 2])
        else:
            with th.no_grad():
                act = net(th.from_numpy(obs)).argmax().item()
        new, rew, term, trunc, _ = env.step(act)
        over = term or trunc
        window.append((obs, act, rew))
        obs = new
        ret += rew
        t_global += 1

        # emit the oldest one when the window is full; everything at the end of the episode
        while window and (len(window) == N or over):
            R = sum(GAMMA ** k * w[2] for k, w in enumerate(window))
            discount = 0.0 if term else GAMMA ** len(window)
            memory.append((window[0][0], window[0][1], R, new, discount))
            window.popleft()

        if t_global >= 3000 and t_global % 2 == 0:
            rows = random.sample(memory, 64)
            s, a, R, s_n, disc = zip(*rows)
            s, s_n = th.as_tensor(np.stack(s)), th.as_tensor(np.stack(s_n))
            a = th.as_tensor(a)
            R, disc = th.as_tensor(R, dtype=th.float32), th.as_tensor(disc, dtype=th.float32)
            y = (R + disc * frozen(s_n).amax(dim=1)).detach()
            err = net(s).gather(1, a.view(-1, 1)).view(-1) - y
            loss = th.log(th.cosh(err.clamp(-30, 30))).mean()
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 10)
            opt.step()
        if t_global % 1000 == 0:
            frozen.load_state_dict(net.state_dict())

    avg = ret if avg is None else 0.95 * avg + 0.05 * ret
    print(f"ep {ep} steps {t_global} return {ret:.0f} smoothed {avg:.1f} eps {eps:.2f}")

th.save(net.state_dict(), "acrobot_nstep.pt")
