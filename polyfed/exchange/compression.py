"""Fewer bytes per message."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.checks import in_range
from polyfed.exchange.transform import Transform, WireSize
from polyfed.leaves import is_floating
from polyfed.types import Payload, Update

BLOCK = 512  # numbers that share a scale


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


class HalfPrecision(Transform):
    """Sends what changed since the broadcast as IEEE half-precision numbers: two bytes each instead of four.

    The error is at most 2^-11 of a change, or 3e-8 where that is more; a change beyond ±65504 saturates there.

    >>> HalfPrecision().wire(WireSize(values=1000)).total
    2000
    """

    compresses: ClassVar[bool] = True

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Round each client's difference to the broadcast."""
        del key
        largest = jnp.finfo(jnp.float16).max.astype(jnp.float32)

        def rounded(x: jax.Array, b: jax.Array) -> jax.Array:
            if not is_floating(x):
                return x
            delta = jnp.clip(x - b, -largest, largest)
            return b + delta.astype(jnp.float16).astype(x.dtype)

        return Update(jax.tree.map(rounded, update.payload, broadcast), update.weight), state

    def wire(self, size: WireSize) -> WireSize:
        """Two bytes for a number."""
        return dataclasses.replace(size, each=min(size.each, 2))


class Int8(Transform):
    """Sends what changed since the broadcast as whole numbers from -127 to 127 with a scale for 512 of them.

    QSGD with blocks and their largest number (Alistarh et al. 2017, sec. 3 and 4): `s floor(d / s + u)`, where
    `s = max|d| / 127` and `u` is uniform on [0, 1), so that it is right on average. A number is off by less than `s`.

    >>> update = Update(payload=jnp.array([[1.0, 0.5, 0.0]]), weight=jnp.ones(1))
    >>> sent, _ = Int8().upload((), update, jnp.zeros(3), jax.random.key(0))
    >>> bool(jnp.all(abs(sent.payload - update.payload) <= 1 / 127))
    True
    >>> Int8().wire(WireSize(values=1000)).total
    1008
    """

    compresses: ClassVar[bool] = True

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Round each client's difference to the broadcast, up or down by chance."""

        def rounded(row: Float[Array, " n"], key: PRNGKeyArray) -> Float[Array, " n"]:
            blocks = jnp.pad(row, (0, -len(row) % BLOCK)).reshape(-1, BLOCK)
            step = jnp.maximum(jnp.max(jnp.abs(blocks), axis=1, keepdims=True) / 127, 1e-30)
            whole = jnp.floor(blocks / step + jax.random.uniform(key, blocks.shape))
            return (jnp.clip(whole, -127, 127) * step).reshape(-1)[: len(row)]

        rows = changes(update.payload, broadcast)
        rows = jax.vmap(rounded)(rows, jax.random.split(key, len(rows)))
        return Update(changed(update.payload, broadcast, rows), update.weight), state

    def wire(self, size: WireSize) -> WireSize:
        """A byte for a number, and a scale of four for a block."""
        scales = 4 * -(-size.values // BLOCK)
        return dataclasses.replace(size, each=1, beside=size.beside + scales)


class TopK(Transform):
    """Sends the largest changes since the broadcast, and keeps what it did not send for the next time.

    Error feedback (Seide et al. 2014; Stich et al. 2018, algorithm 1): of `d + e` a client sends the share `fraction`
    that is largest in magnitude, and `e` becomes the rest. The sent numbers go with their places, four bytes each. A
    client that is absent keeps its `e`; what is lost behind this transform is lost.

    >>> part, payload = TopK(fraction=0.25), jnp.array([[0.1, 4.0, -0.3, 0.2]])
    >>> update = Update(payload, jnp.ones(1))
    >>> sent, kept = part.upload(part.init(payload[0], 1), update, jnp.zeros(4), jax.random.key(0))
    >>> sent.payload.tolist(), kept.round(1).tolist()
    ([[0.0, 4.0, 0.0, 0.0]], [[0.10000000149011612, 0.0, -0.30000001192092896, 0.20000000298023224]])
    >>> part.wire(WireSize(values=1000)).total
    2000
    """

    compresses: ClassVar[bool] = True

    fraction: float = eqx.field(default=0.1, static=True)  # of the numbers, above 0 to 1

    def check(self) -> None:
        """Raise `ValueError` unless some numbers are sent."""
        in_range("transforms.fraction", self.fraction, 1e-6, 1.0)

    def _sent(self, values: int) -> int:
        return min(values, max(1, math.ceil(self.fraction * values)))

    def init(self, payload: Payload, num_clients: int) -> Float[Array, "C n"]:
        """Nothing is owed at first."""
        size = sum(int(np.prod(jnp.shape(x))) for x in jax.tree.leaves(payload) if is_floating(x))
        return jnp.zeros((num_clients, size), jnp.float32)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Send the largest, and remember the others."""
        del key
        rows = changes(update.payload, broadcast) + state

        def largest(row: Float[Array, " n"]) -> Float[Array, " n"]:
            _, where = jax.lax.top_k(jnp.abs(row), self._sent(len(row)))
            return jnp.zeros_like(row).at[where].set(row[where])

        sent = jax.vmap(largest)(rows)
        owed = jnp.where(update.weight[:, None] > 0, rows - sent, state)
        return Update(changed(update.payload, broadcast, sent), update.weight), owed

    def wire(self, size: WireSize) -> WireSize:
        """The numbers that are sent, and four bytes for the place of each."""
        values = self._sent(size.values) if size.values else 0
        return dataclasses.replace(size, values=values, beside=size.beside + 4 * values)
