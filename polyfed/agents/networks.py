"""Multi-layer perceptrons with weights `[out, in]` (out-major: the canonical order in which a layer is flattened)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh, "elu": jax.nn.elu}


class Linear(eqx.Module):
    """`x W^T + b` over any leading axes."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        return (self.weight @ x if x.ndim == 1 else x @ self.weight.T) + self.bias


def linears(shapes: Sequence[tuple[int, int]], key: PRNGKeyArray) -> tuple[Linear, ...]:
    """Layers of shapes `(in, out)`, weights and biases uniform in `±1/sqrt(in)`, all from one draw.

    >>> [layer.weight.shape for layer in linears([(4, 8), (8, 2)], jax.random.key(0))]
    [(8, 4), (2, 8)]
    """
    sizes = [(a + 1) * b for a, b in shapes]
    draws = jnp.split(jax.random.uniform(key, (sum(sizes),), jnp.float32, -1.0, 1.0), np.cumsum(sizes)[:-1])
    return tuple(
        Linear(x[: a * b].reshape(b, a) / np.sqrt(a, dtype=np.float32), x[a * b :] / np.sqrt(a, dtype=np.float32))
        for x, (a, b) in zip(draws, shapes, strict=True)
    )


class MLP(eqx.Module):
    """Fully connected layers; the last one is linear.

    Initial weights and biases are uniform in `±1/sqrt(in)` (the usual default of PyTorch and Equinox).

    >>> import jax
    >>> mlp = MLP(4, 2, hidden=(8, 8), activation="relu", key=jax.random.key(0))
    >>> mlp(jax.numpy.ones((3, 4))).shape
    (3, 2)
    """

    layers: tuple[Linear, ...]
    activation: str = eqx.field(static=True)

    def __init__(self, in_size: int, out_size: int, *, hidden: tuple[int, ...], activation: str, key: PRNGKeyArray):
        sizes = (in_size, *hidden, out_size)
        self.layers = linears(list(itertools.pairwise(sizes)), key)
        self.activation = activation

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x)


class DuelingMLP(eqx.Module):
    """Action values as `V(s) + A(s, a) - mean_a A(s, a)` over a shared body (Wang et al. 2016, eq. 9).

    >>> import jax
    >>> net = DuelingMLP(4, 2, hidden=(8, 8), activation="relu", key=jax.random.key(0))
    >>> net(jax.numpy.ones((3, 4))).shape
    (3, 2)
    """

    body: MLP
    value: Linear
    advantage: Linear

    def __init__(self, in_size: int, out_size: int, *, hidden: tuple[int, ...], activation: str, key: PRNGKeyArray):
        k_body, k_heads = jax.random.split(key)
        self.body = MLP(in_size, hidden[-1], hidden=hidden[:-1], activation=activation, key=k_body)
        self.value, self.advantage = linears([(hidden[-1], 1), (hidden[-1], out_size)], k_heads)

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        x = ACTIVATIONS[self.body.activation](self.body(x))
        advantage = self.advantage(x)
        return self.value(x) + advantage - jnp.mean(advantage, axis=-1, keepdims=True)
