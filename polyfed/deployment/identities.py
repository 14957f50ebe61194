"""With what sites sign in a secure sum, and by what they know each other: from the owner of the fleet, not its server.

`signing.key` is a site's own, 32 bytes of Ed25519 as hexadecimal; `identities.json` holds the public key of each client
in the order of the experiment's, and is the same at all sites and at the server.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from polyfed.deployment.carrier import check_name
from polyfed.exchange.secure_sum.ciphers import KEY_BYTES, new_identity

SIGNING, IDENTITIES = "signing.key", "identities.json"


@dataclasses.dataclass(frozen=True)
class Identity:
    """A site's own key for signing, which is never shown, and the public keys of all clients by name, in order.

    >>> made = new_identities(["ann", "bob"])
    >>> made["ann"].known == made["bob"].known, "private" in repr(made["ann"])
    (True, False)
    """

    private: bytes = dataclasses.field(repr=False)
    known: Mapping[str, bytes]


def new_identities(names: list[str]) -> dict[str, Identity]:
    """Fresh keys of a fleet."""
    pairs = {name: new_identity() for name in names}
    known = {name: public for name, (_, public) in pairs.items()}
    return {name: Identity(private, known) for name, (private, _) in pairs.items()}


def known_as_text(known: Mapping[str, bytes]) -> bytes:
    """What `identities.json` holds."""
    return (json.dumps({name: public.hex() for name, public in known.items()}, indent=1) + "\n").encode()


def read_known(folder: Path) -> dict[str, bytes]:
    """The public keys of all clients; none where the folder has no `identities.json`.

    Raises:
      ValueError: The file is not one of them.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> read_known(folder)
    {}
    >>> known = new_identities(["ann", "bob"])["ann"].known
    >>> _ = (folder / "identities.json").write_bytes(known_as_text(known))
    >>> read_known(folder) == known
    True
    """
    path = folder / IDENTITIES
    if not path.is_file():
        return {}
    try:
        known = {check_name(name): bytes.fromhex(text) for name, text in json.loads(path.read_text()).items()}
        whole = bool(known) and all(len(public) == KEY_BYTES for public in known.values())
        if not whole or len(set(known.values())) < len(known):
            raise ValueError
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} names no public keys of clients: make it with `polyfed keys`.") from error
    return known


def read_identity(folder: Path) -> Identity | None:
    """A site's key and those of the others, from its own folder; None where it was given none.

    Raises:
      ValueError: One of the two files is missing, or is not what it should be.
    """
    known, path = read_known(folder), folder / SIGNING
    if not known and not path.is_file():
        return None
    try:
        private = bytes.fromhex(path.read_text().strip())
        if len(private) != KEY_BYTES or not known:
            raise ValueError
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} does not hold both {SIGNING} and {IDENTITIES} as `polyfed keys` made them: carry over the whole "
            "folder."
        ) from error
    return Identity(private, known)
