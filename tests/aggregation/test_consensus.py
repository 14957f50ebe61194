"""Consensus of predictions: every kind against a loop, who is let in, and one liar among five."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.aggregation.consensus import UNDERSTOOD, Consensus
from polyfed.aggregation.door import PREDICTIONS, admitted, check_prediction, valid
from polyfed.aggregation.predictions import trimmed_mean
from polyfed.errors import DivergedError
from polyfed.exchange import HalfPrecision
from polyfed.testing import check_rule
from polyfed.testing.compare import same_bits
from polyfed.testing.predictions import made_up_predictions
from polyfed.types import ActionValues, Gaussians, Logits, Probabilities, Update

PAIRS = [(kind, what) for kind, types in UNDERSTOOD.items() for what in types]


@functools.partial(jax.jit, static_argnums=0)
def compiled(kind, update):
    return Consensus(kind, trim=1, bonus=0.7, on_invalid="drop").aggregate((), update)


def merged(kind, payload, weight=(1, 1, 1, 1, 1)):
    """Always five clients, five states and three entries: one compilation for each kind and type of prediction."""
    assert jax.tree.leaves(payload)[0].shape == (5, 5, 3)
    return compiled(kind, Update(jax.tree.map(np.float32, payload), np.float32(weight)))


def rounds(what, seed=0, absent=()):
    update = made_up_predictions(what, seed, num_clients=5)
    weight = np.where(np.isin(np.arange(5), absent), 0, update.weight).astype(np.float32)
    gone = (weight == 0).reshape(-1, 1, 1)
    return Update(jax.tree.map(lambda leaf: np.where(gone, np.nan, leaf), update.payload), weight)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def naive_trimmed(column, trim):
    """Of one number per client that came."""
    column = sorted(column)
    trim = min(trim, (len(column) - 1) // 2)
    return np.mean(column[trim : len(column) - trim])


def naive(kind, update, trim=1, bonus=1.0):
    """Leaves as lists, one state and one entry at a time, in float64."""
    came = [k for k, w in enumerate(update.weight) if w > 0]
    share = np.float64(update.weight)[came] / np.float64(update.weight)[came].sum()
    leaves = [np.float64(leaf)[came] for leaf in jax.tree.leaves(update.payload)]
    what, found = type(update.payload), [np.zeros(leaf.shape[1:]) for leaf in leaves]
    for m in range(5):
        rows = [leaf[:, m] for leaf in leaves]
        if what is Logits and kind in ("median", "trimmed_mean", "log_mean"):
            rows = [np.array([np.log(softmax(row)) for row in rows[0]])]
        for a in range(3):
            entries = [row[:, a] for row in rows]
            if kind == "mean":
                new = [share @ x for x in entries]
            elif kind in ("median", "trimmed_mean"):
                new = [np.median(x) if kind == "median" else naive_trimmed(x, trim) for x in entries]
            elif kind == "log_mean" and what is Gaussians:
                precision = share @ entries[1] ** -2
                new = [share @ (entries[0] * entries[1] ** -2) / precision, precision**-0.5]
            elif kind == "log_mean":
                new = [share @ (np.log(entries[0]) if what is Probabilities else entries[0])]
            elif kind == "moments":
                mean = share @ entries[0]
                new = [mean, np.sqrt(share @ (entries[1] ** 2 + entries[0] ** 2) - mean**2)]
            else:
                mean = share @ entries[0]
                new = [mean + bonus * np.sqrt(share @ (entries[0] - mean) ** 2)]
            for leaf, number in zip(found, new, strict=True):
                leaf[m, a] = number
        if what is Probabilities and kind in ("median", "trimmed_mean"):
            found[0][m] /= found[0][m].sum()
        if kind == "log_mean" and what is not Gaussians:
            p = softmax(found[0][m])
            found[0][m] = np.log(p) if what is Logits else p
    return found


@pytest.mark.parametrize(("kind", "what"), PAIRS)
def test_agrees_with_a_loop_in_numpy(kind, what):
    for seed, absent in [(0, ()), (1, (0, 3)), (2, (0, 1, 4)), (3, (1, 2, 3, 4))]:
        update = rounds(what, seed, absent)
        found, _, metrics = merged(kind, update.payload, update.weight)
        assert type(found) is what
        assert (float(metrics["refused"]), float(metrics["heard"])) == (0, 5 - len(absent))
        for one, expected in zip(jax.tree.leaves(found), naive(kind, update, 1, 0.7), strict=True):
            if what is Logits and len(absent) == 4 and kind != "mean":  # it comes back as it is
                one, expected = jax.nn.log_softmax(one), np.log([softmax(row) for row in expected])
            np.testing.assert_allclose(one, expected, rtol=2e-5, atol=2e-6 * np.abs(expected).max())


@pytest.mark.slow  # tests/aggregation/test_rule.py has some of them
@pytest.mark.parametrize(("kind", "what"), PAIRS)
def test_keeps_the_contract(kind, what):
    check_rule(Consensus(kind, trim=2), made_up=functools.partial(made_up_predictions, what))


@pytest.mark.parametrize(("kind", "what"), PAIRS)
def test_agreement_comes_back_bit_for_bit_and_nobody_gives_zeros(kind, what):
    update = rounds(what)
    payload = jax.tree.map(lambda leaf: np.repeat(leaf[:1], 5, axis=0), update.payload)
    found = merged(kind, payload, update.weight)[0]
    assert same_bits(found, jax.tree.map(lambda leaf: leaf[0], payload))
    nobody = merged(kind, jax.tree.map(lambda x: x * np.nan, payload), np.zeros(5))[0]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(nobody))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["mean", "median", "trimmed_mean", "log_mean"]), st.booleans())
def test_probabilities_stay_on_the_simplex_in_any_order(seed, kind, hard):
    random = np.random.default_rng(seed)
    rows = random.dirichlet(np.ones(3) * 10.0 ** random.integers(-2, 2), size=(5, 5)).astype(np.float32)
    if hard:
        rows = np.eye(3, dtype=np.float32)[random.integers(0, 3, (5, 5))]
    weight = random.uniform(0.1, 1, 5) * (np.arange(5) != seed % 9)
    found = np.asarray(merged(kind, Probabilities(rows), weight)[0].probabilities)
    assert np.all(found >= 0)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=2e-6)
    order = random.permutation(5)
    again = merged(kind, Probabilities(rows[order]), weight[order])[0].probabilities
    np.testing.assert_allclose(again, found, atol=2e-5)  # logarithms of -87 are rounded by 8e-6


def test_no_action_has_the_votes_of_enough():
    rows = np.repeat(np.eye(3)[[0, 1, 2, 0, 1]][:, None], 5, axis=1)
    found = merged("median", Probabilities(rows), [1, 2, 3, 0, 0])[0]
    np.testing.assert_allclose(found.probabilities, [[1 / 3] * 3] * 5, rtol=1e-6)  # once each, whatever the weights


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_trimmed_mean_lies_between_what_honest_clients_say(seed):
    random = np.random.default_rng(seed)
    honest = random.normal(size=(4, 3)).astype(np.float32)
    lie = np.float32(10.0 ** random.uniform(-2, 38, (2, 3)) * random.choice([-1, 1], (2, 3)))
    stacked = np.concatenate([honest, lie])[random.permutation(6)]
    for trim in (2, 6):
        found = np.asarray(trimmed_mean(stacked, np.ones(6, np.float32), trim))
        slack = 1e-6 * np.abs(honest).max()
        assert np.all(found >= honest.min(axis=0) - slack)
        assert np.all(found <= honest.max(axis=0) + slack)


@pytest.mark.parametrize("what", [Probabilities, Gaussians, ActionValues])
def test_one_liar_among_five_moves_the_mean_only(what):
    random = np.random.default_rng(0)
    liar = (np.arange(5) == 2).reshape(5, 1, 1)
    honest = jax.tree.map(lambda leaf: leaf[:1] * random.uniform(0.98, 1.02, (5, 5, 3)), rounds(what).payload)
    lies = jax.tree.map(lambda leaf: np.where(liar, 1e6, leaf), honest)
    if what is Probabilities:  # the liar is sure of what the others think worst
        rows = honest.probabilities / honest.probabilities.sum(axis=2, keepdims=True)
        honest, lies = Probabilities(rows), Probabilities(np.where(liar, np.eye(3)[rows[2].argmin(axis=1)], rows))

    def moved(kind):
        one, other = (map(np.asarray, jax.tree.leaves(merged(kind, payload)[0])) for payload in (honest, lies))
        return max(np.abs(a - b).max() / np.abs(a).max() for a, b in zip(one, other, strict=True))

    assert moved("mean") > 0.15
    assert moved("median") < 0.05
    assert moved("trimmed_mean") < 0.05


def test_huge_numbers_and_tiny_scales_do_not_overflow():
    mean, scale = np.zeros((5, 5, 3)), np.full((5, 5, 3), 1e-30)
    mean[1], scale[1], weight = 1e30, 1.0, [1, 1, 0, 0, 0]
    wide = merged("moments", Gaussians(mean, scale), weight)[0]
    np.testing.assert_allclose([wide.mean, wide.scale], np.full((2, 5, 3), 5e29), rtol=1e-5)
    sure = merged("log_mean", Gaussians(mean, scale), weight)[0]
    assert np.isfinite(sure.mean).all()
    np.testing.assert_allclose(sure.scale, np.full((5, 3), np.sqrt(2) * 1e-30), rtol=1e-5)


def test_logits_do_not_depend_on_a_number_per_state():
    update = rounds(Logits)
    payload = Logits(update.payload.logits + 50 * np.random.default_rng(0).normal(size=(5, 5, 1)))
    for kind in ("mean", "median", "trimmed_mean", "log_mean"):
        one, other = (merged(kind, x, update.weight)[0].logits for x in (update.payload, payload))
        one, other = ([softmax(row) for row in np.float64(x)] for x in (one, other))
        np.testing.assert_allclose(one, other, atol=2e-5)


INVALID = [
    (Probabilities, 0, 0.002),
    (Probabilities, 0, -0.1),
    (Probabilities, 0, np.nan),
    (Logits, 0, np.inf),
    (ActionValues, 0, -np.inf),
    (Gaussians, 0, np.nan),
    (Gaussians, 1, 0.0),
    (Gaussians, 1, -1.0),
]


def broken(what, leaf=0, number=np.nan):
    """One number of client 1; of probabilities, a row that sums to 1.002, or that sums to 1 with one below 0."""
    leaves, structure = jax.tree.flatten(rounds(what).payload)
    if what is Probabilities:
        leaves[0][1, 3] = [0.5, 0.5, number] if number > 0 else [0.5 - number, 0.5, number]
    leaves[leaf][1, 3, 2] = number
    return jax.tree.unflatten(structure, leaves)


@pytest.mark.parametrize(("what", "leaf", "number"), INVALID)
def test_what_is_no_prediction_is_left_out_or_refused(what, leaf, number):
    payload, weight = broken(what, leaf, number), np.float32([1, 2, 3, 4, 0])
    assert valid(payload).tolist() == [True, False, True, True, True]
    found, _, metrics = merged("mean", payload, weight)
    assert same_bits(found, merged("mean", rounds(what).payload, [1, 0, 3, 4, 0])[0])
    assert (float(metrics["refused"]), float(metrics["heard"])) == (1, 3)
    with pytest.raises(ValueError, match=r"client 1 \(counted from 0\).*on_invalid"):
        admitted(Update(payload, weight))
    admitted(Update(payload, np.float32([1, 0, 3, 4, 0])))  # the absent may send anything


def test_a_run_is_ended_where_what_came_may_not_be_left_out():
    told = {"refused": np.array([0, 1]), "heard": np.array([3, 2])}
    Consensus(on_invalid="drop").refuse(told)
    Consensus().refuse({"refused": np.zeros(2), "heard": np.zeros(2)})
    Consensus().refuse({})
    with pytest.raises(DivergedError, match=r"1 of the clients that came in round 2 .*on-invalid drop"):
        Consensus().refuse(told)
    with pytest.raises(DivergedError, match=r"^1 of the clients that came in round 1 "):
        Consensus().refuse({"refused": np.array([0.1]), "heard": np.array([2.9])})  # means over ten exchanges
    with pytest.raises(ValueError, match="client 1 "):
        Consensus().aggregate((), Update(broken(Logits), np.ones(5, np.float32)))


def test_a_run_is_ended_where_nobody_is_left():
    alone = Update(broken(Probabilities), np.float32([0, 1, 0, 0, 0]))
    found, _, metrics = merged("mean", alone.payload, alone.weight)
    assert not np.any(found.probabilities)
    with pytest.raises(DivergedError, match="All of the clients that came in round 1"):
        Consensus(on_invalid="drop").refuse({name: np.asarray(value)[None] for name, value in metrics.items()})
    means = {
        name: np.mean([np.asarray(value), full], keepdims=True)
        for (name, value), full in zip(metrics.items(), (0, 5), strict=True)
    }
    with pytest.raises(DivergedError, match="All of the clients that came in round 1"):  # in one exchange of two
        Consensus(on_invalid="drop").refuse(means)
    with pytest.raises(ValueError, match=r"client 1 .*repair what it sends"):
        admitted(alone, "drop")


def test_probabilities_rounded_to_half_precision_on_the_way_are_let_in():
    random = np.random.default_rng(0)
    rows = random.dirichlet([0.02, 0.1, 0.5], size=(5, 5)).astype(np.float32)
    broadcast = Probabilities(random.dirichlet(np.ones(3), size=5).astype(np.float32))
    update, _ = HalfPrecision().upload((), Update(Probabilities(rows), np.ones(5)), broadcast, jax.random.key(0))
    assert float(update.payload.probabilities.min()) < 0
    assert valid(update.payload).all()
    for kind in ("mean", "median", "log_mean"):
        found = np.asarray(merged(kind, update.payload)[0].probabilities)
        assert np.all(found >= 0)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize(
    ("prediction", "sentence"),
    [
        (np.ones((2, 2)), "A ndarray does not say .* Probabilities or Logits or Gaussians or ActionValues"),
        (Logits(np.ones(2)), r"Logits.logits is of shape \[2\], .* shape \[2, 2\]"),
        (Logits(np.ones((1, 2))), r"is of shape \[1, 2\]"),
        (Gaussians(np.ones((2, 2)), np.ones((2, 1))), r"Gaussians.scale is of shape \[2, 1\]"),
        (ActionValues(np.array([["a", "b"]] * 2)), "holds no numbers"),
        (ActionValues([[0, 1], [np.nan, 1]]), "of state 1 .* not finite"),
        (Probabilities([[0.5, 0.5], [0.5, 0.6]]), "state 1 .* sum to 1.1"),
        (Probabilities([[-1.0, 2.0], [0.5, 0.5]]), "smallest is -1"),
        (Gaussians(np.ones((2, 2)), np.array([[1, 1], [1, 0.0]])), "A scale of 0"),
    ],
)
def test_an_answer_that_is_no_prediction(prediction, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_prediction(prediction, 2, 2)


@pytest.mark.parametrize("what", PREDICTIONS)
def test_an_answer_that_is_one(what):
    check_prediction(jax.tree.map(lambda leaf: leaf[0], rounds(what).payload), 5, 3)


@pytest.mark.parametrize(
    ("rule", "payload", "sentence"),
    [
        (Consensus(), {"w": 0}, "share a dict: share predictions, or use WeightedMean"),
        (Consensus("upper"), Logits(0), '"upper" is for ActionValues, but clients share Logits'),
        (
            Consensus("moments"),
            ActionValues(0),
            'is for Gaussians, .*: use "mean", "median", "trimmed_mean" or "upper"',
        ),
        (Consensus("log_mean"), ActionValues(0), "is for Probabilities or Logits or Gaussians"),
    ],
)
def test_refuses_what_a_kind_cannot_merge(rule, payload, sentence):
    for way in (rule.init, rule.check_payload, lambda x: rule.aggregate((), Update(x, np.ones(1)))):
        with pytest.raises(ValueError, match=sentence):
            way(payload)


def test_fields_and_facts():
    for wrong in ({"kind": "modal"}, {"on_invalid": "keep"}, {"trim": -1}, {"trim": 1.5}, {"bonus": -1.0}):
        with pytest.raises(ValueError, match=f"rule.{next(iter(wrong))} "):
            Consensus(**wrong).check()
    Consensus("trimmed_mean", trim=2).check_clients(5)
    Consensus("median", trim=9).check_clients(1)
    with pytest.raises(ValueError, match="trim of 1 or less"):
        Consensus("trimmed_mean", trim=2).check_clients(4)
    assert [Consensus(kind).linear for kind in UNDERSTOOD] == [True, *[False] * 5]
    assert not Consensus().personal
    assert Consensus().predictive
    assert Consensus().exchanges


def test_a_number_that_is_not_finite_of_a_client_that_came_is_not_hidden():
    found = trimmed_mean(np.float32([[1, 1], [2, np.nan], [3, 3], [4, 4], [9, 9]]), np.ones(5), 1)
    np.testing.assert_array_equal(found, [3, np.nan])
