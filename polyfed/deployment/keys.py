"""Certificates and keys of a deployment, made by the owner of a fleet for himself (a door to cryptography).

A private authority signs the server's certificate; every client has a key of an elliptic curve, whose public half the
server knows, and another with which it signs in a secure sum, whose public half all clients know. What a site needs is
in a folder of its own, and is all that is carried there.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyfed.deployment.carrier import check_name
from polyfed.deployment.identities import IDENTITIES, SIGNING, Identity, known_as_text, new_identities
from polyfed.deployment.processes import need_flower
from polyfed.deployment.signed_app import KEY, SIGNATURE, TRUSTED, bundled, new_key, sign
from polyfed.errors import MissingExtraError
from polyfed.runs.files import writing

DAYS = 365
AUTHORITY_DAYS = 3650


def _cryptography() -> Any:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ModuleNotFoundError:
        raise MissingExtraError(
            'Keys and certificates need a package that is not installed: pip install "polyfed[flower]".'
        ) from None
    return x509, hashes, serialization, ec


def _write(path: Path, content: bytes) -> None:
    """A file that its owner alone may read, from the moment on that it is there."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(path.parent, 0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def make(folder: Path, clients: Sequence[str], hosts: Sequence[str], days: int = DAYS) -> datetime.date:
    """Make the keys of a fleet.

    `folder/server/` is the server's: `ca.pem`, `server.pem`, `server.key`, `clients.json`, `clients/NAME.pub`,
    `identities.json`, and `app.json`, the signature of the app. `folder/NAME/` is that of a site: `ca.pem`,
    `client.key`, `signing.key`, `identities.json`, `trusted.yaml`. `folder/authority/` signs further certificates
    (`ca.key`) and apps (`app.key`), and belongs on no machine that is reached from outside.

    Args:
      folder: Where; it must not be there yet.
      clients: Their names, in the order of the experiment's clients.
      hosts: Names and addresses under which sites reach the server; those of its own machine are added.
      days: Until the server's certificate expires.

    Returns:
      The day on which it expires.

    Raises:
      ValueError: A name cannot be one, or the folder is there already.
      MissingExtraError: `cryptography` or Flower is not installed.
    """
    names = [check_name(name) for name in clients]
    if len(set(names)) != len(names) or not names or {"server", "authority"} & {*names}:
        raise ValueError(f"{', '.join(names) or 'nobody'} cannot be the clients: name each once, and none 'server'.")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something already, and keys are never written over: give another folder.")
    _, _, serialization, ec = _cryptography()
    need_flower()  # which bundles the app that is signed
    plain = serialization.NoEncryption()
    authority, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    ca = _signed(None, authority, authority, [], AUTHORITY_DAYS)
    certificate = _signed(ca, authority, server, [*hosts, "localhost", "127.0.0.1", "::1"], days)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    own, (signer, trusted) = folder / "server", new_key()
    _write(folder / "authority" / KEY, signer)
    _write(own / SIGNATURE, _signature(signer))
    _write(folder / "authority" / "ca.key", authority.private_bytes(pem, pkcs8, plain))
    _write(own / "ca.pem", ca.public_bytes(pem))
    _write(own / "server.pem", certificate.public_bytes(pem))
    _write(own / "server.key", server.private_bytes(pem, pkcs8, plain))
    _write(own / "clients.json", (json.dumps(names) + "\n").encode())
    identities = new_identities(names)
    _write(own / IDENTITIES, known_as_text(identities[names[0]].known))
    for name in names:
        _write(folder / name / "ca.pem", ca.public_bytes(pem))
        _write(folder / name / TRUSTED, trusted)
        _write_client(own / "clients" / f"{name}.pub", folder / name, identities[name])
    return certificate.not_valid_after_utc.date()


def _write_client(public: Path, folder: Path, identity: Identity) -> None:
    """What a client shows to the server link, and signs with; the public half goes to the server."""
    _, _, serialization, ec = _cryptography()
    key, plain = ec.generate_private_key(ec.SECP384R1()), serialization.NoEncryption()
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    _write(public, key.public_key().public_bytes(*openssh))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    _write(folder / "client.key", key.private_bytes(*form, plain))
    _write(folder / SIGNING, (identity.private.hex() + "\n").encode())
    _write(folder / IDENTITIES, known_as_text(identity.known))


def _signature(signer: bytes) -> bytes:
    """That of the app of this version of polyfed."""
    from polyfed.deployment.app_folder import write_app

    with tempfile.TemporaryDirectory() as folder:
        write_app(Path(folder))
        return sign(signer, bundled(Path(folder))).to_bytes()


def sign_again(folder: Path) -> None:
    """Sign the app of this version of polyfed with the keys of a fleet that is there; sites need nothing new.

    Args:
      folder: As `make` made it, with its `authority/`.

    Raises:
      ValueError: There is no key that signs.
    """
    try:
        signer = (folder / "authority" / KEY).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{folder} holds no authority/{KEY}, which signs apps: give the folder of the fleet."
        ) from error
    (folder / "server" / SIGNATURE).unlink(missing_ok=True)
    _write(folder / "server" / SIGNATURE, _signature(signer))


def _signed(issuer: Any, signer: Any, key: Any, hosts: Sequence[str], days: int) -> Any:
    """A certificate for a key; of the authority itself where there is no issuer."""
    x509, hashes, _, _ = _cryptography()
    name = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])  # noqa: E731
    subject = name("polyfed server" if issuer else "polyfed authority")
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"], False
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=issuer is None,
                crl_sign=issuer is None,
                decipher_only=False,
                **usage,
            ),
            True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    )
    if hosts:
        alternatives = [_host(x509, host) for host in dict.fromkeys(hosts)]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False)
    return builder.sign(signer, hashes.SHA384())


def _host(x509: Any, host: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem_of(path: Path) -> bytes:
    """A client's public key as Flower shows it, from a file as `make` writes it."""
    _, _, serialization, _ = _cryptography()
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no public key of a client: make it with `polyfed keys`.") from error
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def expires(certificate: Path) -> datetime.datetime:
    """When a certificate ends; raises `ValueError` if the file is none, or it has ended."""
    x509, _, _, _ = _cryptography()
    try:
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise ValueError(f"{certificate} is no certificate: make it with `polyfed keys`.") from error
    if end < datetime.datetime.now(datetime.UTC):
        raise ValueError(f"{certificate} expired on {end:%d %B %Y}: make new ones with `polyfed keys`.")
    return end
