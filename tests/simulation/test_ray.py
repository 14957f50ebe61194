"""Through real Ray: two actors give the numbers of one process, one that is killed comes back, no port is open."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polyfed.experiment import Experiment
from polyfed.runs.store import load_run

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.bits, pytest.mark.timeout(1200)]

ROUNDS = """
import json, os, re, subprocess, sys
from pathlib import Path
import polyfed
import jax, numpy as np
from polyfed.experiments import load_file
from polyfed.simulation.ray_crew import crew
from polyfed.simulation.sharded import Sharded
from polyfed.simulation.simulate import Simulation

if __name__ == "__main__":
    experiment, seeds, found = load_file(Path(sys.argv[1])), (0, 1), {}
    with crew(2) as actors:  # which says how Ray listens before it is imported
        import ray

        simulation = Simulation(experiment, seeds, afar=lambda simulation: Sharded(simulation, actors))
        federation, _ = simulation.advance(simulation.init(), 2)
        ray.kill(simulation.guests._places[1].actor)
        federation, metrics = simulation.advance(federation, 2)
        scores = simulation.evaluate(federation)
        found["told"], found["actors"] = simulation.told(), actors.told
        sockets = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True).stdout.splitlines()
        started = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
        own = [line.split()[3] for line in sockets if {*re.findall(r"pid=(\\d+)", line)} & {*started, str(os.getpid())}]
        found["listening"] = sorted({address.rpartition(":")[0] for address in own})
        simulation.guests.end()
    alone = Simulation(experiment, seeds)
    expected, _ = alone.advance(alone.init(), 2)
    expected, figures = alone.advance(expected, 2)
    leaves = zip(jax.tree.leaves(federation.server), jax.tree.leaves(expected.server), strict=True)
    found["same weights"] = all(np.array_equal(a, b) for a, b in leaves)
    found["same figures"] = all(np.array_equal(metrics[name], figures[name], equal_nan=True) for name in figures)
    found["same scores"] = bool(np.array_equal(scores, alone.evaluate(expected)))
    print(json.dumps(found))
"""


def test_two_actors_of_which_one_is_killed_are_one_process(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    script = tmp_path / "rounds.py"
    script.write_text(ROUNDS)
    words = [sys.executable, str(script), str(tiny_file(tiny()))]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=1100, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert [found[f"same {what}"] for what in ("weights", "figures", "scores")] == [True] * 3
    assert "clients 2 to 2 died and was started again" in found["told"]
    assert found["actors"]["actors"] == 2
    assert found["listening"]
    assert [address for address in found["listening"] if "127.0.0.1" not in address] == []


def test_the_command_runs_and_reports_on_ray(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    words = ["run", str(tiny_file(tiny(num_rounds=2))), "--seeds", "0", "--out", str(tmp_path), "--quiet", "--json"]
    words = [sys.executable, "-m", "polyfed", *words, "--engine", "ray", "--actors", "2"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=1100, check=False)
    assert ended.returncode == 0, ended.stderr
    outcome = json.loads(ended.stdout)
    assert load_run(Path(outcome["run"])).record["engine"]["actors"] == 2
    assert "Ray, 2" in Path(outcome["report"]).read_text().replace("\N{NO-BREAK SPACE}", " ")
