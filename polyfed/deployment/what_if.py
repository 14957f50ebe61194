"""`polyfed plan`: seconds per round of a deployment that is not there yet, and when it pays, as a table or as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import Any

from polyfed.deployment.cost_model import FLOWER, LOOPBACK, Compared, Costs, Line, Verdict, Work, pays_between, verdict
from polyfed.options import Plan

CARRIERS: dict[str, Costs] = {"flower": FLOWER, "loopback": LOOPBACK}
COUNTS = (2, 4, 8, 16, 32)
PARTS = {
    "start": "processes that start, waiting for messages",
    "serialisation": "packing and unpacking",
    "transport": "on the line",
    "own": "gate, stacking, merge, log",
    "local": "learning at the sites",
}


def size_of(options: Plan) -> tuple[int, int, int, int]:
    """`(clients, bytes up, bytes down, local steps)`: as given, else of the experiment."""
    if not options.experiment:
        size = 4 * options.parameters if options.model_bytes < 0 else options.model_bytes
        return options.clients or 8, size, size, options.local_steps or 100
    from polyfed.deployment.deployable import check_deployable
    from polyfed.experiments import load
    from polyfed.simulation.simulate import Simulation

    experiment = dataclasses.replace(load(options.experiment), compare=())
    check_deployable(experiment, (0,))
    traffic = Simulation(experiment, (0,)).traffic
    up, down = (traffic.up, traffic.down) if options.model_bytes < 0 else (options.model_bytes, options.model_bytes)
    steps = options.local_steps or max(group.local_steps or 0 for group in experiment.groups)
    return options.clients or experiment.num_clients, up, down, steps


def what_if(options: Plan) -> dict[str, Any]:
    """The answer as data.

    >>> found = what_if(Plan(clients=8, parameters=17_410, local_seconds=60.0))
    >>> found["pays"], sorted(found["round"])
    (True, ['local', 'own', 'serialisation', 'start', 'total', 'transport'])
    """
    from polyfed.checks import in_range, one_of, whole_in_range

    one_of("carrier", options.carrier, CARRIERS)
    whole_in_range("clients", options.clients, 0, 10**6)
    whole_in_range("parameters", options.parameters, 0, 10**12)
    in_range("step_seconds", options.step_seconds, 1e-12, 1e6, "s")
    line = Line(options.bandwidth_up, options.bandwidth_down, options.bandwidth_server, options.latency)
    line.check()
    clients, up, down, steps = size_of(options)
    local = steps * options.step_seconds if options.local_seconds < 0 else options.local_seconds
    each = local / steps or options.step_seconds  # s of a local step
    costs, work = CARRIERS[options.carrier], Work(up, down, local)
    machine = Compared(options.cores, options.together)
    machine.check()
    of = lambda n: verdict(costs, line, work, n, machine)  # noqa: E731
    one, between = of(clients), pays_between(costs, line, work, machine)
    return {
        "clients": clients,
        "bytes_up": up,
        "bytes_down": down,
        "local_steps": steps,
        "local_seconds": local,
        "carrier": options.carrier,
        "compared_with": dataclasses.asdict(machine),
        "line": dataclasses.asdict(line),
        "round": {**dataclasses.asdict(one.round), "total": one.round.total},
        "speed_up": one.speed_up,
        "pays": one.pays,
        "pays_from_local_steps": _steps(one.least_local, each),
        "network_takes_a_tenth_at_local_steps": _steps(one.tenth, each),
        "pays_between_clients": between,
        "by_clients": [_row(of(n), each) for n in sorted({*COUNTS, clients} - {1})],
    }


def _steps(seconds: float, each: float) -> int | None:
    return math.ceil(seconds / each) if math.isfinite(seconds / each) else None


def _row(found: Verdict, each: float) -> dict[str, Any]:
    return {
        "clients": found.num_clients,
        "seconds": found.round.total,
        "communication": found.round.communication,
        "speed_up": found.speed_up,
        "pays_from_local_steps": _steps(found.least_local, each),
    }


def sentence(found: dict[str, Any]) -> str:
    """When communication outweighs parallel work, in words."""
    spent = sum(found["round"][part] for part in PARTS if part != "local")
    head = f"A round takes {_s(found['round']['total'])}, of which communication is {_s(spent)}."
    least, tenth = found["pays_from_local_steps"], found["network_takes_a_tenth_at_local_steps"]
    which = "less than working in parallel saves" if found["pays"] else "more than working in parallel saves"
    between, cores = found["pays_between_clients"], found["compared_with"]["cores"]
    one = f"one machine of {cores} core{'s' * (cores > 1)} that does all the work"
    ranges = "no number of clients is quicker"
    if between is not None:
        ranges = f"{between[0]:,} to {between[1]:,} clients are quicker"
    quicker = "it is never quicker" if least is None else f"it is quicker from {least:,} local steps on"
    return (
        f"{head} That is {which}: the deployment is {found['speed_up']:.3g} times as quick as {one}. With "
        f"{found['local_steps']:,} local steps {ranges}; with {found['clients']:,} clients {quicker}, and from "
        f"{tenth:,} on communication is a tenth of a round. What is paid for is the number of rounds: fewer and longer "
        "ones cost less."
    )


def _s(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{seconds:.3g} s"


def show(options: Plan) -> int:
    """Print the answer."""
    found = what_if(options)
    if options.json:
        print(json.dumps(found))
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout)
    split = Table("of a round", "goes into", "", title=f"{found['clients']} clients, {found['carrier']}")
    total = found["round"]["total"]
    for part, words in PARTS.items():
        split.add_row(part, words, f"{_s(found['round'][part])} ({100 * found['round'][part] / total:.0f} %)")
    table = Table("clients", "a round", "communication", "speed-up", "quicker from local steps", title="by clients")
    for row in found["by_clients"]:
        least = row["pays_from_local_steps"]
        cells = [
            _s(row["seconds"]),
            _s(row["communication"]),
            f"{row['speed_up']:.3g}",
            "never" if least is None else f"{least:,}",
        ]
        table.add_row(str(row["clients"]), *cells)
    console.print(split)
    console.print(table)
    console.print(sentence(found), soft_wrap=True)
    return 0
