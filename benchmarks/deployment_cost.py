"""What does a round of a deployment cost, and how much of that is our own?

    .venv/bin/python benchmarks/deployment_cost.py --repeats 50
    .venv/bin/python benchmarks/deployment_cost.py --scale --repeats 30 > loopback.json
    .venv/bin/python benchmarks/deployment_cost.py --flower --sites 2 4 8 --rounds 5 > flower.json
    .venv/bin/python benchmarks/deployment_fit.py loopback.json flower.json

The first times our own share: eight clients' 4-128-128-2 networks go out and come back through the loopback carrier,
packed, unpacked, held against the gate, stacked and merged, with nothing learned between. The second does so with 2 to
32 clients and networks of three sizes, and splits the time into packing and unpacking at the server (`server_pack`),
what sites do (`sites`), the carrier's own (`carrier`) and the rest, which is ours (`own`): gate, audit log, stacking,
merge. The third starts Flower's server link and sites over TLS on this machine, lets a no-op app of Flower and then
ours do the same number of rounds in it, and compares seconds per round; ours learn a few steps. Quiet machines alone
give wall times that mean anything; seconds of the processor, which are given beside them, bear others. JSON on standard
output. The last fits the model of `polyfed plan`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("POLYFED_DEVICES", "1")

import polyfed  # noqa: F401  before JAX, so that it sees one device

# isort: split
import jax
import numpy as np

from polyfed.agents import DQN
from polyfed.deployment import remote
from polyfed.deployment.audit import Audit
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.member import Member
from polyfed.deployment.remote import Remote
from polyfed.deployment.resident import Resident
from polyfed.environments import CartPole, Explicit
from polyfed.exchange import gate
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation

NOOP = '''"""Messages without content, back and forth."""
import json
import pathlib
import time

from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    """Time every round."""
    seconds = []
    while len(nodes := list(grid.get_node_ids())) < {sites}:
        time.sleep(1)
    for _ in range({rounds}):
        began = time.time()
        messages = [Message(RecordDict(), dst_node_id=node, message_type="train") for node in nodes]
        assert len(list(grid.send_and_receive(messages, timeout=600))) == {sites}
        seconds.append(time.time() - began)
    pathlib.Path({out!r}).write_text(json.dumps(seconds))
'''
NOOP_CLIENT = '''"""Answers at once."""
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    """Nothing."""
    return Message(RecordDict(), reply_to=message)
'''


def experiment(clients: int, rounds: int = 1, hidden: int = 128) -> Experiment:
    """Cart-poles whose learners have networks of 4-128-128-2, or another width."""
    return Experiment(
        name="cost",
        environment=CartPole(),
        variation=Explicit({"half_length": tuple(np.linspace(0.3, 0.9, clients).tolist())}),
        num_clients=clients,
        agent=DQN(hidden=(hidden, hidden), learning_starts=50, replay_capacity=1000),
        num_rounds=rounds,
        local_steps=50,
        evaluation=Evaluation(every=rounds, episodes=1, own=False),
    )


class Clock:
    """Seconds by what they go into, by the wall and of the processor; what is inside something else counts there."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.busy: dict[str, float] = {}
        self._inside: list[list[float]] = []

    def timed(self, name: str, function: Any) -> Any:
        """The function, its time added up under a name."""

        def run(*args: Any, **how: Any) -> Any:
            self._inside.append([0.0, 0.0])
            began, worked = time.perf_counter(), time.process_time()
            try:
                return function(*args, **how)
            finally:
                wall, busy = time.perf_counter() - began, time.process_time() - worked
                inner = self._inside.pop()
                self.wall[name] = self.wall.get(name, 0.0) + wall - inner[0]
                self.busy[name] = self.busy.get(name, 0.0) + busy - inner[1]
                if self._inside:
                    self._inside[-1][0] += wall
                    self._inside[-1][1] += busy

        return run


@contextlib.contextmanager
def watched(clock: Clock, first: Member) -> Iterator[None]:
    """Packing and unpacking at the server under the clock; all sites begin as the first does, and learn nothing."""
    forms, begun = first._forms, first.begin()

    def still(self: Member, client: Any, broadcast: Any, when: Any, newcomer: bool = False) -> Any:
        figures = jax.tree.map(np.zeros_like, forms[1])
        moved = [np.asarray(x) + np.float32(0.01) for x in jax.tree.leaves(broadcast)]
        return client, moved, figures

    sites: dict[str, Any] = {"round": still, "begin": lambda self: begun, "_forms": property(lambda self: forms)}
    names = [(Member, name) for name in sites]
    server = [(remote, "pack"), (remote, "unpack"), (remote, "opened"), (gate, "unpack")]
    kept = [vars(place)[name] for place, name in [*server, *names]]
    for place, name in server:
        setattr(place, name, clock.timed("server_pack", getattr(place, name)))
    for name, function in sites.items():
        setattr(Member, name, function)
    try:
        yield
    finally:
        for (place, name), function in zip([*server, *names], kept, strict=True):
            setattr(place, name, function)


def loopback(repeats: int, clients: int = 8, hidden: int = 128) -> dict[str, Any]:
    """Milliseconds of an exchange in which nothing is learned, and what they go into; medians."""
    clock, folder = Clock(), Path(tempfile.mkdtemp(prefix="polyfed-"))
    residents = {f"client-{i}": Resident(f"client-{i}") for i in range(clients)}
    carrier = Loopback({name: clock.timed("sites", resident.answer) for name, resident in residents.items()})
    carrier.exchange = clock.timed("carrier", carrier.exchange)  # type: ignore[method-assign]
    afar = lambda s: Remote(s, carrier, "cost", audit=Audit(folder / "audit.jsonl"))  # noqa: E731
    simulation = Simulation(experiment(clients, hidden=hidden), (0,), afar=afar)
    simulation.advance = clock.timed("own", simulation.advance)  # type: ignore[method-assign]
    federation, walls, busies = simulation.init(), [], []
    with watched(clock, Member(simulation.experiment, 0, 0)):
        for repeat in range(repeats + 2):
            clock.wall.clear(), clock.busy.clear()
            federation, _ = simulation.advance(federation, 1)
            if repeat >= 2:  # the first greet and compile
                walls.append(dict(clock.wall))
                busies.append(dict(clock.busy))
    size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(federation.server.broadcast))
    median = lambda rows: {name: 1e3 * statistics.median(row[name] for row in rows) for name in rows[0]}  # noqa: E731
    whole = lambda rows: 1e3 * statistics.median(sum(row.values()) for row in rows)  # noqa: E731
    at_server = lambda row: sum(row.values()) - row["sites"]  # noqa: E731
    return {
        "clients": clients,
        "network": f"4-{hidden}-{hidden}-2",
        "bytes": size,
        "repeats": repeats,
        "milliseconds": whole(walls),
        "of_them": median(walls),
        "milliseconds_of_processor": whole(busies),
        "of_processor": median(busies),
        "ours_without_sites": 1e3 * statistics.median(map(at_server, walls)),
        "goal": 20.0,
    }


@contextlib.contextmanager
def sites_of(names: list[str], port: int, folder: Path) -> Iterator[None]:
    """`polyfed join` for each name."""
    with contextlib.ExitStack() as stack:
        processes = []
        for name in names:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            words = ["join", "--server", f"127.0.0.1:{port}", "--name", name, "--keys", str(folder / "keys")]
            words = [sys.executable, "-m", "polyfed", *words, "--site", str(folder / "sites"), "--any-app"]
            processes.append(subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT))
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
                process.wait()


def flower(num_sites: int, rounds: int) -> dict[str, Any]:
    """Seconds per round of a no-op app of Flower and of ours, in one deployment over TLS."""
    from polyfed.deployment import deploy, keys, serve
    from polyfed.deployment.app_folder import Settings
    from polyfed.deployment.processes import free_port

    folder = Path(tempfile.mkdtemp(prefix="polyfed-"))
    names = [f"client-{i}" for i in range(num_sites)]
    keys.make(folder / "keys", names, ["127.0.0.1"])
    run = deploy.create(folder / "runs", experiment(num_sites, rounds), 0)
    own = folder / "keys" / "server"
    settings = Settings(str(run), tuple(names), str(own / "clients"))
    address = serve.Address("127.0.0.1", free_port(), own)
    say = lambda sentence: print(sentence, file=sys.stderr)  # noqa: E731
    with serve.linked(address, settings, say) as (home, link), sites_of(names, address.port, folder):
        noop = folder / "noop.json"
        app = folder / "noop"
        serve.write_app(app, settings)
        (app / "polyfed_app" / "server.py").write_text(NOOP.format(sites=num_sites, rounds=rounds, out=str(noop)))
        (app / "polyfed_app" / "client.py").write_text(NOOP_CLIENT)
        serve.start(home, app)
        while not noop.is_file():
            time.sleep(0.5)
        serve._watch(run, home, serve.start(home, home / "app"), link, say)
    lines = [json.loads(line) for line in (run / "audit.jsonl").read_text().splitlines()]
    ends = [max(at for at, r in _accepted(lines) if r == round_) for round_ in range(1, rounds + 1)]
    ours = [(b - a).total_seconds() for a, b in itertools.pairwise(ends)]  # the first compiles at sites
    theirs = json.loads(noop.read_text())[1:]
    medians = statistics.median(theirs), statistics.median(ours)
    return {
        "sites": num_sites,
        "noop_seconds": theirs,
        "our_seconds": ours,
        "median_noop": medians[0],
        "median_ours": medians[1],
        "ratio": medians[1] / medians[0],
        "goal": 1.2,
    }


def _accepted(lines: list[dict[str, Any]]) -> list[tuple[datetime, int]]:
    return [(datetime.fromisoformat(x["time"]), x["round"]) for x in lines if x["what"] == "accepted"]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--clients", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--hidden", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--flower", action="store_true")
    parser.add_argument("--sites", type=int, nargs="+", default=[2])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    if options.flower:
        found["flower"] = [flower(sites, options.rounds) for sites in options.sites]
    elif options.scale:
        sizes = [(n, hidden) for hidden in options.hidden for n in options.clients]
        found["loopback"] = []
        for size in sizes:
            found["loopback"].append(loopback(options.repeats, *size))
            print(json.dumps(found["loopback"][-1]), file=sys.stderr, flush=True)
    else:
        found |= loopback(options.repeats)
    print(json.dumps(found | {"load_after": os.getloadavg()[0]}, indent=1))


if __name__ == "__main__":
    main()
