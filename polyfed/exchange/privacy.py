"""Noise that hides what any one client sent: client-level differential privacy by clipping and Gaussian noise.

Both kinds bound every message first: the difference to a centre that everybody knows is cut to a norm of `max_norm`.
The centre of parameters is the broadcast; that of predictions is what says nothing: the uniform distribution, logits
and values of 0, a normal distribution of mean 0 and scale 1. A message that is not finite, or a prediction that is
none, is absent with weight 0; a message of difference 0 stays one.

What is guaranteed is that of ideal noise. Here it is pseudo-random, follows from the seed, and is in float32: it hides
nothing from who knows the seed, and nobody has hardened it against what floating point shows (Mironov 2012).

References: mcmahan2018dplstm, geyer2017dpfl, mironov2012lsb, duchi2008simplex.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.agents.observation_statistics import Moments
from polyfed.aggregation.door import PREDICTIONS, valid
from polyfed.checks import in_range, one_of
from polyfed.exchange.accounting import ACCOUNTANTS, load
from polyfed.exchange.clipping import clip_to
from polyfed.exchange.transform import Transform, client_keys
from polyfed.leaves import is_floating, leaf_names
from polyfed.types import Gaussians, Logits, Payload, Probabilities, Update, Visit

SMALLEST_SCALE = 1e-3  # of a normal distribution that comes back from noise


def on_the_simplex(rows: Float[Array, "... A"]) -> Float[Array, "... A"]:
    """The nearest point of the probability simplex to each row (Duchi et al. 2008, figure 1).

    >>> on_the_simplex(jnp.array([[0.5, 0.5], [2.0, 0.0], [1.0, 0.5]])).tolist()
    [[0.5, 0.5], [1.0, 0.0], [0.75, 0.25]]
    """
    size = rows.shape[-1]
    ordered = -jnp.sort(-rows, axis=-1)
    excess = (jnp.cumsum(ordered, axis=-1) - 1) / jnp.arange(1, size + 1)
    kept = jnp.maximum(jnp.sum(ordered > excess, axis=-1, keepdims=True), 1)
    return jnp.maximum(rows - jnp.take_along_axis(excess, kept - 1, axis=-1), 0)


def centred(payload: Payload, broadcast: Payload) -> tuple[Payload, Payload]:
    """A message without what of it says nothing, and the centre that everybody knows, in one form.

    Log-probabilities are known up to a number per state, which is taken away.

    >>> payload, centre = centred(Logits(jnp.array([[[1.0, 3.0]]])), Logits(jnp.array([[5.0, 5.0]])))
    >>> payload.logits.tolist(), centre.logits.tolist()
    ([[[-1.0, 1.0]]], [[0.0, 0.0]])
    """
    if not isinstance(payload, PREDICTIONS):
        return payload, broadcast
    zero = jax.tree.map(lambda b: jnp.zeros_like(b), broadcast)
    if isinstance(payload, Probabilities):
        return payload, Probabilities(zero.probabilities + 1 / payload.probabilities.shape[-1])
    if isinstance(payload, Logits):
        return Logits(payload.logits - jnp.mean(payload.logits, axis=-1, keepdims=True)), zero
    if isinstance(payload, Gaussians):
        return payload, Gaussians(zero.mean, jnp.ones_like(zero.scale))
    return payload, zero


def mended(payload: Payload) -> Payload:
    """What noise left, as a message of its kind: probabilities on the simplex, scales above 0; post-processing.

    >>> mended(Probabilities(jnp.array([[1.5, 0.5]]))).probabilities.tolist()
    [[1.0, 0.0]]
    """
    if isinstance(payload, Probabilities):
        return Probabilities(on_the_simplex(payload.probabilities))
    if isinstance(payload, Gaussians):
        return Gaussians(payload.mean, jnp.maximum(payload.scale, SMALLEST_SCALE))
    return payload


def came(update: Update) -> Bool[Array, " C"]:
    """Who came with a message that can be used, `[C]`.

    >>> came(Update(jnp.array([[0.0], [jnp.nan], [1.0]]), jnp.array([1.0, 1.0, 0.0]))).tolist()
    [True, False, False]
    """
    here = jnp.asarray(update.weight) > 0
    payload = update.payload
    if isinstance(payload, PREDICTIONS):
        return here & valid(cast(Any, payload))
    for leaf in map(jnp.asarray, jax.tree.leaves(update.payload)):
        here &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))
    return here


def bounded(update: Update, broadcast: Payload, max_norm: Any) -> tuple[Update, Payload]:
    """Messages cut to a norm, the centre in the place of those that are absent, with weight 0; and that centre."""
    here = came(update)
    payload, centre = centred(jax.tree.map(jnp.asarray, update.payload), broadcast)

    def cleaned(x: Array, c: Array) -> Array:
        return jnp.where(here.reshape(-1, *(1,) * (x.ndim - 1)), x, c)

    payload = clip_to(jax.tree.map(cleaned, payload, centre), centre, max_norm)
    return Update(payload, jnp.where(here, jnp.asarray(update.weight), 0.0)), centre


def normal_like(key: PRNGKeyArray, payload: Payload, deviation: Any) -> Payload:
    """Independent normal numbers of that deviation in the form of `payload`."""
    leaves, form = jax.tree.flatten(payload)
    keys = jax.random.split(key, len(leaves))
    noise = [deviation * jax.random.normal(k, jnp.shape(x), x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(form, noise)


def check_noise(part: Any) -> None:
    """Raise `ValueError` if a field of a transform with noise is out of range, `MissingExtraError` as it may be."""
    in_range("transforms.noise_multiplier", part.noise_multiplier, 0.0, 1e9)
    in_range("transforms.max_norm", part.max_norm, 1e-12, 1e12)
    in_range("transforms.delta", part.delta, 1e-300, 0.5)
    one_of("transforms.accountant", part.accountant, ACCOUNTANTS)
    if part.accountant != "exact":
        load()
    if part.epsilon is not None:
        in_range("transforms.epsilon", part.epsilon, 1e-9, 40.0 if part.accountant == "pld" else 1e9)


def _check_payload(name: str, payload: Payload) -> None:
    """Refuse what noise cannot hide, or would make useless."""
    parts = jax.tree.leaves(payload, is_leaf=lambda x: isinstance(x, Moments | Visit))
    if any(isinstance(x, Visit) for x in parts):
        raise ValueError(
            f"{name} hides predictions on public states that are fixed, but the server walks from state to state: let "
            "clients send Predictions, or drop the noise."
        )
    if any(isinstance(x, Moments) for x in parts):
        raise ValueError(
            f"{name} would make counts and variances of observations negative: leave the observation statistics out of "
            "what is shared, or drop the noise."
        )
    for path, leaf in zip(leaf_names(payload), jax.tree.leaves(payload), strict=True):
        if not is_floating(leaf):
            raise ValueError(
                f"{name} adds noise to numbers with a fraction, but {path} of a message is whole and would be sent as "
                "it is: keep it off the wire, or drop the noise."
            )


class Pending(eqx.Module):
    """What the server does to the merged message: `share * merged + add`."""

    share: Float[Array, ""]
    add: Any


class CentralNoise(Transform):
    """The server adds noise to the sum of clipped differences and divides by the number of clients (DP-FedAvg).

        c + ( sum_{k came} min(1, S / norm(x_k - c)) (x_k - c) + N(0, (z S)^2 I) ) / C

    `C` is the number of clients of the experiment, not of those that came: the estimator with a fixed denominator of
    McMahan et al. (2018, sec. 3), so that an absent client adds 0 to the sum and its absence changes nothing else. A
    round to which few came is a short step. The noise stands on the mean of a linear rule in which clients count alike;
    `upload` sets their weights to 1.

    What the server sends out hides whether a client took part, its messages added or removed, if others came too: a
    round to which nobody came has no noise. The server is trusted. Metrics, evaluations and weights of single clients,
    as a run folder holds them, are not covered.

    >>> update = Update(jnp.array([[3.0, 4.0], [jnp.nan, 0.0]]), jnp.ones(2))
    >>> part = CentralNoise(noise_multiplier=0.0, max_norm=2.5)
    >>> sent, pending = part.upload(part.init(jnp.zeros(2), 2), update, jnp.zeros(2), jax.random.key(0))
    >>> sent.payload.tolist(), sent.weight.tolist()
    ([[1.5, 2.0], [0.0, 0.0]], [1.0, 0.0])
    >>> part.receive(pending, sent.payload[0])[0].tolist()
    [0.75, 1.0]
    """

    bounds_norm: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True
    hides: ClassVar[str] = "central"
    clips: ClassVar[bool] = True

    noise_multiplier: float = 1.0  # z, deviation of the noise on the sum in units of max_norm, >= 0; 0: none
    max_norm: float = 1.0  # S, bound on the global norm of a client's difference
    epsilon: float | None = eqx.field(default=None, static=True)  # budget, stops before the round that exceeds it
    delta: float = eqx.field(default=1e-5, static=True)  # at which epsilon is said
    accountant: str = eqx.field(default="exact", static=True)  # exact, pld or rdp: who says what was spent

    def check(self) -> None:
        """Raise `ValueError` if a field is out of range."""
        check_noise(self)

    def init(self, payload: Payload, num_clients: int) -> Pending:
        """Nothing is pending; raises `ValueError` where a message holds what noise cannot hide."""
        del num_clients
        _check_payload("CentralNoise", payload)
        return Pending(jnp.ones(()), jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), x.dtype), payload))

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Pending]:
        """Clip every message, and draw the noise that `receive` will add."""
        sent, centre = bounded(update, broadcast, self.max_norm)
        count, total = jnp.sum(sent.weight > 0).astype(jnp.float32), len(sent.weight)
        share = count / total

        def one_for_all(c: Array, a: Array) -> Array:  # a centre for each client, as a personal rule has, is refused
            return c if c.ndim == a.ndim else jnp.mean(c, axis=0)

        common = jax.tree.map(one_for_all, centre, state.add)
        noise = normal_like(key, state.add, self.noise_multiplier * self.max_norm / total)
        add = jax.tree.map(lambda c, n: ((1 - share) * c + n).astype(n.dtype), common, noise)
        return Update(sent.payload, jnp.where(sent.weight > 0, 1.0, 0.0)), Pending(share, add)

    def receive(self, state: Pending, merged: Payload) -> tuple[Payload, Pending]:
        """Add the noise to the merged message; nothing of it is kept."""
        noisy = jax.tree.map(lambda m, a: (state.share * m + a).astype(m.dtype), merged, state.add)
        return mended(noisy), Pending(jnp.ones(()), jax.tree.map(jnp.zeros_like, state.add))


class LocalNoise(Transform):
    """Every client adds noise to its own clipped difference before it sends it (local differential privacy).

        c + min(1, S / norm(x_k - c)) (x_k - c) + N(0, (z S)^2 I)

    Nobody else is trusted, so any rule may follow, and any transform that acts on what is sent. Any two messages of a
    client differ by `2 S` at most, which is what the guarantee is said for: it hides one message among all that the
    client could have sent in its place. That a client was absent is seen.

    >>> update = Update(jnp.zeros((2, 1000)), jnp.ones(2))
    >>> sent, _ = LocalNoise(noise_multiplier=3.0, max_norm=0.5).upload((), update, jnp.zeros(1000), jax.random.key(0))
    >>> bool(abs(jnp.std(sent.payload) - 1.5) < 0.05)
    True
    """

    hides: ClassVar[str] = "local"
    clips: ClassVar[bool] = True
    secret_key: ClassVar[bool] = True

    noise_multiplier: float = 1.0  # z, deviation of the noise on a message in units of max_norm, >= 0; 0: none
    max_norm: float = 1.0  # S, bound on the global norm of a client's difference
    epsilon: float | None = eqx.field(default=None, static=True)  # budget, stops before the round that exceeds it
    delta: float = eqx.field(default=1e-5, static=True)  # at which epsilon is said
    accountant: str = eqx.field(default="exact", static=True)  # exact, pld or rdp: who says what was spent

    def check(self) -> None:
        """Raise `ValueError` if a field is out of range."""
        check_noise(self)

    def init(self, payload: Payload, num_clients: int) -> Any:
        """Nothing to remember; raises `ValueError` where a message holds what noise cannot hide."""
        del num_clients
        _check_payload("LocalNoise", payload)
        return ()

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Clip every message and add its own noise."""
        sent, _ = bounded(update, broadcast, self.max_norm)
        keys = client_keys(key, len(sent.weight))
        noise = jax.vmap(lambda k, x: normal_like(k, x, self.noise_multiplier * self.max_norm))(keys, sent.payload)
        noisy = jax.tree.map(lambda x, n: (x + n).astype(x.dtype), sent.payload, noise)
        return Update(mended(noisy), sent.weight), state
