"""The audit log: a chain that shows where it was changed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from polyfed.deployment.audit import Audit, Event, verify
from polyfed.errors import DamagedError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    audit = Audit(tmp_path / "audit.jsonl")
    audit.note(Event("began"), *(Event("accepted", "ann", round_, "round", "ab" * 32, 10) for round_ in (1, 2, 3)))
    Audit(tmp_path / "audit.jsonl").note(Event("refused", "eve", 3, code="not-finite", why="<b>\x1b[31m\nno"))
    return tmp_path / "audit.jsonl"


def changed(log: Path, lines: list[str]) -> Path:
    log.write_text("".join(line + "\n" for line in lines))
    return log


def test_a_log_that_was_left_alone_is_whole_and_holds_one_line_an_event(log: Path) -> None:
    count, last = verify(log)
    assert (count, last) == (5, json.loads(log.read_text().splitlines()[-1])["digest"])
    assert verify(log, last) == (5, last)
    assert "\x1b" not in log.read_text()


@pytest.mark.parametrize("line", range(5))
def test_a_line_that_was_changed_is_named(log: Path, line: int) -> None:
    lines = log.read_text().splitlines()
    body = json.loads(lines[line])
    body["client"] = "bob"
    with pytest.raises(DamagedError, match=f"changed at line {line + 1}"):
        verify(changed(log, [*lines[:line], json.dumps(body), *lines[line + 1 :]]))


@pytest.mark.parametrize("line", range(4))
def test_a_line_that_was_taken_out_or_moved_is_named(log: Path, line: int) -> None:
    lines = log.read_text().splitlines()
    with pytest.raises(DamagedError, match=f"changed at line {line + 1}"):
        verify(changed(log, [*lines[:line], *lines[line + 1 :]]))
    swapped = [*lines[:line], lines[line + 1], lines[line], *lines[line + 2 :]]
    with pytest.raises(DamagedError, match=f"changed at line {line + 1}"):
        verify(changed(log, swapped))


def test_a_log_that_was_cut_is_found_by_its_last_digest(log: Path) -> None:
    _, last = verify(log)
    cut = changed(log, log.read_text().splitlines()[:-1])
    verify(cut)
    with pytest.raises(DamagedError, match="cut off, or added"):
        verify(cut, last)


@pytest.mark.parametrize("line", ["", "{}", "[1]", "null", '{"digest": 3}', "\x00"])
def test_what_is_no_line_of_a_log_is_named(log: Path, line: str) -> None:
    with pytest.raises(DamagedError, match="changed at line 6"):
        verify(changed(log, [*log.read_text().splitlines(), line]))


def test_a_log_that_was_changed_is_not_gone_on_with(log: Path) -> None:
    changed(log, log.read_text().splitlines()[1:])
    with pytest.raises(DamagedError):
        Audit(log)


@pytest.mark.parametrize("left", [1, 100, -1])
def test_half_a_line_that_a_killed_server_left_is_taken_out_and_that_is_logged(log: Path, left: int) -> None:
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:left])
    with pytest.raises(DamagedError, match=f"changed at line {len(lines)}") if left > 0 else contextlib.nullcontext():
        verify(log)
    Audit(log).note(Event("accepted", client="ann", round=4))
    count, last = verify(log)
    found = [json.loads(line)["what"] for line in log.read_text().splitlines()]
    assert (count, found[-2:]) == (len(lines) + 1, ["mended", "accepted"])
    assert last == json.loads(log.read_text().splitlines()[-1])["digest"]
