from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyfed.export.parity import MIN_EQUAL, NUM_OBSERVATIONS, compare, evaluate, outputs_of, sample_observations
from polyfed.runs.learned import read_learned


def test_observations_are_half_met_half_drawn(folder: Path) -> None:
    learned = read_learned(folder)
    observations = sample_observations(learned, learned.world(0))
    assert observations.shape == (NUM_OBSERVATIONS, 4)
    assert np.isfinite(observations).all()
    drawn = observations[NUM_OBSERVATIONS // 2 :]
    assert drawn[:, 0].min() == pytest.approx(-4.8, abs=0.01)
    assert drawn[:, 0].max() == pytest.approx(4.8, abs=0.01)
    assert drawn[:, 1].std() == pytest.approx(observations[: NUM_OBSERVATIONS // 2, 1].std(), rel=0.1)


def test_parity_is_a_matter_of_scale_and_of_actions() -> None:
    values = np.array([[1000.0, 0.0], [0.0, 1.0]])
    one = {"action": np.array([0, 1]), "values": values}
    assert compare(one, {**one, "values": values + 0.009}).holds
    assert not compare(one, {**one, "values": values + 0.011}).holds
    assert not compare(one, {**one, "values": values * np.nan}).holds
    parity = compare(one, {**one, "action": np.array([0, 0])})
    assert parity.equal_actions == 0.5
    assert not parity.holds
    vectors = {"action": np.array([[0.5, 0.1]])}
    assert compare(vectors, {"action": np.array([[0.5, 0.100001]])}).holds
    assert not compare(vectors, {"action": np.array([[0.5, 0.2]])}).holds


def test_equal_seeds_draw_equal_observations(folder: Path) -> None:
    learned = read_learned(folder)
    one, same, other = (sample_observations(learned, learned.world(0), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_outputs_are_the_action_and_what_the_learner_predicts(folder: Path) -> None:
    learned = read_learned(folder)
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    found = evaluate(learned, x)
    assert set(found) == {"action", "values"}
    np.testing.assert_array_equal(found["action"], found["values"].argmax(axis=1))
    assert set(outputs_of(learned)(x)) == set(found)


@pytest.mark.parametrize(
    ("a", "b", "difference"),
    [
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.inf], [1.0, np.inf], 0.0),
        ([1.0, 2.0], [1.0, np.nan], np.inf),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0, np.inf], [1.0, -np.inf], np.inf),
        ([1.0, 2.0], [1.5, 1.75], 0.5),
    ],
)
def test_what_is_not_finite_must_be_so_in_both(a: list[float], b: list[float], difference: float) -> None:
    whole = {"action": np.array([0, 0])}
    parity = compare({**whole, "values": np.array(a)}, {**whole, "values": np.array(b)})
    assert min(parity.differences["values"], 1e300) == min(difference, 1e300)
    assert parity.holds == (difference == 0)


def test_a_few_ties_may_fall_otherwise() -> None:
    action = np.zeros(NUM_OBSERVATIONS, np.int32)
    allowed = round((1 - MIN_EQUAL) * NUM_OBSERVATIONS)
    for other, holds in ((allowed, True), (allowed + 1, False)):
        parity = compare({"action": action}, {"action": np.where(np.arange(NUM_OBSERVATIONS) < other, 1, 0)})
        assert parity.holds == holds
        assert parity.equal_actions == pytest.approx(1 - other / NUM_OBSERVATIONS)
    assert "none to measure; equal actions: 99.89 %" in str(parity)
