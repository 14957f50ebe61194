import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import FedPGFilter
from polyfed.aggregation.fedpg_filter import concentration_radius, within
from polyfed.types import Update


def naive(rows, sigma, delta, alpha, batch):
    count = len(rows)
    radius = 2 * sigma * np.sqrt(2 * np.log(2 * count / delta) / batch)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    for reach in (radius, 2 * sigma):
        central = [k for k in range(count) if sum(apart[k] <= reach) > count / 2]
        chosen = []
        if central:
            mean = rows[central].mean(axis=0)
            middle = central[int(np.argmin([np.linalg.norm(rows[k] - mean) for k in central]))]
            chosen = [k for k in range(count) if apart[k, middle] <= reach]
        if len(chosen) >= (1 - alpha) * count:
            break
    return rows[chosen].mean(axis=0) if chosen else rows.mean(axis=0)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 0.8, 1.2, 2.0, 50.0])
def test_agrees_with_a_naive_loop(sigma):
    rows = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    rows[0] += 9
    rule = FedPGFilter(sigma=sigma)
    merged, _, _ = rule.aggregate((), Update(rows, np.ones(10, np.float32)))
    np.testing.assert_allclose(merged, naive(rows, sigma, 0.6, 0.4, 16), atol=1e-5)


def test_the_published_radius():
    """2 sigma sqrt(V / B), V = 2 log(2 K / delta), with the settings for CartPole and ten agents."""
    np.testing.assert_allclose(concentration_radius(0.06, 0.6, 16, 10), 0.12 * np.sqrt(2 * np.log(20 / 0.6) / 16))


def test_nobody_is_near_where_no_message_is_central():
    assert not within(jnp.array([[0.0], [10.0], [20.0]]), jnp.ones(3), jnp.array(1.0)).any()


@pytest.mark.parametrize("lie", [np.nan, np.inf, 1e30])
def test_liars_far_off_are_left_out(lie):
    rows = 0.01 * np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
    rows[:3] = lie
    merged, _, metrics = FedPGFilter().aggregate((), Update(rows, np.ones(10, np.float32)))
    np.testing.assert_allclose(merged, rows[3:].mean(axis=0), atol=1e-6)
    assert float(metrics["selected"]) == 7


def test_refuses():
    for field in ({"sigma": 0.0}, {"delta": 0.0}, {"alpha": 0.6}, {"batch": 0.0}):
        with pytest.raises(ValueError, match=rf"rule\.{next(iter(field))}"):
            FedPGFilter(**field).check()
