"""The least next value of a state, found exhaustively, beside what an expectile of next values finds of it.

In FedRQ the worst case of a state is the least value among its successors `N_s`, of all actions in the worlds of all
agents (Hwang and Hong 2025); FedRDQN learns it as an expectile of the successors that were seen.

References: hwang2025fedrq, newey1987expectile.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy import spatial, stats

from polyfed.agents.worst_case import expectile_loss
from polyfed.environments.cartpole import CartPole, CartPoleState


@jax.jit
def successors(
    environment: CartPole, states: Float[Array, "N 4"], params: Any
) -> tuple[Float[Array, "N K 4"], Bool[Array, "N K"]]:
    """Every successor of cart-poles that stand anywhere: both actions, in each of `W` worlds.

    Args:
      environment: The family.
      states: Position, velocity, angle, angular velocity.
      params: Leaves `[W]`.

    Returns:
      `(next states, whether the episode goes on)`, `K = 2 W`; the order is that of the worlds, actions fastest.

    >>> worlds = jax.tree.map(lambda x: jnp.asarray(x)[None], CartPole().nominal())
    >>> after, alive = successors(CartPole(), jnp.array([[0.0, 0, 0, 0], [2.4, 5, 0, 0]]), worlds)
    >>> after.shape, alive.tolist()
    ((2, 2, 4), [[True, True], [False, False]])
    """

    def one(state: Array, world: Any, action: Array) -> tuple[Array, Array]:
        before = CartPoleState(state[0], state[1], state[2], state[3], time=jnp.zeros((), jnp.int32))
        _, given = environment.step(jax.random.key(0), before, action, world)
        return given.observation, ~given.terminated

    actions = jnp.arange(environment.action_space.n, dtype=jnp.int32)
    of_world = jax.vmap(one, in_axes=(None, None, 0))
    of_state = jax.vmap(of_world, in_axes=(None, 0, None))
    after, alive = jax.vmap(of_state, in_axes=(0, None, None))(states, params, actions)
    return after.reshape(len(states), -1, 4), alive.reshape(len(states), -1)


@jax.jit
def next_values(network: Any, after: Float[Array, "*N D"], alive: Bool[Array, "*N"] | bool) -> Float[Array, "*N"]:
    """`max_a Q'(s', a)`, 0 where the episode ended.

    >>> from polyfed.agents.networks import MLP
    >>> network = MLP(4, 2, hidden=(8,), activation="relu", key=jax.random.key(0))
    >>> next_values(network, jnp.ones((3, 4)), jnp.zeros(3, bool)).tolist()
    [0.0, 0.0, 0.0]
    """
    return jnp.where(alive, jnp.max(network(after), axis=-1), 0.0)


def nearest_least(
    states: np.ndarray, stored: np.ndarray, values: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """The least next value among the `num` stored transitions nearest to each state, and the distance of the nearest.

    Distances are in standard deviations of the stored states. Shapes: states `[N, D]`, stored `[M, D]`, values `[M]`.

    >>> least, far = nearest_least(np.array([[0.0]]), np.array([[1.0], [-1.0], [3.0]]), np.array([5.0, 4.0, 1.0]), 2)
    >>> float(least[0]), round(float(far[0]), 2)
    (4.0, 0.61)
    """
    stored, values = np.asarray(stored, float), np.asarray(values, float)
    scale = np.maximum(stored.std(0), 1e-9)
    far, places = spatial.cKDTree(stored / scale).query(np.asarray(states, float) / scale, k=min(num, len(stored)))
    far, places = far.reshape(len(states), -1), places.reshape(len(states), -1)
    return values[places].min(axis=1), far[:, 0]


@functools.partial(jax.jit, static_argnames=("num_steps", "batch_size"))
def converged(
    network: Any,
    data: tuple[Float[Array, "M D"], Float[Array, "M K"]],
    tau: Float[Array, ""] | float,
    key: PRNGKeyArray,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float = 1e-3,
) -> Any:
    """`D` after many steps of Adam on targets that stand still, its step size falling on a line to 0.

    Args:
      network: `D` to begin with.
      data: States, and `K` equally likely next values of each.
      tau: Expectile.
      key: Of the batches.
      num_steps: Gradient steps.
      batch_size: Transitions per step, with replacement.
      learning_rate: Adam's first step size.
    """
    states, values = data
    adam = optax.adam(optax.linear_schedule(learning_rate, 0.0, num_steps))

    def step(carry: tuple[Any, Any], key: PRNGKeyArray) -> tuple[tuple[Any, Any], None]:
        network, moments = carry
        k_row, k_column = jax.random.split(key)
        rows = jax.random.randint(k_row, (batch_size,), 0, values.shape[0])
        columns = jax.random.randint(k_column, (batch_size,), 0, values.shape[1])

        def loss(network: Any) -> Array:
            return jnp.mean(expectile_loss(values[rows, columns] - network(states[rows])[:, 0], tau))

        updates, moments = adam.update(jax.grad(loss)(network), moments)
        return (optax.apply_updates(network, updates), moments), None

    return jax.lax.scan(step, (network, adam.init(network)), jax.random.split(key, num_steps))[0][0]


def exact_expectile(values: np.ndarray, probabilities: np.ndarray, tau: float, sweeps: int = 100) -> np.ndarray:
    """The minimiser `e` of `sum_x p(x) |tau - 1{v(x) < e}| (v(x) - e)^2` over the last axis (Newey and Powell 1987).

    Each sweep is the weighted mean whose weights are those of the last `e`; it ends after finitely many.

    >>> exact_expectile(np.array([0.0, 1.0]), np.array([0.5, 0.5]), 0.5).tolist()
    0.5
    >>> round(float(exact_expectile(np.array([0.0, 1.0]), np.array([0.01, 0.99]), 0.01)), 3)
    0.5
    """
    values, probabilities = np.broadcast_arrays(np.asarray(values, float), np.asarray(probabilities, float))
    found = np.sum(probabilities * values, axis=-1) / np.sum(probabilities, axis=-1)
    for _ in range(sweeps):
        weights = probabilities * np.where(values < found[..., None], 1 - tau, tau)
        found = np.sum(weights * values, axis=-1) / np.sum(weights, axis=-1)
    return found


def scores(found: np.ndarray, least: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    """How well `found` is the least next value.

    Args:
      found: `D(s)`, `[N]`.
      least: The minimum over successors, `[N]`.
      mean: The mean over the same successors, `[N]`: what an estimate without any pessimism would find.

    Returns:
      `pearson` and `spearman`, correlations over states (NaN where one of the two is constant); `bias`, mean of
      `found - least`; `gap`, mean of `mean - least`; `share` of the gap that is crossed, 0 at the mean, 1 at the
      minimum, above 1 below it.

    >>> scores(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0]), np.array([4.0, 5.0, 6.0]))["share"]
    0.75
    """
    found, least, mean = (np.asarray(x, float) for x in (found, least, mean))
    still = min(np.ptp(found), np.ptp(least)) < 1e-9
    gap = float(np.mean(mean - least))
    return {
        "pearson": float("nan") if still else float(stats.pearsonr(found, least)[0]),
        "spearman": float("nan") if still else float(stats.spearmanr(found, least)[0]),
        "bias": float(np.mean(found - least)),
        "gap": gap,
        "share": float(np.mean(mean - found)) / gap if gap > 1e-9 else float("nan"),
    }
