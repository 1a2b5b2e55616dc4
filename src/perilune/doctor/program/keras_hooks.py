"""Observe a Keras program: networks, targets, losses, updates, and the gradients of a TensorFlow tape."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program import old_keras, standins
from perilune.doctor.program.files import Scratch
from perilune.doctor.program.recorder import Recorder, Window
from perilune.doctor.program.torch_hooks import caller

LOSSES = ("mean_squared_error", "mse", "MSE", "huber", "mean_absolute_error", "mae", "MAE", "log_cosh")
GRADIENTS = 150  # updates whose gradients with respect to the outputs are computed
MOST_ROWS = 4096  # of an input that one pass of the network handles
LOGGING = ("TensorBoard", "ModelCheckpoint", "CSVLogger", "ProgbarLogger", "BackupAndRestore")  # callbacks


def is_model(value: Any) -> bool:
    """Return whether an object is a model of Keras."""
    return any(one.__module__.startswith("keras.") and one.__name__ == "Model" for one in type(value).__mro__)


def without_gradients() -> Any:
    """Return a context in which PyTorch computes no gradients, if it is imported."""
    torch = sys.modules.get("torch")
    return torch.no_grad() if torch is not None else contextlib.nullcontext()


class Hooks:
    """Observes Keras for a recorder.

    Args:
        keras: The package.
        recorder: Receives what the program computes.
        scratch: The scratch directory, to which models are saved.
    """

    installed: Hooks | None = None  # in this process

    def __init__(self, keras: Any, recorder: Recorder, scratch: Scratch) -> None:
        self.keras, self.recorder, self.scratch = keras, recorder, scratch
        self.depth = 0  # of Keras' own calls, which are not recorded
        self.call, self.on_batch = keras.Model.__call__, keras.Model.predict_on_batch
        self.outputs: list[tuple[int, Any]] = []  # of networks in this window: the entries of their values, and tensors
        self._window: Window | None = None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Do not record what Keras computes in this block."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    @property
    def on(self) -> bool:
        """Whether the program itself calls Keras, and its values are recorded."""
        if self._window is not self.recorder.window:
            self._window, self.outputs = self.recorder.window, []
        return self.recorder.on and not self.depth

    # Networks

    def forward(self, model: Any, given: Any, output: Any, requires_grad: bool = False) -> None:
        """Record a forward pass."""
        obs, values = self.array(given[0] if isinstance(given, list | tuple) and given else given), self.array(output)
        if obs is None or values is None or values.ndim == 0 or values.size > 100_000 or obs.size > 200_000:
            return
        window = self.recorder.window
        self.recorder.networks[id(model)] = model
        entry = len(window.values)
        what = output if requires_grad else values
        self.recorder.add("forward", what, more=obs.copy(), key=id(model), line=caller())
        if requires_grad and len(window.values) > entry:
            self.outputs.append((entry, output))

    def array(self, value: Any) -> Array | None:
        """Return a tensor, an array or a list of numbers as an array, or None for symbols."""
        if not isinstance(value, np.ndarray | list | tuple) and not self.keras.ops.is_tensor(value):
            return None
        try:
            found = np.asarray(self.keras.ops.convert_to_numpy(value))
        except Exception:  # a symbol of a graph
            return None
        return found if found.dtype.kind in "fiub" else None

    def quick(self, model: Any, given: Any) -> Array | None:
        """Return what ``predict`` returns, without its overhead for each call, or None if that is not known."""
        first = given[0] if isinstance(given, list | tuple) and given else given
        if not isinstance(first, np.ndarray) or first.ndim < 2 or len(first) > MOST_ROWS:
            return None
        with self.inside():
            try:
                found = self.array(self.on_batch(model, given))
            except Exception:  # ``predict`` raises it again
                return None
        return None if found is None else np.array(found)

    # Updates

    @contextlib.contextmanager
    def update(self, model: Any, x: Any, y: Any, weight: Any = None) -> Iterator[None]:
        """Record an update of ``train_on_batch`` or ``fit``: the prediction before it, and its targets."""
        if self.depth:
            yield
            return
        prediction, entry = None, -1
        if self.recorder.on and y is not None and (target := self.array(y)) is not None:
            prediction = self.quick(model, x)
            if prediction is not None:
                entry = len(self.recorder.window.values)
                self.forward(model, x, prediction)
                more = target.astype(np.float64), False, str(getattr(model, "loss", ""))
                self.recorder.add("loss", prediction, more=more, line=caller())
        with self.inside():
            yield
            if prediction is not None and self.recorder.updates < GRADIENTS:
                gradient = self._gradient(model, x, y, prediction, weight)
                if gradient is not None:
                    self.recorder.add("gradient", gradient, key=entry, line=caller())
        self.step(model.optimizer)

    def _gradient(self, model: Any, x: Any, y: Any, prediction: Array, weight: Any) -> Array | None:
        """Return the gradient of the loss with respect to the outputs, or None."""
        convert, backend = self.keras.ops.convert_to_tensor, self.keras.backend.backend()
        try:
            target = convert(np.asarray(y, prediction.dtype))
            if backend == "torch":
                output = convert(prediction).detach().clone().requires_grad_()
                loss = model.compute_loss(x=x, y=target, y_pred=output, sample_weight=weight)
                (found,) = sys.modules["torch"].autograd.grad(loss, output)
            elif backend == "tensorflow":
                output = convert(prediction)
                with sys.modules["tensorflow"].GradientTape() as tape:
                    tape.watch(output)
                    loss = model.compute_loss(x=x, y=target, y_pred=output, sample_weight=weight)
                found = tape.gradient(loss, output)
            else:
                return None
        except Exception:  # such as of a loss with other arguments
            return None
        return self.array(found)

    def step(self, optimizer: Any) -> None:
        """Record a step of an optimizer."""
        rate = None
        with contextlib.suppress(Exception):  # a learning rate that is computed in a graph
            rate = float(optimizer.learning_rate)
        self.recorder.step(optimizer, rate, True, caller())


def install(recorder: Recorder, scratch: Scratch) -> None:
    """Install the hooks. Import Keras.

    Args:
        recorder: Receives what the program computes.
        scratch: The scratch directory, to which models are saved.
    """
    keras = importlib.import_module("keras")
    if (hooks := Hooks.installed) is not None:
        hooks.recorder, hooks.scratch = recorder, scratch
        return
    old_keras.accept_old_names(keras)
    hooks = Hooks.installed = Hooks(keras, recorder, scratch)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    _models(hooks, keras.Model)
    _replace(keras.optimizers.Optimizer, "apply", functools.partial(_apply, hooks))
    _replace(keras.losses.Loss, "__call__", functools.partial(_loss, hooks))
    tensorflow: Any = sys.modules.get("tensorflow")
    for losses in {id(one): one for one in (keras.losses, getattr(tensorflow, "keras", keras).losses)}.values():
        for name in LOSSES:
            if hasattr(losses, name):
                _replace(losses, name, functools.partial(_loss_function, hooks))
    if tensorflow is not None and "GradientTape" in vars(tensorflow):  # TensorFlow itself
        _replace(tensorflow.GradientTape, "gradient", functools.partial(_gradient, hooks))
        tensorflow.summary = standins.StandIn()
        for name in ("disable_eager_execution", "disable_v2_behavior"):
            setattr(tensorflow.compat.v1, name, lambda: None)


def _replace(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrapper(original)))


def _apply(hooks: Hooks, apply: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(optimizer: Any, *args: Any, **keywords: Any) -> Any:
        if not hooks.depth:
            hooks.step(optimizer)
        with hooks.inside():
            return apply(optimizer, *args, **keywords)

    return wrapped


def _gradient(hooks: Hooks, original: Callable[..., Any]) -> Callable[..., Any]:
    """Also compute the gradients of a tape with respect to the outputs of networks."""

    def gradient(tape: Any, target: Any, sources: Any, *args: Any, **keywords: Any) -> Any:
        outputs = hooks.outputs if hooks.on else []
        tensors = [tensor for _, tensor in outputs]
        found, reached = original(tape, target, [sources, tensors], *args, **keywords)
        for (entry, _), one in zip(outputs, reached, strict=True):
            if one is not None and (array := hooks.array(one)) is not None:
                hooks.recorder.add("gradient", array, key=entry, line=caller())
        return found

    return gradient


def _loss(hooks: Hooks, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(loss: Any, y_true: Any, y_pred: Any, *args: Any, **keywords: Any) -> Any:
        _compared(hooks, y_true, y_pred, type(loss).__name__)
        with hooks.inside():
            return call(loss, y_true, y_pred, *args, **keywords)

    return wrapped


def _loss_function(hooks: Hooks, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(y_true: Any, y_pred: Any, *args: Any, **keywords: Any) -> Any:
        _compared(hooks, y_true, y_pred, function.__name__)
        return function(y_true, y_pred, *args, **keywords)

    return wrapped


def _compared(hooks: Hooks, y_true: Any, y_pred: Any, name: str) -> None:
    """Record a comparison of predictions with targets."""
    if hooks.on and (target := hooks.array(y_true)) is not None and (prediction := hooks.array(y_pred)) is not None:
        hooks.recorder.add("loss", prediction, more=(target.copy(), False, name), line=caller())


def _models(hooks: Hooks, owner: Any) -> None:
    """Replace the methods of models."""
    predict, fit, on_batch = owner.predict, owner.fit, owner.train_on_batch

    @functools.wraps(hooks.call)
    def called(model: Any, *args: Any, **keywords: Any) -> Any:
        if not hooks.on:
            return hooks.call(model, *args, **keywords)
        with hooks.inside():
            output = hooks.call(model, *args, **keywords)
        given = args[0] if args else keywords.get("inputs")
        hooks.forward(model, given, output, requires_grad=True)
        return output

    def predicting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def predicted(model: Any, x: Any, *args: Any, **keywords: Any) -> Any:
            output = hooks.quick(model, x) if not keywords.get("callbacks") else None
            if output is None:
                with hooks.inside():
                    output = original(
                        model, x, *args, **({"verbose": 0} | keywords if original is predict else keywords)
                    )
            if hooks.on:
                hooks.forward(model, x, output)
            return output

        return predicted

    @functools.wraps(on_batch)
    def train_on_batch(model: Any, x: Any, y: Any = None, sample_weight: Any = None, **keywords: Any) -> Any:
        with hooks.update(model, x, y, sample_weight):
            return on_batch(model, x, y, sample_weight, **keywords)

    @functools.wraps(fit)
    def fitted(model: Any, x: Any = None, y: Any = None, *args: Any, **keywords: Any) -> Any:
        names = ("batch_size", "epochs", "verbose", "callbacks")
        keywords = {**dict(zip(names, args, strict=False)), **keywords, "verbose": 0}
        kept = [one for one in keywords.pop("callbacks", None) or () if not _logs(hooks.keras, one)]
        with hooks.update(model, x, y, keywords.get("sample_weight")):
            if _one_batch(x, y, kept, keywords):
                rounds = [on_batch(model, x, y, return_dict=True) for _ in range(keywords.get("epochs", 1))]
                history = hooks.keras.callbacks.History()
                history.history = {name: [float(one[name]) for one in rounds] for name in rounds[0]}
                history.epoch, model.history = list(range(len(rounds))), history
                return history
            return fit(model, x, y, callbacks=kept, **keywords)

    def loading(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def loaded(model: Any, *args: Any, **keywords: Any) -> Any:
            result = original(model, *args, **keywords)
            if hooks.on:
                hooks.recorder.networks[id(model)] = model
                hooks.recorder.add("load", None, key=id(model), line=caller())
            return result

        return loaded

    def saving(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def saved(model: Any, filepath: Any, *args: Any, **keywords: Any) -> Any:
            return original(model, hooks.scratch.writing(filepath), *args, **keywords)

        return saved

    owner.__call__, owner.fit, owner.train_on_batch = called, fitted, train_on_batch
    owner.predict, owner.predict_on_batch = predicting(predict), predicting(owner.predict_on_batch)
    owner.set_weights, owner.load_weights = loading(owner.set_weights), loading(owner.load_weights)
    owner.save, owner.save_weights = saving(owner.save), saving(owner.save_weights)


def _logs(keras: Any, callback: Any) -> bool:
    """Return whether a callback only logs or saves."""
    return isinstance(
        callback, tuple(getattr(keras.callbacks, name) for name in LOGGING if hasattr(keras.callbacks, name))
    )


def _one_batch(x: Any, y: Any, callbacks: list[Any], keywords: dict[str, Any]) -> bool:
    """Return whether ``fit`` only calls ``train_on_batch`` with all rows, once in each epoch."""
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray) or callbacks or x.ndim < 2 or not len(x):
        return False
    plain = {"batch_size", "epochs", "verbose", "shuffle"} >= {
        name for name, one in keywords.items() if one is not None
    }
    return plain and len(x) <= (keywords.get("batch_size") or 32)
