"""What a site answers, as bytes: parts behind a mark, or a sentence that says why there is nothing.

The first byte says which: `+` and parts, each behind its length (4 bytes, little-endian); `-` and a sentence; `?` where
the site does not know of the run, so that the server greets it and sends again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from polyfed.errors import LONGEST
from polyfed.exchange.wire import Refused

UNKNOWN = b"?"


class Failed(Exception):
    """A site answered with a sentence instead of numbers."""


def answer(parts: Sequence[bytes]) -> bytes:
    """An answer with its parts.

    >>> opened(answer([b"weights", b""]), num_parts=2)
    [b'weights', b'']
    """
    return b"+" + b"".join(struct.pack("<I", len(part)) + part for part in parts)


def failure(sentence: str) -> bytes:
    """An answer without any.

    >>> opened(failure("the disk is full"), num_parts=1)
    Traceback (most recent call last):
    polyfed.deployment.answer.Failed: the disk is full
    """
    return b"-" + sentence[:LONGEST].encode()


def opened(data: bytes, num_parts: int, most_bytes: int = 2**31) -> list[bytes]:
    """The parts of an answer.

    Args:
      data: From a site, whatever it may be.
      num_parts: How many there must be.
      most_bytes: What the answer may take; nothing is looked at in one that takes more.

    Raises:
      Failed: The site said why there is nothing; what is no text of people is left out.
      Refused: It is no answer.
    """
    if len(data) > most_bytes:
        raise Refused("too-large", f"it has {len(data)} bytes, and {most_bytes} are the most")
    if data[:1] == b"-":
        text = data[1 : 1 + 4 * LONGEST].decode(errors="replace")
        raise Failed("".join(letter if letter.isprintable() else " " for letter in text)[:LONGEST])
    if data[:1] != b"+":
        raise Refused("unreadable", "it is no answer of polyfed")
    parts, at = [], 1
    for _ in range(num_parts):
        if at + 4 > len(data):
            raise Refused("unreadable", f"it has fewer than {num_parts} parts")
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        parts.append(data[at - length : at])
    if at != len(data):
        raise Refused("unreadable", "its parts are not as long as it says")
    return parts
