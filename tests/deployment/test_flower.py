"""Flower as a carrier, and its processes: what needs none of them first, the whole over TLS last."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, Message, RecordDict

from polyfed.deployment import flower_server, keys
from polyfed.deployment.flower_server import FlowerCarrier, wait_for
from polyfed.errors import QuorumError
from polyfed.experiment import Experiment


@pytest.fixture(autouse=True)
def a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages in its own processes alone, which know what they are."""
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


KEYS = {"ann": b"key of ann\n", "bob": b"key of bob\n"}


class Grid:
    """Nodes 1, 2, 3, with the keys of Ann, of Bob and of nobody; `says(node, phase, data)` answers, None is silence."""

    def __init__(self, says: Callable[[int, str, bytes], Any]):
        self.says, self.sent = says, {}

    def get_nodes(self) -> Any:
        found = {1: b"key of ann", 2: b"key of bob", 3: b"key of eve"}
        return [SimpleNamespace(node_id=node, public_key=key) for node, key in found.items()]

    def push_messages(self, messages: list[Message]) -> list[str]:
        for message in messages:
            assert message.metadata.message_type == "query"
            self.sent[str(len(self.sent))] = message
        return list(self.sent)[-len(messages) :]

    def pull_messages(self, idents: list[str]) -> list[Any]:
        replies = []
        for ident in idents:
            message = self.sent[ident]
            record = message.content.config_records["polyfed"]
            said = self.says(message.metadata.dst_node_id, record["phase"], record["message"])
            if said is None:
                continue
            reply: Any = SimpleNamespace(has_error=lambda: False, metadata=SimpleNamespace(reply_to_message_id=ident))
            if isinstance(said, bytes):
                said = RecordDict({"polyfed": ConfigRecord({"answer": said})})
            if isinstance(said, str):
                reply.has_error, reply.error = lambda: True, SimpleNamespace(reason=said)
            else:
                reply.content = said
            replies.append(reply)
        return replies


def test_clients_are_who_their_keys_say_and_answers_come_from_them() -> None:
    carrier = FlowerCarrier(Grid(lambda node, phase, data: b"%d %s " % (node, phase.encode()) + data), KEYS)
    assert carrier.clients() == ("ann", "bob")
    replies = carrier.exchange("round", {"ann": b"to ann", "bob": b"to bob", "eve": b"to eve"}, 5.0)
    assert replies.arrived == (("ann", b"1 round to ann"), ("bob", b"2 round to bob"))
    assert replies.failed == {"eve": "its site is not connected"}


def test_who_fails_or_is_silent_is_told_and_the_deadline_holds() -> None:
    carrier = FlowerCarrier(Grid(lambda node, phase, data: "the app\ncrashed" if node == 1 else None), KEYS)
    began = time.monotonic()
    replies = carrier.exchange("round", {"ann": b"", "bob": b""}, 0.3)
    assert time.monotonic() - began < 3.0
    assert replies.arrived == ()
    assert replies.failed == {"ann": "its site failed: the app crashed"}


@pytest.mark.parametrize(
    "record",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"answer": b"x"})}),
        RecordDict({"polyfed": ConfigRecord({"answer": "text"})}),
        RecordDict({"polyfed": ConfigRecord({})}),
        RecordDict({"polyfed": ConfigRecord({"answer": b"x"}), "one more": ConfigRecord({"metric": 1.0})}),
    ],
)
def test_a_reply_of_another_form_is_no_bytes(record: RecordDict) -> None:
    carrier = FlowerCarrier(Grid(lambda node, phase, data: record), KEYS)
    assert carrier.exchange("round", {"ann": b""}, 1.0).arrived == (("ann", b""),)


def test_without_keys_nodes_are_who_they_say_and_one_that_has_no_name_is_nobody() -> None:
    from polyfed.deployment.answer import answer

    names = {1: b"ann", 2: b"<script>", 3: b"bob"}
    carrier = FlowerCarrier(Grid(lambda node, phase, data: answer([names[node]])), {})
    assert carrier.clients() == ("ann", "bob")


def test_the_server_waits_for_its_sites_and_then_says_who_did_not_come() -> None:
    carrier = FlowerCarrier(Grid(lambda *_: b""), KEYS)
    wait_for(carrier, ("ann", "bob"), quorum=2, patience_s=0.0)
    wait_for(carrier, ("ann", "bob", "cid"), quorum=2, patience_s=0.0)
    with pytest.raises(QuorumError, match="cid did not come"):
        wait_for(carrier, ("ann", "bob", "cid"), quorum=3, patience_s=0.0)


def test_how_a_run_ended_is_left_for_the_command() -> None:
    def fail(error: Exception) -> Any:
        def work() -> str:
            raise error

        return flower_server._outcome(work)

    assert flower_server._outcome(lambda: "digest") == {"code": 0, "sentence": "", "audit": "digest"}
    assert fail(QuorumError("too few")) == {"code": 3, "sentence": "too few"}
    assert fail(ValueError("no"))["code"] == 2
    assert fail(RuntimeError("a\nfault"))["sentence"] == "a fault"


def test_what_flower_starts_for_a_message_does_not_load_jax(tmp_path: Path) -> None:
    code = "import sys, polyfed.deployment.flower_client; print('jax' in sys.modules, 'equinox' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert found.stdout.split() == ["False", "False"]


def test_the_messenger_hands_over_and_says_where_nobody_lives(tmp_path: Path) -> None:
    from polyfed.deployment.flower_client import relay
    from polyfed.deployment.local_socket import listening

    content = RecordDict({"polyfed": ConfigRecord({"phase": "round", "message": b"abc"})})
    message = Message(content, dst_node_id=1, message_type="query")
    context: Any = SimpleNamespace(node_config={"socket": str(tmp_path / "agent.sock")})
    with listening(tmp_path / "agent.sock", lambda phase, data: phase.encode() + data):
        assert relay(message, context).content.config_records["polyfed"]["answer"] == b"roundabc"
    assert bytes(relay(message, context).content.config_records["polyfed"]["answer"]).startswith(b"-nobody answers")


# The whole, over TLS


FIELDS = ["--num-rounds", "2", "--evaluation.every", "2"]


def started(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "polyfed", *words], stdout=file, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, tiny_file: Callable[..., Path]) -> Any:
    """A server and three sites with their keys; what became of them."""
    return deployed(tmp_path_factory.mktemp("fleet"), str(tiny_file()))


def deployed(folder: Path, experiment: str) -> tuple[Path, list[int]]:
    from polyfed.deployment.processes import free_port

    port = free_port()
    names = ["client-0", "client-1", "client-2"]
    keys.make(folder / "keys", names, ["127.0.0.1"])
    words = ["--keys", str(folder / "keys"), "--port", str(port), "--host", "127.0.0.1", "--out", str(folder / "runs")]
    server = started(["serve", experiment, *FIELDS, *words, "--no-report"], folder / "server.log")

    def site(name: str, key: Path, tries: int) -> subprocess.Popen[bytes]:
        own = ["--name", name, "--keys", str(key), "--site", str(folder / key.name), "--tries", str(tries)]
        return started(["join", "--server", f"127.0.0.1:{port}", *own], folder / f"{key.name}.log")

    processes = [server, *(site(name, folder / "keys" / name, 8) for name in names)]
    try:
        codes = [process.wait(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return folder, codes


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.timeout(1000)
def test_three_sites_over_tls_give_the_weights_and_scores_of_the_simulation(
    fleet: Any, tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    from polyfed.deployment.audit import verify
    from polyfed.runs import run

    folder, codes = fleet
    assert codes == [0, 0, 0, 0], (folder / "server.log").read_text()
    (served,) = folder.glob("runs/tiny/*")
    experiment = tiny(num_rounds=2, evaluation=dataclasses.replace(tiny().evaluation, every=2))
    simulated = run.create(tmp_path, experiment, (0,))
    run.go_on(simulated, lambda progress: None)
    for name in ("evaluation.jsonl", "weights/seed-0/global.safetensors"):
        assert (served / "arms/fedavg" / name).read_bytes() == (simulated / "arms/fedavg" / name).read_bytes()
    lines = [json.loads(line) for line in (served / "audit.jsonl").read_text().splitlines()]
    assert sum(line["what"] == "accepted" for line in lines) == 6
    assert verify(served / "audit.jsonl")[0] == len(lines)


@pytest.mark.slow
@pytest.mark.bits
@pytest.mark.timeout(1000)
def test_three_sites_sum_securely_over_tls_to_the_weights_of_the_simulation(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path: Path
) -> None:
    from polyfed.aggregation import WeightedMean
    from polyfed.exchange import SecureSum
    from polyfed.runs import run

    judged = dataclasses.replace(tiny().evaluation, every=2, own=False)
    secret = tiny(num_rounds=2, transforms=(SecureSum(),), rule=WeightedMean(), evaluation=judged)
    folder, codes = deployed(tmp_path, str(tiny_file(secret)))
    assert codes == [0, 0, 0, 0], (folder / "server.log").read_text()
    (served,) = folder.glob("runs/tiny/*")
    simulated = run.create(tmp_path / "simulated", secret, (0,))
    run.go_on(simulated, lambda progress: None)
    (arm,) = [path.name for path in (served / "arms").iterdir()]
    for name in ("evaluation.jsonl", "weights/seed-0/global.safetensors"):
        assert (served / "arms" / arm / name).read_bytes() == (simulated / "arms" / arm / name).read_bytes()
    lines = [json.loads(line) for line in (served / "audit.jsonl").read_text().splitlines()]
    assert [line["why"] for line in lines if line["what"] == "began"][-1] == "secure sums, signed"
    assert [line["phase"] for line in lines if line["what"] == "accepted"][::3] == 2 * [
        "keys", "shares", "masked", "agree", "unmask",
    ]  # fmt: skip
    assert sum(line["what"] == "summed" for line in lines) == 2
