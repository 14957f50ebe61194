"""A clock that jumps and a disk that is full, in a deployment through sites in this process."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_loopback import sites

from polyfed.deployment import deploy, serve
from polyfed.deployment.app_folder import Settings
from polyfed.deployment.audit import verify
from polyfed.deployment.kept import keep
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.resident import Resident
from polyfed.errors import DiskError
from polyfed.experiment import Experiment
from polyfed.runs import files


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`full(n)`: what is written from the nth time on meets a full disk; a negative n empties it again."""
    left, whole = [-1], os.fsync

    def fsync(descriptor: int) -> None:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= left[0] > 0
        whole(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)

    def set_(n: int) -> None:
        left[0] = n

    return set_


def test_a_site_whose_disk_is_full_says_so_and_keeps_what_it_had(full: Any, tmp_path: Path) -> None:
    keep(tmp_path, "run", (1, {}, []))
    before = (tmp_path / "site.state").read_bytes()
    full(0)
    with pytest.raises(DiskError, match="because the disk is full"):
        keep(tmp_path, "run", (2, {}, []))
    assert (tmp_path / "site.state").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("written", [4, 12, 20])
def test_a_server_whose_disk_is_full_ends_with_a_sentence_and_goes_on_to_the_same_bits(
    tiny: Callable[..., Experiment], full: Any, tmp_path: Path, written: int
) -> None:
    whole, cut = (deploy.create(tmp_path / name, tiny(num_rounds=2), 0) for name in ("whole", "cut"))
    deploy.go_on(whole, Loopback({name: site.answer for name, site in sites().items()}), lambda p: None)
    carrier = Loopback({name: site.answer for name, site in sites().items()})
    full(written)
    with pytest.raises(DiskError, match="because the disk is full") as caught:
        deploy.go_on(cut, carrier, lambda p: None)
    assert caught.value.exit_code == 5
    full(-1)
    deploy.go_on(cut, carrier, lambda p: None)
    verify(cut / "audit.jsonl")
    for name in ("evaluation.jsonl", "weights/seed-0/global.safetensors"):
        assert (cut / "arms/fedavg" / name).read_bytes() == (whole / "arms/fedavg" / name).read_bytes()


def test_where_the_app_could_not_even_say_that_the_disk_is_full_the_command_does(
    full: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import contextlib

    link = SimpleNamespace(poll=lambda: None)
    monkeypatch.setattr(serve, "linked", lambda *args: contextlib.nullcontext((tmp_path, link)))
    monkeypatch.setattr(serve, "start", lambda home, app: "run")
    monkeypatch.setattr(serve, "_is_over", lambda *args: True)
    monkeypatch.setattr(serve, "LOOK_S", 0.0)
    full(0)
    with pytest.raises(DiskError, match="because the disk is full"):
        serve.serve(serve.Address("127.0.0.1", 1, None), Settings(str(tmp_path), ("ann",)), print)


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_jumps_moves_no_deadline(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flwr")
    from test_flower import KEYS, Grid

    from polyfed.deployment.flower_server import FlowerCarrier, wait_for
    from polyfed.errors import QuorumError

    clock, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + clock[0])

    def answer(node: int, phase: str, data: bytes) -> bytes | None:
        clock[0] += jump
        return data if node == 1 else None

    for name in ("_task_id", "_run_id", "_node_id"):
        from flwr.supercore.task_identity import TaskIdentity

        monkeypatch.setattr(TaskIdentity, name, 1)
    carrier, began = FlowerCarrier(Grid(answer), KEYS), time.monotonic()
    replies = carrier.exchange("round", {"ann": b"a", "bob": b"b"}, 0.5)
    assert replies.arrived == (("ann", b"a"),)
    assert 0.4 < time.monotonic() - began < 5.0
    with pytest.raises(QuorumError):
        wait_for(carrier, ("ann", "bob", "cid"), quorum=3, patience_s=0.0)
    slow = Loopback({"ann": lambda phase, message: answer(1, phase, message) or b""})
    assert slow.exchange("round", {"ann": b"a"}, 5.0).arrived == (("ann", b"a"),)


def test_a_site_answers_whatever_its_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: -1e9)
    assert Resident("ann").answer("name", b"")[:1] == b"+"
