"""Findings as plain data, and what every named study keeps."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from polyfed.experiments import load_study, studies, titles
from polyfed.record import from_data, to_data
from polyfed.study import Curves, Findings, Line, Table, Value, check_name, findings_from_data, findings_to_data

FOUND = Findings(
    verdict=("A sentence.", "Another."),
    tables=(
        Table("t", ("a", "b", "c"), (("x", Value(1.0, error=0.1), "text"), ("y", Value(2, low=1.5, high=2.5), ""))),
    ),
    curves=(Curves("c", "up", "along", (Line("l", (1.0, 2.0), (3.0, 4.0), (2.0, 3.0), (4.0, 5.0)),), log_x=True),),
    facts=(("instances", "20"),),
    notes=("A note.",),
)


def test_findings_go_to_json_and_back() -> None:
    assert findings_from_data(json.loads(json.dumps(findings_to_data(FOUND), allow_nan=False))) == FOUND


def test_what_is_no_number_is_null_in_json_and_nan_in_findings() -> None:
    odd = Findings(("x",), (Table("t", ("a", "b"), (("x", Value(math.nan)),)),))
    text = json.dumps(findings_to_data(odd), allow_nan=False)
    cell = findings_from_data(json.loads(text)).tables[0].rows[0][1]
    assert isinstance(cell, Value)
    assert math.isnan(cell.value)


def test_an_array_among_findings_is_refused() -> None:
    with pytest.raises(TypeError, match="is not plain data"):
        findings_to_data(dataclasses.replace(FOUND, facts=((np.ones(2), "x"),)))  # type: ignore[arg-type]


def test_intervals_are_students() -> None:
    samples = np.random.default_rng(0).normal(size=7)
    low, high = stats.t.interval(0.95, 6, samples.mean(), stats.sem(samples))
    found = Value.interval(samples)
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)
    assert Value.mean(samples).error == pytest.approx(stats.sem(samples))


def test_one_sample_has_no_interval() -> None:
    assert Value.interval([2.0]) == Value(2.0)
    assert Line.over("a", [0, 1], [[1.0, 2.0]]) == Line("a", (0.0, 1.0), (1.0, 2.0))


def test_geometric_lines_lie_within_positive_bounds() -> None:
    line = Line.geometric("a", [1, 2], [[1.0, 1e-9], [1e-4, 0.0]])
    assert all(0 < low <= y <= high for low, y, high in zip(line.low, line.y, line.high, strict=True))


@pytest.mark.parametrize("name", ["", "A", "a b", "a--b", "../a", "a_b"])
def test_a_name_must_name_a_folder(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a folder"):
        check_name(name)


@pytest.mark.parametrize("name", studies())
def test_a_named_study_is_whole(name: str) -> None:
    study = load_study(name)
    study.check()
    assert study.name == name
    assert from_data(to_data(study)) == study
    assert studies()[name].endswith(".")
    assert name not in titles()


def test_a_study_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="There is no study 'tabular-qvg': did you mean 'tabular-qavg'"):
        load_study("tabular-qvg")
