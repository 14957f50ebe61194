"""A site's part in secure sums: it answers each question once, and shows shares for one set of clients per exchange.

Two sums of the same messages over different clients would tell the message of whoever is in one of them alone. So a
site that has shown shares remembers for whom, see `shown`, and in a later try shows them for no others. It says so when
it is asked for keys, and the server goes on with those clients: a sum that was lost with its server is done again, and
tells nothing new.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from polyfed.deployment.answer import Failed, answer, opened
from polyfed.deployment.identities import Identity
from polyfed.deployment.member import Member
from polyfed.deployment.shown import Memory, Shown
from polyfed.deployment.sum_messages import Attempt, named, summing, whole_of
from polyfed.exchange.compression import changes
from polyfed.exchange.secure_sum.ciphers import load_ciphers
from polyfed.exchange.secure_sum.client import SummingClient
from polyfed.exchange.secure_sum.messages import SERVER, Terms
from polyfed.exchange.wire import Envelope, unpack

if TYPE_CHECKING:
    from polyfed.deployment.kept import Turn

LOG = logging.getLogger(__name__)


class SumSite:
    """The sums of one client in one run.

    Args:
      member: The client.
      name: Its name.
      run: Which run.
      identity: Its key for signing and those by which it knows the others; None: it believes the server.
      memory: For whom it has shown shares.

    Raises:
      MissingExtraError: `cryptography` is not installed.
    """

    def __init__(self, member: Member, name: str, run: str, identity: Identity | None, memory: Memory):
        part = summing(member.experiment)
        assert part is not None
        load_ciphers()
        self.part, self.member, self.name, self.run, self.identity = part, member, name, run, identity
        self.memory = memory
        self._tried: set[str] = set()
        self._attempt = ""  # the one that goes on
        self._client: SummingClient | None = None
        self._now = Shown("", run, 0, "", "", ())  # what will have been shown at its end
        if identity is None:
            LOG.warning(
                "%s has no identities of the others: its messages are hidden from a server that follows the protocol, "
                "not from one that makes up clients.",
                name,
            )

    def check(self, head: Attempt, envelope: Envelope, broadcast: bytes) -> None:
        """Raise `Failed` where this site takes no part in an attempt; it has not learned for it yet."""
        count, known = self.member.experiment.num_clients, None if self.identity is None else self.identity.known
        if len(head.clients) != count or head.clients[self.member.client] != self.name:
            raise Failed("the server names other clients than the experiment has, or this site at another place")
        if known is not None and not (head.signed and named(known, head.clients)):
            raise Failed(
                "this site knows the other clients by identities.json, and the server names others, or does not let "
                "them sign: give the server the same file"
            )
        if known is None and head.signed:
            raise Failed("the sum is signed, and this site has no identities.json: carry over its whole folder of keys")
        needed = self.part.needed(count)
        if not needed <= head.threshold <= count:
            raise Failed(f"the server asks for a threshold of {head.threshold}, and {needed} is the least")
        if head.name in self._tried:
            raise Failed("it was asked for this sum before, and answers once")
        shown = self.memory.exchange(self.run, envelope.round)
        if shown is not None and shown.broadcast != _digest(broadcast):
            raise Failed(f"it has shown shares of exchange {envelope.round}, which began with something else")

    def begin(self, head: Attempt, broadcast: bytes, turn: Turn) -> bytes:
        """Answer the question for keys: with them, the figures, and for whom it has shown shares before.

        Raises:
          Failed: It has no message for this sum.
        """
        self._attempt, self._client = "", None
        self._tried.add(head.name)
        (figures,) = opened(turn.answer, 1)
        if not turn.held:
            raise Failed(
                "it was started anew, and may have been in a sum of this exchange before: it waits for the next"
            )
        envelope, values = self._numbers(broadcast, turn)
        about = _digest(broadcast), _digest(values.tobytes())
        now = Shown(envelope.experiment, self.run, turn.number, *about, ())
        shown, own = self.memory.of(now), self.memory.exchange(self.run, turn.number)
        if own is not None and own.message != now.message:
            raise Failed(f"it has shown shares of exchange {turn.number}, and what it learned then is lost")
        known = {} if self.identity is None else self.identity.known
        terms = head.terms(envelope, broadcast, self.member.payload_form, known)
        private = b"" if self.identity is None else self.identity.private
        client = SummingClient(terms, self.name, values, private)
        keys = client.answer(terms.ask("keys", np.ones(len(terms.clients), bool)))
        self._attempt, self._client, self._now = head.name, client, now
        return answer([keys, figures, json.dumps([] if shown is None else shown.left).encode()])

    def go_on(self, phase: str, head: Attempt, question: bytes) -> bytes:
        """Answer a later question of the attempt that goes on.

        Raises:
          Failed: It is of another one, asked twice, or about other clients than those for which it has shown shares.
          Unsafe: An answer could tell more than the sum, or was given before.
          Refused: It is no such question.
          ValueError: Another client's key or share is no good.
        """
        client = self._client
        if client is None or head.name != self._attempt:
            raise Failed("it knows nothing of this sum: it was started anew, or another has begun")
        if client.phase != phase:
            raise Failed(f"it was asked for {phase!r}, which it has answered, or cannot answer yet")
        said = client.answer(question)
        if phase == "unmask":
            self._show(client.terms, question)
        return answer([said])

    def _numbers(self, broadcast: bytes, turn: Turn) -> tuple[Envelope, np.ndarray]:
        """What it puts into the sum, `[D]`."""
        member = self.member
        envelope, sent = unpack(broadcast, member.payload_form)
        _, arrays = unpack(turn.held, member.sent_form)
        own = member.site_part.read(arrays, list(sent.values()))
        form = jax.tree.structure(member.form)
        base = jax.tree.unflatten(form, list(sent.values()))
        payload = jax.tree.unflatten(form, [np.asarray(x)[None] for x in own])
        if not np.isfinite(np.asarray(changes(payload, base))).all():
            raise Failed("a number that it would send is not finite")
        round_ = (turn.number - 1) // member.plan.exchanges + 1
        whole = whole_of(member.experiment, member.simulation.homes.weights, round_)
        one: Any = whole[member.client : member.client + 1]
        return envelope, np.asarray(self.part.coded(payload, base, one))[0]

    def _show(self, terms: Terms, question: bytes) -> None:
        """Remember for whom shares are shown, before they are; raises `Failed` where they were shown for others."""
        there: Any = terms.read(terms.question("unmask"), question, SERVER)[0]
        left = tuple(name for name, is_left in zip(terms.clients, there, strict=True) if is_left)
        now = dataclasses.replace(self._now, left=left)
        before = self.memory.of(now)
        if before is not None and before.left != left:
            raise Failed(
                f"it has shown shares of exchange {now.number} for other clients, and shows them for no others"
            )
        self.memory.add(now)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
