"""The socket between what Flower starts for a message and the agent that lives at the site."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from polyfed.deployment.local_socket import HEAD, SocketError, call, listening, send


def reversed_(phase: str, message: bytes) -> bytes:
    return phase.encode() + message[::-1]


def test_a_message_of_any_bytes_comes_back_whole(tmp_path: Path) -> None:
    message = bytes(range(256)) * 5000
    with listening(tmp_path / "own" / "agent.sock", reversed_):
        assert call(tmp_path / "own" / "agent.sock", "round", message, 10.0) == b"round" + message[::-1]
        assert call(tmp_path / "own" / "agent.sock", "stop", b"", 10.0) == b"stop"


def test_the_socket_and_its_folder_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "own" / "agent.sock"
    with listening(path, reversed_):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_where_nobody_lives_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match=r"nobody answers behind agent\.sock"):
        call(tmp_path / "agent.sock", "round", b"", 1.0)


def test_a_message_that_says_it_is_huge_is_not_read_and_the_agent_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with listening(path, reversed_, most_bytes=1000):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            caller.sendall(HEAD.pack(2**60))
            caller.settimeout(10.0)
            assert caller.recv(1) == b""  # it hung up
        with pytest.raises(SocketError):
            call(path, "round", bytes(1001), 10.0)
        assert call(path, "round", bytes(10), 10.0) == b"round" + bytes(10)


def test_who_hangs_up_in_the_middle_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with listening(path, reversed_):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            caller.sendall(HEAD.pack(100) + b"half")
        assert call(path, "round", b"ab", 10.0) == b"roundba"


def test_an_answer_that_is_cut_is_no_answer(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, b"whole")
        ours.sendall(HEAD.pack(5) + b"cu")
        ours.close()
        from polyfed.deployment.local_socket import receive

        assert receive(theirs) == b"whole"
        with pytest.raises(SocketError, match="hung up"):
            receive(theirs)


def test_a_path_that_no_system_takes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / "agent.sock"
    with pytest.raises(ValueError, match="too long for a socket"), listening(path, reversed_):
        pass
