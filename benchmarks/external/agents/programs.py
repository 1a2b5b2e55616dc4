"""Programs and small libraries from public repositories, read and found sound."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmarks.external.sources import definitions, load
from perilune.doctor.adapters import replay_agent

SIZE, ACTIONS = 4, 2  # as in CartPole-v1, for which most of these programs were written
CPU = torch.device("cpu")


def column(values: Any, dtype: Any = torch.float32) -> torch.Tensor:
    """Return a tensor of shape (B, 1)."""
    return torch.as_tensor(np.asarray(values).reshape(-1, 1)).to(dtype)


def tensors(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> tuple[torch.Tensor, ...]:
    """Return the columns as tensors of shape (B, ...) and (B, 1); terminated as floats."""
    return (
        torch.as_tensor(obs),
        column(action, torch.int64),
        column(reward),
        torch.as_tensor(next_obs),
        column(terminated),
    )


def seeded(build: Callable[[], Any], seed: int = 0) -> Any:
    """Build an adapter after seeding PyTorch."""
    torch.manual_seed(seed)
    return build()


def with_epsilon(method: str, attribute: str = "epsilon") -> Callable[[Any, Any, float], int]:
    """Return act(agent, obs, epsilon) for an agent that stores epsilon in an attribute."""

    def act(agent: Any, obs: Any, epsilon: float) -> int:
        setattr(agent, attribute, epsilon)
        return int(getattr(agent, method)(obs))

    return act


def udacity() -> Any:
    """Return the solution of Udacity's exercise."""
    module = load("udacity/deep-reinforcement-learning", "dqn/solution/dqn_agent.py")
    agent = module.Agent(state_size=SIZE, action_size=ACTIONS, seed=0)

    def learn(agent: Any) -> None:
        agent.learn(agent.memory.sample(), module.GAMMA)

    return replay_agent(
        agent, memory="memory", learn=learn, batch=tensors, batch_size=None, gamma=module.GAMMA, observation_size=SIZE,
        q_values="qnetwork_local", target_q_values="qnetwork_target",
        sync_target=lambda agent: agent.soft_update(agent.qnetwork_local, agent.qnetwork_target, module.TAU),
        act="act", remember=lambda agent, *step: agent.memory.add(*step[:5]),
        sample=lambda agent, n: drawn(agent.memory, n),
    )  # fmt: skip


def drawn(memory: Any, n: int) -> Any:
    """Draw n transitions from a memory that has a batch size of its own."""
    kept, memory.batch_size = memory.batch_size, n
    try:
        return memory.sample()
    finally:
        memory.batch_size = kept


def minimal() -> Any:
    """Return minimalRL's DQN."""
    module = load("seungeunrho/minimalRL", "dqn.py")
    agent = SimpleNamespace(q=module.Qnet(), q_target=module.Qnet(), memory=module.ReplayBuffer())
    agent.q_target.load_state_dict(agent.q.state_dict())
    agent.optimizer = torch.optim.Adam(agent.q.parameters(), lr=module.learning_rate)

    def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> Any:
        return *tensors(obs, action, reward, next_obs, terminated)[:4], 1 - column(terminated)

    return replay_agent(
        agent, memory="memory", batch=batch, batch_size=None, gamma=module.gamma, observation_size=SIZE,
        learn=lambda agent: module.train(agent.q, agent.q_target, agent.memory, agent.optimizer),
        q_values="q", target_q_values="q_target",
        sync_target=lambda agent: agent.q_target.load_state_dict(agent.q.state_dict()),
        act=lambda agent, obs, epsilon: agent.q.sample_action(torch.as_tensor(obs), epsilon),
    )  # fmt: skip


def rainbow_is_all_you_need(file: str, **settings: Any) -> Any:
    """Return an agent of Curt-Park/rainbow-is-all-you-need."""
    module = definitions("Curt-Park/rainbow-is-all-you-need", file)
    env = gymnasium.make("CartPole-v1")
    noisy, prioritized = "epsilon_decay" not in settings, "alpha" in settings
    agent = module.DQNAgent(env, 1000, 32, 100, seed=0, **settings)
    for step in range(256):  # priorities need stored transitions
        agent.memory.store(np.zeros(SIZE), 0, 0.0, np.zeros(SIZE), step % 2)

    def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> Any:
        made = {"obs": obs, "acts": action, "rews": reward, "next_obs": next_obs, "terminated": terminated}
        rows = np.arange(len(action))
        return made | ({"weights": np.ones(len(action)), "indices": rows} if prioritized else {})

    optional: dict[str, Any] = {} if noisy else {"act": with_epsilon("select_action")}
    return replay_agent(
        agent, memory="memory", learn="update_model", draw="sample_batch", batch=batch, observation_size=SIZE,
        q_values="dqn", target_q_values="dqn_target", sync_target="_target_hard_update", **optional,
    )  # fmt: skip


def xinjinghao(file: str, kind: str, net_width: int = 200, **settings: Any) -> Any:
    """Return an agent of XinJingHao/DRL-Pytorch."""
    module: Any = load("XinJingHao/DRL-Pytorch", file)
    common = {"dvc": CPU, "state_dim": SIZE, "action_dim": ACTIONS, "gamma": 0.99, "lr": 1e-4, "batch_size": 256}
    create = module.ReplayBuffer
    module.ReplayBuffer = lambda *args, max_size: create(*args, max_size=10_000)  # a million is slow to copy
    agent = getattr(module, kind)(**common, exp_noise=0.2, net_width=net_width, buffer_size=10_000, **settings)

    def batch(*columns: Any) -> Any:
        *others, terminated = tensors(*columns)
        return *others, terminated.bool()

    def learn(agent: Any) -> None:
        if hasattr(agent, "atoms"):  # arrays with one row for each transition of a batch
            agent.m = torch.zeros(agent.batch_size, agent.n_atoms)
            agent.offset = agent.n_atoms * torch.arange(agent.batch_size).unsqueeze(-1)
        agent.train()

    def remember(
        agent: Any, obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any, truncated: Any
    ) -> None:
        agent.replay_buffer.add(obs, action, reward, next_obs, terminated)

    def act(agent: Any, obs: Any, epsilon: float) -> int:
        agent.exp_noise = epsilon
        return int(agent.select_action(obs, deterministic=False))

    def values(network: str) -> Callable[..., Any]:
        def q_values(agent: Any, obs: Any) -> Any:
            net, states = getattr(agent, network), torch.as_tensor(obs)
            return net._predict(states)[1] if hasattr(agent, "atoms") else net(states)

        return q_values

    optional: dict[str, Any] = {"act": act} if kind != "NoisyNetDQN_agent" else {}
    return replay_agent(
        agent, memory="replay_buffer", learn=learn, batch=batch, observation_size=SIZE,
        q_values=values("q_net"), target_q_values=values("q_target"), remember=remember,
        sample=lambda agent, n: agent.replay_buffer.sample(n), **optional,
    )  # fmt: skip


def johnnycode(**settings: Any) -> Any:
    """Return the update of johnnycode8/dqn_pytorch, whose networks are local variables of its training loop."""
    module = definitions("johnnycode8/dqn_pytorch", "agent.py")
    module.device = CPU
    agent = module.Agent.__new__(module.Agent)
    agent.__dict__ |= {"discount_factor_g": 0.99, "loss_fn": torch.nn.MSELoss(), "enable_double_dqn": False, **settings}
    agent.policy, agent.target = (module.DQN(SIZE, ACTIONS, 128, agent.enable_dueling_dqn) for _ in range(2))
    agent.target.load_state_dict(agent.policy.state_dict())
    agent.optimizer = torch.optim.Adam(agent.policy.parameters(), lr=1e-3)
    agent.memory = module.ReplayMemory(10_000)

    def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> Any:
        columns = (torch.as_tensor(one) for one in (obs, action, next_obs, reward))
        return list(zip(*columns, terminated, strict=True))

    return replay_agent(
        agent, memory="memory", batch=batch, batch_size=None, gamma=0.99, observation_size=SIZE,
        learn=lambda agent: agent.optimize(agent.memory.sample(32), agent.policy, agent.target),
        q_values="policy", target_q_values="target",
        sync_target=lambda agent: agent.target.load_state_dict(agent.policy.state_dict()),
    )  # fmt: skip


class Direct:
    """Adapter for agents whose update takes a batch."""

    observation_size = SIZE

    def __init__(self, agent: Any, gamma: float, learn: Callable[..., Any], online: Any, target: Any, act: Any) -> None:
        self.agent, self.gamma, self.learn, self.choose = agent, gamma, learn, act
        self.online, self.target = online, target

    def q_values(self, obs: Any) -> Any:
        """Return Q-values of the online network."""
        return self.online(self.agent)(torch.as_tensor(obs))

    def target_q_values(self, obs: Any) -> Any:
        """Return Q-values of the target network."""
        return self.target(self.agent)(torch.as_tensor(obs))

    def train_batch(self, *columns: Any) -> None:
        """Run one update."""
        self.learn(self.agent, *columns)

    def act(self, obs: Any, epsilon: float) -> int:
        """Return an action."""
        return int(self.choose(self.agent, obs, epsilon))


def hands_on(chapter: str, cells: int, **settings: Any) -> Any:
    """Return a DQN of the book Hands-on Reinforcement Learning by boyu-ai."""
    module = definitions("boyu-ai/Hands-on-RL", chapter, cells)
    agent = module.DQN(SIZE, 128, ACTIONS, 2e-3, 0.98, 0.01, 10, CPU, **settings)

    def learn(agent: Any, *columns: Any) -> None:
        names = ("states", "actions", "rewards", "next_states", "dones")
        agent.update(dict(zip(names, columns, strict=True)))

    act = with_epsilon("take_action")
    return Direct(agent, 0.98, learn, lambda agent: agent.q_net, lambda agent: agent.target_q_net, act)


def deep_rl(algorithm: str) -> Any:
    """Return the DQN or the Double DQN of dongminlee94/deep_rl."""
    module = load("dongminlee94/deep_rl", "agents/dqn.py")
    agent = module.Agent(None, SimpleNamespace(algo=algorithm), CPU, SIZE, ACTIONS, steps=1, q_losses=[])

    def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> Any:
        states, actions, _, next_states, _ = tensors(obs, action, reward, next_obs, terminated)
        rewards, ends = torch.as_tensor(reward), torch.as_tensor(terminated.astype(np.float32))
        return {"obs1": states, "acts": actions, "rews": rewards, "obs2": next_states, "done": ends}

    return replay_agent(
        agent, memory="replay_buffer", learn="train_model", batch=batch, observation_size=SIZE,
        q_values="qf", target_q_values="qf_target",
        sync_target=lambda agent: module.hard_target_update(agent.qf, agent.qf_target),
    )  # fmt: skip


def lizhi(**settings: Any) -> Any:
    """Return the Rainbow of Lizhi-sjtu/DRL-code-pytorch with some of its parts."""
    module = load("Lizhi-sjtu/DRL-code-pytorch", "3.Rainbow_DQN/rainbow_dqn.py")
    parts = ("use_double", "use_dueling", "use_noisy", "use_per", "use_n_steps", "use_lr_decay")
    args = SimpleNamespace(
        state_dim=SIZE, action_dim=ACTIONS, hidden_dim=256, batch_size=256, max_train_steps=400_000, lr=1e-4,
        gamma=0.99, tau=0.005, use_soft_update=True, target_update_freq=200, grad_clip=10.0, n_steps=5,
        buffer_capacity=10_000, **dict.fromkeys(parts, False),
    )  # fmt: skip
    args.__dict__.update(settings)
    agent = module.DQN(args)
    agent.memory = SimpleNamespace(sample=None, update_batch_priorities=lambda *_: None)

    def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> Any:
        states, actions, _, next_states, _ = tensors(obs, action, reward, next_obs, terminated)
        rewards, ends = torch.as_tensor(reward), torch.as_tensor(terminated.astype(np.float32))
        made = {"state": states, "action": actions, "reward": rewards, "next_state": next_states, "terminal": ends}
        return made, np.arange(len(ends)), torch.ones(len(ends))

    adapter = replay_agent(
        agent, memory="memory", learn=lambda agent: agent.learn(agent.memory, 0), batch=batch, batch_size=None,
        gamma=args.gamma, observation_size=SIZE, q_values="net", target_q_values="target_net",
        **({} if args.use_noisy else {"act": "choose_action"}),
    )  # fmt: skip
    if args.use_n_steps:
        adapter.n_step = args.n_steps  # type: ignore[attr-defined]
    return adapter


def iqn(munchausen: bool, network: str = "iqn") -> Any:
    """Return the implicit quantile network of BY571/IQN-and-Extensions."""
    module = load("BY571/IQN-and-Extensions", "agent.py")
    agent = module.IQN_Agent(
        (SIZE,), ACTIONS, network, munchausen, layer_size=128, n_step=1, BATCH_SIZE=32, BUFFER_SIZE=1000, LR=1e-3,
        TAU=1e-2, GAMMA=0.99, N=8, worker=1, device="cpu", seed=0,
    )  # fmt: skip
    return replay_agent(
        agent, memory="memory", batch=tensors, batch_size="BATCH_SIZE", gamma=0.99, observation_size=SIZE,
        learn=lambda agent: agent.learn(agent.memory.sample()),
        q_values=lambda agent, obs: agent.qnetwork_local.get_qvalues(torch.as_tensor(obs)),
        target_q_values=lambda agent, obs: agent.qnetwork_target.get_qvalues(torch.as_tensor(obs)),
        act=lambda agent, obs, epsilon: agent.act(obs[None], epsilon)[0],
    )  # fmt: skip


def elegant(kind: str) -> Any:
    """Return a Double DQN of ElegantRL."""
    load("AI4Finance-Foundation/ElegantRL", "elegantrl/__init__.py")
    module = importlib.import_module("elegantrl.agents.AgentDQN")
    args = module.Config()
    args.__dict__ |= {"if_discrete": True, "num_envs": 1, "batch_size": 64, "if_use_per": False}
    agent = getattr(module, kind)([64, 64], SIZE, ACTIONS, gpu_id=-1, args=args)
    agent.memory = SimpleNamespace(sample=None)

    def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> Any:
        ends = torch.as_tensor(terminated.astype(np.float32))
        return (
            torch.as_tensor(obs), torch.as_tensor(action), torch.as_tensor(reward), 1 - ends, torch.ones(len(ends)),
            torch.as_tensor(next_obs),
        )  # fmt: skip

    def act(agent: Any, obs: Any, epsilon: float) -> int:
        agent.explore_rate = epsilon
        return int(agent.explore_action(torch.as_tensor(obs)[None])[0])

    return replay_agent(
        agent, memory="memory", learn=lambda agent: agent.update_objectives(agent.memory, 0), batch=batch,
        observation_size=SIZE, act=act,
        q_values=lambda agent, obs: agent.cri.get_q_value(torch.as_tensor(obs)),
        target_q_values=lambda agent, obs: agent.cri_target.get_q_value(torch.as_tensor(obs)),
    )  # fmt: skip


def rl_agents(**settings: Any) -> Any:
    """Return the DQN of eleurent/rl-agents."""
    module = load("eleurent/rl-agents", "rl_agents/agents/deep_q_network/pytorch.py")
    config = {"device": "cpu", "target_update": 50, "gamma": 0.99, **settings}
    agent = module.DQNAgent(gymnasium.make("CartPole-v1"), config)

    def learn(agent: Any) -> None:
        residual, _, _ = agent.compute_bellman_residual(agent.sample_minibatch())
        agent.step_optimizer(residual)

    def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> Any:
        return list(zip(obs, action, reward, next_obs, terminated, [{}] * len(action), strict=True))

    return replay_agent(
        agent, memory="memory", learn=learn, batch=batch, batch_size=None, gamma=0.99, observation_size=SIZE,
        q_values="value_net", target_q_values="target_net",
        sync_target=lambda agent: agent.target_net.load_state_dict(agent.value_net.state_dict()),
    )  # fmt: skip


PARK, DUELING = {"epsilon_decay": 1 / 2000}, "2.1_Duel-Double-DQN/DQN.py"
SUPPORT = {"v_min": 0.0, "v_max": 200.0, "atom_size": 51}
PRIORITIES = {"alpha": 0.2, "beta": 0.6, "prior_eps": 1e-6}

BUILDS: dict[str, Callable[[], Any]] = {
    "udacity-solution": udacity,
    "minimalrl-dqn": minimal,
    "curt-park-dqn": partial(rainbow_is_all_you_need, "01_dqn.py", **PARK),
    "curt-park-double": partial(rainbow_is_all_you_need, "02_double_q.py", **PARK),
    "curt-park-per": partial(rainbow_is_all_you_need, "03_per.py", **PARK, **PRIORITIES),
    "curt-park-dueling": partial(rainbow_is_all_you_need, "04_dueling.py", **PARK),
    "curt-park-noisy": partial(rainbow_is_all_you_need, "05_noisy_net.py"),
    "curt-park-categorical": partial(rainbow_is_all_you_need, "06_categorical_dqn.py", **PARK, **SUPPORT),
    "curt-park-rainbow": partial(rainbow_is_all_you_need, "08_rainbow.py", n_step=1, **SUPPORT, **PRIORITIES),
    "xinjinghao-dqn": partial(xinjinghao, DUELING, "DQN_agent", Double=False, Duel=False),
    "xinjinghao-duel-double": partial(xinjinghao, DUELING, "DQN_agent", Double=True, Duel=True),
    "xinjinghao-noisy": partial(xinjinghao, "2.5_NoisyNet-DQN/NoisyNetDQN.py", "NoisyNetDQN_agent"),
    "xinjinghao-c51": partial(
        xinjinghao, "2.4_Categorical-DQN_C51/Categorical_DQN.py", "CDQN_agent", DQL=True, v_min=-100, v_max=100,
        n_atoms=51,
    ),
    "johnnycode8-dqn": partial(johnnycode, enable_dueling_dqn=False),
    "johnnycode8-double-dueling": partial(johnnycode, enable_dueling_dqn=True, enable_double_dqn=True),
    "hands-on-rl-dqn": partial(hands_on, "第7章-DQN算法.ipynb", 4),
    "hands-on-rl-double": partial(hands_on, "第8章-DQN改进算法.ipynb", 2, dqn_type="DoubleDQN"),
    "deep-rl-dqn": partial(deep_rl, "dqn"),
    "deep-rl-ddqn": partial(deep_rl, "ddqn"),
    "lizhi-dqn": partial(lizhi),
    "lizhi-double-dueling-per": partial(lizhi, use_double=True, use_dueling=True, use_per=True),
    "lizhi-rainbow": partial(
        lizhi, use_double=True, use_dueling=True, use_noisy=True, use_per=True, use_n_steps=True, use_lr_decay=True
    ),
    "by571-iqn": partial(iqn, munchausen=False),
    "by571-munchausen-iqn": partial(iqn, munchausen=True),
    "elegantrl-double-dqn": partial(elegant, "AgentDoubleDQN"),
    "elegantrl-d3qn": partial(elegant, "AgentD3QN"),
    "rl-agents-dqn": partial(rl_agents, double=False),
    "rl-agents-double-dueling": partial(rl_agents),
}  # fmt: skip

AGENTS = {name: partial(seeded, build) for name, build in BUILDS.items()}
