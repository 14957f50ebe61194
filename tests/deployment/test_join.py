"""A site that looks for its server: who does not answer, and who is not the one that the keys are of."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("flwr")

from polyfed.deployment import join, keys, processes
from polyfed.deployment.front import open_to
from polyfed.deployment.join import UnreachableError, await_server, live, site_keys
from polyfed.deployment.local_socket import call


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "keys"
    keys.make(folder, ["ann", "bob"], ["fleet.example.org"])
    return folder


@pytest.fixture
def server(fleet: Path) -> Any:
    """The open port of a server whose link is not there."""
    port = processes.free_port()
    with open_to("127.0.0.1", port, "https://127.0.0.1:1", fleet / "server"):
        yield port


def test_an_address_that_does_not_answer_is_tried_after_longer_and_longer_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said, pauses = list[str](), list[float]()
    monkeypatch.setattr(time, "sleep", pauses.append)
    server = f"127.0.0.1:{processes.free_port()}"
    with pytest.raises(UnreachableError, match=r"did not answer 5 times \(Connection refused\)") as caught:
        await_server(server, 5, said.append)
    assert caught.value.exit_code == 3
    assert len(said) == len(pauses) == 4
    for pause, ideal in zip(pauses, (1.0, 2.0, 4.0, 8.0), strict=True):
        assert 0.8 * ideal <= pause <= 1.2 * ideal


def test_a_name_that_nobody_has_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **how: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(UnreachableError, match="Name or service not known"):
        await_server("nowhere.example.org:9092", 1, print)


def test_a_server_with_the_fleets_certificate_is_greeted(server: int, fleet: Path) -> None:
    said = list[str]()
    await_server(f"127.0.0.1:{server}", 2, said.append, root=fleet / "ann" / "ca.pem")
    assert said == []  # the first knock was answered


def test_a_server_of_another_authority_is_refused_at_once(server: int, tmp_path: Path) -> None:
    keys.make(tmp_path / "other", ["ann"], ["localhost"])
    said = list[str]()
    with pytest.raises(UnreachableError, match=r"not to be trusted .*signed by the authority of"):
        await_server(f"127.0.0.1:{server}", 8, said.append, root=tmp_path / "other" / "ann" / "ca.pem")
    assert said == []  # it will not change


def test_a_server_whose_certificate_has_expired_is_refused_at_once(
    fleet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.make(tmp_path / "old", ["ann"], ["localhost"], days=0)
    port = processes.free_port()
    with (
        open_to("127.0.0.1", port, "https://127.0.0.1:1", tmp_path / "old" / "server"),
        pytest.raises(UnreachableError, match="certificate has expired"),
    ):
        await_server(f"127.0.0.1:{port}", 8, print, root=tmp_path / "old" / "ann" / "ca.pem")


def test_a_server_under_another_name_is_refused_at_once(
    server: int, fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda to, *args: whole(("127.0.0.1", server), *args))
    with pytest.raises(UnreachableError, match="mismatch"):
        await_server("evil.example.org:9092", 8, print, root=fleet / "ann" / "ca.pem")


def test_who_speaks_no_tls_is_tried_again_and_then_a_sentence(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = list[str]()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(4):  # twice a knock and a greeting
                connection, _ = listener.accept()
                with connection, contextlib.suppress(ConnectionError):
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
                    connection.settimeout(5.0)
                    connection.recv(10)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(UnreachableError, match=r"did not answer 2 times \(no TLS"):
            await_server(f"127.0.0.1:{port}", 2, said.append, pause_s=0.01, root=fleet / "ann" / "ca.pem")
        thread.join(timeout=10.0)
    assert len(said) == 1


@pytest.mark.parametrize("file", ["ca.pem", "client.key", "trusted.yaml"])
def test_a_folder_that_lacks_a_key_is_named(fleet: Path, tmp_path: Path, file: str) -> None:
    for name in ("ca.pem", "client.key", "trusted.yaml"):
        if name != file:
            (tmp_path / name).write_bytes((fleet / "ann" / name).read_bytes())
    with pytest.raises(ValueError, match=f"holds no {file}"):
        site_keys(tmp_path, "ann")


def test_a_supernode_is_told_to_run_what_the_owner_of_the_keys_signed(fleet: Path) -> None:
    own = site_keys(fleet, "ann")
    assert join._trust(own, False)[-2:] == ["--trusted-entities", str(own / "trusted.yaml")]
    assert "--trusted-entities" not in join._trust(own, True)
    assert join._trust(None, False) == ["--insecure"]


def test_an_agent_alone_lives_behind_its_socket_until_the_run_is_over(tmp_path: Path) -> None:
    from polyfed.deployment.resident import Resident

    said: list[str] = []
    resident, path = Resident("ann"), tmp_path / "own" / "agent.sock"
    thread = threading.Thread(target=live, args=(resident, path, said.append))
    thread.start()
    wait_for(lambda: bool(said))
    assert call(path, "name", b"", 10.0)[:1] == b"+"
    call(path, "stop", b"", 10.0)
    thread.join(timeout=10.0)
    assert not thread.is_alive()
    assert not path.exists()


def wait_for(true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < 30.0
        time.sleep(0.01)
