"""Numbers with a fraction as whole numbers modulo 2^32, so that their sum is exact in whatever order it is taken.

    q_k = trunc(2^f a_k clip(d_k, -l, l)) mod 2^32,    sum_k a_k d_k / sum_k a_k  ~  2^-f signed(sum_k q_k) / sum_k a_k

with the changes `d_k` of client k, its weight `a_k` in (0, 1] and the limit `l`. Rounding is towards zero, so that no
change gets longer. A client's number is off by less than `2^-f`, the mean by less than `n 2^-f / sum_k a_k` and one
rounding of float32. The sum cannot overflow where `n l 2^f < 2^31`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, UInt32

from polyfed.aggregation.fold import fold_clients

MODULUS_BITS = 32
WEIGHT_BITS = 16  # a weight is so many bits after the point


def most_clients(limit: float, fraction_bits: int) -> int:
    """So many clients' numbers can be added without overflow; 0 where not even one fits.

    >>> most_clients(limit=8.0, fraction_bits=20)
    255
    """
    largest = int(limit * 2**fraction_bits) + 1
    return min((2 ** (MODULUS_BITS - 1) - 1) // largest, 2 ** (MODULUS_BITS - WEIGHT_BITS) - 1)


def whole_weights(weight: ArrayLike) -> UInt32[Array, " C"]:
    """Weights as whole numbers up to `2^16`, which the heaviest has; at least 1, or 0 where absent.

    Args:
      weight: `[C]`, any scale; what is not above 0 (NaN included) is absent.

    >>> whole_weights([2.0, 0.0, 1.0]).tolist()
    [65536, 0, 32768]
    """
    weight = jnp.asarray(weight, jnp.float32)
    weight = jnp.where(weight > 0, weight, 0)
    largest = jnp.max(weight)
    whole = jnp.maximum(jnp.rint(weight / jnp.where(largest > 0, largest, 1) * 2**WEIGHT_BITS), 1)
    return jnp.where(weight > 0, whole, 0).astype(jnp.uint32)


def encode(
    changes: Float[Array, "C D"], whole: UInt32[Array, " C"], limit: float, fraction_bits: int
) -> UInt32[Array, "C D"]:
    """Each client's weighted changes in fixed point, modulo `2^32`.

    Args:
      changes: `[C, D]` float32, finite; beyond `limit` they are cut there.
      whole: `[C]`, see `whole_weights`.
      limit: Of a number, above 0.
      fraction_bits: `f`.

    >>> encode(jnp.array([[0.5, -0.25, 900.0]]), whole_weights([1.0]), limit=8.0, fraction_bits=4).tolist()
    [[8, 4294967292, 128]]
    """
    scaled = jnp.clip(changes, -limit, limit) * 2.0**fraction_bits
    share = whole.astype(jnp.float32) * 2.0**-WEIGHT_BITS
    return jnp.trunc(scaled * share[:, None]).astype(jnp.int32).astype(jnp.uint32)


def sum_of(coded: UInt32[Array, "C D"], whole: UInt32[Array, " C"]) -> UInt32[Array, " D"]:
    """The sum modulo `2^32` over the clients that came, `whole > 0`.

    >>> sum_of(jnp.uint32([[8, 4294967292], [1, 1], [7, 7]]), jnp.uint32([1, 1, 0])).tolist()
    [9, 4294967293]
    """
    add = lambda k, total: total + jnp.where(whole[k] > 0, coded[k], 0)  # noqa: E731
    return fold_clients(add, jnp.zeros(coded.shape[1], jnp.uint32), coded.shape[0])


def decode(total: UInt32[Array, " D"], whole: UInt32[Array, " C"], fraction_bits: int) -> Float[Array, " D"]:
    """The weighted mean of the changes of the clients that came, from their sum; 0 where nobody came.

    Args:
      total: `[D]`, see `sum_of`.
      whole: `[C]`, 0 where absent.
      fraction_bits: `f`.

    >>> whole = whole_weights([1.0, 1.0, 0.0])
    >>> coded = encode(jnp.array([[1.0], [-4.0], [7.0]]), whole, limit=8.0, fraction_bits=20)
    >>> decode(sum_of(coded, whole), whole, fraction_bits=20).tolist()
    [-1.5]
    """
    signed = lax.bitcast_convert_type(total, jnp.int32).astype(jnp.float32) * 2.0**-fraction_bits
    weight = jnp.maximum(jnp.sum(whole, dtype=jnp.uint32), 1).astype(jnp.float32) * 2.0**-WEIGHT_BITS
    return signed / weight
