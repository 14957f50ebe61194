"""The interface of a transform: something that happens to a message on its way."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from polyfed.exchange.coded import PLACE, Coded, changes
from polyfed.types import Payload, Update


@dataclasses.dataclass(frozen=True)
class WireSize:
    """What a message takes on the wire.

    >>> WireSize(values=1000, beside=8).total
    4008
    >>> WireSize(values=10, of=1000).total
    80
    """

    values: int  # numbers of the payload that are sent
    each: int = 4  # bytes of one
    beside: int = 0  # bytes of scales, keys and whatever else goes along
    clients: int = 1  # that take part, for what goes along for each of them
    of: int = 0  # numbers of the payload, where only some of them changed and are sent with their places; 0: all are

    @property
    def numbers(self) -> int:
        """Of the payload, sent or not."""
        return max(self.values, self.of)

    @property
    def total(self) -> int:
        """All of it; all numbers are sent where that is shorter than some with their places."""
        some = self.values * (self.each + (PLACE if self.of else 0))
        return min(some, self.numbers * self.each) + self.beside


def upload_keys(key: PRNGKeyArray, num_transforms: int) -> PRNGKeyArray:
    """The key of each transform in an exchange, `[num_transforms]`; server and sites make the same of one key.

    >>> upload_keys(jax.random.key(0), 3).shape
    (3,)
    """
    return jax.random.split(key, num_transforms + 1)[:-1]


def client_keys(key: PRNGKeyArray, num_clients: int) -> PRNGKeyArray:
    """The key of each client, `[C]`: that of client `k` is `fold_in(key, k)`, however many there are.

    Args:
      key: That of all; or `[C]`, those of each already, which stay.
      num_clients: Rows of the stack.

    >>> keys = client_keys(jax.random.key(0), 5)
    >>> bool(keys[3] == jax.random.fold_in(jax.random.key(0), 3)), client_keys(keys[3:4], 1).shape
    (True, (1,))
    """
    if key.ndim:
        return key
    return jax.vmap(lambda client: jax.random.fold_in(key, client))(jnp.arange(num_clients))


class Transform(eqx.Module):
    """Something that happens to a message: clipped, compressed, masked, lost.

    Facts that the experiment checks before anything compiles:

    - `sum_only`: the server sees the sum of the messages and none of them alone, so only a linear rule can follow.
    - `bounds_norm`: no message that leaves differs from the broadcast by more than a declared norm.
    - `loses`: it can make a client absent.
    - `keeps_norm`: the transform never enlarges that difference; what follows a `bounds_norm` transform must keep it.
    - `hostile`: it stands for clients that lie, who may agree on what they send and send anything.
    - `hides`: it adds noise that hides a client: "central", to what the server made of the sum; "local", to the message
      of each client; "": it adds none. A transform that does has the fields of `privacy.CentralNoise`.
    - `clips`: it bounds what a client sends before it adds such noise.
    - `compresses`: it leaves fewer or shorter numbers, which saves bytes only where nothing encodes them anew.
    - `late`: a message can come in a later round than the one in which it was made.
    - `counts_clients`: it looks at who came, so that it acts where all messages are, at the server.
    - `secret_key`: its chance must be unknown to the server: a site takes it from its operating system, not the seed.

    The do-nothing defaults may be replaced; `upload` must act on each client alone unless `sum_only`, `hostile` or
    `counts_clients`. What acts on each alone, and by chance, draws with `client_keys`, so that a site that passes a
    stack of one and its own key sends what it would have sent among others. See `placement` for what acts where.

    One that `compresses` has `encode` and `decode`, the form that goes over the wire; its `upload` is one after the
    other. A number that did not change since the broadcast must come out of both as it was.
    """

    sum_only: ClassVar[bool] = False
    loses: ClassVar[bool] = False
    bounds_norm: ClassVar[bool] = False
    keeps_norm: ClassVar[bool] = False
    hostile: ClassVar[bool] = False
    hides: ClassVar[str] = ""
    clips: ClassVar[bool] = False
    compresses: ClassVar[bool] = False
    late: ClassVar[bool] = False
    counts_clients: ClassVar[bool] = False
    secret_key: ClassVar[bool] = False

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range."""
        return

    def check_clients(self, num_clients: int) -> None:
        """Raise `ValueError` in one sentence if it cannot act among so many clients."""
        del num_clients

    def init(self, payload: Payload, num_clients: int) -> Any:
        """The transform's memory between rounds; `payload` is one client's, to fix shapes."""
        del payload, num_clients
        return ()

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        """Change the messages on their way up.

        Args:
          state: What `init` or the last round gave.
          update: Payload leaves `[C, ...]`, weights `[C]`. A client of a deployment passes a stack of one.
          broadcast: What the clients started from; leaves `[...]`, or `[C, ...]` where every client has its own.
          key: One per round; of a client of a deployment `[1]`, its own, see `client_keys`.
        """
        del broadcast, key
        return update, state

    def encode(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Coded, Any]:
        """The changes as they go over the wire, numbers with a fraction only; arguments are those of `upload`."""
        del key
        return Coded(changes(update.payload, broadcast)), state

    def decode(self, coded: Coded) -> Any:
        """The changes `[C, n]` that the server reads, `float32`; the same to the last bit wherever it is done."""
        return coded.numbers

    def kept(self, numbers: int) -> int:
        """Of so many numbers, how many may differ from the broadcast's after it, at most."""
        return numbers

    def receive(self, state: Any, merged: Payload) -> tuple[Payload, Any]:
        """Undo on the merged result what the server must undo."""
        return merged, state

    def wire(self, size: WireSize) -> WireSize:
        """What a message of that size takes after this transform."""
        return size

    def relayed(self, size: WireSize) -> int:
        """Bytes that the server sends each client on its account, beside the broadcast."""
        del size
        return 0
