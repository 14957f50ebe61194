"""What a site keeps: the whole of it, or a sentence."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyfed.deployment.kept import NAME, Turn, keep, kept
from polyfed.errors import DamagedError

LIKE = {"count": np.int32(0), "weight": np.zeros((2, 3), np.float32)}


def client(value: float) -> Any:
    return {"count": np.int32(value), "weight": np.full((2, 3), value, np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    turns = [Turn(5, "ab", b"+answer", client(1.0)), Turn(6, "cd", b"", client(2.0), b"held")]
    keep(tmp_path / "site", "run", (6, client(3.0), turns))
    return tmp_path / "site"


def test_what_was_kept_comes_back(folder: Path) -> None:
    found = kept(folder, "run", LIKE)
    assert found is not None
    number, after, turns = found
    assert (number, float(after["weight"][0, 0])) == (6, 3.0)
    assert [(turn.number, turn.sha256, turn.answer) for turn in turns] == [(5, "ab", b"+answer"), (6, "cd", b"")]
    assert [turn.held for turn in turns] == [b"", b"held"]
    assert [int(turn.before["count"]) for turn in turns] == [1, 2]


def test_of_another_run_and_of_no_run_there_is_nothing(folder: Path, tmp_path: Path) -> None:
    assert kept(folder, "another", LIKE) is None
    assert kept(tmp_path / "nowhere", "run", LIKE) is None


def test_any_byte_that_was_changed_is_found(folder: Path) -> None:
    path, draw = folder / NAME, random.Random(0)
    whole = path.read_bytes()
    for place in draw.sample(range(len(whole)), 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedError):
            kept(folder, "run", LIKE)
    for length in (0, 10, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            kept(folder, "run", LIKE)


def test_a_client_of_another_form_is_not_taken(folder: Path) -> None:
    with pytest.raises(DamagedError, match="another experiment"):
        kept(folder, "run", {**LIKE, "weight": np.zeros((2, 4), np.float32)})
