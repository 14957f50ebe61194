"""Keys on which two clients agree without meeting: one per round, pair and purpose (Bonawitz et al. 2017, sec. 3).

References: bonawitz2017secure.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from polyfed.exchange.secure_sum.ciphers import agreed, derived, new_private_key, public_key

Purpose = Literal["mask", "share"]

MARK = b"polyfed secure sum 1"


@dataclasses.dataclass(frozen=True)
class KeyPair:
    """A private key, which is never shown, and the public one.

    >>> pair = KeyPair.new()
    >>> len(pair.public), "private" in repr(pair)
    (32, False)
    """

    private: bytes = dataclasses.field(repr=False)
    public: bytes

    @classmethod
    def new(cls) -> KeyPair:
        """A fresh one."""
        private = new_private_key()
        return cls(private, public_key(private))


def pair_key(private: bytes, public: bytes, context: bytes, purpose: Purpose, pair: tuple[int, int]) -> bytes:
    """The 32 bytes that two clients, and nobody else, can derive.

    Args:
      private: The own private key.
      public: The other's public key.
      context: 32 bytes that belong to the round, so that no key serves in two.
      purpose: "mask": the seed of what one adds and the other subtracts; "share": what seals shares on their way.
      pair: Places of the two clients. For a mask the lower first; for a share first who seals it, so that each way
        has its own key.

    Raises:
      ValueError: The public key is no good, see `agreed`.

    >>> ann, bob = KeyPair.new(), KeyPair.new()
    >>> seed = pair_key(ann.private, bob.public, bytes(32), "mask", (0, 1))
    >>> seed == pair_key(bob.private, ann.public, bytes(32), "mask", (0, 1))
    True
    >>> seed == pair_key(bob.private, ann.public, bytes(32), "share", (0, 1))
    False
    """
    places = b"".join(place.to_bytes(4, "little") for place in pair)
    return derived(agreed(private, public), MARK + b"|" + purpose.encode() + b"|" + context + places)
