"""What the doctor can find, in words: how grave it is, what it is, what mends it, and how to see it for oneself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from perilune.doctor.report import Component, Finding, Points, Severity, Spread

PAGE = "docs/doctor.md"  # its headings are the components


class Entry(NamedTuple):
    """The words of one fault; the numbers are in a finding's evidence."""

    severity: Severity
    title: str
    remedy: str
    see: str


def found(name: str, evidence: str, where: str | None = None, picture: Points | Spread | None = None) -> Finding:
    """The finding ``component.name`` with what this examination saw."""
    entry = CATALOGUE[name]
    component: Component = name.split(".", maxsplit=1)[0]  # type: ignore[assignment]
    return Finding(
        id=name,
        component=component,
        severity=entry.severity,
        title=entry.title,
        evidence=evidence,
        where=where,
        remedy=entry.remedy,
        see=entry.see,
        link=f"{PAGE}#{component}",
        picture=picture,
    )


def listed(values: ArrayLike) -> str:
    """Numbers as evidence shows them."""
    return "[" + ", ".join(f"{value:.3g}" for value in np.asarray(values)) + "]"


CATALOGUE: dict[str, Entry] = {
    # environment
    "environment.old_interface": Entry(
        "error",
        "The training loop speaks the old Gym interface",
        "obs, info = env.reset() and next_obs, reward, terminated, truncated, info = env.step(action)",
        "print(env.reset()): it is a pair",
    ),
    "environment.no_reset": Entry(
        "error",
        "An episode that has ended is played on without a reset",
        "after a step with terminated or truncated, call env.reset() and go on from the obs that it gives",
        "count the steps that follow a terminated one before the next reset",
    ),
    "environment.observations_changed": Entry(
        "error",
        "Observations are changed between the environment and the replay",
        "keep them as float32, as the environment gives them; no int, no uint8, no other shape",
        "store one transition and compare it with what env.step returned",
    ),
    "environment.reset_as_next": Entry(
        "error",
        "The first state of the next episode is stored as the next state of the last one",
        "store next_obs as env.step returned it, and reset only afterwards",
        "print obs and next_obs of the transitions that end an episode",
    ),
    "environment.truncation_as_end": Entry(
        "warning",
        "Episodes cut off by a time limit are stored as if they had ended",
        "store terminated alone, not terminated or truncated: a state at the time limit still has a future",
        "look at terminated of a transition whose episode was truncated",
    ),
    "environment.buffer_reused": Entry(
        "error",
        "Stored states are all one array, which changes with every step",
        "store copies: np.array(obs), np.array(next_obs)",
        "print the first stored obs, take a step, and print it again",
    ),
    # forward
    "forward.raises": Entry(
        "error", "q_values raises", "let q_values take obs[N, O] in float32", "call q_values on zeros of that shape"
    ),
    "forward.hangs": Entry(
        "error", "q_values does not return", "look for a loop that does not end", "call q_values on zeros[1, O]"
    ),
    "forward.shape": Entry(
        "error",
        "q_values gives no table of states and actions",
        "return one row a state and one column an action",
        "print(q_values(np.zeros((7, O), np.float32)).shape)",
    ),
    "forward.changes_input": Entry(
        "error",
        "The array that is given is changed",
        "work on a copy; no +=, /=, out= or in-place activation on what the caller owns",
        "compare obs before and after the call",
    ),
    "forward.batch_differs": Entry(
        "error",
        "A state gets other Q-values in a batch than alone",
        "normalise over features, not over the batch, and check the axes of every mean, sum and softmax",
        "compare q_values(obs)[0] with q_values(obs[:1])[0]",
    ),
    "forward.remembers": Entry(
        "error",
        "Q depends on the state that was asked about before",
        "keep nothing from one forward pass that the next one reads",
        "ask for the same state twice, with another one between",
    ),
    "forward.all_equal": Entry(
        "error",
        "All units are alike and stay alike: weights that begin at zero",
        "draw the weights at random, for example N(0, 2 / inputs)",
        "print the weights of a new agent",
    ),
    "forward.narrow": Entry(
        "warning",
        "Different states get exactly the same Q-values: a layer is too narrow",
        "look for a layer at the input that was not meant, often one as wide as obs and rectified",
        "print the shapes of all weights in order",
    ),
    "forward.output_activation": Entry(
        "error",
        "An activation follows the last layer, so that Q cannot take every value",
        "let the last layer be linear: returns can be negative, and larger than 1",
        "add 100 to the last bias, take 100 from it, and look at Q",
    ),
    "forward.one_sign": Entry(
        "error",
        "All weights begin with the same sign, so that all units say the same",
        "draw them around 0: rng.normal(0, sqrt(2 / inputs)), not rng.random()",
        "print((weight > 0).mean())",
    ),
    "forward.spread": Entry(
        "warning",
        "Weights begin with the wrong spread for their number of inputs",
        "divide by the inputs of the layer: N(0, 2 / inputs) for ReLU",
        "compare weight.std() with sqrt(2 / inputs)",
    ),
    # backward
    "backward.raises": Entry(
        "error", "gradients or train_batch raises", "mend what the message says", "call it on eight transitions"
    ),
    "backward.hangs": Entry(
        "error", "gradients does not return", "look for a loop that does not end", "call it on one transition"
    ),
    "backward.sign": Entry(
        "error",
        "The update goes uphill: Q moves away from its target",
        "step against the gradient: w -= rate * gradient, with gradient = (q - target) ..., not (target - q) ...",
        "train on one transition with a large reward, and see Q(obs, action) fall",
    ),
    "backward.no_input": Entry(
        "error",
        "The gradient of a weight does not contain what came in through it",
        "d loss / d W = x^T dy: the layer's input times the error at its output",
        "print the gradient of one layer for one state: its rows or columns are all the same",
    ),
    "backward.relu_derivative": Entry(
        "error",
        "Units that ReLU turned off are trained as if they were on",
        "multiply the error by (z > 0) at every hidden layer; the derivative of ReLU is 0 there, and 0 at 0",
        "print the gradient of a unit whose output is 0",
    ),
    "backward.chain": Entry(
        "error",
        "The error is passed back wrongly between two layers",
        "dx = dy W^T, with the weights that the forward pass used: check each transpose, and each layer's index",
        "compare one weight's gradient with (loss(w + h) - loss(w - h)) / 2 h",
    ),
    "backward.too_early": Entry(
        "warning",
        "Weights are stepped before the error has passed through them",
        "compute all gradients first, then step all layers",
        "compare the first layer's gradient with finite differences at a large learning rate",
    ),
    "backward.one_bias": Entry(
        "warning",
        "A layer has one bias for all its units",
        "d loss / d b = the sum of dy over the batch alone, one number a unit",
        "print the gradient of a bias: its entries are all the same",
    ),
    "backward.bias_frozen": Entry(
        "error",
        "Biases are never trained",
        "step them with d loss / d b = the sum of dy over the batch",
        "print a bias before and after an update",
    ),
    "backward.left_out": Entry(
        "error",
        "A layer is never trained",
        "give all weights and biases to the optimiser",
        "compare every array before and after an update",
    ),
    "backward.accumulates": Entry(
        "error",
        "Gradients add up from update to update",
        "set them to zero before each backward pass (optimizer.zero_grad() in torch)",
        "train with errors of zero after a few large ones: the weights go on moving",
    ),
    # optimizer
    "optimizer.no_bias_correction": Entry(
        "warning",
        "Adam's averages are not corrected for their start at zero",
        "m / (1 - beta1^t) and v / (1 - beta2^t), with t the number of the update",
        "with a constant gradient the first step must be as long as the tenth",
    ),
    "optimizer.no_root": Entry(
        "error",
        "Adam divides by v instead of its square root",
        "m_hat / (sqrt(v_hat) + epsilon)",
        "a larger gradient makes a smaller first step",
    ),
    "optimizer.counter": Entry(
        "warning",
        "Adam's counter does not count the updates",
        "t += 1 once an update, before the correction, not once a layer or a sample",
        "print t after ten updates",
    ),
    "optimizer.moments_shared": Entry(
        "error",
        "Adam's averages are shared between arrays",
        "keep an m and a v of its own for each weight and bias",
        "id() of every m: they must all differ",
    ),
    "optimizer.no_memory": Entry(
        "error",
        "The optimiser forgets everything at each update",
        "make the optimiser once, not in every update",
        "print m before the second update: it must not be zero",
    ),
    "optimizer.step_per_sample": Entry(
        "warning",
        "The optimiser takes one step a sample instead of one a batch",
        "average the gradients of the batch, and step once",
        "a batch of eight equal transitions moves the weights eight times as far as one",
    ),
    # loss
    "loss.raises": Entry("error", "train_batch raises", "mend what the message says", "call it on 32 transitions"),
    "loss.hangs": Entry(
        "error", "train_batch does not return", "look for a loop that does not end", "call it on one transition"
    ),
    "loss.no_update": Entry(
        "error",
        "An update changes nothing",
        "let the optimiser step, and on those weights that q_values reads: not on a copy, nor on the target network's",
        "print a weight of the network that acts before and after an update",
    ),
    "loss.clipped_away": Entry(
        "error",
        "Large errors teach nothing",
        "clip the derivative, not the error inside the loss: beyond the limit the loss must grow, as Huber's does",
        "print the gradient for a TD error of 0.5 and for one of 5: the second may not be 0",
    ),
    "loss.all_actions": Entry(
        "error",
        "One action's error is pushed into every action",
        "only the taken action has an error; that of all others is 0",
        "print the error at the outputs for one transition: one entry, not all, may differ from 0",
    ),
    "loss.wrong_action": Entry(
        "error",
        "Another action's value is trained than the one taken",
        "pick q[row, action[row]] with the action of the batch",
        "train on one transition and see which output moves",
    ),
    "loss.others_to_zero": Entry(
        "error",
        "The values of the actions not taken are pulled towards a target of their own",
        "leave them out of the loss, or give them their own Q as target",
        "train on one transition at its target: nothing may move",
    ),
    "loss.broadcast": Entry(
        "error",
        "Every value is drawn to the targets of the whole batch",
        "give q and target the same shape: (B, 1) - (B,) is (B, B) in silence",
        "print((q - target).shape)",
    ),
    "loss.sum": Entry(
        "warning",
        "The gradients of a batch are summed, not averaged",
        "divide by the batch's size, or the step grows with it",
        "a batch of eight equal transitions makes a gradient eight times as long as one",
    ),
    "loss.derivative": Entry(
        "warning",
        "The gradient is not the derivative of the loss that is stated",
        "for Huber the derivative is the error, clipped at +-delta: one slope, no jump",
        "compare (loss(error + h) - loss(error - h)) / 2 h with the derivative, on both sides of delta",
    ),
    # td_target
    "td_target.no_mask": Entry(
        "error",
        "After a terminated transition the future is still counted",
        "target = reward + gamma * (1 - terminated) * next value",
        "train on a terminated transition with two different next_obs: nothing may differ",
    ),
    "td_target.mask_inverted": Entry(
        "error",
        "The mask is the wrong way round: the future counts only where the episode ended",
        "multiply by (1 - terminated), not by terminated",
        "print the target of one transition that ended and of one that did not",
    ),
    "td_target.reward_masked": Entry(
        "error",
        "The reward of a terminated transition is thrown away",
        "target = reward + gamma * (1 - terminated) * next value: the mask stands before the next value alone",
        "print the target of a terminated transition with reward -100",
    ),
    "td_target.no_reward": Entry(
        "error", "The reward has no influence on an update", "put it into the target", "train with rewards of 0 and 100"
    ),
    "td_target.no_bootstrap": Entry(
        "error",
        "What comes after has no influence on an update",
        "target = reward + gamma * (1 - terminated) * max_a Q_target(next_obs, a)",
        "print the target of a transition that goes on: it is the reward",
    ),
    "td_target.gamma": Entry(
        "error",
        "The update discounts by another gamma than the agent's",
        "use the one gamma everywhere; with n-step rewards gamma^n (and give the patient n_step)",
        "print (target - reward) / next value",
    ),
    "td_target.n_step": Entry(
        "note",
        "The update discounts as n-step returns do",
        "if rewards are sums over n steps all is well; say so with n_step on the patient",
        "print (target - reward) / next value",
    ),
    "td_target.mean": Entry(
        "error",
        "The mean of the next values stands in the place of their largest",
        "max over the actions: next_q.max(axis=1)",
        "print next_q and the target of one transition",
    ),
    "td_target.min": Entry(
        "error",
        "The least of the next values stands in the place of their largest",
        "max over the actions: next_q.max(axis=1)",
        "print next_q and the target of one transition",
    ),
    "td_target.own_action": Entry(
        "error",
        "The next value is that of the action taken before, not that of the best one",
        "max over the actions: next_q.max(axis=1); the action of the batch belongs to obs, not to next_obs",
        "print next_q, the action and the target of one transition",
    ),
    "td_target.same_state": Entry(
        "error",
        "The next value is read at obs instead of next_obs",
        "ask the target network about next_obs",
        "print the target for two different next_obs",
    ),
    "td_target.batch_axis": Entry(
        "error",
        "The next value is taken over the whole batch",
        "max over the actions, axis=1 (dim=1), so that each transition keeps its own",
        "print next_q.max(...).shape: it must be [B]",
    ),
    "td_target.gradient_flows": Entry(
        "error",
        "The gradient flows through the target",
        "treat the target as a constant: no_grad or detach in torch, no derivative of it by hand",
        "compare the gradients of two transitions with the same error, one that ended and one that did not",
    ),
    "td_target.double_swapped": Entry(
        "error",
        "Double DQN with the roles of the networks swapped",
        "the online network chooses the next action, and the target network judges it",
        "print both networks' next_q and the target of one transition",
    ),
    # target_network
    "target_network.raises": Entry(
        "error", "target_q_values or sync_target raises", "mend what the message says", "call it once"
    ),
    "target_network.hangs": Entry(
        "error", "target_q_values or sync_target does not return", "look for a loop that does not end", "call it once"
    ),
    "target_network.shared": Entry(
        "error",
        "The target network shares its arrays with the online network",
        "copy the arrays (w.copy(), load_state_dict, deepcopy); = only gives a second name",
        "np.shares_memory(online.weights[0], target.weights[0])",
    ),
    "target_network.every_update": Entry(
        "error",
        "The target network follows at every update",
        "sync every few hundred steps, or with a tau like 0.005",
        "compare both networks' Q after one update",
    ),
    "target_network.never_synced": Entry(
        "error",
        "The target network is never synced",
        "copy the online network's weights into it from time to time",
        "print the target network's Q before and after a sync",
    ),
    "target_network.not_synced_yet": Entry(
        "note",
        "A short training never syncs the target network",
        "if its interval is longer than these steps, all is well; else see that the loop reaches the sync",
        "print a line at each sync",
    ),
    "target_network.tau_reversed": Entry(
        "error",
        "Polyak's tau is reversed, or far too large",
        "target = (1 - tau) * target + tau * online, with a tau like 0.005",
        "print how far one sync takes the target network",
    ),
    "target_network.backwards": Entry(
        "error",
        "A sync changes the online network",
        "copy from the online network into the target network",
        "print the online network's Q before and after a sync",
    ),
    "target_network.none": Entry(
        "warning",
        "The next value comes from the online network",
        "read it from a target network that stands still between syncs",
        "change the online network's weights and print the target: it must not move",
    ),
    "target_network.differs_at_start": Entry(
        "note",
        "A new agent's two networks differ",
        "sync once at the start: else the first targets are another network's",
        "compare both networks' Q of a new agent",
    ),
    # replay
    "replay.raises": Entry(
        "error", "remember or sample raises", "mend what the message says", "store 600 transitions and draw 64"
    ),
    "replay.hangs": Entry(
        "error",
        "remember or sample does not return",
        "look for a loop that does not end",
        "store 600 transitions and draw 64",
    ),
    "replay.changes_observations": Entry(
        "error",
        "The replay gives other observations than were stored",
        "store them as float32; no int, no uint8",
        "store one transition whose numbers are no whole ones, and draw it",
    ),
    "replay.next_is_current": Entry(
        "error",
        "The next state is stored as the current one",
        "store next_obs, as env.step returned it",
        "print obs and next_obs of a transition that was drawn",
    ),
    "replay.mismatched": Entry(
        "error",
        "Parts of different transitions are drawn together",
        "write and read obs, action, reward, next_obs and terminated at the same index",
        "store transitions that carry their number in every part, and draw some",
    ),
    "replay.terminal_lost": Entry(
        "error",
        "Terminated transitions never reach the replay",
        "store the transition before looking at whether the episode ended",
        "count terminated among a thousand that were drawn",
    ),
    "replay.newest_only": Entry(
        "warning",
        "Only the newest transitions are drawn",
        "draw uniformly from all that is stored",
        "store transitions that carry their number, and print the numbers drawn",
    ),
    # exploration
    "exploration.raises": Entry(
        "error", "act raises", "let act take one obs[O] and epsilon", "act(np.zeros(O, np.float32), 0.0)"
    ),
    "exploration.hangs": Entry(
        "error", "act does not return", "look for a loop that does not end", "act(np.zeros(O, np.float32), 0.0)"
    ),
    "exploration.out_of_range": Entry(
        "error", "An action that does not exist is taken", "draw from 0 to A - 1", "print the actions at epsilon 1"
    ),
    "exploration.argmin": Entry(
        "error",
        "The worst action is taken for the best",
        "argmax, not argmin",
        "compare act(obs, 0) with q_values(obs)",
    ),
    "exploration.inverted": Entry(
        "error",
        "Epsilon is the wrong way round: greedy at 1, random at 0",
        "if random() < epsilon: a random action; else the greedy one",
        "count greedy actions at epsilon 0 and at epsilon 1",
    ),
    "exploration.not_greedy": Entry(
        "error",
        "At epsilon 0 other actions than the best are taken",
        "argmax over the actions of this obs",
        "compare act(obs, 0) with q_values(obs)",
    ),
    "exploration.never_random": Entry(
        "error",
        "At epsilon 1 actions are not random",
        "draw a new random action whenever random() < epsilon",
        "print thirty actions at epsilon 1",
    ),
    "exploration.action_never_tried": Entry(
        "error",
        "An action is never tried",
        "draw from all A actions: integers(A) leaves A itself out, nothing else",
        "count the actions at epsilon 1",
    ),
    "exploration.uneven": Entry(
        "warning", "Random actions are not evenly spread", "draw uniformly", "count the actions at epsilon 1"
    ),
    "exploration.epsilon_ignored": Entry(
        "warning",
        "The share of random actions is not epsilon",
        "one draw of random() < epsilon an action",
        "count greedy actions at epsilon 0.5",
    ),
    "exploration.stuck": Entry(
        "note",
        "In a short training actions stay random to the end",
        "if epsilon falls over more steps than these, all is well; else see that it falls, and that act uses it",
        "print epsilon and the share of greedy actions while training",
    ),
    "exploration.never_explores": Entry(
        "warning",
        "Training never explores",
        "begin with epsilon near 1",
        "print epsilon and the share of greedy actions while training",
    ),
    # loop
    "loop.raises": Entry(
        "error", "The training loop raises", "mend what the message says", "run it on a small environment"
    ),
    "loop.hangs": Entry(
        "error", "The training loop does not return", "stop after env_steps steps", "run it for 1,000 steps"
    ),
    "loop.no_updates": Entry(
        "note",
        "A short training never updates the network",
        "if learning starts after more steps than these, all is well; else see that it starts",
        "compare the weights before and after a run",
    ),
    "loop.state_not_advanced": Entry(
        "error",
        "The agent goes on seeing the episode's first state",
        "obs = next_obs at the end of each step",
        "print obs in every step",
    ),
    "loop.termination_lost": Entry(
        "error",
        "Ends of episodes are not stored as such",
        "store terminated as env.step returned it",
        "count terminated among a thousand that were drawn",
    ),
    # hyperparameters, numerics
    "hyperparameters.too_fast": Entry(
        "error",
        "One update changes Q by far more than its error",
        "a learning rate of 1e-3 or less for Adam; clip gradients",
        "train on one batch again and again: the error must fall from the first update on",
    ),
    "numerics.not_finite": Entry(
        "error",
        "Q is not finite",
        "look for the first NaN: a log, a root or a division of 0, or a step that is too long",
        "np.seterr(all='raise')",
    ),
}
