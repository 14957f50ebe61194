"""HeteroFL's merge, against a naive loop over entries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.networks import MLP, DuelingMLP
from polyfed.aggregation import WeightedMean
from polyfed.aggregation.slices import NestedMean, largest_width, merge_slices, slice_network
from polyfed.types import Nested, Update

WIDTHS = (3, 6, 2, 6, 5)


@functools.cache
def network(kind=MLP, seed=0, hidden=(6, 4)):
    return kind(3, 2, hidden=hidden, activation="tanh", key=jax.random.key(seed))


def stacked(networks):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *networks)


def naive_merge(stack, held, weights, fallback):
    """Entry by entry, in float64."""

    def merge(leaf, holds, own):
        leaf, merged = np.asarray(leaf, np.float64), np.array(own, np.float64)
        for place in np.ndindex(leaf.shape[1:]):
            holders = [k for k in range(len(weights)) if weights[k] > 0 and holds[(k, *place)]]
            if holders:
                total = sum(weights[k] for k in holders)
                merged[place] = sum(weights[k] * leaf[(k, *place)] for k in holders) / total
        return merged

    return jax.tree.map(merge, stack, held, fallback)


def held_naively(leaf, units_in, units_out):
    """Rows below the width out of a hidden layer, columns below the width into one that reads a hidden layer."""
    held = np.zeros(leaf.shape, bool)
    held[tuple(slice(end) for end in (units_out, units_in)[: leaf.ndim])] = True
    return held


@pytest.mark.parametrize("kind", [MLP, DuelingMLP])
@pytest.mark.parametrize("absent", [(), (0,), (1, 3, 4)])  # without 1, 3 and 4 nobody holds the last units
def test_every_entry_is_the_mean_of_its_holders(kind, absent):
    networks = [network(kind, seed) for seed in range(5)]
    stack, weights = stacked(networks), np.array([1.0, 2.0, 0.5, 3.0, 1.5], np.float32)
    weights[list(absent)] = 0
    held = stacked([jax.tree.map(np.asarray, one.held(w)) for one, w in zip(networks, WIDTHS, strict=True)])
    everyone = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), stack)
    mean = naive_merge(stack, everyone, weights, networks[0])
    expected = naive_merge(stack, held, weights, mean)
    update = Update(payload=Nested(stack, np.array(WIDTHS, np.int32)), weight=weights)
    merged, _, metrics = NestedMean().aggregate((), update)
    assert metrics == {}
    assert int(merged.width) == 6
    for given, wanted in zip(jax.tree.leaves(merged.network), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-6, atol=1e-7)
        assert given.dtype == jnp.float32


def test_held_entries_are_those_of_the_smaller_network():
    whole = network()
    for width in (1, 3, 4, 5, 6):
        first, second = min(width, 6), min(width, 4)
        naive = [
            (held_naively(whole.layers[0].weight, 3, first), held_naively(whole.layers[0].bias, 0, first)),
            (held_naively(whole.layers[1].weight, first, second), held_naively(whole.layers[1].bias, 0, second)),
            (held_naively(whole.layers[2].weight, second, 2), held_naively(whole.layers[2].bias, 0, 2)),
        ]
        for layer, (weight, bias) in zip(whole.held(width).layers, naive, strict=True):
            np.testing.assert_array_equal(layer.weight, weight)
            np.testing.assert_array_equal(layer.bias, bias)


@pytest.mark.parametrize("kind", [MLP, DuelingMLP])
def test_a_slice_computes_what_the_masked_network_computes(kind):
    whole, x = network(kind), jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    for width in (1, 3, 6):
        np.testing.assert_allclose(slice_network(whole, width)(x), whole(x, width), rtol=1e-5, atol=1e-6)
    assert jax.tree.map(jnp.shape, slice_network(whole, 99)) == jax.tree.map(jnp.shape, whole)


@pytest.mark.parametrize("kind", [pytest.param(MLP, marks=pytest.mark.slow), DuelingMLP])
def test_slices_of_real_shapes_merge_as_the_stack_does(kind):
    networks = [network(kind, seed) for seed in range(5)]
    weights = jnp.array([1.0, 2.0, 0.5, 0.0, 1.5])
    slices = [slice_network(one, width) for one, width in zip(networks, WIDTHS, strict=True)]
    into = network(kind, seed=9)
    merged = merge_slices(slices, into, weights)
    stack = Update(payload=Nested(stacked(networks), jnp.array(WIDTHS)), weight=weights)
    expected = NestedMean().aggregate((), stack)[0].network
    for given, wanted in zip(jax.tree.leaves(merged), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-6, atol=1e-7)
    narrow = merge_slices(slices[2:3], into)
    held = into.held(2)
    for given, own, common, holds in zip(
        *(jax.tree.leaves(tree) for tree in (narrow, networks[2], into, held)), strict=True
    ):
        np.testing.assert_array_equal(given, np.where(holds, own, common))  # a lone holder's bits
    assert merge_slices([], into) is into


def test_with_full_width_it_is_the_weighted_mean():
    stack, weight = stacked([network(seed=seed) for seed in range(5)]), jnp.array([1.0, 2.0, 3.0, 4.0, 0.0])
    merged = NestedMean().aggregate((), Update(payload=Nested(stack, jnp.full(5, 6)), weight=weight))[0].network
    mean = WeightedMean().aggregate((), Update(payload=stack, weight=weight))[0]
    for given, wanted in zip(jax.tree.leaves(merged), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-6, atol=1e-7)


def test_facts():
    rule = NestedMean()
    assert (rule.linear, rule.personal, rule.exchanges, rule.nested) == (False, False, True, True)
    assert largest_width(network(DuelingMLP)) == 6


def test_bad_input_is_refused_in_a_sentence():
    whole = network()
    with pytest.raises(ValueError, match="without a width"):
        NestedMean().aggregate((), Update(payload=stacked([whole]), weight=jnp.ones(1)))
    with pytest.raises(ValueError, match="slice of 0 units"):
        slice_network(whole, 0)
    with pytest.raises(ValueError, match="2 slices cannot take weights"):
        merge_slices([whole, whole], whole, [1.0])
    for other in (network(hidden=(7, 4)), network(hidden=(6,)), network(DuelingMLP)):
        with pytest.raises(ValueError, match="Slice 1 is no slice"):
            merge_slices([whole, other], whole)
    other = MLP(4, 2, hidden=(6, 4), activation="tanh", key=jax.random.key(0))
    with pytest.raises(ValueError, match="Slice 0 is no slice"):
        merge_slices([other], whole)
