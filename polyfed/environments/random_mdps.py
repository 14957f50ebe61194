"""RandomMDPs: random transitions that differ between agents, common random rewards (Jin et al. 2022, released code).

Five states, five actions, `discount = 0.9`, first states uniform, rewards `U(0, 1)` common to all agents. Instance `n`
and environment `k` have keys of their own, so the first ones stay when more are asked for.

References: jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.checks import in_range, whole_in_range
from polyfed.environments.environment import Environment
from polyfed.environments.tabular import TabularMDP, TabularMDPs, TabularParams, stacked_params
from polyfed.environments.world import World

Shape = tuple[int, int]  # states, actions
SHAPE: Shape = (5, 5)
DISCOUNT = 0.9


def random_supports(uniform: Float[Array, "*shape"], density: Any) -> Bool[Array, "*shape"]:
    """Which successors are possible: each with probability `density`, and one drawn uniformly where none came.

    Args:
      uniform: `U(0, 1)`; a successor is possible where it is below `density`, or where it is the least of its row.
      density: 0 to 1.

    >>> random_supports(jnp.array([[0.1, 0.9], [0.8, 0.7]]), 0.2).tolist()
    [[True, False], [False, True]]
    """
    return (uniform < density) | (uniform == jnp.min(uniform, axis=-1, keepdims=True))


def random_rows(weight: Float[Array, "*shape"], support: Bool[Array, "*shape"], dtype: Any) -> Float[Array, "*shape"]:
    """Distributions with these weights on their supports, normalised.

    >>> random_rows(jnp.array([[0.5, 0.5]]), jnp.array([[True, False]]), jnp.float32).tolist()
    [[1.0, 0.0]]
    """
    rows = jnp.where(support, jnp.maximum(weight, 1e-6), 0).astype(dtype)
    return rows / jnp.sum(rows, axis=-1, keepdims=True)


def random_mdps(
    key: PRNGKeyArray,
    num_instances: int,
    num_envs: int = 5,
    *,
    density: float = 0.2,
    shape: Shape = SHAPE,
    discount: float = DISCOUNT,
    dtype: Any = jnp.float32,
) -> TabularMDPs:
    """Instances of `num_envs` environments each, with supports and probabilities of their own.

    Jin et al. train on five and test on twenty: `train, test = split_envs(random_mdps(key, N, 25), 5)`.

    Args:
      key: Of everything.
      num_instances: `N`.
      num_envs: `K`.
      density: Chance of each successor; at least one is possible.
      shape: States and actions.
      discount: 0 to below 1.
      dtype: Of probabilities and rewards.

    Returns:
      Transitions `[N, K, S, A, S]`, rewards `[N, 1, S, A]`.

    >>> mdps = random_mdps(jax.random.key(0), num_instances=3, num_envs=2)
    >>> mdps.transitions.shape, mdps.rewards.shape
    ((3, 2, 5, 5, 5), (3, 1, 5, 5))
    """
    (k_rewards,), k_envs = _keys(key, 1, num_envs)
    support, weight = jnp.moveaxis(_uniform(k_envs, (num_instances, 2, *shape, shape[0])), 2, 0)
    return _mdps(random_rows(weight, random_supports(support, density), dtype), k_rewards, discount)


def random_mdps_around(
    key: PRNGKeyArray,
    num_instances: int,
    kappa: Any,
    num_envs: int = 5,
    *,
    shape: Shape = SHAPE,
    discount: float = DISCOUNT,
    dtype: Any = jnp.float32,
) -> TabularMDPs:
    """The kappa series: environment 0 is the centre `P_0`, the others `(1 - kappa) * P_0 + kappa * U_k`.

    `P_0` has supports of density 0.5 and `U_k` lies on the complement. Where `P_0` reaches every state the complement
    is empty, and `U_k` may lie anywhere (ours). The same key gives the same `P_0`, `U_k` and rewards for every `kappa`.

    >>> mdps = random_mdps_around(jax.random.key(0), num_instances=2, kappa=0.4)
    >>> from polyfed.environments.neighbours import heterogeneity
    >>> envs = mdps.transitions[0]
    >>> round(float(jnp.median(heterogeneity(envs, envs[0]))), 3)
    0.4
    """
    (k_rewards, k_centre), k_others = _keys(key, 2, num_envs - 1)
    square = (*shape, shape[0])
    drawn, weight = jnp.moveaxis(_uniform(k_centre[None], (num_instances, 2, *square)), 2, 0)
    support = random_supports(drawn, 0.5)
    centre = random_rows(weight, support, dtype)
    elsewhere = ~support | jnp.all(support, axis=-1, keepdims=True)
    others = random_rows(_uniform(k_others, (num_instances, *square)), elsewhere, dtype)
    mixed = ((1 - kappa) * centre + kappa * others).astype(dtype)
    return _mdps(jnp.concatenate([centre, mixed]), k_rewards, discount)


def random_mdps_common(
    key: PRNGKeyArray,
    num_instances: int,
    num_envs: int = 5,
    *,
    kappa: Any = 0.2,
    missing: Any = 0.0,
    density: float = 0.5,
    shape: Shape = SHAPE,
    discount: float = DISCOUNT,
    dtype: Any = jnp.float32,
) -> TabularMDPs:
    """Environments with common neighbour sets, as FedRQ assumes, or with a share of neighbours missing (ours).

    `P_k = (1 - kappa) * P_0 + kappa * U_k`, `P_0` and `U_k` both on supports of the state, common to actions and
    agents. With `missing > 0`, agent `k` never sees neighbour `x` of state `s` with that probability, whatever it does
    there (one neighbour is always left), so that the neighbour sets of agents differ.

    >>> mdps = random_mdps_common(jax.random.key(0), num_instances=2, num_envs=3)
    >>> possible = jnp.any(mdps.transitions > 0, axis=3)
    >>> bool(jnp.all(possible == possible[:, :1]))
    True
    """
    states, actions = shape
    (k_rewards, k_centre), k_envs = _keys(key, 2, num_envs)
    first = _uniform(k_centre[None], (num_instances, states, actions + 1, states))
    support = random_supports(first[..., -1:, :], density)  # [1, N, S, 1, S]
    centre = random_rows(first[..., :-1, :], support, dtype)
    drawn = _uniform(k_envs, (num_instances, states, actions + 2, states))
    mixed = (1 - kappa) * centre + kappa * random_rows(drawn[..., :-2, :], support, dtype)
    order = jnp.where(support, drawn[..., -1:, :], -1.0)  # the last that would be lost
    kept = (drawn[..., -2:-1, :] >= missing) | (order == jnp.max(order, axis=-1, keepdims=True))
    rows = jnp.where(kept, mixed, 0)
    return _mdps((rows / jnp.sum(rows, axis=-1, keepdims=True)).astype(dtype), k_rewards, discount)


def split_envs(mdps: TabularMDPs, num_train: int) -> tuple[TabularMDPs, TabularMDPs]:
    """The first `num_train` environments of every instance, and the others.

    >>> train, test = split_envs(random_mdps(jax.random.key(0), 2, 25), 5)
    >>> train.transitions.shape[1], test.transitions.shape[1]
    (5, 20)
    """
    part = lambda chosen: eqx.tree_at(lambda m: m.transitions, mdps, chosen)  # noqa: E731
    return part(mdps.transitions[:, :num_train]), part(mdps.transitions[:, num_train:])


class RandomMDPs(eqx.Module):
    """Every client lives in an environment of one random instance, in place of a variation of physical quantities.

    Rewards are common, transitions are each client's own. Held-out worlds of the same instance have the same seed and a
    `first` beyond the clients'.

    >>> world = TabularMDP(num_states=5, num_actions=5)
    >>> RandomMDPs(seed=1).params(world, num_clients=3).transitions.shape
    (3, 5, 5, 5)
    """

    density: float = eqx.field(default=0.2, static=True)  # chance of each successor, 0 to 1
    seed: int = eqx.field(default=0, static=True)  # of the instance
    first: int = eqx.field(default=0, static=True)  # number of the first client's environment in the instance

    def mdps(self, environment: World, num_clients: int) -> TabularMDPs:
        """The instance, transitions `[C, S, A, S]`."""
        self.check(environment, num_clients)
        assert isinstance(environment, TabularMDP)
        shape = (environment.num_states, environment.num_actions)
        num = self.first + num_clients
        drawn = random_mdps(jax.random.key(self.seed), 1, num, density=self.density, shape=shape)
        return TabularMDPs(drawn.transitions[0, self.first :], drawn.rewards[0, 0], drawn.start, drawn.discount)

    def worlds(self, environment: World, num_clients: int) -> dict[str, np.ndarray]:
        """How far each client's transitions lie from the mean: total variation, averaged over rows, float64 `[C]`."""
        moves = np.asarray(self.mdps(environment, num_clients).transitions, np.float64)
        return {"distance": 0.5 * np.abs(moves - moves.mean(0)).sum(-1).mean((1, 2))}

    def params(self, environment: World, num_clients: int) -> TabularParams:
        """Transitions, rewards and first states of all clients, leaves float32 `[C, ...]`."""
        return stacked_params(self.mdps(environment, num_clients), num_clients)

    def check(self, environment: World, num_clients: int) -> None:
        """Refuse with a `ValueError` what cannot be simulated."""
        check_tabular(self, environment)
        whole_in_range("number of worlds", num_clients, 1, 10**6)
        in_range("variation.density", self.density, 0.0, 1.0)
        whole_in_range("variation.seed", self.seed, 0, 2**32 - 1)
        whole_in_range("variation.first", self.first, 0, 10**6)


def check_tabular(variation: Any, environment: World) -> None:
    """Refuse with a `ValueError` worlds that are no `TabularMDP`.

    >>> from polyfed.environments import CartPole
    >>> check_tabular(RandomMDPs(), CartPole())
    Traceback (most recent call last):
    ValueError: RandomMDPs gives transitions of finite worlds, but CartPole has physics: use Explicit, Grid or \
Uniform, or live in a TabularMDP.
    """
    if isinstance(environment, TabularMDP):
        return
    name = type(environment).__name__
    has, instead = (
        ("physics", "Explicit, Grid or Uniform")
        if isinstance(environment, Environment)
        else ("samples", "EqualSplit, LabelShards or Dirichlet")
    )
    raise ValueError(
        f"{type(variation).__name__} gives transitions of finite worlds, but {name} has {has}: use {instead}, or live "
        "in a TabularMDP."
    )


def _keys(key: PRNGKeyArray, num_common: int, num_envs: int) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """Keys of what is common and of every environment, of which the first are the same whatever `num_envs` is."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num_common + num_envs, dtype=jnp.uint32))
    return keys[:num_common], keys[num_common:]


def _uniform(keys: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """`U(0, 1)` of every key, float32; the first instances are the same whatever their number is."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32))(keys)


def _mdps(transitions: Float[Array, "K N S A S"], key: PRNGKeyArray, discount: float) -> TabularMDPs:
    """Instances first, with rewards common to the agents."""
    _, num, states, actions, _ = transitions.shape
    rewards = jax.random.uniform(key, (num, 1, states, actions), jnp.float32).astype(transitions.dtype)
    start = jnp.full(states, 1 / states, transitions.dtype)
    return TabularMDPs(jnp.moveaxis(transitions, 0, 1), rewards, start, discount)
