"""The whole protocol: the sum is exact, dropouts at every stage, and what the server sees of a client is chance."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("cryptography")

from polyfed.exchange.secure_sum import ciphers
from polyfed.exchange.secure_sum.client import SummingClient
from polyfed.exchange.secure_sum.in_process import run_sum
from polyfed.exchange.secure_sum.messages import SERVER, Terms, as_bytes, bytes_beside
from polyfed.exchange.secure_sum.secret_sharing import secret_of
from polyfed.exchange.secure_sum.server import SummingServer, TooFew
from polyfed.exchange.wire import Envelope

NAMES = ("ann", "bob", "cy", "dee", "eve")
TERMS = Terms(Envelope("experiment", "run", 3, ""), NAMES, threshold=3, num_values=400)
KEYS = {name: ciphers.new_identity() for name in NAMES}
SIGNED = dataclasses.replace(TERMS, identities=tuple(KEYS[name][1] for name in NAMES))
IDENTITIES = {name: private for name, (private, _) in KEYS.items()}
RANDOM = np.random.default_rng(0)
VALUES = {name: RANDOM.integers(0, 2**32, 400, dtype=np.uint32) for name in NAMES}


def sum_over(names):
    return np.sum([VALUES[name] for name in names], axis=0, dtype=np.uint32)


def run(terms, silent_from=None, values=VALUES):
    return run_sum(terms, values, silent_from, IDENTITIES if terms.identities else None)


both = pytest.mark.parametrize("terms", [TERMS, SIGNED], ids=["believed", "signed"])


@both
def test_the_sum_is_exact_modulo_2_32(terms):
    server, _ = run(terms)
    assert server.came == NAMES
    assert server.total.dtype == np.uint32
    np.testing.assert_array_equal(server.total, sum_over(NAMES))


@pytest.mark.parametrize("gone", [("bob",), ("ann", "eve")], ids=["one", "as many as may"])
@pytest.mark.parametrize(
    ("terms", "phase"),
    [(TERMS, phase) for phase in TERMS.phases] + [(SIGNED, phase) for phase in SIGNED.phases],
    ids=lambda x: x if isinstance(x, str) else ("signed" if x.identities else "believed"),
)
def test_who_is_silent_from_a_phase_on_is_left_out(terms, phase, gone):
    server, _ = run(terms, dict.fromkeys(gone, phase))
    left = tuple(name for name in NAMES if name not in gone)
    assert server.came == (left if phase in ("keys", "shares", "masked") else NAMES)  # later: it has sent its numbers
    np.testing.assert_array_equal(server.total, sum_over(server.came))


def test_one_at_each_stage():
    terms = dataclasses.replace(TERMS, clients=(*NAMES, "flo", "gil"), threshold=4)
    silent = {"ann": "shares", "cy": "masked", "gil": "unmask"}
    server, _ = run(terms, silent, VALUES | {"flo": VALUES["ann"], "gil": VALUES["bob"]})
    assert server.came == ("bob", "dee", "eve", "flo", "gil")
    np.testing.assert_array_equal(server.total, sum_over(("bob", "dee", "eve", "ann", "bob")))


@both
def test_one_fewer_than_must_be_and_nothing_is_unmasked(terms):
    for phase in terms.phases:
        identities = IDENTITIES if terms.identities else {}
        clients = {name: SummingClient(terms, name, VALUES[name], identities.get(name, b"")) for name in NAMES}
        server = SummingServer(terms)
        while server.phase != phase:
            server.advance({name: clients[name].answer(question) for name, question in server.questions.items()})
        two = {name: clients[name].answer(server.questions[name]) for name in NAMES[:2]}
        with pytest.raises(TooFew, match=rf"2 of 5 clients were left after the phase '{phase}' .* 3 must be"):
            server.advance(two)
        assert server.total is None
        assert server.came == ()
        assert server.questions == {}
        if phase != "unmask":
            assert "unmask" not in server._found  # nobody was asked for a share


def masked(transcript, terms=TERMS):
    place = terms.phases.index("masked")
    return {name: terms.read(terms.answer("masked"), sent[place], name)[0] for name, sent in transcript.items()}


def test_what_a_client_sends_cannot_be_told_from_chance():
    """Of a message of zeros: all 256 values of a byte come as often, and tell nothing of the next."""
    terms = dataclasses.replace(TERMS, num_values=20_000)
    _, transcript = run(terms, values=dict.fromkeys(NAMES, np.zeros(20_000, np.uint32)))
    found = masked(transcript, terms)
    for values in found.values():
        parts = values.view(np.uint8)
        assert stats.chisquare(np.bincount(parts, minlength=256)).pvalue > 1e-6
        pairs = np.bincount(parts[:-1].astype(int) % 16 * 16 + parts[1:] % 16, minlength=256)
        assert stats.chisquare(pairs).pvalue > 1e-6
    for one, other in (("ann", "bob"), ("bob", "cy")):
        difference = (found[one] - found[other]).view(np.uint8)
        assert stats.chisquare(np.bincount(difference, minlength=256)).pvalue > 1e-6
    assert any(sum(found.values(), np.zeros(20_000, np.uint32)))  # nor is their sum the sum: seeds mask it too


def test_two_rounds_with_the_same_numbers_look_different():
    first, second = (masked(run(TERMS)[1])["ann"] for _ in range(2))
    assert np.mean(first == second) < 0.01


def test_what_is_left_out_tells_nothing_of_a_seed():
    """The server gets of a client one secret: with the mask key of who is gone, its numbers stay under its seed."""
    server, transcript = run(TERMS, {"bob": "unmask", "cy": "masked"})
    shares = {
        name: TERMS.read(TERMS.answer("unmask"), sent[3], name)[0] for name, sent in transcript.items() if len(sent) > 3
    }
    assert set(shares) == {"ann", "dee", "eve"}
    place = TERMS.place("cy")
    secret = secret_of({TERMS.place(name) + 1: as_bytes(rows[place]) for name, rows in shares.items()})
    keys = TERMS.read(TERMS.answer("keys"), transcript["cy"][0], "cy")
    assert ciphers.public_key(secret) == as_bytes(keys[1])  # the mask key, and no share of the seed came
    assert server.came == ("ann", "bob", "dee", "eve")


def tampered(phase, who, change):
    """A run in which one client's answer of a phase is changed on its way."""
    clients = {name: SummingClient(TERMS, name, VALUES[name]) for name in NAMES}
    server = SummingServer(TERMS)
    while server.phase:
        answers = {name: clients[name].answer(question) for name, question in server.questions.items()}
        if server.phase == phase:
            answers[who] = change(answers[who])
        server.advance(answers)
    return server


STALE = dataclasses.replace(TERMS, envelope=Envelope("experiment", "run", 2, ""))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: b"", "unreadable"),
        (lambda data: data + b"more", "unreadable"),
        (lambda data: data * 30, "too-large"),
        (lambda data: TERMS.say("masked", "bob", VALUES["bob"]), "unknown-client"),
        (lambda data: STALE.say("masked", "ann", VALUES["ann"]), "other-round"),
        (lambda data: dataclasses.replace(TERMS, num_values=1).say("masked", "ann", np.uint32([1])), "schema"),
        (lambda data: TERMS.say("unmask", "ann", np.zeros((5, 9), np.uint32)), "schema"),
    ],
    ids=["empty", "longer", "huge", "another's", "stale", "another shape", "another phase"],
)
def test_an_answer_that_cannot_be_read_is_none(change, code):
    server = tampered("masked", "ann", change)
    assert [(refusal.client, refusal.code) for refusal in server.refusals] == [("ann", code)]
    np.testing.assert_array_equal(server.total, sum_over(NAMES[1:]))


def test_a_false_share_is_noticed_before_the_sum_is_false():
    def other(data):
        (rows,) = TERMS.read(TERMS.answer("unmask"), data, "ann")
        return TERMS.say("unmask", "ann", rows ^ np.uint32([1, *[0] * 8]))

    with pytest.raises(TooFew, match="given up: The shares of the seed of 'ann' do not fit what it committed to"):
        tampered("unmask", "ann", other)


def test_who_is_no_client_is_not_heard():
    server = SummingServer(TERMS)
    clients = {name: SummingClient(TERMS, name, VALUES[name]) for name in NAMES}
    answers = {name: clients[name].answer(question) for name, question in server.questions.items()}
    server.advance(answers | {"mallory": answers["ann"]})
    assert set(server.questions) == set(NAMES)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"threshold": 1}, "does not hide a client"),
        ({"threshold": 6}, "does not hide a client"),
        ({"clients": NAMES[:4], "threshold": 2}, "more than half of them"),
        ({"clients": ("ann", "ann", "bob")}, "stand for one client each"),
        ({"clients": ("ann", SERVER, "bob")}, "'server' for none"),
        ({"identities": (b"1", b"2")}, "2 identities do not stand for 5 clients"),
    ],
)
def test_terms_that_hide_nothing_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        SummingServer(dataclasses.replace(TERMS, **changes))


def test_a_sum_belongs_to_its_round():
    others = [
        TERMS,
        SIGNED,
        dataclasses.replace(TERMS, envelope=Envelope("experiment", "run", 4, "")),
        dataclasses.replace(TERMS, envelope=Envelope("experiment", "other", 3, "")),
        dataclasses.replace(TERMS, clients=NAMES[::-1]),
        dataclasses.replace(TERMS, threshold=4),
        dataclasses.replace(TERMS, num_values=401),
    ]
    assert len({terms.context for terms in others}) == len(others)


def test_bytes_are_those_of_the_messages():
    _, transcript = run(TERMS)
    up, _ = bytes_beside(5)
    sent = sum(len(data) for data in transcript["ann"])
    headers = 4 * 400  # JSON; the measured ones are 250 to 300 bytes each
    assert up + 4 * 400 < sent < up + 4 * 400 + headers
