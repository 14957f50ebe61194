"""Shares of a secret, of which a few tell nothing and enough tell all (Shamir 1979).

Python's whole numbers do the arithmetic. It does not take the same time for all numbers, which matters only to who can
time a client's processor.

References: shamir1979share.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping

PRIME = 2**256 + 297  # the smallest above all secrets
SECRET_BYTES = 32
SHARE_BYTES = 36  # 257 bits and what fills up to whole numbers of 32


def shares_of(secret: bytes, threshold: int, num_shares: int) -> list[bytes]:
    """`f(1) .. f(n)` of `f(x) = secret + a_1 x + .. + a_{t-1} x^{t-1}` modulo a prime, the `a` drawn by chance.

    Args:
      secret: 32 bytes.
      threshold: `t`, shares that tell the secret; any `t - 1` of them are as if drawn by chance.
      num_shares: `n`, from `t` to 2^16.

    Raises:
      ValueError: A number is out of range.

    >>> shares = shares_of(bytes(range(32)), threshold=2, num_shares=3)
    >>> secret_of({1: shares[0], 3: shares[2]}) == bytes(range(32))
    True
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"A secret of {len(secret)} bytes cannot be shared: give {SECRET_BYTES} bytes.")
    if not 1 <= threshold <= num_shares <= 2**16:
        raise ValueError(
            f"{num_shares} shares of which {threshold} tell the secret cannot be: give a threshold from 1 to the "
            f"number of shares, and at most {2**16} shares."
        )
    coefficients = [int.from_bytes(secret, "little"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]

    def at(x: int) -> int:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * x + coefficient) % PRIME
        return value

    return [at(x).to_bytes(SHARE_BYTES, "little") for x in range(1, num_shares + 1)]


def secret_of(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from exactly as many shares as it takes, each under its `x`, counted from 1.

    Raises:
      ValueError: They are no shares of one secret of 32 bytes. Fewer than it takes tell this nearly never, more do not
        help: the caller counts.
    """
    value = 0
    for x, weight in _at_zero(tuple(shares)).items():
        share = int.from_bytes(shares[x], "little")
        if share >= PRIME:
            raise ValueError("A share is larger than shares are: ask for the shares again.")
        value = (value + weight * share) % PRIME
    if value >= 2 ** (8 * SECRET_BYTES):
        raise ValueError("The shares do not belong to one secret: ask for the shares again.")
    return value.to_bytes(SECRET_BYTES, "little")


@functools.lru_cache(maxsize=64)
def _at_zero(places: tuple[int, ...]) -> dict[int, int]:
    """Lagrange's weights: `f(0) = sum_x weight_x f(x)`."""
    weights = {}
    for x in places:
        above, below = 1, 1
        for other in places:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        weights[x] = above * pow(below, -1, PRIME) % PRIME
    return weights
