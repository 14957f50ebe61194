"""The door of a server: what is let into a round, and what a round is when somebody was not let in.

Every message is held against what was sent out, before anything touches its numbers: size, identity, form, one from
each client, finite, and no further away than others are; one that is compressed before it is read, and after. Who is
refused is absent with weight 0, so the round is, to the last bit, the one in which that client was not there. What a
client counts for is the server's own budget, not its claim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from polyfed.checks import in_range
from polyfed.exchange.site_part import SitePart
from polyfed.exchange.wire import Envelope, Manifest, Refused, unpack
from polyfed.types import Update


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Who was not let in, and why."""

    client: str
    code: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What is too far from the broadcast."""

    ratio: float = 10.0  # of a message's distance to the median one, where three or more came
    distance: float = float("inf")  # Euclidean, over all numbers with a fraction

    def check(self) -> None:
        """Raise `ValueError` if a bound would refuse everybody."""
        in_range("gate.ratio", self.ratio, 1.0, float("inf"))
        in_range("gate.distance", self.distance, 1e-12, float("inf"))


class Gate:
    """The door in one round.

    Args:
      envelope: What messages must belong to; its sender is of no matter.
      broadcast: What was sent out, a tree of arrays; messages must be of its form.
      weights: What each client counts for, by name; in the order of the rows that come out.
      bounds: On distances.
      own: What was sent to each client by name, where it was not the same for all.
      site_part: What sites do to a message before they send it, where they do anything; it says in which form it comes.

    Attributes:
      manifest: The form of what is let in.

    >>> from polyfed.exchange.wire import pack
    >>> gate = Gate(Envelope("e", "r", 1, ""), np.zeros(2, np.float32), {"ann": 100.0, "bob": 100.0})
    >>> message = lambda who, numbers: pack(Envelope("e", "r", 1, who), gate.manifest, [np.float32(numbers)])
    >>> gate.receive("ann", message("ann", [1, 2])), gate.receive("bob", message("bob", [np.nan, 0])).code
    (None, 'not-finite')
    >>> update = gate.close()
    >>> update.payload.tolist(), update.weight.tolist()
    ([[1.0, 2.0], [0.0, 0.0]], [100.0, 0.0])
    """

    def __init__(
        self,
        envelope: Envelope,
        broadcast: Any,
        weights: Mapping[str, float],
        bounds: Bounds | None = None,
        own: Mapping[str, Any] | None = None,
        site_part: SitePart | None = None,
    ):
        self.envelope, self.weights, self.bounds = envelope, dict(weights), bounds or Bounds()
        self.bounds.check()
        self._site_part, form = site_part, Manifest.of(broadcast)
        self.manifest = form if site_part is None else site_part.manifest
        self._kinds = [np.dtype(array.kind) for array in form.arrays]
        self.refusals: list[Refusal] = []
        self._form = jax.tree.structure(broadcast)
        as_arrays = lambda tree: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]  # noqa: E731
        everybody = as_arrays(broadcast)
        self._sent = {name: as_arrays(own[name]) if own else everybody for name in self.weights}
        self._came: dict[str, list[np.ndarray]] = {}
        self._moved: dict[str, float] = {}  # how far
        self._tried: set[str] = set()

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The clients from which nothing has come yet."""
        return tuple(name for name in self.weights if name not in self._tried)

    def receive(self, client: str, data: bytes) -> Refusal | None:
        """Let a message in, or say why not; `client` is who the carrier found out that it is.

        A first message counts, also one that is refused: nobody tries twice in a round.
        """
        try:
            self._admit(client, data)
        except Refused as refused:
            return self._refuse(client, refused)
        return None

    def absent(self, client: str, sentence: str) -> Refusal:
        """Note that nothing will come from a client in this round."""
        self._tried.add(client)
        return self._refuse(client, Refused("late", sentence))

    def _refuse(self, client: str, refused: Refused) -> Refusal:
        refusal = Refusal(client, refused.code, f"{client!r} is absent from round {self.envelope.round}: {refused}.")
        self.refusals.append(refusal)
        return refusal

    def _admit(self, client: str, data: bytes) -> None:
        if client not in self.weights:
            raise Refused("unknown-client", "it is no client of this run")
        if client in self._tried:
            raise Refused("twice", "it has sent before, and the first message counts")
        self._tried.add(client)
        _, arrays = unpack(data, self.manifest, lambda envelope: self._identify(client, envelope))
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise Refused("not-finite", f"its {name!r} is not finite")
        values = list(arrays.values())
        if self._site_part is not None and self._site_part.codes:
            values = self._site_part.read(arrays, self._sent[client])
            if not all(np.isfinite(array).all() for array in values):
                raise Refused("not-finite", "what it sent changes numbers beyond the largest that there is")
        if (distance := self._distance(client, values)) > self.bounds.distance:
            raise Refused("too-far", f"it moved by {distance:.3g}, more than {self.bounds.distance:g}")
        self._came[client], self._moved[client] = values, distance

    def _identify(self, client: str, envelope: Envelope) -> None:
        own = self.envelope
        if envelope.sender != client:
            raise Refused("unknown-client", f"it calls itself {envelope.sender!r}")
        for name in ("version", "experiment", "run", "round"):
            theirs, ours = getattr(envelope, name), getattr(own, name)
            if theirs != ours:
                raise Refused(f"other-{name}", f"it is for {name} {theirs!r}, and this is {ours!r}")  # type: ignore[arg-type]

    def _distance(self, client: str, values: list[np.ndarray]) -> float:
        pairs = [(x, b) for x, b in zip(values, self._sent[client], strict=True) if b.dtype.kind == "f"]
        squares = [float(np.sum((x.astype(np.float64) - b) ** 2)) for x, b in pairs]
        return float(np.sqrt(sum(squares)))

    def close(self) -> Update:
        """The messages of the round, leaves `[C, ...]`; rows of absent clients hold the broadcast, with weight 0."""
        self._refuse_the_far()
        rows = [self._came.get(name, self._sent[name]) for name in self.weights]
        stacks = [np.stack([row[i] for row in rows]).astype(kind) for i, kind in enumerate(self._kinds)]
        weight = [weight if name in self._came else 0.0 for name, weight in self.weights.items()]
        weights: Any = np.asarray(weight, np.float32)
        return Update(jax.tree.unflatten(self._form, stacks), weights)

    def _refuse_the_far(self) -> None:
        if len(self._came) < 3:
            return
        distances = {name: self._moved[name] for name in self._came}
        bound = self.bounds.ratio * float(np.median(list(distances.values())))
        for name, distance in distances.items():
            if distance > bound > 0:
                del self._came[name]
                sentence = f"it moved by {distance:.3g}, more than {self.bounds.ratio:g} times the median"
                self._refuse(name, Refused("too-far", sentence))
