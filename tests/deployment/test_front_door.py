"""The one open port: what sites need goes through, nothing else does, and no sender fills the memory."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from polyfed.deployment.front import ANSWER, MOST_OBJECTS, PATHS, Front, _is_small
from polyfed.deployment.processes import free_port, wait_for_port


async def asked(path: str, method: str = "POST", body: bytes = b"", query: bytes = b"") -> tuple[int, list[str]]:
    """What comes of a request to the front, and what went on to the server link."""
    import httpx

    passed = []

    def inner(request: httpx.Request) -> httpx.Response:
        passed.append(f"{request.url.path} {request.headers.get('x-signature')} {request.content.decode()}")
        return httpx.Response(200, content=b"whole", headers={"content-type": "application/protobuf"})

    front = Front("http://inner", None, most_bytes=10)
    front._client = httpx.AsyncClient(base_url="http://inner", transport=httpx.MockTransport(inner))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(event: Any) -> None:
        sent.append(event)

    headers = [(b"x-signature", b"abc"), (b"host", b"outside")]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
    await front(scope, receive, send)
    return sent[0]["status"], passed


def test_what_sites_need_goes_through_as_it_is() -> None:
    path = "/v1/fleet/pull-messages"
    assert asyncio.run(asked(path, body=b"0123456789")) == (200, [f"{path} abc 0123456789"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/push-messages",
        "/docs",
        "/",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/pull-messages/",
        "/V1/FLEET/PULL-MESSAGES",
        "//v1/control/start-run",
    ],
)
def test_nothing_else_of_the_server_link_is_reached_from_outside(path: str) -> None:
    assert asyncio.run(asked(path)) == (404, [])


def test_neither_are_other_methods_nor_what_is_too_long() -> None:
    path = "/v1/fleet/pull-messages"
    assert asyncio.run(asked(path, method="GET")) == (404, [])
    assert asyncio.run(asked(path, query=b"a=1")) == (404, [])
    assert asyncio.run(asked(path, body=bytes(11))) == (413, [])


def test_the_paths_are_those_of_flowers_sites() -> None:
    """A new version of Flower that asks for another path is noticed here."""
    import flwr

    text = Path(flwr.__file__).with_name("superlink").joinpath("routers", "fleet", "router.py").read_text()
    assert {f"/v1/fleet{path}" for path in re.findall(r'@router.post[(]"(/[a-z-]+)"', text)} == PATHS


# Answers


def announced(*children: Any, messages: int = 1) -> bytes:
    """What a site says before it sends an answer: a tree of its objects."""
    from flwr.proto.fleet_pb2 import PushMessagesRequest
    from flwr.proto.message_pb2 import Message as Wire
    from flwr.proto.message_pb2 import ObjectTree

    tree = ObjectTree(object_id="message", children=children)
    return PushMessagesRequest(messages_list=[Wire()] * messages, message_object_trees=[tree]).SerializeToString()


def tree_of(*children: Any) -> Any:
    from flwr.proto.message_pb2 import ObjectTree

    return ObjectTree(object_id="object", children=children)


def test_an_answer_of_ours_has_as_many_objects_as_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.app import ConfigRecord, Message, RecordDict
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    content = RecordDict({"polyfed": ConfigRecord({"answer": bytes(10**6)})})
    message = Message(content, dst_node_id=1, message_type="query")
    assert len(get_all_nested_objects(message)) <= MOST_OBJECTS


def test_answers_of_many_objects_or_many_messages_are_refused_before_they_are_sent() -> None:
    assert _is_small(announced(tree_of(tree_of())))
    assert not _is_small(announced(*[tree_of()] * 40))
    assert not _is_small(announced(tree_of(tree_of(tree_of(tree_of())))))
    assert not _is_small(announced(messages=2))
    assert _is_small(b"\xff no message at all, which Flower refuses")
    assert asyncio.run(asked(ANSWER, body=b"")) == (200, [f"{ANSWER} abc "])


# Memory

SERVER = """
import sys, time
from polyfed.deployment.front import open_to
with open_to("127.0.0.1", int(sys.argv[1]), "http://127.0.0.1:1", None):
    time.sleep(600)
"""
MIB = 2**20


def peak(process: subprocess.Popen[bytes]) -> float:
    """The most memory that a process has had, in MiB."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 1024  # type: ignore[index]


def pours(port: int, mebibytes: int, head: bytes, framed: bool = False) -> int:
    """Send a request of so many MiB, and never its end; how many went before the server hung up."""
    piece = bytes(MIB)
    block = b"%x\r\n%s\r\n" % (len(piece), piece) if framed else piece
    with socket.create_connection(("127.0.0.1", port), 60.0) as caller:
        caller.sendall(b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
        for sent in range(mebibytes):
            try:
                caller.sendall(block)
            except OSError:
                return sent
        caller.shutdown(socket.SHUT_WR)
        while caller.recv(2**16):
            pass
    return mebibytes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_gigabytes_from_strangers_do_not_fill_the_servers_memory() -> None:
    """Peaks above an idle front, in MiB: one body that never ends; bodies that come together."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)])
    try:
        assert wait_for_port("127.0.0.1", port, process)
        time.sleep(0.5)
        idle = peak(process)
        pours(port, 2048, b"Transfer-Encoding: chunked\r\n", framed=True)
        one = peak(process) - idle
        assert one < 2.5 * 256, "a body is held up to a size, and no further"
        length = b"Content-Length: %d\r\n" % (200 * MIB)
        threads = [threading.Thread(target=pours, args=(port, 190, length)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=240.0)
        many = peak(process) - idle
        print(f"peak above idle ({idle:.0f} MiB): {one:.0f} MiB for one of 2 GiB, {many:.0f} MiB for 16 of 190 MiB")
        assert many < 2.5 * 512, "all together are held up to a size"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_bodies_that_come_together_are_held_up_to_a_size_and_the_next_is_tried_again() -> None:
    front = Front("http://127.0.0.1:1", None, most_bytes=100, most_at_once=150)
    gate = asyncio.Event()

    async def ask(pieces: list[bytes], wait: bool) -> int:
        async def receive() -> Any:
            if wait and len(pieces) == 1:
                await gate.wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        scope = {"type": "http", "method": "POST", "path": "/v1/fleet/push-object", "query_string": b"", "headers": []}
        return (await front._answer(scope, receive))[0]

    async def play() -> list[int]:
        slow = asyncio.create_task(ask([bytes(90), b""], wait=True))
        await asyncio.sleep(0.01)
        found = [await ask([bytes(90)], wait=False), await ask([bytes(50), bytes(51)], wait=False)]
        gate.set()
        return [*found, await slow, await ask([bytes(90)], wait=False)]

    assert asyncio.run(play()) == [503, 413, 502, 502]
    assert front._held == 0
