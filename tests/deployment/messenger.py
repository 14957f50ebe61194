"""Nodes of Flower that start no process per message: `messenger.py ADDRESS CA KEY SOCKET [KEY SOCKET ...]`.

They speak to the server with Flower's own connection, keys and all, and hand messages to whoever listens behind the
socket. What is answered may begin with a mark of a hostile site: it is then sent twice, in other records, as an error,
or as many objects.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, pull_objects
from flwr.supernode.fleet_http_connection import http_request_response

from polyfed.deployment.local_socket import SocketError, call

TWICE, RECORDS, ERROR, MANY = b"!twice", b"!records", b"!error", b"!many"


def replies(data: bytes, to: Message) -> list[Message]:
    """What goes to the server."""
    if data == ERROR:
        return [Message(Error(code=0, reason="\x1b[31mthe app\ncrashed"), reply_to=to)]
    if data.startswith(RECORDS):
        data = data.removeprefix(RECORDS)
        more = {"polyfed": ConfigRecord({"answer": data}), "one more": ConfigRecord({"metric": 1.0})}
        return [Message(RecordDict(more), reply_to=to)]
    if data.startswith(MANY):
        return [Message(RecordDict({str(n): ConfigRecord({"answer": bytes(n)}) for n in range(40)}), reply_to=to)]
    times = 2 if data.startswith(TWICE) else 1
    data = data.removeprefix(TWICE)
    return [Message(RecordDict({"polyfed": ConfigRecord({"answer": data})}), reply_to=to) for _ in range(times)]


def push(message: Message, send: Any, push_object: Any) -> None:
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        wanted, session = send(message, get_object_tree(message), 0.0)
        for ident, found in get_all_nested_objects(message).items():
            if ident in wanted:
                push_object(message.metadata.run_id, session, ident, found.deflate())


def node(address: str, authority: str, key: Path, socket: Path, connected: Callable[[], None] = lambda: None) -> None:
    private: Any = load_ssh_private_key(key.read_bytes(), None)
    with http_request_response(address, False, authority, (private, private.public_key())) as connection:
        _, receive, send, _, _, pull_object, push_object, confirm = connection
        connected()
        while True:
            if (got := receive()) is None:
                time.sleep(0.2)
                continue
            bare, tree = got
            run, ident = bare.metadata.run_id, bare.metadata.message_id
            idents = [each.object_id for each in iterate_object_tree(tree)]
            contents = pull_objects(idents, lambda one, run=run: pull_object(run, one))  # type: ignore[misc]
            confirm(run, ident)
            whole: Any = inflate_object_from_contents(ident, contents)
            record = whole.content.config_records["polyfed"]
            try:
                data = call(socket, str(record["phase"]), record["message"])
            except SocketError as error:
                data = b"-" + str(error).encode()
            for reply in replies(data, bare):
                try:
                    push(reply, send, push_object)
                except Exception as error:  # what the server refuses
                    print(f"{socket.name}: refused: {error}", flush=True)


def main() -> None:
    address, authority, *rest = sys.argv[1:]
    threads = [
        threading.Thread(target=node, args=(address, authority, Path(key), Path(socket)), daemon=True)
        for key, socket in zip(rest[::2], rest[1::2], strict=True)
    ]
    for thread in threads:
        thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
