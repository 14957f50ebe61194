"""Fusion of values: sorted, averaged, put where the mean has its ranks."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.aggregation.values import fuse_values


def naive(rows, weights):
    rows, shares = rows[weights > 0].astype(np.float64), weights[weights > 0] / weights.sum()
    spread = np.einsum("k,krn->rn", shares, np.sort(rows, axis=2))
    ranks = np.argsort(np.argsort(np.einsum("k,krn->rn", shares, rows), axis=1, kind="stable"), axis=1)
    return np.take_along_axis(spread, ranks, axis=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_agrees_with_sorting_in_numpy(seed):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(5, 3, 17)).astype(np.float32) * 10.0 ** random.integers(-3, 4)
    weights = random.uniform(0.1, 1, size=5) * (np.arange(5) != seed % 7)
    rows[weights == 0] = np.nan
    found = fuse_values(rows, weights.astype(np.float32))
    np.testing.assert_allclose(found, naive(rows, weights.astype(np.float32)), rtol=2e-6, atol=1e-6 * np.nanmax(rows))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_p1_equal_agents_come_back_bit_for_bit(dtype):
    random = np.random.default_rng(0)
    row = (random.normal(size=(2, 500)) * 10.0 ** random.uniform(-4, 3, (2, 500))).astype(dtype)
    row[:, [3, 8, 100]], row[:, [4, 9, 101]] = -0.0, 0.0
    row[0, 200:260] = row[0, 200]
    for weights in (np.ones(7), random.uniform(0.1, 1, 7), np.arange(7) % 2):
        found = np.asarray(fuse_values(np.broadcast_to(row, (7, 2, 500)), weights.astype(np.float32)))
        np.testing.assert_array_equal(found.view(f"u{dtype().itemsize}"), row.view(f"u{dtype().itemsize}"))


def test_p2_p6_order_and_double_weight():
    random = np.random.default_rng(1)
    rows, weights = random.normal(size=(4, 2, 50)).astype(np.float32), np.float32([1, 2, 3, 4])
    found = fuse_values(rows, weights)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(fuse_values(rows[order], weights[order]), found, atol=1e-6)
    twice = fuse_values(np.concatenate([rows, rows[3:]]), np.float32([1, 2, 3, 2, 2]))
    np.testing.assert_allclose(twice, found, atol=1e-6)


def test_p10_affine_and_the_spread_that_a_mean_loses():
    rows = np.random.default_rng(2).normal(size=(8, 1, 400)).astype(np.float32)
    found = fuse_values(rows, np.ones(8, np.float32))
    np.testing.assert_allclose(fuse_values(2 * rows + 1, np.ones(8, np.float32)), 2 * found + 1, atol=1e-5)
    assert 0.9 < found.std() < 1.1
    assert rows.mean(0).std() < 0.5


def test_p13_nan_that_came_nobody_and_types():
    rows = np.float32([[[1, 2, 3], [4, 5, 6]], [[1, np.nan, 3], [4, 5, 6]]])
    found = np.asarray(fuse_values(rows, np.ones(2, np.float32)))
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], [4, 5, 6])
    np.testing.assert_array_equal(fuse_values(rows, np.zeros(2, np.float32)), 0)
    with jax.enable_x64(True):
        assert fuse_values(rows.astype(np.float64), np.ones(2)).dtype == np.float64
    jitted = jax.jit(jax.vmap(lambda r: fuse_values(r, np.ones(2, np.float32))))(np.stack([rows, rows]))
    np.testing.assert_array_equal(jitted[1], found)
