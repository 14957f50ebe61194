import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.aggregation import WeightedMean, weighted_mean
from polyfed.aggregation.mean import normalized


def bits(x):
    x = np.asarray(x)
    return x.view({4: np.uint32, 8: np.uint64}[x.dtype.itemsize])


def test_agrees_with_a_naive_loop():
    random = np.random.default_rng(0)
    for num_clients in (1, 3, 40):
        stacked = random.normal(size=(num_clients, 4, 3)).astype(np.float32)
        weights = random.uniform(size=num_clients).astype(np.float32)
        expected = sum(w * x.astype(float) for w, x in zip(weights, stacked, strict=True)) / weights.sum(dtype=float)
        np.testing.assert_allclose(weighted_mean(stacked, weights), expected, atol=1e-6)


@given(
    value=st.floats(width=32, allow_nan=False, allow_subnormal=False),
    weights=st.lists(st.floats(0, 2.0**100, width=32, allow_subnormal=False), min_size=5, max_size=5).filter(any),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_a_consensus_is_kept_bit_for_bit_infinities_and_signed_zeros_included(value, weights):
    stacked = np.full((5, 1), value, np.float32)
    np.testing.assert_array_equal(bits(weighted_mean(stacked, np.float32(weights))), bits(stacked[0]))


def test_an_absent_client_leaves_no_trace():
    weights = np.float32([1, 0, 3])
    for content in (np.nan, np.inf, 1e38, 0.0):
        stacked = np.float32([[1.0], [content], [5.0]])
        np.testing.assert_array_equal(weighted_mean(stacked, weights), [4.0])


def test_a_present_nan_is_not_hidden():
    assert np.isnan(weighted_mean(np.float32([1.0, np.nan]), np.float32([1, 1])))
    assert np.isnan(weighted_mean(np.float32([1.0, np.nan]), np.float32([1, 2])))


def test_nobody_gives_zeros():
    payload = {"a": np.full((3, 2), np.nan, np.float32), "n": np.full(3, 7), "m": np.ones(3, bool)}
    merged = weighted_mean(payload, np.zeros(3, np.float32))
    assert jax.tree.map(lambda leaf: leaf.tolist(), merged) == {"a": [0.0, 0.0], "n": 0, "m": False}


@pytest.mark.parametrize("scale", [1e-37, 1e-3, 1.0, 1e37])
def test_the_scale_of_weights_does_not_matter(scale):
    weights = np.float32(scale) * np.float32([1, 2, 5, 0])
    np.testing.assert_allclose(normalized(weights), [0.125, 0.25, 0.625, 0], rtol=1e-6)


def test_a_light_client_far_away_costs_no_precision():
    merged = weighted_mean(np.float32([1e8, 1.25, 1.25]), np.float32([1e-12, 1, 1]))
    np.testing.assert_allclose(merged, 1.25 + 0.5e-4, rtol=1e-6)


def test_integers_are_rounded_booleans_voted_and_types_kept():
    payload = {
        "int32": np.int32([2_000_000_001, 2_000_000_001, 2_000_000_004]),
        "uint8": np.uint8([255, 250, 1]),
        "bool": np.array([True, True, False]),
        "half": np.float16([1, 2, 4]),
    }
    merged = weighted_mean(payload, np.float32([1, 1, 2]))
    assert {name: leaf.dtype.name for name, leaf in merged.items()} == {
        "int32": "int32", "uint8": "uint8", "bool": "bool", "half": "float16"
    }  # fmt: skip
    assert int(merged["int32"]) == 2_000_000_002  # mean 2_000_000_002.5, rounded to even from client 3
    assert int(merged["uint8"]) == 127  # 126.75
    assert not bool(merged["bool"])  # a tie
    assert float(merged["half"]) == 2.75


def test_half_precision_is_summed_in_single():
    stacked = np.where(np.arange(4096) % 2, 1.0, 1.001).astype(np.float16)[:, None]
    np.testing.assert_allclose(weighted_mean(stacked, np.ones(4096, np.float32)), [1.0005], atol=5e-4)


def test_is_the_rule_of_federated_averaging():
    assert WeightedMean().linear
    assert not WeightedMean().personal


def test_can_be_differentiated():
    gradient = jax.grad(lambda x: jnp.sum(weighted_mean(x, jnp.array([1.0, 3.0, 0.0])) ** 2))(
        jnp.array([1.0, 2.0, 3.0])
    )
    np.testing.assert_allclose(gradient, np.array([0.25, 0.75, 0]) * 2 * 1.75, rtol=1e-6)


def test_many_clients_under_shard_map():
    mesh = jax.make_mesh((jax.device_count(),), ("seeds",))
    seeds = jax.sharding.PartitionSpec("seeds")
    stacked = np.random.default_rng(0).normal(size=(2 * jax.device_count(), 40, 3)).astype(np.float32)
    weights = np.ones(40, np.float32)
    sharded = jax.shard_map(jax.vmap(lambda x: weighted_mean(x, weights)), mesh=mesh, in_specs=seeds, out_specs=seeds)(
        jax.device_put(stacked, jax.sharding.NamedSharding(mesh, seeds))
    )
    np.testing.assert_allclose(sharded, stacked.mean(1), atol=1e-6)
