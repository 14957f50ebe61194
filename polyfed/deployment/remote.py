"""The clients of a simulation that live elsewhere: the server's loop goes on as it is, and a carrier brings them.

`Simulation(experiment, seeds, afar=...)` takes a `Remote` where it would run compiled clients: rules, transforms,
server optimizer, metrics, checkpoints, run folder and report are those of the simulation.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import jax
import numpy as np

from polyfed.deployment.answer import UNKNOWN, Failed, opened
from polyfed.deployment.audit import Audit, Event
from polyfed.deployment.carrier import Carrier, Phase, Replies, check_name
from polyfed.deployment.deployable import check_deployable
from polyfed.deployment.member import Member, identity
from polyfed.deployment.resident import Greeting
from polyfed.deployment.secure_round import SecureRounds
from polyfed.deployment.sum_messages import summing
from polyfed.deployment.terms import Terms
from polyfed.errors import QuorumError
from polyfed.exchange.gate import Gate, Refusal
from polyfed.exchange.placement import at_server
from polyfed.exchange.site_part import SitePart
from polyfed.exchange.transform import Transform
from polyfed.exchange.wire import ArrayForm, Envelope, Manifest, Refused, pack, unpack
from polyfed.record import to_data
from polyfed.simulation.engine import first_payload
from polyfed.simulation.simulate import Simulation

Sent = dict[str, bytes]


class Remote:
    """All clients, each at a site that a carrier reaches.

    Args:
      simulation: Whose clients they are; of one seed.
      carrier: The way to them.
      run: A name that no other run has.
      names: Of the clients, in their order; `client-0`, `client-1`, ... if empty.
      terms: What they are granted.
      audit: Where it is written who sent what; None: nowhere.
      known: Public keys with which clients sign in secure sums, by name; None: they do not sign.

    Attributes:
      clients: Which clients they are: all.
      longest_block: 1: sites can go back by a round and no more, so the federation is kept after each.
      complaints: A sentence for each absence that nobody has been told of yet.
    """

    longest_block = 1

    def __init__(
        self,
        simulation: Simulation,
        carrier: Carrier,
        run: str,
        *,
        names: Sequence[str] = (),
        terms: Terms | None = None,
        audit: Audit | None = None,
        known: Mapping[str, bytes] | None = None,
    ):
        experiment = self.experiment = simulation.experiment
        check_deployable(experiment, simulation.seeds)
        self.simulation, self.carrier, self.audit = simulation, carrier, audit
        self.clients = list(range(experiment.num_clients))
        self.names = tuple(map(check_name, names or [f"client-{c}" for c in self.clients]))
        if len(set(self.names)) != len(self.clients):
            raise ValueError(
                f"{experiment.name} has {len(self.clients)} clients, but {len(set(self.names))} names were given: name "
                "each once."
            )
        self.terms = terms or Terms()
        self.terms.check(len(self.clients))
        self.complaints: list[str] = []
        self.digest = identity(experiment, simulation.seeds[0])
        self.run = run
        self._greeted: set[str] = set()
        self._done = 0  # exchanges
        self._exchanges = experiment.payload.exchanges
        self._firsts = [max(f for f, _ in experiment.placed_groups() if f <= c) for c in self.clients]  # of its group
        self._figures: dict[int, Manifest] = {}  # by first client of a group
        self.sums = SecureRounds(self, known or {}) if summing(experiment) else None
        self._site_part: SitePart | None = None

    # What a simulation asks of those that live elsewhere.

    def ready(self) -> None:
        """Nothing is to be made."""

    def begin(self) -> None:
        """Sites are greeted when they are first needed."""

    def first_messages(self) -> Any:
        """`[S, ...]`: the payload from which all start."""
        return first_payload(self.simulation.homes)

    def save(self) -> tuple[()]:
        """What sites have learned stays there."""
        return ()

    def load(self, weights: Any, num_rounds: int) -> None:
        """What sites have learned is there."""

    def weights_of(self, nth_seed: int) -> dict[str, Any]:
        """What sites have learned stays there."""
        return {}

    def told(self) -> str:
        """Every complaint since the last call, equal ones once with their number."""
        counted = {text: self.complaints.count(text) for text in dict.fromkeys(self.complaints)}
        self.complaints = []
        return " ".join(text if count == 1 else f"{text} ({count} times)" for text, count in counted.items())

    def exchange(self, broadcast: Any, round_: int, nth: int) -> tuple[Any, np.ndarray, dict[str, np.ndarray]]:
        """The clients' half of an exchange; those that have not joined yet are left alone.

        Args:
          broadcast: Leaves `[1, ...]`, or `[1, C, ...]` where each client has its own.
          round_: The round, from 1.
          nth: Which of its exchanges, from 0.

        Returns:
          `(payload [1, C, ...], came [1, C], metrics [1, C])`; among the metrics are `refused`, messages that were not
          let in, and `wire_up` and `wire_down`, bytes as they were sent.

        Raises:
          QuorumError: Too few were let in, however often they were asked.
        """
        there = self.experiment.there(np.array([round_]))[0]
        own = {self.names[c]: self._row(broadcast, c) for c in self.clients if there[c]}
        number = (round_ - 1) * self._exchanges + nth + 1
        self._done = number - 1
        once, quorum = (self._gated, self.terms.quorum) if self.sums is None else (self.sums.once, self.sums.threshold)
        for attempt in range(self.terms.tries):
            if attempt:
                time.sleep(self.terms.pause_s * 2 ** (attempt - 1))
            payload, let_in, figures = once(Envelope(self.digest, self.run, number, "server"), own)
            if let_in.sum() >= (quorum if self.sums is not None else min(quorum, len(own))):
                return self._whole(list(own), payload, let_in, figures)
        raise QuorumError(
            f"Only {int(let_in.sum())} of {len(own)} clients were let into round {round_}, and {quorum} are the "
            f"quorum: {self.told()} What was done is kept: mend them, then resume."
        )

    def at_server(self, transforms: Sequence[Transform]) -> tuple[Transform, ...]:
        """What is left of the experiment's transforms where messages arrive."""
        return at_server(transforms)

    def evaluate(self, worlds: Any, num_episodes: int, round_: int) -> np.ndarray:
        """Mean scores `[1, C, M]` of every client's own policy, NaN where none came; sites know all worlds."""
        del num_episodes
        self._done = round_ * self._exchanges
        num_worlds = jax.tree.leaves(worlds[0])[0].shape[1]
        scores = np.full((1, len(self.clients), num_worlds), math.nan)
        envelope = Envelope(self.digest, self.run, round_, "server")
        form = Manifest((ArrayForm("scores", "float32", (num_worlds,)),))
        message = pack(envelope, Manifest(()), [])
        replies = self._ask("evaluate", dict.fromkeys(self.names, message))
        for name, data in replies.arrived:
            try:
                (part,) = opened(data, 1, form.most_bytes + 64)
                given, arrays = unpack(part, form)
                if (given.sender, given.round, given.run) != (name, envelope.round, self.run):
                    raise Refused("other-round", "it is of another round, run or client")
                scores[0, self.names.index(name)] = arrays["scores"]
            except (Failed, Refused) as error:
                self.complaints.append(f"{name!r} has no scores after round {envelope.round}: {error}.")
        for name, sentence in replies.failed.items():
            self.complaints.append(f"{name!r} has no scores after round {envelope.round}: {sentence}.")
        return scores

    def stop(self, reason: str) -> None:
        """Tell everybody that the run is over."""
        self.carrier.exchange("stop", dict.fromkeys(self.names, reason.encode()), min(30.0, self.terms.deadline_s))

    # Messages

    def _gated(self, envelope: Envelope, own: Mapping[str, Any]) -> tuple[Any, np.ndarray, dict[str, dict[str, Any]]]:
        """Ask everybody once for what it sends: `(payload [n, ...], let in [n], figures)`."""
        weights = np.broadcast_to(np.asarray(self.simulation.homes.weights), len(self.clients))
        first = next(iter(own.values()))
        if self._site_part is None:
            self._site_part = SitePart(self.experiment.transforms, first)
        gate = Gate(
            envelope,
            first,
            {name: float(weights[self.names.index(name)]) for name in own},
            self.terms.bounds,
            own if self.simulation.parts.rule.personal else None,
            self._site_part,
        )
        figures, events = self._collect(gate, own)
        update = gate.close()
        self._note(gate, events)
        return update.payload, np.asarray(update.weight) > 0, figures

    def _row(self, broadcast: Any, client: int) -> Any:
        personal = self.simulation.parts.rule.personal
        return jax.tree.map(lambda x: np.asarray(x)[0, client] if personal else np.asarray(x)[0], broadcast)

    def _figures_of(self, client: int) -> Manifest:
        """What a client's figures must be; in a group they are alike."""
        first = self._firsts[client]
        if first not in self._figures:
            self._figures[first] = Member(self.experiment, self.simulation.seeds[0], first).metrics_form
        return self._figures[first]

    def _greet(self, names: Sequence[str], deadline_s: float) -> dict[str, str]:
        """Tell sites of the run; gives a sentence for each that does not take part."""
        if not names:
            return {}
        data, seed = to_data(self.experiment), self.simulation.seeds[0]
        greetings = {
            name: Greeting(data, self.digest, seed, self.run, self.names.index(name), name).pack() for name in names
        }
        replies = self.carrier.exchange("hello", greetings, deadline_s)
        failed = dict.fromkeys(names, "it did not answer") | dict(replies.failed)
        for name, answer in replies.arrived:
            try:
                (part,) = opened(answer, 1, 4096)
                done = json.loads(part)["done"]
                failed.pop(name, None)
                if type(done) is int and done == 0 and self._should_know(name):
                    self.complaints.append(f"{name!r} was started anew, and begins with what is sent to it next.")
                self._greeted.add(name)
                self._log(Event("greeted", name, phase="hello", why=f"it has done {done} exchanges"[:80]))
            except (Failed, Refused, ValueError, KeyError, TypeError) as error:
                failed[name] = str(error)
        return failed

    def _should_know(self, name: str) -> bool:
        """Whether a client has taken part in a round that is over."""
        first = int(self.experiment.first_rounds[self.names.index(name)])
        return self._done >= first * self._exchanges

    def _ask(self, phase: Phase, messages: Sent) -> Replies:
        """As the carrier's `exchange`; sites that do not know of the run are told, and asked again."""
        began = time.monotonic()
        left = lambda: max(0.01, self.terms.deadline_s - (time.monotonic() - began))  # noqa: E731
        greeting = left() / 3  # who is silent then does not take the others' time
        failed = self._greet([name for name in messages if name not in self._greeted], greeting)
        replies = self.carrier.exchange(phase, {n: m for n, m in messages.items() if n not in failed}, left())
        strangers = [name for name, data in replies.arrived if data == UNKNOWN and name in messages]
        arrived, failed = [pair for pair in replies.arrived if pair[1] != UNKNOWN], {**failed, **replies.failed}
        if strangers:
            still = self._greet(strangers, left() / 3)
            again = self.carrier.exchange(phase, {n: messages[n] for n in strangers if n not in still}, left())
            arrived, failed = [*arrived, *again.arrived], {**failed, **still, **again.failed}
        return Replies(tuple(arrived), failed)

    def _collect(self, gate: Gate, own: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], list[Event]]:
        """Send the broadcasts, and hold what comes against the gate."""
        envelope = gate.envelope
        messages = self._packed(envelope, Manifest.of(next(iter(own.values()))), own)
        figures: dict[str, dict[str, Any]] = {name: {"wire_down": len(messages[name])} for name in own}
        replies, events = self._ask("round", messages), []
        for name, data in replies.arrived:
            if name in figures:
                figures[name].setdefault("wire_up", len(data))
            before = len(gate.refusals)
            self._receive(gate, name, data, figures)
            code = gate.refusals[-1].code if len(gate.refusals) > before else ""
            events.append(Event("", name, envelope.round, "round", sha256(data).hexdigest(), len(data), code))
        for name, sentence in replies.failed.items():
            if name in gate.waits_for:
                gate.absent(name, sentence)
        for name in gate.waits_for:
            gate.absent(name, f"nothing came within {self.terms.deadline_s:g} s")
        return figures, events

    def _packed(self, envelope: Envelope, manifest: Manifest, own: Mapping[str, Any]) -> Sent:
        """What goes to each client; one message for all, where all get the same."""
        if self.simulation.parts.rule.personal:
            return {name: pack(envelope, manifest, jax.tree.leaves(row)) for name, row in own.items()}
        return dict.fromkeys(own, pack(envelope, manifest, jax.tree.leaves(next(iter(own.values())))))

    def _receive(self, gate: Gate, name: str, data: bytes, figures: dict[str, dict[str, Any]]) -> None:
        client = self.names.index(name) if name in self.names else 0
        form = self._figures_of(client)
        try:
            weights, told = opened(data, 2, gate.manifest.most_bytes + form.most_bytes + 64)
        except Failed as failed:
            if name in gate.waits_for:
                gate.absent(name, str(failed))
            return
        except Refused:
            gate.receive(name, data)  # which refuses it, and says why
            return
        if gate.receive(name, weights) is None:
            figures[name] |= self._read_figures(name, gate.envelope.round, told)

    def _read_figures(self, name: str, number: int, told: bytes) -> dict[str, np.ndarray]:
        """A client's figures; none where they cannot be read."""
        try:
            envelope, arrays = unpack(told, self._figures_of(self.names.index(name)))
            if (envelope.sender, envelope.round) != (name, number):
                raise Refused("other-round", "they are of another round or client")
        except Refused as refused:
            self.complaints.append(f"The figures of {name!r} are left out of round {number}: {refused}.")
            return {}
        return arrays

    def _note(self, gate: Gate, events: list[Event]) -> None:
        """Tell of refusals, and write down who sent what."""
        self.complaints.extend(refusal.sentence for refusal in gate.refusals)
        why = {(refusal.client, refusal.code): refusal.sentence for refusal in gate.refusals}
        late = {refusal.client: refusal for refusal in gate.refusals if refusal.code == "too-far"}
        for event in events:
            code = event.code or (late[event.client].code if event.client in late else "")
            what, said = ("refused", why.get((event.client, code), "")) if code else ("accepted", "")
            self._log(Event(what, event.client, event.round, event.phase, event.sha256, event.num_bytes, code, said))
        came = {event.client for event in events}
        for refusal in gate.refusals:
            if refusal.client not in came:
                said = refusal.sentence
                self._log(Event("absent", refusal.client, gate.envelope.round, "round", code=refusal.code, why=said))
        self._count(gate.refusals)

    def _count(self, refusals: Sequence[Refusal]) -> None:
        self._refused = {name: sum(refusal.client == name for refusal in refusals) for name in self.names}

    def _log(self, event: Event) -> None:
        if self.audit is not None:
            self.audit.note(event)

    def _whole(self, names: list[str], payload: Any, came: np.ndarray, figures: Mapping[str, Any]) -> Any:
        """The rows of those that were asked, among those of all clients."""
        places = [self.names.index(name) for name in names]

        def spread(x: Any) -> np.ndarray:
            whole = np.zeros((1, len(self.clients), *np.shape(x)[1:]), np.asarray(x).dtype)
            whole[0, places] = x
            return whole

        metrics: dict[str, np.ndarray] = {}
        for name, given in figures.items():
            for figure, value in {"refused": self._refused.get(name, 0), **given}.items():
                row = metrics.setdefault(figure, self._blank(np.asarray(value)))
                row[0, self.names.index(name)] = value
        return jax.tree.map(spread, payload), spread(came), metrics

    def _blank(self, value: np.ndarray) -> np.ndarray:
        whole = np.zeros((1, len(self.clients)), value.dtype)
        return whole if value.dtype.kind in "iu" else np.full_like(whole, np.nan)
