"""Secure sums over a carrier: who falls silent, who asks twice, what the server gets to see, and who comes back.

Sites are whole; only what they learn is drawn by chance instead, so that nothing is compiled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("cryptography")

from polyfed.aggregation import WeightedMean
from polyfed.deployment import remote as remote_module
from polyfed.deployment import resident as resident_module
from polyfed.deployment.answer import answer, opened
from polyfed.deployment.audit import Audit
from polyfed.deployment.identities import new_identities
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.member import identity
from polyfed.deployment.remote import Remote
from polyfed.deployment.resident import Greeting, Resident
from polyfed.deployment.sum_messages import PHASES, Attempt
from polyfed.deployment.terms import Terms
from polyfed.errors import QuorumError
from polyfed.exchange import SecureSum
from polyfed.exchange.site_part import SitePart
from polyfed.exchange.wire import Envelope, Manifest, pack
from polyfed.experiment import Experiment
from polyfed.record import to_data
from polyfed.simulation.simulate import Simulation
from polyfed.types import Update

NAMES = ("client-0", "client-1", "client-2")
FORM = {"bias": np.zeros(32, np.float32), "weight": np.zeros((31, 32), np.float32)}
WEIGHTS = np.float32([2, 1, 1])
PART = SecureSum(threshold=0.5)  # two of three
LEARNED: list[tuple[int, int]] = []  # (client, round)


class Drawn:
    """In place of `Member`: a client that learns numbers drawn by chance."""

    payload_form, metrics_form, form = Manifest.of(FORM), Manifest.of({"loss": np.float32(0)}), FORM
    first_round, last_exchange = 1, 100
    site_part, sent_form = SitePart((PART,), FORM), Manifest.of(FORM)

    def __init__(self, experiment: Experiment, seed: int, client: int):
        del seed
        self.experiment, self.client = experiment, client
        self.plan = SimpleNamespace(exchanges=1)
        self.simulation = SimpleNamespace(homes=SimpleNamespace(weights=WEIGHTS), told=lambda: "")

    def begin(self) -> Any:
        return {"rounds": np.zeros((), np.int32)}

    def round(self, client: Any, broadcast: Any, when: tuple[int, int], newcomer: bool = False) -> Any:
        LEARNED.append((self.client, when[0]))
        figures = {"loss": np.float32(self.client + when[0])}
        arrays = jax.tree.leaves(learned(self.client, when[0], broadcast))
        return {"rounds": client["rounds"] + 1}, arrays, figures


def learned(client: int, round_: int, broadcast: Any) -> dict[str, np.ndarray]:
    draw = np.random.default_rng((client, round_))
    return {name: x + draw.normal(0, 0.1, x.shape).astype(np.float32) for name, x in broadcast.items()}


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    LEARNED.clear()
    for module in (remote_module, resident_module):
        monkeypatch.setattr(module, "Member", Drawn)


@pytest.fixture(scope="module")
def secret(tiny: Callable[..., Experiment]) -> Experiment:
    judged = dataclasses.replace(tiny().evaluation, own=False)
    return tiny(transforms=(PART,), rule=WeightedMean(), evaluation=judged)


@pytest.fixture(scope="module")
def simulation(secret: Experiment) -> Any:
    simulation = Simulation(secret, (0,))
    simulation.homes = dataclasses.replace(simulation.homes, weights=WEIGHTS)
    return simulation


class Recorder(Loopback):
    """Keeps what passes; `lost(phase, name)` says whose answers do not come; dies before or after a phase."""

    def __init__(self, sites: Any, lost: Callable[[str, str], bool] = lambda phase, name: False, dies: str = ""):
        super().__init__({name: site.answer for name, site in sites.items()})
        self.lost, self.dies = lost, dies
        self.down: list[tuple[str, str, bytes]] = []
        self.up: list[tuple[str, str, bytes]] = []

    def exchange(self, phase: Any, messages: Any, deadline_s: float) -> Any:
        if self.dies == f"before {phase}":
            raise Dies
        asked = {name: data for name, data in messages.items() if not self.lost(phase, name)}
        replies = super().exchange(phase, asked, deadline_s)
        if phase in PHASES:
            self.down += [(phase, name, data) for name, data in messages.items()]
            self.up += [(phase, *pair) for pair in replies.arrived]
        if self.dies == f"after {phase}":
            raise Dies
        return replies


class Dies(Exception):
    pass


def sites(signed: bool = False, folder: Path | None = None) -> dict[str, Resident]:
    keys = new_identities(list(NAMES)) if signed else dict.fromkeys(NAMES)
    own = lambda name: None if folder is None else folder / name  # noqa: E731
    return {name: Resident(name, own(name), signs=keys[name]) for name in NAMES}


def known_of(residents: dict[str, Resident]) -> Any:
    signs = residents["client-0"]._signs
    return None if signs is None else signs.known


def remote(simulation: Any, carrier: Any, residents: Any, **how: Any) -> Remote:
    how = {"terms": Terms(pause_s=0.0, tries=1), "known": known_of(residents)} | how
    return Remote(simulation, carrier, "run", **how)


def broadcast(round_: int = 1) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(100 + round_)
    return {name: draw.normal(size=(1, *x.shape)).astype(np.float32) for name, x in FORM.items()}


def expected(round_: int, there: Any = NAMES) -> Update:
    """What the simulation's transform makes of the round in which these were there."""
    base = {name: x[0] for name, x in broadcast(round_).items()}
    each = [learned(client, round_, base) for client in range(3)]
    weight = np.where(np.isin(NAMES, there), WEIGHTS, 0).astype(np.float32)
    update = Update({name: np.stack([one[name] for one in each]) for name in FORM}, weight)
    return PART.upload((), update, base, None)[0]  # type: ignore[arg-type]


def assert_is(found: Any, round_: int, there: Any = NAMES) -> None:
    payload, came, _ = found
    update = expected(round_, there)
    np.testing.assert_array_equal(came[0], np.isin(NAMES, there))
    for name in FORM:
        np.testing.assert_array_equal(payload[name][0], update.payload[name])


@pytest.mark.parametrize("signed", [False, True], ids=["believed", "signed"])
def test_round_after_round_the_server_learns_what_the_simulation_says_it_does(simulation: Any, signed: bool) -> None:
    residents = sites(signed)
    carrier = Recorder(residents)
    server = remote(simulation, carrier, residents)
    for round_ in (1, 2, 3):
        found = server.exchange(broadcast(round_), round_, 0)
        assert_is(found, round_)
        assert found[2]["loss"][0].tolist() == [round_ + client for client in range(3)]
    phases = [phase for phase in PHASES if signed or phase != "agree"]
    assert [phase for phase, name, _ in carrier.down if name == "client-1"] == 3 * phases
    assert sorted(LEARNED) == [(client, round_) for client in range(3) for round_ in (1, 2, 3)]
    assert server.told() == ""


def test_bytes_of_all_phases_are_counted(simulation: Any) -> None:
    residents = sites()
    carrier = Recorder(residents)
    _, _, figures = remote(simulation, carrier, residents).exchange(broadcast(), 1, 0)
    for place, client in enumerate(NAMES):
        assert figures["wire_down"][0, place] == sum(len(data) for _, name, data in carrier.down if name == client)
        assert figures["wire_up"][0, place] == sum(len(data) for _, name, data in carrier.up if name == client)


@pytest.mark.parametrize("phase", PHASES)
def test_who_falls_silent_is_absent_before_its_numbers_came_and_counts_after(
    simulation: Any, phase: str, tmp_path: Path
) -> None:
    residents = sites(signed=True)
    carrier = Recorder(residents, lambda now, name: now == phase and name == "client-2")
    audit = Audit(tmp_path / "audit.jsonl")
    server = remote(simulation, carrier, residents, audit=audit)
    found = server.exchange(broadcast(), 1, 0)
    after = phase in ("agree", "unmask")
    # Its weight is not the largest: where the heaviest is absent a simulation rounds otherwise, see `whole_of`.
    assert_is(found, 1, NAMES if after else NAMES[:2])
    assert found[2]["refused"][0].tolist() == [0, 0, 1]
    assert f"'client-2' is absent from round 1 from the phase '{phase}' of its sum" in server.told()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines if line["what"] == "absent"] == [phase]
    assert [line["why"] for line in lines if line["what"] == "summed"] == [
        f"{3 if after else 2} of 3: {', '.join(NAMES if after else NAMES[:2])}"
    ]
    carrier.lost = lambda now, name: False
    late = phase == "keys"  # it knew nothing of the run, so that it waits for one sum, as if it had lost what it knew
    assert_is(server.exchange(broadcast(2), 2, 0), 2, NAMES[:2] if late else NAMES)
    assert_is(server.exchange(broadcast(3), 3, 0), 3)


@pytest.mark.parametrize("phase", PHASES)
def test_where_too_few_are_left_the_run_ends_and_nothing_was_unmasked(simulation: Any, phase: str) -> None:
    residents = sites(signed=True)
    carrier = Recorder(residents, lambda now, name: now == phase and name != "client-0")
    with pytest.raises(
        QuorumError, match=rf"Only 0 of 3 .* 2 are the quorum.*after the phase '{phase}' of a secure sum"
    ):
        remote(simulation, carrier, residents).exchange(broadcast(), 1, 0)
    shown = [name for now, name, _ in carrier.up if now == "unmask"]
    assert shown == (["client-0"] if phase == "unmask" else [])  # of two shares that are needed


def test_a_second_try_is_another_sum_of_what_was_learned_once(simulation: Any) -> None:
    residents, tried = sites(), []

    def lost(phase: str, name: str) -> bool:
        tried.append(phase)
        return phase == "masked" and tried.count("masked") <= 3

    carrier = Recorder(residents, lost)
    server = remote(simulation, carrier, residents, terms=Terms(pause_s=0.0, tries=2))
    assert_is(server.exchange(broadcast(), 1, 0), 1)
    assert sorted(LEARNED) == [(0, 1), (1, 1), (2, 1)]
    attempts = {Attempt.read(data)[0].name for _, _, data in carrier.down}
    assert len(attempts) == 2


# What the server gets to see


def test_the_server_never_gets_a_message_in_clear(simulation: Any) -> None:
    residents = sites(signed=True)
    carrier = Recorder(residents)
    remote(simulation, carrier, residents).exchange(broadcast(), 1, 0)
    base = {name: x[0] for name, x in broadcast().items()}
    for phase, name, data in carrier.up:
        own = learned(NAMES.index(name), 1, base)
        change = np.concatenate([(own[leaf] - base[leaf]).ravel() for leaf in FORM])
        whole = np.trunc(change * np.float32(2**20)).astype(np.int32)
        for row in (*(x.ravel() for x in own.values()), change, whole):
            pieces = [row[at : at + 2].tobytes() for at in range(0, len(row) - 1, 2)]
            assert not any(piece in data for piece in pieces), (phase, name)


def test_masked_numbers_are_as_if_drawn_by_chance(simulation: Any) -> None:
    """Chi-squared of the bytes of 9 x 1024 numbers, 255 degrees of freedom: beyond 400 once in 10^8."""
    residents = sites()
    carrier = Recorder(residents)
    server = remote(simulation, carrier, residents)
    for round_ in (1, 2, 3):
        server.exchange(broadcast(round_), round_, 0)
    rows = [opened(data, 1)[0][-4096:] for phase, _, data in carrier.up if phase == "masked"]
    assert len(rows) == 9
    counts = np.bincount(np.frombuffer(b"".join(rows), np.uint8), minlength=256)
    mean = counts.sum() / 256
    assert np.sum((counts - mean) ** 2 / mean) < 400
    assert len(set(rows)) == 9


# Who asks twice, or asks for what it should not have


@pytest.fixture
def asked(simulation: Any) -> Any:
    """Sites after a sum, and every question of it."""
    residents = sites()
    carrier = Recorder(residents)
    remote(simulation, carrier, residents).exchange(broadcast(), 1, 0)
    return residents, carrier.down


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "agree"])
def test_a_site_that_is_asked_twice_refuses(asked: Any, phase: str) -> None:
    residents, questions = asked
    for now, name, question in questions:
        if now == phase:
            assert residents[name].answer(now, question).startswith(b"-it was asked for")


def test_the_last_question_has_no_answer_under_the_name_of_another_phase(simulation: Any) -> None:
    residents = sites()
    carrier = Recorder(residents, dies="before unmask")
    with pytest.raises(Dies):
        remote(simulation, carrier, residents).exchange(broadcast(), 1, 0)
    phase, name, question = carrier.down[-1]
    assert phase == "masked"
    assert residents[name].answer("shares", question).startswith(b"-it was asked for 'shares'")


def test_a_site_sends_no_message_by_itself(simulation: Any, secret: Experiment) -> None:
    residents = sites()
    residents["client-0"].answer("hello", Greeting(*greeted(secret, 0)).pack())
    base = [x[0] for x in broadcast().values()]
    message = pack(Envelope(identity(secret, 0), "run", 1, "server"), Drawn.payload_form, base)
    assert b"it sends none by itself" in residents["client-0"].answer("round", message)
    assert LEARNED == []


def greeted(experiment: Experiment, client: int) -> Any:
    return to_data(experiment), identity(experiment, 0), 0, "run", client, f"client-{client}"


def test_without_a_sum_nobody_answers_its_questions(tiny: Callable[..., Experiment]) -> None:
    site = Resident("client-0")
    assert site.answer("keys", b"") == b"?"
    assert site.answer("hello", Greeting(*greeted(tiny(), 0)).pack())[:1] == b"+"
    assert b"has no secure sum" in site.answer("keys", b"")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threshold": 1}, "asks for a threshold of 1, and 2 is the least"),
        ({"threshold": 4}, "asks for a threshold of 4"),
        ({"clients": NAMES[:2]}, "names other clients than the experiment has"),
        ({"clients": NAMES[::-1]}, "or this site at another place"),
        ({"signed": True}, "the sum is signed, and this site has no identities.json"),
        ({"name": "short"}, "no question of a sum"),
        ({"threshold": True}, "no question of a sum"),
        ({"clients": [1, 2, 3]}, "no question of a sum"),
    ],
    ids=str,
)
def test_a_site_takes_no_part_in_a_sum_that_hides_less(asked: Any, changes: Any, said: str) -> None:
    residents, questions = asked
    head, question, sent = Attempt.read(questions[0][2])
    head = dataclasses.replace(head, **{"name": "0" * 32, **changes})
    assert said in residents["client-0"].answer("keys", head.ask(question, sent)).decode()


def test_who_is_sent_another_broadcast_is_in_no_sum_with_the_others(simulation: Any) -> None:
    residents = sites()
    other = residents["client-2"].answer

    class Deceived:
        def answer(self, phase: Any, message: bytes) -> bytes:
            if phase == "keys":
                head, question, sent = Attempt.read(message)
                message = head.ask(question, sent[:-4] + np.float32(0.5).tobytes())
            return other(phase, message)

    carrier = Recorder({**residents, "client-2": Deceived()})
    server = remote(simulation, carrier, residents)
    assert_is(server.exchange(broadcast(), 1, 0), 1, NAMES[:2])
    assert "it is for run 'run/" in server.told()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_who_has_learned_what_is_not_finite_is_absent(
    simulation: Any, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Drawn.round

    def spoiled(self: Any, *args: Any) -> Any:
        client, arrays, figures = plain(self, *args)
        if self.client == 2:
            arrays[0][3] = value  # of the bias
        return client, arrays, figures

    monkeypatch.setattr(Drawn, "round", spoiled)
    residents = sites()
    server = remote(simulation, Recorder(residents), residents)
    assert_is(server.exchange(broadcast(), 1, 0), 1, NAMES[:2])
    assert "a number that it would send is not finite" in server.told()


# Answers that are none

BAD: dict[str, Callable[[bytes], bytes]] = {
    "no bytes": lambda data: b"",
    "cut": lambda data: data[:-1],
    "pickle": lambda data: b"\x80\x04\x95\x1d\x00\x00\x00",
    "huge": lambda data: b"+" + bytes(2**22),
    "a sentence": lambda data: b"-\x1b[31mno\x1b[0m<script>",
    "another's name": lambda data: data.replace(b'"sender": "client-2"', b'"sender": "client-0"'),
    "nothing in it": lambda data: answer([b"", b"", b""]),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "phase", ["masked", *(pytest.param(p, marks=pytest.mark.slow) for p in ("keys", "shares", "unmask"))]
)
def test_a_bad_answer_is_none(simulation: Any, phase: str, bad: str) -> None:
    residents = sites()
    honest = residents["client-2"].answer

    class Spoiled:
        def answer(self, now: Any, message: bytes) -> bytes:
            return BAD[bad](honest(now, message)) if now == phase else honest(now, message)

    server = remote(simulation, Recorder({**residents, "client-2": Spoiled()}), residents)
    assert_is(server.exchange(broadcast(), 1, 0), 1, NAMES if phase == "unmask" else NAMES[:2])
    told = server.told()
    assert "client-2" in told
    assert "\x1b" not in told


def test_a_second_answer_does_not_count(simulation: Any) -> None:
    class Twice(Recorder):
        def exchange(self, phase: Any, messages: Any, deadline_s: float) -> Any:
            replies = super().exchange(phase, messages, deadline_s)
            again = [(name, data[:-4] + b"4321") for name, data in replies.arrived if phase == "masked"]
            return dataclasses.replace(replies, arrived=(*replies.arrived, *again))

    residents = sites()
    server = remote(simulation, Twice(residents), residents)
    assert_is(server.exchange(broadcast(), 1, 0), 1)
    assert "answered before, and the first answer counts" in server.told()


# Whom sites believe


def test_a_server_that_lets_nobody_sign_is_not_believed_by_who_knows_better(simulation: Any) -> None:
    residents = sites(signed=True)
    with pytest.raises(QuorumError, match="or does not let them sign"):
        remote(simulation, Recorder(residents), residents, known=None).exchange(broadcast(), 1, 0)
    assert LEARNED == []


def test_a_server_cannot_put_its_own_keys_in_the_place_of_a_clients(simulation: Any) -> None:
    """It makes keys for everybody, of which the sites know nothing, and is all clients but one itself."""
    residents, made_up = sites(signed=True), sites(signed=True)
    mixed = {**made_up, "client-0": residents["client-0"]}
    carrier = Recorder(mixed)
    known = {**known_of(made_up), "client-0": known_of(residents)["client-0"]}
    server = remote(simulation, carrier, residents, known=known, terms=Terms(pause_s=0.0, tries=1, quorum=3))
    with pytest.raises(QuorumError):
        server.exchange(broadcast(), 1, 0)
    said = [data for phase, name, data in carrier.up if phase in ("masked", "unmask") and name == "client-0"]
    assert not [data for data in said if data[:1] == b"+"]


def test_keys_of_other_clients_are_refused_at_once(simulation: Any) -> None:
    known = new_identities(["ann", "bob", "cy"])["ann"].known
    with pytest.raises(ValueError, match=r"identities\.json names ann, bob, cy, but the clients are client-0"):
        remote(simulation, Recorder({}), sites(), known=known)


def test_a_site_that_believes_the_server_says_so(simulation: Any, caplog: pytest.LogCaptureFixture) -> None:
    residents = sites()
    remote(simulation, Recorder(residents), residents).exchange(broadcast(), 1, 0)
    assert "not from one that makes up clients" in caplog.text


# Who dies, and comes back


@pytest.mark.parametrize("signed", [pytest.param(False, marks=pytest.mark.slow), True], ids=["believed", "signed"])
@pytest.mark.parametrize("when", ["after", pytest.param("before", marks=pytest.mark.slow)])
@pytest.mark.parametrize("phase", PHASES)
def test_a_server_that_dies_between_phases_comes_back_to_the_same_round(
    simulation: Any, phase: str, when: str, signed: bool
) -> None:
    residents = sites(signed)
    dying = Recorder(residents, dies=f"{when} {phase}")
    if signed or phase != "agree":
        with pytest.raises(Dies):
            remote(simulation, dying, residents).exchange(broadcast(), 1, 0)
    back = remote(simulation, Recorder(residents), residents)
    assert_is(back.exchange(broadcast(), 1, 0), 1)
    assert_is(back.exchange(broadcast(2), 2, 0), 2)
    assert sorted(LEARNED) == [(client, round_) for client in range(3) for round_ in (1, 2)]


def test_a_sum_that_was_lost_with_its_server_is_done_again_with_the_same_clients(simulation: Any) -> None:
    """Else the server would learn two sums of the same messages, and by their difference one message."""
    residents = sites(signed=True)
    lost = lambda phase, name: phase == "masked" and name == "client-2"  # noqa: E731
    with pytest.raises(Dies):
        remote(simulation, Recorder(residents, lost, "after unmask"), residents).exchange(broadcast(), 1, 0)
    server = remote(simulation, Recorder(residents), residents)
    assert_is(server.exchange(broadcast(), 1, 0), 1, NAMES[:2])
    assert "the sum was begun without it" in server.told()
    assert_is(server.exchange(broadcast(2), 2, 0), 2)


@pytest.mark.parametrize("kept", [False, True], ids=["in memory", "on disk"])
def test_shares_are_shown_for_no_other_clients_whatever_the_server_says(
    simulation: Any, kept: bool, tmp_path: Path
) -> None:
    folder = tmp_path if kept else None
    residents = sites(folder=folder)
    assert_is(remote(simulation, Recorder(residents), residents).exchange(broadcast(), 1, 0), 1)
    if kept:
        residents = sites(folder=folder)  # all were killed since
    fewer = Recorder(residents, lambda phase, name: name == "client-2")
    for run in ("run", "another run"):  # in which the same would be learned
        server = Remote(simulation, fewer, run, terms=Terms(pause_s=0.0, tries=1))
        with pytest.raises(QuorumError, match="for other clients, and shows them for no others"):
            server.exchange(broadcast(), 1, 0)
    assert not [data for phase, _, data in fewer.up if phase == "unmask" and data[:1] == b"+"]


def test_what_began_with_something_else_is_not_learned_once_shares_were_shown(simulation: Any) -> None:
    residents = sites()
    remote(simulation, Recorder(residents), residents).exchange(broadcast(), 1, 0)
    with pytest.raises(QuorumError, match="which began with something else"):
        remote(simulation, Recorder(residents), residents).exchange(broadcast(7), 1, 0)
    assert len(LEARNED) == 3


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "agree"])
def test_a_site_that_is_killed_in_a_sum_is_silent_for_it_and_has_not_forgotten_what_it_learned(
    simulation: Any, phase: str, tmp_path: Path
) -> None:
    residents, killed = sites(folder=tmp_path), list[str]()
    people = {name: SimpleNamespace(answer=lambda *m, name=name: residents[name].answer(*m)) for name in NAMES}

    def lost(now: str, name: str) -> bool:
        if now == phase and name == "client-2" and not killed:
            killed.append(name)
            residents[name] = Resident(name, tmp_path / name)
        return False

    carrier = Recorder(people, lost)
    server = remote(simulation, carrier, residents, terms=Terms(pause_s=0.0, tries=2))
    there = NAMES[:2] if phase in ("shares", "masked") else NAMES
    assert_is(server.exchange(broadcast(), 1, 0), 1, there)
    carrier.lost = lambda now, name: False
    assert_is(server.exchange(broadcast(2), 2, 0), 2)
    assert sorted(LEARNED) == [(client, round_) for client in range(3) for round_ in (1, 2)]


def test_a_site_that_lost_everything_waits_for_the_next_sum(simulation: Any) -> None:
    residents = sites()
    people = {name: SimpleNamespace(answer=lambda *m, name=name: residents[name].answer(*m)) for name in NAMES}
    server = remote(simulation, Recorder(people), residents)
    assert_is(server.exchange(broadcast(), 1, 0), 1)
    residents["client-2"] = Resident("client-2")
    assert_is(server.exchange(broadcast(2), 2, 0), 2, NAMES[:2])
    assert "it waits for the next" in server.told()
    assert_is(server.exchange(broadcast(3), 3, 0), 3)


# Through what Flower starts for a message


@pytest.mark.slow
def test_flowers_carrier_and_messenger_bring_every_phase(
    simulation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but Flower's own processes: its messages, our relay and the sockets of the sites."""
    pytest.importorskip("flwr")
    from flwr.supercore.task_identity import TaskIdentity

    from polyfed.deployment.flower_client import relay
    from polyfed.deployment.flower_server import FlowerCarrier
    from polyfed.deployment.local_socket import listening

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    keys = {name: f"key of {name}".encode() for name in NAMES}

    class Grid:
        sent: dict[str, Any] = {}  # noqa: RUF012

        def get_nodes(self) -> Any:
            return [SimpleNamespace(node_id=1 + n, public_key=keys[name]) for n, name in enumerate(NAMES)]

        def push_messages(self, messages: Any) -> list[str]:
            idents = [str(len(self.sent) + n) for n in range(len(messages))]
            self.sent.update(zip(idents, messages, strict=True))
            return idents

        def pull_messages(self, idents: list[str]) -> list[Any]:
            replies = []
            for ident in idents:
                message = self.sent[ident]
                socket = tmp_path / f"{message.metadata.dst_node_id}.sock"
                content = relay(message, SimpleNamespace(node_config={"socket": str(socket)})).content  # type: ignore[arg-type]
                about = SimpleNamespace(reply_to_message_id=ident)
                replies.append(SimpleNamespace(has_error=lambda: False, metadata=about, content=content))
            return replies

    residents = sites(signed=True)
    server = remote(simulation, FlowerCarrier(Grid(), keys), residents)  # type: ignore[arg-type]
    with contextlib.ExitStack() as stack:
        for n, site in enumerate(residents.values()):
            stack.enter_context(listening(tmp_path / f"{1 + n}.sock", site.answer))  # type: ignore[arg-type]
        assert_is(server.exchange(broadcast(), 1, 0), 1)
    phases = [message.content.config_records["polyfed"]["phase"] for message in Grid.sent.values()]
    assert phases[::3] == ["hello", *PHASES]
