import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.exchange import HalfPrecision, Int8, LoseMessages, TopK, WireSize
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
    assert [HalfPrecision().wire(WireSize(n)).total for n in (0, 1, 1000)] == [0, 2, 2000]
    assert not HalfPrecision.keeps_norm  # rounding may enlarge a norm


DELTA = np.random.default_rng(1).normal(size=(2, 1300)).astype(np.float32) * np.float32([[1.0], [1e-3]])


def test_int8_is_right_on_average_and_within_a_step():
    update, part = Update(jnp.asarray(DELTA), jnp.ones(2)), Int8()
    one = jax.jit(lambda key: part.upload((), update, jnp.zeros(1300), key)[0].payload)
    found = np.asarray(jax.lax.map(one, jax.random.split(jax.random.key(0), 2000)), np.float64)
    blocks = np.pad(np.abs(DELTA), ((0, 0), (0, 236))).reshape(2, -1, 512).max(-1) / 127
    step = np.repeat(blocks, 512, axis=1)[:, :1300]
    assert np.all(np.abs(found - DELTA) < step * 1.0001)
    error = np.abs(found.mean(0) - DELTA) / (step / 2 / np.sqrt(2000))  # a sd of chance is at most half a step
    assert error.max() < 5
    assert len(np.unique((found[0, 0, :512] / step[0, :512]).round(3))) <= 255


def test_int8_draws_for_each_client_by_itself():
    both = jnp.asarray(np.stack([DELTA[0], DELTA[0]]))
    sent, _ = Int8().upload((), Update(both, jnp.ones(2)), jnp.zeros(1300), jax.random.key(0))
    assert np.any(np.asarray(sent.payload[0] != sent.payload[1]))


def test_top_k_sends_the_largest_and_all_of_it_in_time():
    part, payload = TopK(fraction=0.1), {"w": jnp.asarray(DELTA), "count": jnp.ones(2, jnp.int32)}
    zero = {"w": jnp.zeros(1300), "count": jnp.int32(0)}
    state = part.init(jax.tree.map(lambda x: x[0], payload), 2)
    total = np.zeros_like(DELTA)
    for nth in range(40):
        now = payload if nth == 0 else {**payload, "w": jnp.zeros((2, 1300))}
        sent, state = part.upload(state, Update(now, jnp.ones(2)), zero, jax.random.key(nth))
        total += np.asarray(sent.payload["w"])
        assert np.all(np.count_nonzero(sent.payload["w"], axis=1) <= 130)
        if nth == 0:
            smallest = np.sort(np.abs(DELTA), axis=1)[:, -130]
            assert np.all((np.asarray(sent.payload["w"]) != 0) == (np.abs(DELTA) >= smallest[:, None]))
    np.testing.assert_array_equal(total, DELTA)  # nothing is lost, only late
    assert sent.payload["count"].tolist() == [1, 1]


def test_top_k_of_an_absent_client_keeps_what_it_owes():
    part, payload = TopK(fraction=0.5), jnp.array([[3.0, 1.0], [4.0, 2.0]])
    _, owed = part.upload(part.init(payload[0], 2), Update(payload, jnp.ones(2)), jnp.zeros(2), jax.random.key(0))
    assert owed.tolist() == [[0.0, 1.0], [0.0, 2.0]]
    nan = jnp.array([[jnp.nan, jnp.nan], [0.0, 0.0]])
    _, owed = part.upload(owed, Update(nan, jnp.array([0.0, 1.0])), jnp.zeros(2), jax.random.key(1))
    assert owed.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_the_last_compression_says_what_is_sent():
    whole = WireSize(10_000)
    assert Int8().wire(TopK(0.1).wire(whole)).total == 1000 + 4 * 1000 + 4 * 20
    assert TopK(0.1).wire(Int8().wire(whole)).total == 4000 + 4000  # whole again with what was owed
    assert TopK(0.1).wire(HalfPrecision().wire(whole)).total == 4000 + 4000
    assert HalfPrecision().wire(TopK(0.1).wire(whole)).total == 2000 + 4000
    assert HalfPrecision().wire(Int8().wire(whole)).total == 20_000
    assert Int8().wire(TopK(0.3).wire(whole)).total == 10_000 + 4 * 20  # shorter than 3000 with their places
    assert TopK(0.1).wire(TopK(0.1).wire(whole)).total == 100 * 8
    assert LoseMessages().wire(whole).total == 40_000
    assert TopK(1e-6).wire(WireSize(10)).values == 1
    assert [part.keeps_norm for part in (Int8, TopK)] == [False, False]  # so neither may follow a bound


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"transforms\.fraction = 0 is out of range"):
        TopK(0.0).check()
