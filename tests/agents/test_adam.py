import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents.adam import adam


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 1e6])
def test_is_the_adam_of_optax(scale):
    params = {"w": jnp.ones((3, 5)), "b": jnp.zeros(5)}
    ours, theirs = adam(0.01), optax.adam(0.01)
    state, reference = ours.init(params), theirs.init(params)
    for key in jax.random.split(jax.random.key(0), 50):
        gradient = jax.tree.map(lambda p: scale * jax.random.normal(key, p.shape) ** 3, params)  # noqa: B023
        given, state = ours.update(gradient, state)
        wanted, reference = theirs.update(gradient, reference)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-9), given, wanted)


def test_a_weight_without_a_gradient_stays():
    optimizer = adam(0.1)
    gradient = jnp.array([0.0, 1.0])
    updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    assert updates[0] == 0
    assert updates[1] != 0


def test_first_steps_by_hand():
    # Kingma & Ba 2015, Algorithm 1, one weight with gradients 1 and then -2, learning rate 0.5
    optimizer = adam(0.5)
    state, m, v = optimizer.init(jnp.float32(0)), 0.0, 0.0
    for t, g in ((1, 1.0), (2, -2.0)):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        wanted = -0.5 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        given, state = optimizer.update(jnp.float32(g), state)
        np.testing.assert_allclose(given, wanted, rtol=1e-4)
