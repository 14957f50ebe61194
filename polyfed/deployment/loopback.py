"""Sites in this process: for tests of many rounds, and to time what is our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from polyfed.deployment.carrier import Carrier, Phase, Replies
from polyfed.errors import on_a_line

Site = Callable[[Phase, bytes], bytes]
"""`site(phase, message) -> answer`, as `Resident.answer`; it may raise, as a site may die."""


class Loopback(Carrier):
    """Calls sites one after another; who raises has failed, and who is too slow is not waited for.

    >>> carrier = Loopback({"ann": lambda phase, message: message[::-1]})
    >>> carrier.exchange("round", {"ann": b"abc", "bob": b"abc"}, deadline_s=1.0)
    Replies(arrived=(('ann', b'cba'),), failed={'bob': 'there is no such site'})
    """

    def __init__(self, sites: Mapping[str, Site]):
        self.sites = dict(sites)

    def clients(self) -> tuple[str, ...]:
        """All sites."""
        return tuple(self.sites)

    def exchange(self, phase: Phase, messages: Mapping[str, bytes], deadline_s: float) -> Replies:
        """Ask every site; what comes after the deadline is not there."""
        arrived, failed, began = [], {}, time.monotonic()
        for name, message in messages.items():
            site = self.sites.get(name)
            if site is None:
                failed[name] = "there is no such site"
                continue
            try:
                reply = site(phase, message)
            except Exception as error:
                failed[name] = f"its site failed: {on_a_line(error)}"
                continue
            if time.monotonic() - began <= deadline_s:
                arrived.append((name, reply))
        return Replies(tuple(arrived), failed)
