"""The geometric mean of histograms, and rows fused by it."""

import jax
import numpy as np

from polyfed.aggregation.geometric import geometric_mean
from polyfed.aggregation.rows import fuse_rows_geometric


def test_it_is_the_weighted_geometric_mean_and_minimises_the_divergence():
    random = np.random.default_rng(0)
    histograms, weights = random.dirichlet(np.ones(9), size=4), np.array([1.0, 2.0, 0.0, 3.0])
    with jax.enable_x64(True):
        found = np.asarray(geometric_mean(5 * histograms, weights))
    expected = np.exp(weights @ np.log(histograms) / weights.sum())
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-14)

    def divergence(b):
        return weights @ (b * np.log(b / histograms)).sum(1)

    for other in random.dirichlet(np.ones(9), size=20):
        assert divergence(found) < divergence(other)


def test_p3_empty_bins_and_disjoint_histograms_are_finite():
    one = np.float32([1, 1])
    np.testing.assert_array_equal(geometric_mean(np.float32([[0, 1, 1], [1, 1, 0]]), one), [0, 1, 0])
    np.testing.assert_array_equal(geometric_mean(np.float32([[0, 2], [1, 0]]), one), [0.5, 0.5])
    np.testing.assert_array_equal(geometric_mean(np.float32([[np.nan, 2], [1, 0]]), 0 * one), [0, 0])
    np.testing.assert_array_equal(geometric_mean(np.float32([[np.nan, 2], [1, 0]]), np.float32([0, 2])), [1, 0])


def test_rows_p1_p2_p10():
    random = np.random.default_rng(1)
    rows = (random.normal(size=(3, 200)) + 0.1 * random.normal(size=(5, 3, 200))).astype(np.float32)
    weights = np.float32([1, 2, 0, 1, 3])
    rows[2] = np.nan
    for scale in ("mass", "paper"):
        found = fuse_rows_geometric(rows, weights, scale=scale).rows
        assert np.all(np.isfinite(found))
        np.testing.assert_allclose(fuse_rows_geometric(rows[::-1], weights[::-1], scale=scale).rows, found, atol=1e-6)
        np.testing.assert_allclose(
            fuse_rows_geometric(2 * rows + 1, weights, scale=scale).rows, 2 * found + 1, atol=1e-5
        )
        same = np.broadcast_to(rows[:1], rows.shape)
        np.testing.assert_array_equal(fuse_rows_geometric(same, weights, scale=scale).rows, rows[0])
    assert np.isnan(fuse_rows_geometric(rows, np.ones(5, np.float32)).rows).all()
