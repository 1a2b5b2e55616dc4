"""Observe a PyTorch program: networks, losses, gradients of the outputs, and optimizer steps."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

from perilune.doctor.locate import is_own
from perilune.doctor.program.recorder import Recorder

CLIPS = ("clip_grad_norm_", "clip_grad_value_")
LOSSES = ("mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss")


def callers() -> Iterator[str]:
    """Yield the lines of the user's code that are running, as ``file:line``, the innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_own(frame.f_code.co_filename):
            yield f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]


def caller() -> str:
    """Return the innermost line of the user's code that is running, as ``file:line``, or ""."""
    return next(callers(), "")


def parameters(optimizer: Any) -> list[Any]:
    """Return the parameters of an optimizer."""
    return [one for group in optimizer.param_groups for one in group["params"]]


def left_over(recorder: Recorder, module: Any) -> bool | None:
    """Return whether gradients of the previous update are still there, at the first gradient after a step, or None."""
    if not recorder.stepped:
        return None
    recorder.stepped = False
    trained = {id(one) for optimizer in recorder.optimizers.values() for one in parameters(optimizer)}
    own = [one.grad for one in module.parameters() if id(one) in trained]
    return any(grad is not None and bool(grad.count_nonzero()) for grad in own)


def install(recorder: Recorder) -> None:
    """Install the hooks. Import PyTorch."""
    import torch  # noqa: PLC0415 -- the user's program imports it
    from torch.nn.modules import module as modules  # noqa: PLC0415
    from torch.optim import optimizer as optimizers  # noqa: PLC0415

    torch.set_num_threads(1)

    inside: list[Any] = []  # modules whose forward pass is running

    def before_forward(module: Any, inputs: Any) -> None:
        inside.append(module)

    def forward(module: Any, inputs: Any, output: Any) -> None:
        del inside[next((place for place, one in enumerate(inside) if one is module), 0) :]
        if inside or not recorder.on or not inputs or not torch.is_tensor(inputs[0]) or not torch.is_tensor(output):
            return
        if output.ndim == 0 or output.numel() > 100_000 or inputs[0].numel() > 200_000:
            return
        recorder.networks[id(module)] = module
        entry = len(recorder.window.values)
        recorder.add("forward", output, more=inputs[0].detach().cpu().numpy().copy(), key=id(module), line=caller())
        if output.requires_grad and len(recorder.window.values) > entry:
            window = recorder.window

            def gradient(grad: Any) -> None:
                if window is recorder.window:
                    recorder.add("gradient", grad, key=entry, more=left_over(recorder, module), line=caller())

            output.register_hook(gradient)

    def wrapped(function: Any) -> Any:
        @functools.wraps(function)
        def loss(input: Any, target: Any, *args: Any, **keywords: Any) -> Any:  # noqa: A002 -- as PyTorch
            result = function(input, target, *args, **keywords)
            if recorder.on and torch.is_tensor(input) and torch.is_tensor(target):
                more = target.detach().cpu().numpy().copy(), target.requires_grad, function.__name__
                recorder.add("loss", input, more=more, line=caller())
            return result

        return loss

    def before(optimizer: Any, args: Any, keywords: Any) -> None:
        recorder.stepped = True
        taught = any(bool(grad.count_nonzero()) for one in parameters(optimizer) if (grad := one.grad) is not None)
        recorder.step(optimizer, float(optimizer.param_groups[0]["lr"]), taught, caller())

    def loads(function: Any) -> Any:
        @functools.wraps(function)
        def load_state_dict(module: Any, *args: Any, **keywords: Any) -> Any:
            result = function(module, *args, **keywords)
            recorder.networks[id(module)] = module
            recorder.add("load", None, key=id(module), line=caller())
            return result

        return load_state_dict

    def clips(function: Any) -> Any:
        @functools.wraps(function)
        def clip(*args: Any, **keywords: Any) -> Any:
            recorder.add("clip", None, line=caller())
            return function(*args, **keywords)

        return clip

    modules.register_module_forward_pre_hook(before_forward)
    modules.register_module_forward_hook(forward)
    for name in LOSSES:
        setattr(torch.nn.functional, name, wrapped(getattr(torch.nn.functional, name)))
    optimizers.register_optimizer_step_pre_hook(before)
    for name in CLIPS:
        setattr(torch.nn.utils, name, clips(getattr(torch.nn.utils, name)))
    torch.nn.Module.load_state_dict = loads(torch.nn.Module.load_state_dict)
    torch.compile = lambda model=None, **_: model if model is not None else (lambda one: one)
