"""Networks averaged after their hidden units were matched by optimal transport (OT fusion, Singh & Jaggi 2020).

Hidden units have no order: agents that did not start alike learn the same units in other places, and the plain mean of
their weights is no network at all. `polyfed.aggregation.units` says how units are matched, also between widths.

References: singh2020fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike

from polyfed.agents.networks import DuelingMLP, hidden_and_heads
from polyfed.aggregation.mean import normalized, weighted_mean
from polyfed.aggregation.nonfinite import check_weights
from polyfed.aggregation.public_inputs import UniformInputs
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.units import Features, Network, Plans, check_alike, exact, match_units, move_units
from polyfed.checks import one_of, whole_in_range
from polyfed.types import Metrics, Nested, Payload, Update


@partial(jax.jit, static_argnames="features")
def align(
    network: Network,
    reference: Network,
    *,
    width: ArrayLike | None = None,
    reference_width: ArrayLike | None = None,
    features: Features = "weights",
    inputs: ArrayLike | None = None,
) -> Network:
    """A network with its hidden units in the order, and the number, of a reference's: `match_units`, `move_units`.

    Args:
      network: Hidden layers of any size.
      reference: Of the same depth, inputs, outputs and kind.
      width: How many units of every hidden layer are in use; it may be traced. None: all.
      reference_width: Likewise.
      features: See `match_units`.
      inputs: See `match_units`.

    Returns:
      A network of the reference's shapes in the dtype of the network, computed in float64; 0 beyond the reference's
      width. A permutation of units, or a width that grows by a whole factor, keeps the function.

    Raises:
      ValueError: As `match_units`.

    Example:
      >>> from polyfed.agents.networks import MLP
      >>> small, large = (MLP(4, 2, hidden=(h,), activation="relu", key=jax.random.key(h)) for h in (8, 16))
      >>> widened = align(small, large)
      >>> widened.layers[0].weight.shape, bool(jnp.allclose(widened(jnp.ones(4)), small(jnp.ones(4)), atol=1e-6))
      ((16, 4), True)
    """
    dtypes = jax.tree.map(jnp.result_type, network)
    plans = match_units(
        network, reference, width=width, reference_width=reference_width, features=features, inputs=inputs
    )
    with jax.enable_x64(True):
        return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), move_units(exact(network, width), plans), dtypes)


def project(
    network: Network, template: Network, *, features: Features = "weights", inputs: ArrayLike | None = None
) -> Network:
    """A fused network in a client's own units and widths, so that it can take it over: `align` the other way round.

    To a smaller width units are merged, which loses something. See `align`.

    Example:
      >>> from polyfed.agents.networks import MLP
      >>> small, large = (MLP(4, 2, hidden=(h,), activation="relu", key=jax.random.key(h)) for h in (8, 16))
      >>> [layer.weight.shape for layer in project(fuse([small, large]), small).layers]
      [(8, 4), (2, 8)]
    """
    return align(network, template, features=features, inputs=inputs)


def _reference(sizes: Array, shares: Array, norms: Array) -> Array:
    """Index of the widest client; of those the one of the largest share; of those the one of the largest norm.

    Args:
      sizes: `[C]`.
      shares: `[C]`, 0 is absent.
      norms: `[C]`; NaN comes last.
    """
    best = shares > 0
    for key in (sizes, shares, jnp.where(jnp.isnan(norms), -1, norms)):
        best = best & (key == jnp.max(jnp.where(best, key, -jnp.inf)))
    return jnp.min(jnp.where(best, jnp.arange(shares.shape[0]), shares.shape[0] - 1))


def fuse(
    networks: Sequence[Network],
    weights: ArrayLike | None = None,
    *,
    reference: int | None = None,
    features: Features = "weights",
    inputs: ArrayLike | None = None,
    num_passes: int = 1,
) -> Network:
    """The mean of networks of any widths, after their units were matched to a reference's (Singh & Jaggi 2020).

    Args:
      networks: At least one; of one depth.
      weights: One per network, any scale; 0 leaves it out. None: equal weights.
      reference: Index of the network whose units are matched to. None: of those not left out the one with most hidden
        units, of these the heaviest, of these the one of the largest norm; so the order does not matter.
      features: See `match_units`.
      inputs: See `match_units`.
      num_passes: From the second on, units are matched to the mean of the pass before.

    Returns:
      A network of the reference's shapes.

    Raises:
      ValueError: No networks, weights that do not fit, other depths; see `match_units`.

    Example:
      >>> from polyfed.agents.networks import MLP
      >>> mlp = MLP(4, 2, hidden=(3,), activation="relu", key=jax.random.key(0))
      >>> turned = move_units(mlp, (jnp.eye(3)[jnp.array([2, 0, 1])],))
      >>> bool(jnp.allclose(fuse([mlp, turned])(jnp.ones(4)), mlp(jnp.ones(4)), atol=1e-6))
      True
    """
    whole_in_range("num_passes", num_passes, 1, 100)
    check_weights(() if weights is None else weights, somebody=weights is not None)
    given = jnp.ones(len(networks)) if weights is None else jnp.asarray(weights)
    if given.shape != (len(networks),) or not networks:
        raise ValueError(
            f"{len(networks)} networks cannot be fused with weights {given.tolist()}: give at least one network, and "
            "one weight for each."
        )
    for network in networks[1:]:
        check_alike(network, networks[0])
    shares = normalized(given)
    if reference is None:
        sizes = jnp.asarray([sum(len(layer.bias) for layer in hidden_and_heads(x)[0]) for x in networks], jnp.float32)
        norms = jnp.stack([optax.tree.norm(one) for one in networks])
        reference = int(_reference(sizes, shares, norms))
    onto = networks[reference]
    present = [network for network, share in zip(networks, shares.tolist(), strict=True) if share > 0]
    with jax.enable_x64(True):
        for _ in range(num_passes):
            aligned = [align(exact(network), onto, features=features, inputs=inputs) for network in present]
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *aligned)
            onto = weighted_mean(stacked, shares[shares > 0])
    return jax.tree.map(lambda leaf, like: leaf.astype(jnp.result_type(like)), onto, networks[reference])


@partial(jax.jit, static_argnames=("num_passes", "own"))
def fuse_stacked(
    networks: Network, widths: ArrayLike, weights: ArrayLike, inputs: ArrayLike | None, *, num_passes: int, own: bool
) -> tuple[Network, tuple[Array, ...]]:
    """`fuse` of a stack of networks of one shape, each of which uses the first units of every hidden layer.

    Args:
      networks: Leaves `[C, ...]`. What an absent client holds is ignored, NaN included.
      widths: `[C]`, units of every hidden layer in use.
      weights: `[C]`, any scale; 0 is absent.
      inputs: `[P, in]` to match by activations; None: by weights.
      num_passes: See `fuse`.
      own: Whether everybody gets the mean back in its own units and width, by the same plans reversed.

    Returns:
      `(fused, moved)`: leaves `[...]`, 0 beyond the reference's width; or `[C, ...]`, beyond a client's width what it
      sent, and zeros where absent. And per hidden layer the share of the units, a weighted mean over the clients, that
      were matched to another place.

    Example:
      >>> from polyfed.agents.networks import MLP
      >>> mlp = MLP(4, 2, hidden=(3,), activation="relu", key=jax.random.key(0))
      >>> turned = move_units(mlp, (jnp.eye(3)[jnp.array([0, 2, 1])],))
      >>> stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), mlp, turned)
      >>> _, moved = fuse_stacked(stack, jnp.array([3, 3]), jnp.ones(2), None, num_passes=1, own=False)
      >>> [round(float(share), 3) for share in moved]  # one of two clients has two of three units elsewhere
      [0.333]
    """
    features: Features = "weights" if inputs is None else "activations"
    small = jnp.result_type(float)
    dtypes = jax.tree.map(jnp.result_type, networks)
    with jax.enable_x64(True):
        shares = normalized(jnp.asarray(weights).astype(jnp.float64))
        present = shares > 0
        widths = jnp.where(present, jnp.asarray(widths), 0)
        sent = jax.tree.map(lambda leaf: _where(present, jnp.asarray(leaf)), networks)
        stack = jax.vmap(exact)(sent, widths)
        chosen = _reference(widths, shares, jax.vmap(optax.tree.norm)(stack))
        onto, width = jax.tree.map(lambda leaf: leaf[chosen], (stack, widths))

        def match(network: Network, own_width: Array, reference: Network) -> Plans:
            return match_units(
                network, reference, width=own_width, reference_width=width, features=features, inputs=inputs
            )

        def one_pass(reference: Network, _: None) -> tuple[Network, Plans]:
            plans = jax.vmap(match, in_axes=(0, 0, None))(stack, widths, reference)
            return weighted_mean(jax.vmap(move_units)(stack, plans), shares), plans

        onto, passes = jax.lax.scan(one_pass, onto, length=num_passes)
        plans = tuple(plan[-1] for plan in passes)
        fused = onto
        if own:
            back = jax.vmap(move_units, in_axes=(None, 0))(onto, tuple(jnp.swapaxes(plan, 1, 2) for plan in plans))
            held = jax.vmap(lambda network, width: network.held(width))(stack, widths)
            fused = jax.tree.map(
                lambda mean, mine, keep: _where(present, jnp.where(keep, mean, mine)), back, sent, held
            )
        moved = tuple(weighted_mean(jax.vmap(_moved_share)(plan), shares).astype(small) for plan in plans)
        return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), fused, dtypes), moved


def _where(present: Array, leaf: Array) -> Array:
    """A leaf `[C, ...]`, zeros where absent."""
    return jnp.where(present.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0)


def _moved_share(plan: Array) -> Array:
    """The share of a plan's mass that is not on its diagonal; 0 of an empty one."""
    total = jnp.sum(plan)
    return jnp.where(total > 0, 1 - jnp.sum(jnp.diagonal(plan)) / jnp.where(total > 0, total, 1), 0)


class AlignedMean(AggregationRule):
    """Fusion that knows that hidden units have no order: match them, then average (Singh & Jaggi 2020).

    For `MLP` and `DuelingMLP` payloads, or, if `own`, `Nested` messages of them. Units are matched to those of the
    widest client, of those the heaviest, of those the one of the largest norm. On networks that are matched already,
    as when all started alike and stayed close, it is the weighted mean. As a metric per hidden layer,
    `moved_units/<layer>`: the share of the units that were matched to another place; see `fuse_stacked`.

    Between different widths something is lost on the way back to a narrower client, every time: fuse rarely (after a
    warm-up, or once), or use `NestedMean` where all start from one network.

    Example:
      >>> from polyfed.agents.networks import MLP
      >>> mlp = MLP(4, 2, hidden=(3,), activation="relu", key=jax.random.key(0))
      >>> turned = move_units(mlp, (jnp.eye(3)[jnp.array([0, 2, 1])],))
      >>> update = Update(jax.tree.map(lambda *leaves: jnp.stack(leaves), mlp, turned), jnp.ones(2))
      >>> merged, _, _ = AlignedMean().aggregate((), update)
      >>> bool(jnp.allclose(merged(jnp.ones(4)), mlp(jnp.ones(4)), atol=1e-6))
      True
    """

    features: Features = eqx.field(default="weights", static=True)  # what units are compared by
    num_passes: int = eqx.field(default=1, static=True)  # from the second on, matched to the mean of the one before
    own: bool = eqx.field(default=False, static=True)  # everybody gets the mean back in its own units and width
    inputs: UniformInputs = UniformInputs()  # public; for features "activations" only

    @property
    def personal(self) -> bool:
        """Whether everybody gets the mean in its own units."""
        return self.own

    @property
    def nested(self) -> bool:
        """Whether it takes `Nested` messages: if everybody gets the mean in its own width."""
        return self.own

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range."""
        one_of("rule.features", self.features, get_args(Features))
        whole_in_range("rule.num_passes", self.num_passes, 1, 100)
        self.inputs.check()

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(fused, state, {"moved_units/<layer>": share})`; see `fuse_stacked`."""
        message = update.payload
        nested = isinstance(message, Nested)
        if nested and not self.own:
            raise ValueError(
                "AlignedMean gives everybody one network, but agents of different widths cannot all take it: "
                "use AlignedMean(own=True) or NestedMean."
            )
        network = message.network if nested else message
        check_alike(network, network)
        hidden, heads = hidden_and_heads(network)
        weight = jnp.asarray(update.weight)
        most = max((layer.bias.shape[-1] for layer in hidden), default=0)
        widths = jnp.asarray(message.width) if nested else jnp.full(weight.shape, most, jnp.int32)
        inputs = self.inputs((*hidden, *heads)[0].weight.shape[-1]) if self.features == "activations" else None
        fused, moved = fuse_stacked(network, widths, weight, inputs, num_passes=self.num_passes, own=self.own)
        prefix = "body.layers" if isinstance(network, DuelingMLP) else "layers"
        metrics = {f"moved_units/{prefix}.{index}": share for index, share in enumerate(moved)}
        merged = Nested(fused, jnp.where(weight > 0, widths, 0).astype(widths.dtype)) if nested else fused
        return merged, state, metrics
