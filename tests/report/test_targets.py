import dataclasses

import numpy as np
import pytest
import synthetic_run

from polyfed.report.arms import entries
from polyfed.report.targets import target_table, targets


def stepping(at, measure="accuracy", high=0.96, low=0.5, seconds=50.0):
    """Entries of one arm whose seed `s` jumps from `low` to `high` in round `at[s]`, 26 points, one common test set."""
    arm = synthetic_run.classifier("fedavg", 0.9, clients=2, seeds=len(at))
    score = np.where(arm.rounds[:, None] >= np.asarray(at, float)[None, :], high, low)
    arm = dataclasses.replace(
        arm,
        returns=np.broadcast_to(score[:, :, None, None], arm.returns.shape),
        seconds=seconds,
        bytes=arm.rounds * 1000,
    )
    return entries([dataclasses.replace(synthetic_run.run([arm]), measure=measure, worlds={})])


def test_a_cell_holds_rounds_interval_seconds_bytes_and_seeds():
    run = stepping([10, 12, 14, 11, 13])
    html = target_table(run, targets(run))
    assert html.count("<b>12</b> [10, 14]") == 3  # 80 %, 90 % and 95 %
    assert html.count(">4.8 s · 12 kB<") == 3  # 12 rounds of 50 s / 5 seeds / 25 rounds, 1000 bytes each
    assert html.count(">5 of 5 seeds<") == 3
    assert "<td>0.4 s</td><td>4.5 s</td>" in html


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ([10, 12, 14, 99, 13], "<b>13</b> [10, &gt;25]"),
        ([10, 12, 99, 99, 99], 'not reached in 25</span> <span class="interval">(2 of 5)'),
        ([10, 99], 'not reached in 25</span> <span class="interval">(1 of 2)'),
        ([7], "<b>7</b><span"),
        ([10, 11, 12, 15], "<b>11.5</b> [10, 15]"),
        ([0, 0, 0], "<b>0</b> [0, 0]"),
    ],
)
def test_seeds_that_never_get_there_count(at, text):
    run = stepping(at)
    assert target_table(run, targets(run)).count(text) == 3


def test_an_arm_that_has_not_ended_has_no_seconds():
    run = stepping([10, 12, 14], seconds=0.0)
    html = target_table(run, targets(run))
    assert ">12 kB<" in html
    assert html.count("<td>–</td>") == 2


def test_returns_are_measured_by_the_best_arm():
    run = entries([synthetic_run.standard()])
    aims = targets(run)
    best = max(float(entry.held_out.value) for entry in run)
    np.testing.assert_allclose(aims.scores, [0.5 * best, 0.75 * best, 0.9 * best], rtol=0.02)
    assert aims.words.startswith("of the final return of the best arm (pooled: ")
    assert [label.partition(":")[0] for label in aims.labels] == ["50 %", "75 %", "90 %"]


def test_where_returns_are_negative_the_way_from_the_start_is_measured():
    aims = targets(stepping([10, 12], measure="return", high=-100.0, low=-500.0))
    assert aims.scores == pytest.approx((-300.0, -200.0, -140.0))
    assert "of the way from the lowest return before training" in aims.words
    assert targets(stepping([99, 99], measure="return", high=-100.0, low=-500.0)) is None  # nobody got anywhere


def test_without_held_out_environments_the_average_over_clients_is_the_judge():
    arm = synthetic_run.arm("fedavg", [100.0, 200.0, 300.0], held_out=0, points=5)
    (entry,) = entries([synthetic_run.run([arm])])
    np.testing.assert_allclose(entry.judged, arm.returns[:, :, 0, :].mean(axis=-1))


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_scores_that_are_no_numbers_give_no_target(odd):
    arm = synthetic_run.arm("fedavg", [100.0, 200.0], points=5)
    run = (
        entries([synthetic_run.run([dataclasses.replace(arm, returns=arm.returns * 0 + odd)])])
        if odd != np.inf
        else (entries([synthetic_run.run([dataclasses.replace(arm, returns=np.full(arm.returns.shape, np.inf))])]))
    )
    assert targets(run) is None
