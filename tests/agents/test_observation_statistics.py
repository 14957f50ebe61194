"""Running moments against those of all observations at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.observation_statistics import Moments, ObservationStatistics, with_more


def test_moments_of_batches_are_those_of_all_together():
    random, moments, kept = np.random.default_rng(0), Moments.none(3), []
    add = jax.jit(with_more)
    for _ in range(5):
        batch = random.normal([100.0, 0.0, -3.0], [0.5, 2.0, 1.0], (8, 2, 3)).astype(np.float32)
        where = random.random((8, 2)) < 0.6
        moments = add(moments, batch, where)
        kept.append(batch[where])
    rows = np.concatenate(kept).astype(np.float64)
    assert float(moments.count) == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(moments.variance, rows.var(axis=0), rtol=1e-4)


def test_no_observation_changes_nothing():
    old = with_more(Moments.none(2), jnp.array([[1.0, 2.0], [3.0, 6.0]]))
    for moments in (old, Moments.none(2)):
        new = with_more(moments, jnp.ones((4, 2)), jnp.zeros(4, bool))
        for one, other in zip(jax.tree.leaves(new), jax.tree.leaves(moments), strict=True):
            np.testing.assert_array_equal(one, other)


def test_standardises_and_clips():
    moments = Moments(jnp.float32(5), mean=jnp.array([1.0, -1.0]), variance=jnp.array([4.0, 0.25]))
    seen = ObservationStatistics(clip=3.0)(moments, jnp.array([[3.0, 9.0], [0.0, -1.0]]))
    np.testing.assert_allclose(seen, [[1.0, 3.0], [-0.5, 0.0]], rtol=1e-5)


def test_refuses_a_bound_of_nothing():
    with pytest.raises(ValueError, match=r"statistics\.clip = 0 standard deviations is out of range"):
        ObservationStatistics(clip=0.0).check()
