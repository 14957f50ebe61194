from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from polyfed.errors import DiskError
from polyfed.runs.files import append_lines, sha256, write_bytes, write_json, writing


def refuse(number: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_is_written_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    write_json(tmp_path / "b.json", {"x": [1, 2]})
    assert json.loads((tmp_path / "b.json").read_text()) == {"x": [1, 2]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, step, refuse(errno.ENOSPC))
    with pytest.raises(DiskError, match="the disk is full"):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_disk_refuses_is_one_sentence_with_its_exit_code(number: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DiskError) as caught, writing(tmp_path / "x"):
        refuse(number)()
    assert reason in str(caught.value)
    assert str(tmp_path / "x") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(DiskError, match="the disk is full"):
        append_lines(tmp_path / "metrics.jsonl", ["{}"])


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(DiskError, match="a part of the path is a file"):
        write_bytes(tmp_path / "a" / "b", b"")


def test_lines_are_added_at_the_end(tmp_path: Path) -> None:
    append_lines(tmp_path / "log", ["1", "2"])
    append_lines(tmp_path / "log", [])
    append_lines(tmp_path / "log", ["3"])
    assert (tmp_path / "log").read_bytes() == b"1\n2\n3\n"


def test_checksum_of_a_file_and_of_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"0123456789").hexdigest()
    assert sha256(tmp_path / "a", 4) == hashlib.sha256(b"0123").hexdigest()
    assert sha256(tmp_path / "a", 0) == hashlib.sha256(b"").hexdigest()
