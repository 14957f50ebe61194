"""Distributions of actions against their formulas and against many draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.action_distributions import Categorical, Gaussian, head_of
from polyfed.environments import Box, Discrete

BOX = Box(low=(-1.0, 0.0), high=(1.0, 6.0))


def test_a_choice_has_the_probabilities_of_its_logits():
    logits = np.array([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])
    weights = np.exp(logits)
    share = weights / weights.sum(axis=1, keepdims=True)
    head, outputs = Categorical(3), jnp.asarray(logits, jnp.float32)
    np.testing.assert_allclose(head.prediction(outputs).probabilities, share, rtol=1e-5)
    for action in range(3):
        found = head.log_prob(outputs, jnp.full(2, action))
        np.testing.assert_allclose(found, np.log(share[:, action]), rtol=1e-5)
    np.testing.assert_allclose(head.entropy(outputs), -(share * np.log(share)).sum(axis=1), rtol=1e-5)
    assert head.mode(outputs).tolist() == [2, 0]
    drawn = np.asarray(head.sample(jnp.broadcast_to(outputs, (20000, 2, 3)), jax.random.key(0)))
    assert drawn.dtype == np.int32
    for state in range(2):
        np.testing.assert_allclose(np.bincount(drawn[:, state], minlength=3) / 20000, share[state], atol=0.015)


@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("scale", ["network", "parameter"])
def test_a_vector_has_the_density_of_its_moments(scale, stretched):
    head, outputs = Gaussian(BOX, scale, stretched), np.array([0.3, -0.2, 0.4, -1.0])
    mean, width = outputs[:2], np.log1p(np.exp(outputs[2:])) if scale == "network" else np.exp(outputs[2:])
    if stretched:
        mean, width = np.array([0.0, 3.0]) + mean * [1.0, 3.0], width * [1.0, 3.0]
    mean, width, action = mean + 1e-6, width + 1e-6, np.array([2.0, 0.5])
    given = jnp.asarray(outputs, jnp.float32)
    np.testing.assert_allclose(head.prediction(given).mean, mean, rtol=1e-5)
    np.testing.assert_allclose(head.prediction(given).scale, width, rtol=1e-5)
    density = np.prod(np.exp(-0.5 * ((action - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi)))
    assert float(head.log_prob(given, jnp.asarray(action))) == pytest.approx(math.log(density), rel=1e-5)
    entropy = np.log(width * math.sqrt(2 * math.pi * math.e)).sum()
    assert float(head.entropy(given)) == pytest.approx(entropy, rel=1e-5)
    drawn = np.asarray(head.sample(jnp.broadcast_to(given, (20000, 4)), jax.random.key(0)))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.06)
    np.testing.assert_allclose(drawn.std(axis=0), width, rtol=0.03)
    assert drawn[:, 0].max() > 1  # not clipped
    np.testing.assert_allclose(head.mode(given), np.clip(mean, BOX.low, BOX.high), rtol=1e-5)


def test_the_head_is_that_of_the_space():
    assert head_of(Discrete(4), "network", stretched=True) == Categorical(4)
    head = head_of(BOX, "parameter", stretched=True)
    assert (head.num_outputs, head.num_entries) == (2, 2)
    assert head_of(BOX, "network", stretched=False).num_outputs == 4
    endless = Gaussian(Box(low=(-math.inf,), high=(math.inf,)), stretched=True)
    assert float(endless.mode(jnp.array([70.0, 0.0]))[0]) == pytest.approx(70.0)
