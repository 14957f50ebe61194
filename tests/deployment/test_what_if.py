"""`polyfed plan`: sizes from what was typed or from an experiment, an answer in words, a table and JSON."""

from __future__ import annotations

import json

import pytest

from polyfed.deployment.commands import dispatch
from polyfed.deployment.what_if import sentence, size_of, what_if
from polyfed.options import Plan


def test_sizes_are_as_typed() -> None:
    assert size_of(Plan()) == (8, 69_640, 69_640, 100)
    assert size_of(Plan(clients=3, parameters=10, local_steps=7)) == (3, 40, 40, 7)
    assert size_of(Plan(model_bytes=5))[1:3] == (5, 5)


@pytest.mark.slow
def test_sizes_are_those_of_an_experiment() -> None:
    clients, up, down, steps = size_of(Plan(experiment="cartpole-poles"))
    assert (clients, steps) == (3, 200)
    assert up == down > 1000
    assert size_of(Plan(experiment="cartpole-poles", clients=20, local_steps=9))[::3] == (20, 9)


def test_more_local_steps_turn_the_verdict() -> None:
    short, long = what_if(Plan(local_steps=100)), what_if(Plan(local_steps=10**6))
    assert (short["pays"], long["pays"]) == (False, True)
    least = short["pays_from_local_steps"]
    assert what_if(Plan(local_steps=least))["pays"] is True
    assert what_if(Plan(local_steps=least - 1))["pays"] is False
    assert [row["clients"] for row in short["by_clients"]] == [2, 4, 8, 16, 32]


def test_the_answer_is_said_in_words() -> None:
    said = sentence(what_if(Plan(clients=4)))
    assert "more than working in parallel saves" in said
    assert "fewer and longer ones cost less" in said
    assert "it is never quicker" in sentence(what_if(Plan(clients=1)))


def test_a_table_or_json_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch("plan", ["--clients", "4"]) == 0
    printed = capsys.readouterr().out
    assert "quicker from local steps" in printed
    assert "learning at the sites" in printed
    assert dispatch("plan", ["--clients", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clients"] == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bandwidth-up", "0"], "bandwidth_up = 0 Mbit/s is out of range"),
        (["--clients", "-1"], "clients = -1 is out of range"),
        (["--cores", "0"], "cores = 0 is out of range"),
        (["--carrier", "pigeon"], "pigeon"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else None,
)
def test_what_cannot_be_is_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dispatch("plan", words)
