"""Random numbers of one step, JAX's own to the last bit, made without a loop: on a CPU a loop of its own costs more
than everything else that acting does.

JAX runs the 20 rounds of Threefry-2x32 as a loop there, which is some microseconds per draw however little is drawn.
Written out they join the arithmetic around them.

References: salmon2011threefry.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry(key: UInt32[Array, " 2"], counts: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, sec. 5.3) of the blocks `(0, counts)`, both halves joined.

    >>> threefry(jnp.zeros(2, jnp.uint32), jnp.zeros((), jnp.uint32)) == jax.random.bits(jax.random.key(0), ())
    Array(True, dtype=bool)
    """
    schedule = key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY)
    left, right = jnp.broadcast_to(schedule[0], counts.shape), counts + schedule[1]
    for i in range(5):
        for turn in ROTATIONS[i % 2]:
            left = left + right
            right = left ^ ((right << np.uint32(turn)) | (right >> np.uint32(32 - turn)))
        left = left + schedule[(i + 1) % 3]
        right = right + schedule[(i + 2) % 3] + np.uint32(i + 1)
    return left ^ right


def uniform(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """`jax.random.uniform(key, shape)`: uniform in [0, 1), float32.

    >>> key = jax.random.key(3)
    >>> bool((uniform(key, (5,)) == jax.random.uniform(key, (5,))).all())
    True
    """
    words = jax.random.key_data(key)
    if words.shape != (2,):  # another generator than JAX's usual one
        return jax.random.uniform(key, shape, jnp.float32)
    bits = threefry(words, jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape))
    ones = (bits >> np.uint32(9)) | np.uint32(0x3F800000)  # 23 random bits behind the sign and exponent of 1
    return jax.lax.bitcast_convert_type(ones, jnp.float32) - 1.0


def normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """`jax.random.normal(key, shape)`: standard normal, float32.

    >>> key = jax.random.key(3)
    >>> bool((normal(key, (5,)) == jax.random.normal(key, (5,))).all())
    True
    """
    low = np.nextafter(np.float32(-1.0), np.float32(0.0), dtype=np.float32)
    between = jnp.maximum(low, uniform(key, shape) * (np.float32(1.0) - low) + low)
    return np.float32(math.sqrt(2)) * jax.lax.erf_inv(between)
