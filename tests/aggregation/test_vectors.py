import jax.numpy as jnp
import numpy as np

from polyfed.aggregation.vectors import distances, median_among, pairwise_distances, vectors, votes
from polyfed.types import Update


def test_a_vote_each_for_those_who_came_with_finite_numbers():
    payload = {"a": np.float32([[1], [np.nan], [2], [np.inf]]), "n": np.int32([1, 2, 3, 4])}
    came, metrics = votes(Update(payload, np.float32([0.1, 1, 1e6, 0])))
    assert came.tolist() == [1, 0, 1, 0]
    assert float(metrics["nonfinite"]) == 1


def test_where_nobody_is_finite_nothing_is_hidden():
    came, metrics = votes(Update(np.float32([[np.nan], [np.inf]]), np.float32([1, 0])))
    assert came.tolist() == [1, 0]
    assert float(metrics["nonfinite"]) == 1


def test_half_precision_is_compared_in_float32():
    payload = {"half": np.float16([[60000], [-60000]]), "whole": np.int32([7, 8]), "full": np.float32([1, 2])}
    rows = vectors(payload, np.float32([1, 1]))
    assert rows.dtype == jnp.float32
    assert sorted(rows[0].tolist()) == [1, 60000]
    assert np.isfinite(pairwise_distances(rows)).all()


def test_distances_are_symmetric_to_the_last_bit():
    rows = np.random.default_rng(0).normal(size=(7, 301)).astype(np.float32)
    apart = np.asarray(pairwise_distances(jnp.asarray(rows)))
    np.testing.assert_array_equal(apart, apart.T)
    expected = np.linalg.norm(rows[:, None].astype(float) - rows[None], axis=2)
    np.testing.assert_allclose(apart, expected, rtol=1e-6)
    np.testing.assert_allclose(distances(jnp.asarray(rows), jnp.asarray(rows[3])), expected[3], rtol=1e-6)


def test_the_median_of_some():
    values = np.random.default_rng(1).normal(size=9).astype(np.float32)
    for count in range(1, 10):
        came = np.arange(9) < count
        np.testing.assert_allclose(median_among(values, came), np.median(values[:count]), rtol=1e-6)
    assert float(median_among(jnp.full(3, jnp.nan), jnp.zeros(3, bool))) == 0
    assert float(median_among(jnp.full(4, jnp.inf), jnp.ones(4, bool))) == np.inf
