"""What the server does with the merged model before it broadcasts it (Reddi et al. 2021, algorithm 2).

The difference between what was broadcast and what came back is taken as a gradient, and any first-order method may
follow it. References: reddi2021fedopt, mcmahan2017fedavg, zaheer2018yogi.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike

from polyfed.types import Payload


class ServerOptimizer(eqx.Module):
    """How the next broadcast follows from the last one and the merged model.

    Contract: `step` with a merged model equal to the broadcast, from a fresh state, gives the broadcast; leaves that
    are not floating point (counters, masks) are taken from the merged model. When nobody came there is no merged
    model (rules give zeros), and the round does not call `step`.
    """

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range. The experiment calls it once, before it compiles."""

    def init(self, broadcast: Payload) -> Any:
        """The optimizer's memory before the first round.

        Args:
          broadcast: The first model, to fix shapes.
        """
        del broadcast
        return ()

    @abc.abstractmethod
    def step(self, state: Any, broadcast: Payload, merged: Payload) -> tuple[Payload, Any]:
        """One step of the server.

        Args:
          state: What `init` or the last step gave.
          broadcast: The model that the clients received, leaves `[...]`.
          merged: What the rule made of their updates, same shapes.

        Returns:
          `(broadcast, state)`, the next model in the dtypes of `merged`.
        """


def _is_none(leaf: Any) -> bool:
    """Whether a place of the tree holds no leaf."""
    return leaf is None


def _floating(tree: Payload) -> Payload:
    """The leaves of floating point, None in the place of others."""
    return jax.tree.map(lambda leaf: leaf if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else None, tree)


def pseudo_gradient(broadcast: Payload, merged: Payload) -> Payload:
    """`broadcast - merged`, the gradient that the server descends (`-Delta_t`, Reddi et al. 2021, algorithm 2).

    Returns:
      One leaf per floating-point leaf of `merged`, None where a leaf is of another type.

    Example:
      >>> pseudo_gradient({"w": jnp.ones(2), "steps": 3}, {"w": jnp.zeros(2), "steps": 4})
      {'steps': None, 'w': Array([1., 1.], dtype=float32)}
    """
    floating = eqx.filter(merged, _is_inexact)
    return jax.tree.map(lambda m, b: jnp.asarray(b) - m, floating, _like(floating, broadcast))


def _is_inexact(leaf: ArrayLike) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _like(floating: Payload, tree: Payload) -> Payload:
    """The leaves of `tree` where `floating` has one, None elsewhere."""
    return jax.tree.map(lambda keep, leaf: None if keep is None else leaf, floating, tree, is_leaf=_is_none)


def _descended(broadcast: Payload, merged: Payload, direction: Payload, learning_rate: ArrayLike) -> Payload:
    """`broadcast - learning_rate * direction` where there is a direction, `merged` elsewhere."""

    def move(d: Array | None, b: Array, m: Array) -> Array:
        return m if d is None else (jnp.asarray(b) - learning_rate * d).astype(jnp.result_type(m))

    return jax.tree.map(move, direction, broadcast, merged, is_leaf=_is_none)


def _check_ranges(optimizer: ServerOptimizer, positive: tuple[str, ...], fractions: tuple[str, ...]) -> None:
    """Raises `ValueError` unless the named fields are above 0, or in [0, 1)."""
    for name in positive:
        value = np.asarray(getattr(optimizer, name))
        if not np.all((value > 0) & np.isfinite(value)):
            sentence = (
                f"{type(optimizer).__name__} got {name}={value}, with which the broadcast cannot follow the merge."
            )
            raise ValueError(f"{sentence} Give a number above 0.")
    for name in fractions:
        value = np.asarray(getattr(optimizer, name))
        if not np.all((value >= 0) & (value < 1)):
            sentence = f"{type(optimizer).__name__} got {name}={value}, with which its running mean does not settle."
            raise ValueError(f"{sentence} Give a number in [0, 1).")


class ServerSGD(ServerOptimizer):
    """Goes part of the way, or beyond: `merged + (1 - eta) (broadcast - merged)` (Reddi et al. 2021, algorithm 1).

    At learning rate 1 the merged model itself, bit for bit: federated averaging (McMahan et al. 2017).

    Example:
      >>> server = ServerSGD(learning_rate=0.5)
      >>> float(server.step(server.init(jnp.array(2.0)), jnp.array(2.0), jnp.array(4.0))[0])
      3.0
    """

    learning_rate: float = 1.0  # 1 takes the merged model, below 1 damps, above 1 extrapolates

    def check(self) -> None:
        """Raises `ValueError` unless the learning rate is above 0."""
        _check_ranges(self, ("learning_rate",), ())

    def step(self, state: Any, broadcast: Payload, merged: Payload) -> tuple[Payload, Any]:
        """`(merged + (1 - eta) (broadcast - merged), state)`."""
        rest = 1 - jnp.asarray(self.learning_rate)

        def mix(gradient: Array | None, m: Array) -> Array:
            return m if gradient is None else jnp.where(rest == 0, m, m + rest * gradient).astype(jnp.result_type(m))

        gradient = pseudo_gradient(broadcast, merged)
        return jax.tree.map(mix, gradient, merged, is_leaf=_is_none), state


class ServerMomentum(ServerOptimizer):
    """Heavy-ball momentum on the server, FedAvgM (Reddi et al. 2021, sec. 2 and 5).

        m <- beta m + (merged - broadcast),    broadcast <- broadcast + eta m

    Example:
      >>> server = ServerMomentum(learning_rate=1.0, momentum=0.5)
      >>> broadcast, state = server.step(server.init(jnp.array(0.0)), jnp.array(0.0), jnp.array(1.0))
      >>> broadcast, state = server.step(state, broadcast, broadcast)  # the clients changed nothing; it rolls on
      >>> float(broadcast)
      1.5
    """

    learning_rate: float = 1.0  # eta; a steady drift is followed at eta / (1 - beta)
    momentum: float = 0.9  # beta, in [0, 1)

    def check(self) -> None:
        """Raises `ValueError` unless the learning rate is above 0 and the momentum in [0, 1)."""
        _check_ranges(self, ("learning_rate",), ("momentum",))

    def init(self, broadcast: Payload) -> Any:
        """`m = 0`."""
        return optax.trace(self.momentum).init(_floating(broadcast))

    def step(self, state: Any, broadcast: Payload, merged: Payload) -> tuple[Payload, Any]:
        """One step of momentum."""
        direction, state = optax.trace(self.momentum).update(pseudo_gradient(broadcast, merged), state)
        return _descended(broadcast, merged, direction, self.learning_rate), state


def _adaptive_init(broadcast: Payload, tau: ArrayLike) -> tuple[Payload, Payload]:
    """`(m, v)` before the first round: 0 and `tau^2` (Reddi et al. 2021, algorithm 2: `v_{-1} >= tau^2`)."""
    floating = _floating(broadcast)
    return (
        jax.tree.map(jnp.zeros_like, floating),
        jax.tree.map(lambda b: jnp.full_like(b, jnp.square(tau)), floating),
    )


def _adaptive_direction(mean: Payload, square: Payload, tau: ArrayLike) -> Payload:
    """`m / (sqrt(v) + tau)`."""
    return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + tau), mean, square)


class ServerAdam(ServerOptimizer):
    """FedAdam (Reddi et al. 2021, algorithm 2), with `Delta = merged - broadcast`:

        m <- beta1 m + (1 - beta1) Delta,    v <- beta2 v + (1 - beta2) Delta^2
        broadcast <- broadcast + eta m / (sqrt(v) + tau)

    As published: no bias correction, and `v` starts at `tau^2` (`optax.adam` corrects, and starts at 0).

    Example:
      >>> server = ServerAdam(learning_rate=0.1)
      >>> broadcast, _ = server.step(server.init(jnp.array(0.0)), jnp.array(0.0), jnp.array(1.0))
      >>> round(float(broadcast), 4)
      0.099
    """

    learning_rate: float = 0.01  # eta, about how far a weight moves per round; ours, the paper tunes it
    beta1: float = 0.9  # of the mean, in [0, 1)
    beta2: float = 0.99  # of the square, in [0, 1)
    tau: float = 1e-3  # changes far below it are followed in proportion, far above it by their sign

    def check(self) -> None:
        """Raises `ValueError` unless the learning rate and tau are above 0 and the betas in [0, 1)."""
        _check_ranges(self, ("learning_rate", "tau"), ("beta1", "beta2"))

    def init(self, broadcast: Payload) -> tuple[Payload, Payload]:
        """`(m, v) = (0, tau^2)`."""
        return _adaptive_init(broadcast, self.tau)

    def step(self, state: Any, broadcast: Payload, merged: Payload) -> tuple[Payload, Any]:
        """One step of Adam."""
        mean, square = state
        gradient = pseudo_gradient(broadcast, merged)
        mean = optax.tree.update_moment(gradient, mean, self.beta1, 1)
        square = optax.tree.update_moment(gradient, square, self.beta2, 2)
        direction = _adaptive_direction(mean, square, self.tau)
        return _descended(broadcast, merged, direction, self.learning_rate), (mean, square)


class ServerYogi(ServerOptimizer):
    """FedYogi (Reddi et al. 2021, algorithm 2; Zaheer et al. 2018): as `ServerAdam`, but the square grows gently.

        v <- v - (1 - beta2) Delta^2 sign(v - Delta^2)

    Example:
      >>> server = ServerYogi(learning_rate=0.1)
      >>> broadcast, _ = server.step(server.init(jnp.array(0.0)), jnp.array(0.0), jnp.array(1.0))
      >>> round(float(broadcast), 4)
      0.099
    """

    learning_rate: float = 0.01  # eta, about how far a weight moves per round; ours, the paper tunes it
    beta1: float = 0.9  # of the mean, in [0, 1)
    beta2: float = 0.99  # of the square, in [0, 1)
    tau: float = 1e-3  # changes far below it are followed in proportion, far above it by their sign

    def check(self) -> None:
        """Raises `ValueError` unless the learning rate and tau are above 0 and the betas in [0, 1)."""
        _check_ranges(self, ("learning_rate", "tau"), ("beta1", "beta2"))

    def init(self, broadcast: Payload) -> tuple[Payload, Payload]:
        """`(m, v) = (0, tau^2)`."""
        return _adaptive_init(broadcast, self.tau)

    def step(self, state: Any, broadcast: Payload, merged: Payload) -> tuple[Payload, Any]:
        """One step of Yogi."""
        mean, square = state
        gradient = pseudo_gradient(broadcast, merged)
        mean = optax.tree.update_moment(gradient, mean, self.beta1, 1)
        square = jax.tree.map(
            lambda g, v: v - (1 - self.beta2) * jnp.square(g) * jnp.sign(v - jnp.square(g)), gradient, square
        )
        direction = _adaptive_direction(mean, square, self.tau)
        return _descended(broadcast, merged, direction, self.learning_rate), (mean, square)
