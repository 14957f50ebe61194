"""Noise on actions against NumPy, step by step, and its long-run moments."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import GaussianNoise, OrnsteinUhlenbeck, TargetSmoothing

KEY = jax.random.key(3)


def test_gaussian_noise_is_independent_and_has_its_scale():
    noise = GaussianNoise(scale=0.3)
    state = noise.start((200, 50), KEY)
    drawn = noise(state, (200, 50), KEY)
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.03)
    assert abs(float(drawn.mean())) < 0.02
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.2
    assert noise.step(state, jnp.zeros(200, bool), KEY) == () == state


def test_ornstein_uhlenbeck_is_its_recursion_in_numpy():
    noise = OrnsteinUhlenbeck(theta=0.3, sigma=0.4, time_step=0.25)
    state = noise.start((2, 3), KEY)
    mine = np.zeros((2, 3)) + 0.4 * 0.5 * np.asarray(jax.random.normal(KEY, (2, 3)))
    np.testing.assert_allclose(state, mine, rtol=1e-6)
    for t in range(5):
        key, ended = jax.random.fold_in(KEY, t), np.array([False, t == 2])
        np.testing.assert_array_equal(noise(state, (2, 3), key), state)
        drawn = np.asarray(jax.random.normal(key, (2, 3)))
        mine[ended] = 0.0
        mine = mine - 0.3 * mine * 0.25 + 0.4 * 0.5 * drawn
        state = noise.step(state, jnp.asarray(ended), key)
        np.testing.assert_allclose(state, mine, rtol=1e-5, atol=1e-7)


def test_ornstein_uhlenbeck_settles_at_its_known_spread_and_memory():
    """With dt = 1 it is an autoregression of `1 - theta`: standard deviation `sigma / sqrt(1 - (1 - theta)^2)`."""
    noise, alive = OrnsteinUhlenbeck(), jnp.zeros(500, bool)

    def step(state, key):
        return noise.step(state, alive, key), state

    _, path = jax.lax.scan(step, noise.start((500, 1), KEY), jax.random.split(KEY, 200))
    late = np.asarray(path)[100:, :, 0]
    assert late.std() == pytest.approx(0.2 / np.sqrt(1 - 0.85**2), rel=0.03)
    assert np.corrcoef(late[:-1].ravel(), late[1:].ravel())[0, 1] == pytest.approx(0.85, abs=0.02)
    assert np.asarray(path)[0].std() == pytest.approx(0.2, rel=0.15)  # the first is one step from 0


def test_smoothing_is_clipped():
    drawn = np.asarray(TargetSmoothing(scale=0.4, limit=0.5)((4000, 1), KEY))
    expected = np.clip(0.4 * np.asarray(jax.random.normal(KEY, (4000, 1))), -0.5, 0.5)
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    assert (np.abs(drawn) == 0.5).mean() == pytest.approx(0.211, abs=0.03)  # P(|N| > 1.25)


@pytest.mark.parametrize(
    ("part", "fields", "sentence"),
    [
        (GaussianNoise(), {"scale": -0.1}, r"noise\.scale = -0\.1 is out of range"),
        (OrnsteinUhlenbeck(), {"theta": 3.0}, r"noise\.theta = 3 is out of range"),
        (OrnsteinUhlenbeck(), {"sigma": -1.0}, r"noise\.sigma = -1 is out of range"),
        (OrnsteinUhlenbeck(), {"time_step": 0.0}, r"noise\.time_step = 0 is out of range"),
        (TargetSmoothing(), {"scale": -1.0}, r"smoothing\.scale = -1 is out of range"),
        (TargetSmoothing(), {"limit": -1.0}, r"smoothing\.limit = -1 is out of range"),
    ],
)
def test_refuses_numbers_in_a_sentence(part, fields, sentence):
    part.check()
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(part, **fields).check()
