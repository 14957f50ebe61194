"""The app of Flower under a signature: made where the keys are made, shown by the server, held against at the sites.

Flower sends the app to sites, which run it. So the app is the same two lines for every run, and is signed once with a
key (Ed25519) that stays with the authority, offline: a server that was taken over has no key to sign another with. The
format of the signature is Flower's, whose SuperNode checks it (`--trusted-entities`); Flower itself hands signatures
out for apps of its hub alone, so `front` adds ours to what the server link answers.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import time
import warnings
from pathlib import Path
from typing import Any

from polyfed.errors import MissingExtraError

KEY, SIGNATURE, TRUSTED = "app.key", "app.json", "trusted.yaml"
KEY_NAME = "polyfed-app"  # under which sites know the key


@dataclasses.dataclass(frozen=True)
class Signature:
    """That somebody stands for an app's bytes.

    >>> Signature("ab" * 32, 1700000000, "c2ln").verifications["valid_license"]
    'Valid'
    """

    digest: str  # SHA-256 of the app as Flower bundles it
    signed_at: int  # s, since 1970
    signature: str  # base64, for URLs

    @property
    def verifications(self) -> dict[str, str]:
        """As Flower's SuperNode reads it."""
        body = {"signed_at": self.signed_at, "signature": self.signature}
        return {KEY_NAME: json.dumps(body), "valid_license": "Valid"}

    @classmethod
    def read(cls, path: Path) -> Signature:
        """From a file as `sign` gives it.

        Raises:
          ValueError: It is not there, or is none.
        """
        try:
            data = json.loads(path.read_text())
            given = cls(str(data["digest"]), int(data["signed_at"]), str(data["signature"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no signature of an app: make it with `polyfed keys`.") from error
        return given

    def to_bytes(self) -> bytes:
        """As a file."""
        return (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode()


def _signing() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise MissingExtraError(
            'Keys and certificates need a package that is not installed: pip install "polyfed[flower]".'
        ) from None
    return serialization, ed25519


def new_key() -> tuple[bytes, bytes]:
    """A key that signs apps, and the line by which sites know it: `(private, trusted)`."""
    serialization, ed25519 = _signing()
    key = ed25519.Ed25519PrivateKey.generate()
    plain, form = serialization.NoEncryption(), serialization.PrivateFormat.OpenSSH
    private = key.private_bytes(serialization.Encoding.PEM, form, plain)
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    public = key.public_key().public_bytes(*openssh).decode()
    return private, f'{KEY_NAME}: "{public}"\n'.encode()


def sign(private: bytes, app: bytes, now: int | None = None) -> Signature:
    """Sign an app's bytes; the message is the time (8 bytes, big-endian) and the SHA-256 of the app.

    >>> private, _ = new_key()
    >>> sign(private, b"app", now=0).digest == hashlib.sha256(b"app").hexdigest()
    True
    """
    serialization, _ = _signing()
    key = serialization.load_ssh_private_key(private, None)
    at, digest = int(time.time()) if now is None else now, hashlib.sha256(app).digest()
    signature = key.sign(at.to_bytes(8, "big") + digest)
    return Signature(digest.hex(), at, base64.urlsafe_b64encode(signature).decode().rstrip("="))


def bundled(app: Path) -> bytes:
    """An app's folder as Flower bundles it."""
    from flwr.cli.build import build_fab_from_disk

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower's, of what it uses itself
        return build_fab_from_disk(app)


def check_signed(app: Path, signature: Signature) -> None:
    """Raise `ValueError` where an app is not the one that was signed."""
    if (digest := hashlib.sha256(bundled(app)).hexdigest()) != signature.digest:
        raise ValueError(
            f"The app of this server has digest {digest[:16]}, and {signature.digest[:16]} was signed, with another "
            "version of polyfed, Flower or Python: sign this one with `polyfed keys FLEET --sign`."
        )


def with_signature(answer: bytes, signature: Signature) -> bytes:
    """What the server link answers who asks for an app, with the signature if it is that app's."""
    from flwr.proto.fab_pb2 import GetFabResponse

    reply = GetFabResponse.FromString(answer)
    if hashlib.sha256(reply.fab.content).hexdigest() != signature.digest:
        return answer
    for name, value in signature.verifications.items():
        reply.fab.verifications[name] = value
    return reply.SerializeToString()
