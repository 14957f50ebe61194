"""The server's side of a secure sum: it asks, does without who is silent, and learns the sum, or nothing.

References: bonawitz2017secure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polyfed.exchange.gate import Refusal
from polyfed.exchange.secure_sum.ciphers import public_key
from polyfed.exchange.secure_sum.key_agreement import pair_key
from polyfed.exchange.secure_sum.masks import mask, pair_mask
from polyfed.exchange.secure_sum.messages import (
    BOX_WORDS,
    KEY_WORDS,
    SIGNATURE_WORDS,
    Phase,
    Terms,
    as_bytes,
    commitment,
    rows_of,
)
from polyfed.exchange.secure_sum.secret_sharing import secret_of
from polyfed.exchange.wire import Refused


class TooFew(Exception):
    """Fewer clients are left than must be, or their shares do not fit: nothing was unmasked, and nothing can be."""


class SummingServer:
    """The server of one sum. It does no input or output: a carrier takes `questions` out and brings answers in.

    >>> from polyfed.exchange.secure_sum.client import SummingClient
    >>> from polyfed.exchange.wire import Envelope
    >>> terms = Terms(Envelope("e", "r", 1, ""), ("ann", "bob", "cy"), threshold=2, num_values=2)
    >>> clients = {name: SummingClient(terms, name, np.uint32([1, 2])) for name in terms.clients}
    >>> server = SummingServer(terms)
    >>> while server.phase:
    ...     server.advance({name: clients[name].answer(question) for name, question in server.questions.items()})
    >>> server.total.tolist(), server.came
    ([3, 6], ('ann', 'bob', 'cy'))
    """

    def __init__(self, terms: Terms):
        terms.check()
        self.terms = terms
        self.refusals: list[Refusal] = []  # who answered what could not be read
        self.total: np.ndarray | None = None  # [D] uint32, the sum, once it is known
        self.came: tuple[str, ...] = ()  # whose numbers are in it
        self._there = terms.clients
        self._found: dict[Phase, dict[str, list[np.ndarray]]] = {}  # by phase and client
        self._nth = 0

    @property
    def phase(self) -> str:
        """What is asked now; empty where all is done, or given up."""
        phases = self.terms.phases
        return phases[self._nth] if self._nth < len(phases) else ""

    @property
    def questions(self) -> dict[str, bytes]:
        """The question of this phase for every client that is there."""
        if not self.phase:
            return {}
        phase, names = self.terms.phases[self._nth], self.terms.clients
        there = np.isin(names, self.came or self._there)
        tables: list[np.ndarray] = []
        if phase == "masked":
            boxes = {name: found[0] for name, found in self._found["shares"].items()}
            for_place = lambda nth: {other: rows[nth] for other, rows in boxes.items()}  # noqa: E731
            each = {name: rows_of(names, for_place(names.index(name)), BOX_WORDS) for name in self._there}
            return {name: self.terms.ask(phase, there, rows) for name, rows in each.items()}
        if phase == "shares":
            tables = [self._table("keys", nth, KEY_WORDS) for nth in (0, 1)]
        if self.terms.identities and phase in ("shares", "unmask"):
            tables.append(self._table("keys" if phase == "shares" else "agree", -1, SIGNATURE_WORDS))
        return dict.fromkeys(self._there, self.terms.ask(phase, there, *tables))

    def _table(self, phase: Phase, nth: int, width: int) -> np.ndarray:
        """One array of every answer in a phase, `[C, width]`."""
        return rows_of(self.terms.clients, {name: found[nth] for name, found in self._found[phase].items()}, width)

    def advance(self, answers: Mapping[str, bytes]) -> None:
        """Take the answers of a phase in; who is not among them, or answers what cannot be read, is gone.

        Raises:
          TooFew: Fewer than the threshold answered, or nothing fits; the sum is given up, and no mask was taken off.
        """
        phase = self.terms.phases[self._nth]
        found: dict[str, list[np.ndarray]] = {}
        for name in self._there:
            if name not in answers:
                continue
            try:
                found[name] = self.terms.read(self.terms.answer(phase), answers[name], name)
            except Refused as refused:
                round_ = self.terms.envelope.round
                self.refusals.append(Refusal(name, refused.code, f"{name!r} is absent from round {round_}: {refused}."))
        self._found[phase], self._there = found, tuple(found)
        if len(found) < self.terms.threshold:
            self._nth, self.came = len(self.terms.phases), ()
            raise TooFew(
                f"{len(found)} of {len(self.terms.clients)} clients were left after the phase {phase!r} of a secure "
                f"sum, and {self.terms.threshold} must be: nothing was unmasked."
            )
        self._nth += 1
        if phase == "masked":
            self.came = tuple(found)
        if phase == "unmask":
            self.total = self._unmasked()

    def _secret(self, name: str) -> bytes:
        """The one secret of a client for which shares came."""
        rows = {self.terms.place(who): found[0] for who, found in self._found["unmask"].items()}
        few = sorted(rows)[: self.terms.threshold]
        return secret_of({place + 1: as_bytes(rows[place][self.terms.place(name)]) for place in few})

    def _unmasked(self) -> np.ndarray:
        """The sum of the masked numbers, without the seeds' masks of who is left and the pairs' of who is not."""
        terms, count = self.terms, self.terms.num_values
        total = np.zeros(count, np.uint32)
        try:
            for name in self.came:
                total += self._found["masked"][name][0]
                seed = self._secret(name)
                if commitment(terms, seed) != as_bytes(self._found["shares"][name][1]):
                    raise ValueError(f"The shares of the seed of {name!r} do not fit what it committed to.")
                total -= mask(seed, count)
            for gone in self._found["shares"]:
                if gone not in self.came:
                    total += self._pairs_of(gone, self._secret(gone))
        except ValueError as error:
            self.came = ()
            raise TooFew(f"A secure sum was given up: {error}") from error
        return total

    def _pairs_of(self, gone: str, private: bytes) -> np.ndarray:
        """What a client that is gone would have added on account of those that are left."""
        terms, keys = self.terms, self._found["keys"]
        if public_key(private) != as_bytes(keys[gone][1]):
            raise ValueError(f"The shares of the mask key of {gone!r} do not fit its public key.")
        place = terms.place(gone)
        seeds = {}
        for name in self.came:
            other = terms.place(name)
            pair = (min(place, other), max(place, other))
            seeds[other] = pair_key(private, as_bytes(keys[name][1]), terms.context, "mask", pair)
        return pair_mask(place, seeds, terms.num_values)
