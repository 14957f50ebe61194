import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import synthetic_run

from polyfed.report.arms import entries
from polyfed.report.displacement import _blocks, displacement


def texts(drawing):
    nodes = ET.fromstring(drawing.svg).iter()
    return {"".join(node.itertext()).strip() for node in nodes if node.tag.endswith("}text")}


def test_no_displacement_no_figure():
    by_name = {entry.label: entry for entry in entries([synthetic_run.standard(points=5)])}
    assert displacement(by_name["fedavg"], "d") is None
    assert {"layer 1", "layer 2", "output", "round (means of 4)"} <= texts(displacement(by_name["fedwb"], "d"))


@pytest.mark.slow
@pytest.mark.parametrize("odd", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_rounds_in_which_the_rule_rested_break_nothing(odd):
    arm = synthetic_run.arm("fedwb", [1.0, 2.0], points=3, displacement=True)
    rested = {key: value.copy() for key, value in arm.metrics.items() if key.startswith("displacement/")}
    rested["displacement/layer 1"][:] = odd
    for key in ("displacement/layer 2", "displacement/output"):
        rested[key][100:] = odd
        rested[key][40:, 0] = odd  # one seed switched earlier
    arm = dataclasses.replace(arm, metrics={**arm.metrics, **rested})
    (entry,) = entries([synthetic_run.run([arm])])
    drawing = displacement(entry, "d")
    assert "layer 1" not in texts(drawing)
    assert {"layer 2", "output"} <= texts(drawing)
    highest = np.nanmax(rested["displacement/layer 2"][np.isfinite(rested["displacement/layer 2"])])
    assert f"the largest is {highest:.3g} bins" in drawing.description


def test_a_block_is_the_mean_of_the_rounds_that_merged():
    row = np.array([[1.0, np.nan], [3.0, np.nan], [5.0, 2.0]])
    rounds, means = _blocks(row, 2)
    assert rounds.tolist() == [2, 3]
    np.testing.assert_array_equal(means, [[2.0, np.nan], [5.0, 2.0]])
