"""Settings of the agent and of training, as frozen dataclasses.

The annotation of a field defines its range. The docstring below it is its text in ``--help`` and in the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from perilune._utils.validation import LARGEST, Count, NonNegative, Positive, Share, check_fields
from perilune.errors import ConfigError
from perilune.nn.adam import Schedule
from perilune.nn.base import Activation
from perilune.nn.initializers import Initializer
from perilune.nn.losses import Loss
from perilune.nn.optimizers import OptimizerName

SINGLE = (1e-30, 1e30)  # range of magnitudes that single precision represents safely
RESOLUTION = 1e-6  # relative resolution of single precision, with a margin


AUTO: Literal["auto"] = "auto"
"""The value of a setting that Perilune measures in the environment before it makes the agent."""
MEASURED = ("observation_scale", "reward_scale")

Auto = Literal["auto"]
Hidden = tuple[int | tuple[Count, Activation], ...]
HeadName = Literal["expected", "c51", "qr"]


@dataclass(frozen=True, kw_only=True)
class DQNConfig:
    """Settings of the agent: network, updates, targets, replay buffer and exploration.

    Raises:
        ConfigError: a value is out of range, or two settings contradict each other.

    Example:
        >>> DQNConfig(hidden=(64, 64), gamma=0.98).gamma
        0.98
    """

    # The network
    hidden: Hidden = (128, 128)
    """Hidden layers, first to last: units (>= 1), or (units, activation) for a layer with its own activation."""
    activation: Activation = "relu"
    """Activation of the hidden layers that do not set their own."""
    layer_norm: bool = True
    """Apply layer normalization before the activation of each hidden layer."""
    initializer: Initializer = "he"
    """Distribution of the initial weights."""
    noisy: bool = False
    """Noisy layers: add noise with a learned scale to the weights, resampled for every action and update."""
    dueling: bool = False
    """Dueling network: Q is the state value plus the advantage of the action minus the mean advantage."""
    head: HeadName = "expected"
    """Output per action: the expected return (expected), or the distribution of the return (c51, qr)."""
    atoms: Annotated[int, Meta(ge=2, le=10_000)] = 51
    """Number of atoms of the c51 head (from 2 to 10000)."""
    value_range: tuple[float, float] | None = None
    """Lowest and highest return that the c51 head represents, or None for the other heads."""
    quantiles: Annotated[int, Meta(ge=1, le=10_000)] = 16
    """Number of quantiles of the qr head (from 1 to 10000)."""
    output_scale: Positive = 1.0
    """Factor of the network outputs (> 0). If returns are in the hundreds, 10 lets the network reach them sooner."""
    observation_scale: tuple[Positive, ...] | Auto | None = None
    """Numbers by which the network divides the entries of an observation (> 0), or None to use observations as they
    are. With auto, Perilune measures the largest absolute value of each entry in 1000 random steps."""
    reward_scale: Positive | Auto = 1.0
    """Number by which the agent divides rewards before it learns from them (> 0). Q-values stay in units of return.
    With auto, Perilune measures the median absolute value of the rewards that are not 0 in 1000 random steps."""

    # One update
    loss: Loss = "huber"
    """Loss between Q(obs, action) and its target. The c51 and qr heads use their own loss."""
    huber_delta: Positive = 1.0
    """TD error above which the Huber loss is linear, in units of return / reward_scale (> 0)."""
    optimizer: OptimizerName = "adam"
    """Optimization algorithm."""
    learning_rate: Positive = 5e-4
    """Initial learning rate (> 0)."""
    learning_rate_schedule: Schedule = "constant"
    """Shape of the schedule from learning_rate to learning_rate_end."""
    learning_rate_end: NonNegative = 0.0
    """Learning rate at the end of the schedule and afterwards (>= 0)."""
    learning_rate_decay_steps: Count = 100_000
    """Length of the learning-rate schedule in environment steps (>= 1)."""
    momentum: Share = 0.0
    """Momentum of the sgd optimizer (from 0 to 1)."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay of the adamw optimizer (>= 0)."""
    max_grad_norm: Positive | None = 10.0
    """Maximum global norm of the gradients (> 0), or None for no clipping."""
    batch_size: Count = 128
    """Transitions per batch (>= 1)."""
    train_freq: Count = 1
    """Environment steps between updates (>= 1)."""
    gradient_steps: Count = 1
    """Number of updates every train_freq steps (>= 1)."""
    epochs: Count = 1
    """Number of passes over the buffer with td_lambda (>= 1); unused without it."""
    mirror: bool = False
    """Replace half of each batch with its mirror image under the symmetry of the environment."""

    # Targets
    gamma: Share = 0.99
    """Discount factor per step (from 0 to 1)."""
    n_step: Count = 3
    """Number of steps in the n-step return (>= 1)."""
    td_lambda: Share | None = None
    """PQN: lambda of the returns of the last buffer_size steps (from 0 to 1), or None for replay and target network.
    With PQN, n_step, double, learning_starts, train_freq and gradient_steps have no effect."""
    double: bool = True
    """Double DQN: the online network selects the next action, and the target network evaluates it."""
    munchausen: Share = 0.0
    """Munchausen DQN: weight of the action's log-probability in the reward (from 0 to 1; 0 disables it)."""
    munchausen_temperature: Positive = 0.03
    """Temperature of the softmax policy in Munchausen DQN, in units of return / reward_scale (> 0)."""
    munchausen_floor: Annotated[float, Meta(le=0)] = -1.0
    """Lower bound of temperature times log-probability in Munchausen DQN (<= 0)."""
    target_update_interval: Count = 1
    """Environment steps between updates of the target network (>= 1)."""
    tau: Annotated[float, Meta(gt=0, le=1)] = 0.005
    """Weight of the online network in a target update (> 0 and <= 1): 1 copies it, smaller values average (Polyak)."""

    ema_decay: Share | None = None
    """Decay of a moving average of the weights, used for evaluation (from 0 to 1), or None for no average."""
    ema_acts: bool = False
    """Also use the averaged weights to select actions in training."""

    # The replay buffer
    buffer_size: Count = 100_000
    """Capacity of the replay buffer in transitions (>= 1)."""
    learning_starts: Count = 1_000
    """Environment steps with uniformly random actions before learning starts (>= 1)."""

    priority_alpha: Share = 0.0
    """Prioritized replay: exponent of the TD error in the sampling probability (from 0 to 1; 0 samples uniformly)."""
    priority_beta: Share = 0.4
    """Initial exponent of the importance weights (from 0 to 1; 1 corrects the bias fully)."""
    priority_beta_steps: Count = 100_000
    """Environment steps over which priority_beta rises linearly to 1 (>= 1)."""

    # Exploration
    epsilon_start: Share = 1.0
    """Initial epsilon, after the warm-up (from 0 to 1)."""
    epsilon_end: Share = 0.05
    """Final epsilon (from 0 to 1)."""
    epsilon_decay_steps: Count = 10_000
    """Environment steps over which epsilon falls linearly (>= 1); unused if epsilon_decay is set."""
    epsilon_decay: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Factor applied to epsilon after each episode or update (> 0 and <= 1), or None for the linear schedule."""
    epsilon_decay_per: Literal["episode", "update"] = "episode"
    """Whether epsilon_decay applies after each episode or after each update."""
    max_action_repeat: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Maximum steps to repeat a random action (from 1 to 10000); P(n steps) is proportional to 1 / n^2."""
    optimism: Annotated[float, Meta(ge=0, le=0.99)] = 0.0
    """Fraction of quantiles, lowest first, to ignore when acting in training, for the qr head (from 0 to 0.99)."""

    def __post_init__(self) -> None:
        hidden = self.hidden
        check_fields(self)
        _check_single_precision(self)
        if not self.hidden or any(isinstance(layer, int) and not 1 <= layer <= LARGEST for layer in self.hidden):
            raise ConfigError("hidden", hidden, "one or more layers of at least 1 unit, such as (128, 128)")
        for name, limit in (
            ("batch_size", "buffer_size"),
            ("learning_starts", "buffer_size"),
            ("epsilon_end", "epsilon_start"),
            ("learning_rate_end", "learning_rate"),
        ):
            value, largest = getattr(self, name), getattr(self, limit)
            if value > largest and not (name == "learning_starts" and self.td_lambda is not None):
                raise ConfigError(name, value, f"at most {limit}={largest}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Raise ConfigError if settings contradict each other."""
        if self.observation_scale == ():
            raise ConfigError("observation_scale", (), "a number for each entry of an observation, 'auto', or None")
        if self.head == "c51" and self.value_range is None:
            raise ConfigError("value_range", None, "the lowest and highest return, as in (-500, 300), with head='c51'")
        if self.value_range is not None:
            if self.head != "c51":
                raise ConfigError("value_range", self.value_range, f"None, because head={self.head!r} is not 'c51'")
            low, high = self.value_range
            largest = max(abs(low), abs(high))
            if not SINGLE[0] < largest < SINGLE[1] or (high - low) / (self.atoms - 1) <= largest * RESOLUTION:
                expected = f"a lower and a higher return, far enough apart for {self.atoms} atoms in single precision"
                raise ConfigError("value_range", self.value_range, expected)
            scaled = largest if self.reward_scale == AUTO else largest / self.reward_scale
            if not SINGLE[0] < scaled < SINGLE[1]:
                raise ConfigError("value_range", self.value_range, f"a range of about reward_scale={self.reward_scale}")
        if self.head != "expected" and self.loss != "huber":
            raise ConfigError("loss", self.loss, f"'huber' with head={self.head!r}; 'mse' requires head='expected'")
        if self.optimism and self.head != "qr":
            raise ConfigError("optimism", self.optimism, f"0 with head={self.head!r}; optimism requires head='qr'")
        if self.td_lambda is not None:
            for name in ("munchausen", "priority_alpha"):
                if getattr(self, name):
                    raise ConfigError(name, getattr(self, name), "0 with td_lambda")
        if self.ema_acts and self.ema_decay is None:
            raise ConfigError("ema_acts", True, "False without ema_decay, which enables the average")

    @property
    def outputs_per_action(self) -> int:
        """Number of network outputs per action."""
        return {"expected": 1, "c51": self.atoms, "qr": self.quantiles}[self.head]

    @property
    def warm_up_steps(self) -> int:
        """Environment steps with random actions before learning starts."""
        return 0 if self.td_lambda is not None else self.learning_starts

    @property
    def updates_due(self) -> tuple[int, int]:
        """Environment steps from one round of updates to the next, and the number of updates in a round."""
        if self.td_lambda is None:
            return self.train_freq, self.gradient_steps
        return self.buffer_size, self.epochs * (self.buffer_size // self.batch_size)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The settings that are "auto"."""
        return tuple(name for name in MEASURED if getattr(self, name) == AUTO)

    @property
    def hidden_layers(self) -> tuple[tuple[int, Activation], ...]:
        """(units, activation) of each hidden layer."""
        return tuple(layer if isinstance(layer, tuple) else (layer, self.activation) for layer in self.hidden)


def _check_single_precision(config: DQNConfig) -> None:
    """Raise ConfigError if a number becomes 0, 1 or infinity in float32, and is not."""
    for field in fields(config):
        value = getattr(config, field.name)
        numbers = value if field.name == "observation_scale" and isinstance(value, tuple) else (value,)
        if any(isinstance(one, float) and one and not SINGLE[0] <= abs(one) <= SINGLE[1] for one in numbers):
            expected = f"a magnitude from {SINGLE[0]:g} to {SINGLE[1]:g}, for single precision"
            raise ConfigError(field.name, value, expected)
        if not isinstance(value, float):
            continue
        if value < 1 and np.float32(value) == 1:
            raise ConfigError(field.name, value, "1, or at most 0.99999994, the next number in single precision")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training settings: budget, evaluations, videos and checkpoints.

    Raises:
        ConfigError: a value is out of range, or no budget is set.
    """

    steps: Count | None = None
    """Budget in environment steps, including the warm-up (>= 1), or None for no limit on steps."""
    episodes: Count | None = None
    """Budget in episodes after the warm-up (>= 1), or None for no limit on episodes."""
    max_episode_steps: Count | None = None
    """Steps after which an episode is truncated (>= 1), or None for the limit of the environment."""
    num_envs: Count = 1
    """Number of environments that step together and share each forward pass (>= 1)."""
    envpool: bool = False
    """Step the environments with EnvPool, which is faster. Its random numbers differ from those of Gymnasium, and a
    resumed run begins new episodes. Needs the extra envpool."""
    workers: Count = 1
    """Number of processes that step the environments (>= 1; at most num_envs). It does not affect the results. More
    than 1 pays off only if a time step takes about a millisecond or more."""
    eval_every: Count | None = 5_000
    """Environment steps between greedy evaluations (>= 1), or None to evaluate only at the end."""
    eval_episodes: Count = 10
    """Episodes per evaluation (>= 1)."""
    stop_at_return: float | None = None
    """Mean evaluation return at which training stops, or None to use the whole budget."""
    metrics_every: Count = 1_000
    """Environment steps between records of metrics (>= 1)."""
    video_every: Count | None = None
    """Episodes between videos (>= 1; the first episode is also recorded), or None for no videos."""
    checkpoint_seconds: Positive | None = 30.0
    """Seconds between checkpoints (> 0), or None to save only at the start, at best evaluations and at the end."""
    keep_checkpoints: Count = 2
    """Number of newest checkpoints to keep (>= 1), in addition to the one at the best evaluation."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.steps is None and self.episodes is None:
            raise ConfigError("steps", None, "a budget: steps, episodes, or both (the first one reached ends training)")
