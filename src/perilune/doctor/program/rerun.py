"""Run a program again, until its first update."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import process_time
from typing import Any

from perilune.doctor.program.recorder import Recorder, Window
from perilune.doctor.program.running import FIRST_STEPS, Enough, Trace
from perilune.doctor.session import seed_global_generators

SEED = 0
SECONDS = 15.0  # CPU time until the first update


@dataclass
class Pieces:
    """What an adapter of a program needs to know. All entries can be written in a file.

    Attributes:
        program: The program.
        arguments: Its command-line arguments.
        learn: Name of the function that learns, or of the function that contains the block.
        calls: Number of its calls, or of time steps, until the program first learns.
        q_values: An expression of Q(obs, a) of the online network.
        obs: Form of the observations in it.
        gamma: Discount.
        observation_size: Number of entries of an observation.
        actions: Number of actions.
        target_q_values: The same for the target network, or None.
        lines: First and last line of the block that learns, or None.
        file: The file of the function, or "" for the program.
    """

    program: str
    arguments: list[str]
    learn: str
    calls: int
    q_values: str
    obs: str
    gamma: float
    observation_size: int
    actions: int
    target_q_values: str | None = None
    lines: tuple[int, int] | None = None
    file: str = ""

    def reached(self, trace: Trace, window: Window) -> bool:
        """Return whether the program has made the time steps before its first update."""
        return self.lines is not None and trace.log is not None and len(trace.log.steps) >= self.calls


class Counting(Recorder):
    """Records all values, and counts the calls of each function."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace.nodes)
        self.calls: Counter[int] = Counter()

    def enter(self, number: int, arguments: tuple[Any, ...]) -> None:
        """Count and record a call."""
        self.calls[number] += 1
        super().enter(number, arguments)

    def begin(self, step: int, recording: bool) -> None:
        """Start a new window, which is recorded."""
        super().begin(step, recording=True)


class Stopping(Recorder):
    """Ends the program when it calls a function for the n-th time."""

    def __init__(self, trace: Trace, pieces: Pieces) -> None:
        super().__init__(trace.nodes)
        self._trace, self._pieces = trace, pieces
        self._left = pieces.calls if pieces.lines is None else 0

    def add(self, kind: str, value: Any, **more: Any) -> None:
        """Count updates, which hooks report, and record nothing."""

    def begin(self, step: int, recording: bool) -> None:
        """Start a new window. Only the first ones are recorded, to recognize changed observations."""
        super().begin(step, recording=step < FIRST_STEPS)

    def enter(self, number: int, arguments: tuple[Any, ...]) -> None:
        """Count the calls of the function."""
        node = self.nodes[number]
        if self._left > 0 and node.text == self._pieces.learn and node.file == (self._pieces.file or node.file):
            self._left -= 1
            if self._left == 0:
                self._trace.enough = True
                raise Enough


def rerun(
    program: str,
    arguments: list[str],
    recorder: Callable[[Trace], Recorder],
    learned: Callable[[Trace, Window], bool],
) -> Trace:
    """Run a program again, with the same seeds each time, until it first learns.

    Args:
        program: The program.
        arguments: Its command-line arguments.
        recorder: Makes the recorder.
        learned: Whether a window shows that the program learned.

    Returns:
        The trace. Its recorder is off.
    """
    began = process_time()
    trace = Trace(program, arguments, lambda trace, window: learned(trace, window) or process_time() - began > SECONDS)
    trace.recorder = recorder(trace)
    seed_global_generators(SEED)
    trace.run()
    trace.recorder.on = False
    return trace
