"""Servers killed with SIGKILL at every point of a run, over sockets to sites that live on, and resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dp_accounting")

from fleets import NAMES, Watched
from killed_server import POINTS

from polyfed.deployment import deploy
from polyfed.deployment.audit import verify
from polyfed.deployment.local_socket import listening
from polyfed.deployment.member import Member
from polyfed.deployment.resident import Resident
from polyfed.exchange import CentralNoise
from polyfed.experiment import Experiment
from polyfed.runs import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SCRIPT = Path(__file__).with_name("forked_server.py")


@pytest.fixture(scope="module")
def noisy(tiny: Callable[..., Experiment]) -> Experiment:
    """Three rounds whose privacy is counted, and which end early where it is used up."""
    return tiny(num_rounds=3, transforms=(CentralNoise(max_norm=0.5, noise_multiplier=1.0, epsilon=100.0),))


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Watched], list[Any]]]:
    """Three sites behind sockets, and what they learned: `(client, round)`."""
    folder, learned = tmp_path_factory.mktemp("s"), list[Any]()
    learn = Member.round

    def watched(self: Member, client: Any, broadcast: Any, when: Any, newcomer: bool = False) -> Any:
        learned.append((self.client, when))
        return learn(self, client, broadcast, when, newcomer)

    found = [Watched(Resident(name, folder / name)) for name in NAMES]
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, "round", watched)
        for site in found:
            stack.enter_context(listening(folder / f"{site.name}.sock", site.answer))  # type: ignore[arg-type]
        yield folder, found, learned


@pytest.fixture(scope="module")
def served(sites: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """`served(folder, point)`: serve what a folder lacks, in a process of its own; how that ended."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    everything = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # compiled once, for all processes
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT)],
            env={**os.environ, **everything},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):

        def play(folder: Path, point: str = "") -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{folder}\t{sites[0]}\t{point}\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            assert code in (0, -signal.SIGKILL), log.read_text()
            return code

        assert process.stdin is not None
        yield play
        process.stdin.close()


def outcome(folder: Path) -> dict[str, Any]:
    """What must not differ: scores, weights, figures, what was spent of privacy."""
    arm = folder / "arms/fedavg"
    figures = [json.loads(line) for line in (arm / "metrics.jsonl").read_text().splitlines()]
    for line in figures:
        del line["clients"]["wire_up"], line["clients"]["wire_down"]  # which hold the name of the run
    return {
        "scores": (arm / "evaluation.jsonl").read_bytes(),
        "weights": (arm / "weights/seed-0/global.safetensors").read_bytes(),
        "figures": figures,
        "privacy": json.loads((arm / "done.json").read_text())["privacy"],
        "planned": json.loads((folder / "run.json").read_text())["privacy"],
    }


@pytest.fixture(scope="module")
def whole(noisy: Experiment, served: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a server that nobody killed."""
    folder = deploy.create(tmp_path_factory.mktemp("whole"), noisy, 0)
    assert served(folder) == 0
    return outcome(folder)


@pytest.mark.bits
def test_the_server_that_nobody_killed_gives_the_numbers_of_the_simulation(
    noisy: Experiment, whole: Any, tmp_path: Path
) -> None:
    folder = run.create(tmp_path, dataclasses.replace(noisy, compare=()), (0,))
    run.go_on(folder, lambda progress: None)
    arm = folder / "arms/fedavg"
    assert whole["scores"] == (arm / "evaluation.jsonl").read_bytes()
    assert whole["weights"] == (arm / "weights/seed-0/global.safetensors").read_bytes()
    assert whole["privacy"] == json.loads((arm / "done.json").read_text())["privacy"]


@pytest.mark.parametrize("point", POINTS)
def test_a_server_killed_at_any_point_and_resumed_ends_as_if_nobody_had(
    noisy: Experiment, sites: Any, served: Any, whole: Any, point: str, tmp_path: Path
) -> None:
    _, residents, learned = sites
    learned.clear()
    for site in residents:
        site.sent.clear()
        site.phases.clear()
        site.over.clear()
    folder = deploy.create(tmp_path, noisy, 0)
    assert served(folder, point) == -signal.SIGKILL
    assert served(folder) == 0
    assert outcome(folder) == whole
    verify(folder / "audit.jsonl")
    assert sorted(learned) == [(client, (round_, 0)) for client in range(3) for round_ in (1, 2, 3)]  # nothing twice
    for site in residents:
        asked = Counter({number: len(messages) for number, messages in site.sent.items()})
        assert {*asked} == {1, 2, 3}
        assert sorted(asked.values()) in ([1, 1, 1], [1, 1, 2])  # at most the round in flight again
        assert all(len({*messages}) == 1 for messages in site.sent.values())
        assert site.over.is_set()
