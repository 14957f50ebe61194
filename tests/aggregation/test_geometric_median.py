import numpy as np
import pytest

from polyfed.aggregation import GeometricMedian
from polyfed.types import Update


def naive(rows, iterations, smoothing=1e-6):
    v = np.median(rows, axis=0)
    for _ in range(iterations):
        beta = [1 / max(smoothing, np.sqrt(sum((x - v) ** 2))) for x in rows]
        v = sum(b * x for b, x in zip(beta, rows, strict=True)) / sum(beta)
    return v


def merged(rule, payload):
    return np.asarray(rule.aggregate((), Update(np.float32(payload), np.ones(len(payload), np.float32)))[0])


@pytest.mark.parametrize("iterations", [1, 8])
def test_agrees_with_a_naive_loop(iterations):
    rows = np.random.default_rng(0).normal(size=(7, 5))
    np.testing.assert_allclose(merged(GeometricMedian(iterations=iterations), rows), naive(rows, iterations), atol=1e-5)


def test_comes_to_where_the_distances_are_least():
    rows = np.random.default_rng(1).normal(size=(6, 3))
    v = merged(GeometricMedian(iterations=100), rows)
    total = lambda at: np.linalg.norm(rows - at, axis=1).sum()  # noqa: E731
    for step in 0.01 * np.random.default_rng(2).normal(size=(50, 3)):
        assert total(v) <= total(v + step) + 1e-6


def test_of_three_corners_it_sees_all_under_120_degrees():
    """The Fermat point of a triangle with sides alike is its centre."""
    corners = [[np.cos(a), np.sin(a)] for a in 2 * np.pi * np.arange(3) / 3]
    np.testing.assert_allclose(merged(GeometricMedian(iterations=50), corners), [0, 0], atol=1e-5)


def test_liars_of_any_size_move_it_little():
    rows = np.random.default_rng(3).normal(size=(7, 4))
    for lie in (np.nan, np.inf, 1e6, 1e30, -1e38):
        rows[:2] = lie
        assert np.linalg.norm(merged(GeometricMedian(), rows)) < 5


def test_refuses():
    with pytest.raises(ValueError, match=r"rule\.smoothing"):
        GeometricMedian(smoothing=0.0).check()
    with pytest.raises(ValueError, match=r"rule\.iterations"):
        GeometricMedian(iterations=0).check()
