"""Exchanges whose messages go into a secure sum: the server asks phase by phase, and learns the sum or nothing.

References: bonawitz2017secure.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from polyfed.deployment.answer import Failed, opened
from polyfed.deployment.audit import Event
from polyfed.deployment.sum_messages import Attempt, named, num_values, summing, whole_of
from polyfed.exchange.gate import Refusal
from polyfed.exchange.secure_sum.ciphers import load_ciphers
from polyfed.exchange.secure_sum.messages import Phase
from polyfed.exchange.secure_sum.messages import Terms as SumTerms
from polyfed.exchange.secure_sum.server import SummingServer, TooFew
from polyfed.exchange.wire import Envelope, Manifest, Refused

if TYPE_CHECKING:
    from polyfed.deployment.remote import Remote

Figures = dict[str, dict[str, Any]]


class SecureRounds:
    """The secure sums of a deployment.

    Args:
      remote: Whose exchanges they are.
      known: Public keys with which clients sign, by name in their order; none: they do not, and the server is believed.

    Attributes:
      threshold: Clients that must be left at every stage: as many as the transform says, or the quorum if that is more.

    Raises:
      ValueError: The keys are not those of the clients.
      MissingExtraError: `cryptography` is not installed.
    """

    def __init__(self, remote: Remote, known: Mapping[str, bytes]):
        part = summing(remote.experiment)
        assert part is not None
        load_ciphers()
        if known and not named(known, remote.names):
            raise ValueError(
                f"identities.json names {', '.join(known)}, but the clients are {', '.join(remote.names)}: make keys "
                "for these, in this order."
            )
        self.remote, self.part, self.known = remote, part, dict(known)
        self.threshold = max(part.needed(len(remote.names)), remote.terms.quorum)
        how = "signed" if known else "not signed: they hide clients from a server that follows the protocol"
        remote._log(Event("began", phase="keys", why=f"secure sums, {how}"))

    def once(self, envelope: Envelope, own: Mapping[str, Any]) -> tuple[Any, np.ndarray, Figures]:
        """Try an exchange once.

        Args:
          envelope: Of the exchange.
          own: By client that takes part, the broadcast, which is the same for all.

        Returns:
          `(payload [n, ...], came [n], figures)`: the mean as the message of each; nobody came where the sum was given
          up, and then nothing was unmasked.
        """
        broadcast = next(iter(own.values()))
        form = Manifest.of(broadcast)
        sum_ = _Sum(self, envelope, form, self.remote._packed(envelope, form, own))
        sum_.run()
        names, count = self.remote.names, len(self.remote.names)
        round_ = (envelope.round - 1) // self.remote.experiment.payload.exchanges + 1
        weights = np.broadcast_to(np.asarray(self.remote.simulation.homes.weights, np.float32), count)
        whole: Any = np.where(np.isin(names, sum_.server.came), whole_of(self.remote.experiment, weights, round_), 0)
        total: Any = np.zeros(num_values(form), np.uint32) if sum_.server.total is None else sum_.server.total
        everybody = jax.tree.map(lambda x: np.broadcast_to(x, (count, *np.shape(x))), broadcast)
        update = self.part.known(everybody, broadcast, total, whole, weights)  # not compiled, see there
        places = [names.index(name) for name in own]
        payload = jax.tree.map(lambda x: np.asarray(x)[places], update.payload)
        return payload, np.asarray(update.weight)[places] > 0, sum_.figures


class _Sum:
    """One attempt."""

    def __init__(self, rounds: SecureRounds, envelope: Envelope, form: Manifest, messages: Mapping[str, bytes]):
        self.remote, self.number, self.messages = rounds.remote, envelope.round, dict(messages)
        names = self.remote.names
        self.attempt = Attempt(secrets.token_hex(16), names, rounds.threshold, bool(rounds.known))
        self.terms: SumTerms = self.attempt.terms(envelope, next(iter(messages.values())), form, rounds.known)
        self.server = SummingServer(self.terms)
        self.figures: Figures = {name: {"wire_down": 0, "wire_up": 0} for name in messages}
        self.among: dict[str, tuple[str, ...]] = {}  # by site, for whom it has shown shares before
        self.refusals: list[Refusal] = []
        self._noted = 0  # of them

    def run(self) -> None:
        """All phases."""
        try:
            for phase in self.terms.phases:
                answers, events = self._ask(phase)
                if phase == "keys":
                    answers = self._as_before(answers)
                before = len(self.server.refusals)
                try:
                    self.server.advance(answers)
                finally:
                    self.refusals += self.server.refusals[before:]
                    self._note(phase, events)
        except TooFew as few:
            self.remote.complaints.append(str(few))
            self.remote._log(Event("given up", round=self.number, phase=phase, why=str(few)))
        else:
            came = self.server.came
            why = f"{len(came)} of {len(self.terms.clients)}: {', '.join(came)}"
            self.remote._log(Event("summed", round=self.number, phase=phase, why=why))
        self.remote._count(self.refusals)

    def _ask(self, phase: Phase) -> tuple[dict[str, bytes], dict[str, Event]]:
        """The questions of a phase to all that are left, and what came; who fell silent is noted."""
        broadcast = self.messages if phase == "keys" else {}
        questions = {
            name: self.attempt.ask(question, broadcast.get(name, b""))
            for name, question in self.server.questions.items()
            if name in self.messages
        }
        for name, question in questions.items():
            self.figures[name]["wire_down"] += len(question)
        answers, events = dict[str, bytes](), dict[str, Event]()
        replies = self.remote._ask(phase, questions)
        for name, data in replies.arrived:
            self._receive(phase, name, data, questions, answers, events)
        for name in questions:
            if name not in events:
                late = f"nothing came within {self.remote.terms.deadline_s:g} s"
                self._refuse(phase, name, Refused("late", replies.failed.get(name, late)))
        return answers, events

    def _receive(
        self,
        phase: Phase,
        name: str,
        data: bytes,
        questions: Mapping[str, bytes],
        answers: dict[str, bytes],
        events: dict[str, Event],
    ) -> None:
        """One answer; the first of a client counts, and the protocol's part of it is read by `SummingServer`."""
        event = Event("accepted", name, self.number, phase, sha256(data).hexdigest(), len(data))
        try:
            if name not in questions:
                raise Refused("unknown-client", "nobody asked it")
            self.figures[name]["wire_up"] += len(data)
            if name in events:
                raise Refused("twice", "it has answered before, and the first answer counts")
            events[name] = event
            answers[name] = self._read(phase, name, data)
        except Failed as failed:
            self._refuse(phase, name, Refused("late", str(failed)))
        except Refused as refused:
            self._refuse(phase, name, refused)

    def _read(self, phase: Phase, name: str, data: bytes) -> bytes:
        """The protocol's part of an answer; figures come with the keys."""
        most = self.terms.answer(phase).most_bytes + 64
        if phase != "keys":
            return opened(data, 1, most)[0]
        form = self.remote._figures_of(self.remote.names.index(name))
        keys, told, among = opened(data, 3, most + form.most_bytes + 64 * len(self.terms.clients))
        self.figures[name] |= self.remote._read_figures(name, self.number, told)
        try:
            given = tuple(json.loads(among))
        except (ValueError, TypeError, RecursionError):
            raise Refused("unreadable", "it does not say for whom it has shown shares") from None
        if given and all(isinstance(one, str) for one in given):
            self.among[name] = given
        return keys

    def _as_before(self, answers: dict[str, bytes]) -> dict[str, bytes]:
        """Only those for whom sites have shown shares in this exchange before, which they show for no others.

        Where there are enough of sites that have shown none, the sum does without the shares of those that have.
        """
        claims = [left for name, left in self.among.items() if name in answers]
        if not claims or len(answers) - len(claims) >= self.terms.threshold:
            return answers
        left = max(sorted(set(claims)), key=claims.count)
        for name in answers:
            if name not in left:
                self._refuse("keys", name, Refused("late", "the sum was begun without it, and is ended so"))
        return {name: answer for name, answer in answers.items() if name in left}

    def _refuse(self, phase: Phase, name: str, refused: Refused) -> None:
        where = f"{name!r} is absent from round {self.number} from the phase {phase!r} of its sum"
        self.refusals.append(Refusal(name, refused.code, f"{where}: {refused}."))

    def _note(self, phase: Phase, events: Mapping[str, Event]) -> None:
        """Tell of those that were refused or silent in a phase, and write down who sent what."""
        said, self._noted = self.refusals[self._noted :], len(self.refusals)
        self.remote.complaints.extend(refusal.sentence for refusal in said)
        bad = {refusal.client: refusal for refusal in said}
        for name, event in events.items():
            if name not in bad:
                self.remote._log(event)
        for refusal in said:
            absent = Event("absent", refusal.client, self.number, phase)
            what = dataclasses.replace(events.get(refusal.client, absent), code=refusal.code, why=refusal.sentence)
            self.remote._log(dataclasses.replace(what, what="refused") if what.sha256 else what)
