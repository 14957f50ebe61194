"""A deployment through sites in this process: the simulation's own numbers, whoever dies on the way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from polyfed.aggregation import WeightedMean
from polyfed.deployment import deploy
from polyfed.deployment.audit import verify
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.member import Member, identity
from polyfed.deployment.remote import Remote
from polyfed.deployment.resident import Greeting, Resident
from polyfed.deployment.terms import Terms
from polyfed.exchange import (
    CentralNoise,
    ClipNorm,
    HalfPrecision,
    Int8,
    LoseMessages,
    PartialParameters,
    PartialWork,
    SecureSum,
    TopK,
)
from polyfed.exchange.placement import num_at_site
from polyfed.exchange.wire import Envelope, Manifest, pack, unpack
from polyfed.experiment import Evaluation, Experiment
from polyfed.record import to_data
from polyfed.runs import run
from polyfed.runs.store import load_run
from polyfed.simulation.simulate import Simulation

NAMES = ("client-0", "client-1", "client-2")


def sites(folder: Path | None = None) -> dict[str, Resident]:
    return {name: Resident(name, None if folder is None else folder / name) for name in NAMES}


def deployed(experiment: Experiment, residents: dict[str, Any], **how: Any) -> Simulation:
    carrier = Loopback({name: resident.answer for name, resident in residents.items()})
    terms = Terms(pause_s=0.0)
    return Simulation(experiment, (0,), afar=lambda simulation: Remote(simulation, carrier, "run", terms=terms, **how))


def rounds(simulation: Simulation, *blocks: int) -> tuple[Any, list[dict[str, np.ndarray]], list[np.ndarray]]:
    federation, metrics, returns = simulation.init(), [], []
    returns.append(simulation.evaluate(federation))
    for block in blocks:
        federation, found = simulation.advance(federation, block)
        metrics.append(found)
        returns.append(simulation.evaluate(federation))
    return jax.tree.map(np.asarray, federation.server), metrics, returns


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def simulated(tiny: Callable[..., Experiment]) -> Any:
    return rounds(Simulation(tiny(), (0,)), 2, 1)


@pytest.mark.bits
def test_a_deployment_gives_the_weights_the_figures_and_the_scores_of_the_simulation(
    tiny: Callable[..., Experiment], simulated: Any
) -> None:
    server, metrics, returns = rounds(deployed(tiny(), sites()), 2, 1)
    assert_same(server, simulated[0])
    assert_same(returns, simulated[2])
    for found, expected in zip(metrics, simulated[1], strict=True):
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, name)
            assert found[name].dtype == value.dtype
        assert {*found} - {*expected} == {"refused", "wire_up", "wire_down"}


@pytest.mark.bits
@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"transforms": (CentralNoise(max_norm=0.5, noise_multiplier=1.0),)},
        {"transforms": (Int8(), ClipNorm(0.5))},
        {"transforms": (TopK(0.1), HalfPrecision(), CentralNoise(max_norm=0.5, noise_multiplier=1.0))},
        {"transforms": (PartialWork(0.5), TopK(0.1), Int8(), LoseMessages(0.3))},
        {"payload": PartialParameters()},
        {
            "transforms": (SecureSum(),),
            "rule": WeightedMean(),
            "evaluation": Evaluation(every=2, episodes=2, own=False),
        },
        {
            "transforms": (ClipNorm(0.5), SecureSum()),
            "rule": WeightedMean(),
            "evaluation": Evaluation(every=2, episodes=2, own=False),
        },
    ],
    ids=[
        "noise",
        "compressed",
        "a tenth in half precision",
        "a tenth in int8, some lost",
        "heads at home",
        "a secure sum",
        "a secure sum of what was clipped",
    ],
)
def test_what_happens_to_messages_is_that_of_the_simulation(
    tiny: Callable[..., Experiment], changes: dict[str, Any]
) -> None:
    experiment = tiny(num_rounds=3, **changes)
    simulated, remote = rounds(Simulation(experiment, (0,)), 2, 1), rounds(deployed(experiment, sites()), 2, 1)
    assert_same(remote[0].broadcast, simulated[0].broadcast)
    assert_same(remote[2], simulated[2])
    for found, expected in zip(remote[1], simulated[1], strict=True):
        np.testing.assert_array_equal(found["weight"], expected["weight"])
        np.testing.assert_array_equal(found["bytes_up"], expected["bytes_up"])
        if num_at_site(experiment.transforms):  # what was sent is what was declared, and a header and figures
            beside = found["wire_up"] - found["bytes_up"]
            assert np.all((beside > 0) & (beside < 2500)), beside


@pytest.fixture(scope="module")
def one(tiny: Callable[..., Experiment]) -> Any:
    """A site that was greeted and has done two rounds; the greeting, the messages and its answers."""
    experiment, site = tiny(), Resident("client-1")
    greeting = Greeting(to_data(experiment), identity(experiment, 0), 0, "run", 1, "client-1")
    assert site.answer("hello", greeting.pack())[:1] == b"+"
    member = site.member
    assert member is not None
    envelope = Envelope(greeting.digest, "run", 1, "server")
    form, leaves = member.payload_form, [x + np.float32(0.1) for x in jax.tree.leaves(member.form)]
    messages = [pack(dataclasses.replace(envelope, round=n), form, leaves) for n in (1, 2)]
    return site, greeting, messages, [site.answer("round", message) for message in messages]


def test_what_is_asked_again_is_answered_again_and_not_learned_twice(one: Any) -> None:
    site, _, messages, answers = one
    assert answers[1][:1] == b"+"
    assert site.answer("round", messages[1]) == answers[1]
    assert site.answer("round", messages[1]) == answers[1]


def test_what_is_asked_after_the_site_has_gone_on_is_answered_with_a_sentence(one: Any) -> None:
    site, _, messages, _ = one
    answer = site.answer("round", messages[0])
    assert answer.startswith(b"-")
    assert b"has gone on to exchange 2" in answer


def test_where_the_server_went_back_and_sends_something_else_the_site_learns_from_that(one: Any) -> None:
    site, _, messages, answers = one
    changed = messages[1][:-4] + np.float32(0.5).tobytes()
    other = site.answer("round", changed)
    assert other[:1] == b"+"
    assert other != answers[1]
    assert site.answer("round", messages[1]) == answers[1]  # and back again: it begins where it was before


def test_a_message_of_another_run_is_that_of_a_stranger(one: Any) -> None:
    site, _, messages, _ = one
    assert site.answer("round", messages[1].replace(b'"run": "run"', b'"run": "old"')) == b"?"


@pytest.mark.parametrize(
    ("phase", "message", "said"),
    [
        ("hello", b"{}", b"no greeting"),
        ("hello", b"\xff", b"no greeting"),
        ("hello", b"[" * 100_000, b"no greeting"),
        ("round", b"", b"no message of polyfed"),
        ("train", b"", b"knows no phase"),
    ],
)
def test_a_site_answers_nonsense_with_a_sentence(one: Any, phase: Any, message: bytes, said: bytes) -> None:
    answer = one[0].answer(phase, message)
    assert answer.startswith(b"-")
    assert said in answer


def changed_greeting(one: Any, **changes: Any) -> bytes:
    return json.dumps({**dataclasses.asdict(one[1]), **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "0.0.9"}, b"the server has 0.0.9"),
        ({"digest": "f" * 64}, b"the server has ffffffffffffffff"),
        ({"name": "client-0"}, b"takes it for 'client-0'"),
        ({"client": 7}, b"none is number 7"),
        ({"client": "7"}, b"no greeting"),
        ({"experiment": {"part": "os.system"}}, b"not a part of polyfed"),
        ({"experiment": 3}, b"no experiment"),
    ],
)
def test_a_site_takes_part_in_the_experiment_that_it_knows_alone(
    one: Any, tiny: Callable[..., Experiment], changes: dict[str, Any], said: bytes
) -> None:
    answer = Resident("client-1").answer("hello", changed_greeting(one, **changes))
    assert answer.startswith(b"-")
    assert said in answer


def test_a_site_that_names_its_experiment_refuses_another_with_both_digests(
    one: Any, tiny: Callable[..., Experiment]
) -> None:
    answer = Resident("client-1", experiment=tiny(local_steps=40)).answer("hello", changed_greeting(one))
    assert answer.startswith(b"-")
    assert json.loads(changed_greeting(one))["digest"][:16].encode() in answer


# Hostile and broken sites: every row of the table of what other servers were ended by


def spoiled(resident: Resident, change: Callable[[bytes], bytes], from_round: int = 1) -> Any:
    """A site whose answers to rounds are changed on the way."""

    class Spoiled:
        def answer(self, phase: Any, message: bytes) -> bytes:
            answer = resident.answer(phase, message)
            return change(answer) if phase == "round" and answer[:1] == b"+" else answer

    return Spoiled()


def weights_changed(how: Callable[[dict[str, Any], list[bytes]], Any]) -> Callable[[bytes], bytes]:
    """Change header or arrays of the message with the weights, as somebody would who knows the format."""
    import struct

    from polyfed.deployment.answer import answer, opened

    def change(data: bytes) -> bytes:
        weights, figures = opened(data, 2)
        (length,) = struct.unpack_from("<I", weights, 8)
        header, numbers = json.loads(weights[12 : 12 + length]), weights[12 + length :]
        header, numbers = how(header, numbers)
        text = json.dumps(header).encode()
        return answer([weights[:8] + struct.pack("<I", len(text)) + text + numbers, figures])

    return change


def first_number(value: float) -> Any:
    return lambda header, numbers: (header, np.float32(value).tobytes() + numbers[4:])


def first_form(**changes: Any) -> Any:
    def how(header: Any, numbers: bytes) -> Any:
        name, kind, shape = header["arrays"][0]
        header["arrays"][0] = [changes.get("name", name), changes.get("kind", kind), changes.get("shape", shape)]
        return header, numbers

    return how


def one_more(value: float) -> Any:
    def how(header: Any, numbers: bytes) -> Any:
        header["arrays"].append(["num_examples", "float32", []])
        return header, numbers + np.float32(value).tobytes()

    return how


BAD: dict[str, tuple[Callable[[bytes], Any], str]] = {
    "NaN": (weights_changed(first_number(np.nan)), "not-finite"),
    "Inf": (weights_changed(first_number(np.inf)), "not-finite"),
    "1e30": (weights_changed(first_number(1e30)), "too-far"),
    "shape (1,)": (weights_changed(first_form(shape=[1])), "schema"),
    "shape (2, 4)": (weights_changed(first_form(shape=[2, 4])), "schema"),
    "complex": (weights_changed(first_form(kind="complex64")), "schema"),
    "float64": (weights_changed(first_form(kind="float64")), "schema"),
    "int64": (weights_changed(first_form(kind="int64")), "schema"),
    "missing key": (weights_changed(lambda h, n: ({**h, "arrays": h["arrays"][1:]}, n)), "schema"),
    "one extra metric": (weights_changed(one_more(1.0)), "schema"),
    "num-examples 1e12": (weights_changed(one_more(1e12)), "schema"),
    "num-examples -15": (weights_changed(one_more(-15.0)), "schema"),
    "num-examples NaN": (weights_changed(one_more(np.nan)), "schema"),
    "another's name": (weights_changed(lambda h, n: ({**h, "sender": "client-0"}, n)), "unknown-client"),
    "another round": (weights_changed(lambda h, n: ({**h, "round": 99}, n)), "other-round"),
    "another run": (weights_changed(lambda h, n: ({**h, "run": "before"}, n)), "other-run"),
    "no bytes": (lambda data: b"", "unreadable"),
    "cut": (lambda data: data[:-1], "unreadable"),
    "longer": (lambda data: data + b"0", "unreadable"),
    "huge": (lambda data: b"+" + bytes(2**22), "too-large"),
    "pickle": (lambda data: b"\x80\x04\x95\x1d\x00\x00\x00", "unreadable"),
    "a sentence with colours": (lambda data: b"-\x1b[31mno\x1b[0m<script>", "late"),
}


class Twice(Loopback):
    """One site answers twice."""

    def exchange(self, phase: Any, messages: Any, deadline_s: float) -> Any:
        replies = super().exchange(phase, messages, deadline_s)
        again = [pair for pair in replies.arrived if pair[0] == "client-2" and phase == "round"]
        return dataclasses.replace(replies, arrived=(*replies.arrived, *again))


@pytest.fixture(scope="module")
def replayed(tiny: Callable[..., Experiment]) -> Callable[..., Any]:
    """A round in which nothing is learned: sites answer what they were sent, and a little more; `replayed(change)`."""
    from polyfed.deployment.answer import answer

    experiment = tiny()
    simulation = Simulation(experiment, (0,), afar=lambda s: Remote(s, Loopback({}), "run"))
    broadcast = jax.device_get(simulation.init().server.broadcast)
    form, figures = Manifest.of(jax.tree.map(lambda x: x[0], broadcast)), Member(experiment, 0, 0).metrics_form
    zeros = [np.zeros(array.shape, array.kind) for array in figures.arrays]

    class Known:
        def __init__(self, name: str, change: Callable[[bytes], bytes] | None = None):
            self.name, self.change = name, change

        def answer(self, phase: Any, message: bytes) -> bytes:
            if phase == "hello":
                return answer([b'{"done": 0}'])
            envelope, arrays = unpack(message, form)
            own, draw = dataclasses.replace(envelope, sender=self.name), np.random.default_rng(NAMES.index(self.name))
            leaves = [x + draw.normal(0.0, 0.01, x.shape).astype(np.float32) for x in arrays.values()]
            data = answer([pack(own, form, leaves), pack(own, figures, zeros)])
            return self.change(data) if self.change else data

    def play(change: Any, kind: type = Loopback, **how: Any) -> Any:
        people = {name: Known(name, change if name == "client-2" else None) for name in NAMES}
        remote = Remote(simulation, kind({n: p.answer for n, p in people.items()}), "run", **how)
        payload, came, metrics = remote.exchange(broadcast, 1, 0)
        return payload, came[0].tolist(), metrics, remote.told()

    return play


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_answer_is_that_of_nobody_and_the_round_goes_on(replayed: Any, bad: str, tmp_path: Path) -> None:
    from polyfed.deployment.audit import Audit

    change, code = BAD[bad]
    payload, came, metrics, told = replayed(change, audit=Audit(tmp_path / "audit.jsonl"))
    absent, _, _, _ = replayed(lambda data: b"-it is away")
    assert came == [True, True, False]
    assert_same(jax.tree.map(lambda x: x[:, :2], payload), jax.tree.map(lambda x: x[:, :2], absent))
    assert metrics["refused"][0].tolist() == [0, 0, 1]
    assert "client-2" in told
    assert "\x1b" not in told
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    found = [line for line in lines if line["client"] == "client-2" and line["phase"] == "round"]
    assert (found[-1]["what"] in ("refused", "absent"), found[-1]["code"]) == (True, code)
    verify(tmp_path / "audit.jsonl")


def test_figures_that_are_no_figures_are_left_out_and_the_weights_count(replayed: Any) -> None:
    from polyfed.deployment.answer import answer, opened

    _, came, metrics, told = replayed(lambda data: answer([opened(data, 2)[0], b"polyfed"]))
    assert came == [True, True, True]
    assert np.isnan(metrics["loss"][0, 2])
    assert "figures of 'client-2' are left out" in told


def test_a_second_answer_does_not_count(replayed: Any) -> None:
    _, came, metrics, told = replayed(None, kind=Twice)
    assert came == [True, True, True]
    assert metrics["refused"][0].tolist() == [0, 0, 1]
    assert "sent before" in told


def test_where_nobody_is_let_in_the_run_ends_with_a_sentence(replayed: Any) -> None:
    from polyfed.errors import QuorumError

    with pytest.raises(QuorumError, match="Only 2 of 3 clients"):
        replayed(lambda data: b"-no", terms=Terms(quorum=3, pause_s=0.0))
    assert QuorumError.exit_code == 3


# Who dies, and comes back


class Dies(Exception):
    pass


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.parametrize(
    ("after", "transforms"),
    [("round 2", ()), ("evaluate 1", ()), ("round 4", ()), ("round 4", (TopK(0.1), Int8()))],
    ids=["round 2", "evaluate 1", "round 4", "round 4 of compressed messages"],
)
def test_a_server_that_dies_and_a_site_that_is_killed_come_back_to_the_same_bits(
    tiny: Callable[..., Experiment], tmp_path: Path, after: str, transforms: Any
) -> None:
    experiment = tiny(transforms=transforms)
    whole = deploy.create(tmp_path / "whole", experiment, 0)
    deploy.go_on(whole, Loopback({n: s.answer for n, s in sites().items()}), lambda p: None)

    cut, phase, seen = deploy.create(tmp_path / "cut", experiment, 0), after.split()[0], []
    residents = sites(tmp_path / "sites")

    class Deadly(Loopback):
        def exchange(self, now: Any, messages: Any, deadline_s: float) -> Any:
            replies = super().exchange(now, messages, deadline_s)
            seen.append(now)
            if f"{phase} {seen.count(phase)}" == after and now == phase:
                raise Dies
            return replies

    with pytest.raises(Dies):
        deploy.go_on(cut, Deadly({n: s.answer for n, s in residents.items()}), lambda p: None)
    residents["client-1"] = Resident("client-1", tmp_path / "sites" / "client-1")  # killed too
    last = deploy.go_on(cut, Loopback({n: s.answer for n, s in residents.items()}), lambda p: None)
    assert verify(cut / "audit.jsonl", last)

    for name in ("evaluation.jsonl", "weights/seed-0/global.safetensors"):
        assert (cut / "arms/fedavg" / name).read_bytes() == (whole / "arms/fedavg" / name).read_bytes()
    simulated = run.create(tmp_path / "simulated", dataclasses.replace(experiment, compare=()), (0,))
    run.go_on(simulated, lambda p: None)
    ours, theirs = load_run(cut).arms["fedavg"], load_run(simulated).arms["fedavg"]
    np.testing.assert_array_equal(ours.returns, theirs.returns)
    for name, value in theirs.metrics.items():
        np.testing.assert_array_equal(ours.metrics[name], value, name)
    path = "arms/fedavg/weights/seed-0/global.safetensors"
    assert (cut / path).read_bytes() == (simulated / path).read_bytes()


@pytest.mark.slow
def test_a_site_that_was_started_anew_says_so_and_begins_with_what_is_sent(tiny: Callable[..., Experiment]) -> None:
    residents = sites()
    people = {name: (lambda phase, message, name=name: residents[name].answer(phase, message)) for name in NAMES}
    simulation = Simulation(tiny(), (0,), afar=lambda s: Remote(s, Loopback(people), "run", terms=Terms(pause_s=0.0)))
    federation, _ = simulation.advance(simulation.init(), 2)
    residents["client-1"] = Resident("client-1")
    assert np.isnan(simulation.evaluate(federation)[0, 2]).all()  # it has no policy yet
    federation, metrics = simulation.advance(federation, 1)
    assert "'client-1' was started anew" in simulation.told()
    assert metrics["weight"][0, 0].tolist() == [1.0, 1.0, 1.0]
    assert np.isfinite(simulation.evaluate(federation)).all()


def test_who_is_silent_when_greeted_does_not_take_the_time_of_the_others(replayed: Any) -> None:
    import time

    class Silent(Loopback):
        """One site does not answer to a greeting, and the server waits for it as long as it may."""

        def exchange(self, phase: Any, messages: Any, deadline_s: float) -> Any:
            waits = phase == "hello" and "client-2" in messages
            if waits:
                time.sleep(deadline_s)
            others = {name: message for name, message in messages.items() if name != "client-2"}
            replies = super().exchange(phase, others, deadline_s + waits)
            return replies if deadline_s > 0.1 else dataclasses.replace(replies, arrived=())

    _, came, _, told = replayed(None, kind=Silent, terms=Terms(deadline_s=0.6, pause_s=0.0, tries=1))
    assert came == [True, True, False]
    assert "'client-2' is absent from round 1: it did not answer" in told
