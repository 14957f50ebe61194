"""The messages of a secure sum as a deployment sends them: which attempt it is, who is in it, and a question.

A question goes out in a phase of its own name, the first together with the broadcast, so that a site learns before it
shows keys. Every try of an exchange is an attempt with a name drawn by chance. Attempt and broadcast are in the context
of a sum: sites that were told different things understand nothing of each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from polyfed.deployment.answer import Failed, answer, opened
from polyfed.exchange.placement import num_at_site
from polyfed.exchange.secure_sum.fixed_point import whole_weights
from polyfed.exchange.secure_sum.messages import Phase, Terms
from polyfed.exchange.secure_sum.transform import SecureSum
from polyfed.exchange.wire import Envelope, Manifest, Refused
from polyfed.experiment import Experiment

PHASES: tuple[Phase, ...] = get_args(Phase)
ATTEMPT = re.compile("[0-9a-f]{32}")
MOST_HEAD = 2**20  # bytes


def summing(experiment: Experiment) -> SecureSum | None:
    """The secure sum through which clients' messages go; None where the server sees them."""
    return next((part for part in experiment.transforms if isinstance(part, SecureSum)), None)


def check_summable(experiment: Experiment) -> None:
    """Raise `ValueError` where a secure sum of a deployment would differ from that of a simulation.

    >>> from polyfed.experiments import load
    >>> check_summable(load("cartpole-poles"))
    """
    part = summing(experiment)
    if part is None:
        return
    at_site = num_at_site(experiment.transforms)
    elsewhere = [other for nth, other in enumerate(experiment.transforms) if nth >= at_site and other is not part]
    if elsewhere:
        others = " and ".join(type(other).__name__ for other in elsewhere)
        raise ValueError(
            f"SecureSum hides messages before they leave a site, but in a deployment {others} acts at the server, "
            f"which sees their sum alone: drop {others}, or simulate it."
        )
    needed, there = part.needed(experiment.num_clients), int(experiment.there(np.array([1]))[0].sum())
    if there < needed:
        raise ValueError(
            f"SecureSum needs {needed} clients, but {there} take part in the first round, which would end a deployment "
            "there: let more begin, lower transforms.threshold, or simulate it."
        )


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One try of a sum, as every question of it says.

    >>> given = Attempt("0" * 32, ("ann", "bob"), threshold=2, signed=False)
    >>> head, question, broadcast = Attempt.read(given.ask(b"question", b"broadcast"))
    >>> head == given, question, broadcast
    (True, b'question', b'broadcast')
    """

    name: str  # drawn by chance
    clients: tuple[str, ...]  # all of the experiment's, in order
    threshold: int  # clients that must be left at every stage
    signed: bool  # whether they sign

    def ask(self, question: bytes, broadcast: bytes = b"") -> bytes:
        """A message of the server."""
        return answer([json.dumps(dataclasses.asdict(self)).encode(), question, broadcast])

    @classmethod
    def read(cls, data: bytes) -> tuple[Attempt, bytes, bytes]:
        """`(attempt, question, broadcast)`; raises `Failed` if it is no such message."""
        try:
            head, question, broadcast = opened(data, 3)
            if len(head) > MOST_HEAD:
                raise ValueError
            given = cls(**json.loads(head))
            words = [given.name, *given.clients]
            if not all(isinstance(word, str) for word in words) or not ATTEMPT.fullmatch(given.name):
                raise ValueError
            if type(given.threshold) is not int or type(given.signed) is not bool:
                raise ValueError
        except (Failed, Refused, ValueError, TypeError, RecursionError):
            raise Failed("what the server sent is no question of a sum") from None
        return dataclasses.replace(given, clients=tuple(given.clients)), question, broadcast

    def terms(self, envelope: Envelope, broadcast: bytes, form: Manifest, known: Mapping[str, bytes]) -> Terms:
        """What all agree on.

        Args:
          envelope: Experiment, run and exchange.
          broadcast: The message that went out to all.
          form: Of what a client would send alone.
          known: Public keys of the clients, for a sum that is signed.
        """
        digest = hashlib.sha256(broadcast).hexdigest()
        own = dataclasses.replace(envelope, run=f"{envelope.run}/{self.name}/{digest}", sender="")
        identities = tuple(known.values()) if self.signed else ()
        return Terms(own, self.clients, self.threshold, num_values(form), identities)


def num_values(form: Manifest) -> int:
    """The numbers of a message.

    >>> num_values(Manifest.of({"weight": np.zeros((2, 3), np.float32), "bias": np.zeros((), np.float32)}))
    7
    """
    return sum(int(np.prod(array.shape, dtype=np.int64)) for array in form.arrays)


def whole_of(experiment: Experiment, weights: Any, round_: int) -> np.ndarray:
    """What each client counts in the sums of a round, `[C]` uint32: from the experiment, as everybody can compute it.

    It is a share of the heaviest client that takes part in the round, whether it comes or not, so that a client's
    numbers do not depend on who else is there. A simulation takes the heaviest that came; bits of the mean may differ
    where the one client that is heaviest is absent.

    Args:
      experiment: The whole one.
      weights: `[C]` or `[]`, what clients count.
      round_: From 1.

    >>> from polyfed.experiments import load
    >>> whole_of(load("cartpole-poles"), np.float32([1, 2, 4]), round_=1).tolist()
    [16384, 32768, 65536]
    """
    there = experiment.there(np.array([round_]))[0]
    return np.asarray(whole_weights(np.where(there, np.broadcast_to(np.asarray(weights), len(there)), 0)))


def named(known: Mapping[str, bytes], clients: Sequence[str]) -> bool:
    """Whether public keys are those of these clients, in this order."""
    return list(known) == list(clients)
