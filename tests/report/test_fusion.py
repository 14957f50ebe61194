import dataclasses

import numpy as np
import pytest
import synthetic_run

from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.fusion import fusion_section, sentences, setting, switch_rounds


def told(metrics, rule=None, seeds=3):
    """What is said of an arm with these metrics."""
    arm = synthetic_run.arm("fedwb", [1.0, 2.0], points=3, seeds=seeds)
    arm = dataclasses.replace(arm, metrics={**arm.metrics, **metrics}, experiment={"rule": rule or {}})
    (entry,) = entries([synthetic_run.run([arm])])
    return sentences(entry)


def test_a_rule_that_reports_nothing_is_not_spoken_of():
    assert told({}) == []
    arms = entries([synthetic_run.run([synthetic_run.arm("fedavg", [1.0], points=3)])])
    assert fusion_section(Story.of(arms)) is None


def test_scrambled_parameters_are_counted_per_layer():
    first, second = np.zeros((10, 3)), np.zeros((10, 3))
    first[:4] = 1
    second[0, 0] = second[9, 2] = 1
    metrics = {"scrambled/a.weight": first, "scrambled/b.weight": second}
    (text,) = told(metrics, {"max_displacement": 8.0, "on_displacement": "warn"})
    assert text.startswith("In 13 of 30 merges (43 %) a parameter moved farther than 8 positions: a.weight in 12 and ")
    assert "b.weight in 2. They were left as fused" in text
    assert "on_displacement = warn" in text
    (text,) = told(metrics, {"max_displacement": 8.0, "on_displacement": "mean"})
    assert "They became the weighted mean instead (on_displacement = mean)." in text
    (text,) = told({"scrambled/a": np.ones((4, 3))})
    assert text == "In all 12 merges a parameter moved farther than the rule allows: a in 12."
    assert told({"scrambled/a": np.zeros((4, 3))}, {"max_displacement": 3}) == [
        "No parameter moved farther than 3 positions in any of 12 merges."
    ]


def test_rounds_in_which_a_rule_rested_are_no_merges():
    row = np.full((10, 3), np.nan)
    row[:2] = 1
    (text,) = told({"scrambled/a": row}, {"part": "Switch", "first": {"max_displacement": 8}, "then": {}})
    assert text.startswith("In all 6 merges a parameter moved farther than 8 positions")
    assert told({"scrambled/a": np.full((10, 3), np.nan)}) == []


def test_the_solver_tells_how_often_it_converged():
    converged, error = np.ones((4, 3)), np.full((4, 3), 1e-3)
    converged[0] = 0
    error[0], converged[3], error[3] = 0.5, np.nan, np.nan
    (text,) = told({"converged/a": converged, "marginal_error/a": error})
    assert text == (
        "The entropic solver: converged in 67 % of 9 solves (one per layer and merge); median marginal error 0.001, "
        "largest 0.5."
    )


RULE = {
    "part": "polyfed.aggregation.switch.Switch",
    "first": {"part": "polyfed.aggregation.barycenter.WassersteinBarycenter"},
    "then": {"part": "polyfed.aggregation.mean.WeightedMean"},
}


@pytest.mark.parametrize(
    ("rounds", "text"),
    [
        ([3, 3, 3], "From round 3 on WeightedMean merged in place of WassersteinBarycenter, in every seed."),
        ([1, 1, 1], "From round 1 on WeightedMean"),
        ([99, 99, 99], "WassersteinBarycenter merged all 10 rounds in every seed: it never switched to WeightedMean."),
        ([3, 7, 99], "by the round of its first merge: seed 0: 3, seed 1: 7 and seed 2: never."),
    ],
)
def test_switches_tell_when_each_seed_switched(rounds, text):
    then = (np.arange(1, 11)[:, None] >= np.array(rounds)[None, :]) * 1.0
    assert switch_rounds(then) == [r if r <= 10 else None for r in rounds]
    (said,) = told({"then": then}, RULE)
    assert text in said


def test_units_that_moved_and_messages_left_out_are_told():
    (text,) = told({"moved_units/a": np.full((4, 3), 0.25), "moved_units/b": np.zeros((4, 3))})
    assert text == "Hidden units merged with a unit of another place, mean over 12 merges: a 25 % and b 0 %."
    (text,) = told({"nonfinite": np.array([[0, 2, 0], [1, 0, 0]])})
    assert text.startswith("In 2 merges clients came with weights that are not finite numbers")
    assert text.endswith("3 messages in all.")
    assert told({"nonfinite": np.zeros((4, 3))}) == []


def test_a_setting_is_found_within():
    assert setting({"first": {"power": 1}, "then": {"max_displacement": 2}}, "max_displacement") == 2
    assert setting(None, "x") is None
    assert setting({"a": [1]}, "x") is None


@pytest.mark.usefixtures("drawing")
def test_many_figures_wait_until_asked_for():
    section = fusion_section(Story.of(entries([synthetic_run.presets()])))
    assert len(section.drawings) == 7
    assert "<details><summary>Displacement of 7 arms</summary>" in section.body
    for label in ("fedwb_paper", "hybrid_stalled", "aligned"):
        assert f"<dt>{label}</dt>" in section.body
    assert "nan" not in section.body.replace("finance", "")
