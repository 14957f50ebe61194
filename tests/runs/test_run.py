from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from polyfed.environments import World
from polyfed.errors import DiskError, ResumeMismatchError
from polyfed.experiment import Experiment
from polyfed.runs import run, store, versions
from polyfed.runs.checkpoint import checkpoints
from polyfed.simulation import plan as planning

Results = Callable[[Path], dict[str, Any]]


def ignore(progress: Any) -> None:
    """Watch a run and say nothing."""


class PowerCut(BaseException):
    """The end of a process, without a chance to tidy up."""


@pytest.fixture
def fresh(experiment: Experiment, tmp_path: Path) -> Path:
    """The folder of a run that has not begun."""
    return run.create(tmp_path / "runs", experiment, (0,))


# Interruptions


@pytest.mark.parametrize(
    "place", [("fedavg", 0), pytest.param(("fedavg", 4), marks=pytest.mark.slow), ("local_only", 2)], ids=str
)
def test_a_run_interrupted_between_blocks_ends_like_any_other(
    place: tuple[str, int], fresh: Path, finished: Path, results: Results
) -> None:
    def cut(progress: Any) -> None:
        if (progress.arm, progress.round) == place:
            raise PowerCut

    with pytest.raises(PowerCut):
        run.go_on(fresh, cut, checkpoint_seconds=0)
    assert results(fresh) != results(finished)
    run.go_on(fresh, ignore, checkpoint_seconds=0)
    assert results(fresh) == results(finished)


class Disk:
    """Counts what is asked of the disk, and lets `fail` happen at one of those calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, fail: Callable[[str, Any], None]):
        self.calls, self.synced = 0, {}
        self.really = {name: getattr(os, name) for name in ("fsync", "replace", "truncate", "mkdir")}
        for name in self.really:
            monkeypatch.setattr(os, name, self._watched(name, at, fail))

    def _watched(self, name: str, at: int, fail: Callable[[str, Any], None]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == at:
                self._tear(name, args)
                fail(name, args)
            result = self.really[name](*args, **kwargs)
            if name == "fsync":
                status = os.fstat(args[0])
                self.synced[status.st_ino] = status.st_size
            return result

        return call

    def _tear(self, name: str, args: Any) -> None:
        """Of what was written since the last flush, half arrived."""
        if name == "fsync" and stat.S_ISREG(os.fstat(args[0]).st_mode):
            status = os.fstat(args[0])
            safe = self.synced.get(status.st_ino, 0)
            os.ftruncate(args[0], safe + (status.st_size - safe) // 2)


def cut(name: str, args: Any) -> None:
    raise PowerCut


def full(name: str, args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(scope="session")
def num_calls(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How often an undisturbed run asks something of the disk."""
    folder = run.create(tmp_path_factory.mktemp("counted"), experiment, (0,))
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = Disk(monkeypatch, -1, cut)
        run.go_on(folder, ignore, checkpoint_seconds=0)
    return disk.calls


def interrupt_everywhere(
    moments: Iterable[int], experiment: Experiment, tmp_path: Path, finished: Path, results: Results
) -> int:
    """Cut the power at each of the moments of a run of its own, resume, compare; how many there were."""
    done = 0
    for at in moments:
        folder = run.create(tmp_path / str(at), experiment, (0,))
        with pytest.MonkeyPatch.context() as monkeypatch:
            Disk(monkeypatch, at, cut)
            with pytest.raises(PowerCut):
                run.go_on(folder, ignore, checkpoint_seconds=0)
        run.go_on(folder, ignore, checkpoint_seconds=0)
        assert results(folder) == results(finished), f"power cut at call {at}"
        left = [p for p in folder.rglob(".*") if p.name.endswith(".writing")]
        assert not left, f"power cut at call {at}"
        shutil.rmtree(tmp_path / str(at))
        done += 1
    return done


@pytest.mark.slow
def test_power_cuts_while_writing_lose_nothing(
    num_calls: int, experiment: Experiment, tmp_path: Path, finished: Path, results: Results
) -> None:
    assert interrupt_everywhere(range(1, num_calls + 1, 13), experiment, tmp_path, finished, results) >= 5


@pytest.mark.slow
def test_power_cuts_at_every_second_call_to_the_disk_lose_nothing(
    num_calls: int, experiment: Experiment, tmp_path: Path, finished: Path, results: Results
) -> None:
    moments = range(2, num_calls + 1, 2)
    assert interrupt_everywhere(moments, experiment, tmp_path, finished, results) >= 40


def test_a_run_without_checkpoints_begins_again(fresh: Path, finished: Path, results: Results) -> None:
    def stop(progress: Any) -> None:
        if progress.round == 4:
            raise PowerCut

    with pytest.raises(PowerCut):
        run.go_on(fresh, stop, checkpoint_seconds=1e9)
    assert not checkpoints(fresh / "arms" / "fedavg")
    rounds = []
    run.go_on(fresh, lambda progress: rounds.append((progress.arm, progress.round)), checkpoint_seconds=1e9)
    assert rounds[:4] == [("fedavg", 0), ("fedavg", 2), ("fedavg", 4), ("fedavg", 6)]
    assert results(fresh) == results(finished)  # the end of an arm is always a checkpoint


@pytest.mark.bits
@pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")
def test_a_run_begun_on_one_device_goes_on_on_two(
    fresh: Path, finished: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Any) -> None:
        if progress.round == 4:
            raise PowerCut

    with monkeypatch.context() as patch:
        on_one = lambda *sizes, **facts: planning.plan(*sizes[:3], jax.devices()[:1], **facts)  # noqa: E731
        patch.setattr("polyfed.simulation.simulate.plan", on_one)
        with pytest.raises(PowerCut):
            run.go_on(fresh, stop, checkpoint_seconds=0)
    run.go_on(fresh, ignore, checkpoint_seconds=0)
    assert results(fresh) == results(finished)


def test_an_arm_that_is_complete_is_not_touched(finished: Path, copied: Callable[[Path], Path]) -> None:
    folder, seen = copied(finished), []
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (folder / "arms").rglob("*")}
    run.go_on(folder, seen.append)
    assert not seen
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (folder / "arms").rglob("*")} == before


def test_progress_is_told_after_every_block(fresh: Path) -> None:
    seen: list[Any] = []
    run.go_on(fresh, seen.append)
    assert [(p.arm, p.round) for p in seen] == list(itertools.product(("fedavg", "local_only"), (0, 2, 4, 6)))
    assert {p.arms for p in seen} == {("fedavg", "local_only")}
    assert seen[0].metrics == {}
    assert seen[1].metrics["loss"].shape == (2, 1, 3)
    assert seen[1].returns.shape == (1, 4, 4)
    arm = store.load_run(fresh).arms["fedavg"]
    np.testing.assert_array_equal(arm.returns[1], seen[1].returns)


@pytest.mark.parametrize(
    ("done", "num_rounds", "every", "expected"),
    [
        (0, 6, 2, [2, 2, 2]),
        (0, 7, 3, [3, 3, 1]),
        (3, 7, 3, [3, 1]),
        (4, 7, 3, [2, 1]),
        (7, 7, 3, []),
        (0, 1, 1, [1]),
        (0, 2, 5, [2]),
    ],
)
def test_blocks_end_where_evaluations_are(done: int, num_rounds: int, every: int, expected: list[int]) -> None:
    assert list(run.blocks(done, num_rounds, every)) == expected


def test_no_block_is_longer_than_it_may_be() -> None:
    assert list(run.blocks(1, 8, 4, longest=2)) == [2, 1, 2, 2]


# Other versions


@pytest.fixture
def other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    now = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: {**now, "jax": "9.9.9"})


@pytest.mark.usefixtures("other_versions")
def test_other_versions_are_refused_with_what_differs(halfway: Path, copied: Callable[[Path], Path]) -> None:
    folder = copied(halfway)
    with pytest.raises(ResumeMismatchError, match=rf"jax {jax.__version__}, now 9\.9\.9.*--force") as caught:
        run.go_on(folder, ignore)
    assert caught.value.exit_code == 4
    assert not (folder / "arms" / "fedavg" / "done.json").exists()


@pytest.mark.usefixtures("other_versions")
def test_other_versions_may_be_forced(
    halfway: Path, finished: Path, copied: Callable[[Path], Path], results: Results
) -> None:
    folder = copied(halfway)
    run.go_on(folder, ignore, checkpoint_seconds=0, force=True)
    assert results(folder) == results(finished)  # the versions were not really others


def test_other_samples_are_refused(
    halfway: Path, copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(halfway)
    monkeypatch.setattr(World, "fingerprint", lambda self: "of other files")
    with pytest.raises(ResumeMismatchError, match=r"other samples.*--force"):
        run.go_on(folder, ignore)


def test_another_processor_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"versions": versions.versions(), "machine": versions.machine()}
    assert versions.differences(record) == []
    monkeypatch.setattr(versions, "_processor", lambda: "abacus")
    assert versions.differences(record) == [f"processor {record['machine']['processor']}, now abacus"]


# A disk that is full


@pytest.mark.parametrize("step", [51, pytest.param(17, marks=pytest.mark.slow)])
def test_a_full_disk_ends_a_run_in_a_sentence_and_loses_nothing(
    step: int, num_calls: int, experiment: Experiment, tmp_path: Path, finished: Path, results: Results
) -> None:
    for at in range(2, num_calls + 1, step):
        folder = run.create(tmp_path / str(at), experiment, (0,))
        with pytest.MonkeyPatch.context() as monkeypatch:
            Disk(monkeypatch, at, full)
            with pytest.raises(DiskError, match="the disk is full") as caught:
                run.go_on(folder, ignore, checkpoint_seconds=0)
        assert "\n" not in str(caught.value)
        assert "polyfed run --resume" in str(caught.value)
        run.go_on(folder, ignore, checkpoint_seconds=0)
        assert results(folder) == results(finished), f"full at call {at}"


def test_a_full_disk_leaves_the_checkpoint_before(fresh: Path, finished: Path, results: Results) -> None:
    writes = {"count": 0}
    really = os.fsync

    def fsync(descriptor: int) -> None:
        """Full while the second checkpoint's arrays are written."""
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if "round-00000004" in name and name.endswith(".safetensors.writing"):
            writes["count"] += 1
            full("fsync", ())
        really(descriptor)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(DiskError, match="the disk is full"):
            run.go_on(fresh, ignore, checkpoint_seconds=0)
    assert writes["count"] == 1
    assert [p.name for p in checkpoints(fresh / "arms" / "fedavg")] == ["round-00000002"]
    rounds = []
    run.go_on(fresh, lambda progress: rounds.append(progress.round), checkpoint_seconds=0)
    assert rounds[0] == 2
    assert results(fresh) == results(finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system that is too small; needs the right to mount."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, experiment: Experiment, finished: Path, results: Results) -> None:
    folder = run.create(small_disk, experiment, (0,))
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    with pytest.raises(DiskError, match="the disk is full"):
        run.go_on(folder, ignore, checkpoint_seconds=0)
    assert not (folder / "arms" / "local_only" / "done.json").exists()
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    run.go_on(folder, ignore, checkpoint_seconds=0)
    assert results(folder) == results(finished)


@pytest.mark.parametrize("where", ["file/runs", "/proc/nowhere", "/dev/null/runs"])
def test_a_place_that_cannot_be_written(where: str, experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="could not be written"):
        run.create(tmp_path / where, experiment, (0,))


# Weights


def test_weights_that_are_asked_for_before_the_end(halfway: Path) -> None:
    with pytest.raises(ValueError, match="is not complete"):
        run.weights_checksum(halfway / "arms" / "fedavg", "seed-0/global")


def test_weights_of_a_seed_that_was_not_run(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights 'seed-3/global': it has seed-0/client-0"):
        run.weights_checksum(finished / "arms" / "fedavg", "seed-3/global")
