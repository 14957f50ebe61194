import numpy as np

from polyfed.aggregation import LocalOnly
from polyfed.types import Update


def test_everyone_keeps_what_it_sent_and_the_absent_get_zeros():
    payload = {"w": np.float32([[1, -0.0], [np.nan, 2], [3, 4]]), "n": np.arange(3)}
    merged, _, metrics = LocalOnly().aggregate((), Update(payload=payload, weight=np.float32([1, 0, 7])))
    np.testing.assert_array_equal(merged["w"], [[1, 0], [0, 0], [3, 4]])
    assert np.signbit(merged["w"][0, 1])
    assert merged["n"].tolist() == [0, 0, 2]
    assert merged["n"].dtype == payload["n"].dtype or merged["n"].dtype == np.int32
    assert metrics == {}
    assert LocalOnly().personal
