"""What was spent, in numbers and words; which orders of transforms are refused."""

import dataclasses
import math
from typing import ClassVar

import pytest

from polyfed.agents import Distillation
from polyfed.aggregation import CoordinateMedian, Krum, LocalOnly, WassersteinBarycenter, WeightedMean
from polyfed.exchange import (
    CentralNoise,
    ClipNorm,
    HalfPrecision,
    Hostile,
    Int8,
    LocalNoise,
    LoseMessages,
    Predictions,
    TopK,
    Transform,
)
from polyfed.exchange.accounting import spent
from polyfed.exchange.ledger import Guarantee, check_order, noise_of, rounds_within
from polyfed.experiments import load

BASE = load("cartpole-poles")
CENTRAL, LOCAL = CentralNoise(), LocalNoise()


class SumOnly(Transform):
    sum_only: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True


class Late(Transform):
    late: ClassVar[bool] = True
    keeps_norm: ClassVar[bool] = True


class Unclipped(Transform):
    """Noise of somebody who forgot to clip."""

    hides: ClassVar[str] = "central"
    keeps_norm: ClassVar[bool] = True
    noise_multiplier: float = 1.0
    max_norm: float = 1.0
    epsilon: float | None = None
    delta: float = 1e-5
    accountant: ClassVar[str] = "exact"


def check(*transforms, rule=None, **fields):
    rule = rule or WeightedMean()
    dataclasses.replace(BASE, transforms=transforms, rule=rule, compare=(), **fields).check()


@pytest.mark.parametrize(
    "transforms",
    [
        (CENTRAL,),
        (LOCAL,),
        (ClipNorm(), CENTRAL),
        (ClipNorm(), Unclipped()),
        (LoseMessages(), CENTRAL),
        (TopK(), Int8(), CENTRAL),
        (CENTRAL, SumOnly()),
        (LOCAL, SumOnly()),
        (LOCAL, TopK(), Int8(), LoseMessages()),
        (ClipNorm(), LOCAL, HalfPrecision()),
        (Hostile(), CENTRAL),
        (LOCAL, Hostile()),
    ],
    ids=str,
)
def test_orders_that_hold(transforms):
    check(*transforms, evaluation=dataclasses.replace(BASE.evaluation, own=False))


@pytest.mark.parametrize(
    ("transforms", "sentence"),
    [
        ((Unclipped(),), "Unclipped adds noise to messages of any length, .* put ClipNorm before Unclipped"),
        ((CENTRAL, TopK()), "TopK after CentralNoise may enlarge a message that was clipped, .* put TopK before"),
        ((ClipNorm(), TopK(), CENTRAL), "TopK after ClipNorm may enlarge"),
        ((ClipNorm(), TopK(), LOCAL), "TopK after ClipNorm may enlarge"),
        ((ClipNorm(), Unclipped(), Int8()), "Int8 after ClipNorm may enlarge"),
        ((CENTRAL, Hostile()), "Hostile after CentralNoise may enlarge"),
        ((CENTRAL, LoseMessages()), "LoseMessages after CentralNoise changes how many came"),
        ((CENTRAL, ClipNorm()), "ClipNorm after CentralNoise moves messages that were clipped"),
        ((CENTRAL, LOCAL), "LocalNoise follows CentralNoise, .* use one"),
        ((SumOnly(), CENTRAL), "CentralNoise acts on messages one by one, .*: put CentralNoise before SumOnly"),
        ((SumOnly(), LOCAL), "LocalNoise acts on messages one by one, .*: put LocalNoise before SumOnly"),
        ((TopK(), LOCAL), "TopK before LocalNoise saves nothing"),
        ((Late(), CENTRAL), "Late lets messages arrive rounds late, .* drop it, or drop"),
        ((LOCAL, Late()), "Late lets messages arrive rounds late"),
    ],
    ids=str,
)
def test_orders_that_do_not_hold(transforms, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(*transforms)


@pytest.mark.parametrize("rule", [CoordinateMedian(), WassersteinBarycenter.safe(), Krum(num_hostile=0)], ids=repr)
def test_central_noise_stands_on_a_sum_and_local_noise_before_any_rule(rule):
    with pytest.raises(ValueError, match=f"but {type(rule).__name__} makes something else .* or LocalNoise"):
        check(CENTRAL, rule=rule)
    check(LOCAL, rule=rule)


def test_nobody_hides_who_sends_nothing():
    with pytest.raises(ValueError, match="LocalOnly sends no message, so CentralNoise would never act"):
        check(CENTRAL, rule=LocalOnly())


@pytest.mark.parametrize("part", [CENTRAL, LOCAL], ids=repr)
def test_a_client_that_counts_by_its_data_would_show_it(part):
    with pytest.raises(ValueError, match="counts by how much data it has, which would show"):
        check_order((part,), WeightedMean(), weighs=True)
    check_order((part,), WeightedMean(), weighs=False)


def test_splits_say_whether_they_are_even():
    from polyfed.environments import Dirichlet, EqualSplit, LabelShards

    assert (EqualSplit.even, LabelShards.even, Dirichlet.even) == (True, True, False)


def test_a_budget_of_less_than_a_round_is_refused():
    with pytest.raises(ValueError, match=r"first round would spend epsilon = 4\.377 at delta = 1e-05, .* budget of 2"):
        check(CentralNoise(1.0, epsilon=2.0))
    with pytest.raises(ValueError, match="first round would spend epsilon = inf"):
        check(CentralNoise(0.0, epsilon=2.0))


def test_each_message_of_a_round_is_a_release():
    """Predictions on chunks of public states go up and down several times in a round."""
    payload = Predictions(distillation=Distillation(chunks=2, repetitions=5))
    experiment = dataclasses.replace(BASE, payload=payload, transforms=(CentralNoise(30.0, epsilon=1.0),))
    found = experiment.guarantee(7)
    assert (found.rounds, found.releases) == (7, 70)
    assert found.epsilon == spent(30.0, 70, 1e-5)
    last = experiment.last_round
    assert experiment.guarantee(last).epsilon <= 1.0 < experiment.guarantee(last + 1).epsilon


def test_local_noise_hides_one_message_among_all_so_it_is_worth_half():
    central, local = (Guarantee.of(part, rounds=10, releases_per_round=1, num_clients=4) for part in (CENTRAL, LOCAL))
    assert local.epsilon == spent(0.5, 10, 1e-5) > central.epsilon
    assert "its messages replaced by any others; nobody else is trusted" in local.sentence
    assert "its messages added or removed; the server is trusted" in central.sentence


def test_few_clients_are_told_what_they_pay():
    """The numbers that were measured before: 0.64 times the clip for 10 clients at epsilon 8."""
    few = Guarantee.of(CentralNoise(6.4), rounds=100, releases_per_round=1, num_clients=10)
    assert "With 10 clients every number of the mean has noise of 0.64 times the clip" in few.caution
    assert "with 100 clients the noise would be 0.064" in few.caution
    assert not dataclasses.replace(few, num_clients=100).caution
    assert not dataclasses.replace(few, noise_multiplier=0.0).caution


def test_says_why_it_stopped_and_only_then():
    part = CentralNoise(6.4, epsilon=5.0)
    last = rounds_within(part, 100, 1)
    found = Guarantee.of(part, rounds=last, releases_per_round=1, num_clients=3)
    assert f"Stopped after {last} of 100 rounds: one more would spend epsilon = 5.0" in found.stopped(100)
    assert found.stopped(last) == ""
    assert dataclasses.replace(found, budget=None).stopped(100) == ""


def test_no_noise_is_said_to_be_none():
    found = Guarantee.of(CentralNoise(0.0, 0.5), rounds=3, releases_per_round=1, num_clients=3)
    assert math.isinf(found.epsilon)
    assert found.sentence == "No privacy: messages are clipped to 0.5, without noise."
    assert found.record["epsilon"] is None


def test_without_noise_there_is_nothing_to_say():
    assert noise_of((ClipNorm(), Hostile.gaussian(1))) is None
    assert BASE.guarantee(5) is None
    assert BASE.last_round == BASE.num_rounds
