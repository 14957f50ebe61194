"""Instances of many draws side by side, of a generator that is traced and compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from polyfed.environments.tabular import TabularMDPs


def side_by_side(draw: Callable[..., TabularMDPs], *arguments: Any) -> TabularMDPs:
    """The instances of `draw` over the leading axis of the arguments, in that order; common rewards stay common.

    >>> import jax.numpy as jnp
    >>> from polyfed.environments.random_mdps import random_mdps
    >>> mdps = side_by_side(lambda seed: random_mdps(jax.random.key(seed), 3, 2), jnp.arange(4))
    >>> mdps.transitions.shape, mdps.rewards.shape
    ((12, 2, 5, 5, 5), (12, 1, 5, 5))
    """
    discounts: list[float] = []

    def arrays(*one: Any) -> tuple[Any, Any, Any]:
        mdps = draw(*one)
        discounts.append(mdps.discount)
        return mdps.transitions, mdps.rewards, mdps.start

    transitions, rewards, start = jax.jit(jax.vmap(arrays))(*arguments)
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    return TabularMDPs(
        flat(transitions), flat(rewards) if rewards.ndim > 3 else rewards[0], start[0], float(discounts[0])
    )
