import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.exchange import HalfPrecision
from polyfed.types import Update


@jax.jit
def sent(payload, broadcast):
    update = Update(payload, jnp.ones(len(payload)))
    return HalfPrecision().upload((), update, broadcast, jax.random.key(0))[0].payload


@pytest.mark.parametrize("exponent", range(-9, 6))
def test_the_error_is_that_of_half_precision(exponent):
    """Relative 2^-11 down to 2^-14 (6.1e-5), half a step of 2^-24 (3e-8) below; NumPy rounds the same."""
    delta = (10.0**exponent * np.random.default_rng(0).normal(size=(3, 2000))).astype(np.float32)
    delta = np.clip(delta, -65504, 65504)
    found = np.asarray(sent(delta, np.zeros(2000, np.float32)))
    bound = np.maximum(2.0**-11 * np.abs(delta, dtype=np.float64), 2.0**-25)
    assert np.all(np.abs(found.astype(np.float64) - delta) <= bound)
    assert np.any(found != delta)  # it does round, compiled too
    np.testing.assert_array_equal(found, delta.astype(np.float16).astype(np.float32))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=4, max_size=4))
def test_is_the_rounded_difference_to_the_broadcast(values):
    broadcast = np.float32([0.0, 1.0, -3.5, 1e-3])
    payload = np.float32([values])
    delta = np.clip(payload - broadcast, -65504, 65504).astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(sent(payload, broadcast)[0], (broadcast + delta)[0], rtol=1e-6)


def test_saturates_instead_of_overflowing():
    found = sent(np.float32([[1e6, -1e30, 65504.0, 65519.0]]), np.zeros(4, np.float32))
    assert found.tolist() == [[65504.0, -65504.0, 65504.0, 65504.0]]


def test_a_small_change_of_a_large_weight_survives():
    """What is rounded is the change, so a weight of 100 may still move by 1e-3."""
    broadcast = np.float32([100.0])
    moved = float(sent(broadcast[None] + np.float32(1e-3), broadcast)[0, 0]) - 100.0
    assert moved == pytest.approx(1e-3, rel=0.02)
    assert float(np.float16(100.001)) - 100.0 == 0.0


def test_halves_the_bytes():
    assert [HalfPrecision().wire_bytes(n) for n in (0, 4, 4000)] == [0, 2, 2000]
    assert not HalfPrecision.keeps_norm  # rounding may enlarge a norm
