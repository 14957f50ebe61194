"""Certificates and keys of a fleet."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

pytest.importorskip("cryptography")
pytest.importorskip("flwr")

from polyfed.deployment import keys
from polyfed.deployment.identities import IDENTITIES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "keys"
    end = keys.make(folder, ["ann", "bob"], ["fleet.example.org", "10.0.0.1"], days=30)
    assert end == (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)).date()
    return folder


def test_every_file_is_its_owners_alone_and_a_site_gets_its_own_key_only(made: Path) -> None:
    files = {str(path.relative_to(made)): path for path in made.rglob("*") if path.is_file()}
    own = {"ca.pem", "server.pem", "server.key", "app.json", "clients.json", "clients/ann.pub", "clients/bob.pub"}
    own |= {"identities.json"}
    given = ("ca.pem", "client.key", "signing.key", IDENTITIES, "trusted.yaml")
    sites = {f"{name}/{file}" for name in ("ann", "bob") for file in given}
    assert {*files} == {"authority/ca.key", "authority/app.key", *(f"server/{name}" for name in own), *sites}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.rglob("*") if path.is_dir()} == {0o700}
    assert json.loads(files["server/clients.json"].read_text()) == ["ann", "bob"]


def test_the_public_keys_are_those_of_the_sites_and_all_differ(made: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    found = {}
    for name in ("ann", "bob"):
        private = serialization.load_ssh_private_key((made / name / "client.key").read_bytes(), None)
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        found[name] = private.public_key().public_bytes(*form)
        assert keys.pem_of(made / "server" / "clients" / f"{name}.pub") == found[name]
    assert found["ann"] != found["bob"]


def greeted(made: Path, authority: Path, host: str) -> str:
    """A client that trusts an authority calls a server with the fleet's certificate; what went wrong."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(made / "server" / "server.pem", made / "server" / "server.key")
    client = ssl.create_default_context(cafile=str(authority))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        ours.close()
        thread.join()
    return ""


@pytest.mark.parametrize("host", ["fleet.example.org", "10.0.0.1", "localhost", "127.0.0.1"])
def test_a_site_that_has_the_authority_trusts_the_server_under_its_names(made: Path, host: str) -> None:
    assert greeted(made, made / "ann" / "ca.pem", host) == ""


def test_a_site_trusts_neither_another_name_nor_another_authority(made: Path, tmp_path: Path) -> None:
    assert "mismatch" in greeted(made, made / "ann" / "ca.pem", "evil.example.org")
    keys.make(tmp_path / "other", ["ann"], ["fleet.example.org"])
    assert greeted(made, tmp_path / "other" / "ann" / "ca.pem", "fleet.example.org")


@pytest.mark.parametrize(
    ("clients", "said"),
    [
        (["<script>"], "cannot name a client"),
        (["ann", "ann"], "name each once"),
        ([], "nobody cannot be"),
        (["server"], "none 'server'"),
        (["../ann"], "cannot name a client"),
        (["a" * 33], "cannot name a client"),
    ],
)
def test_names_that_are_none_are_refused_before_anything_is_written(
    clients: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        keys.make(tmp_path / "keys", clients, ["localhost"])
    assert not (tmp_path / "keys").exists()


def test_keys_are_never_written_over(made: Path) -> None:
    with pytest.raises(ValueError, match="never written over"):
        keys.make(made, ["ann"], ["localhost"])


def test_a_certificate_that_has_expired_is_refused(tmp_path: Path) -> None:
    keys.make(tmp_path / "keys", ["ann"], ["localhost"], days=0)
    with pytest.raises(ValueError, match="expired on"):
        keys.expires(tmp_path / "keys" / "server" / "server.pem")


@pytest.mark.parametrize("name", ["server/server.key", "nowhere.pem"])
def test_what_is_no_certificate_is_refused(made: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no certificate"):
        keys.expires(made / name)


# The signature of the app


def answer_with(app: bytes) -> bytes:
    """What Flower's server link answers who asks for an app."""
    from flwr.proto.fab_pb2 import Fab, GetFabResponse

    return GetFabResponse(fab=Fab(hash_str="", content=app)).SerializeToString()


def trusted_by_flower(made: Path, answer: bytes) -> bool:
    """Whether a SuperNode of `ann` would run what it was answered: Flower's own functions."""
    from flwr.common.serde import fab_from_proto
    from flwr.proto.fab_pb2 import GetFabResponse
    from flwr.supernode.cli.flower_supernode import _try_obtain_trusted_entities, _validate_public_keys_ed25519
    from flwr.supernode.start_client_internal import _verify_fab

    trusted = _try_obtain_trusted_entities(made / "ann" / "trusted.yaml")
    _validate_public_keys_ed25519(trusted)
    fab = fab_from_proto(GetFabResponse.FromString(answer).fab)
    return bool(fab.verifications.get("valid_license", "")) and _verify_fab(fab, trusted)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    from polyfed.deployment.app_folder import write_app

    write_app(tmp_path / "app")
    return tmp_path / "app"


def test_a_site_runs_the_app_that_was_signed_with_the_keys_and_no_other(made: Path, app: Path) -> None:
    from polyfed.deployment.signed_app import Signature, bundled, check_signed, with_signature

    signature = Signature.read(made / "server" / "app.json")
    check_signed(app, signature)
    ours = answer_with(bundled(app))
    assert not trusted_by_flower(made, ours)  # Flower itself gives no signature
    assert trusted_by_flower(made, with_signature(ours, signature))
    (app / "polyfed_app" / "client.py").write_text("import os\n")
    theirs = answer_with(bundled(app))
    assert with_signature(theirs, signature) == theirs
    with pytest.raises(ValueError, match="sign this one with"):
        check_signed(app, signature)


def test_a_signature_of_another_app_or_another_fleet_is_none(made: Path, app: Path, tmp_path: Path) -> None:
    import dataclasses

    from polyfed.deployment.signed_app import Signature, bundled, new_key, sign, with_signature

    content = bundled(app)
    own = Signature.read(made / "server" / "app.json")
    other = sign(new_key()[0], content)
    for forged in (other, dataclasses.replace(own, signature=other.signature), dataclasses.replace(own, signed_at=0)):
        assert not trusted_by_flower(made, with_signature(answer_with(content), forged))


def test_an_app_is_signed_again_with_the_keys_that_are_there(tmp_path: Path, app: Path) -> None:
    from polyfed.deployment.signed_app import Signature, bundled, with_signature

    keys.make(tmp_path / "keys", ["ann"], ["localhost"])
    (tmp_path / "keys" / "server" / "app.json").write_text("{}")
    with pytest.raises(ValueError, match="is no signature"):
        Signature.read(tmp_path / "keys" / "server" / "app.json")
    keys.sign_again(tmp_path / "keys")
    signature = Signature.read(tmp_path / "keys" / "server" / "app.json")
    assert trusted_by_flower(tmp_path / "keys", with_signature(answer_with(bundled(app)), signature))
    assert stat.S_IMODE((tmp_path / "keys" / "server" / "app.json").stat().st_mode) == 0o600
    with pytest.raises(ValueError, match=r"no authority/app\.key"):
        keys.sign_again(tmp_path / "keys" / "server")
