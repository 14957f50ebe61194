"""The transform: what the compiled round computes is what the protocol gives, bit for bit; and what it goes with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import (
    Consensus,
    CoordinateMedian,
    FedPGFilter,
    GeometricMedian,
    Krum,
    ServerSGD,
    TrimmedMean,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.exchange import (
    ClipNorm,
    DelayMessages,
    HalfPrecision,
    Hostile,
    Int8,
    LoseMessages,
    Quorum,
    SecureSum,
    TopK,
    VanishAndReturn,
    WireSize,
)
from polyfed.exchange.combinations import check_sums
from polyfed.exchange.secure_sum.messages import bytes_beside
from polyfed.experiments import load
from polyfed.simulation.round import Server, ServerParts, server_round
from polyfed.simulation.simulate import Simulation, Traffic
from polyfed.types import Gaussians, Logits, Update

RANDOM = np.random.default_rng(0)
COUNT = 6
BROADCAST = {"bias": RANDOM.normal(size=4).astype(np.float32), "weight": RANDOM.normal(size=(3, 4)).astype(np.float32)}


def a_round(weight, spread=0.5):
    change = lambda b: (b + spread * RANDOM.normal(size=(COUNT, *b.shape))).astype(np.float32)  # noqa: E731
    return Update(jax.tree.map(change, BROADCAST), np.asarray(weight, np.float32))


@jax.jit
def compiled(update, broadcast):
    parts = ServerParts((SecureSum(),), WeightedMean(), ServerSGD())
    server = Server(broadcast, (), ((),), parts.optimizer.init(broadcast))
    server, metrics = server_round(parts, server, update, jax.random.key(0))
    return server.broadcast, metrics["weight"]


@jax.jit
def uploaded(part, update, broadcast):
    return part.upload((), update, broadcast, jax.random.key(0))[0]


ONES, FEW = (1, 1, 1, 1, 1, 1), (2, 1, 0.3, 1, 0.001, 1.5)


@pytest.mark.bits
@pytest.mark.parametrize(
    ("weight", "silent"),
    [
        (ONES, {}),
        (FEW, {}),
        ((1, 1, 0, 1, 1, 1), {}),
        (FEW, {3: "masked"}),
        (ONES, {0: "keys"}),
        (ONES, {5: "shares"}),
        (ONES, {1: "unmask"}),
        (ONES, {1: "shares", 2: "masked"}),
        ((1, 1, 0, 0, 1, 1), {}),
    ],
    ids=str,
)
def test_a_compiled_round_is_the_protocol_bit_for_bit(weight, silent):
    pytest.importorskip("cryptography")
    from polyfed.exchange.secure_sum.in_process import sum_securely

    update = a_round(weight)
    known = sum_securely(SecureSum(), update, BROADCAST, silent)
    lost = [k for k, phase in silent.items() if phase != "unmask"]
    left = np.where(np.isin(np.arange(COUNT), lost), 0, update.weight).astype(np.float32)
    broadcast, counted = compiled(Update(update.payload, left), BROADCAST)
    enough = np.count_nonzero(left) >= SecureSum().needed(COUNT)
    np.testing.assert_array_equal(counted, left if enough else 0 * left)
    np.testing.assert_array_equal(known.weight, counted)
    for name, found in broadcast.items():
        np.testing.assert_array_equal(found, np.asarray(known.payload[name])[0])
        assert np.any(found != BROADCAST[name]) == enough


def test_is_the_weighted_mean_of_what_may_count():
    update = a_round(FEW)
    broadcast, _ = compiled(update, BROADCAST)
    for name, found in broadcast.items():
        weight = np.float64(FEW).reshape(-1, *[1] * BROADCAST[name].ndim)
        mean = (weight * update.payload[name]).sum(0) / weight.sum()
        np.testing.assert_allclose(found, mean, atol=3e-5)  # weights of 16 bits


def test_all_that_the_server_sees_is_the_mean():
    update = a_round(ONES)
    sent = uploaded(SecureSum(), update, BROADCAST)
    for leaf in jax.tree.leaves(sent.payload):
        assert np.all(np.asarray(leaf) == np.asarray(leaf)[0])


@pytest.mark.parametrize("content", [np.nan, np.inf])
def test_who_is_not_finite_takes_no_part(content):
    update = a_round(ONES)
    update.payload["bias"][2, 1] = content
    broadcast, weight = compiled(update, BROADCAST)
    assert weight.tolist() == [1, 1, 0, 1, 1, 1]
    expected, _ = compiled(Update(update.payload, np.float32([1, 1, 0, 1, 1, 1])), BROADCAST)
    jax.tree.map(np.testing.assert_array_equal, broadcast, expected)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(broadcast))


def test_what_goes_beyond_the_limit_is_cut_number_by_number():
    payload = np.float32([[100.0, 1.0], [0.0, 1.0]])
    sent = uploaded(SecureSum(limit=4.0), Update(payload, np.ones(2, np.float32)), np.zeros(2, np.float32))
    assert sent.payload.tolist() == [[2.0, 1.0]] * 2


@pytest.mark.parametrize(
    ("share", "counts"), [(0.5, (2, 2, 3, 3, 6)), (2 / 3, (2, 3, 3, 4, 7)), (0.99, (2, 3, 4, 5, 10))]
)
def test_how_many_must_come(share, counts):
    assert tuple(SecureSum(threshold=share).needed(n) for n in (2, 3, 4, 5, 10)) == counts


def test_bytes():
    up, down = bytes_beside(10)
    size = WireSize(1000, clients=10)
    assert SecureSum().wire(size).total == 4000 + up
    assert SecureSum().relayed(size) == down
    assert bytes_beside(20)[0] < 2 * up  # they grow with the clients


PREDICTING = {"logits": Logits(jnp.zeros((3, 2))), "gaussians": Gaussians(jnp.zeros((3, 2)), jnp.ones((3, 2)))}


@pytest.mark.parametrize("kind", PREDICTING)
def test_means_of_predictions(kind):
    """The sum of logits on public states, and the means of means and of deviations."""
    base = PREDICTING[kind]
    leaves = jax.tree.map(lambda x: x + jnp.asarray(RANDOM.uniform(0, 2, (COUNT, *x.shape)), jnp.float32), base)
    merge = jax.jit(lambda update: Consensus().aggregate((), uploaded(SecureSum(), update, base))[0])
    found = merge(Update(leaves, jnp.ones(COUNT)))
    assert type(found) is type(base)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y.mean(0), atol=1e-5), found, leaves)


BASE = dataclasses.replace(load("cartpole-poles"), transforms=(SecureSum(),))
BASE = dataclasses.replace(BASE, evaluation=dataclasses.replace(BASE.evaluation, own=False), rule=WeightedMean())


@pytest.mark.parametrize(
    "rule",
    [
        Krum(num_hostile=0),
        CoordinateMedian(),
        TrimmedMean(trim=1),
        GeometricMedian(),
        FedPGFilter(),
        WassersteinBarycenter(),
        Consensus("median"),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_rules_that_look_at_each_message_are_refused(rule):
    name, remedy = type(rule).__name__, 'Consensus("mean")' if rule.predictive else "WeightedMean"
    with pytest.raises(ValueError) as caught:
        check_sums((SecureSum(),), rule, judges_own=False)
    assert str(caught.value) == (
        f"SecureSum reveals only the sum of the messages, but {name} needs them one by one: use {remedy}, or drop "
        "SecureSum."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"transforms": (HalfPrecision(), SecureSum())},
            "HalfPrecision saves nothing where SecureSum sends every number",
        ),
        ({"transforms": (SecureSum(), Int8())}, "Int8 saves nothing where SecureSum sends every number"),
        ({"transforms": (TopK(), SecureSum())}, "TopK saves nothing where SecureSum sends every number"),
        ({"transforms": (SecureSum(), TopK())}, "TopK saves nothing where SecureSum sends every number"),
        (
            {"transforms": (DelayMessages(), SecureSum())},
            "DelayMessages lets in messages of other rounds, but the masks",
        ),
        ({"transforms": (SecureSum(), DelayMessages())}, "the masks of SecureSum vanish only from the sum of one"),
        (
            {"transforms": (SecureSum(), LoseMessages())},
            "after SecureSum there is only their sum: put LoseMessages before",
        ),
        ({"transforms": (SecureSum(), SecureSum())}, "after SecureSum there is only their sum"),
        ({"transforms": (ClipNorm(), TopK(), SecureSum())}, "TopK saves nothing where SecureSum"),
        ({"transforms": (SecureSum(fraction_bits=30),)}, "exact for at most 0 clients, but there are 3"),
        ({"transforms": (SecureSum(limit=0.0),)}, r"transforms\.limit = 0 is out of range"),
        ({"transforms": (SecureSum(threshold=0.4),)}, r"transforms\.threshold = 0\.4 is out of range"),
        ({"transforms": (SecureSum(fraction_bits=0),)}, r"transforms\.fraction_bits = 0 bits is out of range"),
        ({"evaluation": load("cartpole-poles").evaluation}, r"give evaluation\.own = False, or drop SecureSum"),
        ({"rule": TrimmedMean(trim=1)}, "TrimmedMean needs them one by one: use WeightedMean"),
    ],
    ids=str,
)
def test_what_does_not_go_with_a_sum_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(BASE, **changes).check()


@pytest.mark.parametrize(
    "transforms",
    [
        (ClipNorm(), SecureSum()),
        (LoseMessages(), VanishAndReturn(), Quorum(2), SecureSum()),
        (Hostile.sign_flip(1), ClipNorm(), SecureSum()),
    ],
    ids=str,
)
def test_what_goes_with_a_sum(transforms):
    dataclasses.replace(BASE, transforms=transforms).check()


def test_a_run_counts_the_bytes_of_keys_and_shares():
    plain, secret = (Simulation(dataclasses.replace(BASE, transforms=t), (0,)).traffic for t in ((), BASE.transforms))
    up, down = bytes_beside(BASE.num_clients)
    assert secret == Traffic(plain.up + up, plain.down + down)


def test_one_client_is_not_hidden_by_itself():
    with pytest.raises(ValueError, match="sum of 1 client's messages hides nothing"):
        SecureSum().check_clients(1)


def test_counts_are_refused():
    with pytest.raises(ValueError, match="of what clients send count is int32"):
        SecureSum().init({"count": jnp.int32(3), "w": jnp.ones(3)}, 4)
