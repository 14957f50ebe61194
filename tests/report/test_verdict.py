import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import synthetic_run

from polyfed.evaluation.statistics import Estimate
from polyfed.report.arms import entries
from polyfed.report.verdict import HELPED, HURT, UNDECIDED, UNKNOWN, headline, outcome, verdict

SPREAD = np.array([-4.0, 2.0, 0.0, -2.0, 4.0])  # of five seeds about a federated arm's return; baselines have none


def verdict_of(finals, alone, seeds=5, **more):
    """The verdict on arms whose differences are known seed by seed."""
    chosen = {"fedwb": finals, "local_only": alone, **more}
    arms = []
    for name, values in chosen.items():
        if values is None:
            continue
        arm = synthetic_run.arm(
            name, values, seeds=seeds, noise=0.0, points=5, held_out=0, personal=name == "local_only"
        )
        spread = 0.0 if arm.baseline else SPREAD[:seeds, None, None]
        returns = np.broadcast_to(np.asarray(values, float) + spread, arm.returns.shape)
        arms.append(dataclasses.replace(arm, returns=returns))
    run = synthetic_run.run(arms)
    return verdict(entries([dataclasses.replace(run, worlds={"half_length": [0.25 * (i + 1) for i in range(99)]})]))


def findings(found):
    return dict(found.findings)


@pytest.mark.parametrize(
    ("finals", "alone", "text"),
    [
        ([300, 300, 300], [200, 200, 200], "Federation (fedwb) helped all 3 clients."),
        ([200, 200, 200], [300, 300, 300], "Federation (fedwb) hurt all 3 clients."),
        ([300, 300, 200], [200, 200, 300], "Federation (fedwb) helped 2 of 3 clients and hurt 1."),
        (
            [300, 200, 200],
            [200, 200, 200],
            "Federation (fedwb) helped 1 of 3 clients; 5 seeds cannot show a difference for the other 2.",
        ),
        ([200, 200, 200], [200, 200, 200], "5 seeds cannot show that federation (fedwb) helped or hurt any client."),
        ([300], [200], "Federation (fedwb) helped the only client."),
        ([300, 300], [200, 200], "Federation (fedwb) helped both clients."),
    ],
)
def test_headline_of_constructed_runs(finals, alone, text):
    assert verdict_of(finals, alone).headline == text


def test_findings_name_clients_values_and_intervals():
    found = findings(verdict_of([300, 200, 150], [200, 200, 220]))
    clauses = found["fedwb against learning alone"]
    assert [result for result, _ in clauses] == [HELPED, HURT, UNDECIDED, ""]
    helped, hurt, undecided, both = (text for _, text in clauses)
    assert helped.startswith("helped client-0 (half length 0.25 m): +")
    assert hurt.startswith("hurt client-2 (half length 0.75 m): −")
    assert undecided.startswith("not distinguishable for client-1 (half length 0.5 m): ")
    assert both.startswith("average over clients ")
    assert all("[" in text for _, text in clauses)


def test_methods_are_compared_with_each_other_and_with_pooled():
    found = findings(verdict_of([300] * 3, [200] * 3, fedavg=[300] * 3, fedadam=[100] * 3, pooled=[400] * 3))
    assert found["fedwb against fedavg"][0][1].startswith("no difference that 5 seeds can show: average ")
    assert found["fedwb against fedadam"][0][1].startswith("fedwb is better: average +")
    ((result, text),) = found["fedwb against pooled (one agent that may use everyone’s world)"]
    assert (result, text[:16]) == (HURT, "fedwb is worse: ")


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_few_seeds_claim_nothing(seeds):
    found = verdict_of([400] * 3, [100] * 3, seeds=seeds, pooled=[400] * 3)
    assert "cannot show" in found.headline or "too few" in found.headline
    assert {result for _, clauses in found.findings for result, _ in clauses} <= {UNDECIDED, ""}
    assert not any(
        word in text for _, clauses in found.findings for _, text in clauses for word in ("better", "helped")
    )
    assert any("seed" in caution for caution in found.cautions)
    assert ("[" in str(found.findings)) == (seeds > 1)


def test_without_learning_alone_nothing_is_judged():
    found = verdict_of([300, 300], None)
    assert found.headline == "This run has no local_only arm: it cannot say whether federation helped."
    assert found.findings == ()


def test_many_clients_are_summed_up_and_warned_about():
    found = verdict_of([300.0] * 20, [200.0] * 20)
    (_, text), _ = findings(found)["fedwb against learning alone"]
    assert text.endswith("and 16 more")
    assert "about 1.0 would be expected" in found.cautions[0]


@hypothesis.given(st.tuples(*[st.floats(-1e3, 1e3)] * 3).map(sorted), st.integers(1, 20))
def test_an_outcome_never_goes_beyond_its_interval(numbers, num_seeds):
    low, value, high = (np.asarray(x) for x in numbers)
    result = outcome(Estimate(value, low, high, num_seeds))
    assert (result == HELPED) == (num_seeds >= 5 and low > 0)
    assert (result == HURT) == (num_seeds >= 5 and high < 0)


def test_a_missing_number_is_unknown():
    nothing = np.asarray(np.nan)
    assert outcome(Estimate(nothing, nothing, nothing, 5)) == UNKNOWN


@hypothesis.given(st.lists(st.sampled_from([HELPED, HURT, UNDECIDED, UNKNOWN]), min_size=1), st.integers(5, 20))
def test_a_headline_counts_right(outcomes, num_seeds):
    text = headline("fedwb", outcomes, num_seeds)
    assert ("helped" in text and f" helped {outcomes.count(HELPED)} of" in text) or not 0 < outcomes.count(
        HELPED
    ) < len(outcomes)
    assert text.endswith(".")
    if HELPED not in outcomes and HURT not in outcomes:
        assert "cannot" in text or "neither" in text


def test_many_methods_are_summed_up_by_outcome():
    more = {"fedprox": [300] * 3, "fedadam": [100] * 3, "fedyogi": [200] * 3, "fedavg": [310] * 3}
    found = findings(verdict_of([300] * 3, [200] * 3, **more))
    assert len(found) == 3
    alone = dict(found["The other 4 methods against learning alone, average over clients"])
    assert alone[HELPED].startswith("better: fedprox +100.0 [")
    assert "fedavg +110.0 [" in alone[HELPED]
    assert alone[HURT].startswith("worse: fedadam −100.0 [")
    assert alone[UNDECIDED].startswith("no difference that 5 seeds can show: fedyogi 0.0 [")
    duels = dict(found["fedwb against the other 4 methods, average over clients"])
    assert duels[HELPED].startswith("fedwb is better than fedadam +200")
    assert duels[HURT].startswith("fedwb is worse than fedavg −10")
