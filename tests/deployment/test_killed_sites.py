"""A site of a real deployment killed with SIGKILL at each stage: started again it goes on; not started it is absent."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from fleets import NAMES, Fleet, Watched, ended, until

from polyfed.deployment import deploy
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.resident import Resident
from polyfed.experiment import Experiment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
SCRIPT = Path(__file__).with_name("site_process.py")
DEADLINE_S, TRIES = 480, 40
POINTS = ("hello", "before", "within", "after", "second")  # of `site_process`; it is not started after the last
ROUNDS = 24


class Lossy:
    """The third site, as it is to the server: in some rounds it dies before it has learned, or after."""

    def __init__(self, absent: Mapping[int, str]) -> None:
        self.resident, self.absent = Resident(NAMES[2]), absent

    def answer(self, phase: Any, message: bytes) -> bytes:
        from fleets import parts_of

        lost = self.absent.get(parts_of(message)[0], "") if phase == "round" else ""
        answer = b"" if lost == "before" else self.resident.answer(phase, message)
        if lost:
            raise ConnectionError("it died")
        return answer


def test_a_site_killed_at_each_stage_goes_on_and_one_that_is_not_started_again_is_absent(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    experiment = tiny(num_rounds=ROUNDS)
    experiment = dataclasses.replace(experiment, evaluation=dataclasses.replace(experiment.evaluation, every=ROUNDS))
    fleet = Fleet.make(tmp_path / "fleet")
    keys, log = fleet.folder / "keys", fleet.folder / "mortal.log"
    codes, connected, over = list[int](), threading.Event(), threading.Event()

    def mortal() -> None:
        """Start the site again and again; it dies at the points."""
        for point in POINTS:
            words = [fleet.address, str(keys / "server" / "ca.pem"), str(keys / NAMES[2] / "client.key")]
            command = [sys.executable, str(SCRIPT), *words, str(fleet.folder / "m"), point]
            codes.append(1)
            for _ in range(TRIES):  # Flower lets a node in again when it has missed the last one's signs of life
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                    assert process.stdout is not None
                    with ended(process), log.open("a") as file:  # type: ignore[arg-type]
                        for line in process.stdout:
                            file.write(line)
                            file.flush()
                            if line.startswith("connected"):
                                connected.set()
                    connected.clear()
                    codes[-1] = process.wait()
                if codes[-1] == -signal.SIGKILL:
                    break
                time.sleep(5.0)
        over.set()

    def held(number: int, answer: bytes) -> bytes:
        """The first site waits with its answer until the third is there again, or never will be."""
        with contextlib.suppress(AssertionError):
            until(lambda: connected.is_set() or over.is_set(), DEADLINE_S - 10.0)
        return answer

    sites = [Watched(Resident(NAMES[0]), held), Watched(Resident(NAMES[1]))]
    thread = threading.Thread(target=mortal, daemon=True)
    words = ["--num-rounds", str(ROUNDS), "--evaluation.every", str(ROUNDS), "--quorum", "2"]
    with fleet.carried(*sites):
        thread.start()
        server = fleet.serve(tiny_file(), *words, "--deadline", str(DEADLINE_S))
        with ended(server):
            code = server.wait(timeout=2400)
    until(lambda: not thread.is_alive(), 60.0)
    assert code == 0, fleet.said
    assert codes == [-signal.SIGKILL] * len(POINTS), log.read_text()
    away = {
        line["round"]: line["why"]
        for line in fleet.lines()
        if line["client"] == NAMES[2] and line["what"] == "absent" and line["phase"] == "round"
    }
    assert all(why.startswith(f"'client-2' is absent from round {number}: ") for number, why in away.items())
    lines = [line.split() for line in log.read_text().splitlines()]
    done = [(words[0], int(words[1])) for words in lines if words and words[0] in ("learned", "kept")]
    learned, kept = ({number for what, number in done if what == which} for which in ("learned", "kept"))
    came = set(range(1, ROUNDS + 1)) - set(away)
    assert came <= kept <= learned, log.read_text()
    assert ROUNDS in away
    assert len([what for what, _ in done if what == "learned"]) <= len(kept) + 1, log.read_text()  # one was not kept

    whole = deploy.create(tmp_path / "whole", experiment, 0)
    others = {name: Resident(name).answer for name in NAMES[:2]}
    absent = {number: "after" if number in kept else "before" for number in away}
    deploy.go_on(whole, Loopback({**others, NAMES[2]: Lossy(absent).answer}), lambda p: None)
    path = "arms/fedavg/weights/seed-0/global.safetensors"
    assert (fleet.served / path).read_bytes() == (whole / path).read_bytes()
