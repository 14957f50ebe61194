import numpy as np
import pytest

from polyfed.aggregation import CoordinateMedian, TrimmedMean
from polyfed.types import Update


def merged(rule, payload, weight=None):
    weight = np.ones(len(payload), np.float32) if weight is None else np.float32(weight)
    return np.asarray(rule.aggregate((), Update(payload, weight))[0])


PAYLOAD = np.random.default_rng(0).normal(size=(9, 4, 3)).astype(np.float32)


def test_the_median_agrees_with_numpy():
    for count in (1, 2, 7, 8):
        weight = np.arange(9) < count
        np.testing.assert_allclose(
            merged(CoordinateMedian(), PAYLOAD, weight), np.median(PAYLOAD[:count], axis=0), atol=1e-6
        )


@pytest.mark.parametrize("trim", [0, 1, 3])
def test_the_trimmed_mean_agrees_with_a_naive_loop(trim):
    expected = np.zeros((4, 3))
    for i in range(4):
        for j in range(3):
            kept = sorted(PAYLOAD[:, i, j].astype(float))[trim : 9 - trim]
            expected[i, j] = sum(kept) / len(kept)
    np.testing.assert_allclose(merged(TrimmedMean(trim), PAYLOAD), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", [CoordinateMedian(), TrimmedMean(2)], ids=repr)
def test_two_liars_of_seven_cannot_leave_the_range_of_the_honest(rule):
    for lie in (np.nan, np.inf, 1e30, -1e30):
        payload = PAYLOAD[:7].copy()
        payload[[0, 4]] = lie
        honest = np.delete(payload, [0, 4], axis=0)
        result = merged(rule, payload)
        assert (result >= honest.min(axis=0)).all()
        assert (result <= honest.max(axis=0)).all()


def test_a_weight_buys_no_vote():
    weight = np.float32([1e9, 1, 1, 1, 1])
    for rule in (CoordinateMedian(), TrimmedMean(1)):
        np.testing.assert_array_equal(merged(rule, PAYLOAD[:5], weight), merged(rule, PAYLOAD[:5]))


def test_with_too_few_left_the_trimmed_mean_is_the_median():
    np.testing.assert_array_equal(merged(TrimmedMean(3), PAYLOAD[:5]), merged(CoordinateMedian(), PAYLOAD[:5]))


def test_refuses():
    with pytest.raises(ValueError, match=r"rule\.trim = -1"):
        TrimmedMean(-1).check()
    with pytest.raises(ValueError, match="has nothing left"):
        TrimmedMean(5).check_clients(10)
    TrimmedMean(4).check_clients(10)
