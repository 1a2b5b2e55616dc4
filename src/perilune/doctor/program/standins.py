"""Stand-ins for packages that only display or log, so that a program runs without them."""

from __future__ import annotations

import contextlib
import dis
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# Replaced even if they are installed: they draw, write files or send data.
ALWAYS = {
    *("matplotlib", "mpl_toolkits", "pylab", "seaborn", "plotly", "bokeh", "livelossplot", "visdom", "tkinter"),
    *("IPython", "ipywidgets", "google.colab", "pyvirtualdisplay", "tqdm", "moviepy", "imageio"),
    *("wandb", "tensorboard", "tensorboardX", "tensorboard_logger", "torch.utils.tensorboard", "mlflow", "comet_ml"),
    *("neptune", "swanlab", "clearml", "aim", "gdown", "wget"),
}
IF_MISSING = {
    *("pandas", "cv2", "PIL", "pygame", "pyglet", "termcolor", "colorama", "tabulate", "prettytable", "rich", "loguru"),
    *(
        "torchsummary",
        "torchinfo",
        "torchviz",
        "torchvision",
        "graphviz",
        "psutil",
        "GPUtil",
        "google",
        "huggingface_hub",
    ),
    *("tyro", "setproctitle", "humanize", "progressbar", "alive_progress", "playsound", "winsound", "mpld3"),
}
CHECKED = ("keras", "tensorflow")  # packages that check which others are installed


class StandIn:
    """An object that accepts any use and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Return a decorated function unchanged, or another stand-in."""
        return args[0] if len(args) == 1 and not keywords and inspect.isfunction(args[0]) else StandIn()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return (StandIn,)

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[StandIn]:
        """Return as many objects as the statement unpacks, as in ``figure, axes = plt.subplots()``, or none."""
        frame = sys._getframe(1)
        code, place = frame.f_code.co_code, frame.f_lasti
        count = code[place + 1] if code[place] == dis.opmap["UNPACK_SEQUENCE"] else 0
        return iter([StandIn() for _ in range(count)])

    def __getitem__(self, key: Any) -> StandIn:
        if isinstance(key, int) and key > 100:  # ends a loop that iterates by index
            raise IndexError(key)
        return StandIn()

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __contains__(self, key: Any) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return False

    def __int__(self) -> int:
        return 0

    __index__ = __int__

    def __float__(self) -> float:
        return 0.0

    def __str__(self) -> str:
        return ""

    def __format__(self, spec: str) -> str:
        return ""

    def __lt__(self, other: Any) -> bool:
        return False

    __gt__ = __le__ = __ge__ = __lt__


def _same(self: StandIn, *_: Any) -> StandIn:
    return self


for _operation in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "radd", "rsub", "rmul", "rtruediv", "neg"):
    setattr(StandIn, f"__{_operation}__", _same)


class Progress:
    """A progress bar that shows nothing: a stand-in for ``tqdm``."""

    def __init__(self, iterable: Any = None, *_: Any, total: Any = None, **__: Any) -> None:
        self.iterable, self.total, self.n = iterable, total, 0

    def __iter__(self) -> Iterator[Any]:
        for value in self.iterable:
            yield value
            self.n += 1

    def __len__(self) -> int:
        return int(self.total if self.iterable is None else len(self.iterable))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()

    def update(self, n: int = 1) -> None:
        """Count."""
        self.n += n

    @staticmethod
    def write(*_: Any, **__: Any) -> None:
        """Print nothing."""


class Config(dict[str, Any]):
    """A dictionary whose keys are attributes: a stand-in for ``wandb.config``."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def update(self, *values: Any, **keywords: Any) -> None:
        """Add options, also from the result of ``argparse``."""
        keywords.pop("allow_val_change", None)
        for one in (*values, keywords):
            super().update(one if isinstance(one, dict) else vars(one))


def _members(name: str) -> dict[str, Any]:
    """Return the members of a stand-in whose values matter."""
    if name.startswith("tqdm"):
        bar = {"tqdm": Progress, "trange": lambda *args, **_: Progress(range(*args))}
        return {**bar, "tqdm_notebook": Progress, "tnrange": bar["trange"]}
    if name == "wandb":
        config = Config()
        run: Any = StandIn()
        run.config = config

        def init(*_: Any, **keywords: Any) -> Any:
            config.update(keywords.get("config") or {})
            return run

        return {"config": config, "init": init, "run": run}
    if name == "torch._dynamo":
        return {"disable": lambda function, *_, **__: function}
    if name == "tyro":
        return {"cli": lambda made, *_, **__: made()}
    return {}


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()


def is_stand_in(value: Any) -> bool:
    """Return whether a value is a stand-in."""
    return isinstance(value, StandIn | _Module)


def module(name: str) -> ModuleType:
    """Return a stand-in for a module."""
    made = _Module(name)
    vars(made).update(_members(name))
    return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        del path, target
        if not _replaced(name) or (name.partition(".")[0] in IF_MISSING and _importer() in CHECKED):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        return module(spec.name)

    def exec_module(self, module: Any) -> None:
        pass


def _replaced(name: str) -> bool:
    parts = name.split(".")
    if any(".".join(parts[: end + 1]) in ALWAYS for end in range(len(parts))):
        return True
    return parts[0] in IF_MISSING and not installed(parts[0])


def _importer() -> str:
    """Return the name of the package whose module imports another one."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(("importlib", __name__)):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def installed(name: str) -> bool:
    """Return whether a package is installed."""
    return importlib.machinery.PathFinder.find_spec(name) is not None


@contextlib.contextmanager
def imported() -> Iterator[None]:
    """Give stand-ins to ``import``."""
    finder = _Finder()
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if _replaced(name)}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _replaced(name)]:
            del sys.modules[name]
        sys.modules.update(before)
