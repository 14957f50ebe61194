"""Who takes part when: clients that join a federation after it has begun."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from polyfed.checks import whole_in_range


def first_rounds(joins: tuple[int, ...], num_clients: int) -> Int[np.ndarray, " C"]:
    """The first round in which each client takes part, `[C]`; none given: all are there from round 1.

    >>> first_rounds((), 2).tolist(), first_rounds((1, 51), 2).tolist()
    ([1, 1], [1, 51])
    """
    return np.asarray(joins, int) if joins else np.ones(num_clients, int)


def members(first: Int[np.ndarray, " C"], rounds: Int[np.ndarray, " R"]) -> Bool[np.ndarray, "R C"]:
    """Who takes part in which round.

    >>> members(np.array([1, 51]), np.array([50, 51])).tolist()
    [[True, False], [True, True]]
    """
    return np.asarray(first) <= np.asarray(rounds)[:, None]


def judged(first: Int[np.ndarray, " C"], rounds: Int[np.ndarray, " N"]) -> Bool[np.ndarray, "N C"]:
    """Whose policy counts in the evaluation after a round: who takes part in the next, so that all have a beginning.

    >>> judged(np.array([1, 51]), np.array([0, 49, 50])).tolist()
    [[True, False], [True, False], [True, True]]
    """
    return members(first, np.asarray(rounds) + 1)


def check_joins(joins: tuple[int, ...], num_clients: int, num_rounds: int) -> None:
    """Raise `ValueError` in one sentence unless every client joins in a round of the run, and one in the first.

    >>> check_joins((2, 3), num_clients=2, num_rounds=10)
    Traceback (most recent call last):
    ValueError: joins = (2, 3) leaves nobody for round 1: let at least one client join in it.
    """
    if not joins:
        return
    if len(joins) != num_clients:
        raise ValueError(
            f"joins has {len(joins)} rounds for {num_clients} clients, but everyone joins once: give one round for "
            "each, 1 for those that are there from the first."
        )
    for client, round_ in enumerate(joins):
        whole_in_range(f"joins[{client}]", round_, 1, num_rounds)
    if min(joins) > 1:
        raise ValueError(f"joins = {joins} leaves nobody for round 1: let at least one client join in it.")
