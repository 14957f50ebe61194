"""Who was absent: what is counted, and when the page is silent."""

import dataclasses

import numpy as np
import synthetic_run

from polyfed.report.arms import entries
from polyfed.report.attendance import absences, attendance_section
from polyfed.report.blocks import Story


def with_weights(weight, **more):
    arm = synthetic_run.arm("fedavg", (300, 350, 100))
    return entries([synthetic_run.run([dataclasses.replace(arm, metrics={**arm.metrics, "weight": weight, **more})])])


def test_counts_messages_the_worst_client_and_empty_rounds():
    weight = np.ones((4, 2, 3))
    weight[0] = 0  # nobody, in both seeds
    weight[1, 0, 2] = 0
    body = attendance_section(Story.of(with_weights(weight))).body
    assert "29 %" in body  # 7 of 24
    assert "38 %" in body  # 3 of 8, client 2
    assert "2 of 8" in body


def test_who_has_not_joined_is_not_absent():
    weight, joined = np.ones((4, 2, 3)), np.ones((4, 2, 3), int)
    weight[:2, :, 1], joined[:2, :, 1] = 0, 0
    (entry,) = with_weights(weight, joined=joined)
    assert np.nansum(absences(entry)) == 0
    assert np.isnan(absences(entry)[:2, :, 1]).all()
    assert attendance_section(Story.of([entry])) is None


def test_is_silent_where_all_came_or_nobody_knows():
    assert attendance_section(Story.of(with_weights(np.ones((4, 2, 3))))) is None
    arm = synthetic_run.arm("fedavg", (300, 350, 100))
    silent = dataclasses.replace(arm, metrics={k: v for k, v in arm.metrics.items() if k != "weight"})
    assert attendance_section(Story.of(entries([synthetic_run.run([silent])]))) is None
