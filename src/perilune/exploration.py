"""How often to try something other than the greedy action: epsilon, as a pure function of a counter."""

from __future__ import annotations


def linear_epsilon(start: float, floor: float, decay_steps: int, count: int) -> float:
    """epsilon = start + (floor - start) min(1, count / decay_steps). Mnih et al., Nature 518, 2015.

    Args:
        start, floor: first and last value, in [0, 1].
        decay_steps: environment steps from the one to the other.
        count: environment steps so far.
    """
    return start + (floor - start) * min(1.0, count / decay_steps)


def multiplicative_epsilon(start: float, floor: float, decay: float, count: int) -> float:
    """epsilon = max(floor, start decay^count).

    Args:
        start, floor: first and last value, in [0, 1].
        decay: factor per count, in (0, 1].
        count: episodes (or updates) so far.
    """
    return max(floor, start * decay**count)
