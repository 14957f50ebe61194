"""A socket on one machine between what Flower starts for a message and the agent that lives there.

It lies in a folder of its owner alone, and asks the system who calls. A message is its length (8 bytes, little-endian)
and its bytes; lengths above a bound are refused before anything is read. JAX is not needed here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

MOST_BYTES = 2**28  # of a message
LONGEST_PATH = 100  # characters that systems allow for a socket
HEAD = struct.Struct("<Q")


class SocketError(Exception):
    """Nobody lives there, or what is said is no message; a sentence."""


def send(connection: socket.socket, data: bytes) -> None:
    """A message behind its length."""
    connection.sendall(HEAD.pack(len(data)) + data)


def receive(connection: socket.socket, most_bytes: int = MOST_BYTES) -> bytes:
    """A message; raises `SocketError` if it is longer than allowed, or ends before it should.

    >>> ours, theirs = socket.socketpair()
    >>> send(ours, b"hello")
    >>> receive(theirs)
    b'hello'
    >>> send(ours, b"hello")
    >>> receive(theirs, most_bytes=4)
    Traceback (most recent call last):
    polyfed.deployment.local_socket.SocketError: a message of 5 bytes came, and 4 are the most
    >>> ours.close(), theirs.close()
    (None, None)
    """
    (length,) = HEAD.unpack(_exactly(connection, HEAD.size))
    if length > most_bytes:
        raise SocketError(f"a message of {length} bytes came, and {most_bytes} are the most")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    pieces, missing = [], length
    while missing:
        piece = connection.recv(min(missing, 2**20))
        if not piece:
            raise SocketError("the other side hung up in the middle of a message")
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def call(path: Path, phase: str, message: bytes, patience_s: float | None = None) -> bytes:
    """Send a message to the agent that lives behind a socket, and give its answer.

    Args:
      path: Of the socket.
      phase: What the message is about.
      message: Its bytes.
      patience_s: How long to wait for the agent; None: for ever.

    Raises:
      SocketError: Nobody lives there, or it did not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience_s)
            connection.connect(str(path))
            send(connection, phase.encode() + b"\n" + message)
            return receive(connection)
    except OSError as error:
        raise SocketError(f"nobody answers behind {path.name}: {error.strerror or error}") from error


@contextlib.contextmanager
def listening(path: Path, answer: Callable[[str, bytes], bytes], most_bytes: int = MOST_BYTES) -> Iterator[None]:
    """Answer whoever of the same user calls, in the background, until the end of the context.

    Args:
      path: Where the socket will lie; its folder is made for its owner alone.
      answer: `answer(phase, message)`.
      most_bytes: Of a message.

    Raises:
      ValueError: The path is too long for a socket.
    """
    if len(str(path)) > LONGEST_PATH:
        raise ValueError(
            f"{path} is too long for a socket, which has {LONGEST_PATH} characters: give a shorter folder."
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(path.parent, 0o700)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(8)
        ended = threading.Event()
        thread = threading.Thread(target=_accept, args=(listener, answer, most_bytes, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            path.unlink(missing_ok=True)
            thread.join(timeout=5.0)


def _accept(
    listener: socket.socket, answer: Callable[[str, bytes], bytes], most_bytes: int, ended: threading.Event
) -> None:
    while not ended.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection, answer, most_bytes), daemon=True).start()


def _serve(connection: socket.socket, answer: Callable[[str, bytes], bytes], most_bytes: int) -> None:
    with connection, contextlib.suppress(OSError, SocketError):
        connection.settimeout(60.0)  # of a message that does not come; the answer may take longer
        if not same_user(connection):
            return
        phase, _, message = receive(connection, most_bytes).partition(b"\n")
        data = answer(phase.decode(errors="replace"), message)
        connection.settimeout(60.0)
        send(connection, data)


def same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end is of our user, where the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user == os.getuid()
