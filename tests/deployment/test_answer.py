"""What a site answers, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyfed.deployment.answer import Failed, answer, failure, opened
from polyfed.exchange.wire import Refused


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_parts_come_back_as_they_were(parts: list[bytes]) -> None:
    assert opened(answer(parts), len(parts)) == parts


@given(st.binary(max_size=200), st.integers(0, 4))
def test_any_bytes_are_parts_or_refused_or_a_sentence_of_one_line(data: bytes, num_parts: int) -> None:
    try:
        parts, said = opened(data, num_parts), ""
    except (Refused, Failed) as error:
        parts, said = [], str(error)
    assert answer(parts) == data or (said.isprintable() and len(said) <= 300)


def test_a_sentence_has_no_colours_and_an_end() -> None:
    with pytest.raises(Failed) as caught:
        opened(failure("\x1b[31m" + "a" * 1000 + "\n"), 1)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) == 300


def test_what_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(Refused, match="11 bytes, and 10 are the most"):
        opened(b"-" + bytes(10), 1, most_bytes=10)
