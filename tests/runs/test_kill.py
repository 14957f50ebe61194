"""A process that is killed for real, at many moments, and the run that goes on after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyfed.experiment import Experiment

pytestmark = pytest.mark.slow

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(
    tiny: Callable[..., Experiment], tiny_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Start:
    """`start(out)` begins a run in a process of its own, `start(out, folder)` goes on with one."""
    path = tiny_file(tiny(compare=("local_only",), num_rounds=12))
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def popen(out: Path, folder: Path | None = None) -> subprocess.Popen[str]:
        what = ["--resume", str(folder)] if folder else [str(path), "--seeds", "0", "--out", str(out)]
        command = [sys.executable, "-m", "polyfed", "run", *what, "--checkpoint-seconds", "0", "--no-report"]
        return subprocess.Popen(command, cwd=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return popen


def the_run(out: Path) -> Path | None:
    folders = [p for p in out.glob("tiny/*") if not p.name.startswith(".")]
    return folders[0] if folders else None


def finish(process: subprocess.Popen[str]) -> None:
    _, complaints = process.communicate(timeout=240)
    assert process.returncode == 0, complaints


@pytest.fixture(scope="module")
def undisturbed(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not killed; it leaves compiled programs for the others."""
    out = tmp_path_factory.mktemp("undisturbed")
    finish(start(out))
    folder = the_run(out)
    assert folder is not None
    return folder


def exists(pattern: str) -> Callable[[Path], bool]:
    return lambda out: next(out.glob(f"tiny/[0-9]*/{pattern}"), None) is not None


def longer(pattern: str, length: int) -> Callable[[Path], bool]:
    return lambda out: any(p.stat().st_size > length for p in out.glob(f"tiny/[0-9]*/{pattern}"))


FEDAVG, ALONE = "arms/fedavg", "arms/local_only"
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the folder is there": exists("run.json"),
    "the first evaluation was logged": longer(f"{FEDAVG}/evaluation.jsonl", 0),
    "the first rounds were logged": longer(f"{FEDAVG}/metrics.jsonl", 0),
    "the first checkpoint is being written": exists(f"{FEDAVG}/checkpoints/.round-*.writing"),
    "its manifest is being written": exists(f"{FEDAVG}/checkpoints/.round-*.writing/.manifest*.writing"),
    "it is there": exists(f"{FEDAVG}/checkpoints/round-*"),
    "the third checkpoint is being written": exists(f"{FEDAVG}/checkpoints/.round-00000006.writing"),
    "weights are being written": exists(f"{FEDAVG}/weights/seed-0/.client-*.writing"),
    "the second arm begins": longer(f"{ALONE}/evaluation.jsonl", 0),
    "the second arm has logged rounds": longer(f"{ALONE}/metrics.jsonl", 0),
    "the second arm has a checkpoint": exists(f"{ALONE}/checkpoints/round-00000004"),
    "the second arm is being marked as complete": exists(f"{ALONE}/.done.json.writing"),
}


def killed(process: subprocess.Popen[str], moment: Callable[[Path], bool], out: Path) -> bool:
    """Kill the process at that moment; False if it ended before."""
    while process.poll() is None:
        try:
            now = moment(out)
        except FileNotFoundError:  # it was renamed while we looked
            now = False
        if now:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(
    start: Start, undisturbed: Path, tmp_path: Path, results: Callable[[Path], dict[str, Any]]
) -> None:
    expected, places = results(undisturbed), []
    for number, (name, moment) in enumerate(MOMENTS.items()):
        out = tmp_path / str(number)
        out.mkdir()
        was_killed = killed(start(out), moment, out)
        found = the_run(out)
        assert found is not None
        rounds = [p.read_text().count("\n") for p in sorted(found.glob("arms/*/metrics.jsonl"))]
        if was_killed:
            places.append((name, rounds))
        finish(start(out, found))
        assert results(found) == expected, f"killed when {name}"
    assert len(places) >= 10, places
    assert len({str(rounds) for _, rounds in places}) >= 5, places  # they are different moments


def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    start: Start, undisturbed: Path, tmp_path: Path, results: Callable[[Path], dict[str, Any]]
) -> None:
    process, found, kills = start(tmp_path), None, 0
    for moment in (
        exists(f"{FEDAVG}/checkpoints/round-00000002"),
        exists(f"{FEDAVG}/checkpoints/round-00000008"),
        longer(f"{ALONE}/metrics.jsonl", 0),
    ):
        kills += killed(process, moment, tmp_path)
        found = the_run(tmp_path)
        process = start(tmp_path, found)
    finish(process)
    assert found is not None
    assert kills == 3
    assert results(found) == results(undisturbed)
