"""What carries messages between a server and its sites: bytes go out to clients, and come back until a deadline.

A carrier knows who a client is and nothing of what it says. Another one is one file: persistent connections, a queue, a
radio; no rule, transform or agent sees it.
"""

from __future__ import annotations

import abc
import dataclasses
import re
from collections.abc import Mapping
from typing import Literal, get_args

Phase = Literal["name", "hello", "round", "keys", "shares", "masked", "agree", "unmask", "evaluate", "stop"]
PHASES: tuple[Phase, ...] = get_args(Phase)
NAME = re.compile("[a-z0-9-]{1,32}")


@dataclasses.dataclass(frozen=True)
class Replies:
    """What came back before the deadline.

    `arrived` is in the order of arrival, each with the client that the carrier found out it is from; a client may be
    there twice. `failed` says in a sentence why nothing will come from a client; who is in neither did not answer.
    """

    arrived: tuple[tuple[str, bytes], ...] = ()
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Carrier(abc.ABC):
    """A way to the clients.

    >>> class Nowhere(Carrier):
    ...     def clients(self):
    ...         return ()
    ...     def exchange(self, phase, messages, deadline_s):
    ...         return Replies(failed={name: "nobody lives there" for name in messages})
    >>> Nowhere().exchange("hello", {"ann": b""}, deadline_s=1.0).failed
    {'ann': 'nobody lives there'}
    """

    @abc.abstractmethod
    def clients(self) -> tuple[str, ...]:
        """Who could be reached now."""

    @abc.abstractmethod
    def exchange(self, phase: Phase, messages: Mapping[str, bytes], deadline_s: float) -> Replies:
        """Send a message to each of some clients, and wait until all have answered or failed, or for `deadline_s`."""


def check_name(name: str) -> str:
    """The name of a client, which may stand in files, on pages and in a terminal.

    Raises:
      ValueError: It has other letters, or too many.

    >>> check_name("line-3")
    'line-3'
    >>> check_name("<script>")
    Traceback (most recent call last):
    ValueError: '<script>' cannot name a client: use 1 to 32 of a-z, 0-9 and the hyphen.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a client: use 1 to 32 of a-z, 0-9 and the hyphen.")
    return name
