"""Random generators derived from one seed, and one BLAS thread for reproducible results."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations, product

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from perilune._utils.blas import one_blas_thread
from perilune._utils.seeding import Generators, episode_seed, generators
from perilune.errors import ConfigError

ROLES = [field.name for field in fields(Generators)]


def draws(seed: int) -> dict[str, list[float]]:
    return {role: generator.random(8).tolist() for role, generator in vars(generators(seed)).items()}


def test_seed_fixes_the_draws_of_every_generator() -> None:
    assert ROLES == ["network", "exploration", "replay", "environment"]
    assert draws(7) == draws(7) == draws(np.int64(7))
    fresh = generators(3)
    fresh.exploration.random(1000)
    assert fresh.replay.random(8).tolist() == draws(3)["replay"]


def test_draws_differ_between_seeds_and_generators() -> None:
    streams = [set(draws(seed)[role]) for seed, role in product((0, 1, 2, 2**32, 2**40), ROLES)]
    assert not any(one & other for one, other in combinations(streams, 2))


@pytest.mark.parametrize("seed", [-1, 1.0, 1.5, float("nan"), "1", None, True, np.True_, [1], np.array([1])])
def test_invalid_seeds_are_refused(seed: object) -> None:
    with pytest.raises(ConfigError, match="seed=") as caught:
        generators(seed)
    assert (caught.value.name, caught.value.value) == ("seed", seed)


def test_global_numpy_generator_is_unchanged() -> None:
    before = np.random.get_state()  # noqa: NPY002 -- must not change
    generators(0).network.random(100)
    np.testing.assert_equal(np.random.get_state(), before)  # noqa: NPY002


def test_episode_seeds_are_uniform_below_two_to_the_30() -> None:
    generator = np.random.default_rng(0)
    seeds = [episode_seed(generator) for _ in range(10_000)]
    assert all(type(seed) is int and 0 <= seed < 2**30 for seed in seeds)
    counts = np.histogram(seeds, bins=10, range=(0, 2**30))[0]
    assert 850 < counts.min() <= counts.max() < 1150


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("error", [None, KeyError])
def test_blas_threads_are_limited_only_inside_the_block(error: type[Exception] | None) -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        assert before  # a BLAS is loaded
        try:
            with one_blas_thread():
                assert set(blas_threads()) == {1}
                if error is not None:
                    raise error
        except KeyError:
            pass
        assert blas_threads() == before
