"""Optimal transport between two small sets of units, exact, by shortest augmenting paths (Jonker & Volgenant 1987).

Masses are whole numbers, so the plan is exact and the search ends; units of mass 0 are as if they were not there, which
is how sets of a size known only at run time are padded. Costs are added up in float64.

References: jonker1987assignment, edmonds1972flow.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int

TIE = 1e-12  # of the largest cost: plans closer than this cost the same


class _Paths(NamedTuple):
    """Shortest paths from one source, as far as they are known."""

    to_target: Array  # [m] distance of every target
    from_source: Array  # [m] the source before it on the path
    scanned: Array  # [m] bool, its distance is final
    to_source: Array  # [n] distance of every source that was seen
    from_target: Array  # [n] the target before it on the path
    seen: Array  # [n] bool
    pending: Array  # [n] bool, seen, and its targets not looked at yet
    source: Array  # the one to look from next
    end: Array  # the nearest target with room; m while it is not found


class _Flow(NamedTuple):
    """What has been transported, and prices under which no pair is cheaper than its prices say."""

    plan: Array  # [n, m]
    supply: Array  # [n] still to be sent
    room: Array  # [m] still to be received
    source_price: Array  # [n]
    target_price: Array  # [m]


def _first(mask: Array) -> Array:
    """Index of the first True; the length when there is none. (An argmax inside 64-bit types cannot be compiled.)"""
    return jnp.min(jnp.where(mask, jnp.arange(mask.shape[0], dtype=jnp.int32), mask.shape[0]))


def _search(cost: Array, alive: Array, flow: _Flow, root: Array) -> _Paths:
    """Dijkstra from the source `root` over reduced costs, until a target with room is reached.

    Args:
      cost: `[n, m]` finite.
      alive: `[m]` bool, targets that take part.
      flow: The flow so far; it may be rerouted at its own price.
      root: A source with supply left, or n: then there is nothing to search for.
    """
    n, m = cost.shape
    targets, sources = jnp.arange(m, dtype=jnp.int32), jnp.arange(n, dtype=jnp.int32)

    def step(paths: _Paths) -> _Paths:
        i, open_ = paths.source, alive & ~paths.scanned
        through = paths.to_source[i] + cost[i] - flow.source_price[i] - flow.target_price
        better = open_ & (through < paths.to_target)
        to_target = jnp.where(better, through, paths.to_target)
        from_source = jnp.where(better, i, paths.from_source)
        pending = paths.pending & (sources != i)
        scan = ~jnp.any(pending)  # sources that wait are nearer than any target that does
        nearest = jnp.min(jnp.where(open_, to_target, jnp.inf))
        rank = targets + jnp.where(flow.room > 0, 0, m).astype(jnp.int32)  # of equals one with room
        j = jnp.min(jnp.where(open_ & (to_target == nearest), rank, 2 * m)) % m
        found = scan & (flow.room[j] > 0)
        new = scan & ~found & (flow.plan[:, j] > 0) & ~paths.seen
        pending = pending | new
        following = _first(pending)
        return _Paths(
            to_target=to_target,
            from_source=from_source,
            scanned=paths.scanned | (scan & (targets == j)),
            to_source=jnp.where(new, nearest, paths.to_source),
            from_target=jnp.where(new, j, paths.from_target).astype(jnp.int32),
            seen=paths.seen | new,
            pending=pending,
            source=jnp.where(following < n, following, i).astype(jnp.int32),
            end=jnp.where(found, j, paths.end).astype(jnp.int32),
        )

    nowhere = flow.target_price - flow.target_price  # zeros that are data, as a loop under `shard_map` wants them
    start = _Paths(
        to_target=nowhere + jnp.inf,
        from_source=flow.room - flow.room,
        scanned=nowhere > 0,
        to_source=flow.source_price - flow.source_price,
        from_target=flow.supply - flow.supply,
        seen=sources == root,
        pending=sources == root,
        source=jnp.minimum(root, n - 1),
        end=jnp.where(root < n, m, 0).astype(jnp.int32),
    )
    return lax.while_loop(lambda paths: paths.end == m, step, start)


def _path(paths: _Paths, root: Array, num_sources: int) -> tuple[Array, Array]:
    """The path to the end, backwards: `[n]` bool, which sources are on it; `[n]`, the target each of them sends to."""
    sources = jnp.arange(num_sources, dtype=jnp.int32)

    def back(walk: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        j, on_path, sends_to, _ = walk
        i = paths.from_source[j]
        return paths.from_target[i], on_path | (sources == i), jnp.where(sources == i, j, sends_to), i == root

    nothing = root >= num_sources
    start = (paths.end, paths.seen & False, paths.from_target - paths.from_target, nothing)
    _, on_path, sends_to, _ = lax.while_loop(lambda walk: ~walk[-1], back, start)
    return on_path, sends_to


def _augment(cost: Array, alive: Array, flow: _Flow) -> _Flow:
    """One shortest path more: as much as fits along it, and prices that keep every reduced cost at 0 or above."""
    n, m = cost.shape
    sources, targets = jnp.arange(n, dtype=jnp.int32), jnp.arange(m, dtype=jnp.int32)
    root = jnp.where(jnp.any(flow.room > 0), _first(flow.supply > 0), n).astype(jnp.int32)
    paths = _search(cost, alive, flow, root)
    length = paths.to_target[paths.end]
    on_path, sends_to = _path(paths, root, n)
    rerouted = on_path & (sources != root)
    taken_back = jnp.where(rerouted, flow.plan[sources, paths.from_target], jnp.iinfo(jnp.int32).max)
    size = jnp.minimum(jnp.minimum(flow.supply[root], flow.room[paths.end]), jnp.min(taken_back))
    size = jnp.where(root < n, size, 0)
    more = on_path[:, None] & (targets == sends_to[:, None])
    less = rerouted[:, None] & (targets == paths.from_target[:, None])
    return _Flow(
        plan=flow.plan + size * (more.astype(jnp.int32) - less.astype(jnp.int32)),
        supply=flow.supply - jnp.where(sources == root, size, 0),
        room=flow.room - jnp.where(targets == paths.end, size, 0),
        source_price=flow.source_price + jnp.where(paths.seen, length - paths.to_source, 0),
        target_price=flow.target_price - jnp.where(paths.scanned, length - paths.to_target, 0),
    )


@jax.jit
def transport_plan(cost: ArrayLike, source: ArrayLike, target: ArrayLike) -> Int[Array, "n m"]:
    """The cheapest way to bring the masses of the sources to the targets.

        argmin_P sum_ij P_ij C_ij,    P >= 0,    P 1 = source,    P^T 1 = target

    One source after another sends its mass along shortest paths, rerouting what was sent before (Jonker & Volgenant
    1987, with capacities as in Edmonds & Karp 1972): `O(n m)` steps of `O(n + m)` for an assignment. Where the masses
    are equal place by place and nothing is cheaper than to leave all mass in its place, it stays.

    Args:
      cost: `[n, m]`. What is not finite counts as dear as the largest finite cost. Between units of mass 0 anything.
      source: `[n]` whole numbers, not negative; 0 is padding. In all below `2^31`.
      target: `[m]`, of the same total. If the totals differ, what fits is sent, not necessarily at the lowest cost.

    Returns:
      `[n, m]` whole numbers (int32); the rows sum to `source`, the columns to `target`.

    Example:
      >>> transport_plan([[9.0, 1.0], [2.0, 9.0]], [1, 1], [1, 1]).tolist()
      [[0, 1], [1, 0]]
      >>> transport_plan([[0.0, 1.0, 5.0], [5.0, 1.0, 0.0]], [3, 3], [2, 2, 2]).tolist()
      [[2, 1, 0], [0, 1, 2]]
    """
    with jax.enable_x64(True):
        cost = jnp.asarray(cost).astype(jnp.float64)
        zero = jnp.isnan(cost[0, 0]).astype(jnp.int32) * 0
        source = jnp.asarray(source).astype(jnp.int32) + zero
        target = jnp.asarray(target).astype(jnp.int32) + zero
        finite = jnp.isfinite(cost) & (source[:, None] > 0) & (target > 0)
        largest = jnp.max(jnp.where(finite, cost, -jnp.inf))
        cost = jnp.where(finite, cost, jnp.where(jnp.isfinite(largest), largest, 0))
        target_price = jnp.min(jnp.where(source[:, None] > 0, cost, cost.max()), axis=0)
        reduced = jnp.where(target > 0, cost - target_price, jnp.inf)
        source_price = jnp.min(reduced, axis=1)
        flow = _Flow(
            plan=(cost > jnp.inf).astype(jnp.int32),
            supply=source,
            room=target,
            source_price=jnp.where(jnp.isfinite(source_price), source_price, 0),
            target_price=target_price,
        )
        flow = lax.while_loop(
            lambda flow: jnp.any(flow.supply > 0) & jnp.any(flow.room > 0),
            lambda flow: _augment(cost, target > 0, flow),
            flow,
        )
        return _staying(cost, source, target, flow.plan)


def _staying(cost: Array, source: Array, target: Array, plan: Array) -> Array:
    """The plan that moves nothing, if there is one and it costs no more; else the plan."""
    n, m = cost.shape
    stay = jnp.where(jnp.arange(n)[:, None] == jnp.arange(m), source[:, None], 0).astype(jnp.int32)
    possible = jnp.all(jnp.sum(stay, axis=0) == target) & jnp.all(jnp.sum(stay, axis=1) == source)
    gain = jnp.sum((stay - plan) * cost)
    tie = TIE * jnp.max(jnp.abs(cost)) * jnp.sum(source)
    return jnp.where(possible & (gain <= tie), stay, plan)


def uniform_masses(
    num_sources: int, num_targets: int, *, source_width: ArrayLike | None = None, target_width: ArrayLike | None = None
) -> tuple[Int[Array, " n"], Int[Array, " m"]]:
    """Equal masses on the first units of both sides, as whole numbers of one total: `b` on each of `a` sources,
    `a` on each of `b` targets.

    Args:
      num_sources: `n`, the length of the arrays.
      num_targets: `m`.
      source_width: `a`, how many sources there are, at most n (more counts as n); none: all n. It may be traced.
      target_width: `b`, likewise.

    Returns:
      `([n], [m])`, 0 beyond the widths.

    Example:
      >>> [masses.tolist() for masses in uniform_masses(3, 4, source_width=2)]
      [[4, 4, 0], [2, 2, 2, 2]]
    """
    a = jnp.minimum(num_sources if source_width is None else source_width, num_sources).astype(jnp.int32)
    b = jnp.minimum(num_targets if target_width is None else target_width, num_targets).astype(jnp.int32)
    return jnp.where(jnp.arange(num_sources) < a, b, 0), jnp.where(jnp.arange(num_targets) < b, a, 0)


def product(x: Float[Array, "n k"], y: Float[Array, "k m"]) -> Float[Array, "n m"]:
    """`x y` that stays float64 when it is vmapped where 64-bit types are off, which `x @ y` does not.

    Example:
      >>> product(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]])).tolist()
      [[11.0]]
    """
    return lax.dot_general(x, y, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def squared_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """`|x_i - y_j|^2`, by one matrix product about the mean of `y`; not below 0.

    Example:
      >>> squared_distances(jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.array([[0.0, 0.0]])).tolist()
      [[0.0], [25.0]]
    """
    centre = jnp.mean(y, axis=0)
    x, y = x - centre, y - centre
    return jnp.maximum(jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1) - 2 * product(x, y.T), 0)
