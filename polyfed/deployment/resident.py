"""The agent that lives at a site: its world, learner and replay stay here while messages come and go.

It answers phases with bytes and never raises. An exchange that is asked for again, because a server died and came back,
gets the same answer and is not learned twice; if the server then sends something else, the site goes back and learns
from that, unless it adds noise of its own: two answers to one question would wear it away. Where messages go into a
secure sum they are held here, and the site answers the sum's questions instead, see `sum_site`. With a folder it keeps
what it has after every exchange, and goes on from there when it was killed. Without one it is a newcomer: it says so,
and begins with what the server sends next.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from polyfed import __version__
from polyfed.deployment.answer import UNKNOWN, Failed, answer, failure
from polyfed.deployment.carrier import Phase, check_name
from polyfed.deployment.identities import Identity
from polyfed.deployment.kept import Turn, keep, kept
from polyfed.deployment.member import AtHome, Member, identity
from polyfed.deployment.shown import Memory
from polyfed.deployment.sum_messages import PHASES as SUM_PHASES
from polyfed.deployment.sum_messages import Attempt, summing
from polyfed.deployment.sum_site import SumSite
from polyfed.deployment.trusted import check_trusted
from polyfed.errors import DamagedError, PolyfedError, on_a_line
from polyfed.exchange.secure_sum.messages import Unsafe
from polyfed.exchange.wire import ArrayForm, Envelope, Manifest, Refused, pack, unpack
from polyfed.experiment import Experiment
from polyfed.record import from_data

MOST_GREETING = 2**20  # bytes
LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Greeting:
    """What a server says of the run before the first exchange; a site learns from it which client it is."""

    experiment: Any  # as data
    digest: str
    seed: int
    run: str
    client: int
    name: str
    version: str = __version__

    def pack(self) -> bytes:
        """As bytes."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Greeting:
        """Read it; raises `Failed` if it is none."""
        try:
            if len(data) > MOST_GREETING:
                raise ValueError
            given = cls(**json.loads(data))
            words = (given.digest, given.run, given.name, given.version)
            if not all(isinstance(word, str) for word in words) or {type(given.seed), type(given.client)} != {int}:
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise Failed("what the server sent is no greeting of polyfed") from None
        return given


class Resident:
    """One site.

    Args:
      name: Of the client that lives here.
      folder: Where it keeps what it has; None: nowhere.
      experiment: The only one that it takes part in; None: any that is made of parts of polyfed alone.
      signs: Its key for signing in secure sums, and those by which it knows the others; None: it believes the server.

    >>> resident = Resident("client-0")
    >>> resident.answer("round", b"a message of a run of which nobody has told it")
    b'?'
    """

    def __init__(
        self,
        name: str,
        folder: Path | None = None,
        experiment: Experiment | None = None,
        signs: Identity | None = None,
    ):
        self.name, self.folder, self.experiment = check_name(name), folder, experiment
        self.member: Member | None = None
        self.greeting: Greeting | None = None
        self._after: AtHome | None = None  # what is here after exchange `_number`
        self._number = 0
        self._turns: list[Turn] = []  # of the last round
        self._signs, self._shown = signs, Memory(folder)
        self._sums: SumSite | None = None  # where messages go into sums
        self._busy = threading.Lock()
        self.over = threading.Event()  # the server said so

    def answer(self, phase: Phase, message: bytes) -> bytes:
        """What it has to say to a message."""
        phases: dict[str, Callable[[bytes], bytes]] = {
            "name": lambda _: answer([self.name.encode()]),
            "hello": self._hello,
            "round": self._round,
            **{each: functools.partial(self._sum, each) for each in SUM_PHASES},
            "evaluate": self._evaluate,
            "stop": self._stop,
        }
        with self._busy:
            try:
                if phase not in phases:
                    raise Failed(f"it knows no phase {phase!r}")
                if phase in ("round", "evaluate", *SUM_PHASES) and self.member is None:
                    return UNKNOWN
                return phases[phase](message)
            except _Unknown:
                return UNKNOWN
            except (Failed, Refused, Unsafe, PolyfedError, ValueError) as error:
                LOG.warning("%s: %s", self.name, error)
                return failure(on_a_line(error))
            except Exception as error:
                LOG.exception("%s failed", self.name)
                return failure(f"it failed with {type(error).__name__}: {on_a_line(error)}")

    def _hello(self, message: bytes) -> bytes:
        given = Greeting.unpack(message)
        if given.version != __version__:
            raise Failed(
                f"this site has polyfed {__version__}, and the server has {given.version}: install one of both"
            )
        if given.name != self.name:
            raise Failed(f"this site is {self.name!r}, and the server takes it for {given.name!r}")
        if self.greeting != given:
            self._take_up(given)
        return answer([json.dumps({"name": self.name, "done": self._number}).encode()])

    def _take_up(self, given: Greeting) -> None:
        """Become the client that the server says; what was learned in that run is taken from the folder."""
        experiment = self.experiment
        if experiment is None:
            experiment = from_data(given.experiment)
            if not isinstance(experiment, Experiment):
                raise Failed("what the server sent is no experiment")
            check_trusted(experiment)
        if (own := identity(experiment, given.seed)) != given.digest:
            raise Failed(
                f"this site has experiment {own[:16]}, and the server has {given.digest[:16]}: give both the "
                "same name or file, or the site none"
            )
        if not 0 <= given.client < experiment.num_clients:
            raise Failed(f"the experiment has {experiment.num_clients} clients, and none is number {given.client}")
        member = Member(experiment, given.seed, given.client)
        sums = SumSite(member, self.name, given.run, self._signs, self._shown) if summing(experiment) else None
        self._after, self._number, self._turns = member.begin(), 0, []
        self.member, self.greeting, self._sums = member, given, sums
        if self.folder is not None:
            try:
                found = kept(self.folder, given.run, self._after)
            except DamagedError as error:
                LOG.warning("%s It begins anew.", error)
                found = None
            if found is not None:
                self._number, self._after, self._turns = found

    def _belongs(self, envelope: Envelope) -> None:
        assert self.greeting is not None
        for name, ours in (("run", self.greeting.run), ("experiment", self.greeting.digest)):
            if getattr(envelope, name) != ours:
                raise _Unknown

    def _round(self, message: bytes) -> bytes:
        if self._sums is not None:
            raise Failed("its messages go into a sum, and it sends none by itself")
        return self._turn(message).answer

    def _sum(self, phase: str, message: bytes) -> bytes:
        """Answer a question of a secure sum; the first comes with the broadcast."""
        if self._sums is None:
            raise Failed("the experiment has no secure sum")
        head, question, broadcast = Attempt.read(message)
        if phase != "keys":
            return self._sums.go_on(phase, head, question)
        sums = self._sums
        turn = self._turn(broadcast, lambda envelope: sums.check(head, envelope, broadcast))
        return sums.begin(head, broadcast, turn)

    def _turn(self, message: bytes, check: Callable[[Envelope], None] = lambda envelope: None) -> Turn:
        """Learn from a broadcast, or remember that it was learned from."""
        member = self.member
        assert member is not None
        envelope, sent = unpack(message, member.payload_form, self._belongs)
        check(envelope)
        number, sha = envelope.round, hashlib.sha256(message).hexdigest()
        known = next((turn for turn in self._turns if turn.number == number), None)
        if known is not None and known.sha256 == sha:
            return known
        if member.site_part.secret:
            _check_spent(number, known is not None, member.last_exchange)
        if known is not None:  # the server went back and sends something else: so does this site
            self._after, self._number = known.before, number - 1
            self._turns = [turn for turn in self._turns if turn.number < number]
        elif number <= self._number:
            raise Failed(f"it has gone on to exchange {self._number}, and does not know what was before {number}")
        round_, nth = divmod(number - 1, member.plan.exchanges)
        newcomer = self._number == 0 and round_ + 1 > member.first_round
        if newcomer and nth > 0:
            raise Failed("it was started anew, and begins with the next round")
        before = self._after
        assert before is not None
        broadcast = jax.tree.unflatten(jax.tree.structure(member.form), list(sent.values()))
        self._after, arrays, metrics = member.round(before, broadcast, (round_ + 1, nth), newcomer)
        self._number = number
        own, held = dataclasses.replace(envelope, sender=self.name), b""
        if arrays is None:
            reply = failure(f"its world failed, or its numbers are not finite. {member.simulation.told()}")
        else:
            message = pack(own, member.sent_form, arrays)
            figures = pack(own, member.metrics_form, jax.tree.leaves(metrics))
            hidden = self._sums is not None
            reply = answer([figures] if hidden else [message, figures])
            held = message if hidden and not newcomer else b""
        same_round = [turn for turn in self._turns if (turn.number - 1) // member.plan.exchanges == round_]
        self._turns = [*same_round, Turn(number, sha, reply, before, held)]
        if self.folder is not None:
            assert self.greeting is not None
            keep(self.folder, self.greeting.run, (self._number, self._after, self._turns))
        return self._turns[-1]

    def _evaluate(self, message: bytes) -> bytes:
        """The scores of its policy after a round, in all worlds."""
        member = self.member
        assert member is not None
        envelope, _ = unpack(message, Manifest(()), self._belongs)
        round_ = envelope.round
        last = round_ * member.plan.exchanges
        if self._number == 0 and round_ >= member.first_round:
            raise Failed("it was started anew, and has no policy yet")
        later = [turn for turn in self._turns if turn.number > last]
        if self._number > last and not later:
            raise Failed(
                f"it has gone on to exchange {self._number}, and does not know its policy after round {round_}"
            )
        home = later[0].before if later else self._after
        assert home is not None
        scores = member.score(home, round_).astype(np.float32)
        form = Manifest((ArrayForm("scores", "float32", scores.shape),))
        return answer([pack(dataclasses.replace(envelope, sender=self.name), form, [scores])])

    def _stop(self, message: bytes) -> bytes:
        LOG.info("%s: the run is over", self.name)
        self.over.set()
        return answer([])


def _check_spent(number: int, answered: bool, last: int) -> None:
    """Raise `Failed` where an answer with noise of its own would spend more privacy than the experiment says."""
    if number > last:
        raise Failed(f"it is asked for exchange {number}, and the experiment allows its privacy {last}")
    if answered:
        raise Failed(
            f"it has answered exchange {number} on another message, and a second answer, with other noise, would spend "
            "its privacy twice"
        )


class _Unknown(Exception):
    """A message of a run of which nobody has told this site."""
