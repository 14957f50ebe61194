"""Clients that come with NaN or infinity: named, or left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import WassersteinBarycenter, fuse_layer_on_host
from polyfed.aggregation.nonfinite import check_weights
from polyfed.types import Update

PRESETS = [WassersteinBarycenter.safe, WassersteinBarycenter.values, WassersteinBarycenter.geometric]


def update(broken=(1,), value=np.nan, weight=(1, 2, 3, 0)):
    """Four clients with a matrix and biases; the bias of the broken ones has one entry that is not finite."""
    random = np.random.default_rng(0)
    payload = {"w": random.normal(size=(4, 3, 6)).astype(np.float32), "b": np.zeros((4, 3), np.float32)}
    for client in broken:
        payload["b"][client, 0] = value
    return Update(payload=payload, weight=np.float32(weight))


def rule(preset, on_nonfinite):
    fields = preset()
    return WassersteinBarycenter(support=fields.support, solver=fields.solver, on_nonfinite=on_nonfinite)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_dropped_clients_are_as_if_absent(preset, value):
    drop = rule(preset, "drop")
    found, _, metrics = jax.jit(lambda u: drop.aggregate((), u))(update(value=value))
    expected, _, _ = drop.aggregate((), update(broken=(), weight=(1, 0, 3, 0)))
    assert float(metrics["nonfinite"]) == 1
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


def test_raises_at_once_outside_of_a_program_and_counts_inside():
    keep = WassersteinBarycenter.safe()
    with pytest.raises(ValueError, match=r"client 0, 1 .*not all finite.*on_nonfinite"):
        keep.aggregate((), update(broken=(0, 1)))
    merged, _, metrics = jax.jit(lambda u: keep.aggregate((), u))(update(broken=(0, 1)))
    assert float(metrics["nonfinite"]) == 2
    assert np.isnan(merged["b"][0])


def test_an_absent_client_does_not_count_and_all_broken_is_not_silent():
    _, _, metrics = WassersteinBarycenter.safe().aggregate((), update(broken=(3,)))
    assert float(metrics["nonfinite"]) == 0
    drop = WassersteinBarycenter(on_nonfinite="drop")
    merged, _, metrics = drop.aggregate((), update(broken=(0, 1, 2)))
    assert float(metrics["nonfinite"]) == 3
    assert bool(jnp.isnan(merged["b"][0]))


@pytest.mark.parametrize("weights", [[1.0, -0.5], [1.0, float("nan")], [float("inf"), 1.0]])
def test_a_weight_that_is_no_share_is_one_sentence(weights):
    with pytest.raises(ValueError, match=r"^A weight of (-0.5|nan|inf) is no share in a merge: give each client"):
        WassersteinBarycenter().aggregate((), Update(jnp.ones((2, 3, 4)), jnp.array(weights)))
    with pytest.raises(ValueError, match="no share in a merge"):
        fuse_layer_on_host(np.ones((2, 5)), weights)


def test_where_somebody_must_come_weights_that_are_all_zero_are_one_sentence():
    with pytest.raises(ValueError, match=r"^All 3 weights are 0, so nobody came and there is nothing to fuse: give"):
        check_weights([0.0, 0.0, 0.0], somebody=True)
    check_weights([0.0, 0.0, 0.0])


def test_weights_are_not_looked_at_while_a_program_is_compiled():
    merged = jax.jit(lambda w: WassersteinBarycenter().aggregate((), Update(jnp.ones((2, 3, 4)), w))[0])
    assert np.array_equal(merged(jnp.array([1.0, -1.0])), np.ones((3, 4)))
