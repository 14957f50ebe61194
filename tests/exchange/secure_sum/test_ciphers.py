"""The vectors of the RFCs, and what is refused."""

import sys

import pytest

pytest.importorskip("cryptography")

from polyfed.errors import MissingExtraError
from polyfed.exchange.secure_sum import ciphers

ANN = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")


def test_x25519_of_rfc_7748_section_6_1():
    publics = [ciphers.public_key(private).hex() for private in (ANN, BOB)]
    assert publics == [
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ]
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert ciphers.agreed(ANN, bytes.fromhex(publics[1])).hex() == shared
    assert ciphers.agreed(BOB, bytes.fromhex(publics[0])).hex() == shared


@pytest.mark.parametrize(
    ("salt", "info", "expected"),
    [
        (
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        ("", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ],
    ids=["A.1", "A.3"],
)
def test_hkdf_of_rfc_5869(salt, info, expected):
    found = ciphers.derived(b"\x0b" * 22, bytes.fromhex(info), num_bytes=42, salt=bytes.fromhex(salt))
    assert found.hex() == expected


@pytest.mark.parametrize(
    ("key", "nonce", "counter", "expected"),
    [
        (
            bytes(32),
            bytes(12),
            0,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (
            bytes(range(32)),
            bytes.fromhex("000000090000004a00000000"),
            1,
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
            "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        ),
    ],
    ids=["A.1", "2.3.2"],
)
def test_chacha20_of_rfc_8439(key, nonce, counter, expected):
    assert ciphers.key_stream(key, 64, nonce, counter).hex() == expected


def test_sealed_box_of_rfc_8439_section_2_8_2():
    content = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    key, nonce, label = bytes(range(0x80, 0xA0)), "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7"
    box = ciphers.sealed(key, content, bytes.fromhex(label), bytes.fromhex(nonce))
    assert box[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    assert box[:8].hex() == "d31a8d34648e60db"
    assert ciphers.opened(key, box, bytes.fromhex(label), bytes.fromhex(nonce)) == content


def test_ed25519_of_rfc_8032_section_7_1():
    private = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    given = ciphers.signature(private, b"")
    assert given.hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac")
    assert ciphers.signed_by(public, given, b"")
    assert not ciphers.signed_by(public, given, b"x")


@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_box_that_was_changed_does_not_open(at):
    box = bytearray(ciphers.sealed(bytes(32), b"a share of a secret", b"for bob"))
    with pytest.raises(ValueError, match="does not open"):
        ciphers.opened(bytes(32), bytes(box), b"for cy")
    box[at] ^= 1
    with pytest.raises(ValueError, match="does not open"):
        ciphers.opened(bytes(32), bytes(box), b"for bob")


def test_nobody_agrees_with_a_key_of_small_order():
    with pytest.raises(ValueError, match="small order"):
        ciphers.agreed(ANN, bytes(32))


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtraError, match=r'pip install "polyfed\[secure\]"'):
        ciphers.new_private_key()
