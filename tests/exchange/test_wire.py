import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.exchange.wire import MARK, Envelope, Manifest, Refused, pack, unpack

TREE = {
    "layers": [{"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}],
    "count": np.int32(4),
    "on": np.bool_(True),
}
LEAVES = [TREE["count"], TREE["layers"][0]["weight"], TREE["on"]]
MANIFEST = Manifest.of(TREE)
OWN = Envelope("digest", "run", 7, "client-0")
MESSAGE = pack(OWN, MANIFEST, LEAVES)


def with_header(**changes):
    """The message with another header."""
    (length,) = struct.unpack_from("<I", MESSAGE, 8)
    header = {**json.loads(MESSAGE[12 : 12 + length]), **changes}
    text = json.dumps({name: value for name, value in header.items() if value is not ...}).encode()
    return MARK + struct.pack("<I", len(text)) + text + MESSAGE[12 + length :]


def test_what_was_sent_arrives_to_the_last_bit():
    envelope, arrays = unpack(MESSAGE, MANIFEST)
    assert envelope == OWN
    assert list(arrays) == ["count", "layers.0.weight", "on"]
    for found, sent in zip(arrays.values(), LEAVES, strict=True):
        assert found.dtype == np.asarray(sent).dtype
        np.testing.assert_array_equal(found, sent)
    with pytest.raises(ValueError, match="read-only"):
        arrays["layers.0.weight"][0, 0] = 1


ARRAYS = [["count", "int32", []], ["layers.0.weight", "float32", [2, 3]], ["on", "bool", []]]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "unreadable"),
        (b"GET / HTTP/1.1", "unreadable"),
        (b"\x80\x04\x95" + bytes(40), "unreadable"),  # a pickle
        (b"polyfed\x02" + MESSAGE[8:], "other-version"),
        (MESSAGE[:-1], "unreadable"),
        (MESSAGE + b"\0", "unreadable"),
        (MESSAGE + bytes(10_000), "too-large"),
        (MARK + struct.pack("<I", 2**32 - 1) + MESSAGE[12:], "unreadable"),
        (MARK + struct.pack("<I", 10) + b"[" * 10, "unreadable"),
        (MARK + struct.pack("<I", 4000) + b"[" * 4000, "unreadable"),
        (with_header(arrays=ARRAYS[:2]), "schema"),
        (with_header(arrays=[*ARRAYS, ["more", "float32", []]]), "schema"),
        (with_header(arrays=[*ARRAYS, ARRAYS[0]]), "schema"),
        (with_header(arrays=ARRAYS[::-1]), "schema"),
        (with_header(arrays=[ARRAYS[0], ["layers.0.weight", "float32", [3, 2]], ARRAYS[2]]), "schema"),
        (with_header(arrays=[ARRAYS[0], ["layers.0.weight", "float64", [2, 3]], ARRAYS[2]]), "schema"),
        (with_header(arrays=[ARRAYS[0], ["layers.0.weight", "object", [2, 3]], ARRAYS[2]]), "schema"),
        (with_header(arrays=[ARRAYS[0], ["layers.0.weight", "float32", [2.0, 3]], ARRAYS[2]]), "schema"),
        (with_header(arrays=[["count", "int32"]]), "unreadable"),
        (with_header(arrays={"count": 1}), "unreadable"),
        (with_header(arrays=...), "unreadable"),
        (with_header(run=...), "unreadable"),
        (with_header(round="7"), "unreadable"),
        (with_header(round=True), "unreadable"),
        (with_header(sender=7), "unreadable"),
        (with_header(num_examples=1e12), "unreadable"),
    ],
)
def test_what_is_no_message_of_that_form_is_refused(data, code):
    with pytest.raises(Refused) as refused:
        unpack(data, MANIFEST)
    assert refused.value.code == code


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_changed_message_is_refused_or_is_one_of_that_form(changes):
    data = bytearray(MESSAGE)
    for place, value in changes:
        data[place] = value
    try:
        _, arrays = unpack(bytes(data), MANIFEST)
    except Refused:
        return
    assert [(x.dtype, x.shape) for x in arrays.values()] == [(np.asarray(x).dtype, np.shape(x)) for x in LEAVES]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_anything_else_is_refused(data):
    for text in (data, MARK + data, MARK + struct.pack("<I", len(data)) + data):
        with pytest.raises(Refused):
            unpack(text, MANIFEST)


def test_what_is_not_sent_or_not_as_announced():
    with pytest.raises(ValueError, match="weight is float64, which is not sent"):
        Manifest.of({"weight": np.zeros(2)})
    with pytest.raises(ValueError, match="weight is float32"):
        pack(OWN, Manifest.of({"weight": np.zeros(2, np.float32)}), [np.zeros(3, np.float32)])
