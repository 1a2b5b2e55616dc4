"""Faults for sb3.py as text replacements: fault number -> (old, new), ...

Faults of the network are those of compact_torch_faults.py. Two faults are impossible here: the library resets its
environments (2) and copies their observations (6).
"""

import compact_torch_faults as torch_faults

NETWORK = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)  # these faults change the network
STEP = "        self.policy.optimizer.step()\n"
MADE = "    return Adapter(model)\n"
TARGET = "self.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values"
WORLD = "class World(gymnasium.Wrapper):\n    pass\n"
BUFFER = "class Buffer(ReplayBuffer):\n    pass\n"
POLICY = "        learning_rate=1e-3,\n"
ON_SYNC = "        for t, p in zip(self.q_net_target.parameters(), self.q_net.parameters()):\n            t.data.copy_(p.data)\n"


def optimizer(old: str, new: str) -> tuple[tuple[str, str], ...]:
    """Return the handwritten optimizer of compact_torch_faults.py with a fault."""
    (imports, _) = torch_faults.hand_made(old, new)
    return imports, (MADE, "    model.policy.optimizer = HandMadeAdam(model.q_net.parameters(), 1e-3)\n" + MADE), (
        "    def train(self, gradient_steps, batch_size=32):\n",
        "    def _update_learning_rate(self, optimizers):\n        pass\n\n    def train(self, gradient_steps, batch_size=32):\n",
    )


def buffer(body: str) -> tuple[tuple[str, str], ...]:
    return ((BUFFER, "class Buffer(ReplayBuffer):\n" + body),)


FAULTS: dict[int, tuple[tuple[str, str], ...]] = {
    1: ((WORLD, "class World(gymnasium.Wrapper):\n    def reset(self, **options):\n        return self.env.reset(**options)[0]\n"),),
    3: ((WORLD, "class World(gymnasium.ObservationWrapper):\n    def observation(self, obs):\n        return obs.astype(int).astype(np.float32)\n"),),
    4: buffer("    def add(self, obs, next_obs, action, reward, done, infos):\n        if done.any() and self.after is not None:\n            next_obs = self.after\n        super().add(obs, next_obs, action, reward, done, infos)\n\n    after = None\n")
    + (("    def compute_loss(self, batch):\n", "    def _store_transition(self, replay_buffer, buffer_action, new_obs, reward, dones, infos):\n        replay_buffer.after = new_obs\n        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)\n\n    def compute_loss(self, batch):\n"),),
    5: (('"handle_timeout_termination": True', '"handle_timeout_termination": False'),),
    **{number: torch_faults.FAULTS[number] for number in NETWORK},
    19: ((MADE, "    model.policy.optimizer = torch.optim.Adam([p for n, p in model.q_net.named_parameters() if 'bias' not in n], lr=1e-3)\n" + MADE),),
    20: ((STEP, "        for p in self.q_net.parameters():\n            p.grad.neg_()\n" + STEP),),
    21: (("        self.policy.optimizer.zero_grad()\n        loss.backward()", "        loss.backward()"),),
    22: ((MADE, "    model.policy.optimizer = torch.optim.Adam(model.q_net.q_net.network[2:].parameters(), lr=1e-3)\n" + MADE),),
    23: optimizer("self.m[i] / (1 - 0.9**self.t)|self.v[i] / (1 - 0.999**self.t)", "self.m[i]|self.v[i]"),
    24: optimizer("v_hat.sqrt()", "v_hat"),
    25: optimizer("        for i, p in enumerate(self.parameters):\n", "        for i, p in enumerate(self.parameters):\n            self.t += i > 0\n"),
    26: optimizer("self.m = [torch.zeros_like(p) for p in self.parameters]|self.v = [torch.zeros_like(p) for p in self.parameters]|self.m[i] = 0.9 * self.m[i] + 0.1 * p.grad|self.v[i] = 0.999 * self.v[i] + 0.001 * p.grad**2|self.m[i] / |self.v[i] / ",
                  "self.m = {p.shape: torch.zeros_like(p) for p in self.parameters}|self.v = {p.shape: torch.zeros_like(p) for p in self.parameters}|i = p.shape\n            self.m[i] = 0.9 * self.m[i] + 0.1 * p.grad|self.v[i] = 0.999 * self.v[i] + 0.001 * p.grad**2|self.m[i] / |self.v[i] / "),
    27: ((STEP, "        self.policy.optimizer = torch.optim.Adam(self.q_net.parameters(), lr=1e-3)\n" + STEP),),
    28: (
        ("    def update(self, batch):\n", "    def update(self, batch):\n        for row in range(len(batch.actions)):\n            one = slice(row, row + 1)\n            self.update_one(type(batch)(observations=batch.observations[one], actions=batch.actions[one], next_observations=batch.next_observations[one], dones=batch.dones[one], rewards=batch.rewards[one], discounts=None))\n\n    def update_one(self, batch):\n"),
    ),
    29: (("q = self.q_net(batch.observations).gather(1, action)", "q = self.q_net(batch.observations)\n        target = target + (q - q.gather(1, action)).detach()"),),
    30: ((".gather(1, action)", ".gather(1, (action + 1) % self.action_space.n)"),),
    31: ((".gather(1, action)", ".gather(1, action).squeeze(1)"),),
    32: (("q = self.q_net(batch.observations).gather(1, action)", "q = self.q_net(batch.observations)\n        target = F.one_hot(action.squeeze(1), q.shape[1]) * target"),),
    33: ((torch_faults.IMPORT, torch_faults.IMPORT + torch_faults.HUBER), ("return F.smooth_l1_loss(q, target)", "return HandMadeHuber.apply(q - target).mean()")),
    34: (("F.smooth_l1_loss(q, target)", "F.smooth_l1_loss(q, target, reduction='sum')"),),
    35: ((" * (1 - terminated)", ""),),
    36: (("(1 - terminated)", "terminated"),),
    37: (("batch.rewards + self.gamma * next_q * (1 - terminated)", "(batch.rewards + self.gamma * next_q) * (1 - terminated)"),),
    38: (("self.gamma * next_q", "0.9 * next_q"),),
    39: ((".max(dim=1, keepdim=True).values", ".mean(dim=1, keepdim=True)"),),
    40: ((TARGET, "self.q_net_target(batch.next_observations).max()"),),
    41: ((".max(dim=1, keepdim=True).values", ".gather(1, action)"),),
    42: (
        (f"        with torch.no_grad():\n            next_q = {TARGET}\n            target = ", "        next_q = self.q_net(batch.next_observations).max(dim=1, keepdim=True).values\n        target = "),
    ),
    43: ((TARGET, "self.q_net(batch.next_observations).gather(1, self.q_net_target(batch.next_observations).argmax(dim=1, keepdim=True))"),),
    44: ((MADE, "    model.q_net_target = model.q_net\n" + MADE),),
    45: ((ON_SYNC, "        for t, p in zip(self.q_net_target.parameters(), self.q_net.parameters()):\n            t = p.data.clone()\n"),),
    46: ((STEP, STEP + "        self.sync()\n"),),
    47: ((ON_SYNC, "        for t, p in zip(self.q_net_target.parameters(), self.q_net.parameters()):\n            t.data.mul_(0.005).add_(0.995 * p.data)\n"),),
    48: buffer("    def add(self, obs, next_obs, action, reward, done, infos):\n        super().add(obs, obs, action, reward, done, infos)\n"),
    49: buffer("    def add(self, obs, next_obs, action, reward, done, infos):\n        if not done.any() or infos[0].get('TimeLimit.truncated'):\n            super().add(obs, next_obs, action, reward, done, infos)\n"),
    50: buffer("    def sample(self, batch_size, env=None):\n        end = self.pos if self.pos >= batch_size else self.size()\n        return self._get_samples(np.arange(end - batch_size, end), env=env)\n"),
    51: buffer("    def _get_samples(self, batch_inds, env=None):\n        data = super()._get_samples(batch_inds, env=env)\n        other = super()._get_samples((batch_inds - 1) % self.size(), env=env)\n        return data._replace(observations=other.observations, actions=other.actions)\n"),
    52: (("return self.policy.predict(observation, state, episode_start, deterministic)", "obs = torch.as_tensor(np.atleast_2d(observation), dtype=torch.float32)\n        action = self.q_net(obs).argmin(dim=1).numpy()\n        return action if np.ndim(observation) > 1 else action[0], state"),),
    53: (("np.random.rand() < self.exploration_rate", "np.random.rand() > self.exploration_rate"),),
    54: (("self.action_space.sample()", "np.random.randint(1, self.action_space.n)"),),
    55: (("    def compute_loss(self, batch):\n", "    def _store_transition(self, replay_buffer, buffer_action, new_obs, reward, dones, infos):\n        kept = self._last_obs\n        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)\n        if not dones.any():\n            self._last_obs = kept\n\n    def compute_loss(self, batch):\n"),),
    56: (("learning_rate=1e-3", "learning_rate=1e-1"),),
}
