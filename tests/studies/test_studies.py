"""Studies on finite worlds: their arithmetic against naive loops, wrong input in a sentence, and small runs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from polyfed.experiments import load_study
from polyfed.studies import released
from polyfed.studies.differing_neighbours import DifferingNeighbours, distance_bound, worst_case_and_average
from polyfed.studies.fixed_point import FixedPoint, late, slope, thinned
from polyfed.studies.merge_periods import MergePeriods, score
from polyfed.studies.towards_the_centre import TowardsTheCentre
from polyfed.study import Findings, Value, findings_to_data, silent


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("tabular-qavg", {"methods": ("qvag",)}, "did you mean 'qavg'"),
        ("tabular-qavg", {"methods": ()}, "names nothing"),
        ("tabular-qavg", {"worlds": ("random_mdps",) * 2}, "names nothing, or one thing twice"),
        ("tabular-qavg", {"random_instances": 1}, "random_instances = 1 instances per seed is out of range"),
        ("tabular-qavg", {"periods": (1, 3)}, "periods has 3, which does not divide the 128 local steps"),
        ("tabular-qavg", {"periods": (1, 1)}, "one period twice"),
        ("tabular-kappa", {"kappas": (1.5,)}, "kappas = 1.5 is out of range"),
        ("tabular-kappa", {"omegas": (-0.1,)}, "omegas = -0.1 is out of range"),
        ("tabular-kappa", {"fedrq_steps": 33}, "which does not divide the 33 local steps"),
        ("fedrq-fixed-point", {"omega": 0.0}, "omega = 0 is out of range"),
        ("fedrq-fixed-point", {"counts": ()}, "counts is empty"),
        ("fedrq-fixed-point", {"periods": (7,)}, "periods has 7"),
        ("assumption-violation", {"missing": (1.0,)}, "missing = 1 is out of range"),
        ("assumption-violation", {"missing": (0.1, 0.1)}, "names one share twice"),
        ("assumption-violation", {"num_agents": 1}, "num_agents = 1 agents is out of range"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_study_that_cannot_be_made_is_refused(name: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        dataclasses.replace(load_study(name), **changes).check()
    assert str(refused.value).count("\n") == 0


def test_anchors_are_those_of_the_sheet() -> None:
    assert released.anchor("qavg", "random_mdps", 0) == (3.400, 3.260)
    assert released.anchor("proj_pavg", "windy_cliffs", 32) == (112.5, 114.3)
    assert released.anchor("soft_pavg", "random_mdps", 2) == (3.519, 3.240)
    assert math.isnan(released.anchor("qavg", "random_mdps", 3)[0])


def test_scripts_end_with_a_round_whatever_the_period() -> None:
    for scripts in (released.SCRIPTS, released.SCRIPTS_AROUND):
        assert len(scripts) == 6
        assert all(script.num_steps % period == 0 for script in scripts.values() for period in (1, 2, 4, 8, 16, 32))


def test_a_difference_in_standard_errors() -> None:
    assert score(Value(1.0), 3.0, 2.0) == -1.0


def test_late_and_thinned_leave_out_what_is_between_rounds() -> None:
    distance = np.full((2, 8), np.nan)
    distance[:, 1::2] = [[8, 4, 2, 1], [16, 8, 4, 2]]
    assert late(distance).tolist() == [1.0, 2.0]
    steps, values = thinned(distance, points=3)
    assert steps.tolist() == [2, 4, 8]
    assert values[0].tolist() == [8, 4, 1]


def test_the_exponent_of_a_power_law_is_found() -> None:
    x = np.arange(1, 20)
    assert slope(x, np.stack([3 * x**-0.5, 7 * x**-0.5])).value == pytest.approx(-0.5)


def test_the_bound_is_that_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    reference, sets = rng.normal(size=(3, 4, 2)), rng.random((3, 5, 4, 4)) < 0.6
    sets |= np.eye(4, dtype=bool)
    for n, found in enumerate(distance_bound(reference, sets, 0.3, 0.9)):
        values, gaps = reference[n].max(axis=1), []
        for state in range(4):
            union = min(values[x] for k in range(5) for x in range(4) if sets[n, k, state, x])
            own = [min(values[x] for x in range(4) if sets[n, k, state, x]) for k in range(5)]
            gaps.append(np.mean(own) - union)
        assert found == pytest.approx(0.9 * 0.3 / 0.1 * max(gaps))


def well_formed(found: Findings) -> Findings:
    json.dumps(findings_to_data(found), allow_nan=False)
    assert found.verdict
    assert all(len(row) == len(table.head) for table in found.tables for row in table.rows)
    assert len({curves.name for curves in found.curves}) == len(found.curves)
    assert "nan" not in " ".join(found.verdict)
    return found


@pytest.mark.slow
def test_own_sets_are_within_the_bound_and_harmless_where_they_agree() -> None:
    study = DifferingNeighbours(name="small", instances=4, missing=(0.0, 0.4), num_steps=300)
    found = well_formed(study.answer((0,), silent))
    none, some = found.tables[0].rows
    values = [cell.value for cell in none[1:] if isinstance(cell, Value)]
    assert max(values) < 1e-9  # nothing is missing, so nothing differs
    distance, bound, union = (some[i] for i in (2, 3, 5))
    assert isinstance(distance, Value) and isinstance(bound, Value) and isinstance(union, Value)  # noqa: PT018
    assert 0 < distance.value <= bound.value
    assert union.value < 1e-9


@pytest.mark.slow
def test_the_worst_case_of_a_policy_is_below_its_mean() -> None:
    study = DifferingNeighbours(name="small", instances=3, missing=(0.2,))
    mdps = study.worlds((0,))
    union = np.asarray(mdps.transitions > 0).any(axis=(1, 3))
    worst, average = worst_case_and_average(np.zeros((3, 5, 5)), mdps, 0.2, union)
    assert (worst < average).all()


@pytest.mark.slow
def test_fedrq_reaches_the_robust_fixed_point_and_qavg_does_not() -> None:
    study = FixedPoint(
        name="small", instances=3, periods=(1,), counts=(1,), planned_steps=320, sampled_steps=64, learning_rate=0.5
    )
    found = well_formed(study.answer((0,), silent))
    rows = {row[0]: row for row in found.tables[0].rows}
    worst = {name: row[3].value for name, row in rows.items() if isinstance(row[3], Value)}
    assert worst["FedRQ, α = 1, E = 1"] < 1e-6
    assert worst["QAvg to its own"] < 1e-6
    assert worst["QAvg to the robust fixed point"] > 1e-3


@pytest.mark.slow
def test_qavg_is_near_its_anchors() -> None:
    study = MergePeriods(name="small", worlds=("random_mdps",), random_instances=100, periods=(1, 32), control=True)
    found = well_formed(study.answer((0,), silent))
    apart = [row[i] for row in found.tables[0].rows[:2] for i in (3, 6)]
    assert all(isinstance(one, Value) and abs(one.value) < 3 for one in apart)


@pytest.mark.slow
def test_the_series_around_a_centre_is_run() -> None:
    study = TowardsTheCentre(
        name="small", methods=("qavg", "fedrq"), omegas=(0.0, 0.3), worlds=("random_mdps",), random_instances=4,
        periods=(1, 0), kappas=(0.0, 1.0), fedrq_steps=64,
    )  # fmt: skip
    found = well_formed(study.answer((0,), silent))
    assert len(found.tables) == 3
    at_zero = [table.rows[0][1] for table in found.tables]
    assert all(isinstance(one, Value) for one in at_zero)
