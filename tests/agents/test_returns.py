"""Returns and advantages against naive loops, one step after another."""

import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.returns import decayed_sums, generalized_advantages, lived, returns_to_go, standardised


@pytest.mark.parametrize("length", [1, 2, 7, 64, 100])
def test_decayed_sums_are_those_of_a_loop(length):
    random = np.random.default_rng(length)
    values, decay = random.normal(size=(length, 3)), random.uniform(0, 1, (length, 3))
    decay[random.random((length, 3)) < 0.2] = 0.0
    expected, later = np.zeros((length, 3)), np.zeros(3)
    for t in reversed(range(length)):
        later = expected[t] = values[t] + decay[t] * later
    found = decayed_sums(jnp.asarray(values, jnp.float32), jnp.asarray(decay, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_padding_adds_nothing_to_returns():
    reward = np.zeros((10, 2), np.float32)
    reward[:4, 0], reward[:, 1] = 1.0, 2.0
    found = returns_to_go(jnp.asarray(reward), 0.5)
    np.testing.assert_allclose(found[:5, 0], [1.875, 1.75, 1.5, 1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found[-3:, 1], [3.5, 3.0, 2.0], rtol=1e-6)


def test_lived_steps_end_with_the_first_end():
    over = np.zeros((5, 3), bool)
    over[2, 0] = over[4, 0] = over[0, 1] = True
    expected = [[1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_array_equal(lived(jnp.asarray(over)), np.array(expected, bool))


def test_standardised_is_that_of_a_sample_and_one_alone_is_zero():
    random = np.random.default_rng(0)
    values, where = random.normal(3.0, 2.0, (9, 4)).astype(np.float32), random.random((9, 4)) < 0.7
    where[:, 2], where[1:, 3] = False, False
    where[0, 3] = True
    found = np.asarray(standardised(jnp.asarray(values), jnp.asarray(where), axis=0))
    for e in range(2):
        x = values[where[:, e], e].astype(np.float64)
        np.testing.assert_allclose(found[where[:, e], e], (x - x.mean()) / (x.std(ddof=1) + 1e-5), rtol=1e-4)
    assert not found[~where].any()
    assert not found[:, 2:].any()


def test_advantages_bootstrap_at_the_clock_and_at_the_end_of_the_rollout_but_not_at_the_end_of_the_mdp():
    random = np.random.default_rng(1)
    shape, discount, trace_decay = (40, 3), 0.9, 0.8
    reward, value, after = (random.normal(size=shape).astype(np.float32) for _ in range(3))
    terminated, truncated = random.random(shape) < 0.2, random.random(shape) < 0.2
    assert np.any(terminated & truncated)
    expected = np.zeros(shape)
    for e in range(3):
        later = 0.0
        for t in reversed(range(40)):
            ahead = 0.0 if terminated[t, e] else discount * after[t, e]
            if terminated[t, e] or truncated[t, e]:
                later = 0.0
            later = expected[t, e] = reward[t, e] + ahead - value[t, e] + discount * trace_decay * later
    given = [jnp.asarray(x) for x in (reward, value, after, terminated, truncated)]
    found = generalized_advantages(given[0], (given[1], given[2]), (given[3], given[4]), discount, trace_decay)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
