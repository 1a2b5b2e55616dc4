"""Make random draws from a replay memory return given rows, in order."""

from __future__ import annotations

import contextlib
import functools
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SEED = 0  # of generators that a program makes without a seed


class Draws:
    """Replaces the functions that draw random rows or indices.

    While a batch is forced, a draw from as many items as are stored returns the first ``count`` of them in order. Other
    draws are random.

    Attributes:
        requested: Numbers of items that were requested while a batch was forced.
    """

    def __init__(self) -> None:
        self.requested: list[int] = []
        self._count = 0
        self._sizes: set[int] = set()
        self._next = 0

    @contextlib.contextmanager
    def forced(self, count: int, stored: int) -> Iterator[None]:
        """Force a batch.

        Args:
            count: Number of rows of the batch.
            stored: Number of stored rows. The first ``count`` ones are the batch.
        """
        self._count, self._next, self.requested = count, 0, []
        self._sizes = {stored - 1, stored, stored + 1}  # some programs leave out the last one, or store one more
        try:
            with self.patched():
                yield
        finally:
            self._count = 0

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Replace the functions, also for programs that import them by name."""
        changes: list[tuple[Any, str, Callable[..., Any]]] = [
            (random, "sample", self._sample),
            (random, "choices", self._choices),
            (random, "choice", self._choice),
            (random, "randint", lambda real, low, high: self._index(real, low, high + 1, low, high)),
            (random, "randrange", self._randrange),
            (np.random, "choice", self._numpy_choice),
            (np.random, "randint", self._integers),
            (np.random, "permutation", self._permutation),
            (np.random, "default_rng", self._default_rng),
        ]
        if (torch := sys.modules.get("torch")) is not None:
            changes += [(torch, "randint", self._torch_randint), (torch, "randperm", self._torch_randperm)]
        kept = [(module, name, getattr(module, name)) for module, name, _ in changes]
        for module, name, new in changes:
            real = getattr(module, name)
            if not hasattr(real, "__wrapped__"):
                setattr(module, name, _function(new, real))
        try:
            yield
        finally:
            for module, name, real in kept:
                setattr(module, name, real)

    def _matches(self, size: Any) -> bool:
        return bool(self._count) and isinstance(size, int | np.integer) and int(size) in self._sizes

    def _indices(self, requested: Any) -> Any:
        """Return the indices of the batch, or the next index if one is requested."""
        if requested is None:
            self._next += 1
            self.requested.append(self._count)
            return (self._next - 1) % self._count
        wanted = int(np.prod(requested))
        self.requested.append(wanted)
        if wanted == 1 and self._count > 1:
            self._next += 1
            self.requested[-1] = self._count
            return np.array([(self._next - 1) % self._count])
        return np.arange(self._count)

    def _sample(self, real: Callable[..., Any], population: Any, k: int, **more: Any) -> Any:
        if not self._matches(len(population)):
            return real(population, k, **more)
        indices = self._indices(k)
        return [population[int(index)] for index in indices]

    def _choices(self, real: Callable[..., Any], population: Any, *args: Any, k: int = 1, **more: Any) -> Any:
        if not self._matches(len(population)):
            return real(population, *args, k=k, **more)
        return [population[int(index)] for index in self._indices(k)]

    def _choice(self, real: Callable[..., Any], population: Any) -> Any:
        return population[self._indices(None)] if self._matches(len(population)) else real(population)

    def _index(self, real: Callable[..., Any], start: int, stop: int, *args: Any) -> Any:
        return start + self._indices(None) if self._matches(stop - start) else real(*args)

    def _randrange(self, real: Callable[..., Any], *args: int) -> Any:
        start, stop = (0, args[0]) if len(args) == 1 else args[:2]
        return self._index(real, start, stop, *args)

    def _numpy_choice(self, real: Callable[..., Any], a: Any, size: Any = None, *args: Any, **more: Any) -> Any:
        if not self._matches(a if np.ndim(a) == 0 else len(a)):
            return real(a, size, *args, **more)
        indices = self._indices(size)
        return indices if np.ndim(a) == 0 else np.asarray(a)[indices]

    def _integers(
        self, real: Callable[..., Any], low: Any, high: Any = None, size: Any = None, *args: Any, **more: Any
    ) -> Any:
        start, stop = (0, low) if high is None else (low, high)
        if np.ndim(start) or np.ndim(stop) or not self._matches(stop - start):
            return real(low, high, size, *args, **more)
        return start + self._indices(size)

    def _permutation(self, real: Callable[..., Any], x: Any) -> Any:
        if not self._matches(x if np.ndim(x) == 0 else len(x)):
            return real(x)
        return np.arange(self._count) if np.ndim(x) == 0 else np.asarray(x)[: self._count]

    def _default_rng(self, real: Callable[..., Any], seed: Any = None) -> Any:
        return Generator(self, real(SEED if seed is None else seed).bit_generator)

    def _torch_randint(self, real: Callable[..., Any], *args: Any, **more: Any) -> Any:
        low, high, size = args if len(args) == 3 else (0, *args, *(() if len(args) == 2 else (more.get("size"),)))
        if "low" in more or "high" in more or size is None or not self._matches(high - low):
            return real(*args, **more)
        return sys.modules["torch"].as_tensor(low + self._indices(size))

    def _torch_randperm(self, real: Callable[..., Any], n: int, *args: Any, **more: Any) -> Any:
        if not self._matches(n):
            return real(n, *args, **more)
        return sys.modules["torch"].as_tensor(self._indices(n))


def _function(new: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function, which copies of the program's variables share."""

    @functools.wraps(real)
    def drawn(*args: Any, **more: Any) -> Any:
        return new(real, *args, **more)

    return drawn


class Generator(np.random.Generator):
    """A NumPy generator whose draws can be forced. ``__new__`` hides ``draws`` from NumPy."""

    def __new__(cls, draws: Draws, bits: Any) -> Generator:
        """Make a generator."""
        return super().__new__(cls, bits)  # type: ignore[call-arg]

    def __init__(self, draws: Draws, bits: Any) -> None:
        super().__init__(bits)
        self.draws = draws

    def __deepcopy__(self, memo: dict[int, Any]) -> Generator:
        """Copy the state, and share the draws."""
        bits = type(self.bit_generator)()
        bits.state = self.bit_generator.state
        return Generator(self.draws, bits)

    def spawn(self, n_children: int) -> list[Generator]:  # type: ignore[override]
        """Return independent generators, whose draws can be forced too."""
        return [Generator(self.draws, bits) for bits in self.bit_generator.spawn(n_children)]

    def choice(self, a: Any, size: Any = None, *args: Any, **more: Any) -> Any:
        """Return random items."""
        return self.draws._numpy_choice(super().choice, a, size, *args, **more)

    def integers(self, low: Any, high: Any = None, size: Any = None, *args: Any, **more: Any) -> Any:
        """Return random integers."""
        return self.draws._integers(super().integers, low, high, size, *args, **more)

    def permutation(self, x: Any, *args: Any, **more: Any) -> Any:
        """Return a random order."""
        return self.draws._permutation(lambda one: super(Generator, self).permutation(one, *args, **more), x)
