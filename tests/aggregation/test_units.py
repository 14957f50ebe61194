"""Matching hidden units: permutations are found, widths that grow keep the function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from polyfed.agents.networks import CNN, MLP, DuelingMLP, hidden_and_heads
from polyfed.aggregation.slices import slice_network
from polyfed.aggregation.units import match_units, move_units

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@functools.cache
def network(kind=MLP, seed=0, hidden=(8, 6), activation="relu"):
    return kind(4, 3, hidden=hidden, activation=activation, key=jax.random.key(seed))


def permutations(one, seed=0):
    random = np.random.default_rng(seed)
    return [random.permutation(len(layer.bias)) for layer in hidden_and_heads(one)[0]]


def permuted(one, orders):
    """New unit r of a layer is old unit `order[r]`, by hand."""
    hidden, heads = hidden_and_heads(one)
    before = np.arange(4)
    leaves = []
    for layer, order in zip(hidden, orders, strict=True):
        leaves += [layer.weight[order][:, before], layer.bias[order]]
        before = order
    for head in heads:
        leaves += [head.weight[:, before], head.bias]
    return jax.tree.unflatten(jax.tree.structure(one), leaves)


@pytest.mark.parametrize(
    ("kind", "features"),
    [
        pytest.param(MLP, "weights", marks=pytest.mark.slow),
        (DuelingMLP, "activations"),
        pytest.param(MLP, "activations", marks=pytest.mark.slow),
        pytest.param(DuelingMLP, "weights", marks=pytest.mark.slow),
    ],
)
def test_a_permutation_is_found_and_undone(kind, features):
    one = network(kind)
    orders = permutations(one)
    other = permuted(one, orders)
    np.testing.assert_allclose(other(X), one(X), atol=1e-5)
    plans = match_units(other, one, features=features, inputs=X)
    for plan, order in zip(plans, orders, strict=True):
        np.testing.assert_array_equal(plan, len(order) * np.eye(len(order))[order])
    for leaf, wanted in zip(jax.tree.leaves(move_units(other, plans)), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(leaf, wanted, atol=1e-7)


def test_the_first_layer_is_scipys_assignment_of_incoming_weights():
    one, other = network(seed=1), network(seed=2)
    rows = [np.concatenate([n.layers[0].weight, n.layers[0].bias[:, None]], axis=1) for n in (one, other)]
    cost = ((rows[0][:, None] - rows[1][None]) ** 2).sum(-1)
    _, columns = linear_sum_assignment(cost)
    np.testing.assert_array_equal(np.argmax(match_units(one, other)[0], axis=1), columns)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "hidden"),
    [
        (MLP, (16, 12)),
        (DuelingMLP, (8, 18)),
        pytest.param(MLP, (24, 6), marks=pytest.mark.slow),
        pytest.param(MLP, (8, 18), marks=pytest.mark.slow),
        pytest.param(DuelingMLP, (16, 12), marks=pytest.mark.slow),
        pytest.param(DuelingMLP, (24, 6), marks=pytest.mark.slow),
    ],
)
def test_a_width_that_grows_by_a_whole_factor_keeps_the_function(kind, hidden):
    small, large = network(kind), network(kind, 5, hidden)
    moved = move_units(small, match_units(small, large))
    assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, large)
    np.testing.assert_allclose(moved(X), small(X), atol=1e-5)


@pytest.mark.slow
def test_masses_are_shared_out_between_other_widths():
    plans = match_units(network(hidden=(4, 6)), network(seed=3, hidden=(6, 4)))
    for plan, (n, m) in zip(plans, ((4, 6), (6, 4)), strict=True):
        np.testing.assert_array_equal(plan.sum(1), np.full(n, m))
        np.testing.assert_array_equal(plan.sum(0), np.full(m, n))


@pytest.mark.slow
def test_a_width_within_the_arrays_is_that_of_a_smaller_network():
    one, other = network(), network(seed=1)
    plans = match_units(one, other, width=jnp.int32(4), reference_width=jnp.int32(6))
    small = match_units(slice_network(one, 4), slice_network(other, 6))
    for plan, wanted in zip(plans, small, strict=True):
        expected = np.zeros(plan.shape)
        expected[: wanted.shape[0], : wanted.shape[1]] = wanted
        np.testing.assert_array_equal(plan, expected)


def test_one_hidden_layer_and_none():
    one, other = (network(seed=seed, hidden=(5,)) for seed in (0, 1))
    assert move_units(one, match_units(one, other)).layers[0].weight.shape == (5, 4)
    one, other = (network(seed=seed, hidden=()) for seed in (0, 1))
    assert match_units(one, other) == ()
    np.testing.assert_array_equal(move_units(one, ()).layers[0].weight, one.layers[0].weight)


def test_what_cannot_be_matched_is_refused_in_a_sentence():
    one = network()
    with pytest.raises(ValueError, match="2 and 1 hidden layers"):
        match_units(one, network(hidden=(8,)))
    with pytest.raises(ValueError, match="cannot be matched: give networks of one kind"):
        match_units(one, network(activation="tanh"))
    with pytest.raises(ValueError, match="cannot be matched: give networks of one kind"):
        match_units(one, MLP(5, 3, hidden=(8, 6), activation="relu", key=jax.random.key(0)))
    with pytest.raises(ValueError, match="needs public inputs"):
        match_units(one, one, features="activations")
    with pytest.raises(ValueError, match="did you mean 'weights'"):
        match_units(one, one, features="weight")
    cnn = CNN((4, 4), 2, channels=(2,), hidden=(3,), activation="relu", key=jax.random.key(0))
    with pytest.raises(ValueError, match="Units of CNN cannot be matched"):
        match_units(cnn, cnn)
