"""What a server grants its sites: how long they may take, how many must answer, how far they may move."""

from __future__ import annotations

import dataclasses

from polyfed.checks import in_range, whole_in_range
from polyfed.exchange.gate import Bounds


@dataclasses.dataclass(frozen=True)
class Terms:
    """The terms of a deployment.

    >>> Terms(quorum=5).check(num_clients=3)
    Traceback (most recent call last):
    ValueError: quorum = 5 clients is out of range: give a number from 1 to 3 clients.
    """

    deadline_s: float = 600.0  # for the answers of a round; later ones are dropped
    quorum: int = 1  # clients that must be let into a round
    tries: int = 3  # of a round that has too few of them, before the run ends
    pause_s: float = 5.0  # before the second try, twice as long before each further one
    bounds: Bounds = Bounds()  # on how far a message may be from the broadcast

    def check(self, num_clients: int) -> None:
        """Raise `ValueError` where no round could be as is asked."""
        in_range("deadline_s", self.deadline_s, 0.01, 10**7)
        whole_in_range("quorum", self.quorum, 1, num_clients, "clients")
        whole_in_range("tries", self.tries, 1, 1000)
        in_range("pause_s", self.pause_s, 0.0, 10**5)
        self.bounds.check()
