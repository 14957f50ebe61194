"""The keys with which sites sign: read whole, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from polyfed.deployment import keys
from polyfed.deployment.identities import IDENTITIES, SIGNING, read_identity, read_known
from polyfed.exchange.secure_sum.ciphers import signature, signed_by


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "keys"
    keys.make(folder, ["ann", "bob"], ["localhost"])
    return folder


def test_a_site_signs_what_the_others_know_as_its_own(made: Path) -> None:
    ann, bob = read_identity(made / "ann"), read_identity(made / "bob")
    assert ann is not None
    assert bob is not None
    assert list(ann.known) == ["ann", "bob"]
    assert ann.known == bob.known == read_known(made / "server")
    assert signed_by(bob.known["ann"], signature(ann.private, b"keys"), b"keys")
    assert not signed_by(bob.known["bob"], signature(ann.private, b"keys"), b"keys")


def test_a_folder_without_them_has_none(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    assert read_known(tmp_path) == {}


@pytest.mark.parametrize("missing", [SIGNING, IDENTITIES])
def test_one_without_the_other_is_refused(made: Path, missing: str, tmp_path: Path) -> None:
    for name in {SIGNING, IDENTITIES} - {missing}:
        (tmp_path / name).write_bytes((made / "ann" / name).read_bytes())
    with pytest.raises(ValueError, match="carry over the whole folder"):
        read_identity(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"ann": 3}', '{"ann": "00"}', '{"<b>": "' + 64 * "0" + '"}', "[" * 100_000],
)
def test_what_is_no_list_of_keys_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / IDENTITIES).write_text(content)
    with pytest.raises(ValueError, match="names no public keys of clients"):
        read_known(tmp_path)


def test_one_key_for_two_clients_is_refused(tmp_path: Path) -> None:
    (tmp_path / IDENTITIES).write_text(json.dumps({"ann": 64 * "0", "bob": 64 * "0"}))
    with pytest.raises(ValueError, match="names no public keys of clients"):
        read_known(tmp_path)
