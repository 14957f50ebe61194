import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import CoordinateMedian, ServerSGD, WeightedMean
from polyfed.exchange import Int8, TopK
from polyfed.exchange.gate import Bounds, Gate
from polyfed.exchange.site_part import SitePart
from polyfed.exchange.wire import ArrayForm, Envelope, Manifest, pack
from polyfed.simulation.round import Server, ServerParts, server_round

BROADCAST = {"bias": np.zeros(4, np.float32), "weight": np.zeros((2, 3), np.float32)}
CLIENTS = {"ann": 200.0, "bob": 200.0, "eve": 200.0}
ROUND = Envelope("digest", "run", 3, "")


def numbers(value):
    """A payload's leaves, all of one value."""
    return [np.full(x.shape, value, np.float32) for x in BROADCAST.values()]


def message(who, leaves, manifest=None, **changes):
    return pack(dataclasses.replace(ROUND, sender=who, **changes), manifest or Manifest.of(BROADCAST), leaves)


def form(**changes):
    """The manifest with another `weight`."""
    bias, weight = Manifest.of(BROADCAST).arrays
    return Manifest((bias, dataclasses.replace(weight, **changes)))


BIAS = np.zeros(4, np.float32)
BAD = {
    "NaN": (numbers(np.nan), {}, "not-finite"),
    "Inf": (numbers(np.inf), {}, "not-finite"),
    "1e30": (numbers(1e30), {}, "too-far"),
    "shape (1,)": ([BIAS, np.ones(1, np.float32)], {"manifest": form(shape=(1,))}, "schema"),
    "shape (2, 4)": ([BIAS, np.ones((2, 4), np.float32)], {"manifest": form(shape=(2, 4))}, "schema"),
    "complex": ([BIAS, np.ones((2, 3), np.complex64)], {"manifest": form(kind="complex64")}, "schema"),
    "float64": ([BIAS, np.ones((2, 3))], {"manifest": form(kind="float64")}, "schema"),
    "int64": ([BIAS, np.ones((2, 3), np.int64)], {"manifest": form(kind="int64")}, "schema"),
    "missing key": ([BIAS], {"manifest": Manifest(Manifest.of(BROADCAST).arrays[:1])}, "schema"),
    "one more": (
        [*numbers(1.0), np.float32(1e12)],
        {"manifest": Manifest((*Manifest.of(BROADCAST).arrays, ArrayForm("num_examples", "float32", ())))},
        "schema",
    ),
    "another's name": (numbers(1.0), {"who": "ann"}, "unknown-client"),
    "another experiment": (numbers(1.0), {"experiment": "other"}, "other-experiment"),
    "another run": (numbers(1.0), {"run": "before"}, "other-run"),
    "another round": (numbers(1.0), {"round": 2}, "other-round"),
    "another version": (numbers(1.0), {"version": "0"}, "other-version"),
}


def closed(*others, weights=CLIENTS):
    """A round in which Ann and Bob sent ones, and then the others."""
    gate = Gate(ROUND, BROADCAST, weights)
    for name in ("ann", "bob"):
        assert gate.receive(name, message(name, numbers(1.0))) is None
    found = [gate.receive(client, data) for client, data in others]
    return gate, found, gate.close()


def after(update, rule):
    """What a server holds after the round."""
    parts = ServerParts((), rule, ServerSGD())
    broadcast = jax.tree.map(jnp.asarray, BROADCAST)
    state = rule.init(broadcast)
    server = Server(broadcast, state, (), ServerSGD().init(broadcast))
    return server_round(parts, server, update, jax.random.key(0))[0].broadcast


@pytest.mark.parametrize("name", list(BAD))
@pytest.mark.parametrize("rule", [WeightedMean(), CoordinateMedian()], ids=["mean", "median"])
def test_a_round_with_a_bad_message_is_the_round_without_it(name, rule):
    leaves, changes, code = BAD[name]
    gate, (refusal, *_), update = closed(
        ("eve", message(changes.get("who", "eve"), leaves, **_without(changes, "who")))
    )
    found = refusal or gate.refusals[0]  # what is too far shows when all are there
    assert (found.client, found.code) == ("eve", code)
    assert found.sentence.startswith("'eve' is absent from round 3: it")
    _, _, without = closed()
    assert update.weight.tolist() == without.weight.tolist() == [200.0, 200.0, 0.0]
    for one, other in zip(jax.tree.leaves(update), jax.tree.leaves(without), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(jax.tree.leaves(after(update, rule)), jax.tree.leaves(after(without, rule)), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.all(np.asarray(one) == 1.0)


# What is compressed: as much is refused, and what only a code can hold

INT8, TOP = SitePart((Int8(),), BROADCAST), SitePart((TopK(0.3),), BROADCAST)  # 10 numbers, of which 3 are sent


def coded(*arrays):
    return [np.asarray(array) for array in arrays]


WHOLE, ONE = np.ones(10, np.int8), np.float32([1.0])
THREE, PLACES = np.ones(3, np.float32), np.uint32([0, 4, 9])
BAD_CODES = {
    "NaN scale": (INT8, coded(WHOLE, np.float32([np.nan])), {}, "not-finite"),
    "infinite scale": (INT8, coded(WHOLE, np.float32([np.inf])), {}, "not-finite"),
    "a scale that overflows": (INT8, coded(127 * WHOLE, np.float32([3e38])), {}, "not-finite"),
    "1e30 scale": (INT8, coded(WHOLE, np.float32([1e30])), {}, "too-far"),
    "two scales": (INT8, coded(WHOLE, np.ones(2, np.float32)), {"changes/scales": {"shape": (2,)}}, "schema"),
    "float64 scale": (INT8, coded(WHOLE, np.ones(1)), {"changes/scales": {"kind": "float64"}}, "schema"),
    "whole numbers of 32 bits": (INT8, coded(WHOLE.astype("i4"), ONE), {"changes": {"kind": "int32"}}, "schema"),
    "numbers as learned": (INT8, numbers(1.0), None, "schema"),
    "NaN": (TOP, coded(np.nan * THREE, PLACES), {}, "not-finite"),
    "1e30": (TOP, coded(1e30 * THREE, PLACES), {}, "too-far"),
    "a place beyond": (TOP, coded(THREE, np.uint32([0, 4, 10])), {}, "schema"),
    "the last place that there is": (TOP, coded(THREE, np.uint32([0, 4, 2**32 - 1])), {}, "schema"),
    "a place twice": (TOP, coded(THREE, np.uint32([4, 4, 9])), {}, "schema"),
    "places that fall": (TOP, coded(THREE, np.uint32([9, 4, 0])), {}, "schema"),
    "places below 0": (TOP, coded(THREE, np.int32([-1, 4, 9])), {"changes/places": {"kind": "int32"}}, "schema"),
    "ten numbers": (TOP, coded(np.ones(10, "f4"), PLACES), {"changes": {"shape": (10,)}}, "schema"),
    "a million numbers": (TOP, coded(np.ones(10**6, "f4"), PLACES), {"changes": {"shape": (10**6,)}}, "too-large"),
}


@pytest.mark.parametrize("name", list(BAD_CODES))
def test_a_bad_code_is_that_of_nobody(name):
    part, arrays, forms, code = BAD_CODES[name]
    good = coded(WHOLE, ONE) if part is INT8 else coded(THREE, PLACES)
    manifest = Manifest.of(BROADCAST) if forms is None else part.manifest
    bad = Manifest(tuple(dataclasses.replace(f, **(forms or {}).get(f.name, {})) for f in manifest.arrays))

    def closed(*others):
        gate = Gate(ROUND, BROADCAST, CLIENTS, site_part=part)
        for who in ("ann", "bob"):
            assert gate.receive(who, message(who, good, part.manifest)) is None
        for data in others:
            gate.receive("eve", data)
        return gate, gate.close()

    (gate, update), (_, without) = closed(message("eve", arrays, bad)), closed()
    assert [(refusal.client, refusal.code) for refusal in gate.refusals] == [("eve", code)]
    for one, other in zip(jax.tree.leaves(update), jax.tree.leaves(without), strict=True):
        np.testing.assert_array_equal(one, other)
    rows = np.concatenate([x.reshape(3, -1) for x in jax.tree.leaves(update.payload)], axis=1)
    assert rows[0].tolist() == ([1.0] * 10 if part is INT8 else [1, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    assert not rows[2].any()


def test_a_code_is_read_from_what_each_client_was_sent():
    own = {name: jax.tree.map(lambda x, a=a: x + np.float32(a), BROADCAST) for a, name in enumerate(CLIENTS)}
    gate = Gate(ROUND, own["ann"], CLIENTS, own=own, site_part=TOP)
    for name in CLIENTS:
        assert gate.receive(name, message(name, coded(THREE, PLACES), TOP.manifest)) is None
    assert gate.close().payload["bias"].tolist() == [[1, 0, 0, 0], [2, 1, 1, 1], [3, 2, 2, 2]]


def _without(changes, name):
    return {key: value for key, value in changes.items() if key != name}


def test_a_second_message_and_a_stranger():
    gate, found, update = closed(("bob", message("bob", numbers(9.0))), ("mallory", message("mallory", numbers(9.0))))
    assert [refusal.code for refusal in found] == ["twice", "unknown-client"]
    assert update.weight.tolist() == [200.0, 200.0, 0.0]
    assert np.asarray(update.payload["bias"])[1].tolist() == [1.0] * 4
    assert gate.waits_for == ("eve",)


def test_weights_are_the_servers_own():
    _, _, update = closed(("eve", message("eve", numbers(1.5))), weights={"ann": 100.0, "bob": 300.0, "eve": 0.0})
    assert update.weight.tolist() == [100.0, 300.0, 0.0]


def test_nobody_came_and_who_will_not():
    gate = Gate(ROUND, BROADCAST, CLIENTS)
    assert gate.absent("ann", "no answer within 30 s").sentence == (
        "'ann' is absent from round 3: no answer within 30 s."
    )
    assert gate.receive("ann", message("ann", numbers(1.0))).code == "twice"
    assert gate.close().weight.tolist() == [0.0, 0.0, 0.0]


def test_of_two_nobody_is_far_but_a_distance_may_be_given():
    two = {"ann": 1.0, "bob": 1.0}
    gate = Gate(ROUND, BROADCAST, two)
    assert [gate.receive(name, message(name, numbers(x))) for name, x in (("ann", 1.0), ("bob", 1e6))] == [None, None]
    assert gate.close().weight.tolist() == [1.0, 1.0]
    gate = Gate(ROUND, BROADCAST, two, Bounds(distance=10.0))
    assert gate.receive("bob", message("bob", numbers(1e6))).code == "too-far"
    with pytest.raises(ValueError, match=r"gate\.ratio"):
        Gate(ROUND, BROADCAST, two, Bounds(ratio=0.5))


def test_a_name_is_quoted_wherever_it_is_told():
    gate = Gate(ROUND, BROADCAST, CLIENTS)
    refusal = gate.receive("\x1b[31mroot\n", b"")
    assert "\x1b" not in refusal.sentence
    assert "\n" not in refusal.sentence


def test_where_each_client_was_sent_its_own_it_is_measured_from_that_and_keeps_it_when_absent():
    sent = {"ann": [0.0, 0.0], "bob": [100.0, 100.0], "eve": [7.0, 7.0]}
    own = {name: np.float32(row) for name, row in sent.items()}
    gate = Gate(ROUND, own["ann"], CLIENTS, Bounds(distance=5.0), own)
    send = lambda who, row: gate.receive(who, message(who, [np.float32(row)], gate.manifest))  # noqa: E731
    assert send("ann", [1, 1]) is None
    assert send("bob", [101, 101]) is None
    assert send("eve", [1, 1]).code == "too-far"
    assert gate.close().payload.tolist() == [[1, 1], [101, 101], [7, 7]]
