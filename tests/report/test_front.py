import math

import numpy as np
import perturbed_run
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perturbed_run import arm, run
from test_figures import texts

from polyfed.report import figures, front
from polyfed.report.arms import entries
from polyfed.report.front import front_figure, front_of, outside, pareto_front, points
from polyfed.report.front_words import about_front
from polyfed.report.robust_scores import benches


def drawn(made):
    of = entries([made])
    (bench,) = benches(of)
    return bench, front_figure(bench, figures.styles(of), "front")


@given(st.lists(st.tuples(*[st.one_of(st.integers(-3, 3).map(float), st.just(math.nan))] * 2), max_size=8))
def test_the_front_is_that_of_a_naive_loop(pairs):
    expected = set()
    for i, (x, y) in enumerate(pairs):
        if math.isnan(x) or math.isnan(y):
            continue
        worse = False
        for a, b in pairs:
            if not math.isnan(a) and not math.isnan(b) and a >= x and b >= y and (a, b) != (x, y):
                worse = True
        if not worse:
            expected.add(i)
    found = pareto_front(pairs)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [pairs[i][0] for i in found] == sorted((pairs[i][0] for i in found), reverse=True)


def test_a_sweep_carries_its_omegas_and_its_front():
    bench, drawing = drawn(perturbed_run.sweep())
    shown = texts(drawing)
    for omega in ("0", "0.1", "0.2", "0.3", "0.5", "0.7"):
        assert f"ω = {omega}" in shown
    names = [bench.name(bench.arms[i]) for i in front_of(bench, points(bench))]
    assert names[0] == "ω = 0"
    assert names[-1] == "ω = 0.5"
    assert "ω = 0.7" not in names
    assert "ω = 0.5: average" in drawing.description
    assert drawing.description.count("on the front") == len(names)


def test_baselines_take_no_part_in_the_front():
    bench, drawing = drawn(perturbed_run.sweep())
    places = front_of(bench, points(bench))
    assert all(not bench.arms[i].entry.arm.baseline for i in places)
    assert {"local_only", "pooled"} <= set(texts(drawing))  # in the legend
    bench, _ = drawn(run([arm("local_only", personal=True), arm("pooled", 450)]))
    assert [bench.arms[i].entry.label for i in front_of(bench, points(bench))] == ["pooled"]


def test_a_baseline_far_from_three_methods_is_told_and_not_drawn():
    methods = [arm("a", 400, 100), arm("b", 405, 110), arm("c", 410, 120)]
    bench, drawing = drawn(run([*methods, arm("local_only", 60, 10, personal=True), arm("pooled", 403, 100)]))
    assert outside(bench, points(bench)) == [3]
    assert "local_only" not in texts(drawing)
    assert "pooled" in texts(drawing)
    assert "Far outside, and not drawn: local_only (" in about_front(bench)
    bench, drawing = drawn(run([*methods[:2], arm("local_only", 60, 10)]))
    assert outside(bench, points(bench)) == []
    assert "local_only" in texts(drawing)


def test_methods_on_the_front_are_named_beside_their_points():
    _, drawing = drawn(run([arm("robust", 400, 100), arm("mean", 470, 290), arm("bad", 300, 400)]))
    shown = texts(drawing)
    assert [shown.count(name) for name in ("robust", "mean", "bad")] == [2, 2, 1]  # legend, and the front


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_scores_that_are_no_numbers_or_all_alike_can_be_drawn(value):
    import dataclasses

    arms = [arm("a", omega=0.1), arm("b", omega=0.2)]
    made = run([dataclasses.replace(one, returns=one.returns * 0 + value) for one in arms])
    bench, drawing = drawn(made)
    expected = [0, 1] if value == 7.0 else []
    assert front_of(bench, points(bench)) == expected
    assert "One point per arm" in drawing.description


def test_many_arms_need_a_wide_figure():
    _, drawing = drawn(run([arm(f"m{i}", 300 + 10 * i, omega=i / 10) for i in range(10)]))
    assert drawing.width > figures.WIDTH * 1.2


def test_a_single_seed_has_no_bars():
    bench, _ = drawn(perturbed_run.plain(seeds=1))
    assert not points(bench)[0][0].has_interval


def test_names_are_put_where_they_cover_least():
    box = front._box(10.0, 10.0, 1.0, 20.0)
    assert box == (10.0, 4.0, 30.0, 16.0)
    assert front._overlap(box, (20.0, 0.0, 40.0, 10.0)) == 60.0
    assert front._outside(box, (20.0, 100.0)) == 120.0
