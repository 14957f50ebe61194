import itertools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import (
    Estimate,
    early_window,
    estimate_iqm,
    estimate_median,
    estimate_worst_case,
    expanded_confidence,
    final_window,
    first_reach,
    interquartile_mean,
    paired_difference,
    probability_of_improvement,
)

SCORES = np.random.default_rng(0).normal(100, 20, size=(7, 3))


def naive_iqm(scores):
    ordered = sorted(np.ravel(scores))
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def naive_bootstrap(scores, level, resamples=20_000, seed=1):
    """Stratified: seeds are drawn within each environment on their own."""
    generator = np.random.default_rng(seed)
    num_seeds, num_environments = scores.shape
    values = []
    for _ in range(resamples):
        columns = [scores[generator.integers(num_seeds, size=num_seeds), m] for m in range(num_environments)]
        values.append(naive_iqm(np.stack(columns)))
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2])


@hypothesis.given(hnp.arrays(float, st.integers(1, 30), elements=st.floats(-1e6, 1e6)))
def test_iqm_is_that_of_a_naive_loop(scores):
    assert interquartile_mean(scores) == pytest.approx(naive_iqm(scores), rel=1e-9, abs=1e-6)
    assert interquartile_mean(scores, axis=0) == pytest.approx(stats.trim_mean(scores, 0.25), rel=1e-9, abs=1e-6)


def test_iqm_known_numbers():
    assert interquartile_mean(np.arange(8.0)) == 3.5
    assert interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, 1000.0])) == 2.0
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0  # three scores: none is left out


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_trimmed_away(bad):
    scores = SCORES.copy()
    scores[2, 1] = bad
    assert np.isnan(interquartile_mean(scores))
    estimate = estimate_iqm(np.stack([scores, SCORES]))
    assert np.isnan([estimate.value[0], estimate.low[0], estimate.high[0]]).all()
    assert np.isfinite([estimate.value[1], estimate.low[1], estimate.high[1]]).all()
    assert np.isnan(paired_difference(scores[:, 1], scores[:, 1]).value)
    assert np.isnan(probability_of_improvement(scores, SCORES).value)


def test_stratified_interval_is_that_of_a_naive_loop():
    estimate = estimate_iqm(SCORES)
    assert estimate.value == pytest.approx(naive_iqm(SCORES))
    width = float(estimate.high - estimate.low)
    assert [estimate.low, estimate.high] == pytest.approx(naive_bootstrap(SCORES, 0.95), abs=0.06 * width)


def test_one_column_and_leading_axes():
    column = SCORES[:, :1]
    estimate = estimate_iqm(column)
    width = float(estimate.high - estimate.low)
    assert [estimate.low, estimate.high] == pytest.approx(naive_bootstrap(column, 0.95), abs=0.06 * width)
    both = estimate_iqm(np.stack([SCORES, SCORES + 5.0]))
    np.testing.assert_allclose(both.low, estimate_iqm(SCORES).low + np.array([0.0, 5.0]))
    assert both[1].value == pytest.approx(both[0].value + 5.0)


def test_the_same_scores_give_the_same_interval():
    first, second = estimate_iqm(SCORES), estimate_iqm(SCORES)
    assert (first.low, first.high) == (second.low, second.high)


def test_small_batches_change_nothing(monkeypatch):
    whole = estimate_iqm(np.stack([SCORES] * 3))
    monkeypatch.setattr(statistics, "_BATCH", 10_000)
    split = estimate_iqm(np.stack([SCORES] * 3))
    assert np.ptp(split.low) == 0  # all rows see the same resamples
    np.testing.assert_allclose(split.low, whole.low, atol=0.06 * float((whole.high - whole.low)[0]))


def test_a_constant_has_an_interval_of_no_width():
    estimate = estimate_iqm(np.full((5, 2), 500.0))
    assert (estimate.value, estimate.low, estimate.high) == (500.0, 500.0, 500.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: estimate_iqm(x),
        lambda x: estimate_worst_case(x),
        lambda x: paired_difference(x[:, 0], x[:, 1]),
        lambda x: probability_of_improvement(x, x),
    ],
)
def test_one_seed_has_no_interval(make):
    estimate = make(SCORES[:1])
    assert not estimate.has_interval
    assert np.isfinite(estimate.value)
    assert np.isnan(estimate.low)
    assert np.isnan(estimate.high)


def test_worst_case_is_the_minimum_of_each_seed():
    estimate = estimate_worst_case(SCORES)
    assert estimate.value == pytest.approx(naive_iqm([min(row) for row in SCORES]))
    low, high = naive_bootstrap(SCORES.min(axis=1, keepdims=True), 0.95)
    width = high - low
    assert [estimate.low, estimate.high] == pytest.approx([low, high], abs=0.06 * width)


def test_paired_difference_uses_the_pairs():
    noise = np.random.default_rng(3).normal(0, 50, size=10)
    gain = paired_difference(noise + 3.0 + 0.1 * np.arange(10), noise)
    assert 3.0 <= gain.low <= gain.value <= gain.high <= 3.9
    with pytest.raises(ValueError, match="give both the same seeds"):
        paired_difference(np.ones(5), np.ones(4))


def test_paired_difference_has_the_expanded_level():
    difference = np.random.default_rng(5).normal(1, 2, size=8)
    gain = paired_difference(difference, np.zeros(8))
    low, high = naive_bootstrap(difference[:, None], expanded_confidence(8))
    assert [gain.low, gain.high] == pytest.approx([low, high], abs=0.1 * (high - low))


def test_expanded_level_by_the_formula():
    for num_seeds in (2, 3, 5, 10, 100):
        reach = np.sqrt(num_seeds / (num_seeds - 1)) * stats.t.ppf(0.975, num_seeds - 1)
        assert expanded_confidence(num_seeds) == pytest.approx(stats.norm.cdf(reach) - stats.norm.cdf(-reach))
    assert expanded_confidence(10**6) == pytest.approx(0.95, abs=1e-5)


def test_paired_interval_covers_as_it_says():
    """Of 300 draws of 5 normal differences around 0, at most one in ten intervals misses (plain percentile: 10 %)."""
    draws = np.random.default_rng(11).normal(size=(300, 5))
    gain = paired_difference(draws, np.zeros_like(draws))
    assert np.mean((gain.low > 0) | (gain.high < 0)) < 0.09


def test_probability_of_improvement_is_mann_whitney():
    ours, theirs = SCORES, np.random.default_rng(9).normal(95, 20, size=(5, 3))
    expected = np.mean([stats.mannwhitneyu(ours[:, m], theirs[:, m]).statistic / 35 for m in range(3)])
    estimate = probability_of_improvement(ours, theirs)
    assert estimate.value == pytest.approx(expected)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert probability_of_improvement(ours, ours + 1000).value == 0.0
    assert probability_of_improvement(np.ones((4, 2)), np.ones((4, 2))).value == 0.5


@pytest.mark.parametrize(("num_points", "length"), [(1, 1), (2, 1), (4, 1), (5, 2), (8, 2), (20, 5)])
def test_windows_never_hold_round_zero(num_points, length):
    rounds = np.arange(num_points + 1) * 10
    values = np.where(rounds[:, None] == 0, 1e9, rounds[:, None] + np.arange(3))
    np.testing.assert_allclose(final_window(rounds, values), values[-length:].mean(axis=0))
    np.testing.assert_allclose(early_window(rounds, values), values[1 : 1 + length].mean(axis=0))


@pytest.mark.parametrize("only", [0, 400])
def test_a_single_point_is_both_windows(only):
    assert final_window(np.array([only]), np.array([7.0])) == 7.0
    assert early_window(np.array([only]), np.array([7.0])) == 7.0


def test_estimate_rows():
    estimate = Estimate(np.arange(3.0), np.arange(3.0) - 1, np.arange(3.0) + 1, 5)
    for row in itertools.islice(range(3), 3):
        assert (estimate[row].low, estimate[row].value, estimate[row].high) == (row - 1, row, row + 1)


@hypothesis.given(hnp.arrays(float, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=st.integers(0, 5)))
def test_the_first_reach_is_that_of_a_naive_loop(scores):
    positions = 10.0 * np.arange(len(scores))
    expected = []
    for seed in range(scores.shape[1]):
        found = float("inf")
        for place in range(len(scores)):
            if scores[place, seed] >= 3:
                found = positions[place]
                break
        expected.append(found)
    assert first_reach(positions, scores, 3).tolist() == expected


def test_what_is_no_number_reaches_nothing():
    assert first_reach(np.arange(3), np.array([np.nan, np.nan, 5.0]), 1.0) == 2
    assert first_reach(np.arange(2), np.array([np.nan, np.nan]), 1.0) == np.inf


@pytest.mark.parametrize("num_seeds", [2, 5, 6, 9, 10, 20, 33])
def test_the_interval_of_a_median_covers_as_the_sign_test_says(num_seeds):
    found = estimate_median(np.arange(float(num_seeds)))
    below = found.low.item()  # so many order statistics are cut off at each end
    assert found.value == np.median(np.arange(num_seeds))
    assert found.high == num_seeds - 1 - below
    outside = stats.binom.cdf(below, num_seeds, 0.5)
    assert outside <= 0.025 or below == 0
    assert stats.binom.cdf(below + 1, num_seeds, 0.5) > 0.025


def test_a_median_may_never_be_reached():
    found = estimate_median(np.array([[3.0, np.inf, np.inf], [3.0, 5.0, np.inf], [1.0, 2.0, np.nan]]))
    np.testing.assert_array_equal(found.value, [np.inf, 5.0, np.nan])
    np.testing.assert_array_equal(found.low, [3.0, 3.0, np.nan])
    assert not estimate_median(np.array([4.0])).has_interval
