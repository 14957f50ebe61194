"""The messages of a secure sum: four or five questions of the server, an answer of each client to each.

- keys: asked by nothing; the answer is the client's two public keys, signed.
- shares: asked with the public keys of all; the answer is its secrets' shares, each sealed for one client, and a
  commitment to its seed.
- masked: asked with the shares that are for the client; the answer is its masked numbers.
- agree: asked with who is left; the answer is its signature under that.
- unmask: asked with who is left, and the signatures of the others; the answer is a share for each client: of its seed
  if it is left, of its mask key if it is not.

Signatures, and the phase "agree", are there where clients have identities. All messages are of a fixed form. Bytes
travel as whole numbers of 32 bits. Rows stand for the clients in the order of the terms.

References: bonawitz2017secure.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from polyfed.exchange.secure_sum.ciphers import KEY_BYTES, SIGNATURE_BYTES, TAG_BYTES
from polyfed.exchange.secure_sum.secret_sharing import SHARE_BYTES
from polyfed.exchange.wire import ArrayForm, Envelope, Manifest, Refused, pack, unpack

Phase = Literal["keys", "shares", "masked", "agree", "unmask"]
Shapes = dict[str, tuple[int, ...]]

SERVER = "server"  # who it is that asks

KEY_WORDS = KEY_BYTES // 4
BOX_WORDS = (2 * SHARE_BYTES + TAG_BYTES) // 4
SHARE_WORDS = SHARE_BYTES // 4
SIGNATURE_WORDS = SIGNATURE_BYTES // 4


class Unsafe(Exception):
    """What the server asks for could tell it more than the sum, so that the client answers nothing, now or later."""


@dataclasses.dataclass(frozen=True)
class Terms:
    """What all agree on before a sum begins.

    >>> terms = Terms(Envelope("e", "r", 1, ""), ("ann", "bob", "cy"), threshold=2, num_values=10)
    >>> terms.answer("masked").num_bytes, terms.place("bob")
    (40, 1)
    """

    envelope: Envelope  # experiment, run and round; its sender is of no matter
    clients: tuple[str, ...]  # who is asked, in the order of the rows
    threshold: int  # clients that must be left at every stage
    num_values: int  # numbers of a message
    identities: tuple[bytes, ...] = ()  # public keys by which clients know each other; none: the server is believed

    def check(self) -> None:
        """Raise `ValueError` if a sum would not hide a client, or names or identities do not fit."""
        if len(set(self.clients)) < len(self.clients) or SERVER in self.clients:
            raise ValueError(f"Names of clients stand for one client each, and {SERVER!r} for none: rename them.")
        if not 2 <= self.threshold <= len(self.clients) or 2 * self.threshold <= len(self.clients):
            raise ValueError(
                f"A threshold of {self.threshold} among {len(self.clients)} clients does not hide a client: give more "
                "than half of them, at least 2, at most all."
            )
        if self.identities and len(set(self.identities)) != len(self.clients):
            raise ValueError(
                f"{len(set(self.identities))} identities do not stand for {len(self.clients)} clients: give each its "
                "own, or none."
            )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """In order."""
        return ("keys", "shares", "masked", *(("agree",) if self.identities else ()), "unmask")

    @property
    def context(self) -> bytes:
        """32 bytes that belong to this sum, so that nothing of it serves in another.

        It is no secret. Two sums of one experiment, run and round must not be; who makes several in a round numbers
        them in the name of the run.
        """
        own = self.envelope
        said = [own.experiment, own.run, own.round, own.version, *self.clients, self.threshold, self.num_values]
        return hashlib.sha256(json.dumps([*said, *map(bytes.hex, self.identities)]).encode()).digest()

    def place(self, client: str) -> int:
        """The row of a client."""
        return self.clients.index(client)

    def label(self, sender: int, recipient: int) -> bytes:
        """What a sealed share is bound to."""
        return self.context + sender.to_bytes(4, "little") + recipient.to_bytes(4, "little")

    def signed_keys(self, client: int, channel: bytes, mask: bytes) -> bytes:
        """What a client signs in the first phase."""
        return b"keys" + self.label(client, client) + channel + mask

    def signed_left(self, there: np.ndarray) -> bytes:
        """What all that are left sign before anything is unmasked."""
        return b"left" + self.context + np.asarray(there, bool).tobytes()

    def question(self, phase: Phase) -> Manifest:
        """The form of what the server sends."""
        count, signed = len(self.clients), bool(self.identities)
        signatures: Shapes = {"signatures": (count, SIGNATURE_WORDS)} if signed else {}
        keys: Shapes = {"channel_keys": (count, KEY_WORDS), "mask_keys": (count, KEY_WORDS)}
        rows: dict[Phase, Shapes] = {
            "keys": {},
            "shares": keys | signatures,
            "masked": {"sealed": (count, BOX_WORDS)},
            "agree": {},
            "unmask": signatures,
        }
        there = ArrayForm(f"{phase}.there", "bool", (count,))
        return Manifest((there, *_forms(phase, rows[phase])))

    def answer(self, phase: Phase) -> Manifest:
        """The form of what a client answers."""
        count = len(self.clients)
        signed: Shapes = {"signature": (SIGNATURE_WORDS,)}
        shapes: dict[Phase, Shapes] = {
            "keys": {"channel_key": (KEY_WORDS,), "mask_key": (KEY_WORDS,), **(signed if self.identities else {})},
            "shares": {"sealed_for": (count, BOX_WORDS), "commitment": (KEY_WORDS,)},
            "masked": {"values": (self.num_values,)},
            "agree": signed,
            "unmask": {"shares": (count, SHARE_WORDS)},
        }
        return Manifest(_forms(phase, shapes[phase]))

    def ask(self, phase: Phase, *arrays: Any) -> bytes:
        """A message of the server."""
        return pack(dataclasses.replace(self.envelope, sender=SERVER), self.question(phase), arrays)

    def say(self, phase: Phase, client: str, *arrays: Any) -> bytes:
        """A message of a client."""
        return pack(dataclasses.replace(self.envelope, sender=client), self.answer(phase), arrays)

    def read(self, manifest: Manifest, data: bytes, sender: str) -> list[np.ndarray]:
        """The arrays of a message, in order; raises `wire.Refused` unless it has that form, sender and place."""

        def belongs(envelope: Envelope) -> None:
            if envelope.sender != sender:
                raise Refused("unknown-client", f"it is from {envelope.sender!r}, not from {sender!r}")
            for field in ("version", "experiment", "run", "round"):
                theirs, ours = getattr(envelope, field), getattr(self.envelope, field)
                if theirs != ours:
                    raise Refused(f"other-{field}", f"it is for {field} {theirs!r}, and this is {ours!r}")  # type: ignore[arg-type]

        return list(unpack(data, manifest, belongs)[1].values())


def _forms(phase: Phase, shapes: Shapes) -> tuple[ArrayForm, ...]:
    return tuple(ArrayForm(f"{phase}.{name}", "uint32", shape) for name, shape in shapes.items())


def words(data: bytes) -> np.ndarray:
    """Bytes as whole numbers of 32 bits, little-endian.

    >>> words(bytes([1, 0, 0, 0, 0, 1, 0, 0])).tolist()
    [1, 256]
    """
    return np.frombuffer(data, np.dtype("<u4")).astype(np.uint32)


def as_bytes(numbers: np.ndarray) -> bytes:
    """And back.

    >>> as_bytes(words(b"sixteen bytes...")).decode()
    'sixteen bytes...'
    """
    return np.ascontiguousarray(numbers).astype("<u4").tobytes()


def commitment(terms: Terms, seed: bytes) -> bytes:
    """What shows later that a seed is the one that was shared, and tells nothing of it before."""
    return hashlib.sha256(b"seed" + terms.context + seed).digest()


def bytes_beside(num_clients: int) -> tuple[int, int]:
    """What a sum costs each client beside its numbers, `(up, down)`, in bytes of arrays.

    >>> bytes_beside(10)
    (1336, 1560)
    """
    terms = Terms(Envelope("", "", 0, ""), tuple(map(str, range(num_clients))), num_clients, 0)
    up = sum(terms.answer(phase).num_bytes for phase in terms.phases)
    return up, sum(terms.question(phase).num_bytes for phase in terms.phases)


def rows_of(names: Sequence[str], found: dict[str, np.ndarray], width: int) -> np.ndarray:
    """`[C, width]` uint32, zeros where there is nothing.

    >>> rows_of(("ann", "bob"), {"bob": np.uint32([7])}, 1).tolist()
    [[0], [7]]
    """
    return np.stack([found.get(name, np.zeros(width, np.uint32)) for name in names])
