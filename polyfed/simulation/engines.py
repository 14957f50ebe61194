"""Where the clients of a run live: in this process, in actors of Ray, or at sites of their own; names and words of it.

Which one it was stands in the run folder and in the report. Nothing is imported here that not every run needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyfed.experiment import Experiment
    from polyfed.simulation.simulate import Simulation

PROCESS: Mapping[str, Any] = {"name": "process"}
SITES: Mapping[str, Any] = {"name": "sites"}
Make = Callable[["Experiment", tuple[int, ...]], "Simulation"]
"""Puts an arm and its seeds together."""


def said_of(engine: Mapping[str, Any] | None) -> str:
    """Where clients lived, in words; empty where a record does not say so.

    >>> said_of({"name": "ray", "actors": 2, "cores_each": 4, "ray": "2.55.1"})
    'Ray, 2 actors'
    >>> said_of(PROCESS), said_of(SITES), said_of(None)
    ('in one process', 'clients at sites', '')
    """
    if not engine:
        return ""
    actors = engine.get("actors", 0)
    words = {"process": "in one process", "sites": "clients at sites"}
    return words.get(engine["name"]) or f"Ray, {actors} actor" + ("" if actors == 1 else "s")


@contextlib.contextmanager
def ray_engine(num_actors: int = 0, cluster: str = "") -> Iterator[tuple[Mapping[str, Any], Make]]:
    """The engine `ray`: what a record says of it, and how an arm is put together; actors are let go afterwards.

    Args:
      num_actors: How many actors; 0: one per machine.
      cluster: Address of a cluster, or `auto`; empty: this machine alone.
    """
    from polyfed.simulation.ray_crew import crew
    from polyfed.simulation.sharded import Sharded
    from polyfed.simulation.simulate import Simulation

    lives: list[Sharded] = []
    with crew(num_actors, cluster) as actors:

        def make(experiment: Experiment, seeds: tuple[int, ...]) -> Simulation:
            while lives:  # the arm before is done
                lives.pop().end()

            def afar(simulation: Simulation) -> Sharded:
                lives.append(Sharded(simulation, actors))
                return lives[-1]

            return Simulation(experiment, seeds, afar=afar)

        try:
            yield actors.told, make
        finally:
            while lives:
                lives.pop().end()


def engine_of(record: Mapping[str, Any]) -> str:
    """The engine's name that a run folder records.

    >>> engine_of({"engine": {"name": "ray"}}), engine_of({})
    ('ray', 'process')
    """
    return record.get("engine", PROCESS)["name"]
