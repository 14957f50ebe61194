"""Actions that a world does not allow: they are never taken, and no learner counts on them (Huang and Ontañón 2022).

References: huang2022masking.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from polyfed.environments.world import World

FORBIDDEN = -1e9  # logit, or value, of an action that is not allowed: finite, so that 0 times it is 0


@dataclasses.dataclass(frozen=True)
class Mask:
    """Which actions a world allows, as a learner keeps it beside its networks.

    Where `World.allowed` says that none is, as it may after the end of an episode, all are: nothing hangs on it there.

    >>> from polyfed.environments.doors import Doors
    >>> Mask(Doors())(jnp.array([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])).tolist()
    [[True, False, True], [True, True, True]]
    """

    world: World

    def __call__(self, observation: Float[Array, "*batch D"]) -> Bool[Array, "*batch A"]:
        """Over any leading axes."""
        allowed = self.world.allowed(observation)
        assert allowed is not None
        return allowed | ~jnp.any(allowed, axis=-1, keepdims=True)


def mask_of(world: World) -> Mask | None:
    """None where a world allows every action at all times.

    >>> from polyfed.environments import CartPole
    >>> mask_of(CartPole()) is None
    True
    """
    seen = jax.ShapeDtypeStruct((1, world.observation_size), jnp.float32)
    return None if jax.eval_shape(world.allowed, seen) is None else Mask(world)


def allowed_by(mask: Mask | None, observation: Float[Array, "*batch D"]) -> Bool[Array, "*batch A"] | None:
    """What a mask allows; None: everything.

    >>> allowed_by(None, jnp.ones((2, 4))) is None
    True
    """
    return None if mask is None else mask(observation)


def masked(scores: Float[Array, "*batch A"], allowed: Bool[Array, "*batch A"] | None) -> Float[Array, "*batch A"]:
    """Logits or values of actions, `FORBIDDEN` for those that are not allowed: of probability 0, and no gradient.

    >>> masked(jnp.array([1.0, 2.0]), jnp.array([True, False])).tolist()
    [1.0, -1000000000.0]
    """
    return scores if allowed is None else jnp.where(allowed, scores, FORBIDDEN)


def kept_within(
    action: Int[Array, " E"], allowed: Bool[Array, "E A"] | None, otherwise: Int[Array, " E"]
) -> Int[Array, " E"]:
    """The action where it is allowed, `otherwise` where rounding drew one of probability 0.

    >>> kept_within(jnp.array([1, 1]), jnp.array([[True, False], [True, True]]), jnp.array([0, 0])).tolist()
    [0, 1]
    """
    if allowed is None:
        return action
    fits = jnp.take_along_axis(allowed, action[:, None], axis=-1)[:, 0]
    return jnp.where(fits, action, otherwise)


def nth_allowed(allowed: Bool[Array, "E A"], fraction: Float[Array, " E"]) -> Int[Array, " E"]:
    """Of the allowed actions, in their order, the one this far along: uniform for uniform fractions in [0, 1).

    >>> nth_allowed(jnp.array([[True, False, True]] * 2), jnp.array([0.4, 0.6])).tolist()
    [0, 2]
    """
    count = jnp.sum(allowed, axis=-1, dtype=jnp.int32)
    place = jnp.minimum((fraction * count).astype(jnp.int32), count - 1)
    rank = jnp.cumsum(allowed, axis=-1, dtype=jnp.int32)
    return jnp.argmax(rank > place[:, None], axis=-1).astype(jnp.int32)
