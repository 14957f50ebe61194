"""Networks of policies and what is added to an `MLP` for them: activations per layer, a scale that sees no state."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.agents.action_distributions import Gaussian, Head
from polyfed.agents.networks import ACTIVATIONS, MLP, Linear


class Layers(eqx.Module):
    """Fully connected layers, each hidden one with an activation of its own; the last one is linear.

    >>> import jax
    >>> mlp = MLP(4, 2, hidden=(8, 6), activation="tanh", key=jax.random.key(0))
    >>> Layers(mlp.layers, ("tanh", "relu"))(jnp.ones((3, 4))).shape
    (3, 2)
    """

    layers: tuple[Linear, ...]
    activations: tuple[str, ...] = eqx.field(static=True)  # one per hidden layer

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        for layer, activation in zip(self.layers[:-1], self.activations, strict=True):
            x = ACTIVATIONS[activation](layer(x))
        return self.layers[-1](x)


class WithScale(eqx.Module):
    """A network of means, and the logarithm of a scale per entry that is the same in every state.

    >>> import jax
    >>> mean = MLP(4, 2, hidden=(8,), activation="tanh", key=jax.random.key(0))
    >>> WithScale(mean, log_scale=jnp.zeros(2))(jnp.ones((3, 4))).shape  # means and logarithms of scales
    (3, 4)
    """

    mean: Any  # observation -> mean
    log_scale: Float[Array, " size"]

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... two_size"]:
        """Apply to any leading axes."""
        mean = self.mean(x)
        return jnp.concatenate([mean, jnp.broadcast_to(self.log_scale, mean.shape)], axis=-1)


def policy_network(
    num_inputs: int,
    head: Head,
    *,
    hidden: tuple[int, ...],
    activation: str | tuple[str, ...],
    key: PRNGKeyArray,
    last: float = 1.0,
) -> Any:
    """A fresh network whose outputs `head` understands: an `MLP`, unless one of the two additions is asked for.

    Args:
      num_inputs: Entries of an observation.
      head: The distribution.
      hidden: Units per hidden layer.
      activation: Of all hidden layers, or one per hidden layer.
      key: Of the initial weights.
      last: Factor on the initial weights of the last layer, so that a policy may begin as good as undecided.

    >>> import jax
    >>> from polyfed.agents.action_distributions import Categorical
    >>> type(policy_network(4, Categorical(2), hidden=(8,), activation="relu", key=jax.random.key(0))).__name__
    'MLP'
    """
    name = activation if isinstance(activation, str) else activation[0]
    network: Any = MLP(num_inputs, head.num_outputs, hidden=hidden, activation=name, key=key)
    network = eqx.tree_at(lambda n: n.layers[-1].weight, network, replace_fn=lambda weight: last * weight)
    if not isinstance(activation, str):
        network = Layers(network.layers, activation)
    if isinstance(head, Gaussian) and head.scale == "parameter":
        network = WithScale(network, jnp.zeros(head.num_entries, jnp.float32))
    return network
