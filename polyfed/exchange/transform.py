"""The interface of a transform: something that happens to a message on its way."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import PRNGKeyArray

from polyfed.types import Payload, Update


@dataclasses.dataclass(frozen=True)
class WireSize:
    """What a message takes on the wire.

    >>> WireSize(values=1000, beside=8).total
    4008
    """

    values: int  # numbers of the payload that are sent
    each: int = 4  # bytes of one
    beside: int = 0  # bytes of scales, indices and whatever else goes along
    clients: int = 1  # that take part, for what goes along for each of them

    @property
    def total(self) -> int:
        """All of it."""
        return self.values * self.each + self.beside


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

    The do-nothing defaults may be replaced; `upload` must act on each client alone unless `sum_only`, `hostile` or
    `counts_clients`.
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
          key: One per round.
        """
        del broadcast, key
        return update, state

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
