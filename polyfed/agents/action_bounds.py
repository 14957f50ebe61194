"""Continuous actions between the bounds of an environment, which a network sees as [-1, 1]."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from polyfed.environments import Box, Environment, World


def scaled(action: Float[Array, "*batch A"], box: Box) -> Float[Array, "*batch A"]:
    """From [-1, 1] to the bounds of the environment.

    >>> scaled(jnp.array([-1.0, 0.0, 1.0])[:, None], Box(low=(0.0,), high=(4.0,))).tolist()
    [[0.0], [2.0], [4.0]]
    """
    low, high = jnp.asarray(box.low, jnp.float32), jnp.asarray(box.high, jnp.float32)
    return jnp.clip(low + 0.5 * (action + 1.0) * (high - low), low, high)


def unscaled(action: Float[Array, "*batch A"], box: Box) -> Float[Array, "*batch A"]:
    """From the bounds of the environment to [-1, 1].

    >>> unscaled(jnp.array([[3.0]]), Box(low=(0.0,), high=(4.0,))).tolist()
    [[0.5]]
    """
    low, high = jnp.asarray(box.low, jnp.float32), jnp.asarray(box.high, jnp.float32)
    return (action - low) * (2.0 / (high - low)) - 1.0


def check_bounds(learner: str, environment: World) -> None:
    """Raise `ValueError` in one sentence unless a world shows vectors and takes bounded continuous actions.

    >>> from polyfed.environments import CartPole, Pendulum
    >>> check_bounds("DDPG", Pendulum())
    """
    name = type(environment).__name__
    if not isinstance(environment, Environment):
        raise ValueError(
            f"{learner} learns by acting, but {name} shows right answers and takes no actions: use a Classifier."
        )
    actions = environment.action_space
    if not isinstance(actions, Box):
        raise ValueError(
            f"{learner} moves actions by small amounts, but {name} takes one of {actions.n}: use DQN, or an "
            "environment with continuous actions, such as Pendulum or MountainCarContinuous."
        )
    if not actions.bounded or any(low >= high for low, high in zip(actions.low, actions.high, strict=True)):
        raise ValueError(
            f"{learner} stretches its actions to their bounds, but {name} has {actions}: give each entry a finite "
            "lower bound and a larger finite upper one."
        )
    if not isinstance(environment.observation_space, Box):
        raise ValueError(
            f"{learner} reads vectors, but {name} shows {environment.observation_space}: use a Box observation."
        )
