"""Public inputs fill their box, the same every time."""

import numpy as np
import pytest

from polyfed.aggregation.public_inputs import UniformInputs


def test_inputs_fill_their_box():
    inputs = UniformInputs(num=2000, low=(-1.0, 5.0), high=(1.0, 6.0), seed=3)
    drawn = np.asarray(inputs(2))
    assert drawn.shape == (2000, 2)
    np.testing.assert_allclose(drawn.min(0), [-1, 5], atol=0.02)
    np.testing.assert_allclose(drawn.max(0), [1, 6], atol=0.02)
    np.testing.assert_array_equal(drawn, inputs(2))
    assert not np.any(drawn == UniformInputs(num=2000, low=(-1.0, 5.0), high=(1.0, 6.0), seed=4)(2))
    assert UniformInputs(num=5)(7).shape == (5, 7)


def test_bounds_that_do_not_fit_are_refused_in_a_sentence():
    UniformInputs(low=(0.0,), high=(1.0, 2.0)).check()
    for low, high in (((0.0,), (0.0,)), ((), ()), ((0.0, 0.0), (1.0, 1.0, 1.0)), ((float("nan"),), (1.0,))):
        with pytest.raises(ValueError, match="No inputs lie between"):
            UniformInputs(low=low, high=high).check()
    with pytest.raises(ValueError, match=r"inputs\.num"):
        UniformInputs(num=0).check()
    with pytest.raises(ValueError, match="2 bounds cannot be shown to networks that read 3"):
        UniformInputs(low=(0.0, 0.0))(3)
