"""A client does not answer what could tell more than the sum."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cryptography")

from polyfed.exchange.secure_sum import ciphers
from polyfed.exchange.secure_sum.client import SummingClient
from polyfed.exchange.secure_sum.messages import Terms, Unsafe, words
from polyfed.exchange.secure_sum.server import SummingServer
from polyfed.exchange.wire import Envelope, Refused, pack

NAMES = ("ann", "bob", "cy", "dee")
TERMS = Terms(Envelope("e", "r", 1, ""), NAMES, threshold=3, num_values=6)
KEYS = {name: ciphers.new_identity() for name in NAMES}
SIGNED = dataclasses.replace(TERMS, identities=tuple(public for _, public in KEYS.values()))


def clients_of(terms):
    identity = lambda name: KEYS[name][0] if terms.identities else b""  # noqa: E731
    return {name: SummingClient(terms, name, np.arange(6, dtype=np.uint32), identity(name)) for name in terms.clients}


def until(phase, terms=TERMS, change=lambda phase, answers: answers):
    """`(clients, server)` before a phase."""
    clients, server = clients_of(terms), SummingServer(terms)
    while server.phase != phase:
        answers = {name: clients[name].answer(question) for name, question in server.questions.items()}
        server.advance(change(server.phase, answers))
    return clients, server


def there(*names):
    return np.isin(NAMES, names)


def test_it_answers_each_question_once():
    clients, server = until("unmask")
    question = server.questions["ann"]
    assert clients["ann"].answer(question)
    assert clients["ann"].phase == ""
    for again in (question, TERMS.ask("unmask", there("ann", "bob", "cy"))):
        with pytest.raises(Unsafe, match="answers a question once"):
            clients["ann"].answer(again)


def test_of_nobody_it_tells_both_secrets():
    """The row of who is left holds a share of its seed, of who is gone of its mask key, and there is one row each."""
    clients, server = until("masked")
    answers = {name: clients[name].answer(question) for name, question in server.questions.items() if name != "dee"}
    server.advance(answers)
    ann = clients["ann"]
    held = {place: (words(both[:36]), words(both[36:])) for place, both in ann._held.items()}
    (rows,) = TERMS.read(TERMS.answer("unmask"), ann.answer(server.questions["ann"]), "ann")
    np.testing.assert_array_equal(rows[3], held[3][0])
    for place in (1, 2):
        np.testing.assert_array_equal(rows[place], held[place][1])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("ann", "bob"), "2 there, and 3 must be"),
        (("bob", "cy", "dee"), "that it is not there itself"),
    ],
)
@pytest.mark.parametrize("phase", ["masked", "unmask"])
def test_it_unmasks_nothing_for_too_few(phase, names, sentence):
    clients, _ = until(phase)
    boxes = (np.zeros((4, 22), np.uint32),) if phase == "masked" else ()
    with pytest.raises(Unsafe, match=sentence):
        clients["ann"].answer(TERMS.ask(phase, there(*names), *boxes))
    assert clients["ann"].phase == ""  # and falls silent


def test_who_was_gone_does_not_come_back():
    """Else the server could ask some for the seed and others for the mask key of one that was said to be gone."""
    clients, server = until("shares", change=lambda phase, answers: {n: a for n, a in answers.items() if n != "dee"})
    clients["ann"].answer(server.questions["ann"])
    with pytest.raises(Unsafe, match="not there before"):
        clients["ann"].answer(TERMS.ask("masked", there(*NAMES), np.zeros((4, 22), np.uint32)))


def test_keys_under_its_name_must_be_its_own():
    clients, server = until("shares")
    tables = [server._table("keys", nth, 8).copy() for nth in (0, 1)]
    tables[0][0] = words(ciphers.public_key(ciphers.new_private_key()))
    with pytest.raises(Unsafe, match="not its own"):
        clients["ann"].answer(TERMS.ask("shares", there(*NAMES), *tables))
    tables = [server._table("keys", nth, 8).copy() for nth in (0, 1)]
    tables[1][2] = tables[1][3]
    with pytest.raises(Unsafe, match="one key twice"):
        clients["bob"].answer(TERMS.ask("shares", there(*NAMES), *tables))


def test_a_share_that_does_not_open_ends_it():
    clients, server = until("masked")
    ask = server.questions["ann"]
    flags, boxes = TERMS.read(TERMS.question("masked"), ask, "server")
    boxes = boxes.copy()
    boxes[[1, 2]] = boxes[[2, 1]]
    with pytest.raises(ValueError, match="does not open"):
        clients["ann"].answer(TERMS.ask("masked", flags, boxes))
    assert clients["ann"].phase == ""


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (dataclasses.replace(TERMS, envelope=Envelope("e", "r", 2, "")), "for round 2"),
        (dataclasses.replace(TERMS, envelope=Envelope("e", "s", 1, "")), "for run 's'"),
        (dataclasses.replace(TERMS, envelope=Envelope("f", "r", 1, "")), "for experiment 'f'"),
    ],
)
def test_a_question_of_another_sum_is_none(terms, sentence):
    with pytest.raises(Refused, match=sentence):
        clients_of(TERMS)["ann"].answer(terms.ask("keys", there(*NAMES)))


def test_only_the_server_asks_and_in_order():
    ann = clients_of(TERMS)["ann"]
    with pytest.raises(Refused, match=r"lacks 'keys\.there'"):
        ann.answer(TERMS.ask("unmask", there(*NAMES)))
    said = dataclasses.replace(TERMS.envelope, sender="bob")
    with pytest.raises(Refused, match="from 'bob'"):
        clients_of(TERMS)["ann"].answer(pack(said, TERMS.question("keys"), [there(*NAMES)]))


def swapped(phase, answers):
    """A server in the middle: its own keys in the place of Dee's, signed by nobody."""
    if phase != "keys":
        return answers
    own = [words(ciphers.public_key(ciphers.new_private_key())) for _ in range(2)]
    _, _, signature = SIGNED.read(SIGNED.answer("keys"), answers["dee"], "dee")
    return answers | {"dee": SIGNED.say("keys", "dee", *own, signature)}


def test_keys_that_their_owner_did_not_sign_are_refused():
    clients, server = until("shares", SIGNED, swapped)
    with pytest.raises(Unsafe, match="keys of dee that it did not sign"):
        clients["ann"].answer(server.questions["ann"])


def test_without_identities_the_server_is_believed():
    """What the page on secure sums says it may not do: nobody notices keys that it made up itself."""
    clients, server = until("shares")
    tables = [server._table("keys", nth, 8).copy() for nth in (0, 1)]
    for table in tables:
        table[3] = words(ciphers.public_key(ciphers.new_private_key()))
    assert clients["ann"].answer(TERMS.ask("shares", there(*NAMES), *tables))


def test_signatures_of_enough_on_who_is_left_come_before_a_share():
    clients, server = until("agree", SIGNED)
    server.advance({name: clients[name].answer(question) for name, question in server.questions.items()})
    table = server._table("agree", -1, 16)
    few = np.where(there("ann", "bob")[:, None], table, 0)
    with pytest.raises(Unsafe, match="knows of 2 that agree on who is left, and 3 must"):
        clients["ann"].answer(SIGNED.ask("unmask", there(*NAMES), few))
    with pytest.raises(Unsafe, match="others are left than those under which it signed"):
        clients["bob"].answer(SIGNED.ask("unmask", there("ann", "bob", "cy"), table))
    assert clients["cy"].answer(server.questions["cy"])


def test_a_server_with_two_stories_gets_no_share():
    """It says that Dee is gone to one, and there to the others: whoever signed the other story is not counted."""
    clients, server = until("agree", SIGNED)
    told = {name: there("ann", "bob", "cy") if name == "ann" else there(*NAMES) for name in NAMES}
    answers = {name: clients[name].answer(SIGNED.ask("agree", told[name])) for name in NAMES}
    server.advance(answers)
    with pytest.raises(Unsafe, match="knows of 1 that agree"):
        clients["ann"].answer(SIGNED.ask("unmask", told["ann"], server._table("agree", -1, 16)))


def test_shows_no_secret():
    ann = clients_of(SIGNED)["ann"]
    shown = repr(vars(ann)["_mask"]) + repr(ann)
    assert ann._mask.private.hex() not in shown
    assert repr(ann._mask.private) not in shown


@pytest.mark.parametrize(
    ("terms", "values", "identity", "sentence"),
    [
        (TERMS, np.zeros(5), b"", r"shape \(5,\), but all agreed on 6"),
        (TERMS, np.zeros(6), b"key", "disagree on whether clients sign"),
        (SIGNED, np.zeros(6), b"", "disagree on whether clients sign"),
    ],
)
def test_refuses_what_does_not_fit_the_terms(terms, values, identity, sentence):
    with pytest.raises(ValueError, match=sentence):
        SummingClient(terms, "ann", values, identity)
