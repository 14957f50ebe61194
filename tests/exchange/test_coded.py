import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.exchange.coded import changed, changes, gathered, scattered
from polyfed.exchange.compression import exact_scale

NUMBERS = np.float32([1.5, -2.0, -0.0, 7.0, 1e-30, 3.0])


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("there", [0b000000, 0b100001, 0b011100])
def test_some_numbers_and_their_places_are_the_row_again(kind, there):
    mask = np.array([there >> nth & 1 for nth in range(6)], bool)
    row = np.where(mask, NUMBERS, np.float32(0)).astype(kind)
    places, numbers = gathered(jnp.asarray(row), 3)
    found = np.asarray(scattered(places, numbers, 6))
    assert found.tobytes() == row.tobytes()  # the sign of a 0 too
    assert np.all(np.diff(np.asarray(places, int)) > 0)
    assert (str(places.dtype), str(numbers.dtype)) == ("uint32", kind)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(2.0**-99, 2.0**100, width=32), min_size=8, max_size=8), st.integers(-127, 127))
def test_a_scale_times_a_whole_number_is_exact(steps, whole):
    given_, found = np.float32(steps), np.asarray(exact_scale(jnp.float32(steps)))
    assert np.all((found >= given_) & (found <= given_ * (1 + 2.0**-16)))
    np.testing.assert_array_equal(found * np.float32(whole), found.astype(np.float64) * whole)


def test_what_is_not_finite_stays_so():
    found = np.asarray(exact_scale(jnp.asarray(np.uint32([0x7FFFFFFF, 0x7FC00000, 0x7F800000]).view(np.float32))))
    assert np.isnan(found[:2]).all()
    assert found[2] == np.inf


def test_changes_leave_whole_numbers_alone():
    payload, broadcast = {"n": np.int32([5, 6]), "w": np.ones((2, 3), np.float32)}, {"n": np.int32(0), "w": np.zeros(3)}
    rows = changes(payload, broadcast)
    assert rows.shape == (2, 3)
    again = changed(payload, broadcast, 2 * rows)
    assert again["n"].tolist() == [5, 6]
    assert np.all(np.asarray(again["w"]) == 2)
