"""The how-to from zero to three machines, each a network namespace: its commands, and what is seen on the wire."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from fleets import ended, until
from namespaces import Lan, flows, may

from polyfed.deployment.audit import verify
from polyfed.experiment import Evaluation, Experiment

LINES = ("line-1", "line-2", "line-3")
PORT = 9092


@pytest.mark.slow
def test_a_machine_that_is_none_reaches_the_ports_that_are_open_and_is_seen(tmp_path: Path) -> None:
    if why := may():
        pytest.skip(why)
    with contextlib.ExitStack() as stack:
        lan = Lan(stack, ["server", "stranger"])
        here, away = "a = socket.create_server(('127.0.0.1', 9093))", "b = socket.create_server(('0.0.0.0', 9092))"
        listen = f"import socket, time; {here}; {away}; time.sleep(600)"
        process = subprocess.Popen(lan.command("server", sys.executable, "-c", listen))
        stack.enter_context(ended(process))
        until(lambda: lan.open_ports("stranger", "server") == [9092], 120.0)
        connect = "import socket; socket.create_connection(('10.77.0.1', 9092), 5.0).close()"
        name = "import socket; socket.gethostbyname('telemetry.example.org')"
        with lan.watched(tmp_path / "wire.log"):
            subprocess.run(lan.command("stranger", sys.executable, "-c", connect), check=True)
            call = lan.command("stranger", "timeout", "5", sys.executable, "-c", name)
            subprocess.run(call, check=False, capture_output=True)
        seen = flows(tmp_path / "wire.log")
        with lan.watched(tmp_path / "but.log", "stranger"):
            subprocess.run(lan.command("stranger", sys.executable, "-c", connect), check=True)
        assert {flow for flow in flows(tmp_path / "but.log") if flow[0] != "arp"} == set()
        assert ("10.77.0.2", "10.77.0.1", 9092) in {(a, b, port) for name, a, _, b, port in seen if name == "tcp"}
        assert {(name, b, port) for name, _, _, b, port in seen if name == "udp"} == {("udp", "10.77.0.254", 53)}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_from_zero_to_three_machines(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    if why := may():
        pytest.skip(why)
    polyfed = [sys.executable, "-m", "polyfed"]
    experiment = str(tiny_file(tiny(num_rounds=1, evaluation=Evaluation(every=1, episodes=1))))
    with contextlib.ExitStack() as stack:
        lan = Lan(stack, ["server", *LINES, "stranger"])
        keys = [*polyfed, "keys", "fleet", "--clients", ",".join(LINES), "--host", lan.addresses["server"]]
        subprocess.run(lan.command("server", *keys), cwd=tmp_path, check=True)
        stack.enter_context(lan.watched(tmp_path / "wire.log", "stranger"))

        def start(machine: str, *words: str) -> subprocess.Popen[bytes]:
            folder = tmp_path / machine
            folder.mkdir(exist_ok=True)
            with (folder / "log").open("wb") as log:
                command = lan.command(machine, *polyfed, *words)
                process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            stack.enter_context(ended(process))
            return process

        own = ["--keys", "../fleet/server", "--port", str(PORT), "--quorum", "3", "--no-report"]
        server = start("server", "serve", experiment, *own)
        sites = []
        for name in LINES:
            shutil.copytree(tmp_path / "fleet" / name, tmp_path / name / name)  # carried over
            address = f"{lan.addresses['server']}:{PORT}"
            words = ["--server", address, "--name", name, "--keys", name, "--tries", "20"]
            sites.append(start(name, "join", experiment, *words, "--no-any-app"))
        until(lambda: "listening on" in (tmp_path / "server" / "log").read_text(), 900.0)
        reached = lan.open_ports("stranger", "server")
        behind = {name: lan.open_ports("stranger", name) for name in LINES}
        codes = [process.wait(timeout=1800) for process in (server, *sites)]
    logs = {name: (tmp_path / name / "log").read_text() for name in ("server", *LINES)}
    assert codes == [0, 0, 0, 0], logs
    assert reached == [PORT]
    assert behind == {name: [] for name in LINES}
    (audit,) = (tmp_path / "server").glob("runs/*/*/audit.jsonl")
    verify(audit)
    what = [line["what"] for line in map(json.loads, audit.read_text().splitlines())]
    assert what.count("accepted") == 3

    door, machines = (lan.addresses["server"], PORT), {lan.addresses[name] for name in ("server", *LINES)}
    for name, a, from_, b, to in flows(tmp_path / "wire.log"):
        if lan.addresses["stranger"] in (a, b):
            continue
        assert name in ("tcp", "arp"), (name, a, from_, b, to)  # nothing asks for a name, nothing calls home
        assert {a, b} <= machines, (name, a, b)
        assert name == "arp" or door in ((a, from_), (b, to)), (a, from_, b, to)
