import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import CentredClipping, NormBounding
from polyfed.types import Update

ROWS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
ONES = np.ones(7, np.float32)


def naive(v, rows, radius, iterations=1):
    for _ in range(iterations):
        v = v + sum((x - v) * min(1, radius / np.sqrt(sum((x - v) ** 2))) for x in rows) / len(rows)
    return v


@pytest.mark.parametrize("iterations", [1, 3])
def test_agrees_with_a_naive_loop_round_after_round(iterations):
    rule = CentredClipping(radius=0.7, iterations=iterations)
    state, v = rule.init(jnp.zeros(5)), np.median(ROWS, axis=0)
    for shift in (0.0, 1.0):
        merged, state, _ = rule.aggregate(state, Update(ROWS + np.float32(shift), ONES))
        v = naive(v, ROWS + shift, 0.7, iterations)
        np.testing.assert_allclose(merged, v, atol=1e-5)


def test_the_bound_is_the_median_length():
    rule = NormBounding(factor=1.5)
    state, v = rule.init(jnp.zeros(5)), np.median(ROWS, axis=0)
    for shift in (0.0, 1.0):
        rows = ROWS + np.float32(shift)
        bound = 1.5 * np.median(np.linalg.norm(rows - v, axis=1))
        merged, state, metrics = rule.aggregate(state, Update(rows, ONES))
        v = naive(v, rows, bound)
        np.testing.assert_allclose(merged, v, atol=1e-5)
        np.testing.assert_allclose(metrics["bound"], bound, rtol=1e-5)


@pytest.mark.parametrize("rule", [CentredClipping(radius=0.5), NormBounding()], ids=repr)
@pytest.mark.parametrize("lie", [np.nan, np.inf, 1e30, -3e38])
def test_a_liar_moves_the_merge_by_its_share_of_a_radius_at_most(rule, lie):
    state = rule.init(jnp.zeros(5))
    _, state, _ = rule.aggregate(state, Update(ROWS, ONES))
    rows = ROWS.copy()
    rows[0] = lie
    merged, _, metrics = rule.aggregate(state, Update(rows, ONES))
    silent, _, _ = rule.aggregate(state, Update(rows, np.float32([0, 1, 1, 1, 1, 1, 1])))
    radius = float(metrics.get("bound", 0.5))
    assert np.linalg.norm(merged - silent) <= 2.1 * radius / 6  # its own share, and that of the others in a larger mean


def test_messages_within_the_radius_are_averaged():
    merged, _, metrics = CentredClipping(radius=1e3).aggregate(CentredClipping().init(jnp.zeros(5)), Update(ROWS, ONES))
    np.testing.assert_allclose(merged, ROWS.mean(axis=0), atol=1e-6)
    assert float(metrics["clipped"]) == 0


def test_a_consensus_further_off_than_the_radius_is_followed_at_its_pace():
    rule = CentredClipping(radius=0.5, iterations=2)
    _, state, _ = rule.aggregate(rule.init(jnp.zeros(1)), Update(np.zeros((3, 1), np.float32), np.ones(3, np.float32)))
    merged, _, _ = rule.aggregate(state, Update(np.full((3, 1), 9, np.float32), np.ones(3, np.float32)))
    np.testing.assert_allclose(merged, [1.0])


def test_refuses():
    with pytest.raises(ValueError, match=r"rule\.radius"):
        CentredClipping(radius=0.0).check()
    with pytest.raises(ValueError, match=r"rule\.iterations"):
        CentredClipping(iterations=0).check()
    with pytest.raises(ValueError, match=r"rule\.factor"):
        NormBounding(factor=0.5).check()
