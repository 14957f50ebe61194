"""Messages as bytes: named arrays of a known form behind a small header, and nothing that could run.

A message is a mark of eight bytes, the length of its header (4 bytes, little-endian), the header as JSON, and the
arrays one after the other, little-endian, in C order. Who reads it knows from its own `Manifest` what must be in it,
looks at the size and the header first, and touches nothing else of a message that differs.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from polyfed.leaves import leaf_names

MARK = b"polyfed\x01"
KINDS = ("float32", "float16", "int8", "int32", "uint32", "bool")  # of numbers
SLACK = 4096  # bytes of a header beside the names

Code = Literal[
    "too-large",
    "unreadable",
    "other-version",
    "other-experiment",
    "other-run",
    "other-round",
    "unknown-client",
    "twice",
    "schema",
    "not-finite",
    "too-far",
    "late",
]


class Refused(Exception):
    """A message that is not let in, with a code for counting and a sentence for people."""

    def __init__(self, code: Code, sentence: str):
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


@dataclasses.dataclass(frozen=True)
class Envelope:
    """What a message belongs to, and who says that it wrote it."""

    experiment: str  # digest
    run: str
    round: int
    sender: str
    version: str = "1"  # of this format


@dataclasses.dataclass(frozen=True)
class ArrayForm:
    """An array without its numbers."""

    name: str
    kind: str  # one of `KINDS`
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Of its numbers."""
        return math.prod(self.shape) * np.dtype(self.kind).itemsize


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The arrays that a message must hold, in order: no more, no fewer, and none in another form.

    >>> manifest = Manifest.of({"weight": np.zeros((2, 3), np.float32)})
    >>> manifest.arrays
    (ArrayForm(name='weight', kind='float32', shape=(2, 3)),)
    >>> manifest.num_bytes
    24
    """

    arrays: tuple[ArrayForm, ...]

    @classmethod
    def of(cls, tree: Any) -> Manifest:
        """That of a payload; its leaves are named by their paths.

        Raises:
          ValueError: A leaf is of a kind that is not sent.
        """
        forms = []
        for name, leaf in zip(leaf_names(tree), jax.tree.leaves(tree), strict=True):
            kind = str(np.asarray(leaf).dtype)
            if kind not in KINDS:
                raise ValueError(f"{name} is {kind}, which is not sent: use one of {', '.join(KINDS)}.")
            forms.append(ArrayForm(name, kind, tuple(np.shape(leaf))))
        return cls(tuple(forms))

    @functools.cached_property
    def num_bytes(self) -> int:
        """Of all arrays."""
        return sum(form.num_bytes for form in self.arrays)

    @functools.cached_property
    def most_bytes(self) -> int:
        """What a message may take."""
        return self.num_bytes + sum(64 + 2 * len(form.name) for form in self.arrays) + SLACK


def pack(envelope: Envelope, manifest: Manifest, leaves: Sequence[Any]) -> bytes:
    """A message; `leaves` are in the manifest's order, and are of its form.

    >>> manifest = Manifest.of({"w": np.zeros(2, np.float32)})
    >>> data = pack(Envelope("e", "r", 3, "client-0"), manifest, [np.float32([1, 2])])
    >>> envelope, arrays = unpack(data, manifest)
    >>> envelope.round, arrays["w"].tolist()
    (3, [1.0, 2.0])
    """
    arrays = [[form.name, form.kind, list(form.shape)] for form in manifest.arrays]
    header = json.dumps({**dataclasses.asdict(envelope), "arrays": arrays}).encode()
    pieces = [MARK, struct.pack("<I", len(header)), header]
    for form, leaf in zip(manifest.arrays, leaves, strict=True):
        array = np.asarray(leaf)
        if (str(array.dtype), array.shape) != (form.kind, form.shape):
            raise ValueError(f"{form.name} is {array.dtype} {array.shape}, not {form.kind} {form.shape} as announced.")
        pieces.append(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return b"".join(pieces)


def unpack(
    data: bytes, manifest: Manifest, belongs: Callable[[Envelope], None] | None = None
) -> tuple[Envelope, dict[str, np.ndarray]]:
    """What a message says and holds; its arrays are read-only.

    Args:
      data: The message.
      manifest: What it must hold.
      belongs: Looks at the envelope before anything else is looked at, and may raise `Refused`.

    Raises:
      Refused: It is not a message of that form, whatever else it may be.
    """
    if len(data) > manifest.most_bytes:
        raise Refused("too-large", f"it has {len(data)} bytes, and {manifest.most_bytes} are the most")
    start = len(MARK) + 4
    if len(data) < start or not data.startswith(MARK[:-1]):
        raise Refused("unreadable", "it is no message of polyfed")
    if data[len(MARK) - 1] != MARK[-1]:
        raise Refused("other-version", f"it has format {data[len(MARK) - 1]}, and this is {MARK[-1]}")
    (length,) = struct.unpack_from("<I", data, len(MARK))
    envelope, forms = _header(data[start : start + length])
    if belongs is not None:
        belongs(envelope)
    _compare(forms, manifest)
    numbers = len(data) - start - length
    if numbers != manifest.num_bytes:
        raise Refused("unreadable", f"it has {numbers} bytes of numbers, not {manifest.num_bytes}")
    arrays, at = {}, start + length
    for form in manifest.arrays:
        kind = np.dtype(form.kind).newbyteorder("<")
        arrays[form.name] = np.frombuffer(data, kind, math.prod(form.shape), at).reshape(form.shape)
        at += form.num_bytes
    return envelope, arrays


def _header(text: bytes) -> tuple[Envelope, list[Any]]:
    try:
        header = json.loads(text)
        given = {field.name: header.pop(field.name) for field in dataclasses.fields(Envelope)}
        forms = header.pop("arrays")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("unreadable", "its header cannot be read") from None
    words = all(isinstance(given[name], str) for name in ("experiment", "run", "sender", "version"))
    if header or not words or type(given["round"]) is not int or not isinstance(forms, list):
        raise Refused("unreadable", "its header is not that of a message")
    return Envelope(**given), forms


def _compare(forms: list[Any], manifest: Manifest) -> None:
    """Raise `Refused` at the first difference."""
    expected: Mapping[str, ArrayForm] = {form.name: form for form in manifest.arrays}
    for form in forms:
        whole = isinstance(form, list) and len(form) == 3 and isinstance(form[0], str) and isinstance(form[2], list)
        if not whole:
            raise Refused("unreadable", "its header describes no arrays")
    names = [form[0] for form in forms]
    missing = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    if missing or extra:
        said = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}, for which nobody asked"
        raise Refused("schema", f"it {said}")
    if names != list(expected):
        raise Refused("schema", "its arrays are in another order, or there twice")
    for name, kind, shape in forms:
        form = expected[name]
        if kind != form.kind or shape != list(form.shape) or any(type(size) is not int for size in shape):
            raise Refused("schema", f"its {name!r} is {kind!r} {shape!r}, not {form.kind} {list(form.shape)}")
