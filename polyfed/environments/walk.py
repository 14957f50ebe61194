"""A walk through the nominal world of a family that goes on and on: where an episode ends, the next begins."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.environments.environment import Environment


class Place(eqx.Module):
    """Where a walk has come to."""

    state: Any  # the environment's
    observation: Float[Array, " D"]


def begin(environment: Environment) -> Place:
    """Where every walk begins: the same place for everybody, so that nobody has to be told.

    >>> from polyfed.environments import CartPole
    >>> begin(CartPole()).observation.shape
    (4,)
    """
    return Place(*environment.reset(jax.random.key(0), environment.nominal()))


def go_on(environment: Environment, place: Place, action: Array, key: PRNGKeyArray) -> Place:
    """One step, and a reset if it ended an episode.

    >>> from polyfed.environments import CartPole
    >>> place = begin(CartPole())
    >>> go_on(CartPole(), place, jnp.int32(1), jax.random.key(1)).observation.shape
    (4,)
    """
    k_step, k_reset = jax.random.split(key)
    state, given = environment.step(k_step, place.state, action, environment.nominal())
    fresh = Place(*environment.reset(k_reset, environment.nominal()))
    over = given.terminated | given.truncated
    return jax.tree.map(lambda new, old: jnp.where(over, new, old), fresh, Place(state, given.observation))
