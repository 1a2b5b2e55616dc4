"""Compute reference values for layers, losses and optimizers with PyTorch, and write them to literals.json.

    python tests/oracles/make_literals.py

Only this script needs PyTorch; the tests read the JSON file. PyTorch 2.13 computed the values in the repository. All
values are float64. The file also contains the inputs, so the tests draw no random numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Literals = dict[str, Any]

STEPS = 14
LEARNING_RATES = [0.1, 0.1, 0.05, 0.05, 0.2, 0.01, 0.01, 0.03, 0.1, 0.001, 0.1, 0.3, 0.02, 0.1]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def optimizers() -> Literals:
    """Return the parameters after each of 14 steps, with gradients and learning rates that change in every step."""
    start = torch.tensor([1.0, -2.0, 0.5, 3.0, -0.25, 0.0, 10.0], dtype=torch.float64)
    gradients = drawn(STEPS, len(start), seed=1)
    gradients[:, 1] *= 1e-3  # small, so that a large epsilon matters
    gradients[:, 2] *= 1e3
    gradients[:4, 3] = 0.0  # the moments stay zero while the step counter increases
    gradients[:, 4] = gradients[:, 4].abs()  # always positive
    gradients[6:, 5] = 0.0  # the moments decay
    gradients[:, 6] = torch.tensor([(-1.0) ** t for t in range(STEPS)])  # the sign alternates

    def adam(**options: Any) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
        return lambda parameters: torch.optim.Adam(parameters, **options)

    makers: dict[str, tuple[Literals, Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
        "sgd": ({}, lambda p: torch.optim.SGD(p, lr=1.0)),
        "sgd_momentum": ({"momentum": 0.9}, lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9)),
        "rmsprop": ({}, lambda p: torch.optim.RMSprop(p, lr=1.0)),
        "rmsprop_large_epsilon": (
            {"rho": 0.9, "epsilon": 0.5},
            lambda p: torch.optim.RMSprop(p, lr=1.0, alpha=0.9, eps=0.5),
        ),
        "adam": ({}, adam()),
        "adam_large_epsilon": ({"epsilon": 0.5}, adam(eps=0.5)),
        "adam_other_betas": (
            {"beta1": 0.5, "beta2": 0.95, "epsilon": 0.01},
            adam(betas=(0.5, 0.95), eps=0.01),
        ),
        "adamw": ({}, lambda p: torch.optim.AdamW(p, weight_decay=0.01)),
        "adamw_strong_decay": ({"weight_decay": 0.7}, lambda p: torch.optim.AdamW(p, weight_decay=0.7)),
        "adamw_no_decay": ({"weight_decay": 0.0}, lambda p: torch.optim.AdamW(p, weight_decay=0.0)),
    }
    cases: Literals = {}
    for name, (options, make) in makers.items():
        parameters = start.clone().requires_grad_()
        optimizer = make([parameters])
        after = []
        for gradient, learning_rate in zip(gradients, LEARNING_RATES, strict=True):
            optimizer.param_groups[0]["lr"] = learning_rate
            parameters.grad = gradient.clone()
            optimizer.step()
            after.append(parameters.detach().tolist())
        cases[name] = {"options": options, "after": after}
    return {
        "start": start.tolist(),
        "gradients": gradients.tolist(),
        "learning_rates": LEARNING_RATES,
        "cases": cases,
    }


def losses() -> Literals:
    """Return values and gradients of losses. Errors are exact in binary, so those of +-delta lie on the kink."""
    errors = [0.0, 0.25, -0.5, 0.5, 1.0, -1.0, 1.25, -2.5, 2.5, -7.0, 40.0, -0.125]
    target = torch.tensor([0.5, -1.0, 2.0, 0.0, 8.0, -3.25, 1.0, 4.0, -4.0, 0.75, -16.0, 32.0], dtype=torch.float64)
    prediction = target + torch.tensor(errors, dtype=torch.float64)

    def case(loss: Callable[[Tensor], Tensor]) -> Literals:
        x = prediction.clone().requires_grad_()
        value = loss(x)
        value.backward()
        assert x.grad is not None
        return {"loss": value.item(), "gradient": x.grad.tolist()}

    cases: Literals = {"mse": case(lambda x: functional.mse_loss(x, target))}
    for delta in (0.25, 0.5, 1.0, 2.5, 100.0):
        cases[f"huber_{delta}"] = case(lambda x, delta=delta: functional.huber_loss(x, target, delta=delta))
    return {"prediction": prediction.tolist(), "target": target.tolist(), "cases": cases}


def row_losses() -> Literals:
    """Return values and gradients of losses whose predictions are rows."""

    def case(loss: Callable[[Tensor], Tensor], prediction: Tensor, target: Tensor) -> Literals:
        x = prediction.clone().requires_grad_()
        value = loss(x)
        value.backward()
        assert x.grad is not None
        return {
            "prediction": prediction.tolist(),
            "target": target.tolist(),
            "loss": value.item(),
            "gradient": x.grad.tolist(),
        }

    def quantile_huber(quantiles: Tensor, target: Tensor, kappa: float) -> Tensor:
        n = quantiles.shape[1]
        pairs = torch.broadcast_tensors(quantiles[:, :, None], target[:, None, :])
        tau = ((2 * torch.arange(n, dtype=torch.float64) + 1) / (2 * n))[None, :, None]
        below = (pairs[1] < pairs[0]).to(torch.float64).detach()
        loss = (tau - below).abs() * functional.huber_loss(*pairs, reduction="none", delta=kappa) / kappa
        return loss.mean(dim=2).sum(dim=1).mean()

    logits, probability = 3 * drawn(5, 4, seed=20), functional.softmax(2 * drawn(5, 4, seed=21), dim=1)
    probability[2] = torch.tensor([0.0, 1.0, 0.0, 0.0])  # a certain return
    logits[3] += 500.0  # their exponentials overflow in float32
    quantiles, target = 2 * drawn(6, 3, seed=22), 2 * drawn(6, 5, seed=23)
    cases = {"cross_entropy": case(lambda x: functional.cross_entropy(x, probability), logits, probability)}
    for kappa in (0.5, 1.0, 10.0):
        cases[f"quantile_huber_{kappa}"] = case(
            lambda x, kappa=kappa: quantile_huber(x, target, kappa),
            quantiles,
            target,
        )
    return cases


def layers() -> Literals:
    """Return the output y of each layer, and for a given dy the gradients for x and the parameters."""

    def case(forward: Callable[[Tensor, dict[str, Tensor]], Tensor], x: Tensor, **parameters: Tensor) -> Literals:
        x.requires_grad_()
        for parameter in parameters.values():
            parameter.requires_grad_()
        y = forward(x, parameters)
        dy = drawn(*y.shape, seed=9)
        y.backward(dy)
        assert x.grad is not None
        return {
            "x": x.tolist(),
            "parameters": {name: parameter.tolist() for name, parameter in parameters.items()},
            "y": y.tolist(),
            "dy": dy.tolist(),
            "dx": x.grad.tolist(),
            "gradients": {name: parameter.grad.tolist() for name, parameter in parameters.items()},  # type: ignore[union-attr]
        }

    signs = drawn(4, 5, seed=4)
    signs[0, 0], signs[1, 1], signs[2, 2], signs[3, 3] = 0.0, -0.0, 1e-30, -1e-30
    steep = drawn(4, 5, seed=5) * 3
    steep[0, 0], steep[1, 1], steep[2, 2] = 0.0, 30.0, -30.0
    rows = drawn(5, 6, seed=6)
    rows[1] *= 3e-3  # a variance near epsilon, so epsilon matters
    rows[2] = 1.5  # zero variance
    rows[3] = 1000 + 5 * rows[3]  # a mean far from zero
    return {
        "Dense": case(
            lambda x, p: functional.linear(x, p["weight"].T, p["bias"]),
            drawn(5, 4, seed=2),
            weight=drawn(4, 3, seed=3),
            bias=drawn(3, seed=10),
        ),
        "ReLU": case(lambda x, _: functional.relu(x), signs),
        "Tanh": case(lambda x, _: functional.tanh(x), steep),
        "LayerNorm": case(
            lambda x, p: functional.layer_norm(x, (6,), p["gain"], p["bias"], eps=1e-5),
            rows,
            gain=drawn(6, seed=7),
            bias=drawn(6, seed=8),
        ),
    }


class Reference:
    """A network 3 -> 5 tanh -> 4 relu -> 2, with or without LayerNorm. Leaves are in the order of the flat vector."""

    def __init__(self, layer_norm: bool) -> None:
        self.leaves: dict[str, Tensor] = {}
        self.layer_norm = layer_norm
        index = 0
        for inputs, outputs in ((3, 5), (5, 4), (4, 2)):
            self._add(f"{index}.Dense.weight", drawn(inputs, outputs, seed=20 + index) / math.sqrt(inputs))
            self._add(f"{index}.Dense.bias", drawn(outputs, seed=30 + index) / 10)
            if layer_norm and outputs != 2:
                index += 1
                self._add(f"{index}.LayerNorm.gain", 1 + drawn(outputs, seed=40 + index) / 10)
                self._add(f"{index}.LayerNorm.bias", drawn(outputs, seed=50 + index) / 10)
            index += 2

    def _add(self, name: str, value: Tensor) -> None:
        self.leaves[name] = value.requires_grad_()

    def __call__(self, x: Tensor) -> Tensor:
        leaves = iter(self.leaves.values())
        for activation in (torch.tanh, torch.relu, None):
            weight, bias = next(leaves), next(leaves)
            x = functional.linear(x, weight.T, bias)
            if activation is not None:
                if self.layer_norm:
                    x = functional.layer_norm(x, x.shape[1:], next(leaves), next(leaves))
                x = activation(x)
        return x

    def flat(self) -> list[float]:
        return torch.cat([leaf.detach().ravel() for leaf in self.leaves.values()]).tolist()


def networks() -> Literals:
    """Return outputs and gradients of one pass, and the result of 12 Adam updates on the Huber loss."""
    cases: Literals = {}
    for layer_norm in (False, True):
        reference = Reference(layer_norm)
        x, d_outputs = drawn(6, 3, seed=60), drawn(6, 2, seed=61)
        case: Literals = {"names": list(reference.leaves), "parameters": reference.flat()}
        outputs = reference(x)
        outputs.backward(d_outputs)
        case["outputs"] = outputs.tolist()
        case["gradients"] = {name: leaf.grad.tolist() for name, leaf in reference.leaves.items()}  # type: ignore[union-attr]

        batches, targets = drawn(12, 6, 3, seed=62), 2 * drawn(12, 6, seed=63)
        chosen = (drawn(12, 6, seed=64) > 0).long()
        optimizer = torch.optim.Adam(reference.leaves.values(), lr=0.02)
        losses_seen = []
        for batch, target, column in zip(batches, targets, chosen, strict=True):
            optimizer.zero_grad()
            loss = functional.huber_loss(reference(batch)[torch.arange(6), column], target)
            loss.backward()
            optimizer.step()
            losses_seen.append(loss.item())
        case |= {"losses": losses_seen, "trained": reference.flat()}
        cases["layer_norm" if layer_norm else "plain"] = case
    return {
        "x": x.tolist(),
        "d_outputs": d_outputs.tolist(),
        "batches": batches.tolist(),
        "targets": targets.tolist(),
        "chosen": chosen.tolist(),
        "cases": cases,
    }


def compact(value: Any, depth: int = 0) -> str:
    """Return JSON with one line per array, so that the file is short and a diff shows which arrays changed."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    inner = ",\n".join(f"{'  ' * (depth + 1)}{json.dumps(k)}: {compact(v, depth + 1)}" for k, v in value.items())
    return f"{{\n{inner}\n{'  ' * depth}}}"


if __name__ == "__main__":
    literals = {
        "torch": torch.__version__.split("+")[0],
        "optimizers": optimizers(),
        "losses": losses(),
        "row_losses": row_losses(),
        "layers": layers(),
        "networks": networks(),
    }
    Path(__file__).with_name("literals.json").write_text(compact(literals) + "\n", encoding="utf-8")
