"""Clients that lie: what they send in the place of what they learned, as transforms at the head of the way up.

References: baruch2019alie, xie2020ipm, fan2021fedpgbr.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, PRNGKeyArray

from polyfed.aggregation.door import PREDICTIONS
from polyfed.aggregation.mean import weighted_mean
from polyfed.checks import in_range, whole_in_range
from polyfed.exchange.transform import Transform
from polyfed.leaves import is_floating
from polyfed.types import Payload, Probabilities, Update


def hostile_clients(weight: ArrayLike, num_hostile: ArrayLike) -> Bool[Array, " C"]:
    """Who lies: the first `num_hostile` clients, `[C]`.

    >>> hostile_clients([1.0, 1.0, 0.0], 1).tolist()
    [True, False, False]
    """
    return jnp.arange(len(jnp.asarray(weight))) < num_hostile


def _spread(x: Array, mean: Array, honest: Array) -> Array:
    """Standard deviation over the honest clients, entry by entry."""
    came = honest.reshape(-1, *(1,) * (x.ndim - 1)) > 0
    return jnp.sqrt(weighted_mean(jnp.where(came, x - mean, 0) ** 2, honest))


class Hostile(Transform):
    """The first `num_hostile` clients send a forged message in the place of their own, relative to the broadcast `b`.

        keep b + own (x_k - b) + mean (m - b) + spread s + noise n

    entry by entry: `x_k` is what the client learned, `m` and `s` are mean and standard deviation of the honest clients'
    messages of this round, and `n` is normal, of deviation 1. So attacks are data, and each one named below is a choice
    of the five numbers. Clients that know `m` and `s` see what only the server sees. Numbers that are no floating-point
    numbers stay.

    Example:
      >>> update = Update(payload=jnp.array([[1.0], [2.0], [4.0]]), weight=jnp.ones(3))
      >>> forged, _ = Hostile.sign_flip(1, scale=3.0).upload((), update, jnp.zeros(1), jax.random.key(0))
      >>> forged.payload.tolist()
      [[-3.0], [2.0], [4.0]]
    """

    hostile: ClassVar[bool] = True

    num_hostile: int = 1  # clients, the first ones
    keep: float = 1.0  # of the broadcast
    own: float = -1.0  # times what the client learned
    mean: float = 0.0  # times what the honest learned on average
    spread: float = 0.0  # standard deviations over the honest
    noise: float = 0.0  # standard deviation, in units of a parameter, >= 0

    @classmethod
    def sign_flip(cls, num_hostile: int, scale: float = 1.0) -> Hostile:
        """What was learned, backwards: `b - scale (x_k - b)`.

        >>> Hostile.sign_flip(2, scale=3.0).own
        -3.0
        """
        return cls(num_hostile, own=-scale)

    @classmethod
    def scaling(cls, num_hostile: int, scale: float = 10.0) -> Hostile:
        """What was learned, many times over: `b + scale (x_k - b)`.

        >>> Hostile.scaling(2).own
        10.0
        """
        return cls(num_hostile, own=scale)

    @classmethod
    def gaussian(cls, num_hostile: int, deviation: float = 1.0) -> Hostile:
        """What was learned, and normal noise on every parameter.

        >>> Hostile.gaussian(2).noise
        1.0
        """
        return cls(num_hostile, own=1.0, noise=deviation)

    @classmethod
    def constant(cls, num_hostile: int) -> Hostile:
        """All parameters 0: a policy that does the same in every state.

        >>> Hostile.constant(2).keep
        0.0
        """
        return cls(num_hostile, keep=0.0, own=0.0)

    @classmethod
    def little_is_enough(cls, num_hostile: int, deviations: float = 1.5) -> Hostile:
        """So far from the mean of the honest as some honest client may be: `m - z s` (Baruch et al. 2019, ALIE).

        Their `z` follows from the number of clients and is 0 for few; here it is given.

        >>> Hostile.little_is_enough(2).spread
        -1.5
        """
        return cls(num_hostile, own=0.0, mean=1.0, spread=-deviations)

    @classmethod
    def inner_product(cls, num_hostile: int, scale: float = 1.0) -> Hostile:
        """Against what the honest learned on average: `b - scale (m - b)` (Xie et al. 2020, IPM).

        >>> Hostile.inner_product(2, scale=6.0).mean
        -6.0
        """
        return cls(num_hostile, own=0.0, mean=-scale)

    def check(self) -> None:
        """Raise `ValueError` where a field is out of range."""
        whole_in_range("transforms.num_hostile", self.num_hostile, 0, 10**6, "clients")
        for name in ("keep", "own", "mean", "spread"):
            in_range(f"transforms.{name}", getattr(self, name), -1e30, 1e30)
        in_range("transforms.noise", self.noise, 0.0, 1e30)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Put forged messages in the place of those of the hostile clients; weights stay."""
        weight = jnp.asarray(update.weight)
        liars = hostile_clients(weight, self.num_hostile)
        honest = jnp.where(~liars & (weight > 0), 1.0, 0.0)
        leaves, tree = jax.tree.flatten(update.payload)

        def forged(x: Array, b: Array, k: PRNGKeyArray) -> Array:
            x = jnp.asarray(x)
            if not is_floating(x):
                return x
            m = weighted_mean(x, honest)
            lie = self.keep * b + self.own * (x - b) + self.spread * _spread(x, m, honest)
            lie += self.mean * (m - b) + self.noise * jax.random.normal(k, x.shape, x.dtype)
            return jnp.where(liars.reshape(-1, *(1,) * (x.ndim - 1)), lie, x).astype(x.dtype)

        keys = jax.random.split(key, len(leaves))
        lies = [forged(x, b, k) for x, b, k in zip(leaves, jax.tree.leaves(broadcast), keys, strict=True)]
        return Update(jax.tree.unflatten(tree, lies), update.weight), state


class PoisonedPredictions(Transform):
    """The first `num_hostile` clients send predictions turned round: what they think worst is said to be best.

    Logits, values of actions and means of normal distributions change their sign; of probabilities the largest changes
    places with the smallest, and so on. What arrives is a prediction, so that no check of its form refuses it.

    Example:
      >>> update = Update(Probabilities(jnp.array([[[0.125, 0.625, 0.25]], [[0.5, 0.25, 0.25]]])), jnp.ones(2))
      >>> sent, _ = PoisonedPredictions(1).upload((), update, update.payload, jax.random.key(0))
      >>> sent.payload.probabilities.tolist()
      [[[0.625, 0.125, 0.25]], [[0.5, 0.25, 0.25]]]
    """

    hostile: ClassVar[bool] = True

    num_hostile: int = 1  # clients, the first ones

    def check(self) -> None:
        """Raise `ValueError` unless it is a whole number from 0."""
        whole_in_range("transforms.num_hostile", self.num_hostile, 0, 10**6, "clients")

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Turn round the predictions of the hostile clients; raises `ValueError` where messages are parameters."""
        del broadcast, key
        if not isinstance(update.payload, PREDICTIONS):
            raise ValueError(
                f"PoisonedPredictions turns predictions round, but clients send a {type(update.payload).__name__}: "
                "let them send Predictions, or use Hostile."
            )
        liars = hostile_clients(update.weight, self.num_hostile)
        turn = _opposite if isinstance(update.payload, Probabilities) else jnp.negative

        def poisoned(name: str, x: Array) -> Array:
            x = jnp.asarray(x)
            return x if name == "scale" else jnp.where(liars.reshape(-1, *(1,) * (x.ndim - 1)), turn(x), x)

        fields = {name: poisoned(name, x) for name, x in vars(update.payload).items()}
        return Update(type(update.payload)(**fields), update.weight), state


def _opposite(probabilities: Array) -> Array:
    """The same numbers in each row, the largest where the smallest was."""
    rank = jnp.argsort(jnp.argsort(probabilities, axis=-1), axis=-1)
    return jnp.take_along_axis(-jnp.sort(-probabilities, axis=-1), rank, axis=-1)
