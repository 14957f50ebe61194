"""Planning in finite Markov decision processes with known transitions: the oracles of the tabular experiments.

State and action axes come first and any batch of instances last (`[S, A, S, N]`): the instances fill the vector units,
and one instance is just `[S, A, S]`. Precision follows the arrays; a fixed point to 1e-6 takes float64, which is made
inside `jax.enable_x64(True)`.

References: jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MAX_UNROLLED = 32  # states or actions up to which loops are unrolled, so that they run along the instances


def contract(first: Array, second: Array, axis: int) -> Array:
    """The sum of products along an axis; short ones term by term, twenty times as fast as a reduction on a CPU.

    >>> contract(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]]), axis=1).tolist()
    [11.0]
    """
    if first.shape[axis] > MAX_UNROLLED:
        return jnp.sum(first * second, axis=axis)
    return functools.reduce(jnp.add, [a * b for a, b in zip(_slices(first, axis), _slices(second, axis), strict=True)])


def highest(values: Array, axis: int) -> Array:
    """The largest along an axis; short ones term by term, see `contract`.

    >>> highest(jnp.array([[1.0, 2.0]]), axis=1).tolist()
    [2.0]
    """
    if values.shape[axis] > MAX_UNROLLED:
        return jnp.max(values, axis=axis)
    return functools.reduce(jnp.maximum, _slices(values, axis))


def _slices(values: Array, axis: int) -> list[Array]:
    return [jax.lax.index_in_dim(values, i, axis, keepdims=False) for i in range(values.shape[axis])]


def inverse(matrix: Float[Array, "S S *N"]) -> Float[Array, "S S *N"]:
    """The inverse of diagonally dominant matrices, by Gauss-Jordan elimination in place, which then needs no pivots.

    `I - discount * P` is diagonally dominant for every stochastic `P` and `discount < 1`.

    >>> inverse(jnp.array([[2.0, 1.0], [1.0, 2.0]])).round(4).tolist()
    [[0.666700005531311, -0.33329999446868896], [-0.33329999446868896, 0.666700005531311]]
    """
    if matrix.shape[0] > MAX_UNROLLED:
        last = jnp.linalg.inv(jnp.moveaxis(matrix, (0, 1), (-2, -1)))
        return jnp.moveaxis(last, (-2, -1), (0, 1))
    for k in range(matrix.shape[0]):
        pivot = 1 / matrix[k, k]
        row, column = matrix[k] * pivot, matrix[:, k]
        matrix = (matrix - column[:, None] * row[None]).at[:, k].set(-column * pivot)
        matrix = jax.lax.optimization_barrier(matrix.at[k].set(row.at[k].set(pivot)))  # else XLA recomputes them all
    return matrix


def discounted_visits(
    policy: Float[Array, "S A *N"], transitions: Float[Array, "S A S *N"], discount: Any
) -> Float[Array, "S S *N"]:
    """`(I - discount * P_pi)^-1`: expected discounted visits of state `t` from state `s`, entry `[s, t]`.

    >>> visits = discounted_visits(jnp.ones((1, 1)), jnp.ones((1, 1, 1)), 0.9)
    >>> round(float(visits[0, 0]), 4)
    10.0
    """
    moves = jax.lax.optimization_barrier(contract(policy[:, :, None], transitions, axis=1))
    identity = jnp.eye(policy.shape[0], dtype=moves.dtype).reshape(*moves.shape[:2], *(1,) * (moves.ndim - 2))
    return inverse(identity - discount * moves)


def policy_values(
    policy: Float[Array, "S A *N"],
    transitions: Float[Array, "S A S *N"],
    rewards: Float[Array, "S A *N"],
    discount: Any,
) -> Float[Array, S * N]:
    """`V^pi = (I - discount * P_pi)^-1 r_pi`.

    >>> policy_values(jnp.ones((1, 1)), jnp.ones((1, 1, 1)), jnp.ones((1, 1)), 0.5).tolist()
    [2.0]
    """
    gain = contract(policy, rewards, axis=1)
    return contract(discounted_visits(policy, transitions, discount), gain[None], axis=1)


def state_distribution(
    policy: Float[Array, "S A *N"], transitions: Float[Array, "S A S *N"], start: Float[Array, S * N], discount: Any
) -> Float[Array, S * N]:
    """`d^pi = (1 - discount) * d_0 (I - discount * P_pi)^-1`, which sums to one.

    >>> stay = jnp.eye(2)[:, None, :]
    >>> state_distribution(jnp.ones((2, 1)), stay, jnp.array([0.25, 0.75]), 0.5).tolist()
    [0.25, 0.75]
    """
    return (1 - discount) * contract(start[:, None], discounted_visits(policy, transitions, discount), axis=0)


def objective(
    policy: Float[Array, "S A *N"],
    transitions: Float[Array, "K S A S *N"],
    rewards: Float[Array, "S A *N"],
    start: Float[Array, S * N],
    discount: Any,
) -> Float[Array, K * N]:
    """The value `E_{d_0} V^pi_k` of a policy in each of `K` environments; Jin et al. (2022) maximise its mean over `k`.

    >>> objective(jnp.ones((1, 1)), jnp.ones((3, 1, 1, 1)), jnp.ones((1, 1)), jnp.ones(1), 0.5).tolist()
    [2.0, 2.0, 2.0]
    """
    value = lambda one: contract(start, policy_values(policy, one, rewards, discount), axis=0)  # noqa: E731
    return jax.vmap(value)(transitions)


def backup(
    values: Float[Array, S * N],
    transitions: Float[Array, "S A S *N"],
    rewards: Float[Array, "S A *N"],
    discount: Any,
) -> Float[Array, "S A *N"]:
    """The Bellman backup `Q = r + discount * P V`.

    >>> backup(jnp.array([1.0, 3.0]), jnp.full((2, 1, 2), 0.5), jnp.zeros((2, 1)), 0.5).tolist()
    [[1.0], [1.0]]
    """
    return rewards + discount * contract(transitions, values[None, None], axis=2)


def worst_neighbour(values: Float[Array, S * N], neighbours: Bool[Array, "S S *N"]) -> Float[Array, S * N]:
    """`min_{x in N_s} V(x)` of every state `s`; where `N_s` is empty, 0.

    >>> worst_neighbour(jnp.array([1.0, 3.0]), jnp.array([[True, True], [False, True]])).tolist()
    [1.0, 3.0]
    """
    least = -highest(jnp.where(neighbours, -values[None], -jnp.inf), axis=1)
    return jnp.where(jnp.isfinite(least), least, jnp.zeros_like(least))


def robust_backup(
    values: Float[Array, S * N],
    transitions: Float[Array, "S A S *N"],
    rewards: Float[Array, "S A *N"],
    discount: Any,
    *,
    omega: Any,
    neighbours: Bool[Array, "S S *N"],
) -> Float[Array, "S A *N"]:
    """`Q = r + discount * ((1 - omega) * P V + omega * min_{N_s} V)` (Hwang and Hong 2025, the FedRQ update).

    It is the worst case over `{(1 - omega) * P(.|s,a) + omega * q}`, `q` any distribution on `N_s`; `omega = 0` gives
    `backup`.

    >>> values, half = jnp.array([1.0, 3.0]), jnp.full((2, 1, 2), 0.5)
    >>> robust_backup(values, half, jnp.zeros((2, 1)), 0.5, omega=0.5, neighbours=jnp.ones((2, 2), bool)).tolist()
    [[0.75], [0.75]]
    """
    expected = contract(transitions, values[None, None], axis=2)
    worst = worst_neighbour(values, neighbours)[:, None]
    return rewards + discount * ((1 - omega) * expected + omega * worst)


def value_iteration(
    transitions: Float[Array, "S A S *N"],
    rewards: Float[Array, "S A *N"],
    discount: float,
    *,
    tolerance: float = 1e-6,
) -> Float[Array, "S A *N"]:
    """The optimal `Q`, by Bellman backups until the bound on the distance to it is below `tolerance`.

    Of the mean transitions it is what QAvg converges to (Jin et al. 2022). The bound in the maximum norm after a sweep
    is `discount / (1 - discount)` times the last change; where precision ends before `tolerance`, sweeps stop after
    `ceil(log(1e-16) / log(discount))` more than the horizon needs.

    >>> value_iteration(jnp.ones((1, 2, 1)), jnp.array([[1.0, 0.0]]), 0.5).round(4).tolist()
    [[2.0, 1.0]]
    """
    neighbours = jnp.ones((transitions.shape[0],) * 2 + transitions.shape[3:], bool)
    return robust_value_iteration(transitions, rewards, discount, omega=0.0, neighbours=neighbours, tolerance=tolerance)


def robust_value_iteration(
    transitions: Float[Array, "S A S *N"],
    rewards: Float[Array, "S A *N"],
    discount: float,
    *,
    omega: Any,
    neighbours: Bool[Array, "S S *N"],
    tolerance: float = 1e-6,
) -> Float[Array, "S A *N"]:
    """The robust optimal `Q` over the covering set, by `robust_backup` to its fixed point (Hwang and Hong 2025).

    `Q* = r + discount * ((1 - omega) * P max Q* + omega * min_{N_s} max Q*)`, `P` the mean of the agents' transitions.
    See `value_iteration` for when it stops.

    >>> moves = jnp.array([[[0.5, 0.5]], [[0.5, 0.5]]])
    >>> rewards = jnp.array([[0.0], [1.0]])
    >>> robust_value_iteration(moves, rewards, 0.5, omega=1.0, neighbours=jnp.ones((2, 2), bool)).round(4).tolist()
    [[0.0], [1.0]]
    """
    enough = tolerance * (1 - discount) / max(discount, 1e-12)
    limit = 2 if discount == 0 else int(np.ceil(np.log(1e-16) / np.log(discount))) + 100

    def more(carry: tuple[Array, Array, Array]) -> Array:
        return (carry[1] > enough) & (carry[2] < limit)

    def sweep(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        q, _, sweeps = carry
        new = robust_backup(highest(q, axis=1), transitions, rewards, discount, omega=omega, neighbours=neighbours)
        return new, jnp.max(jnp.abs(new - q)), sweeps + 1

    q = jnp.zeros(transitions.shape[:2] + transitions.shape[3:], transitions.dtype)
    return jax.lax.while_loop(more, sweep, (q, jnp.full((), jnp.inf, q.dtype), jnp.zeros((), jnp.int32)))[0]


def greedy(q: Float[Array, "S A *N"]) -> Float[Array, "S A *N"]:
    """The policy that takes the action of highest value, the first among equals, as probabilities.

    >>> greedy(jnp.array([[1.0, 2.0], [3.0, 3.0]])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    number = jnp.arange(q.shape[1], dtype=jnp.int32).reshape(1, -1, *(1,) * (q.ndim - 2))
    best = q == highest(q, axis=1)[:, None]
    first = -highest(jnp.where(best, -number, -q.shape[1]), axis=1)[:, None]
    return (number == first).astype(q.dtype)


def neighbour_sets(transitions: Float[Array, "K S A S *N"]) -> Bool[Array, "S S *N"]:
    """`N_s`: the states that some action in some environment can lead to from `s`, the union of all supports.

    Hwang and Hong (2025) assume that the sets of all agents are equal; where they are not, the union is ours.

    >>> neighbour_sets(jnp.array([[[[1.0, 0.0]], [[1.0, 0.0]]], [[[0.5, 0.5]], [[1.0, 0.0]]]])).tolist()
    [[True, True], [True, False]]
    """
    return jnp.any(transitions > 0, axis=(0, 2))


def sample_successors(uniform: Float[Array, "S A *N"], transitions: Float[Array, "S A S *N"]) -> Int[Array, "S A *N"]:
    """A successor of every state and action, by inversion of the cumulated probabilities.

    Args:
      uniform: Numbers in [0, 1).
      transitions: Rows that sum to one; a successor of probability 0 is never drawn.

    >>> sample_successors(jnp.array([[0.2, 0.9]]), jnp.array([[[0.5, 0.5], [0.5, 0.5]]])).tolist()
    [[0, 1]]
    """
    below = jnp.sum(jnp.cumsum(transitions, axis=2) <= uniform[:, :, None], axis=2)
    number = jnp.arange(transitions.shape[2]).reshape(1, 1, -1, *(1,) * (transitions.ndim - 3))
    last = jnp.max(jnp.where(transitions > 0, number, 0), axis=2)  # rounding may leave the sum below one
    return jnp.minimum(below, last).astype(jnp.int32)
