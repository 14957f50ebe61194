import dataclasses

import numpy as np
import perturbed_run
import pytest
import synthetic_run
from perturbed_run import TEST, arm, run

from polyfed.environments import Perturbed
from polyfed.evaluation import statistics
from polyfed.report.arms import entries
from polyfed.report.robust_scores import ALL, JOINT, benches, final_scores, perturbation_test


def bench_of(*runs):
    (found,) = benches(entries(runs))
    return found


def changed(made, **record):
    """An arm whose recorded test is changed."""
    evaluation = made.experiment["evaluation"]
    held_out = {**evaluation["held_out"], **record}
    return dataclasses.replace(made, experiment={**made.experiment, "evaluation": {**evaluation, "held_out": held_out}})


def test_averages_and_worst_cases_are_those_of_naive_loops():
    made = arm("local_only", personal=True, seeds=4)
    (tested,) = bench_of(run([made])).arms
    final = made.returns[-2:].mean(axis=0)  # 8 points after round 0: the window is the last two
    assert tested.scores.shape == (4, 3, TEST.num_worlds)
    for places in (TEST.grid("half_length"), TEST.joint, range(TEST.num_worlds)):
        for seed in range(4):
            rows = [[final[seed, policy, 3 + place] for place in places] for policy in range(3)]
            assert tested.averages(places)[seed] == pytest.approx(np.mean([np.mean(row) for row in rows]))
            assert tested.worst_cases(places)[seed] == pytest.approx(np.mean([min(row) for row in rows]))
    expected = statistics.interquartile_mean(tested.worst_cases(TEST.joint))
    assert float(tested.worst_case(TEST.joint).value) == pytest.approx(float(expected))


def test_the_policy_that_is_judged_is_the_global_one():
    made = arm("fedrdqn")
    own = dataclasses.replace(
        made,
        policies=("global", "client-0", "client-1"),
        returns=np.concatenate([made.returns, made.returns - 100, made.returns - 200], axis=2),
    )
    (entry,) = entries([run([own])])
    np.testing.assert_array_equal(final_scores(entry), final_scores(entries([run([made])])[0]))


def test_the_curve_follows_the_grid():
    (tested,) = bench_of(run([arm("fedrdqn", 400, 200, noise=0.0)])).arms
    for group in TEST.groups:
        np.testing.assert_allclose(tested.along(TEST.grid(group)).value, 400 - 200 * np.abs(TEST.changes))


def test_sets_are_all_then_each_group_then_joint():
    assert list(bench_of(perturbed_run.plain()).sets) == [ALL, "half length", "mass pole + mass cart", JOINT]
    test = Perturbed("force", points=3, num_joint=0)
    assert list(bench_of(run([arm("fedavg", test=test)], test)).sets) == [ALL, "force"]


def test_a_sweep_is_what_differs_in_omega_alone():
    bench = bench_of(perturbed_run.sweep())
    assert list(bench.omegas.values()) == [0.0, 0.1, 0.2, 0.3, 0.5, 0.7]
    assert [bench.name(tested) for tested in bench.arms][-3:] == ["ω = 0.7", "local_only", "pooled"]
    assert bench_of(perturbed_run.plain()).omegas == {}
    backwards = bench_of(run([arm("b", omega=0.5), arm("a", omega=0), arm("other")]))
    assert list(backwards.omegas.values()) == [0, 0.5]
    assert backwards.name(backwards.arms[2]) == "other"


@pytest.mark.parametrize("omegas", [(0.2, 0.2), (0.2, None), ([0.1, 0.2, 0.3], 0.2), (True, 0.2), ("0.1", 0.2)])
def test_no_sweep_where_omegas_are_alike_or_no_single_numbers(omegas):
    assert bench_of(run([arm(f"arm{i}", omega=omega) for i, omega in enumerate(omegas)])).omegas == {}


def test_other_tests_and_edited_records_give_nothing():
    assert perturbation_test(entries([synthetic_run.standard(points=3)])[0]) is None
    made = arm("fedrdqn")
    (entry,) = entries([run([made])])
    assert perturbation_test(entry) == TEST
    for record in (
        {"points": 7},
        {"part": "polyfed.environments.variation.Uniform"},
        {"part": "elsewhere.Perturbed"},
        {"colour": 1},
    ):
        assert perturbation_test(entries([run([changed(made, **record)])])[0]) is None
    for experiment in ({}, {"evaluation": None}, {"evaluation": {"held_out": "Perturbed"}}):
        (entry,) = entries([run([dataclasses.replace(made, experiment=experiment)])])
        assert perturbation_test(entry) is None


def test_arms_of_several_runs_meet_on_one_bench_if_their_worlds_are_the_same():
    first, second = perturbed_run.plain(), run([arm("fedavg")], name="other")
    found = bench_of(first, second)
    assert [tested.entry.label for tested in found.arms][-1] == "other/fedavg"
    longer = Perturbed(TEST.groups, points=7, num_joint=6)
    found = list(benches(entries([first, run([arm("fedavg", test=longer)], longer, name="other")])))
    assert [len(bench.arms) for bench in found] == [3, 1]


def test_test_worlds_in_which_a_client_lives_are_counted():
    bench = bench_of(perturbed_run.plain())
    assert bench.worlds_of_clients() == 2  # client-1 lives in the nominal world, which both grids hold
    assert bench_of(dataclasses.replace(perturbed_run.plain(), worlds={})).worlds_of_clients() == 0
