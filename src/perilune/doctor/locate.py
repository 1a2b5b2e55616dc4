"""Where to look: the lines of the owner's own files that ran in a call, and among them the likeliest for a fault."""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

PACKAGE = str(Path(__file__).resolve().parents[1])
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Line(NamedTuple):
    """A line of the owner's code, in a function of this name."""

    file: str
    number: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


def lines_run(call: Callable[[], object]) -> list[Line]:
    """The lines of files that belong to no library that ``call`` ran, in the order of their first run."""
    seen: dict[tuple[str, int], Line] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if not _is_own(file):
            return None if event == "call" else trace
        if event == "line" and (file, frame.f_lineno) not in seen:
            text = linecache.getline(file, frame.f_lineno, frame.f_globals).strip()
            seen[file, frame.f_lineno] = Line(_short(file), frame.f_lineno, frame.f_code.co_name, text)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Exception:  # the lines up to there are as good
        return list(seen.values())
    finally:
        sys.settrace(before)
    return list(seen.values())


def _is_own(file: str) -> bool:
    if file.startswith(PACKAGE):
        return "/hosts/" in file
    return not file.startswith(("<", *LIBRARIES))


def _short(file: str) -> str:
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file


# For each finding, or each component: what the line to look at is likely to contain; the first that matches counts.
CLUES: dict[str, tuple[str, ...]] = {
    "td_target": (r"gamma.*(max|mean|min|next|target|\[)", r"gamma", r"discount"),
    "td_target.double_swapped": (r"argmax.*(next|target)|(next|target).*argmax", r"gamma"),
    "td_target.mean": (r"mean\(", r"gamma"),
    "td_target.own_action": (r"next.*\[.*action|next.*gather", r"gamma"),
    "td_target.batch_axis": (r"max\(", r"gamma"),
    "td_target.gradient_flows": (r"next_q\w* *=|next.*=", r"gamma"),
    "target_network.shared": (
        r"target\S* = (self|other|\w*net|\w*model|\w*q)\b[\w.]*$",
        r"= *other\.",
        r"target\w*(\[[^]]*\])? *=(?!=)",
    ),
    "target_network.tau_reversed": (r"tau|0?\.\d+ *\*", r"sync|copy"),
    "target_network": (r"target\w*(\[[^]]*\])? *=(?!=)", r"load_state_dict|copy", r"target"),
    "loss.all_actions": (r"\[:\]|\[:, *None\]|full\(|ones", r"error|delta", r"loss"),
    "loss.wrong_action": (r"gather|argmax|\[.*action.*\] *=", r"loss|error"),
    "loss.others_to_zero": (r"zeros|one_hot", r"loss|error"),
    "loss.broadcast": (r"q\w* *- *\w*target|target\w* *- *\w*q|loss\w* *=|loss\(", r"loss|error"),
    "loss.sum": (r"sum", r"loss|mean"),
    "loss.derivative": (r"huber|sign|clip|<= *(1|delta)", r"loss"),
    "loss": (r"loss|error",),
    "backward.sign": (r"[-+]= *.*(grad|rate|lr)", r"step\(", r"grad"),
    "backward.no_input": (r"outer|\.T *@|matmul|dot\(", r"grad"),
    "backward.relu_derivative": (r"[<>]=? *0", r"relu|where|error *=|delta *=", r"grad"),
    "backward.chain": (r"@.*(weight|W)|(weight|W).*@|\.T", r"backward"),
    "backward.accumulates": (r"zero_grad|\+= *.*grad|\w*(sum|grad)\w*\[.*\] *\+=", r"backward\("),
    "backward.bias_frozen": (r"bias", r"step\("),
    "backward.one_bias": (r"zeros\(1\)", r"bias.*(sum|mean)", r"bias"),
    "backward": (r"backward|grad",),
    "optimizer.no_root": (r"v_hat|sqrt|/ *\(", r"step"),
    "optimizer.no_bias_correction": (r"m_hat|v_hat|beta1|0\.9\b", r"step"),
    "optimizer.counter": (r"\bt *(\+)?= ", r"\*\* *\w*t\b", r"step"),
    "optimizer.step_per_sample": (r"^for ", r"step"),
    "optimizer.no_memory": (r"Adam\(|SGD\(|optimi[sz]er *=", r"step"),
    "optimizer": (r"\.step\(|sqrt", r"grad"),
    "forward.output_activation": (r"tanh|sigmoid|relu|maximum|softmax|exp\(", r"forward"),
    "forward.changes_input": (r"[-+*/]=|out=|\w+_\(",),
    "forward": (r"normal\(|randn|random\(|rand\(|uniform|zeros\(|kaiming|Linear\(", r"forward|@"),
    "exploration.argmin": (r"argmin",),
    "exploration": (r"epsilon|random|rand", r"argm"),
    "replay": (r"append|memory\w*\[|buffer\w*\[|sample|choice|randint|integers", r"def "),
    "environment.no_reset": (r"terminated|done|reset\(",),
    "environment.old_interface": (r"reset\(|step\(",),
    "environment": (r"add\(|store|remember|push|append", r"\.step\("),
    "loop": (r"obs *=|state *=", r"\.step\("),
}

# The calls that run the code at fault, by finding or component; ``make`` is the factory.
CALLS = {
    "backward.one_bias": ("make", "train_batch"),
    "forward": ("make", "q_values"),
    "target_network": ("sync_target", "train_batch", "make"),
    "exploration": ("act",),
    "replay": ("remember", "sample", "run"),
    "loop": ("run",),
    "environment": ("run",),
    "hyperparameters": (),
    "numerics": (),
}


def calls_for(finding: str) -> tuple[str, ...]:
    """The calls whose lines are looked through for ``finding``."""
    return CALLS.get(finding, CALLS.get(finding.split(".", maxsplit=1)[0], ("train_batch",)))


def where(finding: str, run_by: dict[str, list[Line]]) -> str | None:
    """``file:line`` of the likeliest line for ``finding`` among those that each call ran; None if none is likely."""
    component = finding.split(".", maxsplit=1)[0]
    lines = [line for call in calls_for(finding) for line in run_by.get(call, [])]
    for clue in CLUES.get(finding, CLUES.get(component, ())):
        for line in lines:
            if re.search(clue, line.text) and not line.text.startswith(("def ", "class ", "#", '"')):
                return str(line)
    return None


def raised_at(error: BaseException | None) -> str | None:
    """``file:line`` of the innermost line of the owner's code that ``error`` came through."""
    place = None
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if _is_own(file):
            place = f"{_short(file)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
