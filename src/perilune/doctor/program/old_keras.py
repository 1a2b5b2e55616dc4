"""Run programs for other versions of Keras: names of 2016 to 2022, and ``tensorflow.keras`` without TensorFlow."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import gymnasium

from perilune.doctor.program import standins
from perilune.errors import ExaminationError

BACKENDS = ("tensorflow", "torch", "jax")
# Modules of Keras 1 and 2 -> those of Keras 3.
MOVED = {
    **dict.fromkeys(("layers.core", "layers.normalization", "layers.convolutional", "layers.pooling"), "layers"),
    **dict.fromkeys(("layers.advanced_activations", "layers.merge", "engine.topology"), "layers"),
    **dict.fromkeys(("optimizers.adam", "optimizers.adam_v2", "optimizers.rmsprop", "optimizer_v2.adam"), "optimizers"),
    **{"utils.np_utils": "utils", "engine.training": "models", "engine": ""},
}
QUIET = ("config", "logging", "get_logger", "summary", "autograph", "debugging", "test", "errors")  # of TensorFlow
OF_TENSORFLOW_1 = re.compile(r"module 'tensorflow.*' has no attribute|not compatible with eager execution")


def prepare(source: str) -> None:
    """Choose an installed backend before Keras is imported, and serve ``tensorflow.keras`` from Keras if needed.

    Args:
        source: The program, which may name a backend.
    """
    named = re.search(r"KERAS_BACKEND\W+(" + "|".join(BACKENDS) + r")\b", source)
    if named:
        os.environ["KERAS_BACKEND"] = named[1]
    elif "KERAS_BACKEND" not in os.environ:
        found = next((one for one in BACKENDS if standins.installed(one)), None)
        if found not in (None, "tensorflow"):
            os.environ["KERAS_BACKEND"] = str(found)


@contextlib.contextmanager
def served() -> Iterator[None]:
    """Serve old modules of Keras to ``import``, and ``tensorflow`` if only Keras is installed."""
    finder = _Finder(not standins.installed("tensorflow") and standins.installed("keras"))
    sys.meta_path.append(finder)  # the last, because installed modules are preferred
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, tensorflow: bool) -> None:
        self.tensorflow = tensorflow
        self.made: list[str] = []

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Return how to load a module with an old name."""
        del path, target
        if name == "tensorflow" and self.tensorflow:
            self._import_keras()
        short = _short(name)
        served = self.tensorflow and (name == "tensorflow" or (name != short and f"{short}.".startswith("keras.")))
        if not served and short.removeprefix("keras.") not in MOVED:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def _import_keras(self) -> None:
        """Import Keras first, which must not take this stand-in for TensorFlow."""
        self.tensorflow = False
        importlib.import_module("keras")
        importlib.import_module("keras.src.utils.module_utils").tensorflow._available = False
        self.tensorflow = True

    def create_module(self, spec: Any) -> Any:
        """Return the module of Keras 3."""
        self.made.append(spec.name)
        if spec.name == "tensorflow":
            return _TensorFlow()
        name = _short(spec.name).removeprefix("keras").removeprefix(".")
        original = importlib.import_module(f"keras.{MOVED.get(name, name)}".removesuffix("."))
        made = ModuleType(spec.name)
        vars(made).update({key: one for key, one in vars(original).items() if not key.startswith("__")})
        return made

    def exec_module(self, module: Any) -> None:
        """Do nothing: the module is filled."""


def _short(name: str) -> str:
    """Return the name of a module without the prefix of TensorFlow."""
    return name.removeprefix("tensorflow.").removeprefix("python.")


class _TensorFlow(ModuleType):
    """What Keras alone can serve of TensorFlow."""

    def __init__(self) -> None:
        super().__init__("tensorflow")
        self.__version__, self.__path__ = "2.16.0", []
        self.random, self.executing_eagerly = _Random(), lambda: True
        self.compat = standins.module("tensorflow.compat")
        vars(self).update({name: standins.StandIn() for name in QUIET})
        vars(self).update({name: name for name in ("float32", "float64", "int32", "int64", "bool")})

    @staticmethod
    def function(function: Any = None, **_: Any) -> Any:
        """Return a function as it is."""
        return function if function is not None else (lambda one: one)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        keras = importlib.import_module("tensorflow.keras")
        if name == "keras":
            return keras
        operation = getattr(keras.ops, name.removeprefix("reduce_"), None)
        found = getattr(keras, name) if name in ("optimizers", "losses", "initializers", "metrics") else operation
        if found is None:
            raise ExaminationError(
                f"the program uses tf.{name}, which Keras does not have. Install TensorFlow: pip install tensorflow"
            )
        return found


class _Random:
    """Stands in for ``tensorflow.random``."""

    @staticmethod
    def set_seed(seed: int) -> None:
        """Seed the generator of Keras."""
        importlib.import_module("keras").utils.set_random_seed(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("keras").random, name)


class _Itself:
    """The attribute ``model`` of a ``Sequential`` of Keras 1, unless an object has its own."""

    def __get__(self, instance: Any, owner: type) -> Any:
        return instance


def accept_old_names(keras: Any) -> None:
    """Accept arguments and attributes of old versions of Keras: ``Adam(lr=..., decay=...)`` and others.

    Args:
        keras: The package.
    """
    optimizers = keras.optimizers
    original, space = optimizers.Optimizer.__init__, gymnasium.spaces.Discrete.__init__

    def init(self: Any, learning_rate: Any = 0.001, *args: Any, **keywords: Any) -> None:
        learning_rate = keywords.pop("lr", learning_rate)
        if decay := keywords.pop("decay", None):
            learning_rate = optimizers.schedules.InverseTimeDecay(learning_rate, 1, decay)
        original(self, learning_rate, *args, **keywords)

    def init_space(self: Any, *args: Any, **keywords: Any) -> None:
        space(self, *args, **keywords)
        self.n = int(self.n)  # Keras 3 refuses a layer with np.int64 units

    optimizers.Optimizer.__init__ = functools.wraps(original)(init)
    gymnasium.spaces.Discrete.__init__ = functools.wraps(space)(init_space)  # type: ignore[method-assign]
    optimizers.Optimizer.lr = property(
        lambda self: self.learning_rate, lambda self, value: setattr(self, "learning_rate", value)
    )
    legacy = [sys.modules.get(f"{package}.optimizers.legacy") for package in ("keras", "keras._tf_keras.keras")]
    for name in ("SGD", "RMSprop", "Adagrad", "Adadelta", "Adam", "Adamax", "Nadam"):
        vars(optimizers).setdefault(name.lower(), getattr(optimizers, name))
        for module in legacy:
            if module is not None:
                setattr(module, name, getattr(optimizers, name))
    keras.Sequential.model = _Itself()
    keras.layers.InputLayer.call = lambda self, inputs=None: inputs
    for name in dir(keras.ops):
        if not name.startswith("_") and not hasattr(keras.backend, name):
            setattr(keras.backend, name, getattr(keras.ops, name))
    vars(keras.backend).setdefault("set_session", lambda *_: None)


def explained(error: BaseException) -> str:
    """Return which version of TensorFlow a program is written for if an exception shows it, or ""."""
    if not OF_TENSORFLOW_1.search(str(error)):
        return ""
    return "the program is written for TensorFlow 1. The doctor observes Keras and TensorFlow 2 only"
