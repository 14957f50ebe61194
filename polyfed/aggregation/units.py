"""Hidden units of one network matched to those of another by optimal transport (Singh & Jaggi 2020, algorithm 1).

Different widths are matched too: a unit is then shared out. The published code scales what a shared unit sends on like
what it receives, which multiplies action values by the ratio of the widths per layer; here every unit sends on as much
as before.

References: singh2020fusion.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from polyfed.agents.networks import ACTIVATIONS, MLP, DuelingMLP, Linear, hidden_and_heads
from polyfed.aggregation.transport import product, squared_distances, transport_plan, uniform_masses
from polyfed.checks import one_of

Features = Literal["weights", "activations"]
Network = TypeVar("Network", MLP, DuelingMLP)
Plans = tuple[Array, ...]


def exact(network: Network, width: ArrayLike | None = None) -> Network:
    """The network in float64, 0 beyond the width; to be called with 64-bit types enabled.

    Example:
      >>> mlp = MLP(1, 1, hidden=(3,), activation="relu", key=jax.random.key(0))
      >>> with jax.enable_x64(True):
      ...     (exact(mlp, 2).layers[0].bias != 0).tolist()
      [True, True, False]
    """
    network = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float64), network)
    if width is None:
        return network
    return jax.tree.map(lambda leaf, held: jnp.where(held, leaf, 0), network, network.held(width))


def _sending(plan: Array) -> Array:
    """How a unit shares out what it sends on: rows that sum to 1, or to 0 beyond the width."""
    total = jnp.sum(plan, axis=1, keepdims=True)
    return plan / jnp.where(total > 0, total, 1)


def _receiving(plan: Array) -> Array:
    """Of which units a unit of the other side is the mean: columns that sum to 1, or to 0 beyond the width."""
    total = jnp.sum(plan, axis=0)
    return plan / jnp.where(total > 0, total, 1)


def move_units(network: Network, plans: Plans) -> Network:
    """The network with its hidden units in the places that the plans give them.

        W_l <- R_l^T W_l S_{l-1},    b_l <- R_l^T b_l

    with `R` the plan scaled to columns of sum 1: a unit in a new place is a convex combination of units; and `S` scaled
    to rows of sum 1: a unit's outgoing weight is shared out among its places. If every new unit comes from one old unit
    (a permutation, or a width that grows by a whole factor), the function stays.

    Args:
      network: Hidden layers of `n_1, ...` units.
      plans: One per hidden layer, `[n_l, m_l]`, of any scale; the transpose leads back.

    Returns:
      A network with hidden layers of `m_1, ...` units.

    Example:
      >>> mlp = MLP(4, 2, hidden=(3,), activation="relu", key=jax.random.key(0))
      >>> doubled = move_units(mlp, (jnp.repeat(jnp.eye(3), 2, axis=1),))
      >>> doubled.layers[0].weight.shape, bool(jnp.allclose(doubled(jnp.ones(4)), mlp(jnp.ones(4)), atol=1e-6))
      ((6, 4), True)
    """
    hidden, heads = hidden_and_heads(network)
    new: list[Linear] = []
    sent: Array | None = None
    for layer, plan in zip(hidden, plans, strict=True):
        weight = layer.weight if sent is None else product(layer.weight, sent)
        received = _receiving(plan).T
        new.append(Linear(product(received, weight), product(received, layer.bias[:, None])[:, 0]))
        sent = _sending(plan)
    ends: list[Linear] = [
        Linear(head.weight if sent is None else product(head.weight, sent), head.bias) for head in heads
    ]
    if isinstance(network, DuelingMLP):
        return eqx.tree_at(lambda net: (net.body.layers, net.value, net.advantage), network, (tuple(new), *ends))
    return eqx.tree_at(lambda net: net.layers, network, (*new, *ends))


def same_form(one: Any, other: Any) -> bool:
    """Whether two trees agree in all but their arrays.

    Example:
      >>> mlp = MLP(1, 1, hidden=(3,), activation="relu", key=jax.random.key(0))
      >>> same_form(mlp, MLP(1, 1, hidden=(3,), activation="tanh", key=jax.random.key(0)))
      False
    """
    forms: list[Any] = [jax.tree.structure(tree) for tree in (one, other)]
    return bool(forms[0] == forms[1])


def check_alike(one: Any, onto: Any) -> None:
    """Raises `ValueError` unless the networks have the same form but for their widths.

    Example:
      >>> shallow, deep = (MLP(1, 1, hidden=h, activation="relu", key=jax.random.key(0)) for h in ((4,), (4, 4)))
      >>> check_alike(shallow, deep)
      Traceback (most recent call last):
      ValueError: Networks of 1 and 2 hidden layers cannot be matched layer by layer: give agents the same depth, or ...
    """
    for network in (one, onto):
        if not isinstance(network, (MLP, DuelingMLP)):
            raise ValueError(
                f"Units of {type(network).__name__} cannot be matched layer by layer: give MLP or DuelingMLP networks."
            )
    (hidden, heads), (others, other_heads) = hidden_and_heads(one), hidden_and_heads(onto)
    if len(hidden) != len(others):
        raise ValueError(
            f"Networks of {len(hidden)} and {len(others)} hidden layers cannot be matched layer by layer: give agents "
            "the same depth, or let them share predictions instead of weights."
        )
    both = ((hidden, heads), (others, other_heads))
    ends = [((*body, *last)[0].weight.shape[-1], *(head.bias.shape[-1] for head in last)) for body, last in both]
    if ends[0] != ends[1] or not same_form(one, onto):
        raise ValueError(
            f"Networks with inputs and outputs {ends[0]} and {ends[1]} cannot be matched: give networks of one kind "
            "and activation that read the same inputs and have the same outputs."
        )


def _preactivations(network: MLP | DuelingMLP, inputs: Array) -> list[Array]:
    """`[units, P]` for every hidden layer: what the public inputs `[P, in]` send to its units."""
    activation = (network.body if isinstance(network, DuelingMLP) else network).activation
    found, x = [], inputs
    for layer in hidden_and_heads(network)[0]:
        x = product(x, layer.weight.T) + layer.bias
        found.append(x.T)
        x = ACTIVATIONS[activation](x)
    return found


def _reading(layer: Linear, sent: Array | None) -> Array:
    """`[units, in + 1]`: the weights of its inputs, in the places of the layer before, and its biases."""
    weight = layer.weight if sent is None else product(layer.weight, sent)
    return jnp.concatenate([weight, layer.bias[:, None]], axis=1)


def match_units(
    network: Network,
    reference: Network,
    *,
    width: ArrayLike | None = None,
    reference_width: ArrayLike | None = None,
    features: Features = "weights",
    inputs: ArrayLike | None = None,
) -> Plans:
    """Which unit of a network goes where in a reference, layer by layer (Singh & Jaggi 2020, algorithm 1).

    Every unit of either side has the same mass; the cost of a pair is the squared distance of their features.

    Args:
      network: Hidden layers of `n_1, ...` units.
      reference: Hidden layers of `m_1, ...` units.
      width: How many units of every hidden layer are in use; it may be traced. None: all.
      reference_width: Likewise.
      features: "weights": what a unit reads, after the layer before was matched, and its bias; "activations": what the
        public inputs send to it, before the activation function.
      inputs: `[P, in]` public inputs, for "activations" only.

    Returns:
      One plan per hidden layer, `[n_l, m_l]` whole numbers: rows sum to the reference's width, columns to the
      network's; 0 beyond.

    Raises:
      ValueError: Other depths, inputs, outputs or kinds of network; activations without inputs.

    Example:
      >>> mlp = MLP(4, 2, hidden=(3,), activation="relu", key=jax.random.key(0))
      >>> turned = move_units(mlp, (jnp.eye(3)[jnp.array([2, 0, 1])],))
      >>> match_units(mlp, turned)[0].tolist()
      [[0.0, 0.0, 3.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0]]
    """
    one_of("features", features, get_args(Features))
    if features == "activations" and inputs is None:
        raise ValueError("Matching by activations needs public inputs [P, in]: give inputs, or features='weights'.")
    check_alike(network, reference)
    dtype = jnp.result_type(float)
    with jax.enable_x64(True):
        one, onto = exact(network, width), exact(reference, reference_width)
        seen: Any = None
        if features == "activations":
            public = jnp.asarray(inputs).astype(jnp.float64)
            seen = list(zip(_preactivations(one, public), _preactivations(onto, public), strict=True))
        plans: list[Array] = []
        for index, pair in enumerate(zip(hidden_and_heads(one)[0], hidden_and_heads(onto)[0], strict=True)):
            sent = _sending(plans[-1]) if plans else None
            own, others = seen[index] if seen else (_reading(pair[0], sent), _reading(pair[1], None))
            cost = squared_distances(own, others)
            masses = uniform_masses(*cost.shape, source_width=width, target_width=reference_width)
            plans.append(transport_plan(cost, *masses).astype(jnp.float64))
        return tuple(plan.astype(dtype) for plan in plans)
