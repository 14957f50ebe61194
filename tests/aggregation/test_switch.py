"""Schedules: which rule merges when, what is remembered, and what cannot be scheduled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import LocalOnly, Stalled, Switch, WassersteinBarycenter, WeightedMean
from polyfed.record import from_data, to_data
from polyfed.types import Update

PAPER = WassersteinBarycenter.paper_exact()


def updates(num_rounds, seed=0):
    payloads = np.random.default_rng(seed).normal(size=(num_rounds, 3, 4, 6)).astype(np.float32)
    return [Update({"weight": jnp.asarray(x)}, jnp.ones(3)) for x in payloads]


def merges(rule, stream):
    """What a rule makes of a stream of updates, round by round."""
    state, found = rule.init({"weight": jnp.zeros((4, 6))}), []
    step = jax.jit(rule.aggregate)
    for update in stream:
        merged, state, metrics = step(state, update)
        found.append((np.asarray(merged["weight"]), {name: float(x) for name, x in metrics.items()}))
    return found


@pytest.mark.parametrize("at_round", [0, 1, 3, 9])
def test_the_first_rule_merges_up_to_and_including_its_last_round(at_round):
    stream = updates(5)
    found = merges(Switch(PAPER, WeightedMean(), at_round=at_round), stream)
    for r, (merged, metrics) in enumerate(found):
        rule = PAPER if r < at_round else WeightedMean()
        np.testing.assert_array_equal(merged, merges(rule, [stream[r]])[0][0])
        assert metrics["then"] == (r >= at_round)


def test_metrics_of_the_rule_that_rests_are_nan():
    (_, before), (_, after) = merges(Switch(PAPER, WeightedMean(), at_round=1), updates(2))
    assert before["displacement/weight"] > 0
    assert np.isnan(after["displacement/weight"])


def test_schedules_nest():
    inner = Switch(WeightedMean(), PAPER, at_round=1)
    found = merges(Switch(inner, WeightedMean(), at_round=2), updates(3))
    exact = [
        merges(rule, [u])[0][0] for rule, u in zip((WeightedMean(), PAPER, WeightedMean()), updates(3), strict=True)
    ]
    for (merged, _), wanted in zip(found, exact, strict=True):
        np.testing.assert_array_equal(merged, wanted)


def walk(steps):
    """Updates whose mean moves by the given steps."""
    places = np.cumsum(steps)
    ramp = np.arange(24, dtype=np.float32).reshape(4, 6) / 24
    return [Update({"weight": jnp.asarray(np.stack([ramp + x] * 3).astype(np.float32))}, jnp.ones(3)) for x in places]


def test_it_switches_after_patience_rounds_without_a_smaller_movement():
    rule = Switch(WassersteinBarycenter(), WeightedMean(), when_stalled=Stalled(patience=2))
    falls = [metrics["then"] for _, metrics in merges(rule, walk([16, 8, 4, 2, 1, 0.5]))]
    assert falls == [0] * 6
    stalls = [metrics["then"] for _, metrics in merges(rule, walk([16, 8, 4, 4, 4, 1, 0.1]))]
    assert stalls == [0, 0, 0, 0, 0, 1, 1], "rounds 4 and 5 moved no less than round 3; and there is no way back"


def test_a_slight_fall_within_the_tolerance_is_none():
    rule = Switch(WassersteinBarycenter(), WeightedMean(), when_stalled=Stalled(patience=1, tolerance=0.5))
    assert [m["then"] for _, m in merges(rule, walk([8, 6, 5]))] == [0, 0, 1]


def test_it_switches_at_the_round_or_earlier():
    rule = Switch(WassersteinBarycenter(), WeightedMean(), at_round=2, when_stalled=Stalled(patience=9))
    assert [m["then"] for _, m in merges(rule, walk([4, 4, 4, 4]))] == [0, 0, 1, 1]


def test_its_facts_are_those_of_both():
    assert not Switch(WassersteinBarycenter(), WeightedMean(), at_round=1).linear
    assert Switch(WeightedMean(), WeightedMean(), at_round=1).linear
    assert Switch(LocalOnly(), LocalOnly(), at_round=1).personal
    assert not Switch(LocalOnly(), LocalOnly(), at_round=1).exchanges


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Switch(WeightedMean(), LocalOnly(), at_round=1), "use two rules of one kind"),
        (Switch(WeightedMean(), PAPER), "give at_round or when_stalled"),
        (Switch(WeightedMean(), PAPER, at_round=-1), "out of range"),
        (Switch(WeightedMean(), PAPER, at_round=1.5), "not one whole number"),
        (Switch(LocalOnly(), LocalOnly(), when_stalled=Stalled()), "give at_round in place"),
        (Switch(WeightedMean(), PAPER, when_stalled=Stalled(patience=0)), "out of range"),
        (Switch(WeightedMean(), WassersteinBarycenter(power=3), at_round=1), "no power 3"),
    ],
)
def test_refuses(rule, sentence):
    with pytest.raises(ValueError, match=sentence):
        rule.check()


def test_it_is_recorded_and_read_again():
    rule = Switch(PAPER, WeightedMean(), at_round=3, when_stalled=Stalled())
    assert from_data(to_data(rule)) == rule


def test_another_round_compiles_nothing():
    traces = []

    @jax.jit
    def step(rule, state, update):
        traces.append(0)
        return rule.aggregate(state, update)

    for at_round in (1, 2):
        rule = Switch(WassersteinBarycenter(), WeightedMean(), at_round=jnp.int32(at_round))
        step(rule, rule.init({"weight": jnp.zeros((4, 6))}), updates(1)[0])
    assert len(traces) == 1
