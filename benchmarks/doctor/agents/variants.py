"""Sound variants of the reference agents as text replacements. The doctor must find no fault in them."""

from __future__ import annotations

Changes = tuple[tuple[str, str], ...]

BEGINNER: dict[str, Changes] = {
    "as it stands": (),
    "squared error": (
        ("    if abs(error) <= 1:\n        return 0.5 * error**2\n    return abs(error) - 0.5", "    return 0.5 * error**2"),
        ("    if abs(error) <= 1:\n        return error\n    return np.sign(error)", "    return error"),
    ),
    "plain SGD": (("            arrays[i] -= self.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)", "            arrays[i] -= 3 * self.learning_rate * gradients[i]"),),
    "momentum": (
        ("self.m[i] = 0.9 * self.m[i] + 0.1 * gradients[i]", "self.m[i] = 0.9 * self.m[i] + gradients[i]"),
        ("            arrays[i] -= self.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)", "            arrays[i] -= self.learning_rate * self.m[i]"),
    ),
    "RMSProp": (
        ("self.v[i] = 0.999 * self.v[i] + 0.001", "self.v[i] = 0.99 * self.v[i] + 0.01"),
        ("self.learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)", "0.3 * self.learning_rate * gradients[i] / (np.sqrt(self.v[i]) + 1e-8)"),
    ),
    "clipped gradients": (
        ("        self.optimizer.step(", "        norm = np.sqrt(sum((g**2).sum() for g in weight_gradients + bias_gradients))\n        scale = min(1, 1 / (norm + 1e-12))\n        weight_gradients = [g * scale for g in weight_gradients]\n        bias_gradients = [g * scale for g in bias_gradients]\n        self.optimizer.step("),
    ),
    "Double DQN": (("np.max(next_q)", "next_q[np.argmax(self.q_network.forward(next_states[i]))]"),),
    "Polyak": (
        ("    def update_target(self):\n        self.target_network.copy_from(self.q_network)", "    def update_target(self):\n        for t, o in zip(self.target_network.weights + self.target_network.biases, self.q_network.weights + self.q_network.biases):\n            t += 0.01 * (o - t)"),
        ("sync_every=100", "sync_every=1"),
    ),
    "tanh": (
        ("x = np.maximum(z, 0)", "x = np.tanh(z)"),
        ("error = error * (self.before[i] > 0)", "error = error * (1 - np.tanh(self.before[i]) ** 2)"),
    ),
    "three-step returns": (
        ("target = target + self.gamma * np.max(next_q)", "target = target + self.gamma**3 * np.max(next_q)"),
        ("        self.observation_size = n_inputs\n", "        self.observation_size = n_inputs\n        self.n_step = 3\n"),
        ("    def sample(self, n):\n        return self.agent.replay.sample(n)\n\n", ""),
        ("    def run(self, env, env_steps):\n        self.agent.train(env, env_steps)\n", ""),
    ),
    "one hidden layer": (("hidden=(32, 32)", "hidden=(48,)"),),
    "eight observations, four actions": (("n_inputs=4, n_actions=3", "n_inputs=8, n_actions=4"),),
    "two actions, gamma 0.9": (("n_inputs=4, n_actions=3", "n_inputs=6, n_actions=2"), ("gamma=0.99", "gamma=0.9")),
    "Glorot": (("np.sqrt(2 / n_in)", "np.sqrt(2 / (n_in + n_out))"),),
    "small last layer": (("            self.biases.append(np.zeros(n_out))\n", "            self.biases.append(np.zeros(n_out))\n        self.weights[-1] *= 0.02\n"),),
    "leaky ReLU": (
        ("x = np.maximum(z, 0)", "x = np.where(z > 0, z, 0.01 * z)"),
        ("error = error * (self.before[i] > 0)", "error = error * np.where(self.before[i] > 0, 1, 0.01)"),
    ),
    "weight decay": (("            self.m[i] = 0.9", "            gradients[i] = gradients[i] + 1e-4 * arrays[i]\n            self.m[i] = 0.9"),),
    "a large epsilon": (("(np.sqrt(v_hat) + 1e-8)", "(np.sqrt(v_hat) + 1.5e-4)"),),
    "rewards clipped": (("            target = rewards[i]\n", "            target = np.clip(rewards[i], -1, 1)\n"),),
    "rewards scaled when stored": (("(np.array(state), action, reward, np.array", "(np.array(state), action, 0.1 * reward, np.array"),),
    "expected SARSA": (("np.max(next_q)", "(0.95 * np.max(next_q) + 0.05 * np.mean(next_q))"),),
    "every fourth call": (
        ("        loss, weight_gradients, bias_gradients = self.gradients(", "        self.calls = getattr(self, 'calls', 0) + 1\n        if self.calls % 4:\n            return 0.0\n        loss, weight_gradients, bias_gradients = self.gradients("),
    ),
}  # fmt: skip

LINEARS = "            nn.Linear(n_obs, hidden),\n            nn.ReLU(),\n            nn.Linear(hidden, hidden),\n            nn.ReLU(),\n"
NETWORK: dict[str, Changes] = {
    "LayerNorm": ((LINEARS, LINEARS.replace("            nn.ReLU(),\n", "            nn.LayerNorm(hidden),\n            nn.ReLU(),\n")),),
    "GELU": (("nn.ReLU()", "nn.GELU()"),),
    "dropout": ((LINEARS, LINEARS + "            nn.Dropout(0.1),\n"),),
    "dueling": (
        ("            nn.Linear(hidden, n_actions),\n        )\n", "        )\n        self.value = nn.Linear(hidden, 1)\n        self.advantage = nn.Linear(hidden, n_actions)\n"),
        ("        return self.network(x)", "        x = self.network(x)\n        advantage = self.advantage(x)\n        return self.value(x) + advantage - advantage.mean(dim=1, keepdim=True)"),
    ),
    "orthogonal": (
        ("            nn.Linear(hidden, n_actions),\n        )\n", "            nn.Linear(hidden, n_actions),\n        )\n        for layer in self.network:\n            if isinstance(layer, nn.Linear):\n                nn.init.orthogonal_(layer.weight, 1.4)\n"),
    ),
    "wide": (("hidden=64", "hidden=128"),),
    "small last layer": (("            nn.Linear(hidden, n_actions),\n        )\n", "            nn.Linear(hidden, n_actions),\n        )\n        nn.init.uniform_(self.network[-1].weight, -3e-3, 3e-3)\n"),),
}  # fmt: skip

TORCH: dict[str, Changes] = {
    "as it stands": (),
    "squared error": (("F.smooth_l1_loss", "F.mse_loss"),),
    "SGD with momentum": (("torch.optim.Adam(self.q.parameters(), lr=lr)", "torch.optim.SGD(self.q.parameters(), lr=lr, momentum=0.9)"),),
    "AdamW, AMSGrad": (("torch.optim.Adam(self.q.parameters(), lr=lr)", "torch.optim.AdamW(self.q.parameters(), lr=lr, amsgrad=True)"),),
    "RMSprop": (("torch.optim.Adam(self.q.parameters(), lr=lr)", "torch.optim.RMSprop(self.q.parameters(), lr=2.5e-4)"),),
    "no clipping": (("        nn.utils.clip_grad_norm_(self.q.parameters(), 10.0)\n", ""),),
    "clipped by value": (("nn.utils.clip_grad_norm_(self.q.parameters(), 10.0)", "nn.utils.clip_grad_value_(self.q.parameters(), 1.0)"),),
    "Double DQN": (("self.q_target(next_obs).max(dim=1).values", "self.q_target(next_obs).gather(1, self.q(next_obs).argmax(dim=1, keepdim=True)).squeeze(1)"),),
    "Polyak": (
        ("        self.q_target.load_state_dict(self.q.state_dict())\n\n    def select", "        with torch.no_grad():\n            for t, p in zip(self.q_target.parameters(), self.q.parameters()):\n                t.lerp_(p, 0.005)\n\n    def select"),
        ("sync_every=100", "sync_every=1"),
    ),
    "four actions": (("n_obs=4, n_actions=3", "n_obs=8, n_actions=4"),),
    "weight decay": (("torch.optim.Adam(self.q.parameters(), lr=lr)", "torch.optim.Adam(self.q.parameters(), lr=lr, weight_decay=1e-4)"),),
    "Rainbow's Adam": (("torch.optim.Adam(self.q.parameters(), lr=lr)", "torch.optim.Adam(self.q.parameters(), lr=6.25e-5, eps=1.5e-4)"),),
    "DQN's RMSprop": (("torch.optim.Adam(self.q.parameters(), lr=lr)", "torch.optim.RMSprop(self.q.parameters(), lr=2.5e-4, alpha=0.95, eps=0.01, centered=True)"),),
    "rewards clipped": (("target = reward + ", "target = reward.clamp(-1, 1) + "),),
    "log-cosh": (("F.smooth_l1_loss(q, target)", "torch.log(torch.cosh(q - target)).mean()"),),
    "soft maximum": (("self.q_target(next_obs).max(dim=1).values", "0.1 * torch.logsumexp(self.q_target(next_obs) / 0.1, dim=1)"),),
    "gradients of four calls": (
        ("        self.optimizer.zero_grad()\n        loss.backward()\n        nn.utils.clip_grad_norm_(self.q.parameters(), 10.0)\n        self.optimizer.step()\n", "        (loss / 4).backward()\n        self.calls = getattr(self, 'calls', 0) + 1\n        if self.calls % 4 == 0:\n            self.optimizer.step()\n            self.optimizer.zero_grad()\n"),
    ),
    **NETWORK,
}  # fmt: skip

SB3: dict[str, Changes] = {
    "as it stands": (),
    "the library's own": (
        ("    model = MyDQN(\n        Policy,", '    model = DQN(\n        "MlpPolicy",'),
        ("class Adapter(StableBaselines3Adapter):", "class Adapter(StableBaselines3Adapter):\n    pass\n\n\nclass Unused:"),
    ),
    "squared error": (("F.smooth_l1_loss", "F.mse_loss"),),
    "Double DQN": (("self.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values", "self.q_net_target(batch.next_observations).gather(1, self.q_net(batch.next_observations).argmax(dim=1, keepdim=True))"),),
    "Polyak": (("            t.data.copy_(p.data)", "            t.data.lerp_(p.data, 0.005)"), ("target_update_interval=100", "target_update_interval=1")),
    "two actions": (("n_obs=4, n_actions=3", "n_obs=6, n_actions=2"),),
    **{name: NETWORK[name] for name in ("LayerNorm", "dueling", "wide", "GELU")},
}  # fmt: skip

PLAIN = "tau=1.0, n_step=1, layer_norm=False"
OWN: dict[str, str] = {
    "as it stands": PLAIN,
    "the default": "",
    "squared error": PLAIN + ", loss='mse'",
    "SGD": PLAIN + ", optimizer='sgd', momentum=0.9",
    "RMSProp": PLAIN + ", optimizer='rmsprop'",
    "AdamW": PLAIN + ", optimizer='adamw'",
    "dueling": PLAIN + ", dueling=True",
    "noisy layers": PLAIN + ", noisy=True",
    "prioritized": PLAIN + ", priority_alpha=0.6",
    "quantiles": "head='qr'",
    "quantiles with optimism": "head='qr', optimism=0.5, munchausen=0.9",
    "C51": "head='c51', value_range=(-50.0, 50.0)",
    "Munchausen": "munchausen=0.9",
    "averaged weights": "ema_decay=0.995, ema_acts=True",
    "tanh, five steps": "activation='tanh', n_step=5",
    "lasting actions": "max_action_repeat=3",
}
