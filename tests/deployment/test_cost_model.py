"""What a deployment would take: each part by hand, the fitted numbers those of the measurement, the answer in words."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from polyfed.deployment.cost_model import (
    FLOWER,
    LOOPBACK,
    Compared,
    Costs,
    Line,
    Work,
    pays_between,
    seconds,
    verdict,
)

DATA = Path(__file__).parents[2] / "docs" / "results" / "data" / "deployment-cost.json"
COSTS = Costs(1.0, 2.0, 3.0, 0.1, 1e-6, 0.2, 2e-6, 0.3, 0.4, 3e-6)
LINE = Line(up=8.0, down=16.0, server=40.0, latency=50.0)
WORK = Work(up=1e6, down=2e6, local=7.0)


def test_every_part_of_a_round_is_the_one_counted_by_hand() -> None:
    found = seconds(COSTS, LINE, WORK, 10)
    assert found.start == 1.0 + 2.0
    assert found.serialisation == pytest.approx(10 * (0.1 + 1.0) + (0.2 + 6.0))
    assert found.transport == pytest.approx(2 * 3 * 0.05 + 10 * 16 / 40 + 10 * 8 / 40)  # the server's line is full
    assert found.own == pytest.approx(0.3 + 10 * (0.4 + 3.0))
    assert found.total == pytest.approx(found.communication + 7.0)


def test_a_few_sites_wait_for_their_own_lines() -> None:
    assert seconds(COSTS, LINE, WORK, 1).transport == pytest.approx(0.3 + 1.0 + 1.0)


def test_sites_that_share_cores_take_turns() -> None:
    apart, together = seconds(COSTS, LINE, WORK, 8), seconds(COSTS, LINE, WORK, 8, sites_per_core=4.0)
    assert (together.start, together.local) == (1.0 + 8.0, 28.0)
    assert together.transport == apart.transport


@pytest.mark.parametrize("num_clients", [2, 5, 40])
def test_a_deployment_pays_from_the_least_local_work_on(num_clients: int) -> None:
    least = verdict(COSTS, LINE, WORK, num_clients, Compared(cores=1)).least_local
    for factor, pays in ((0.999, False), (1.001, True)):
        work = dataclasses.replace(WORK, local=factor * least)
        assert verdict(COSTS, LINE, work, num_clients).pays is pays


def test_a_tenth_of_a_round_is_communication_with_nine_times_its_seconds_of_learning() -> None:
    tenth = verdict(COSTS, LINE, WORK, 4).tenth
    found = seconds(COSTS, LINE, dataclasses.replace(WORK, local=tenth), 4)
    assert found.communication == pytest.approx(0.1 * found.total)


def test_sites_on_the_machine_that_is_compared_with_never_pay() -> None:
    machine = Compared(cores=2, together=True)
    assert verdict(COSTS, LINE, WORK, 8, machine).least_local == math.inf
    assert pays_between(COSTS, LINE, WORK, machine) is None


def test_clients_between_which_it_pays_are_where_the_verdict_turns() -> None:
    costs = Costs(wait=10.0, own_message=0.001)
    low, high = pays_between(costs, LINE, Work(0, 0, 1.0)) or (0, 0)
    assert [verdict(costs, LINE, Work(0, 0, 1.0), n).pays for n in (low - 1, low, high)] == [False, True, True]


def test_the_numbers_are_those_fitted_to_the_measurement() -> None:
    data: dict[str, Any] = json.loads(DATA.read_text())
    assert {"loopback": dataclasses.asdict(LOOPBACK), "flower": dataclasses.asdict(FLOWER)} == {
        name: {**dataclasses.asdict(Costs()), **fit} for name, fit in data["fit"].items()
    }


def test_measured_rounds_are_what_the_model_says() -> None:
    data: dict[str, Any] = json.loads(DATA.read_text())
    for name in ("loopback", "flower"):
        assert all(0.5 < ratio < 2.0 for ratio in data["predicted_over_measured"][name])
