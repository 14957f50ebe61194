import sys

import numpy as np
import pytest

from polyfed.environments.digits import Digits
from polyfed.errors import MissingExtraError
from polyfed.record import from_data, to_data


def test_the_digits_of_scikit_learn_as_bytes():
    from sklearn.datasets import load_digits

    samples, (images, labels) = Digits().load(), load_digits(return_X_y=True)
    assert (samples.images.dtype, samples.image_shape, samples.num_classes) == (np.uint8, (8, 8), 10)
    np.testing.assert_array_equal(np.rint(samples.images / (255 / 16)), images)  # nothing is lost
    np.testing.assert_array_equal(samples.labels, labels)
    assert (samples.images.min(), samples.images.max()) == (0, 255)


def test_test_samples_are_drawn_from_the_seed():
    cuts = [Digits(num_test=100, seed=seed).load() for seed in (0, 0, 1)]
    for samples in cuts:
        np.testing.assert_array_equal(np.sort(np.concatenate([samples.train, samples.test])), range(1797))
    np.testing.assert_array_equal(cuts[0].test, cuts[1].test)
    assert set(cuts[0].test) != set(cuts[2].test)
    np.testing.assert_array_equal(Digits(num_test=100, seed=None).load().test, range(1697, 1797))


def test_is_a_value_that_can_be_recorded():
    assert from_data(to_data(Digits(num_test=100))) == Digits(num_test=100)


def test_says_how_to_install_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'not installed: pip install "polyfed\[digits\]"'):
        Digits().load()


def test_refuses_to_hold_out_all():
    with pytest.raises(ValueError, match="num_test = 1797 of the 1797 samples in Digits"):
        Digits(num_test=1797).load()
