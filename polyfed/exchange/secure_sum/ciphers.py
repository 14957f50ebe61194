"""The door to `cryptography`: key agreement and derivation, a stream cipher, a sealed box, signatures, a function each.

X25519 (RFC 7748), HKDF with SHA-256 (RFC 5869), ChaCha20 and ChaCha20-Poly1305 (RFC 8439), Ed25519 (RFC 8032). Every
key is 32 bytes.
"""

from __future__ import annotations

from typing import Any

from polyfed.errors import MissingExtraError

KEY_BYTES = 32
TAG_BYTES = 16  # by which a sealed box is longer than what is in it
SIGNATURE_BYTES = 64


def load_ciphers() -> Any:
    """The package `cryptography`, with the parts that are used here.

    Raises:
      MissingExtraError: It is not installed.
    """
    try:
        import cryptography
        import cryptography.exceptions
        import cryptography.hazmat.primitives.asymmetric.ed25519
        import cryptography.hazmat.primitives.asymmetric.x25519
        import cryptography.hazmat.primitives.ciphers.aead
        import cryptography.hazmat.primitives.hashes
        import cryptography.hazmat.primitives.kdf.hkdf
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'Masks are made by the package cryptography, which is not installed: pip install "polyfed[secure]".'
        ) from error
    return cryptography


def _primitives() -> Any:
    return load_ciphers().hazmat.primitives


def new_private_key() -> bytes:
    """A private key of X25519, from the system's generator.

    >>> len(new_private_key())
    32
    """
    return _primitives().asymmetric.x25519.X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """The public key that belongs to a private one."""
    x25519 = _primitives().asymmetric.x25519
    return x25519.X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed(private: bytes, public: bytes) -> bytes:
    """The secret on which the owners of two key pairs agree; no key by itself, see `derived`.

    Raises:
      ValueError: The public key is one with which everybody would agree on zeros.

    >>> ours, theirs = new_private_key(), new_private_key()
    >>> agreed(ours, public_key(theirs)) == agreed(theirs, public_key(ours))
    True
    """
    x25519 = _primitives().asymmetric.x25519
    other = x25519.X25519PublicKey.from_public_bytes(public)
    try:
        return x25519.X25519PrivateKey.from_private_bytes(private).exchange(other)
    except ValueError:
        raise ValueError(
            "A public key of small order was given, with which any two would agree on the same secret: refuse whoever "
            "sent it."
        ) from None


def derived(secret: bytes, info: bytes, num_bytes: int = KEY_BYTES, salt: bytes | None = None) -> bytes:
    """Key material for one purpose, which `info` names: HKDF with SHA-256.

    >>> derived(bytes(32), b"one purpose") != derived(bytes(32), b"another")
    True
    """
    primitives = _primitives()
    return primitives.kdf.hkdf.HKDF(primitives.hashes.SHA256(), num_bytes, salt, info).derive(secret)


def key_stream(key: bytes, num_bytes: int, nonce: bytes = bytes(12), counter: int = 0) -> bytes:
    """The key stream of ChaCha20: what nobody without the key can tell from chance.

    With one nonce a key is good for one stream, of up to 256 GiB.

    >>> key_stream(bytes(32), 4).hex()
    '76b8e0ad'
    """
    ciphers = _primitives().ciphers
    cipher = ciphers.Cipher(ciphers.algorithms.ChaCha20(key, counter.to_bytes(4, "little") + nonce), mode=None)
    return cipher.encryptor().update(bytes(num_bytes))


def sealed(key: bytes, content: bytes, label: bytes, nonce: bytes = bytes(12)) -> bytes:
    """Encrypted, and bound to a label that is not sent along: ChaCha20-Poly1305. With one nonce a key seals once.

    >>> opened(bytes(32), sealed(bytes(32), b"share", b"label"), b"label")
    b'share'
    """
    return _primitives().ciphers.aead.ChaCha20Poly1305(key).encrypt(nonce, content, label)


def opened(key: bytes, box: bytes, label: bytes, nonce: bytes = bytes(12)) -> bytes:
    """What was sealed.

    Raises:
      ValueError: It was changed, or sealed with another key or for another label.
    """
    try:
        return _primitives().ciphers.aead.ChaCha20Poly1305(key).decrypt(nonce, box, label)
    except load_ciphers().exceptions.InvalidTag:
        raise ValueError("A sealed share does not open: it was changed on its way, or is for somebody else.") from None


def new_identity() -> tuple[bytes, bytes]:
    """`(private, public)`: the keys of Ed25519 with which a client signs, and by which others know it."""
    private = _primitives().asymmetric.ed25519.Ed25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def signature(private: bytes, content: bytes) -> bytes:
    """A signature of 64 bytes.

    >>> private, public = new_identity()
    >>> given = signature(private, b"keys")
    >>> signed_by(public, given, b"keys"), signed_by(public, given, b"other")
    (True, False)
    """
    return _primitives().asymmetric.ed25519.Ed25519PrivateKey.from_private_bytes(private).sign(content)


def signed_by(public: bytes, given: bytes, content: bytes) -> bool:
    """Whether a signature is that of who has this public key, on this content."""
    try:
        _primitives().asymmetric.ed25519.Ed25519PublicKey.from_public_bytes(public).verify(given, content)
    except load_ciphers().exceptions.InvalidSignature:
        return False
    return True
