"""The app under Flower's own commands: a link, its SuperNodes and `flwr run`, with our agents behind their sockets."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from fleets import NAMES, until

from polyfed.deployment.audit import verify
from polyfed.deployment.join import live
from polyfed.deployment.processes import ask, free_port, running, wait_for_port
from polyfed.deployment.resident import Resident

CONFIG = '[superlink]\ndefault = "own"\n\n[superlink.own]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_plain_flwr_run_does_the_rounds(tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    (home / "config.toml").write_text(CONFIG.format(port=port))
    words = [
        str(tiny_file()),
        "--num-rounds",
        "2",
        "--evaluation.every",
        "2",
        "--out",
        str(tmp_path / "runs"),
        "--json",
    ]
    command = [sys.executable, "-m", "polyfed", "serve", *words, "--insecure", "--app-only", str(tmp_path / "app")]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert made["app"] == str(tmp_path / "app")

    agents = [Resident(name, tmp_path / name) for name in NAMES]
    sockets = {name: tmp_path / "s" / f"{name}.sock" for name in NAMES}
    threads = [threading.Thread(target=live, args=(agent, sockets[agent.name], print), daemon=True) for agent in agents]
    for thread in threads:
        thread.start()
    until(lambda: all(path.exists() for path in sockets.values()))
    link = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running(link, home, tmp_path / "link.log"))
        assert wait_for_port("127.0.0.1", port, process)
        for name, path in sockets.items():
            own = ["--host", "127.0.0.1", "--port", str(free_port()), "--node-config", f'socket="{path}"']
            node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", *own]
            stack.enter_context(running(node, home, tmp_path / f"{name}.log"))
        found = ask(["flwr", "run", str(tmp_path / "app"), "own", "--stream"], home, 1800.0)
        assert found.returncode == 0, found.stdout + found.stderr
        outcome = Path(made["run"], "served.json")
        until(outcome.is_file, 600.0)
    assert json.loads(outcome.read_text())["code"] == 0, outcome.read_text()
    log = Path(made["run"], "audit.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(line["what"] == "accepted" for line in lines) == 6
    assert verify(log)[0] == len(lines)
    assert Path(made["run"], "arms/fedavg/done.json").is_file()
