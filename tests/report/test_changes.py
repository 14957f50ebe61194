"""What changed on the way: who is counted when, and what the page says of it."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
import synthetic_run

from polyfed.environments.schedule import Change
from polyfed.evaluation import statistics
from polyfed.evaluation.results import mean_where
from polyfed.report import write_report
from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.changes import changes_section

CHANGES = (Change(101, 120, (0,), "half_length becomes 0.5"), Change(201, 201, (2,), "joins"))


def late(arm, from_point):
    """The arm with a last client that is there from an evaluation on; before, its own policy is NaN."""
    members = np.ones((len(arm.rounds), 3), bool)
    members[:from_point, 2] = False
    returns = arm.returns.copy()
    if arm.personal:
        returns[:from_point, :, 2] = np.nan
    return dataclasses.replace(arm, members=members, returns=returns)


@pytest.fixture(scope="module")
def changing():
    arms = [
        synthetic_run.arm("fedavg", (300, 350, 100)),
        synthetic_run.arm("local_only", (250, 200, 90), personal=True),
    ]
    return dataclasses.replace(synthetic_run.run([late(arm, 10) for arm in arms]), changes=CHANGES)


def test_a_client_counts_from_when_it_is_there(changing):
    for entry in entries([changing]):
        own, curve = entry.on_clients, entry.average_curve
        assert np.isnan(own[:10, :, 2]).all()
        assert np.isfinite(own[10:]).all()
        for point in (0, 9, 10, 20):
            there = slice(2 if point < 10 else 3)
            np.testing.assert_allclose(curve.value[point], statistics.interquartile_mean(own[point][:, there]))
            worst = own[point][:, there].min(axis=1)
            np.testing.assert_allclose(entry.worst_curve.value[point], statistics.interquartile_mean(worst))
            np.testing.assert_allclose(entry.judged[point], entry.on_held_out[point].mean(axis=1))
        assert np.isfinite([curve.value, curve.low, curve.high]).all()
        early = statistics.early_window(entry.arm.rounds, own)[:, :2]
        np.testing.assert_allclose(entry.early_average.value, statistics.interquartile_mean(early))


def test_a_window_in_which_a_client_comes_is_the_mean_of_when_it_is_there():
    (entry,) = entries([synthetic_run.run([late(synthetic_run.arm("fedavg", (300, 350, 100)), 18)])])
    np.testing.assert_allclose(entry.final[:, 2], entry.on_clients[18:, :, 2].mean(axis=0))
    np.testing.assert_allclose(entry.final[:, 0], entry.on_clients[16:, :, 0].mean(axis=0))


def test_held_out_worlds_see_the_policies_that_there_are(changing):
    arm = changing.arms["local_only"]
    np.testing.assert_allclose(arm.deployed()[0, :, 3], arm.returns[0, :, :2, 3].mean(axis=-1))
    np.testing.assert_allclose(arm.deployed()[20, :, 3], arm.returns[20, :, :, 3].mean(axis=-1))


def test_where_all_are_there_nothing_is_different():
    arm = synthetic_run.arm("local_only", (250, 200, 90), personal=True)
    (plain,), (given,) = entries([synthetic_run.run([arm])]), entries([synthetic_run.run([late(arm, 0)])])
    for name in ("average_curve", "worst_curve", "early_average", "average"):
        one, other = getattr(plain, name), getattr(given, name)
        for part in ("value", "low", "high"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    np.testing.assert_array_equal(plain.average_curve.low, statistics.estimate_iqm(plain.on_clients).low)


def test_the_page_says_what_changed_and_marks_where(changing, tmp_path):
    write_report([changing], tmp_path / "report.html")  # warnings are errors here
    html = (tmp_path / "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", html[html.index('id="changes"') :])
    assert re.search(r"101 to 120\s+0\s+half length becomes 0\.5\s+201\s+2\s+joins", text)
    (curve,) = tmp_path.glob("report-figures/average-steps.svg")
    assert curve.read_text().count("stroke-dasharray: 1") >= 2  # a dotted line for each beginning


def test_a_run_in_which_nothing_changes_says_nothing(run):
    assert changes_section(Story.of(entries([run]))) is None


def test_the_mean_of_nothing_is_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mean_where(np.array([[1.0, np.nan], [np.nan, np.nan]]), np.array([[True, False], [False, False]]))
    np.testing.assert_array_equal(found, [1.0, np.nan])
