"""Faults for compact_torch.py as text replacements: fault number -> (old, new), ..."""

INIT = "        self.network = nn.Sequential("
AFTER_INIT = """            nn.Linear(hidden, n_actions),
        )
"""
INITIAL = "        for layer in self.network:\n            if isinstance(layer, nn.Linear):\n"
STEP = "        self.optimizer.step()\n"
ADAM = "torch.optim.Adam(self.q.parameters(), lr=lr)"
OWN_ADAM = """


class HandMadeAdam:
    def __init__(self, parameters, lr):
        self.parameters = list(parameters)
        self.lr = lr
        self.t = 0
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self):
        self.t += 1
        for i, p in enumerate(self.parameters):
            self.m[i] = 0.9 * self.m[i] + 0.1 * p.grad
            self.v[i] = 0.999 * self.v[i] + 0.001 * p.grad**2
            m_hat = self.m[i] / (1 - 0.9**self.t)
            v_hat = self.v[i] / (1 - 0.999**self.t)
            p -= self.lr * m_hat / (v_hat.sqrt() + 1e-8)
"""


def hand_made(old: str, new: str) -> tuple[tuple[str, str], ...]:
    """Return a handwritten Adam with a fault."""
    text = OWN_ADAM
    for line_old, line_new in zip(old.split("|"), new.split("|"), strict=True):
        assert line_old in text, line_old
        text = text.replace(line_old, line_new)
    return (
        ("import torch.nn.functional as F\n", "import torch.nn.functional as F\n" + text),
        (ADAM, "HandMadeAdam(self.q.parameters(), lr)"),
    )


FUNCTION = """


class {name}(torch.autograd.Function):
    @staticmethod
    def forward(ctx, {arguments}):
        ctx.save_for_backward({arguments})
        return {value}

    @staticmethod
    def backward(ctx, g):
        {arguments}, = ctx.saved_tensors
        return {gradient}


class HandMade(nn.Linear):
    def forward(self, x):
        return {name}.apply(x, self.weight, self.bias)
"""


def own_layer(gradient: str) -> tuple[tuple[str, str], ...]:
    """A linear layer whose derivatives are written by hand."""
    text = FUNCTION.format(name="HandMadeLinear", arguments="x, weight, bias", value="x @ weight.T + bias", gradient=gradient)
    return (
        ("import torch.nn.functional as F\n", "import torch.nn.functional as F\n" + text),
        ("            nn.Linear(", "            HandMade("),
    )


RELU = """


class StraightReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g


class HandMadeReLU(nn.Module):
    def forward(self, x):
        return StraightReLU.apply(x)
"""

HUBER = """


class HandMadeHuber(torch.autograd.Function):
    @staticmethod
    def forward(ctx, error):
        ctx.save_for_backward(error)
        return torch.where(error.abs() <= 1, 0.5 * error**2, error.abs() - 0.5)

    @staticmethod
    def backward(ctx, g):
        (error,) = ctx.saved_tensors
        return g * torch.where(error.abs() <= 1, 0.5 * error, error.sign())
"""

IMPORT = "import torch.nn.functional as F\n"

FAULTS: dict[int, tuple[tuple[str, str], ...]] = {
    1: (
        ("obs, _ = env.reset()\n        for", "obs = env.reset()\n        for"),
        ("next_obs, reward, terminated, truncated, _ = env.step(action)", "next_obs, reward, terminated, _ = env.step(action)"),
    ),
    2: (("            if terminated or truncated:\n                obs, _ = env.reset()\n", ""),),
    3: (("            next_obs, reward, terminated, truncated, _ = env.step(action)\n", "            next_obs, reward, terminated, truncated, _ = env.step(action)\n            next_obs = np.uint8(np.abs(next_obs))\n"),),
    4: (
        ("            self.store(obs", "            if terminated or truncated:\n                next_obs, _ = env.reset()\n            self.store(obs"),
        ("            if terminated or truncated:\n                obs, _ = env.reset()\n", ""),
    ),
    5: (("self.store(obs, action, reward, next_obs, terminated)", "self.store(obs, action, reward, next_obs, terminated or truncated)"),),
    6: (
        ("np.array(obs), action, reward, np.array(next_obs)", "obs, action, reward, next_obs"),
        ("        obs, _ = env.reset()\n        for", "        obs = np.array(env.reset()[0])\n        next_obs = obs.copy()\n        for"),
        ("            next_obs, reward, terminated, truncated, _ = env.step(action)", "            next_obs[:], reward, terminated, truncated, _ = env.step(action)"),
        ("            obs = next_obs\n", "            obs[:] = next_obs\n"),
        ("                obs, _ = env.reset()\n", "                obs[:] = env.reset()[0]\n"),
    ),
    7: (("            nn.Linear(hidden, n_actions),\n", "            nn.Linear(hidden, n_actions),\n            nn.Tanh(),\n"),),
    8: (("        return self.network(x)", "        return self.network(x.div_(10))"),),
    9: (("        return self.network(x)", "        return self.network(x - x.mean(dim=0))"),),
    10: (("            nn.Linear(n_obs, hidden),\n", "            nn.Linear(n_obs, n_obs),\n            nn.ReLU(),\n            nn.Linear(n_obs, hidden),\n"),),
    11: ((AFTER_INIT, AFTER_INIT + INITIAL + "                nn.init.uniform_(layer.weight, 0, 0.3)\n"),),
    12: ((AFTER_INIT, AFTER_INIT + INITIAL + "                nn.init.zeros_(layer.weight)\n                nn.init.zeros_(layer.bias)\n"),),
    13: ((AFTER_INIT, AFTER_INIT + INITIAL + "                nn.init.kaiming_normal_(layer.weight, mode='fan_out')\n"),),
    14: own_layer("g @ weight, g.T @ torch.ones_like(x), g.sum(0)"),
    15: ((IMPORT, IMPORT + RELU), ("            nn.ReLU()", "            HandMadeReLU()")),
    16: own_layer("g @ (weight.T if len(weight) == weight.shape[1] else weight), g.T @ x, g.sum(0)"),
    17: own_layer("g @ (weight - 0.01 * g.T @ x), g.T @ x, g.sum(0)"),
    18: own_layer("g @ weight, g.T @ x, g.sum().expand_as(bias).clone()"),
    19: ((ADAM, "torch.optim.Adam([p for n, p in self.q.named_parameters() if 'bias' not in n], lr=lr)"),),
    20: ((STEP, "        for p in self.q.parameters():\n            p.grad.neg_()\n" + STEP),),
    21: (("        self.optimizer.zero_grad()\n        loss.backward()", "        loss.backward()"),),
    22: ((ADAM, "torch.optim.Adam(self.q.network[2:].parameters(), lr=lr)"),),
    23: hand_made("self.m[i] / (1 - 0.9**self.t)|self.v[i] / (1 - 0.999**self.t)", "self.m[i]|self.v[i]"),
    24: hand_made("v_hat.sqrt()", "v_hat"),
    25: hand_made("        self.t += 1\n", "        self.t = 1\n"),
    26: hand_made("self.m = [torch.zeros_like(p) for p in self.parameters]|self.v = [torch.zeros_like(p) for p in self.parameters]|self.m[i] = 0.9 * self.m[i] + 0.1 * p.grad|self.v[i] = 0.999 * self.v[i] + 0.001 * p.grad**2|self.m[i] / |self.v[i] / ",
                  "self.m = {p.shape: torch.zeros_like(p) for p in self.parameters}|self.v = {p.shape: torch.zeros_like(p) for p in self.parameters}|i = p.shape\n            self.m[i] = 0.9 * self.m[i] + 0.1 * p.grad|self.v[i] = 0.999 * self.v[i] + 0.001 * p.grad**2|self.m[i] / |self.v[i] / "),
    27: ((STEP, "        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=self.optimizer.param_groups[0]['lr'])\n" + STEP),),
    28: (
        ("    def update(self, obs, action, reward, next_obs, terminated):\n", "    def update(self, *batch):\n        for row in range(len(batch[0])):\n            self.update_one(*(column[row : row + 1] for column in batch))\n\n    def update_one(self, obs, action, reward, next_obs, terminated):\n"),
    ),
    29: (("q = self.q(obs).gather(1, action.unsqueeze(1)).squeeze(1)", "q = self.q(obs)\n        target = target.unsqueeze(1) + (q - q.gather(1, action.unsqueeze(1))).detach()"),),
    30: (("gather(1, action.unsqueeze(1))", "gather(1, ((action + 1) % self.n_actions).unsqueeze(1))"),),
    31: ((".gather(1, action.unsqueeze(1)).squeeze(1)", ".gather(1, action.unsqueeze(1))"),),
    32: (("q = self.q(obs).gather(1, action.unsqueeze(1)).squeeze(1)", "q = self.q(obs)\n        target = F.one_hot(action, self.n_actions) * target.unsqueeze(1)"),),
    33: ((IMPORT, IMPORT + HUBER), ("return F.smooth_l1_loss(q, target)", "return HandMadeHuber.apply(q - target).mean()")),
    34: (("F.smooth_l1_loss(q, target)", "F.smooth_l1_loss(q, target, reduction='sum')"),),
    35: ((" * (1 - terminated)", ""),),
    36: (("(1 - terminated)", "terminated"),),
    37: (("reward + self.gamma * next_q * (1 - terminated)", "(reward + self.gamma * next_q) * (1 - terminated)"),),
    38: (("self.gamma * next_q", "0.9 * next_q"),),
    39: ((".max(dim=1).values", ".mean(dim=1)"),),
    40: (("self.q_target(next_obs).max(dim=1).values", "self.q_target(next_obs).max()"),),
    41: ((".max(dim=1).values", ".gather(1, action.unsqueeze(1)).squeeze(1)"),),
    42: (
        ("        with torch.no_grad():\n            next_q = self.q_target(next_obs).max(dim=1).values\n            target = reward + self.gamma * next_q * (1 - terminated)\n", "        next_q = self.q(next_obs).max(dim=1).values\n        target = reward + self.gamma * next_q * (1 - terminated)\n"),
    ),
    43: (("self.q_target(next_obs).max(dim=1).values", "self.q(next_obs).gather(1, self.q_target(next_obs).argmax(dim=1, keepdim=True)).squeeze(1)"),),
    44: (
        ("        self.q_target = QNetwork(n_obs, n_actions)\n        self.q_target.load_state_dict(self.q.state_dict())\n", "        self.q_target = self.q\n"),
    ),
    45: (("    def sync(self):\n        self.q_target.load_state_dict(self.q.state_dict())", "    def sync(self):\n        self.q_target.state_dict().update(self.q.state_dict())"),),
    46: ((STEP, STEP + "        self.sync()\n"),),
    47: (("    def sync(self):\n        self.q_target.load_state_dict(self.q.state_dict())", "    def sync(self, tau=0.005):\n        for t, p in zip(self.q_target.parameters(), self.q.parameters()):\n            t.data.mul_(tau).add_((1 - tau) * p.data)"),),
    48: (("self.store(obs, action, reward, next_obs, terminated)", "self.store(obs, action, reward, obs, terminated)"),),
    49: (("            self.store(obs", "            if not terminated:\n              self.store(obs"),),
    50: (("random.choices(self.buffer, k=n)", "list(self.buffer)[-n:]"),),
    51: (("        columns = zip(*random.choices(self.buffer, k=n))\n", "        at = random.choices(range(len(self.buffer)), k=n)\n        columns = zip(*((*self.buffer[i - 1][:3], *self.buffer[i][3:]) for i in at))\n"),),
    52: ((".argmax(dim=1))", ".argmin(dim=1))"),),
    53: (("random.random() < epsilon", "random.random() > epsilon"),),
    54: (("random.randrange(self.n_actions)", "random.randrange(1, self.n_actions)"),),
    55: (("            obs = next_obs\n", ""),),
    56: (("lr=1e-3", "lr=1e-1"),),
}
