"""Histograms of any mass as shapes of mass 1, each with its say."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float


def shapes_and_voices(
    histograms: Float[Array, "K R n"], weights: Float[Array, "K R"]
) -> tuple[Float[Array, "K R n"], Float[Array, "K R"]]:
    """`(histograms / mass, weights / sum of the weights of those that have a mass)`.

    One without mass has no shape and no say: a flat shape, and 0. So has one whose weight is not above 0. A NaN stays.

    Example:
      >>> shapes, voices = shapes_and_voices(jnp.array([[[1.0, 3.0]], [[0.0, 0.0]]]), jnp.array([[2.0], [1.0]]))
      >>> shapes.tolist(), voices.tolist()
      ([[[0.25, 0.75]], [[0.5, 0.5]]], [[1.0], [0.0]])
    """
    mass = jnp.sum(histograms, axis=-1)
    heard = (weights > 0) & (mass != 0) | jnp.isnan(weights)
    total = jnp.sum(jnp.where(heard, weights, 0), axis=0)
    voices = jnp.where(heard, weights / jnp.where(total != 0, total, 1), 0)
    shapes = histograms / jnp.where(heard, mass, 1)[..., None]
    return jnp.where(heard[..., None], shapes, 1 / histograms.shape[-1]), voices


def float_type(values: ArrayLike) -> DTypeLike:
    """The type of the values, or JAX's default where they are no floats.

    Example:
      >>> float_type([1, 2])
      dtype('float32')
    """
    dtype = jnp.asarray(values).dtype
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
