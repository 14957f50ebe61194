"""What the world does to messages: they are lost, come late, are of a part of the work; clients vanish, too few come.

A fault changes what the server hears. What clients hear, and what they do meanwhile, stays as it is: one whose message
is lost or late, or that has vanished, trains on and takes in every broadcast.

References: xie2019fedasync, gilbert1960burst.
"""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from polyfed.checks import in_range, whole_in_range
from polyfed.exchange.transform import Transform, client_keys
from polyfed.leaves import is_floating
from polyfed.types import Payload, Update


class LoseMessages(Transform):
    """Loses each client's message with a fixed probability; the client is absent in that round.

    So is one whose message comes after the deadline of a server that waits for nobody.

    >>> import jax, jax.numpy as jnp
    >>> update = Update(payload=jnp.ones((2, 3)), weight=jnp.ones(2))
    >>> lost, _ = LoseMessages(probability=1.0).upload((), update, jnp.zeros(3), jax.random.key(0))
    >>> lost.weight.tolist()
    [0.0, 0.0]
    """

    loses: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True

    probability: float = 0.1  # 0 to 1, per client and round

    def check(self) -> None:
        """Raise `ValueError` unless the probability lies in [0, 1]."""
        in_range("transforms.probability", self.probability, 0.0, 1.0)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Set the weight of lost messages to 0."""
        del broadcast
        lost = jax.random.uniform(key, update.weight.shape, jnp.float32) < self.probability
        return Update(update.payload, jnp.where(lost, 0.0, update.weight)), state


def staleness_share(rounds: ArrayLike, exponent: ArrayLike) -> Array:
    """What a message that is some rounds old counts: `(rounds + 1)^-exponent` (Xie et al. 2019, "polynomial").

    Args:
      rounds: Broadcasts since the one on which it was made, from 0.
      exponent: `a`, from 0, where age is no matter.

    >>> staleness_share([0, 1, 3], 0.5).round(3).tolist()
    [1.0, 0.7070000171661377, 0.5]
    """
    return (jnp.asarray(rounds, jnp.float32) + 1) ** -jnp.asarray(exponent, jnp.float32)


class UnderWay(eqx.Module):
    """The late message of each client that has not come yet."""

    payload: Payload  # leaves [C, ...]
    weight: Float[Array, " C"]  # what it will count
    rounds: Int[Array, " C"]  # until it comes; 0: there is none


class DelayMessages(Transform):
    """Some messages come late, and then count less: by `(d + 1)^-a` after `d` rounds (Xie et al. 2019).

    With a probability a message needs 1 to `most` rounds more, all equally likely. It comes as it was sent, parameters
    that were learned on an older broadcast, in the place of the client's message of that round if that is late too; a
    message in time is newer and goes before it. One late message of a client is under way at a time; another that is
    late meanwhile is lost. So nothing is older than `most` rounds. A server that drops what is late is `LoseMessages`.

    FedAsync (Xie et al. 2019) mixes in each message by itself as it comes; here the rule merges those of a round.

    >>> part, update = DelayMessages(probability=1.0, most=1), Update(jnp.array([[1.0], [2.0]]), jnp.ones(2))
    >>> nothing, state = part.upload(part.init(jnp.zeros(1), 2), update, jnp.zeros(1), jax.random.key(0))
    >>> later, _ = part.upload(state, Update(9 * update.payload, jnp.ones(2)), jnp.zeros(1), jax.random.key(1))
    >>> nothing.weight.tolist(), later.payload.tolist(), later.weight.round(3).tolist()
    ([0.0, 0.0], [[1.0], [2.0]], [0.7070000171661377, 0.7070000171661377])
    """

    loses: ClassVar[bool] = True
    late: ClassVar[bool] = True

    probability: float = 0.2  # of being late, 0 to 1, per client and round
    most: int = 3  # rounds late, from 1
    exponent: float = 0.5  # a, from 0

    def check(self) -> None:
        """Raise `ValueError` where a field is out of range."""
        in_range("transforms.probability", self.probability, 0.0, 1.0)
        whole_in_range("transforms.most", self.most, 1, 10**6, "rounds")
        in_range("transforms.exponent", self.exponent, 0.0, 100.0)

    def init(self, payload: Payload, num_clients: int) -> UnderWay:
        """Nothing is under way at first."""
        empty = jax.tree.map(lambda x: jnp.zeros((num_clients, *jnp.shape(x)), jnp.result_type(x)), payload)
        return UnderWay(empty, jnp.zeros(num_clients, jnp.float32), jnp.zeros(num_clients, jnp.int32))

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Hold back what is late, and let in what has come."""
        del broadcast
        k_late, k_rounds = jax.random.split(key)
        shape, weight = update.weight.shape, jnp.asarray(update.weight)
        late = (weight > 0) & (jax.random.uniform(k_late, shape, jnp.float32) < self.probability)
        rounds = jax.random.randint(k_rounds, shape, 1, jnp.asarray(self.most, jnp.int32) + 1)
        in_time, comes = (weight > 0) & ~late, state.rounds == 1
        starts = late & (state.rounds <= 1)
        arrives = comes & ~in_time
        payload = _rows(arrives, state.payload, update.payload)
        heard = Update(payload, jnp.where(arrives, state.weight, jnp.where(late, 0.0, weight)))
        waits = UnderWay(
            _rows(starts, update.payload, state.payload),
            jnp.where(starts, weight * staleness_share(rounds, self.exponent), state.weight).astype(jnp.float32),
            jnp.where(starts, rounds, jnp.maximum(state.rounds - 1, 0)),
        )
        return heard, waits


def _rows(which: Bool[Array, " C"], these: Payload, others: Payload) -> Payload:
    """Leaves `[C, ...]`: the rows of `these` for some clients, of `others` for the rest."""
    pick = lambda x, y: jnp.where(which.reshape(-1, *(1,) * (jnp.ndim(x) - 1)), x, y)  # noqa: E731
    return jax.tree.map(pick, these, others)


class VanishAndReturn(Transform):
    """Clients go away now and then, and stay away for a time: a chain of two states for each (Gilbert 1960).

    A client that is there goes with probability `leave` before it sends; one that is away comes back with probability
    `1 / rounds`, so that it is away for a geometric number of rounds, `rounds` on average. All are there at first.

    >>> part, update = VanishAndReturn(leave=1.0, rounds=1.0), Update(jnp.ones((2, 1)), jnp.ones(2))
    >>> gone, away = part.upload(part.init(jnp.zeros(1), 2), update, jnp.zeros(1), jax.random.key(0))
    >>> back, _ = part.upload(away, update, jnp.zeros(1), jax.random.key(1))
    >>> gone.weight.tolist(), back.weight.tolist()
    ([0.0, 0.0], [1.0, 1.0])
    """

    loses: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True

    leave: float = 0.05  # 0 to 1, per client and round
    rounds: float = 5.0  # away, on average, from 1

    def check(self) -> None:
        """Raise `ValueError` where a field is out of range."""
        in_range("transforms.leave", self.leave, 0.0, 1.0)
        in_range("transforms.rounds", self.rounds, 1.0, 1e9, "rounds")

    def init(self, payload: Payload, num_clients: int) -> Bool[Array, " C"]:
        """Nobody is away."""
        del payload
        return jnp.zeros(num_clients, bool)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Set the weight of those that are away to 0."""
        del broadcast
        changes = jax.random.uniform(key, state.shape, jnp.float32) < jnp.where(state, 1 / self.rounds, self.leave)
        away = state ^ changes
        return Update(update.payload, jnp.where(away, 0.0, update.weight)), away


class PartialWork(Transform):
    """Some clients send but a part of what they changed: `b + s (x - b)`, with a share `s` drawn from `least` to 1.

    It stands for clients that were slow and stopped early. It is not the same: a client that does half of its local
    steps does not go half the way, and what it keeps to itself, optimizer and replay, has seen all of them. Fewer local
    steps are `Group(local_steps=...)` of a `Mixed` fleet. Numbers that are no floating-point numbers stay.

    >>> part, update = PartialWork(probability=1.0, least=0.5), Update(jnp.array([[4.0], [-4.0]]), jnp.ones(2))
    >>> sent, _ = part.upload((), update, jnp.zeros(1), jax.random.key(0))
    >>> bool(jnp.all((abs(sent.payload) >= 2) & (abs(sent.payload) < 4)))
    True
    """

    keeps_norm: ClassVar[bool] = True

    probability: float = 0.2  # 0 to 1, per client and round
    least: float = 0.25  # share of the change, 0 to 1

    def check(self) -> None:
        """Raise `ValueError` unless both are shares."""
        in_range("transforms.probability", self.probability, 0.0, 1.0)
        in_range("transforms.least", self.least, 0.0, 1.0)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Shorten the changes of some."""

        def drawn(key: PRNGKeyArray) -> tuple[Array, Array]:
            k_slow, k_share = jax.random.split(key)
            return jax.random.uniform(k_slow, (), jnp.float32), jax.random.uniform(k_share, (), jnp.float32)

        chance, extent = jax.vmap(drawn)(client_keys(key, len(jnp.asarray(update.weight))))
        slow, share = chance < self.probability, self.least + (1 - self.least) * extent

        def part(x: Array, b: Array) -> Array:
            wide = (-1, *(1,) * (jnp.ndim(x) - 1))
            return jnp.where(slow.reshape(wide), b + share.reshape(wide) * (x - b), x) if is_floating(x) else x

        return Update(jax.tree.map(part, update.payload, broadcast), update.weight), state


class Quorum(Transform):
    """Where fewer clients come than `least`, nobody counts, and the broadcast stays as it is.

    Put it behind what loses messages. A round without a quorum is one in which the weights of all are 0.

    >>> update = Update(jnp.ones((3, 1)), jnp.array([1.0, 0.0, 1.0]))
    >>> [Quorum(least).upload((), update, jnp.zeros(1), jax.random.key(0))[0].weight.tolist() for least in (2, 3)]
    [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """

    loses: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True
    counts_clients: ClassVar[bool] = True

    least: int = 2  # clients, from 1

    def check(self) -> None:
        """Raise `ValueError` unless it is a whole number from 1."""
        whole_in_range("transforms.least", self.least, 1, 10**6, "clients")

    def check_clients(self, num_clients: int) -> None:
        """Raise `ValueError` where so many never come.

        >>> Quorum(4).check_clients(3)
        Traceback (most recent call last):
        ValueError: A quorum of 4 is never met by 3 clients: lower transforms.least to 3 or less.
        """
        if self.least > num_clients:
            raise ValueError(
                f"A quorum of {self.least} is never met by {num_clients} clients: lower transforms.least to "
                f"{num_clients} or less."
            )

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Set all weights to 0 where too few came."""
        del broadcast, key
        weight = jnp.asarray(update.weight)
        return Update(update.payload, jnp.where(jnp.sum(weight > 0) >= self.least, weight, 0.0)), state
