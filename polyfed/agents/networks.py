"""Multi-layer perceptrons with weights `[out, in]` (out-major: the canonical order in which a layer is flattened)."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh, "elu": jax.nn.elu}


def linear(layer: eqx.nn.Linear, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
    """`x W^T + b` over any leading axes."""
    return x @ layer.weight.T + layer.bias


class MLP(eqx.Module):
    """Fully connected layers; the last one is linear.

    Initial weights and biases are uniform in `±1/sqrt(in)` (the usual default of PyTorch and Equinox).

    >>> import jax
    >>> mlp = MLP(4, 2, hidden=(8, 8), activation="relu", key=jax.random.key(0))
    >>> mlp(jax.numpy.ones((3, 4))).shape
    (3, 2)
    """

    layers: tuple[eqx.nn.Linear, ...]
    activation: str = eqx.field(static=True)

    def __init__(self, in_size: int, out_size: int, *, hidden: tuple[int, ...], activation: str, key: PRNGKeyArray):
        sizes = (in_size, *hidden, out_size)
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            eqx.nn.Linear(a, b, dtype=jnp.float32, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.activation = activation

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](linear(layer, x))
        return linear(self.layers[-1], x)


class DuelingMLP(eqx.Module):
    """Action values as `V(s) + A(s, a) - mean_a A(s, a)` over a shared body (Wang et al. 2016, eq. 9).

    >>> import jax
    >>> net = DuelingMLP(4, 2, hidden=(8, 8), activation="relu", key=jax.random.key(0))
    >>> net(jax.numpy.ones((3, 4))).shape
    (3, 2)
    """

    body: MLP
    value: eqx.nn.Linear
    advantage: eqx.nn.Linear

    def __init__(self, in_size: int, out_size: int, *, hidden: tuple[int, ...], activation: str, key: PRNGKeyArray):
        k_body, k_value, k_advantage = jax.random.split(key, 3)
        self.body = MLP(in_size, hidden[-1], hidden=hidden[:-1], activation=activation, key=k_body)
        self.value = eqx.nn.Linear(hidden[-1], 1, dtype=jnp.float32, key=k_value)
        self.advantage = eqx.nn.Linear(hidden[-1], out_size, dtype=jnp.float32, key=k_advantage)

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        x = ACTIVATIONS[self.body.activation](self.body(x))
        advantage = linear(self.advantage, x)
        return linear(self.value, x) + advantage - jnp.mean(advantage, axis=-1, keepdims=True)
