"""A server of a real deployment killed with SIGKILL, with all that it had started, and resumed by its command."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from fleets import NAMES, Fleet, Watched, ended

from polyfed.deployment import deploy
from polyfed.deployment.audit import verify
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.member import Member
from polyfed.deployment.resident import Resident
from polyfed.experiment import Experiment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
POINTS = {"round": 2, "evaluate": 2, "stop": 1}  # when the first site hears this for the nth time


def with_children(pid: int) -> list[int]:
    """A process and all that came of it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


class Deadly(Watched):
    """A site in whose hands the server dies, once for each of `POINTS`."""

    server: Any = None
    left: dict[str, int]

    def answer(self, phase: Any, message: bytes) -> bytes:
        self.left[phase] = self.left.get(phase, 0) - 1
        if self.left[phase] == 0:
            for pid in with_children(self.server.pid):
                os.kill(pid, signal.SIGKILL)
        return super().answer(phase, message)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the server's processes in /proc")
def test_a_killed_server_is_resumed_to_the_same_bits_over_the_network(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned, learn = list[Any](), Member.round

    def watched(self: Member, client: Any, broadcast: Any, when: Any, newcomer: bool = False) -> Any:
        learned.append((self.client, when[0]))
        return learn(self, client, broadcast, when, newcomer)

    whole = deploy.create(tmp_path / "whole", tiny(num_rounds=3), 0)
    deploy.go_on(whole, Loopback({name: Resident(name).answer for name in NAMES}), lambda p: None)
    monkeypatch.setattr(Member, "round", watched)

    fleet = Fleet.make(tmp_path / "fleet")
    sites: list[Watched] = [Deadly(Resident(NAMES[0])), *(Watched(Resident(name)) for name in NAMES[1:])]
    deadly: Any = sites[0]
    deadly.left = dict(POINTS)
    with fleet.carried(*sites):
        server = deadly.server = fleet.serve(tiny_file(), "--num-rounds", "3", "--deadline", "300")
        codes = []
        for _ in range(len(POINTS) + 1):
            with ended(server):
                try:
                    codes.append(server.wait(timeout=900))
                except subprocess.TimeoutExpired:
                    codes.append(-1)
            if codes[-1] != -signal.SIGKILL:
                break
            server = deadly.server = fleet.resume("--deadline", "300")
    assert codes == [-signal.SIGKILL] * 3 + [0], fleet.said
    assert sorted(learned) == [(client, round_) for client in range(3) for round_ in (1, 2, 3)]
    for site in sites:
        asked = Counter({number: len(messages) for number, messages in site.sent.items()})
        assert asked[1] == asked[3] == 1
        assert 1 <= asked[2] <= 3  # its server died twice, the second time when it was judged
    for name in ("evaluation.jsonl", "weights/seed-0/global.safetensors"):
        assert (fleet.served / "arms/fedavg" / name).read_bytes() == (whole / "arms/fedavg" / name).read_bytes()
    verify(fleet.served / "audit.jsonl")
