"""Exact transport between units, against SciPy's assignment and POT's linear program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from polyfed.aggregation.transport import squared_distances, transport_plan, uniform_masses


def price(plan, cost):
    return float(np.sum(np.asarray(plan, np.float64) * np.asarray(cost, np.float64)))


def is_a_plan(plan, source, target):
    plan = np.asarray(plan)
    assert plan.dtype == np.int32
    assert np.all(plan >= 0)
    np.testing.assert_array_equal(plan.sum(1), source)
    np.testing.assert_array_equal(plan.sum(0), target)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
@pytest.mark.parametrize("seed", range(3))
def test_an_assignment_is_scipys(size, seed):
    cost = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    plan = transport_plan(cost, np.ones(size, int), np.ones(size, int))
    is_a_plan(plan, np.ones(size), np.ones(size))
    rows, columns = linear_sum_assignment(cost)
    np.testing.assert_array_equal(np.argmax(plan, axis=1), columns[np.argsort(rows)])


def test_every_small_assignment_is_the_best_of_all_permutations():
    random = np.random.default_rng(0)
    for _ in range(30):
        cost = random.integers(0, 4, size=(4, 4)).astype(float)  # many ties
        best = min(sum(cost[i, p[i]] for i in range(4)) for p in itertools.permutations(range(4)))
        assert price(transport_plan(cost, np.ones(4, int), np.ones(4, int)), cost) == best


@pytest.mark.parametrize(("n", "m"), [(3, 5), (5, 3), (8, 24), (33, 47), (48, 80), (1, 6)])
def test_different_widths_cost_what_pot_finds(n, m):
    ot = pytest.importorskip("ot")
    cost = np.random.default_rng(n).random((n, m))
    source, target = uniform_masses(n, m)
    plan = transport_plan(cost, source, target)
    is_a_plan(plan, source, target)
    oracle = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), cost)
    assert price(plan, cost) / (n * m) == pytest.approx(price(oracle, cost), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_any_masses_cost_what_pot_finds(seed):
    ot = pytest.importorskip("ot")
    random = np.random.default_rng(seed)
    source, target = random.multinomial(60, np.ones(7) / 7), random.multinomial(60, np.ones(9) / 9)
    source[2] = 60 - source.sum() + source[2]
    cost = random.random((7, 9))
    plan = transport_plan(cost, source, target)
    is_a_plan(plan, source, target)
    oracle = ot.emd(source / 60, target / 60, cost)
    assert price(plan, cost) / 60 == pytest.approx(price(oracle, cost), rel=1e-6)


@pytest.mark.parametrize("widths", [(4, 6), (6, 4), (5, 5), (1, 8), (8, 1), (0, 5)])
def test_units_beyond_a_traced_width_do_not_exist(widths):
    cost = np.random.default_rng(1).random((8, 8))
    cost[widths[0] :] = np.nan
    cost[:, widths[1] :] = -1e9

    @jax.jit
    def padded(cost, a, b):
        return transport_plan(cost, *uniform_masses(8, 8, source_width=a, target_width=b))

    plan = np.asarray(padded(cost, *widths))
    assert plan[widths[0] :].sum() == plan[:, widths[1] :].sum() == 0
    if min(widths):
        small = cost[: widths[0], : widths[1]]
        assert price(plan[: widths[0], : widths[1]], small) == pytest.approx(
            price(transport_plan(small, *uniform_masses(*widths)), small), rel=1e-6
        )


def test_what_costs_no_more_in_its_place_stays():
    cost = np.ones((6, 6))  # all plans cost the same
    np.testing.assert_array_equal(transport_plan(cost, np.full(6, 6), np.full(6, 6)), 6 * np.eye(6))
    units = np.random.default_rng(0).normal(size=(20, 9))
    units[5] = units[6] = units[12]  # as units that never fire
    cost = squared_distances(jnp.asarray(units), jnp.asarray(units))
    np.testing.assert_array_equal(transport_plan(cost, np.ones(20, int), np.ones(20, int)), np.eye(20))
    cost = np.array([[1.0, 0.0], [2.0, 1.0]])  # the diagonal is not the smallest of its row, but among the best
    np.testing.assert_array_equal(transport_plan(cost, [1, 1], [1, 1]), np.eye(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_it_ends_whatever_the_costs(bad):
    cost = np.random.default_rng(0).random((5, 5))
    cost[1] = bad
    cost[3, 2] = bad
    is_a_plan(transport_plan(cost, np.ones(5, int), np.ones(5, int)), np.ones(5), np.ones(5))
    is_a_plan(transport_plan(np.full((3, 3), bad), np.ones(3, int), np.ones(3, int)), np.ones(3), np.ones(3))
    assert np.asarray(transport_plan(np.ones((2, 2)), [3, 1], [2, 1])).sum() == 3  # totals that differ


def test_costs_of_any_scale():
    cost = np.random.default_rng(3).random((12, 12))
    rows, columns = linear_sum_assignment(cost)
    for scale in (1e-30, 1.0, 1e30):
        with jax.enable_x64(True):
            plan = transport_plan(cost * scale, np.ones(12, int), np.ones(12, int))
        np.testing.assert_array_equal(np.argmax(plan, axis=1), columns[np.argsort(rows)])


def test_it_is_the_same_eager_jitted_vmapped_and_on_a_mesh():
    random = np.random.default_rng(0)
    costs = jnp.asarray(random.random((4, 6, 9)))
    source, target = uniform_masses(6, 9)
    expected = np.stack([transport_plan(cost, source, target) for cost in costs])
    many = jax.vmap(transport_plan, in_axes=(0, None, None))
    np.testing.assert_array_equal(many(costs, source, target), expected)
    np.testing.assert_array_equal(jax.jit(many)(costs, source, target), expected)
    mesh = jax.make_mesh((1,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("clients")
    spread = jax.jit(jax.shard_map(lambda c: many(c, source, target), mesh=mesh, in_specs=spec, out_specs=spec))
    np.testing.assert_array_equal(spread(costs), expected)


def test_a_batch_of_unequal_difficulty_ends():
    costs = np.stack([np.eye(10)[::-1], np.random.default_rng(0).random((10, 10)), np.zeros((10, 10))])
    widths = jnp.array([10, 7, 0])
    plans = jax.vmap(lambda cost, a: transport_plan(cost, *uniform_masses(10, 10, source_width=a)), in_axes=(0, 0))(
        costs, widths
    )
    np.testing.assert_array_equal(np.sum(plans, axis=(1, 2)), 10 * np.asarray(widths))


def test_squared_distances_are_those_of_a_naive_loop():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(3, 5)) + 100, random.normal(size=(4, 5)) + 100
    naive = [[np.sum((a - b) ** 2) for b in y] for a in x]
    np.testing.assert_allclose(squared_distances(jnp.asarray(x), jnp.asarray(y)), naive, rtol=1e-3)
