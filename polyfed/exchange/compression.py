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
from polyfed.exchange.coded import Coded, changed, changes
from polyfed.exchange.transform import Transform, WireSize, client_keys
from polyfed.leaves import is_floating
from polyfed.types import Payload, Update

BLOCK = 512  # numbers that share a scale


def exact_scale(step: Float[Array, ...]) -> Float[Array, ...]:
    """A positive number, rounded up to 17 significant bits: its product with a whole number up to 127 is exact.

    So no processor, and no order of its operations, finds another bit in `b + w s`.

    >>> step = exact_scale(jnp.float32(0.1))
    >>> float(step), float(jnp.float32(77) * step) == 77 * float(step)
    (0.10000038146972656, True)
    """
    bits = jax.lax.bitcast_convert_type(step, jnp.uint32)
    rounded = jax.lax.bitcast_convert_type((bits + jnp.uint32(0x7F)) & ~jnp.uint32(0x7F), jnp.float32)
    return jnp.where(jnp.isfinite(step), rounded, step)


class HalfPrecision(Transform):
    """Sends what changed since the broadcast as IEEE half-precision numbers: two bytes each instead of four.

    The error is at most 2^-11 of a change, or 3e-8 where that is more; a change beyond ±65504 saturates there.

    >>> HalfPrecision().wire(WireSize(values=1000)).total
    2000
    """

    compresses: ClassVar[bool] = True

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Round each client's difference to the broadcast."""
        coded, state = self.encode(state, update, broadcast, key)
        return Update(changed(update.payload, broadcast, self.decode(coded)), update.weight), state

    def encode(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Coded, Any]:
        """The differences in half precision."""
        del key
        largest = jnp.finfo(jnp.float16).max.astype(jnp.float32)
        rows = jnp.clip(changes(update.payload, broadcast), -largest, largest)
        return Coded(rows.astype(jnp.float16)), state

    def decode(self, coded: Coded) -> Float[Array, "C n"]:
        """The same numbers in single precision."""
        return coded.numbers.astype(jnp.float32)

    def wire(self, size: WireSize) -> WireSize:
        """Two bytes for a number, whatever it was before."""
        return dataclasses.replace(size, each=2, beside=0)


class Int8(Transform):
    """Sends what changed since the broadcast as whole numbers from -127 to 127 with a scale for 512 of them.

    QSGD with blocks and their largest number (Alistarh et al. 2017, sec. 3 and 4): `s floor(d / s + u)`, where
    `s = max|d| / 127`, rounded up to 17 bits (see `exact_scale`), and `u` is uniform on [0, 1), so that it is right on
    average. A number is off by less than `s`.

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
        coded, state = self.encode(state, update, broadcast, key)
        return Update(changed(update.payload, broadcast, self.decode(coded)), update.weight), state

    def encode(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Coded, Any]:
        """Whole numbers `[C, n]` and the scale of each block of them."""

        def rounded(row: Float[Array, " n"], key: PRNGKeyArray) -> Coded:
            blocks = jnp.pad(row, (0, -len(row) % BLOCK)).reshape(-1, BLOCK)
            step = exact_scale(jnp.maximum(jnp.max(jnp.abs(blocks), axis=1, keepdims=True) / 127, 1e-30))
            whole = jnp.floor(blocks / step + jax.random.uniform(key, blocks.shape))
            return Coded(jnp.clip(whole, -127, 127).astype(jnp.int8).reshape(-1)[: len(row)], step[:, 0])

        rows = changes(update.payload, broadcast)
        return jax.vmap(rounded)(rows, client_keys(key, len(rows))), state

    def decode(self, coded: Coded) -> Float[Array, "C n"]:
        """Every whole number times the scale of its block."""
        size = coded.numbers.shape[1]
        return coded.numbers.astype(jnp.float32) * jnp.repeat(coded.scales, BLOCK, axis=1)[:, :size]

    def wire(self, size: WireSize) -> WireSize:
        """A byte for a number that is sent, and a scale of four for a block of all."""
        return dataclasses.replace(size, each=1, beside=4 * -(-size.numbers // BLOCK))


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

    def init(self, payload: Payload, num_clients: int) -> Float[Array, "C n"]:
        """Nothing is owed at first."""
        size = sum(int(np.prod(jnp.shape(x))) for x in jax.tree.leaves(payload) if is_floating(x))
        return jnp.zeros((num_clients, size), jnp.float32)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Send the largest, and remember the others."""
        coded, state = self.encode(state, update, broadcast, key)
        return Update(changed(update.payload, broadcast, self.decode(coded)), update.weight), state

    def encode(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Coded, Any]:
        """The largest as they are, 0 in the place of the others, which are owed."""
        del key
        rows = changes(update.payload, broadcast) + state

        def largest(row: Float[Array, " n"]) -> Float[Array, " n"]:
            _, where = jax.lax.top_k(jnp.abs(row), self.kept(len(row)))
            return jnp.zeros_like(row).at[where].set(row[where])

        sent = jax.vmap(largest)(rows)
        return Coded(sent), jnp.where(update.weight[:, None] > 0, rows - sent, state)

    def kept(self, numbers: int) -> int:
        """The share that is sent, one at least."""
        return min(numbers, max(1, math.ceil(self.fraction * numbers)))

    def wire(self, size: WireSize) -> WireSize:
        """The numbers that are sent, whole again with what was owed, and four bytes for the place of each."""
        return dataclasses.replace(size, values=self.kept(size.values), each=4, beside=0, of=size.numbers)
