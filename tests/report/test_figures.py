import dataclasses
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import synthetic_run

from polyfed.report import curves, figures, forest, heatmap
from polyfed.report.arms import entries


@pytest.fixture(scope="module")
def arms():
    return entries([synthetic_run.standard(points=5)])


def texts(drawing):
    return [
        "".join(node.itertext()).strip() for node in ET.fromstring(drawing.svg).iter() if node.tag.endswith("}text")
    ]


def test_inlined_figures_share_no_id(arms):
    looks = figures.styles(arms)
    inlined = [curves.learning_curve(arms, looks, who, "steps").inline() for who in ("average", "worst")]
    ids = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in inlined]
    assert ids[0].isdisjoint(ids[1])
    for svg, own in zip(inlined, ids, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^")]*)', svg)) <= own
        assert "http" not in svg
        ET.fromstring(svg)


def test_an_inlined_figure_follows_the_theme_and_a_file_does_not(arms):
    drawing = forest.average_and_worst(arms, figures.styles(arms))
    assert f"var(--ink, {figures.INK})" in drawing.inline()
    assert "var(--" not in drawing.svg


def test_methods_differ_in_colour_dash_and_marker_and_baselines_are_grey():
    names = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "local_only", "pooled"]
    run = synthetic_run.run([synthetic_run.arm(name, [1.0], points=3, held_out=0) for name in names])
    looks = figures.styles(entries([run]))
    for part in ("colour", "dash", "marker"):
        assert len({str(getattr(look, part)) for look in looks[:6]}) == 6
    assert len({(look.colour, str(look.dash)) for look in looks}) == 9
    assert [look.colour for look in looks[7:]] == [figures.MUTED, figures.INK]


def test_the_matrix_prints_every_value_and_every_physical_quantity(arms):
    drawing = heatmap.matrix(arms, "matrix")
    shown = texts(drawing)
    for text in ("clients", "held-out", "half length (m)", "0.25", "0.71", "fedwb", "local_only", "client-1"):
        assert text in shown
    for entry in arms:
        final = entry.arm.returns[-1].mean(axis=0)  # 4 points after round 0: the window is the last
        assert final.shape == (len(entry.arm.policies), 5)
    numbers = [text for text in shown if re.fullmatch(r"\d{2,3}", text)]
    assert len(numbers) == (1 + 1 + 3 + 1) * 5


def test_a_wide_matrix_grows_and_a_crowd_is_thinned():
    wide = synthetic_run.run([synthetic_run.arm("fedavg", np.linspace(0, 1, 12), points=3)])
    assert heatmap.matrix(entries([wide]), "matrix").width > figures.WIDTH * 1.2
    crowd = synthetic_run.run([synthetic_run.arm("local_only", np.linspace(0, 1, 60), points=3, personal=True)])
    drawing = heatmap.matrix(entries([crowd]), "matrix")
    assert "client-0" in texts(drawing)
    assert "client-1" not in texts(drawing)


def test_dollars_are_not_mathematics(arms):
    run = synthetic_run.run([synthetic_run.arm("$x_1$", [1.0], points=3)])
    assert "$x_1$" in texts(heatmap.matrix(entries([run]), "matrix"))


def test_no_gain_without_learning_alone():
    run = synthetic_run.run([synthetic_run.arm("fedavg", [1.0, 2.0], points=3)])
    arms = entries([run])
    assert forest.gain_over_learning_alone(arms, figures.styles(arms), "gains") is None


def test_ten_methods_have_ten_colours_and_a_wide_figure_with_its_legend_in_the_order_of_the_ends():
    arms = entries([synthetic_run.presets()])
    looks = figures.styles(arms)
    assert len({look.colour for look in looks}) == 11
    drawing = curves.learning_curve(arms, looks, curves.HELD_OUT, "steps")
    assert drawing.width > figures.WIDTH * 1.2
    ordered = sorted(arms, key=lambda entry: -float(entry.held_out.value))
    labels = {entry.label for entry in arms}
    assert [text for text in texts(drawing) if text in labels] == [entry.label for entry in ordered]
    assert {"Accuracy on the common test set (%)", "samples per client"} <= set(texts(drawing))


def test_seconds_are_those_of_one_seed_and_arms_without_them_are_left_out(arms):
    entry = arms[0]
    np.testing.assert_allclose(entry.seconds[-1], entry.arm.seconds / 5)
    np.testing.assert_allclose(entry.seconds, entry.seconds[-1] * entry.arm.rounds / 400)
    run = synthetic_run.standard(points=5)
    unfinished = dataclasses.replace(run.arms["fedavg"], seconds=0.0)
    others = entries([dataclasses.replace(run, arms={**run.arms, "fedavg": unfinished})])
    shown = texts(curves.learning_curve(others, figures.styles(others), curves.HELD_OUT, "seconds"))
    assert {"fedwb", "run time of a seed (s)"} <= set(shown)
    assert "fedavg" not in shown
