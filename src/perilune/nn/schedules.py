"""Schedules, of the step size, epsilon and beta: pure functions of the progress made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]

# From progress in [0, 1] to the share of the way from the start's value to the end's.
SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    # Loshchilov and Hutter, SGDR, arXiv:1608.03983, without restarts.
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}


def scheduled(schedule: Schedule, start: float, end: float, count: int, span: int) -> float:
    """start + (end - start) shape(count / span) after ``count`` of ``span`` steps; from then on it stays.

    The straight line is that of epsilon in Mnih et al., Nature 518, 2015.
    """
    return start + (end - start) * SHAPES[schedule](min(1.0, count / span))
