"""OT fusion: what it is blind to, what it keeps, where it equals the mean, and its contract."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.networks import MLP
from polyfed.aggregation import WeightedMean
from polyfed.aggregation.alignment import AlignedMean, align, fuse, fuse_stacked, project
from polyfed.aggregation.slices import slice_network
from polyfed.aggregation.units import move_units
from polyfed.record import from_data, to_data
from polyfed.testing import check_rule, made_up_nested, made_up_networks
from polyfed.types import Nested, Update

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@functools.cache
def network(seed=0, hidden=(8, 6)):
    return MLP(4, 3, hidden=hidden, activation="relu", key=jax.random.key(seed))


def permuted(one, seed):
    """The same function, its hidden units in another order."""
    random = np.random.default_rng(seed)
    sizes = [len(layer.bias) for layer in one.layers[:-1]]
    return move_units(one, tuple(jnp.eye(size)[random.permutation(size)] for size in sizes))


def stacked(networks):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *networks)


def same(given, wanted, atol=1e-6):
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


def near(one, seed, noise=0.01):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + noise * random.normal(size=x.shape).astype(np.float32), one)


@pytest.mark.parametrize(
    ("num_passes", "features"),
    [
        (1, "weights"),
        (3, "activations"),
        pytest.param(1, "activations", marks=pytest.mark.slow),
        pytest.param(3, "weights", marks=pytest.mark.slow),
    ],
)
def test_permuting_the_units_of_an_agent_changes_nothing(features, num_passes):
    """Property 15 of the sheet."""
    networks = [network(seed=seed) for seed in range(3)]
    settings = {"reference": 0, "features": features, "inputs": X, "num_passes": num_passes}
    turned = [
        networks[0],
        permuted(networks[1], 1),
        permuted(networks[2], 2),
    ]
    same(fuse(turned, [1.0, 2.0, 3.0], **settings), fuse(networks, [1.0, 2.0, 3.0], **settings))


@pytest.mark.slow
def test_permuting_the_reference_permutes_the_result():
    networks = [network(seed=seed) for seed in range(3)]
    largest = int(np.argmax([sum(np.sum(np.square(x)) for x in jax.tree.leaves(one)) for one in networks]))
    turned = list(networks)
    turned[largest] = permuted(networks[largest], 0)
    np.testing.assert_allclose(fuse(turned)(X), fuse(networks)(X), atol=1e-6)


FURTHER = [pytest.param(*w, marks=pytest.mark.slow) for w in (((32, 32), (96, 96)), ((16,), (64,)))]


@pytest.mark.slow
@pytest.mark.parametrize(("small", "large"), [((32, 32), (64, 64)), *FURTHER])
def test_widening_by_a_whole_factor_keeps_outputs(small, large):
    one, other = network(hidden=small), network(seed=1, hidden=large)
    for settings in ({}, {"features": "activations", "inputs": X}):
        np.testing.assert_allclose(align(one, other, **settings)(X), one(X), atol=1e-5)


@pytest.mark.slow
def test_other_widths_stay_finite_and_of_one_scale():
    one, other = network(hidden=(48, 48)), network(seed=1, hidden=(80, 80))
    for moved in (align(one, other), project(other, one)):
        values, wanted = np.asarray(moved(X)), np.asarray((one if moved.layers[0].bias.size == 80 else other)(X))
        assert np.all(np.isfinite(values))
        assert 0.2 < np.std(values) / np.std(wanted) < 2  # the published scaling: 2.8 and 0.36 of what is here


@pytest.mark.slow
def test_three_widths_fuse_to_the_widest_and_come_back():
    networks = [network(seed=width, hidden=(width, width)) for width in (32, 64, 96)]
    fused = fuse(networks)
    assert fused.layers[1].weight.shape == (96, 96)
    for one in networks:
        back = project(fused, one)
        assert jax.tree.map(jnp.shape, back) == jax.tree.map(jnp.shape, one)
        assert np.all(np.isfinite(back(X)))
    same(fuse(networks[::-1]), fused)
    same(fuse([*networks, near(networks[2], 0, 9.0)], [1.0, 1.0, 1.0, 0.0]), fused)


def test_agents_that_started_alike_are_averaged():
    networks = [near(network(), seed) for seed in range(4)]
    weights = jnp.array([1.0, 2.0, 0.0, 3.0])
    mean = WeightedMean().aggregate((), Update(stacked(networks), weights))[0]
    same(fuse(networks, weights), mean, 1e-7)
    merged, _, metrics = AlignedMean().aggregate((), Update(stacked(networks), weights))
    same(merged, mean, 1e-7)
    assert {name: float(value) for name, value in metrics.items()} == {
        "moved_units/layers.0": 0.0,
        "moved_units/layers.1": 0.0,
    }


def test_independent_copies_of_one_network_fuse_to_it_where_the_mean_does_not():
    one = network()
    copies = [near(permuted(one, seed), seed, 1e-3) for seed in range(4)]
    update = Update(stacked(copies), jnp.ones(4))
    merged, _, metrics = AlignedMean().aggregate((), update)
    assert np.max(np.abs(merged(X) - one(X))) < 0.01
    assert np.max(np.abs(WeightedMean().aggregate((), update)[0](X) - one(X))) > 0.1
    assert float(metrics["moved_units/layers.0"]) > 0.5


@pytest.mark.parametrize("num_passes", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_the_stack_is_the_list(num_passes):
    networks = [network(seed=seed) for seed in range(4)]
    weights = jnp.array([1.0, 0.0, 2.0, 1.5])
    update = Update(stacked(networks), weights)
    merged = AlignedMean(num_passes=num_passes).aggregate((), update)[0]
    same(merged, fuse(networks, weights, num_passes=num_passes))


@pytest.mark.slow
def test_widths_within_a_stack_are_networks_of_those_widths():
    widths = jnp.array([8, 4, 8, 2])
    networks = [network(seed=seed, hidden=(8, 8)) for seed in range(4)]
    weights = jnp.array([1.0, 3.0, 2.0, 0.5])
    slices = [slice_network(one, int(width)) for one, width in zip(networks, widths, strict=True)]
    expected = fuse(slices, weights)
    dirty = [
        jax.tree.map(lambda x, h: jnp.where(h, x, jnp.nan), one, one.held(w))
        for one, w in zip(networks, widths, strict=True)
    ]
    shared, _ = fuse_stacked(stacked(dirty), widths, weights, None, num_passes=1, own=False)
    same(shared, expected)
    own, _ = fuse_stacked(stacked(networks), widths, weights, None, num_passes=1, own=True)
    for index, (one, width) in enumerate(zip(networks, widths, strict=True)):
        back = jax.tree.map(lambda leaf, i=index: leaf[i], own)
        held = one.held(width)
        for leaf, mine, holds in zip(jax.tree.leaves(back), jax.tree.leaves(one), jax.tree.leaves(held), strict=True):
            np.testing.assert_array_equal(np.where(holds, 0, leaf), np.where(holds, 0, mine))  # not its units: as sent
        assert np.all(np.isfinite(back(X, width)))


@pytest.mark.slow
def test_everybody_gets_the_mean_in_its_own_units():
    one = network()
    copies = [permuted(one, seed) for seed in range(3)]
    rule = AlignedMean(own=True)
    merged = rule.aggregate((), Update(stacked(copies), jnp.array([1.0, 2.0, 0.0])))[0]
    for index in range(2):
        same(jax.tree.map(lambda leaf, i=index: leaf[i], merged), copies[index])
    assert all(not np.any(leaf[2]) for leaf in jax.tree.leaves(merged))
    message = Nested(stacked(copies), jnp.array([5, 8, 3], jnp.int32))
    merged = rule.aggregate((), Update(message, jnp.array([1.0, 2.0, 0.0])))[0]
    assert merged.width.tolist() == [5, 8, 0]


def test_a_nan_of_a_client_that_came_is_seen():
    networks = [network(), jax.tree.map(lambda x: x * jnp.nan, network(seed=1))]
    assert np.all(np.isnan(AlignedMean().aggregate((), Update(stacked(networks), jnp.ones(2)))[0](X)))


@pytest.mark.parametrize(
    ("rule", "made_up"),
    [
        pytest.param(AlignedMean(own=True), made_up_nested, id="own", marks=pytest.mark.slow),
        pytest.param(
            AlignedMean(features="activations", num_passes=2),
            made_up_networks,
            id="activations",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_keeps_the_contract(rule, made_up):
    check_rule(rule, made_up=made_up, num_clients=5)


@pytest.mark.slow
def test_it_runs_over_a_mesh_and_inside_a_loop_over_seeds():
    stack = jax.tree.map(jnp.asarray, stacked([network(seed, (8,)) for seed in range(3)]))
    seeds = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), stack)

    def rounds(payload):
        def one(carry, _):
            merged = AlignedMean(own=True).aggregate((), Update(carry, jnp.ones(3)))[0]
            return merged, ()

        return jax.lax.scan(one, payload, length=2)[0]

    expected = jax.jit(jax.vmap(rounds))(seeds)
    mesh = jax.make_mesh((1,), ("seeds",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("seeds")
    spread = jax.jit(jax.shard_map(jax.vmap(rounds), mesh=mesh, in_specs=spec, out_specs=spec))(seeds)
    same(spread, expected)
    same(jax.tree.map(lambda leaf: leaf[1, ::-1], expected), jax.tree.map(lambda leaf: leaf[0], expected))


def test_facts_and_record():
    for own in (False, True):
        rule = AlignedMean(own=own)
        assert (rule.linear, rule.personal, rule.exchanges, rule.nested) == (False, own, True, own)
    rule = AlignedMean(features="activations", own=True)
    rule = dataclasses.replace(rule, inputs=dataclasses.replace(rule.inputs, low=(-2.0, -1.0), high=(2.0, 1.0)))
    assert from_data(to_data(rule)) == rule
    rule.check()


def test_bad_input_is_refused_in_a_sentence():
    one = network()
    update = Update(payload=Nested(stacked([one]), jnp.ones(1, int)), weight=jnp.ones(1))
    with pytest.raises(ValueError, match=r"AlignedMean\(own=True\)"):
        AlignedMean().aggregate((), update)
    with pytest.raises(ValueError, match="Units of dict"):
        AlignedMean().aggregate((), Update({"w": jnp.ones((1, 2))}, jnp.ones(1)))
    with pytest.raises(ValueError, match=r"rule\.features"):
        AlignedMean(features="weight").check()
    with pytest.raises(ValueError, match=r"rule\.num_passes"):
        AlignedMean(num_passes=0).check()
    for networks, weights in (([], None), ([one], [1.0, 2.0]), ([one, one], [0.0, 0.0])):
        with pytest.raises(ValueError, match=r"networks cannot be fused with weights|All 2 weights are 0"):
            fuse(networks, weights)
    with pytest.raises(ValueError, match="hidden layers"):
        fuse([one, MLP(4, 3, hidden=(8,), activation="relu", key=jax.random.key(0))])
