"""Export a policy as a JavaScript module, with a page that plays its environment in a browser."""

from __future__ import annotations

import json
import math
import re
from html import escape
from importlib import resources

import numpy as np

from perilune.envs.known import lookup
from perilune.export.golden import Golden, golden_json
from perilune.export.policy import Block, Entry, Policy
from perilune.export.text import base64_floats, fill, title

DEMOS = {
    "LunarLander-v3": "lunar_lander",
    "CartPole-v1": "cart_pole",
    "Acrobot-v1": "acrobot",
    "MountainCar-v0": "mountain_car",
}
"""Environments whose physics exist in JavaScript, and the file in templates/demo."""

PACKAGE = {
    "name": "perilune-policy",
    "version": "1.0.0",
    "private": True,
    "type": "module",
    "exports": {".": {"types": "./policy.d.mts", "default": "./policy.mjs"}},
    "types": "./policy.d.mts",
    "scripts": {"test": "node selftest.mjs"},
}
"""Content of package.json without the description."""


def render(policy: Policy, golden: Golden) -> dict[str, str]:
    """Return the files of the export by name: the module, its types, its self-test and package.json.

    Args:
        policy: the policy.
        golden: the golden vectors.
    """
    return {
        "policy.mjs": module(policy),
        "policy.d.mts": fill("policy.d.mts", title=title(policy), inputs=str(len(policy.entries))),
        "selftest.mjs": fill("selftest.mjs"),
        "golden.json": golden_json(golden),
        "package.json": json.dumps({"description": title(policy), **PACKAGE}, indent=2) + "\n",
    } | ({} if (page := demo(policy)) is None else {"demo.html": page})


def module(policy: Policy) -> str:
    """Return the content of policy.mjs.

    Args:
        policy: the policy.
    """
    arrays = [array for block in policy.blocks for array in (block.weight, block.bias, block.gain, block.shift)]
    return fill(
        "policy.mjs",
        title=title(policy),
        environment=_literal(policy.environment),
        observations="\n".join(map(_observation, policy.entries)),
        actions=_literal(policy.actions),
        first_action=str(policy.first_action),
        layers="\n".join(map(_layer, policy.blocks)),
        support="null" if policy.support is None else f'decode("{base64_floats(policy.support)}")',
        weights=base64_floats(np.concatenate([array.ravel() for array in arrays if array is not None])),
    )


def demo(policy: Policy) -> str | None:
    """Return a page in which the policy plays its environment, or None for an environment without JavaScript physics.

    The page is one HTML file that contains everything, so that it also works from a disk.

    Args:
        policy: the policy.
    """
    known = lookup(policy.environment)
    file = DEMOS.get(policy.environment)
    names = tuple(entry.name for entry in policy.entries)
    if file is None or names != known.observations or policy.actions != known.actions:
        return None
    game = _template(f"demo/{file}.mjs")
    library = f"<script>\n{_template('vendor/planck.min.js')}\n</script>\n" if "planck" in game else ""
    modules = {"shapes": _template("demo/shapes.mjs"), "game": game, "policy": module(policy)}
    script = "\n".join([*(_wrapped(name, text) for name, text in modules.items()), _template("demo/page.js")])
    return fill(
        "demo/page.html",
        environment=escape(policy.environment),
        style=_template("demo/page.css"),
        library=library,
        script=script,
    )


def _wrapped(name: str, text: str) -> str:
    """Return a module as a function call, because the modules in one HTML file cannot import each other."""
    names = re.findall(r"^export (?:const|let|function) (\w+)", text, re.MULTILINE)
    text = re.sub(r"^export ", "", text, flags=re.MULTILINE)
    text = re.sub(r'^import (\{ .+ \}) from "\./(\w+)\.mjs";$', r"const \1 = \2;", text, flags=re.MULTILINE)
    return f"const {name} = (() => {{\n{text}return {{ {', '.join(names)} }};\n}})();\n"


def _template(name: str) -> str:
    return (resources.files("perilune.export") / "templates" / name).read_text(encoding="utf-8")


def _observation(entry: Entry) -> str:
    low, high = _number(entry.low), _number(entry.high)
    return f"  {{ name: {_literal(entry.name)}, low: {low}, high: {high}, categories: {entry.categories} }},"


def _layer(block: Block) -> str:
    inputs, outputs = block.weight.shape
    normalize = "false" if block.gain is None else "true"
    return f'  {{ inputs: {inputs}, outputs: {outputs}, normalize: {normalize}, activation: "{block.activation}" }},'


def _number(value: float) -> str:
    return f"{value + 0.0:.9g}" if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _literal(value: object) -> str:
    """Return a JavaScript literal that can also be part of a script in an HTML page."""
    return json.dumps(value).replace("<", r"\u003c")
