"""Seconds per round of a deployment: a model with few numbers, fitted to measured rounds, and when a deployment pays.

A round of `C` clients that send `u` bytes up and get `d` bytes down each, and learn for `W` seconds at home, takes

    start + serialisation + transport + own + w W

`start = wait + w process` where a site has a core for itself, `w = 1`, or `C` of them share `k`, `w = max(1, C / k)`;
`serialisation = C (m + b u)` at the server, beside one site's; `transport = 2 latency trips +` the longer of a site's
own time on its line and all sites' on the server's; `own = r + C (g + h u)`, where `r` is what a round costs without
clients. One machine of `k` cores that did the same work would need `max(1, C / k) W`: communication outweighs parallel
work where it takes longer than the `(max(1, C / k) - w) W` that are saved.
"""

from __future__ import annotations

import dataclasses
import math

MOST = 10_000  # clients up to which an answer is looked for


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a carrier and the server's loop cost; seconds of one core unless said otherwise."""

    wait: float = 0.0  # s, until a round's messages are seen, whatever their number
    process: float = 0.0  # to start what handles one message at a site
    trips: float = 1.0  # there and back on the line, until a message is through
    pack_message: float = 0.0  # at the server, per client
    pack_byte: float = 0.0  # at the server, per byte that comes up
    site_message: float = 0.0  # at a site
    site_byte: float = 0.0  # at a site, per byte up and down
    own_round: float = 0.0  # of the server, per round
    own_message: float = 0.0  # of the server, per client: gate, stack, merge, log
    own_byte: float = 0.0  # of the server, per byte that comes up


# Fitted by benchmarks/deployment_fit.py; measured rounds and fit are in docs/results/data/deployment-cost.json.
LOOPBACK = Costs(
    trips=0.0,
    pack_message=8.87e-05,
    pack_byte=6.11e-10,
    site_message=0.000268,
    site_byte=1.03e-09,
    own_round=0.00256,
    own_message=0.000519,
    own_byte=6.28e-09,
)
FLOWER = dataclasses.replace(LOOPBACK, wait=2.54, process=3.89, trips=10.0)


@dataclasses.dataclass(frozen=True)
class Line:
    """The network between the server and its sites.

    >>> Line(up=8.0).check()
    >>> Line(latency=-1.0).check()
    Traceback (most recent call last):
    ValueError: latency = -1 ms is out of range: give a number from 0 to 1e+06 ms.
    """

    up: float = 20.0  # Mbit/s of a site
    down: float = 100.0  # Mbit/s of a site
    server: float = 1000.0  # Mbit/s of the server, each way
    latency: float = 20.0  # ms, one way

    def check(self) -> None:
        """Raise `ValueError` where a line could carry nothing."""
        from polyfed.checks import in_range

        for name in ("up", "down", "server"):
            in_range(f"bandwidth_{name}", getattr(self, name), 1e-6, 1e9, "Mbit/s")
        in_range("latency", self.latency, 0.0, 1e6, "ms")


@dataclasses.dataclass(frozen=True)
class Work:
    """What every client does in a round, and what it sends."""

    up: float  # bytes
    down: float  # bytes
    local: float  # s of learning at home


@dataclasses.dataclass(frozen=True)
class Round:
    """Seconds of a round, by what they go into."""

    start: float
    serialisation: float
    transport: float
    own: float
    local: float

    @property
    def communication(self) -> float:
        """All but the learning."""
        return self.start + self.serialisation + self.transport + self.own

    @property
    def total(self) -> float:
        """All."""
        return self.communication + self.local


def seconds(costs: Costs, line: Line, work: Work, num_clients: int, sites_per_core: float = 1.0) -> Round:
    """What a round takes.

    Args:
      costs: Of the carrier.
      line: The network.
      work: Of each client.
      num_clients: `C`, from 1.
      sites_per_core: `w`; below 1 counts as 1.

    >>> work = Work(up=1e6, down=1e6, local=3.0)
    >>> found = seconds(Costs(wait=1.0, process=2.0), Line(up=8.0, down=8.0, latency=0.0), work, num_clients=4)
    >>> found.start, found.transport, found.total
    (3.0, 2.0, 8.0)
    """
    waves = max(1.0, sites_per_core)
    start = costs.wait + costs.process * waves
    at_server = num_clients * (costs.pack_message + costs.pack_byte * work.up)
    at_site = costs.site_message + costs.site_byte * (work.up + work.down)
    bits = 8 / 1e6
    down = bits * max(work.down / line.down, num_clients * work.down / line.server)
    up = bits * max(work.up / line.up, num_clients * work.up / line.server)
    transport = 2 * costs.trips * line.latency / 1000 + down + up
    own = costs.own_round + num_clients * (costs.own_message + costs.own_byte * work.up)
    return Round(start, at_server + at_site * waves, transport, own, work.local * waves)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether `C` sites that learn in parallel are quicker than one machine that does all their work.

    Attributes:
      num_clients: `C`.
      round: What a round takes.
      speed_up: What the one machine takes over the round; below 1 communication outweighs parallel work.
      least_local: Seconds of learning at a site per round from which on the deployment is quicker; may be infinite.
      tenth: Seconds of learning at a site with which communication is a tenth of a round.
    """

    num_clients: int
    round: Round
    speed_up: float
    least_local: float
    tenth: float

    @property
    def pays(self) -> bool:
        """Whether the deployment is quicker."""
        return self.speed_up > 1


@dataclasses.dataclass(frozen=True)
class Compared:
    """The one machine."""

    cores: int = 1  # `k`; each does a client's work
    together: bool = False  # whether the sites of the deployment are on it, too

    def check(self) -> None:
        """Raise `ValueError` where there is none."""
        from polyfed.checks import whole_in_range

        whole_in_range("cores", self.cores, 1, 10**6)


def verdict(costs: Costs, line: Line, work: Work, num_clients: int, machine: Compared = Compared()) -> Verdict:
    """When communication outweighs parallel work; arguments as in `seconds`.

    >>> found = verdict(Costs(wait=6.0), Line(latency=0.0), Work(up=0, down=0, local=1.0), num_clients=4)
    >>> found.pays, found.least_local, found.tenth, round(found.speed_up, 3)
    (False, 2.0, 54.0, 0.571)
    """
    alone = max(1.0, num_clients / machine.cores)
    waves = alone if machine.together else 1.0
    found = seconds(costs, line, work, num_clients, waves)
    saved = alone - waves
    least = found.communication / saved if saved > 0 else math.inf
    return Verdict(num_clients, found, alone * work.local / found.total, least, 9 * found.communication / waves)


def pays_between(costs: Costs, line: Line, work: Work, machine: Compared = Compared()) -> tuple[int, int] | None:
    """The fewest and the most clients, up to `MOST`, with which a deployment is quicker than one machine; None: never.

    >>> pays_between(Costs(wait=6.0), Line(latency=0.0), Work(up=0, down=0, local=1.0))
    (8, 10000)
    >>> pays_between(Costs(wait=6.0, own_message=1.0), Line(latency=0.0), Work(up=0, down=0, local=1.0)) is None
    True
    """
    there = [n for n in range(2, MOST + 1) if verdict(costs, line, work, n, machine).pays]
    return (there[0], there[-1]) if there else None
