"""What brings shards of clients to life elsewhere: actors that live long, are called by name, and may die.

A crew knows nothing of clients. Another one is one file: processes, a queue, another cluster; no rule, transform or
agent sees it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from polyfed.errors import PolyfedError
from polyfed.simulation.shard import Bounds

MakeShard = Callable[[Bounds], Any]


class ActorLostError(PolyfedError):
    """An actor has died, and what it had learned with it."""


class ActorFailedError(PolyfedError):
    """An actor lives, but what it was asked for raised an error there."""


class Crew(abc.ABC):
    """Actors that each hold a shard.

    Attributes:
      num_actors: How many live at once.

    >>> class Lonely(Crew):
    ...     num_actors = 1
    ...     def start(self, experiment, seeds, clients):
    ...         return "nobody"
    ...     def call(self, actor, method, *arguments):
    ...         return actor, method
    ...     def result(self, ticket):
    ...         raise ActorLostError("it never lived")
    ...     def stop(self, actor):
    ...         pass
    >>> crew = Lonely()
    >>> ticket = crew.call(crew.start({}, (0,), (0, 2)), "begin")
    >>> try:
    ...     crew.result(ticket)
    ... except ActorLostError as error:
    ...     print(error)
    it never lived
    """

    num_actors: int

    @abc.abstractmethod
    def start(self, experiment: Any, seeds: tuple[int, ...], clients: Bounds) -> Any:
        """A new actor with a `Shard` of the experiment, which is given as data."""

    @abc.abstractmethod
    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Ask an actor for a method of its shard, without waiting; gives a ticket."""

    @abc.abstractmethod
    def result(self, ticket: Any) -> Any:
        """Wait for what was asked for.

        Raises:
          ActorLostError: The actor has died.
          ActorFailedError: The method raised.
        """

    @abc.abstractmethod
    def stop(self, actor: Any) -> None:
        """Let an actor go; one that has died already is none."""

    def share(self, value: Any) -> Any:
        """What several actors are to be given, so that it is sent to a machine but once."""
        return value
