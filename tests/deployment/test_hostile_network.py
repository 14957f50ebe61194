"""A hostile site in a deployment over TLS: whatever it answers, the round is to the last bit the one without it."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from fleets import NAMES, Fleet, Watched, ended
from messenger import ERROR, MANY, RECORDS, TWICE
from test_loopback import BAD, first_form, first_number, one_more, weights_changed

from polyfed.deployment import deploy, join
from polyfed.deployment.audit import verify
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.resident import Resident
from polyfed.experiment import Experiment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def another_format(data: bytes) -> bytes:
    return data.replace(b"polyfed\x01", b"polyfed\x02")


worse = weights_changed(first_number(1e6))
ROWS: dict[str, tuple[Callable[[bytes], Any], str]] = {
    **BAD,
    "num-examples 0, so that weights sum to nothing": (weights_changed(one_more(0.0)), "schema"),
    "an object": (weights_changed(first_form(kind="object")), "schema"),
    "arrays twice": (weights_changed(lambda h, n: ({**h, "arrays": h["arrays"] * 2}, n * 2)), "schema"),
    "another experiment": (weights_changed(lambda h, n: ({**h, "experiment": "f" * 64}, n)), "other-experiment"),
    "another version": (weights_changed(lambda h, n: ({**h, "version": "0"}, n)), "other-version"),
    "another format": (another_format, "other-version"),
    "the same node twice": (lambda data: TWICE + worse(data), "too-far"),
    "one record more": (lambda data: RECORDS + data, "late"),
    "an error of the app": (lambda data: ERROR, "late"),
    "an answer of forty objects": (lambda data: MANY, "late"),
    "a length beyond its end": (lambda data: data[:1] + struct.pack("<I", 2**32 - 1) + data[5:], "unreadable"),
}


def away(phase: Any, message: bytes) -> bytes:
    raise ConnectionError("nobody lives there")


THROUGH_APPS = ("NaN", "num-examples 1e12", "pickle", "huge")  # where Flower starts its app for every message


def reference(experiment: Experiment, folder: Path, rounds: int) -> Any:
    """What the server sent, round by round, where the third client was never there; and what it ended with."""
    evaluation = dataclasses.replace(experiment.evaluation, every=rounds)
    sites = [Watched(Resident(name)) for name in NAMES[:2]]
    run = deploy.create(folder, dataclasses.replace(experiment, num_rounds=rounds, evaluation=evaluation), 0)
    deploy.go_on(run, Loopback({**{site.name: site.answer for site in sites}, NAMES[2]: away}), lambda p: None)
    return sites[0].sent, run


def play(fleet: Fleet, file: Path, rows: Sequence[str], carry: Any, deadline_s: int) -> Any:
    """A real deployment in which the third site answers another of some rows in every round."""
    changes = [ROWS[row][0] for row in rows]
    spoil = lambda number, answer: changes[number - 1](answer)  # noqa: E731
    sites = [Watched(Resident(name), spoil if name == NAMES[2] else None) for name in NAMES]
    words = ["--num-rounds", str(len(rows)), "--evaluation.every", str(len(rows)), "--quorum", "2"]
    server = fleet.serve(file, *words, "--deadline", str(deadline_s))
    with pytest.MonkeyPatch.context() as patch, ended(server), carry(*sites):
        patch.setattr(join, "GRACE_S", 1.0)
        try:
            code = server.wait(timeout=2300)
        except subprocess.TimeoutExpired:
            code = -1
    return fleet, sites, code


def check_run(played: Any, without: Any) -> None:
    """It went to its end, with the weights of the run without that client."""
    fleet, _, code = played
    assert code == 0, fleet.said
    path = "arms/fedavg/weights/seed-0/global.safetensors"
    assert (fleet.served / path).read_bytes() == (without[1] / path).read_bytes()
    verify(fleet.served / "audit.jsonl")


def check_row(played: Any, without: Any, number: int, code: str) -> None:
    """The round of one row is that without the client, and the log says why."""
    fleet, sites, _ = played
    if number + 1 in without[0]:  # what is sent next is what this round gave
        assert [site.sent[number + 1][0] for site in sites] == [without[0][number + 1][0]] * 3
    found = [line for line in fleet.lines() if line["round"] == number and line["phase"] == "round"]
    codes = {line["client"]: (line["what"], line["code"]) for line in found}
    assert codes["client-0"] == codes["client-1"] == ("accepted", "")
    assert codes["client-2"] in [("refused", code), ("absent", code)]
    why = next(line["why"] for line in found if line["client"] == "client-2")
    assert why.startswith(f"'client-2' is absent from round {number}: ")
    assert "\x1b" not in why
    metrics = fleet.lines("arms/fedavg/metrics.jsonl")[number - 1]["clients"]
    assert metrics["refused"][:2] == [0, 0]
    assert metrics["refused"][2] >= 1
    assert metrics["weight"][2] == 0


@pytest.fixture(scope="module")
def without(tiny: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return reference(tiny(), tmp_path_factory.mktemp("without"), len(ROWS))


@pytest.fixture(scope="module")
def hostile(tiny_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every row, over TLS through the one port and Flower's server link; one process is the nodes of all sites."""
    fleet = Fleet.make(tmp_path_factory.mktemp("rows"))
    return play(fleet, tiny_file(), list(ROWS), fleet.carried, 120)


def test_the_run_goes_to_its_end_with_the_weights_of_the_run_without_that_client(hostile: Any, without: Any) -> None:
    check_run(hostile, without)


@pytest.mark.parametrize("row", ROWS)
def test_a_bad_answer_over_the_network_is_that_of_nobody(hostile: Any, without: Any, row: str) -> None:
    check_row(hostile, without, list(ROWS).index(row) + 1, ROWS[row][1])


def test_bad_answers_through_supernodes_and_their_apps_are_those_of_nobody(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    absent = reference(tiny(), tmp_path / "without", len(THROUGH_APPS))
    fleet = Fleet.make(tmp_path / "fleet")
    played = play(fleet, tiny_file(), THROUGH_APPS, fleet.joined, 600)
    check_run(played, absent)
    for number, row in enumerate(THROUGH_APPS, 1):
        check_row(played, absent, number, ROWS[row][1])
