import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.exchange.secure_sum.fixed_point import decode, encode, most_clients, sum_of, whole_weights

RANDOM = np.random.default_rng(0)
CHANGES = (RANDOM.normal(size=(7, 3000)) * 10.0 ** RANDOM.uniform(-7, 1, size=(7, 3000))).astype(np.float32)
WEIGHT = np.float32([1.0, 0.5, 3.0, 0.001, 2.0, 0.0, 1.5])


@functools.partial(jax.jit, static_argnames=("limit", "bits"))
def mean(changes, weight, limit=8.0, bits=20):
    whole = whole_weights(weight)
    return decode(sum_of(encode(changes, whole, limit, bits), whole), whole, bits)


@pytest.mark.parametrize("bits", [4, 12, 20, 24])
@pytest.mark.parametrize("weight", [np.ones(7, np.float32), WEIGHT], ids=["equal", "unequal"])
def test_the_error_of_the_mean_is_within_the_stated_bound(bits, weight):
    limit = 2.0
    assert len(weight) <= most_clients(limit, bits)
    share = np.asarray(whole_weights(weight), np.float64) / 2**16
    exact = (share[:, None] * np.clip(np.float64(CHANGES), -limit, limit)).sum(0) / share.sum()
    found = np.asarray(mean(CHANGES, weight, limit, bits))
    bound = len(weight) * 2.0**-bits / share.sum() + 2.0**-23 * np.abs(found)
    assert np.all(np.abs(found - exact) <= bound)
    if bits == 4:
        assert np.abs(found - exact).max() > 0.1 * bound.min()  # the bound is not idle


def test_weights_are_right_to_16_bits():
    whole = np.asarray(whole_weights(WEIGHT), np.float64)
    assert np.all(np.abs(whole / 2**16 - WEIGHT / 3.0) <= 2.0**-17)
    assert whole[5] == 0
    assert whole.max() == 2**16
    assert whole_weights([1e-30, 1.0, np.nan, -1.0]).tolist() == [1, 65536, 0, 0]
    assert whole_weights([0.0, 0.0]).tolist() == [0, 0]


def test_no_change_gets_longer():
    coded = np.asarray(encode(CHANGES, whole_weights(np.ones(7)), 8.0, 20)).view(np.int32)
    assert np.all(np.abs(coded * 2.0**-20) <= np.abs(np.float64(CHANGES)))
    assert np.all(np.abs(coded) <= 8 * 2**20)


@jax.jit
def summed(values):
    coded = encode(values[:, None], jnp.full(len(values), 2**16, jnp.uint32), 8.0, 20)
    return coded, sum_of(coded, jnp.ones(len(values), jnp.uint32))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1e30, -8.0, -1e-6, 0.0, 2.0**-20, 7.9999, 8.0, 1e30]), min_size=255, max_size=255))
def test_as_many_as_may_come_never_overflow(values):
    """The sum of the whole numbers is the same modulo 2^32 as without a modulus."""
    coded, total = map(np.asarray, summed(np.float32(values)))
    assert coded.view(np.int32).astype(np.int64).sum() == total.view(np.int32)[0]


def test_one_more_could():
    most = most_clients(8.0, 20)
    largest = int(np.asarray(encode(jnp.full((1, 1), 9.0), whole_weights([1.0]), 8.0, 20))[0, 0])
    assert most * largest < 2**31 <= (most + 1) * (largest + 1)
    assert most_clients(2.0**20, 30) == 0
    assert most_clients(1e-6, 1) == 2**16 - 1


def test_the_order_of_the_clients_is_of_no_matter_to_the_last_bit():
    order = RANDOM.permutation(7)
    np.testing.assert_array_equal(mean(CHANGES, WEIGHT), mean(CHANGES[order], WEIGHT[order]))


def test_absent_clients_add_nothing_and_nobody_gives_zeros():
    held = CHANGES.copy()
    held[5] = 123.0
    np.testing.assert_array_equal(mean(CHANGES, WEIGHT), mean(held, WEIGHT))
    assert not mean(CHANGES, np.zeros(7, np.float32)).any()


@pytest.mark.bits
def test_compiled_and_not_give_the_same_bits():
    whole = whole_weights(WEIGHT)

    def both(changes, whole):
        coded = encode(changes, whole, 8.0, 20)
        return coded, decode(sum_of(coded, whole), whole, 20)

    for eager, compiled in zip(both(CHANGES, whole), jax.jit(both)(CHANGES, whole), strict=True):
        np.testing.assert_array_equal(eager, compiled)
