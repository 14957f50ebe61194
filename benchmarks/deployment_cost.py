"""What does a round of a deployment cost, and how much of that is our own?

    .venv/bin/python benchmarks/deployment_cost.py --repeats 50
    .venv/bin/python benchmarks/deployment_cost.py --flower --sites 2 --rounds 5

The first times our own share: eight clients' 4-128-128-2 networks go out and come back through the loopback carrier,
packed, unpacked, held against the gate, stacked and merged, with nothing learned between. The second starts Flower's
server link and sites over TLS on this machine, lets a no-op app of Flower and then ours do the same number of rounds in
it, and compares seconds per round; ours learn a few steps. Quiet machines alone give figures that mean anything. JSON
on standard output.
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
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.member import Member
from polyfed.deployment.remote import Remote
from polyfed.deployment.resident import Resident
from polyfed.environments import CartPole, Explicit
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


def experiment(clients: int, rounds: int = 1) -> Experiment:
    """Cart-poles whose learners have networks of 4-128-128-2."""
    return Experiment(
        name="cost",
        environment=CartPole(),
        variation=Explicit({"half_length": tuple(np.linspace(0.3, 0.9, clients).tolist())}),
        num_clients=clients,
        agent=DQN(hidden=(128, 128), learning_starts=50, replay_capacity=1000),
        num_rounds=rounds,
        local_steps=50,
        evaluation=Evaluation(every=rounds, episodes=1, own=False),
    )


def loopback(repeats: int) -> dict[str, Any]:
    """Seconds of an exchange in which nothing is learned, and of them those of the sites."""
    at_sites = [0.0]

    def still(self: Member, client: Any, broadcast: Any, when: Any, newcomer: bool = False) -> Any:
        figures = jax.tree.map(np.zeros_like, self._forms[1])
        moved = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.01), broadcast)
        return client, moved, figures

    Member.round = still  # type: ignore[method-assign]
    names = [f"client-{i}" for i in range(8)]
    residents = {name: Resident(name) for name in names}

    def timed(resident: Resident) -> Any:
        def answer(phase: Any, message: bytes) -> bytes:
            began = time.perf_counter()
            reply = resident.answer(phase, message)
            at_sites[0] += time.perf_counter() - began
            return reply

        return answer

    carrier = Loopback({name: timed(resident) for name, resident in residents.items()})
    simulation = Simulation(experiment(8), (0,), afar=lambda s: Remote(s, carrier, "cost"))
    federation, seconds, sites, busy = simulation.init(), [], [], []
    for repeat in range(repeats + 2):
        at_sites[0], began, worked = 0.0, time.perf_counter(), time.process_time()
        federation, _ = simulation.advance(federation, 1)
        jax.block_until_ready(federation.server.broadcast)
        if repeat >= 2:  # the first greet and compile
            seconds.append(time.perf_counter() - began)
            sites.append(at_sites[0])
            busy.append(time.process_time() - worked)
    return {
        "clients": 8,
        "network": "4-128-128-2",
        "repeats": repeats,
        "milliseconds_per_round": 1e3 * statistics.median(seconds),
        "of_them_at_the_eight_sites": 1e3 * statistics.median(sites),
        "milliseconds_of_processor": 1e3 * statistics.median(busy),
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
    parser.add_argument("--flower", action="store_true")
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    found |= flower(options.sites, options.rounds) if options.flower else loopback(options.repeats)
    print(json.dumps(found | {"load_after": os.getloadavg()[0]}, indent=1))


if __name__ == "__main__":
    main()
