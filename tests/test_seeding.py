"""Randomness is an argument, and one seed is enough to have everything again."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from perilune._utils.blas import one_blas_thread
from perilune._utils.seeding import Generators, episode_seed, generators
from perilune.errors import ConfigError

ROLES = [field.name for field in fields(Generators)]


def draws(seed: int) -> dict[str, list[float]]:
    return {role: getattr(generators(seed), role).random(8).tolist() for role in ROLES}


def test_there_is_a_generator_for_every_role() -> None:
    assert ROLES == ["network", "exploration", "replay", "environment"]
    assert all(isinstance(getattr(generators(0), role), np.random.Generator) for role in ROLES)


def test_one_seed_gives_the_same_draws_again() -> None:
    assert draws(7) == draws(7)


def test_the_kind_of_whole_number_does_not_matter() -> None:
    assert generators(np.int64(7)).replay.random() == generators(7).replay.random()


@pytest.mark.parametrize("role", ROLES)
def test_different_seeds_differ_in_every_role(role: str) -> None:
    for one, other in combinations((0, 1, 2, 2**32, 2**40), 2):
        assert draws(one)[role] != draws(other)[role]


def test_different_roles_of_one_seed_differ() -> None:
    for one, other in combinations(draws(0).values(), 2):
        assert not set(one) & set(other)


def test_drawing_in_one_role_changes_no_other() -> None:
    fanned = generators(3)
    fanned.exploration.random(1000)
    assert fanned.replay.random(8).tolist() == draws(3)["replay"]


@pytest.mark.parametrize("seed", [-1, 1.0, 1.5, float("nan"), "1", None, True, np.True_, [1], np.array([1])])
def test_invalid_seeds_are_refused(seed: object) -> None:
    with pytest.raises(ConfigError, match="seed=") as caught:
        generators(seed)
    assert caught.value.name == "seed"
    assert caught.value.value is seed


def test_numpys_global_generator_is_left_alone() -> None:
    name, keys, *place = np.random.get_state()  # noqa: NPY002 -- the very thing that must not change
    generators(0).network.random(100)
    name_after, keys_after, *place_after = np.random.get_state()  # noqa: NPY002
    assert (name, *place) == (name_after, *place_after)
    np.testing.assert_array_equal(keys, keys_after)


def test_episodes_are_seeded_below_two_to_the_30() -> None:
    generator = np.random.default_rng(0)
    seeds = [episode_seed(generator) for _ in range(10_000)]
    assert all(type(seed) is int and 0 <= seed < 2**30 for seed in seeds)
    # Spread over all of the range: a tenth of it holds about a tenth of them.
    counts = np.histogram(seeds, bins=10, range=(0, 2**30))[0]
    assert counts.min() > 850
    assert counts.max() < 1150


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_one_blas_thread_holds_inside_and_is_taken_back_after() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        assert before  # else there is no BLAS here to hold, and nothing below says anything
        with one_blas_thread():
            assert set(blas_threads()) == {1}
        assert blas_threads() == before


def test_one_blas_thread_is_taken_back_after_an_error() -> None:
    def failing() -> None:
        with one_blas_thread():
            raise KeyError

    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        with pytest.raises(KeyError):
            failing()
        assert blas_threads() == before
