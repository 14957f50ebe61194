"""Masks: whole numbers modulo 2^32 that hide a message, and vanish from the sum of all (Bonawitz et al. 2017, sec. 4).

References: bonawitz2017secure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polyfed.exchange.secure_sum.ciphers import key_stream


def mask(seed: bytes, num_values: int) -> np.ndarray:
    """`[D]` uint32 from a seed of 256 bits: the key stream of ChaCha20, four bytes a number, little-endian.

    >>> mask(bytes(32), 2).tolist() == np.frombuffer(key_stream(bytes(32), 8), "<u4").tolist()
    True
    """
    return np.frombuffer(key_stream(seed, 4 * num_values), np.dtype("<u4")).astype(np.uint32)


def pair_mask(place: int, seeds: Mapping[int, bytes], num_values: int) -> np.ndarray:
    """What the client at `place` adds on account of the others: of every pair the lower adds, the higher subtracts.

    Args:
      place: The client's own.
      seeds: By place of the other, the seed on which the two agreed.
      num_values: `D`.

    >>> one, other = pair_mask(0, {1: bytes(32)}, 3), pair_mask(1, {0: bytes(32)}, 3)
    >>> (one + other).tolist()
    [0, 0, 0]
    """
    total = np.zeros(num_values, np.uint32)
    for other, seed in seeds.items():
        if place < other:
            total += mask(seed, num_values)
        else:
            total -= mask(seed, num_values)
    return total
