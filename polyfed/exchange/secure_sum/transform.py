"""A secure sum in a simulation: the server is shown what it would learn, the fixed-point mean of those who came.

References: bonawitz2017secure.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PRNGKeyArray, UInt32

from polyfed.checks import in_range, whole_in_range
from polyfed.exchange.compression import changed, changes
from polyfed.exchange.secure_sum.fixed_point import decode, encode, most_clients, sum_of, whole_weights
from polyfed.exchange.secure_sum.messages import bytes_beside
from polyfed.exchange.transform import Transform, WireSize
from polyfed.leaves import leaf_names
from polyfed.types import Payload, Update


class SecureSum(Transform):
    """Shows the server the sum of the clients' changes and no client's alone (Bonawitz et al. 2017).

    In a simulation nothing is masked: masks vanish from the sum, and what is left is computed as the protocol would,
    numbers in fixed point modulo 2^32, bit for bit the same. Every client that came gets the mean as its message, so
    that a linear rule gives just that; who knows the mean, the broadcast and who came knows what the server knows.

    A change counts up to `limit`, rounded towards zero to `2^-fraction_bits`, times the client's weight as a share of
    the heaviest in 16 bits. A client with a number that is not finite takes no part. Where not more than `threshold` of
    all clients come, nobody does. See `fixed_point` for what the rounding costs.

    >>> update = Update(payload=jnp.array([[1.0], [2.0], [6.0], [jnp.nan]]), weight=jnp.array([1.0, 1.0, 1.0, 0.0]))
    >>> part = SecureSum()
    >>> summed, _ = part.upload(part.init(jnp.zeros(1), 4), update, jnp.zeros(1), jax.random.key(0))
    >>> summed.payload.tolist(), summed.weight.tolist()
    ([[3.0], [3.0], [3.0], [3.0]], [1.0, 1.0, 1.0, 0.0])
    """

    sum_only: ClassVar[bool] = True
    loses: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True

    limit: float = eqx.field(default=8.0, static=True)  # of a number's change, either way
    fraction_bits: int = eqx.field(default=20, static=True)  # after the point
    threshold: float = eqx.field(default=2 / 3, static=True)  # share of all clients that must be exceeded, 0.5 to 0.99

    def check(self) -> None:
        """Raise `ValueError` where a field is out of range."""
        in_range("transforms.limit", self.limit, 1e-6, 2.0**20)
        whole_in_range("transforms.fraction_bits", self.fraction_bits, 1, 30, "bits")
        in_range("transforms.threshold", self.threshold, 0.5, 0.99)

    def check_clients(self, num_clients: int) -> None:
        """Raise `ValueError` where a sum would hide nobody, or could overflow.

        >>> SecureSum().check_clients(256)
        Traceback (most recent call last):
        ValueError: A sum modulo 2^32 of changes up to 8 in steps of 2^-20 is exact for at most 255 clients, but there \
are 256: lower transforms.limit or transforms.fraction_bits.
        """
        if num_clients < 2:
            raise ValueError(
                f"The sum of {num_clients} client's messages hides nothing: give 2 or more, or drop SecureSum."
            )
        most = most_clients(self.limit, self.fraction_bits)
        if num_clients > most:
            raise ValueError(
                f"A sum modulo 2^32 of changes up to {self.limit:g} in steps of 2^-{self.fraction_bits} is exact for "
                f"at most {most} clients, but there are {num_clients}: lower transforms.limit or "
                "transforms.fraction_bits."
            )

    def needed(self, num_clients: int) -> int:
        """So many must come.

        >>> [SecureSum().needed(n) for n in (2, 3, 5, 10)]
        [2, 3, 4, 7]
        """
        return math.floor(self.threshold * num_clients) + 1

    def init(self, payload: Payload, num_clients: int) -> Any:
        """Nothing to remember; raises `ValueError` where clients send what is not in float32, e.g. counts."""
        del num_clients
        for name, leaf in zip(leaf_names(payload), jax.tree.leaves(payload), strict=True):
            if jnp.result_type(leaf) != jnp.float32:
                raise ValueError(
                    f"SecureSum adds changes in float32, but of what clients send {name} is {jnp.result_type(leaf)}: "
                    "let them send parameters of one width or predictions, or drop SecureSum."
                )
        return ()

    def begun(self, update: Update, broadcast: Payload) -> tuple[UInt32[Array, "C D"], UInt32[Array, " C"]]:
        """What each client would put into the sum, and its whole weight, 0 where it cannot take part."""
        sane = jnp.all(jnp.isfinite(changes(update.payload, broadcast)), axis=1)
        whole = whole_weights(jnp.where(sane, update.weight, 0))
        return self.coded(update.payload, broadcast, whole), whole

    def coded(self, payload: Payload, broadcast: Payload, whole: UInt32[Array, " C"]) -> UInt32[Array, "C D"]:
        """The changes in fixed point; a client of a deployment passes a stack of one and its whole weight."""
        rows = changes(payload, broadcast)
        return encode(jnp.where(whole[:, None] > 0, rows, 0), whole, self.limit, self.fraction_bits)

    def known(
        self,
        payload: Payload,
        broadcast: Payload,
        total: UInt32[Array, " D"],
        whole: UInt32[Array, " C"],
        weight: ArrayLike,
    ) -> Update:
        """What the server knows after a sum: the mean in every row; nobody came where too few did.

        Not compiled it gives the bits that a compiled round gives; compiled alone it was seen to differ in the last.

        Args:
          payload: Leaves `[C, ...]`, for their shapes only.
          broadcast: Leaves `[...]`.
          total: `[D]`, see `fixed_point.sum_of`.
          whole: `[C]`, 0 where a client is not in the sum.
          weight: `[C]`, what those count that came.
        """
        count = len(whole)
        enough = jnp.sum(whole > 0) >= self.needed(count)
        mean = jnp.where(enough, decode(total, whole, self.fraction_bits), 0)
        rows = jnp.broadcast_to(mean, (count, len(mean)))
        return Update(changed(payload, broadcast, rows), jnp.where(enough & (whole > 0), jnp.asarray(weight), 0))

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """The mean, as every client's message."""
        del key
        coded, whole = self.begun(update, broadcast)
        return self.known(update.payload, broadcast, sum_of(coded, whole), whole, update.weight), state

    def wire(self, size: WireSize) -> WireSize:
        """Four bytes for every number, and keys and shares."""
        return dataclasses.replace(size, each=4, beside=size.beside + bytes_beside(size.clients)[0])

    def relayed(self, size: WireSize) -> int:
        """Bytes of keys and shares that the server passes on to each client."""
        return bytes_beside(size.clients)[1]
