"""Pinned packages and repositories of the third-party agents. Their code is not part of this repository.

python -m benchmarks.external.sources --into DIR
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("stable-baselines3==2.9.2", "sb3-contrib==2.9.2", "tianshou==2.0.1", "pfrl==0.4.0", "tyro", "tensorboard")

REPOSITORIES = {  # commit, and path of what the benchmark needs
    "AI4Finance-Foundation/ElegantRL": ("7c64395ff4c2b53892fe6f9eaa3b58947136ffc1", "."),
    "BY571/IQN-and-Extensions": ("c7742d35f415a629a79577066536f4a862de9410", "."),
    "Curt-Park/rainbow-is-all-you-need": ("e864f0be10d028aebcbfac1d48c219813f3d48f9", "."),
    "Lizhi-sjtu/DRL-code-pytorch": ("8f767b99ad44990b49f6acf3159660c5594db77e", "."),
    "PyTorchKorea/tutorials-kr": (  # a translation with the original code
        "84b7db6e020c098cf38a0dfaf036007c24057bb1",
        "intermediate_source/reinforcement_q_learning.py",
    ),
    "XinJingHao/DRL-Pytorch": ("83486646f12d44e4e94a834e495b81a8f2710055", "."),
    "boyu-ai/Hands-on-RL": ("4a151a4bfeafd3061c0e0ef59bece25ca8fb2bf8", "."),
    "dongminlee94/deep_rl": ("d5bcabc541a5f16e166be33876d23352e149f97e", "."),
    "eleurent/rl-agents": ("84df15ea977271e6a4d015f10f9f355f7e866890", "."),
    "johnnycode8/dqn_pytorch": ("90cc8c06637f61dfb6fd9ed7a487bc5ccf1a8687", "."),
    "seungeunrho/minimalRL": ("c8efed8481e3cd40e9739cfde220a55522555b57", "."),
    "udacity/deep-reinforcement-learning": ("561eec3ae8678a23a4557f1a15414a9b076fdfff", "."),
    "vwxyzjn/cleanrl": ("fe8d8a03c41a7ef5b523e2e354bd01c363e786bb", "."),
}

VARIABLE = "PERILUNE_EXTERNAL_SOURCES"  # environment variable with the directory of the repositories


def folder(repository: str) -> Path:
    """Return the directory of a repository."""
    return Path(os.environ[VARIABLE]) / repository.replace("/", "_")


def find(repository: str, path: str) -> Path:
    """Return a file of a repository, and make the modules beside it importable."""
    file = folder(repository) / path
    sys.path[:0] = [one for one in (str(folder(repository)), str(file.parent)) if one not in sys.path]
    return file


def load(repository: str, path: str) -> ModuleType:
    """Return a new module from a file, which finds the modules beside it."""
    file = find(repository, path)
    name = f"external_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def definitions(repository: str, path: str, stop: int | None = None) -> Any:
    """Return the imports and classes of a program or a Jupyter or marimo notebook, without the code that it runs.

    ``stop``: number of the code cells of a Jupyter notebook to read.
    """
    file = find(repository, path)
    text = file.read_text()
    if file.suffix == ".ipynb":
        cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"][:stop]
        text = "\n\n".join("".join(lines) for lines in cells)
    found: list[ast.stmt] = []
    for node in ast.parse(text).body:
        is_cell = isinstance(node, ast.FunctionDef) and any(
            "app.cell" in ast.unparse(one) for one in node.decorator_list
        )
        found += node.body if is_cell and isinstance(node, ast.FunctionDef) else [node]
    kept: list[ast.stmt] = [node for node in found if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef)]
    namespace: dict[str, Any] = {"__name__": f"external_{file.stem}"}
    sys.modules[namespace["__name__"]] = module = ModuleType(namespace["__name__"])
    module.__dict__.update(namespace)
    for node in kept:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name not in sys.modules and importlib.util.find_spec(name) is None:
                sys.modules[name] = ModuleType(name)  # not needed to build an agent
    exec(compile(ast.Module(kept, []), file, "exec"), module.__dict__)  # noqa: S102 -- the program that is examined
    return module


def main(arguments: list[str] | None = None) -> int:
    """Clone the repositories at their pinned commits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="directory for the repositories")
    os.environ[VARIABLE] = str(parser.parse_args(arguments).into.resolve())
    for repository, (commit, path) in REPOSITORIES.items():
        target = folder(repository)
        if not target.exists():
            url = f"https://github.com/{repository}"
            clone = ["git", "clone", "--filter=blob:none", "--no-checkout", url, str(target)]
            for command in (clone, ["git", "-C", str(target), "checkout", "--quiet", commit, "--", path]):
                subprocess.run(command, check=True)  # noqa: S603 -- fixed commands
    return 0


if __name__ == "__main__":
    sys.exit(main())
