"""Settings: frozen dataclasses whose annotations hold the range of each field.

The docstring below a field is its text in the help and in the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from perilune._utils.validation import LARGEST, Count, NonNegative, Positive, Share, check_fields
from perilune.errors import ConfigError
from perilune.nn.adam import Schedule
from perilune.nn.base import Activation
from perilune.nn.initializers import Initializer
from perilune.nn.losses import Loss
from perilune.nn.optimizers import OptimizerName

RETURNS = (1e-30, 1e30)  # magnitudes of returns that are safe in single precision
RESOLUTION = 1e-6  # of single precision, with a margin


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
    """Activation of the hidden layers that have none of their own."""
    layer_norm: bool = True
    """Normalize the values of each hidden layer before its activation."""
    initializer: Initializer = "he"
    """Distribution of the initial weights."""
    noisy: bool = False
    """Noisy layers: weights with noise of a learned scale, sampled for every action and update."""
    dueling: bool = False
    """Dueling network: Q is the value of the state plus the advantage of each action over their mean."""
    head: HeadName = "expected"
    """Output per action: the expected return, or the distribution of the return (c51, qr)."""
    atoms: Annotated[int, Meta(ge=2, le=10_000)] = 51
    """Atoms of the head c51 (from 2 to 10000)."""
    value_range: tuple[float, float] | None = None
    """Lowest and highest return that the head c51 represents, or None for the other heads."""
    quantiles: Annotated[int, Meta(ge=1, le=10_000)] = 16
    """Quantiles of the head qr (from 1 to 10000)."""

    # One update
    loss: Loss = "huber"
    """Loss between Q(obs, action) and its target. The heads qr and c51 have their own."""
    huber_delta: Positive = 1.0
    """Error above which the Huber loss is linear, in units of return (> 0)."""
    optimizer: OptimizerName = "adam"
    """Optimizer of the weights."""
    learning_rate: Positive = 5e-4
    """Learning rate at the start (> 0)."""
    learning_rate_schedule: Schedule = "constant"
    """Schedule from learning_rate to learning_rate_end."""
    learning_rate_end: NonNegative = 0.0
    """Learning rate at the end of the schedule and after it (>= 0)."""
    learning_rate_decay_steps: Count = 100_000
    """Environment steps of the learning rate schedule (>= 1)."""
    momentum: Share = 0.0
    """Momentum of the optimizer sgd (from 0 to 1)."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay of the optimizer adamw (>= 0)."""
    max_grad_norm: Positive | None = 10.0
    """Global norm to which larger gradients are clipped (> 0), or None."""
    batch_size: Count = 128
    """Transitions in a batch (>= 1)."""
    train_freq: Count = 1
    """Environment steps between updates (>= 1)."""
    gradient_steps: Count = 1
    """Updates every train_freq steps (>= 1)."""
    mirror: bool = False
    """Replace half of every batch by its mirror image under the known symmetry of the environment."""

    # Targets
    gamma: Share = 0.99
    """Discount factor per step (from 0 to 1)."""
    n_step: Count = 3
    """Steps of the n-step return (>= 1)."""
    double: bool = True
    """Double DQN: the online network selects the next action, the target network evaluates it."""
    munchausen: Share = 0.0
    """Munchausen DQN: weight of the action's log-probability in the reward (from 0 to 1; 0 is off)."""
    munchausen_temperature: Positive = 0.03
    """Temperature of the softmax policy in Munchausen DQN, in units of return (> 0)."""
    munchausen_floor: Annotated[float, Meta(le=0)] = -1.0
    """Lower bound of temperature times log-probability in Munchausen DQN (<= 0)."""
    target_update_interval: Count = 1
    """Environment steps between updates of the target network (>= 1)."""
    tau: Annotated[float, Meta(gt=0, le=1)] = 0.005
    """Weight of the online network in a target update (> 0 and <= 1): 1 copies, less averages (Polyak)."""

    ema_decay: Share | None = None
    """Decay (from 0 to 1) of the moving average of the weights, which is then evaluated, or None."""
    ema_acts: bool = False
    """Let the averaged weights also act in training."""

    # The replay buffer
    buffer_size: Count = 100_000
    """Capacity of the replay buffer in transitions (>= 1)."""
    learning_starts: Count = 1_000
    """Environment steps of uniformly random actions before learning starts (>= 1)."""

    priority_alpha: Share = 0.0
    """Prioritized replay: exponent of the TD error in the sampling probability (from 0 to 1; 0 is uniform)."""
    priority_beta: Share = 0.4
    """Exponent of the importance weights at the start (from 0 to 1); 1 corrects the bias fully."""
    priority_beta_steps: Count = 100_000
    """Environment steps over which priority_beta rises linearly to 1 (>= 1)."""

    # Exploration
    epsilon_start: Share = 1.0
    """Epsilon after the warm-up (from 0 to 1)."""
    epsilon_end: Share = 0.05
    """Final epsilon (from 0 to 1)."""
    epsilon_decay_steps: Count = 10_000
    """Environment steps over which epsilon falls linearly (>= 1); unused if epsilon_decay is given."""
    epsilon_decay: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Factor on epsilon after each episode (> 0 and <= 1), or None for the linear schedule."""
    epsilon_decay_per: Literal["episode", "update"] = "episode"
    """Whether epsilon_decay applies per episode or per update."""
    max_action_repeat: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Largest number n of steps a random action is repeated (from 1 to 10000), with probability ~ 1 / n^2."""
    optimism: Annotated[float, Meta(ge=0, le=0.99)] = 0.0
    """Fraction of the lowest quantiles ignored by actions in training, for the head qr (from 0 to 0.99)."""

    def __post_init__(self) -> None:
        hidden = self.hidden
        check_fields(self)
        if not self.hidden or any(isinstance(layer, int) and not 1 <= layer <= LARGEST for layer in self.hidden):
            raise ConfigError("hidden", hidden, "one or more layers of at least 1 unit, for example (128, 128)")
        for name, limit in (
            ("batch_size", "buffer_size"),
            ("learning_starts", "buffer_size"),
            ("epsilon_end", "epsilon_start"),
            ("learning_rate_end", "learning_rate"),
        ):
            value, largest = getattr(self, name), getattr(self, limit)
            if value > largest:
                raise ConfigError(name, value, f"at most {limit}={largest}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Raise ConfigError if settings contradict each other."""
        if self.head == "c51" and self.value_range is None:
            raise ConfigError("value_range", None, "the lowest and highest return, as in (-500, 300), with head='c51'")
        if self.value_range is not None:
            if self.head != "c51":
                raise ConfigError("value_range", self.value_range, f"None, because head={self.head!r} is not 'c51'")
            low, high = self.value_range
            largest = max(abs(low), abs(high))
            if not RETURNS[0] < largest < RETURNS[1] or (high - low) / (self.atoms - 1) <= largest * RESOLUTION:
                expected = f"a lower and a higher return, far enough apart for {self.atoms} atoms in single precision"
                raise ConfigError("value_range", self.value_range, expected)
        if self.head != "expected" and self.loss != "huber":
            raise ConfigError("loss", self.loss, f"'huber' with head={self.head!r}; 'mse' needs head='expected'")
        if self.optimism and self.head != "qr":
            raise ConfigError("optimism", self.optimism, f"0, because head={self.head!r} has no quantiles ('qr' has)")
        if self.ema_acts and self.ema_decay is None:
            raise ConfigError("ema_acts", True, "False, because there is no average without ema_decay")

    @property
    def outputs_per_action(self) -> int:
        """N, the number of outputs of the network for one action."""
        return {"expected": 1, "c51": self.atoms, "qr": self.quantiles}[self.head]

    @property
    def hidden_layers(self) -> tuple[tuple[int, Activation], ...]:
        """(units, activation) of each hidden layer."""
        return tuple(layer if isinstance(layer, tuple) else (layer, self.activation) for layer in self.hidden)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training: budget, evaluations, videos and checkpoints.

    Raises:
        ConfigError: a value is out of range, or there is no budget.
    """

    steps: Count | None = None
    """Environment steps including the warm-up (>= 1), or None for no limit by steps."""
    episodes: Count | None = None
    """Episodes after the warm-up (>= 1), or None for no limit by episodes."""
    max_episode_steps: Count | None = None
    """Steps after which an episode is truncated (>= 1), or None for the limit of the environment."""
    num_envs: Count = 1
    """Environments that run side by side, with one forward pass for all (>= 1)."""
    eval_every: Count | None = 5_000
    """Environment steps between greedy evaluations (>= 1), or None for one at the end only."""
    eval_episodes: Count = 10
    """Episodes per evaluation (>= 1)."""
    stop_at_return: float | None = None
    """Mean return of an evaluation at which training stops, or None."""
    metrics_every: Count = 1_000
    """Environment steps between lines of metrics (>= 1)."""
    video_every: Count | None = None
    """Episodes between videos (>= 1; the first episode is also recorded), or None for no videos."""
    checkpoint_seconds: Positive | None = 30.0
    """Seconds between checkpoints (> 0), or None for only those at the start, best evaluations and the end."""
    keep_checkpoints: Count = 2
    """Newest checkpoints to keep (>= 1), in addition to that of the best evaluation."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.steps is None and self.episodes is None:
            raise ConfigError("steps", None, "a budget: steps, episodes, or both (the first one reached ends training)")
