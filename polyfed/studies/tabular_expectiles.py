"""Exact expectiles of next values in finite environments, beside the least next value that they stand for.

A successor of probability `p` is found by an expectile of order `tau` only if `tau` is small beside `p`: the expectile
lies about `tau * (mean - minimum) / p` above the minimum. All of this comparison is ours.

References: hwang2025fedrq, jin2022qavg, newey1987expectile.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.environments import planning
from polyfed.environments.random_mdps import random_mdps_common
from polyfed.environments.tabular import TabularMDPs
from polyfed.environments.windy_cliffs import windy_cliff_sets
from polyfed.studies.least_value import exact_expectile, scores

FAMILIES = ("random_mdps", "windy_cliffs")


def tabular_scores(family: str, taus: tuple[float, ...], seeds: tuple[int, ...], num: int) -> dict[float, list[dict]]:
    """Scores of the exact expectile over the states of `num` instances of every seed, by order.

    Values are optimal in the mean environment; actions are equally frequent, as in a replay of random actions. States
    with a single successor are left out.

    >>> found = tabular_scores("windy_cliffs", (0.5, 0.001), (0,), 2)
    >>> found[0.001][0]["bias"] < found[0.5][0]["bias"]
    True
    """
    rows: dict[float, list[dict]] = {tau: [] for tau in taus}
    for seed in seeds:
        mdps = drawn(family, seed, num)
        values, chances = next_distribution(mdps)
        least = np.min(np.where(chances > 0, values, np.inf), axis=-1)
        mean = np.sum(chances * values, axis=-1)
        several = np.sum(chances > 0, axis=-1) > 1
        rarest = np.min(np.where((chances > 0) & (values <= least[..., None]), chances, np.inf), axis=-1)
        for tau in taus:
            found = exact_expectile(values, chances, tau)
            row = scores(found[several], least[several], mean[several])
            rows[tau].append(row | {"rarest": float(np.median(rarest[several]))})
    return rows


def drawn(family: str, seed: int, num: int) -> TabularMDPs:
    """Instances with five agents; neighbour sets are common.

    >>> drawn("random_mdps", 0, 2).transitions.shape
    (2, 5, 5, 5, 5)
    """
    key = jax.random.key(seed)
    return random_mdps_common(key, num) if family == FAMILIES[0] else windy_cliff_sets(key, num)


def next_distribution(mdps: TabularMDPs) -> tuple[np.ndarray, np.ndarray]:
    """Optimal values of next states, and their chances over actions and agents, float64 `[N, S, S]` each.

    >>> float(next_distribution(drawn("windy_cliffs", 0, 2))[1].sum(-1).min().round(6))
    1.0
    """
    mean = jnp.moveaxis(jnp.mean(mdps.transitions, axis=1), 0, -1)
    rewards = mdps.rewards[:, 0] if mdps.rewards.ndim == 4 else mdps.rewards[None]
    rewards = jnp.broadcast_to(rewards, (len(mdps.transitions), *rewards.shape[1:]))
    q = planning.value_iteration(mean, jnp.moveaxis(rewards, 0, -1), mdps.discount, tolerance=1e-5)
    values = np.asarray(jnp.max(q, axis=1), float).T
    chances = np.asarray(jnp.mean(mdps.transitions, axis=(1, 3)), float)
    return np.broadcast_to(values[:, None, :], chances.shape), chances / chances.sum(-1, keepdims=True)
