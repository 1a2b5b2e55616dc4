"""The agent: act, observe, learn. It does not depend on environments, files or clocks."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.seeding import generators
from perilune.agent import exploration, munchausen
from perilune.agent.config import DQNConfig
from perilune.agent.exploration import OngoingEpisode
from perilune.agent.factory import check_symmetry, diverged, make_head, make_networks, make_optimizer, reward_scale
from perilune.agent.heads import upper_mean
from perilune.agent.targets import expected_value, greedy
from perilune.errors import DivergenceError, ShapeError, UsageError
from perilune.nn.adam import clip_by_global_norm, scheduled
from perilune.nn.network import Network
from perilune.replay.buffer import Batch, NStep, Replay
from perilune.replay.prioritized import Priorities
from perilune.replay.rollout import Rollout
from perilune.replay.symmetry import Symmetry

QUIETLY = np.errstate(all="ignore")  # the agent reports numbers that are not finite itself, not np.seterr


class Update(NamedTuple):
    """Results of one update. Q-values and targets are in units of return.

    Attributes:
        loss: the loss, for rewards divided by ``reward_scale``.
        mean_q: mean of Q(obs, action) over the batch.
        mean_td_target: mean of the TD targets.
        gradient_norm: norm of the gradient before clipping.
        learning_rate: the step size.
    """

    loss: float
    mean_q: float
    mean_td_target: float
    gradient_norm: float
    learning_rate: float


class Agent:
    """A deep Q-network: online and target network, optimizer, replay buffer and exploration.

    Args:
        observation_size: O, the size of an observation.
        actions: A, the number of actions, which are numbered from 0.
        config: the settings.
        seed: seed of the random generators. Each purpose has its own generator.
        symmetry: symmetry of the environment, for the setting ``mirror``.

    Attributes:
        env_steps: environment steps so far.
        updates: updates so far.
        episodes: episodes so far, without those of the warm-up.
        target_syncs: updates of the target network so far.
        update_every: environment steps from one round of updates to the next.
        reward_scale: number by which rewards are divided. The networks, their targets and the replay buffer are in
            units of return / reward_scale. ``q_values`` and ``Update`` are in units of return.

    Raises:
        ConfigError: the layers do not fit into memory, ``observation_scale`` has another length than an observation, a
            setting is "auto", or ``mirror`` is set without a symmetry of the right size.

    Mnih et al., Human-level control through deep reinforcement learning, Nature 518, 2015.

    Example:
        >>> agent = Agent(4, 2, DQNConfig(), seed=0)
        >>> agent.q_values(np.zeros((3, 4))).shape
        (3, 2)
    """

    def __init__(
        self, observation_size: int, actions: int, config: DQNConfig, seed: int, symmetry: Symmetry | None = None
    ) -> None:
        self.observation_size = observation_size
        self.actions = actions
        self.config = config
        self.seed = seed
        self.generators = generators(seed)
        self.symmetry = symmetry
        if config.mirror:
            check_symmetry(symmetry, observation_size, actions)
        self.reward_scale = reward_scale(config)
        self.head = make_head(config, self.reward_scale)
        networks = make_networks(config, observation_size, actions, self.generators.network)
        self.online, self.target, self.average = networks
        self.optimizer = make_optimizer(config, len(self.online.parameters))
        self.replay = Replay(config.buffer_size, observation_size)
        self.priorities = Priorities(config.buffer_size, config.priority_alpha) if config.priority_alpha else None
        self.rollout = None if config.td_lambda is None else Rollout(self.replay, config.gamma, config.td_lambda)
        self.ongoing: list[OngoingEpisode] = []  # one per environment
        self.begin_episode()
        self.update_every = config.updates_due[0]
        self._warm_up_steps = config.warm_up_steps
        self.env_steps = self.updates = 0
        self.episodes = self.target_syncs = 0
        self._allocate(0)
        self._durations = exploration.duration_thresholds(config.max_action_repeat)

    # Act

    @property
    def policy_network(self) -> Network:
        """The network used for evaluation: the moving average if there is one, else the online network."""
        return self.online if self.average is None else self.average

    @QUIETLY
    def q_values(self, obs: Array, network: Network | None = None) -> Array:
        """Return Q(obs, a), float32 [N, A].

        Args:
            obs: observations, float [N, O].
            network: the network to use, by default ``policy_network``.

        Raises:
            ShapeError: ``obs`` has the wrong shape.
        """
        obs = np.asarray(obs, np.float32)
        if obs.ndim != 2 or obs.shape[1] != self.observation_size:
            raise ShapeError(f"q_values needs obs[N, {self.observation_size}], got {list(obs.shape)}")
        network = self.policy_network if network is None else network
        if self.config.noisy:
            network.silence()
        return self.head.mean(self._read(network, obs)) * np.float32(self.reward_scale)

    def greedy_action(self, obs: Array) -> int:
        """Return argmax_a Q(obs, a). If several actions have the largest value, return the first.

        Args:
            obs: an observation, float [O].
        """
        return int(self.q_values(np.asarray(obs)[None]).argmax())

    @QUIETLY
    def act(self, obs: Array, epsilon: float | None = None) -> list[int]:
        """Return the actions for training: each is exploratory with probability epsilon, else greedy.

        Args:
            obs: the observation of each environment, float32 [K, O].
            epsilon: probability of exploration, by default that of the schedule.
        """
        epsilon = self.epsilon if epsilon is None else epsilon
        playing = self.ongoing[: len(obs)]
        draws = iter(self.generators.exploration.random(sum(not one.repeats_left for one in playing)).tolist())
        explores = [one.repeats_left > 0 or next(draws) < epsilon for one in playing]
        actions = [self.explore(index) if explore else None for index, explore in enumerate(explores)]
        if None in actions:
            chosen = self._training_actions(obs)
            return [int(chosen[index]) if action is None else action for index, action in enumerate(actions)]
        return [action for action in actions if action is not None]

    def _training_actions(self, obs: Array) -> Array:
        """Return the greedy actions [K] for training, with noise and optimism if they are enabled."""
        network = self.policy_network if self.config.ema_acts else self.online
        if self.config.noisy:
            network.draw_noise(self.generators.exploration)
        values = self._read(network, obs)
        return greedy(upper_mean(values, self.config.optimism) if self.config.optimism else self.head.mean(values))

    def explore(self, env: int = 0) -> int:
        """Return an exploratory action: repeat the current one, or draw one uniformly if no repeats are left.

        Args:
            env: index of the environment.
        """
        ongoing, generator = self.ongoing[env], self.generators.exploration
        if ongoing.repeats_left:
            ongoing.repeats_left -= 1
            return ongoing.action
        ongoing.action = int(generator.integers(self.actions))
        if self.config.max_action_repeat > 1:
            ongoing.repeats_left = exploration.duration(self._durations, generator.random()) - 1
        return ongoing.action

    @property
    def warm(self) -> bool:
        """Whether the replay buffer holds enough transitions to start learning."""
        return len(self.replay) >= self._warm_up_steps

    @property
    def epsilon(self) -> float:
        """Probability of exploration: 1 in the warm-up, then from epsilon_start to epsilon_end."""
        config = self.config
        if not self.warm:
            return 1.0
        if config.epsilon_decay is None:
            count = self.env_steps - self._warm_up_steps
            return scheduled("linear", config.epsilon_start, config.epsilon_end, count, config.epsilon_decay_steps)
        count = self.episodes if config.epsilon_decay_per == "episode" else self.updates
        return exploration.multiplicative_epsilon(config.epsilon_start, config.epsilon_end, config.epsilon_decay, count)

    @property
    def learning_rate(self) -> float:
        """The current step size."""
        c = self.config
        span = c.learning_rate_decay_steps
        return scheduled(c.learning_rate_schedule, c.learning_rate, c.learning_rate_end, self.env_steps, span)

    @property
    def priority_beta(self) -> float:
        """The current exponent of the importance weights."""
        return scheduled("linear", self.config.priority_beta, 1.0, self.env_steps, self.config.priority_beta_steps)

    # Observe

    def begin_episode(self, env: int = 0) -> None:
        """Begin an episode and drop the incomplete n-step returns of the previous episode.

        Args:
            env: index of the environment.
        """
        self.ongoing[env : env + 1] = [OngoingEpisode(NStep(self.config.n_step, self.config.gamma))]

    def begin_training(self, envs: int) -> None:
        """Begin a training run. Drop an unfinished rollout and the episodes of other environments.

        Args:
            envs: number of environments.
        """
        del self.ongoing[envs:]
        if self.rollout is not None:
            self.rollout.drop_unfinished()

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool, env: int = 0
    ) -> None:
        """Count and store a time step in the replay buffer. The arrays must not change later.

        Args:
            obs: the observation, float32 [O].
            action: the action taken.
            reward: the reward.
            next_obs: the next observation, float32 [O].
            terminated: whether the task has ended.
            truncated: whether the episode was cut off, for example by a time limit.
            env: index of the environment.
        """
        self.env_steps += 1
        reward /= self.reward_scale
        for transition in self.ongoing[env].n_step.push(obs, action, reward, next_obs, terminated, truncated):
            slot = self.replay.add(*transition)
            if self.priorities is not None:
                self.priorities.add(slot)

    @QUIETLY
    def observe(
        self,
        obs: Array,
        action: Sequence[int],
        reward: Sequence[float],
        next_obs: Array,
        terminated: Sequence[bool],
        truncated: Sequence[bool],
    ) -> Update | None:
        """Store one time step of each environment. After the warm-up, learn and update the target network when due.

        Args:
            obs: the observations, float32 [K, O], which must not change later.
            action: the action taken in each environment, [K].
            reward: the rewards, [K].
            next_obs: the next observations, float32 [K, O], which must not change later.
            terminated: whether the task has ended, [K].
            truncated: whether the episode was cut off, for example by a time limit, [K].

        Returns:
            The last update, if any.
        """
        before = self.env_steps
        if self.rollout is not None:
            self.env_steps += len(obs)
            self.rollout.add(obs, action, np.divide(reward, self.reward_scale), next_obs, terminated, truncated)
        else:
            columns = (obs, action, reward, next_obs, terminated, truncated, range(len(obs)))
            for step in zip(*columns, strict=True):
                self.remember(*step)
        if not self.warm:
            return None
        self.episodes += sum(map(operator.or_, terminated, truncated))
        if self.rollout is not None:
            return self._learn_rollout(self.rollout) if self.rollout.full else None
        update = None
        for count in range(before + 1, self.env_steps + 1):
            if count % self.config.train_freq == 0:
                for _ in range(self.config.gradient_steps):
                    update = self.learn()
            if count % self.config.target_update_interval == 0:
                self.sync_target()
        return update

    # Learn

    @QUIETLY
    def learn(self) -> Update:
        """Run one update: sample a batch, differentiate the loss, clip the gradient and step the optimizer.

        Returns:
            The results of the update.

        Raises:
            DivergenceError: the loss, a gradient or a weight is not finite.
            UsageError: the replay buffer is empty.
        """
        if not len(self.replay):
            raise UsageError("learn() needs transitions, but the replay buffer is empty: call observe() or remember().")
        return self._update(*self._sample())

    def _learn_rollout(self, rollout: Rollout) -> Update:
        """Run the updates of all epochs on a full rollout (PQN) and return the results of the last one."""
        q_values = self.q_values(self.replay.arrays.next_obs, self.online)
        rollout.finish(q_values.max(axis=1) / np.float32(self.reward_scale), len(self.ongoing))
        for _ in range(self.config.epochs):
            for batch in rollout.batches(self.config.batch_size, self.generators.replay):
                update = self._update(self._mirrored(batch))
        return update

    def _update(self, batch: Batch, slots: Array | None = None, weight: Array | None = None) -> Update:
        """Run one update with ``batch``, the rows of its transitions and their weights [B]."""
        loss, q, td_target = self.differentiate(batch, weight)
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        if self.priorities is not None and slots is not None:
            self.priorities.update(slots, td_target - q)
        norm, learning_rate = self.step()
        size, scale = self.config.batch_size, self.reward_scale
        return Update(loss, float(q.sum()) / size * scale, float(td_target.sum()) / size * scale, norm, learning_rate)

    def _sample(self) -> tuple[Batch, Array | None, Array | None]:
        """Return a batch, its rows and its weights [B]. Without priorities, rows and weights are None."""
        config, slots, weight = self.config, None, None
        if self.priorities is None:
            batch = self.replay.sample(config.batch_size, self.generators.replay)
        else:
            slots, weight = self.priorities.sample(config.batch_size, self.priority_beta, self.generators.replay)
            batch = self.replay.take(slots)
        return self._mirrored(batch), slots, weight

    def _mirrored(self, batch: Batch) -> Batch:
        """Replace half of a batch by its mirror image, if this is enabled."""
        if self.config.mirror and self.symmetry is not None:
            half = slice(self.updates % 2, None, 2)  # every other row, because prioritized rows are sorted
            self.symmetry.mirror(batch.obs[half], batch.action[half], batch.next_obs[half])
        return batch

    def differentiate(self, batch: Batch, weight: Array | None = None) -> tuple[float, Array, Array]:
        """Compute targets, forward pass, loss and backward pass. Write the gradient to ``online.gradients``.

        Args:
            batch: transitions.
            weight: factor of the gradient of each transition, float [B]; by default 1.

        Returns:
            The loss (a float), and q and td_target of the actions taken, float [B] each. With a distributional
            head, q and td_target are means. As the rewards of the batch, they are in units of return / reward_scale.
        """
        head = self.head
        if len(batch.action) != len(self._rows):
            self._allocate(len(batch.action))
        td_target = self._td_target(batch)
        taken = self._rows, batch.action
        chosen = self._split(self.online.forward(batch.obs))[taken]
        loss, d_chosen = head.loss(chosen, td_target)
        if weight is not None:
            d_chosen *= weight.reshape(-1, *(1 for _ in head.shape))
        self._d_outputs.fill(0)  # only the actions taken receive a gradient
        self._d_outputs[taken] = d_chosen
        q, mean_target = head.mean(head.read(chosen)), head.mean(td_target)
        self.online.backward(self._d_outputs.reshape(len(self._rows), -1))
        return loss, q, mean_target

    def _td_target(self, batch: Batch) -> Array:
        """Return the target for batch.action, a constant: [B], or [B, N] for a distributional head."""
        config, head = self.config, self.head
        obs, action, reward, discount, next_obs = batch
        if config.td_lambda is not None:
            if config.noisy:
                self.online.draw_noise(self.generators.network)
            after = np.full((len(reward), *head.shape), 1 / math.prod(head.shape), reward.dtype)  # discounted to 0
            return head.target(reward, discount, after)
        if config.noisy:
            self.online.draw_noise(self.generators.network)
            self.target.draw_noise(self.generators.network)
        # This must come first, because the outputs for next_obs overwrite those for obs.
        q = head.mean(self._read(self.target, obs)).copy() if config.munchausen else None
        next_values = self._read(self.target, next_obs)
        # Double DQN: the online network selects the next action, and the target network evaluates it.
        next_q = head.mean(self._read(self.online, next_obs) if config.double else next_values)
        policy = greedy(next_q)
        if config.noisy and config.double:  # the prediction has noise of its own (arXiv:1706.10295, section 3.1)
            self.online.draw_noise(self.generators.network)
        if q is not None:
            reward, policy = munchausen.soft_policy(q, next_q, action, reward, discount, config)
            if not np.isfinite(reward).all():  # C51 cannot project it
                raise self._diverged("the Munchausen reward is not finite")
        return head.target(reward, discount, expected_value(policy, next_values))

    def _read(self, network: Network, obs: Array) -> Array:
        """Return the values [B, A], or the quantiles or probabilities [B, A, N], that ``network`` predicts."""
        return self.head.read(self._split(network.forward(obs)))

    def _split(self, outputs: Array) -> Array:
        """Reshape [B, A N] to [B, A, N], or to [B, A] if an action has one output."""
        return outputs.reshape(len(outputs), self.actions, *self.head.shape)

    def step(self) -> tuple[float, float]:
        """Clip ``online.gradients`` and update the weights with them.

        Returns:
            The norm of the gradient before clipping, and the step size.

        Raises:
            DivergenceError: a gradient or a weight is not finite.
        """
        config, gradients = self.config, self.online.gradients
        norm = clip_by_global_norm(gradients, np.inf if config.max_grad_norm is None else config.max_grad_norm)
        if not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradient is {norm}")
        learning_rate = self.learning_rate
        self.optimizer.step(self.online.parameters, gradients, learning_rate)
        if not math.isfinite(np.dot(self.online.parameters, self.online.parameters)):
            raise self._diverged("the weights are not finite after the step")
        self.updates += 1
        if self.average is not None and config.ema_decay is not None:
            decay = min(config.ema_decay, self.updates / (self.updates + 9))  # average over fewer updates at first
            self.average.move(self.online, 1 - decay)
        return norm, learning_rate

    def sync_target(self) -> None:
        """Update the target network: target <- target + tau (online - target).

        Lillicrap et al., Continuous control with deep reinforcement learning, arXiv:1509.02971 (Polyak averaging).
        """
        if self.config.tau == 1:
            self.target.parameters[:] = self.online.parameters
        else:
            self.target.move(self.online, self.config.tau)
        self.target_syncs += 1

    def take_memory(self) -> None:
        """Allocate the replay buffer now instead of at the first transition.

        Raises:
            ConfigError: the buffer does not fit into memory.
        """
        _ = self.replay.arrays
        if self.priorities is not None:
            _ = self.priorities.tree

    def _allocate(self, rows: int) -> None:
        self._rows = np.arange(rows)
        self._d_outputs = np.zeros((rows, self.actions, *self.head.shape), np.float32)

    def _diverged(self, what: str) -> DivergenceError:
        return diverged(f"{what} in update {self.updates + 1:,}", self.config, self.learning_rate)
