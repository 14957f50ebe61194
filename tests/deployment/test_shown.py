"""What a site remembers of the shares that it has shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from polyfed.deployment.shown import NAME, Memory, Shown
from polyfed.errors import DamagedError

ONE = Shown("experiment", "run", 1, "broadcast", "message", ("ann", "bob"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    memory = Memory(tmp_path)
    for number in (1, 2, 3):
        memory.add(dataclasses.replace(ONE, number=number, message=f"message {number}"))
    return tmp_path


def test_it_is_known_by_its_exchange_and_by_its_message(folder: Path) -> None:
    memory = Memory(folder)
    asked = dataclasses.replace(ONE, number=2, message="message 2", left=())
    for now in (asked, dataclasses.replace(asked, message="another"), dataclasses.replace(asked, run="another")):
        found = memory.of(now)
        assert found is not None
        assert found.left == ("ann", "bob")
    assert memory.of(dataclasses.replace(asked, run="another", message="another")) is None
    assert memory.of(dataclasses.replace(asked, run="another", experiment="another")) is None
    assert memory.exchange("run", 4) is None


def test_what_is_added_twice_is_written_once(folder: Path) -> None:
    before = (folder / NAME).read_bytes()
    Memory(folder).add(dataclasses.replace(ONE, number=3, message="message 3"))
    assert (folder / NAME).read_bytes() == before


def test_a_last_line_that_was_cut_is_of_shares_that_never_left(folder: Path) -> None:
    path = folder / NAME
    path.write_bytes(path.read_bytes()[:-7])
    memory = Memory(folder)
    assert memory.exchange("run", 2) is not None
    assert memory.exchange("run", 3) is None
    memory.add(dataclasses.replace(ONE, number=3))
    assert Memory(folder).exchange("run", 3) is not None


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"\xff\n", b'{"left": 3}\n'])
def test_what_was_edited_is_refused(folder: Path, line: bytes) -> None:
    with (folder / NAME).open("ab") as file:
        file.write(line)
    with pytest.raises(DamagedError, match="does not know what it has shown"):
        Memory(folder)
