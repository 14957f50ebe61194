"""Worlds that move while clients live in them: where they are in every round, as data of the compiled round."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from polyfed.environments.world import Params
from polyfed.leaves import is_floating


class Move(eqx.Module):
    """Where worlds go, in a straight line from where they are.

    >>> Move(since=9, until=10, params=jnp.ones(3)).until
    10
    """

    since: int = eqx.field(static=True)  # the last round in which they are as before
    until: int = eqx.field(static=True)  # the first round in which they are there
    params: Params  # leaves as those of the worlds before


class Course(eqx.Module):
    """The worlds of round 0, and where they go, one move after another; without moves they stay as they are.

    A tree of its leaves' shapes: what stacks or picks worlds does so with a course.

    >>> course = Course.through({10: jnp.float32(1.0), 20: jnp.float32(3.0)})
    >>> [float(course.at(round_)) for round_ in (0, 10, 15, 20, 99)]
    [1.0, 1.0, 2.0, 3.0, 3.0]
    """

    params: Params
    moves: tuple[Move, ...] = ()

    @classmethod
    def through(cls, stations: Mapping[int, Params]) -> Course:
        """From station to station, `{round: worlds in it}` in order of rounds; as the first before it."""
        (first, params), *others = stations.items()
        rounds = [first, *(round_ for round_, _ in others)]
        moves = (Move(since, until, worlds) for since, (until, worlds) in zip(rounds, others, strict=False))
        return cls(params, tuple(moves))

    @property
    def rounds(self) -> tuple[int, ...]:
        """The rounds of the stations, none where worlds stay: in between they move in straight lines."""
        return tuple(sorted({r for move in self.moves for r in (move.since, move.until)}))

    def at(self, round_: int | Int[Array, ""]) -> Params:
        """The worlds of a round; at a station they are its own to the last bit."""
        params = self.params
        for move in self.moves:
            done = jnp.clip((round_ - move.since) / (move.until - move.since), 0.0, 1.0)
            params = jax.tree.map(functools.partial(_between, done), params, move.params)
        return params


def _between(done: Array, here: Any, there: Any) -> Array:
    """What lies between two leaves, `done` of the way; what is no number with a fraction jumps at the end."""
    on_the_way = here + done.astype(here.dtype) * (there - here) if is_floating(here) else here
    return jnp.where(done >= 1, there, on_the_way)
