"""Nested sub-networks: an agent of width w holds the first w units of every hidden layer (HeteroFL, Diao et al. 2021).

Every entry of the common network is averaged over those who hold it. As all agents of an experiment start from one
network, units keep their meaning, and nothing has to be matched.

References: diao2021heterofl.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from polyfed.agents.networks import MLP, DuelingMLP, hidden_and_heads
from polyfed.aggregation.fold import fold_clients
from polyfed.aggregation.mean import moved, normalized, weighted_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.units import same_form
from polyfed.types import Metrics, Nested, Payload, Update

Network = TypeVar("Network", MLP, DuelingMLP)


@jax.jit
def mean_of_holders(stacked: ArrayLike, held: ArrayLike, weights: ArrayLike) -> tuple[Array, Array]:
    """Entry by entry the weighted mean over the clients that hold the entry (Diao et al. 2021, eq. 3, with weights).

        x = sum_{k holds} lambda_k x_k / sum_{k holds} lambda_k

    Written as the value of the heaviest holder plus the mean difference from it, so that holders who agree keep their
    value bit for bit.

    Args:
      stacked: `[C, ...]`, floating point. What is not held, or held by an absent client, may be NaN.
      held: `[C, ...]` bool.
      weights: `[C]`, any scale; 0 is absent.

    Returns:
      `(mean, anyone)`, both `[...]`; the mean is 0 where nobody who came holds the entry.

    Example:
      >>> held = [[True, True, False], [True, False, False]]
      >>> mean, anyone = mean_of_holders([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]], held, [1.0, 1.0])
      >>> mean.tolist(), anyone.tolist()
      ([2.0, 2.0, 0.0], [True, True, False])
    """
    values, shares = jnp.asarray(stacked), normalized(weights)
    dtype = values.dtype
    values = values.astype(jnp.result_type(dtype, jnp.float32))
    shares = shares.astype(values.dtype)
    holds = jnp.asarray(held) & (shares > 0).reshape(-1, *[1] * (values.ndim - 1))

    def heavier(k: int | Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        better = holds[k] & (shares[k] > best[1])
        return jnp.where(better, values[k], best[0]), jnp.where(better, shares[k], best[1])

    nothing = jnp.zeros(values.shape[1:], values.dtype)
    centre, largest = fold_clients(heavier, (nothing, nothing), values.shape[0])

    def add(k: int | Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        differs = holds[k] & (values[k] != centre)
        change = sums[0] + shares[k] * jnp.where(differs, values[k] - centre, 0)
        return change, sums[1] + jnp.where(holds[k], shares[k], 0)

    change, total = fold_clients(add, (nothing, nothing), values.shape[0])
    return moved(centre, change / jnp.where(total > 0, total, 1)).astype(dtype), largest > 0


class NestedMean(AggregationRule):
    """HeteroFL: agents of different widths share the units that they have in common (Diao et al. 2021, algorithm 1).

    Takes `Nested` messages. Every entry is the weighted mean over the clients present that hold it, see
    `mean_of_holders`. An entry that none of them holds becomes the mean of what all of them sent: they sent what they
    had received, so it stays. With equal widths this is federated averaging.

    The published method also divides activations by the width while training; that is the agent's affair, and left
    out here.

    Example:
      >>> mlp = MLP(1, 1, hidden=(2,), activation="relu", key=jax.random.key(0))
      >>> stack = jax.tree.map(lambda x: jnp.stack([jnp.zeros_like(x), jnp.ones_like(x)]), mlp)
      >>> update = Update(payload=Nested(stack, jnp.array([1, 2])), weight=jnp.ones(2))
      >>> merged, _, _ = NestedMean().aggregate((), update)
      >>> merged.network.layers[0].bias.tolist(), int(merged.width)  # the second unit is the second client's alone
      ([0.5, 1.0], 2)
    """

    @property
    def nested(self) -> bool:
        """True: it takes `Nested` messages."""
        return True

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(Nested(mean, width of the widest layer), state, {})`; width 0 when nobody came."""
        message = update.payload
        if not isinstance(message, Nested):
            raise ValueError(
                f"NestedMean averages slices, but was sent {type(message).__name__} without a width: "
                "give the agents a width, or use WeightedMean."
            )
        network = jax.tree.map(jnp.asarray, message.network)
        width, weight = jnp.asarray(message.width), jnp.asarray(update.weight)
        held = jax.vmap(lambda network, width: network.held(width))(network, width)

        def merge(leaf: Array, holds: Array) -> Array:
            mean, anyone = mean_of_holders(leaf, holds, weight)
            return jnp.where(anyone, mean, weighted_mean(leaf, weight))

        merged = jax.tree.map(merge, network, held)
        full = jnp.asarray(largest_width(jax.tree.map(lambda leaf: leaf[0], network)), width.dtype)
        return Nested(merged, jnp.where(jnp.any(weight > 0), full, 0).astype(width.dtype)), state, {}


def largest_width(network: MLP | DuelingMLP) -> int:
    """Units of the widest hidden layer.

    Example:
      >>> largest_width(MLP(1, 9, hidden=(2, 5), activation="relu", key=jax.random.key(0)))
      5
    """
    return max((layer.bias.shape[-1] for layer in hidden_and_heads(network)[0]), default=0)


def slice_network(network: Network, width: int) -> Network:
    """The first `width` units of every hidden layer, as a smaller network of its own.

    Args:
      network: Its hidden layers may differ in size; one of no more than `width` units stays whole.
      width: At least 1.

    Raises:
      ValueError: The width is below 1.

    Example:
      >>> mlp = MLP(4, 2, hidden=(8, 6), activation="relu", key=jax.random.key(0))
      >>> [layer.weight.shape for layer in slice_network(mlp, 7).layers]
      [(7, 4), (6, 7), (2, 6)]
    """
    if width < 1:
        raise ValueError(f"A slice of {width} units computes nothing: give a width of at least 1.")

    def cut(leaf: ArrayLike, held: ArrayLike) -> Array:
        return jnp.asarray(leaf)[tuple(slice(int(places.max()) + 1) for places in np.nonzero(np.asarray(held)))]

    return jax.tree.map(cut, network, network.held(width))


def merge_slices(slices: Sequence[Network], into: Network, weights: ArrayLike | None = None) -> Network:
    """Slices of one network averaged into it: each entry over those who hold it (Diao et al. 2021, algorithm 1).

    Args:
      slices: Networks with hidden layers of at most the size of `into`'s; none, and `into` comes back.
      into: The common network. Entries that nobody holds stay as they are; it is not modified.
      weights: One per slice, any scale; 0 leaves it out. None: equal weights.

    Returns:
      A network of the shape of `into`.

    Raises:
      ValueError: A slice has other layers, inputs or outputs than `into`, or more units.

    Example:
      >>> mlp = MLP(4, 2, hidden=(8,), activation="relu", key=jax.random.key(0))
      >>> merged = merge_slices([slice_network(mlp, 3), slice_network(mlp, 6)], into=mlp)
      >>> bool(jnp.array_equal(merged.layers[0].weight, mlp.layers[0].weight))
      True
    """
    if not slices:
        return into
    weights = jnp.ones(len(slices)) if weights is None else jnp.asarray(weights)
    if weights.shape != (len(slices),):
        raise ValueError(f"{len(slices)} slices cannot take weights of shape {weights.shape}: give one per slice.")
    for index, one in enumerate(slices):
        if not same_form(one, into) or not _fits(one, into):
            raise ValueError(
                f"Slice {index} is no slice of the common network: give networks of the same number of layers, inputs "
                "and outputs, with no hidden layer wider than that of `into`."
            )

    def merge(common: ArrayLike, *leaves: ArrayLike) -> Array:
        common = jnp.asarray(common)

        def padded(leaf: Array) -> Array:
            return jnp.pad(leaf, [(0, whole - own) for whole, own in zip(common.shape, leaf.shape, strict=True)])

        stacked = jnp.stack([padded(jnp.asarray(leaf)) for leaf in leaves])
        held = jnp.stack([padded(jnp.ones(jnp.shape(leaf), bool)) for leaf in leaves])
        mean, anyone = mean_of_holders(stacked, held, weights)
        return jnp.where(anyone, mean, common).astype(common.dtype)

    return jax.tree.map(merge, into, *slices)


def _fits(one: MLP | DuelingMLP, into: MLP | DuelingMLP) -> bool:
    """Whether one network may be a slice of another: the same inputs and outputs, no layer wider."""
    (hidden, heads), (wider, same_heads) = hidden_and_heads(one), hidden_and_heads(into)
    first, whole_first = (*hidden, *heads)[0], (*wider, *same_heads)[0]
    return (
        first.weight.shape[1] == whole_first.weight.shape[1]
        and [len(head.bias) for head in heads] == [len(head.bias) for head in same_heads]
        and all(len(layer.bias) <= len(whole.bias) for layer, whole in zip(hidden, wider, strict=True))
    )
