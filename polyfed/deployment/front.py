"""The one port that is open to the outside: what sites need of Flower's server link, and nothing else of it.

Flower serves sites, its own processes and whoever starts runs on one port, and asks the last for no key: who reached
that port could have the server run code of his own. So the server link listens on this machine alone, and this stands
before it: requests of the paths that a SuperNode uses go through, as they are, up to a size; all others are not found.

Bodies are held in memory while they come, before anybody knows from whom: each up to a size, all together up to
another. An answer of a site is one message of three objects; one that announces more is refused before they are sent.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyfed.deployment.signed_app import Signature, with_signature

PATHS = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "register-node",
        "activate-node",
        "deactivate-node",
        "unregister-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
APP, ANSWER = "/v1/fleet/get-fab", "/v1/fleet/push-messages"
MOST_BYTES = 2**28  # of a request
MOST_AT_ONCE = 2**29  # bytes of all requests that are being answered
MOST_OBJECTS = 3  # of an answer: the message, its dictionary, its record
MOST_CONNECTIONS = 1024
GRACE_S = 3  # until requests in flight are dropped at the end
HOP = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"keep-alive", b"upgrade", b"te"})


class Front:
    """An ASGI application that passes on what sites may ask.

    Args:
      inner: The server link, `https://127.0.0.1:PORT`.
      root: The authority that signed its certificate; None: it has none.
      most_bytes: Of a request; longer ones get status 413.
      most_at_once: Bytes of all requests that are being answered; what comes on top gets status 503: try again.
      signature: Of the app, which sites want to see.
    """

    def __init__(
        self,
        inner: str,
        root: Path | None,
        *,
        most_bytes: int = MOST_BYTES,
        most_at_once: int = MOST_AT_ONCE,
        signature: Signature | None = None,
    ):
        import httpx

        verify: Any = ssl.create_default_context(cafile=str(root)) if root else False
        self._client = httpx.AsyncClient(base_url=inner, verify=verify, timeout=600.0, trust_env=False)
        self.most_bytes, self.most_at_once, self.signature = most_bytes, most_at_once, signature
        self._held = 0  # bytes now

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            status, headers, body = await self._answer(scope, receive)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await self._client.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Any, receive: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        import httpx

        if scope["method"] != "POST" or scope["path"] not in PATHS or scope["query_string"]:
            return 404, [], b""
        body = bytearray()
        try:
            status = await self._read(receive, body)
            if status or (scope["path"] == ANSWER and not _is_small(bytes(body))):
                return status or 413, [], b""
            headers = [(name, value) for name, value in scope["headers"] if name.lower() not in HOP]
            try:
                reply = await self._client.post(scope["path"], content=bytes(body), headers=headers)
            except httpx.HTTPError:
                return 502, [], b""
        finally:
            self._held -= len(body)
        kept = [(name.lower(), value) for name, value in reply.headers.raw if name.lower() not in HOP]
        kept = [(name, value) for name, value in kept if name != b"content-encoding"]
        content = reply.content
        if self.signature is not None and scope["path"] == APP and reply.status_code == 200:
            content = with_signature(content, self.signature)
        return reply.status_code, kept, content

    async def _read(self, receive: Any, body: bytearray) -> int:
        """Read a request's body; gives the status with which it is refused, or 0."""
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return 400
            piece = event.get("body", b"")
            if len(body) + len(piece) > self.most_bytes:
                return 413
            if self._held + len(piece) > self.most_at_once:
                return 503
            self._held += len(piece)
            body += piece
            if not event.get("more_body"):
                return 0


def _is_small(body: bytes) -> bool:
    """Whether what a site wants to send is one message of few objects, or something that Flower will refuse itself."""
    from flwr.proto.fleet_pb2 import PushMessagesRequest
    from google.protobuf.message import DecodeError

    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return True
    left, count = list(request.message_object_trees), 0
    while left and count <= MOST_OBJECTS:
        count, left = count + 1, [*left[1:], *left[0].children]
    return len(request.messages_list) <= 1 and count <= MOST_OBJECTS


@contextlib.contextmanager
def open_to(host: str, port: int, inner: str, keys: Path | None, signature: Signature | None = None) -> Iterator[None]:
    """Stand before the server link until the end of the context.

    Args:
      host: Where to listen.
      port: Likewise.
      inner: The server link.
      keys: Folder with `server.pem`, `server.key` and `ca.pem`; None: without TLS.
      signature: Of the app.

    Raises:
      ValueError: The port cannot be had.
    """
    import uvicorn

    tls: Any = {"ssl_certfile": str(keys / "server.pem"), "ssl_keyfile": str(keys / "server.key")} if keys else {}
    front = Front(inner, keys / "ca.pem" if keys else None, signature=signature)
    quiet: Any = {"log_level": "error", "access_log": False, "server_header": False, "ws": "none"}
    quiet |= {"limit_concurrency": MOST_CONNECTIONS, "timeout_graceful_shutdown": GRACE_S}
    server = uvicorn.Server(uvicorn.Config(front, host=host, port=port, **tls, **quiet))
    thread = threading.Thread(target=_run, args=(server,), daemon=True)
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.05)
    if not server.started:
        raise ValueError(f"{host}:{port} cannot be listened on, it may be taken: give another --port or --host.")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=GRACE_S + 5.0)


def _run(server: Any) -> None:
    with contextlib.suppress(SystemExit):
        server.run()
