"""Explain exceptions that show what a program lacks: packages, environments, arguments, valid code."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import gymnasium

# Names of packages that differ from the names of their modules.
PACKAGES = {
    **{"sklearn": "scikit-learn", "yaml": "pyyaml", "skimage": "scikit-image", "cv2": "opencv-python", "PIL": "pillow"},
    **{"Box2D": '"gymnasium[box2d]"', "ale_py": '"gymnasium[atari]"', "mujoco": '"gymnasium[mujoco]"'},
    **{"mujoco_py": '"gymnasium[mujoco]"', "atari_py": '"gymnasium[atari]"', "pygame": "pygame"},
    **{
        "highway_env": "highway-env",
        "flappy_bird_gymnasium": "flappy-bird-gymnasium",
        "stable_baselines3": "stable-baselines3",
    },
}
# Beginnings or parts of the ids of environments that other packages register.
REGISTERED_BY = {
    r"^ALE/|NoFrameskip|Deterministic-|-ram-|^(Pong|Breakout|SpaceInvaders|Seaquest|Qbert)-": '"gymnasium[atari]"',
    r"^MiniGrid|^BabyAI": "minigrid",
    r"^(highway|merge|roundabout|parking|intersection)-": "highway-env",
    r"^FlappyBird": "flappy-bird-gymnasium",
    r"^procgen": "procgen",
    r"^SuperMario": "gym-super-mario-bros",
}


def explained(error: BaseException) -> str:
    """Return why a program cannot run, or "" if the exception speaks for itself."""
    match error:
        case SystemExit():
            return _exited(error)
        case SyntaxError():
            return f"line {error.lineno} of {Path(error.filename or '').name} is not valid Python: {error.msg}"
        case gymnasium.error.NameNotFound() | gymnasium.error.NamespaceNotFound():
            return _unregistered(str(error))
        case ImportError() | gymnasium.error.DependencyNotInstalled():
            return _missing(error)
    return ""


def _exited(end: SystemExit) -> str:
    """Return why a program ended itself: ``argparse`` exits with 2 if arguments are missing or wrong."""
    if end.code == 2:
        wrong = "pass its command-line arguments after --, as in: perilune doctor train.py -- --episodes 100"
        return f"the program ended with exit code 2: {wrong}"
    with_code = f"exit code {end.code}" if isinstance(end.code, int) and end.code else f"the message {end.code!r}"
    return f"the program ended itself with {with_code if end.code else 'sys.exit()'}"


def _unregistered(message: str) -> str:
    """Return which package registers an environment that Gymnasium does not have."""
    found = re.search(r"Environment `(.+?)`|Namespace (\S+) not found", message)
    name = (found[1] or f"{found[2]}/") if found else ""
    package = next((package for pattern, package in REGISTERED_BY.items() if re.search(pattern, f"{name}-")), "")
    if package:
        return f"the environment {name.rstrip('/')!r} is not installed: pip install {package}"
    return f"no environment {name.rstrip('/')!r} is registered: import the package that registers it"


def _missing(error: BaseException) -> str:
    """Return what to install for an import that failed."""
    first = next((one for one in _chain(error) if isinstance(one, ModuleNotFoundError)), None)
    if first is None or not first.name:
        if isinstance(error, gymnasium.error.DependencyNotInstalled):
            return str(error)
        found = re.match(r"cannot import name '(.+?)' from '(.+?)'", str(error))
        return _other_version(f"the program imports {found[1]!r} from {found[2]!r}", found[2]) if found else ""
    top, dot, _ = first.name.partition(".")
    if dot and importlib.machinery.PathFinder.find_spec(top) is not None:
        return _other_version(f"the program imports {first.name!r}", top)
    what = "the program imports" if first is error else "the environment needs"
    return f"{what} {top!r}, which is not installed: pip install {PACKAGES.get(top, top)}"


def _other_version(what: str, module: str) -> str:
    top = module.partition(".")[0]
    if top == "gym":
        return f"{what}. The doctor runs programs for gym on Gymnasium, which does not have it"
    try:
        version = f"{top} {importlib.metadata.version(top)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{what}, which does not have it"
    return (
        f"{what}, which {version} does not have: install the version that the program needs, pip install {top}==VERSION"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that led to it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
