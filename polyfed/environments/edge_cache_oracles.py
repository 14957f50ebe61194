"""What a cache could have saved of a sequence of requests: LRU, LFU, Belady's MIN, and the optimum itself.

All here is NumPy on one sequence. A cache serves what it holds, then may keep what was requested or not (bypassing),
and may drop anything at any time; it can only take in what was requested just now.

References: belady1966, chrobak2012caching.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SLACK = 1e-4  # of the capacity: sizes add up in single precision

Hits = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Demand:
    """A sequence of requests, and the cache that meets them.

    >>> Demand(np.array([0, 1, 0]), np.ones(2), np.ones(3), capacity=1.0, num_slots=1).num_contents
    2
    """

    requests: NDArray[np.integer]  # [T], which content is asked for
    sizes: NDArray[np.floating]  # [N], of the contents
    savings: NDArray[np.floating]  # [T], what a hit would save
    capacity: float  # largest sum of the sizes of what is held
    num_slots: int  # largest number of contents that are held

    @property
    def num_contents(self) -> int:
        """`N`."""
        return len(self.sizes)

    def fits(self, held: set[int]) -> bool:
        """Whether these contents can be held together."""
        return len(held) <= self.num_slots and float(sum(self.sizes[list(held)])) <= self.capacity + SLACK

    def saved(self, hits: Hits) -> float:
        """What these hits save."""
        return float(np.sum(self.savings[hits]))


def next_requests(requests: NDArray[np.integer]) -> NDArray[np.int64]:
    """When each request's content is asked for again, `[T]`; `T` where it never is.

    >>> next_requests(np.array([0, 1, 0])).tolist()
    [2, 3, 3]
    """
    coming: dict[int, int] = {}
    following = np.full(len(requests), len(requests))
    for t in reversed(range(len(requests))):
        following[t] = coming.get(int(requests[t]), len(requests))
        coming[int(requests[t])] = t
    return following


def lru(demand: Demand) -> Hits:
    """Hits `[T]` of a cache that keeps every request and evicts the least recently used until it fits.

    >>> lru(Demand(np.array([0, 1, 2, 0, 2]), np.ones(3), np.ones(5), capacity=2.0, num_slots=2)).tolist()
    [False, False, False, False, True]
    """
    return _played(demand, lambda t, worth, content: t, bypassing=False)


def lfu(demand: Demand) -> Hits:
    """Hits `[T]` of a cache that keeps every request and evicts the least often used, of these the least recently.

    Uses are counted from the first request on, also while a content is not held ("perfect" LFU, Breslau et al. 1999).

    >>> lfu(Demand(np.array([0, 0, 1, 2, 0]), np.ones(3), np.ones(5), capacity=2.0, num_slots=2)).tolist()
    [False, True, False, False, True]
    """
    scale = 1.0 / (len(demand.requests) + 1)
    return _played(demand, lambda t, worth, content: np.floor(worth[content]) + 1 + t * scale, bypassing=False)


def belady(demand: Demand) -> Hits:
    """Hits `[T]` of Belady's MIN with bypassing: evict what is asked for last, and keep no request that comes later.

    With equal sizes no cache has more hits (Belady 1966), so it is the optimum where all hits save alike. Where they do
    not, or where sizes differ, it is a rule of thumb that sees the future: see `optimal_plan`.

    >>> belady(Demand(np.array([0, 1, 2, 0, 2]), np.ones(3), np.ones(5), capacity=2.0, num_slots=2)).tolist()
    [False, False, False, True, True]
    """
    following = next_requests(demand.requests)
    return _played(demand, lambda t, worth, content: -following[t], bypassing=True)


def optimal_plan(demand: Demand) -> Hits:
    """Whether to keep the content of each request until it is asked for again, `[T]`: the most that can be saved.

    A content that is asked for at `s` and next at `t` is a hit at `t` exactly if it is held from `s` on. So the optimum
    chooses among these intervals: max `sum_i saving_i x_i`, `x_i` 0 or 1, where at every time the intervals that run
    have sizes of at most `capacity` and number at most `num_slots`. It is exact for any sizes and savings, a problem
    that is NP-hard in general (Chrobak et al. 2012) and small here; with equal sizes the relaxation is integral. Solved
    by `scipy.optimize.milp` without a gap.

    Raises:
      ValueError: HiGHS found no optimum.

    >>> demand = Demand(np.array([0, 1, 2, 0, 2]), np.ones(3), np.array([1, 1, 1, 2, 1]), capacity=1.0, num_slots=1)
    >>> optimal_plan(demand).tolist()
    [True, False, False, False, False]
    """
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    num, following = len(demand.requests), next_requests(demand.requests)
    kept = np.zeros(num, bool)
    starts = np.flatnonzero(following < num)
    starts = starts[demand.savings[following[starts]] > 0]
    if not len(starts):
        return kept
    ends, sizes = following[starts], np.asarray(demand.sizes, np.float64)[demand.requests[starts]]
    lengths = ends - starts
    columns = np.repeat(np.arange(len(starts)), lengths)
    rows = np.concatenate([np.arange(s, t) for s, t in zip(starts, ends, strict=True)])
    running = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(num, len(starts)))
    crowded = np.flatnonzero(np.isin(np.arange(num) + 1, ends))  # where one ends next; no other time binds more
    running = running[crowded]
    solved = milp(
        -np.asarray(demand.savings, np.float64)[ends],
        constraints=[
            LinearConstraint(running @ sparse.diags(sizes), ub=demand.capacity + SLACK),
            LinearConstraint(running, ub=demand.num_slots),
        ],
        integrality=np.ones(len(starts)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "presolve": False},  # presolve would print on the console
    )
    if solved.x is None or not solved.success:
        raise ValueError(f"HiGHS found no optimum ({solved.message}), so there is none: ask for fewer requests.")
    kept[starts] = solved.x > 0.5
    return kept


def planned_hits(demand: Demand, kept: Hits) -> Hits:
    """Which requests are hits `[T]` if the contents of the requests `kept [T]` are held until they are asked for again.

    >>> planned_hits(Demand(np.array([0, 1, 0]), np.ones(2), np.ones(3), 1.0, 1), np.array([True, False, False]))
    array([False, False,  True])
    """
    hits = np.zeros(len(demand.requests), bool)
    ends = next_requests(demand.requests)[kept]
    hits[ends[ends < len(hits)]] = True
    return hits


def _played(
    demand: Demand, revalued: Callable[[int, NDArray[np.float64], int], float], *, bypassing: bool
) -> NDArray[np.bool_]:
    """Hits of a cache that evicts what is worth least until a request fits.

    Args:
      demand: Requests and cache.
      revalued: What a content is worth after its request, from the time, what all are worth so far, and the content.
      bypassing: Whether a request is passed by where something that is worth more would have to go for it.
    """
    worth, held = np.zeros(demand.num_contents), set[int]()
    hits = np.zeros(len(demand.requests), bool)
    for t, content in enumerate(demand.requests.tolist()):
        worth[content] = revalued(t, worth, content)
        hits[t] = content in held
        if hits[t] or not demand.fits({content}):
            continue
        staying = sorted(held, key=lambda other: worth[other])
        while not demand.fits({content, *staying}):
            staying.pop(0)
        gone = held.difference(staying)
        if not (bypassing and any(worth[other] > worth[content] for other in gone)):
            held = {content, *staying}
    return hits
