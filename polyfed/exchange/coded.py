"""What changed since the broadcast, in one row per client, and the form in which it goes over the wire."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from polyfed.leaves import is_floating
from polyfed.types import Payload

PLACE = 4  # bytes of a place


class Coded(eqx.Module):
    """The changes of clients, coded: one number for each, of as few bytes as it takes.

    >>> Coded(jnp.zeros((3, 1000), jnp.float16)).numbers.shape
    (3, 1000)
    """

    numbers: Array  # [C, n], float32, float16 or int8; 0 where nothing changed
    scales: Any = ()  # [C, blocks], float32: what whole numbers are multiples of


def changes(payload: Payload, broadcast: Payload) -> Float[Array, "C n"]:
    """What each client's floating-point numbers changed by since the broadcast, all leaves in one row.

    >>> changes({"w": jnp.ones((2, 3)), "n": jnp.ones(2, jnp.int32)}, {"w": jnp.zeros(3), "n": jnp.int32(0)}).shape
    (2, 3)
    """
    pairs = zip(jax.tree.leaves(payload), jax.tree.leaves(broadcast), strict=True)
    return jnp.concatenate([(x - b).reshape(len(x), -1) for x, b in pairs if is_floating(x)], axis=1)


def changed(payload: Payload, broadcast: Payload, rows: Float[Array, "C n"]) -> Payload:
    """The broadcast changed by these rows, in place of `payload`, whose whole numbers stay.

    >>> payload, broadcast = {"w": jnp.full((2, 3), 5.0)}, {"w": jnp.ones(3)}
    >>> changed(payload, broadcast, changes(payload, broadcast))["w"].tolist() == payload["w"].tolist()
    True
    """
    leaves, form = jax.tree.flatten(payload)
    bases, start, found = jax.tree.leaves(broadcast), 0, []
    for x, b in zip(leaves, bases, strict=True):
        if is_floating(x):
            size = math.prod(x.shape[1:])
            x = (b + rows[:, start : start + size].reshape(x.shape)).astype(x.dtype)
            start += size
        found.append(x)
    return jax.tree.unflatten(form, found)


def gathered(row: Array, count: int) -> tuple[Int[Array, " k"], Array]:
    """A row of which at most `count` numbers are not 0, as those numbers and their places, which rise.

    >>> places, numbers = gathered(jnp.array([0, 0, -7, 0, 3], jnp.int8), 3)
    >>> places.tolist(), numbers.tolist()
    ([0, 2, 4], [0, -7, 3])
    """
    there = row != 0
    if is_floating(row):
        there |= jnp.signbit(row)  # -0 is sent too, so that not even the sign of a 0 differs
    _, places = jax.lax.top_k(there.astype(jnp.int32), count)
    places = jnp.sort(places).astype(jnp.uint32)
    return places, row[places]


def scattered(places: Int[Array, " k"], numbers: Array, size: int) -> Array:
    """The row of `size` numbers of which `gathered` gave these.

    >>> scattered(jnp.array([0, 2, 4]), jnp.array([0, -7, 3], jnp.int8), 5).tolist()
    [0, 0, -7, 0, 3]
    """
    return jnp.zeros(size, numbers.dtype).at[places].set(numbers)
