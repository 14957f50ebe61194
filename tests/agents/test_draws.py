"""Draws written out against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.draws import normal, uniform


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3)], ids=str)
@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_draws_are_those_of_jax_bit_for_bit(shape, seed):
    key = jax.random.fold_in(jax.random.key(seed), 17)
    np.testing.assert_array_equal(uniform(key, shape), jax.random.uniform(key, shape))
    np.testing.assert_array_equal(normal(key, shape), jax.random.normal(key, shape))


def test_keys_of_another_generator_are_left_to_jax():
    key = jax.random.key(3, impl="rbg")
    np.testing.assert_array_equal(uniform(key, (4,)), jax.random.uniform(key, (4,)))
    np.testing.assert_array_equal(normal(key, (4,)), jax.random.normal(key, (4,)))


def test_keys_may_be_stacked():
    keys = jax.random.split(jax.random.key(1), 4)
    drawn = jax.vmap(lambda key: uniform(key, (3,)))(keys)
    np.testing.assert_array_equal(drawn, jnp.stack([jax.random.uniform(key, (3,)) for key in keys]))
