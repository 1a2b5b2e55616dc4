"""Export a policy as one Python file that needs only NumPy."""

from __future__ import annotations

from perilune._utils.arrays import Array
from perilune.export.golden import Golden, golden_json
from perilune.export.policy import Block, Policy
from perilune.export.text import base64_floats, describe_inputs, fill, title


def render(policy: Policy, golden: Golden) -> dict[str, str]:
    """Return the files of the export by name: policy.py, selftest.py and golden.json.

    Args:
        policy: the policy.
        golden: the golden vectors.
    """
    module = fill(
        "policy.py.txt",
        title=title(policy),
        inputs=describe_inputs(policy),
        actions=repr(policy.actions),
        first_action=str(policy.first_action),
        inputs_count=str(len(policy.entries)),
        or_unknown=", or a category does not exist" if policy.has_categories else "",
        encode=_encode(policy) if policy.has_categories else "",
        expect="" if policy.support is None else _expect(policy.support),
        layers="\n".join(map(_layer, policy.blocks)),
    )
    return {"policy.py": module, "selftest.py": _selftest(), "golden.json": golden_json(golden)}


def _selftest() -> str:
    return fill(
        "selftest.py.txt",
        file="policy.py",
        needs="Python 3 and NumPy",
        imports="from policy import Policy",
        load="""policy = Policy()


def run(obs):
    return policy.q_values(obs), policy.act(obs)

""",
    )


def _encode(policy: Policy) -> str:
    """Return the lines that encode categories as one-hot."""
    lines = []
    for index, entry in enumerate(policy.entries):
        if entry.categories:
            known = f"np.arange({entry.start}, {entry.start + entry.categories})"
            lines.append(f"valid &= np.isin(rows[:, [{index}]], {known})")
    lines.append("encoded = [")
    for index, entry in enumerate(policy.entries):
        one_hot = f" == np.arange({entry.start}, {entry.start + entry.categories})" if entry.categories else ""
        lines.append(f"    x[:, [{index}]]{one_hot},")
    lines += ["]", "x = np.concatenate(encoded, axis=1).astype(np.float32)"]
    return "".join(f"\n        {line}" for line in lines)


def _expect(support: Array) -> str:
    """Return the lines that compute the mean of the distribution of each action (C51)."""
    numbers = f"np.frombuffer(base64.b64decode({base64_floats(support)!r}), '<f4')"
    lines = [
        f"returns = {numbers}",
        "x = x.reshape(len(x), -1, len(returns))",
        "x = np.exp(x - x.max(axis=2, keepdims=True))",
        "x = (x / x.sum(axis=2, keepdims=True)) @ returns",
    ]
    return "".join(f"\n            {line}" for line in lines)


def _layer(block: Block) -> str:
    arrays = [block.weight, block.bias, block.gain, block.shift]
    texts = [f'"{base64_floats(array)}"' for array in arrays if array is not None]
    return f"    ({len(block.bias)}, {', '.join(texts)}, {block.activation!r}),"
