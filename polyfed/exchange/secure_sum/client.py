"""A client's side of a secure sum: it answers each question once, or falls silent (Bonawitz et al. 2017, fig. 4).

References: bonawitz2017secure.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from polyfed.exchange.secure_sum.ciphers import KEY_BYTES, opened, sealed, signature, signed_by
from polyfed.exchange.secure_sum.key_agreement import KeyPair, pair_key
from polyfed.exchange.secure_sum.masks import mask, pair_mask
from polyfed.exchange.secure_sum.messages import (
    BOX_WORDS,
    SERVER,
    SHARE_WORDS,
    Phase,
    Terms,
    Unsafe,
    as_bytes,
    commitment,
    words,
)
from polyfed.exchange.secure_sum.secret_sharing import SHARE_BYTES, shares_of


class SummingClient:
    """One client in one sum.

    It does no input or output: `answer` takes the bytes of a question and gives those of an answer. It changes in
    place, because a state that could be kept could be asked twice, and two answers to the last question tell what one
    must not.

    Args:
      terms: What all agree on.
      name: The client's.
      values: `[D]` uint32: its own numbers, see `fixed_point.encode`.
      identity: Its private key for signing, where the terms have identities.

    >>> from polyfed.exchange.wire import Envelope
    >>> terms = Terms(Envelope("e", "r", 1, ""), ("ann", "bob"), threshold=2, num_values=1)
    >>> client = SummingClient(terms, "ann", np.uint32([5]))
    >>> client.phase, len(client.answer(terms.ask("keys", np.zeros(2, bool)))) > 64, client.phase
    ('keys', True, 'shares')
    """

    def __init__(self, terms: Terms, name: str, values: Any, identity: bytes = b""):
        terms.check()
        self.terms, self.name, self._place = terms, name, terms.place(name)
        self._values = np.array(values, np.uint32)
        if self._values.shape != (terms.num_values,):
            raise ValueError(
                f"{name} has numbers of shape {self._values.shape}, but all agreed on {terms.num_values}: encode as "
                "the others do."
            )
        if bool(identity) != bool(terms.identities):
            raise ValueError(f"{name} and the terms disagree on whether clients sign: give both identities, or none.")
        self._identity = identity
        self._channel, self._mask, self._seed = KeyPair.new(), KeyPair.new(), secrets.token_bytes(KEY_BYTES)
        self._there = np.ones(len(terms.clients), bool)
        self._public: list[tuple[bytes, bytes]] = []  # by place: the keys for shares and for masks
        self._own: tuple[bytes, bytes] = b"", b""  # shares of its own secrets for itself
        self._held: dict[int, bytes] = {}  # by place: shares of the mask key and of the seed of others, together
        self._nth = 0

    @property
    def phase(self) -> str:
        """The question that it will answer next; empty where it answers no more."""
        phases = self.terms.phases
        return phases[self._nth] if self._nth < len(phases) else ""

    def answer(self, question: bytes) -> bytes:
        """Answer the question of this phase; whatever goes wrong, it answers nothing from then on.

        Raises:
          Unsafe: An answer could tell more than the sum, or all questions were answered.
          Refused: It is no such question.
          ValueError: Another client's key or share is no good.
        """
        if not self.phase:
            raise Unsafe(f"{self.name} was asked again after its last answer, and answers a question once.")
        nth, phase = self._nth, self.terms.phases[self._nth]
        self._nth = len(self.terms.phases)  # until this has gone well
        there, *arrays = self.terms.read(self.terms.question(phase), question, SERVER)
        if phase != "keys":
            self._look_at(phase, there)
        answer = getattr(self, f"_answer_{phase}")(*arrays)
        self._nth = nth + 1
        return self.terms.say(phase, self.name, *answer)

    def _look_at(self, phase: Phase, there: np.ndarray) -> None:
        """Who takes part can only get fewer, never too few, and the client is among them; what was signed stays."""
        if np.any(there & ~self._there) or not there[self._place]:
            raise Unsafe(f"{self.name} was told of clients that were not there before, or that it is not there itself.")
        if there.sum() < self.terms.threshold:
            raise Unsafe(f"{self.name} was asked with {there.sum()} there, and {self.terms.threshold} must be.")
        if phase == "unmask" and self.terms.identities and not np.array_equal(there, self._there):
            raise Unsafe(f"{self.name} was told that others are left than those under which it signed.")
        self._there = there

    @property
    def _others(self) -> list[int]:
        return [int(place) for place in np.flatnonzero(self._there) if place != self._place]

    def _answer_keys(self) -> tuple[np.ndarray, ...]:
        own = self._channel.public, self._mask.public
        signed = (self.terms.signed_keys(self._place, *own),) if self._identity else ()
        return (*map(words, own), *(words(signature(self._identity, content)) for content in signed))

    def _answer_shares(
        self, channel: np.ndarray, masks: np.ndarray, signatures: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        self._public = [(as_bytes(c), as_bytes(m)) for c, m in zip(channel, masks, strict=True)]
        known = [key for place in np.flatnonzero(self._there) for key in self._public[place]]
        if self._public[self._place] != (self._channel.public, self._mask.public) or len(set(known)) < len(known):
            raise Unsafe(f"{self.name} was shown keys that are not its own under its name, or one key twice.")
        for other in self._others if signatures is not None else ():
            if not self._signed(other, signatures, self.terms.signed_keys(other, *self._public[other])):
                raise Unsafe(f"{self.name} was shown keys of {self.terms.clients[other]} that it did not sign.")
        split = [shares_of(secret, self.terms.threshold, len(self.terms.clients)) for secret in self._secrets]
        self._own = split[0][self._place], split[1][self._place]
        boxes = np.zeros((len(self.terms.clients), BOX_WORDS), np.uint32)
        for other in self._others:
            key = self._key("share", other, (self._place, other))
            label = self.terms.label(self._place, other)
            boxes[other] = words(sealed(key, split[0][other] + split[1][other], label))
        return boxes, words(commitment(self.terms, self._seed))

    def _signed(self, other: int, signatures: Any, content: bytes) -> bool:
        return signed_by(self.terms.identities[other], as_bytes(signatures[other]), content)

    @property
    def _secrets(self) -> tuple[bytes, bytes]:
        return self._mask.private, self._seed

    def _key(self, purpose: Any, other: int, pair: tuple[int, int]) -> bytes:
        own, theirs = (self._channel, 0) if purpose == "share" else (self._mask, 1)
        return pair_key(own.private, self._public[other][theirs], self.terms.context, purpose, pair)

    def _answer_masked(self, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
        for other in self._others:
            key, label = self._key("share", other, (other, self._place)), self.terms.label(other, self._place)
            self._held[other] = opened(key, as_bytes(boxes[other]), label)
        low_first = {other: (min(self._place, other), max(self._place, other)) for other in self._others}
        seeds = {other: self._key("mask", other, pair) for other, pair in low_first.items()}
        count = self.terms.num_values
        return (self._values + mask(self._seed, count) + pair_mask(self._place, seeds, count),)

    def _answer_agree(self) -> tuple[np.ndarray, ...]:
        return (words(signature(self._identity, self.terms.signed_left(self._there))),)

    def _answer_unmask(self, signatures: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """Of every client one share: of the seed of who is left, of the mask key of who is not; never of both."""
        if signatures is not None:
            content = self.terms.signed_left(self._there)
            agree = 1 + sum(self._signed(other, signatures, content) for other in self._others)
            if agree < self.terms.threshold:
                raise Unsafe(
                    f"{self.name} knows of {agree} that agree on who is left, and {self.terms.threshold} must."
                )
        shares = np.zeros((len(self.terms.clients), SHARE_WORDS), np.uint32)
        for other, both in self._held.items():
            left = bool(self._there[other])
            shares[other] = words(both[SHARE_BYTES:] if left else both[:SHARE_BYTES])
        shares[self._place] = words(self._own[1])
        return (shares,)
