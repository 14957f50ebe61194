import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfed.checks import in_range, one_of, whole_in_range


@pytest.mark.parametrize(
    "value", [0, 1, 0.5, np.float32(0.25), (0.0, 1.0), [0.1, 0.2], np.array([0.0, 0.5]), np.ones((2, 2)), True]
)
def test_numbers_within_the_range_pass(value):
    in_range("discount", value, 0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-0.1, "-0.1"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ((0.5, 2.0, 3.0), "2"),
        ([[0, -7]], "-7"),
    ],
)
def test_the_first_number_outside_is_named(value, shown):
    with pytest.raises(ValueError, match="discount") as refusal:
        in_range("discount", value, 0.0, 1.0)
    assert str(refusal.value) == f"discount = {shown} is out of range: give a number from 0 to 1."


def test_units_stand_with_the_numbers():
    with pytest.raises(ValueError, match="width") as refusal:
        in_range("width", 3, 4, 1000, "units")
    assert str(refusal.value) == "width = 3 units is out of range: give a number from 4 to 1000 units."


@pytest.mark.parametrize("value", ["fast", "0.5", None, (), object(), [[1], [2, 3]], {"a": 1}, 1j])
def test_what_is_no_number_is_said_to_be_none(value):
    with pytest.raises(ValueError, match=r"rate = .* is not a number: give one from 0 to 1\.$"):
        in_range("rate", value, 0.0, 1.0)


@given(st.floats(), st.floats(-10, 10), st.floats(0, 10))
def test_refuses_exactly_what_lies_outside(value, low, width):
    if low <= value <= low + width:
        in_range("x", value, low, low + width)
    else:
        with pytest.raises(ValueError, match=r"^x = \S+ is out of range: give a number from \S+ to \S+\.$"):
            in_range("x", value, low, low + width)


def test_whole_numbers():
    whole_in_range("count", 3, 1, 10)
    whole_in_range("count", np.int64(10), 1, 10)
    for value in (2.0, 2.5, "3", None, (2, 3), np.array([2, 3]), True):
        with pytest.raises(ValueError, match=r"count = .* is not one whole number: give one from 1 to 10 rounds\.$"):
            whole_in_range("count", value, 1, 10, "rounds")
    with pytest.raises(ValueError, match="count = 11 rounds is out of range"):
        whole_in_range("count", 11, 1, 10, "rounds")


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ("rleu", "activation = 'rleu' is not known: did you mean 'relu'?"),
        ("zzz", "activation = 'zzz' is not known: choose one of: relu, tanh."),
        (None, "activation = None is not known: choose one of: relu, tanh."),
    ],
)
def test_a_name_that_is_not_known(given_, sentence):
    one_of("activation", "tanh", iter(("relu", "tanh")))
    with pytest.raises(ValueError, match="activation") as refusal:
        one_of("activation", given_, iter(("relu", "tanh")))
    assert str(refusal.value) == sentence
