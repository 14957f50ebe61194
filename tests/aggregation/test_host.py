"""The NumPy form of the exact barycenter: the same numbers as the compiled one, in less memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.aggregation.host import fuse_layer_on_host
from polyfed.aggregation.rows import fuse_rows


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from(["mass", "paper"]), st.booleans())
def test_agrees_with_the_compiled_form(seed, scale, equal):
    random = np.random.default_rng(seed)
    layer = (random.normal(size=40) + 10.0 ** random.uniform(-3, 1) * random.normal(size=(6, 40))).astype(np.float32)
    weights = (np.ones(6) if equal else 10.0 ** random.uniform(-3, 0, 6)) * (random.uniform(size=6) < 0.8)
    layer[random.uniform(size=6) < 0.1] = 2.0  # constants have no shape
    layer[weights == 0] = np.nan
    weights = weights.astype(np.float32)
    expected = fuse_rows(layer[:, None], weights, scale=scale)[0][0]
    found = fuse_layer_on_host(layer, weights, scale=scale)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.nanmax(np.abs(layer), initial=1e-9))


@pytest.mark.parametrize("scale", ["mass", "paper"])
def test_p1_p2_consensus_and_order_to_the_bit(scale):
    random = np.random.default_rng(0)
    layer = (random.normal(size=20_000) + 0.1 * random.normal(size=(7, 20_000))).astype(np.float32)
    for weights in (np.ones(7), random.uniform(0.1, 1, 7)):
        same = np.broadcast_to(layer[:1], layer.shape)
        np.testing.assert_array_equal(fuse_layer_on_host(same, weights, scale=scale), layer[0])
    order = random.permutation(7)
    found = fuse_layer_on_host(layer, np.ones(7), scale=scale)
    np.testing.assert_allclose(fuse_layer_on_host(layer[order], np.ones(7), scale=scale), found, atol=1e-6)


def test_p13_nobody_nan_and_one_weight():
    layer = np.float32([[1, np.nan, 3], [1, 2, 3]])
    np.testing.assert_array_equal(fuse_layer_on_host(layer, [0, 0]), 0)
    np.testing.assert_array_equal(fuse_layer_on_host(layer, [0, 2]), layer[1])
    assert np.isnan(fuse_layer_on_host(layer, [1, 1])).all()
    np.testing.assert_array_equal(fuse_layer_on_host(np.float32([[1], [3]]), [1, 3]), [2.5])


@pytest.mark.parametrize("scale", ["mass", "paper"])
def test_p17_under_five_float64_copies_of_memory(scale):
    layer = np.random.default_rng(0).normal(size=(10, 200_000)).astype(np.float32)
    tracemalloc.start()
    fuse_layer_on_host(layer, np.ones(10), scale=scale)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * layer.size * 8
