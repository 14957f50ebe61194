from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.errors import DamagedError
from polyfed.leaves import leaf_names
from polyfed.recipes import arms
from polyfed.record import digest, to_data
from polyfed.runs import run, store
from polyfed.runs.checkpoint import (
    KEEP,
    checkpoints,
    from_arrays,
    read_manifest,
    to_arrays,
    write_checkpoint,
)
from polyfed.simulation.simulate import Simulation

TREE = {
    "network": [{"w": jnp.arange(6.0).reshape(2, 3)}, {"w": jnp.array([jnp.nan, -0.0, 1e-45], jnp.float32)}],
    "count": jnp.int32(-7),
    "flag": jnp.array([True, False]),
    "half": jnp.float16(1.5),
    "empty": jnp.zeros((0, 4)),
}


def an_arm(folder: Path) -> tuple[Path, list[Path]]:
    logs = [folder / name for name in store.LOGS]
    for log in logs:
        log.write_text("a line\n")
    return folder, logs


def test_arrays_have_the_names_of_their_paths() -> None:
    assert leaf_names(TREE) == ["count", "empty", "flag", "half", "network.0.w", "network.1.w"]


def test_a_checkpoint_reads_back_bit_for_bit(tmp_path: Path) -> None:
    arm, logs = an_arm(tmp_path)
    write_checkpoint(arm, 3, TREE, "me", logs)
    checkpoint, complaints = store.latest(arm, "me")
    assert checkpoint is not None
    assert (checkpoint.round, complaints) == (3, [])
    read = checkpoint.load(jax.tree.map(jnp.zeros_like, TREE))
    assert jax.tree.structure(read) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(TREE), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_the_newest_are_kept_in_the_order_of_their_rounds(tmp_path: Path) -> None:
    arm, logs = an_arm(tmp_path)
    for round_ in (2, 9, 10, 100):
        write_checkpoint(arm, round_, TREE, "me", logs)
    assert [read_manifest(folder).round for folder in checkpoints(arm)] == [100, 10]
    assert len(checkpoints(arm)) == KEEP


def test_what_a_killed_process_left_beside_is_swept_away(tmp_path: Path) -> None:
    arm, logs = an_arm(tmp_path)
    left = arm / "checkpoints" / ".round-00000001.writing"
    left.mkdir(parents=True)
    (left / "state.safetensors").write_bytes(b"half")
    write_checkpoint(arm, 2, TREE, "me", logs)
    assert [p.name for p in (arm / "checkpoints").iterdir()] == ["round-00000002"]
    assert sorted(p.name for p in (arm / "checkpoints" / "round-00000002").iterdir()) == [
        "manifest.json",
        "state.safetensors",
    ]


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path: Path) -> None:
    arm, logs = an_arm(tmp_path)
    write_checkpoint(arm, 1, TREE, "somebody else", logs)
    with pytest.raises(DamagedError, match="belongs to another experiment"):
        store.latest(arm, "me")


@pytest.mark.parametrize(
    "other",
    [
        {**TREE, "count": jnp.zeros(2, jnp.int32)},
        {**TREE, "count": jnp.float32(0)},
        {**TREE, "more": jnp.zeros(1)},
    ],
    ids=["shape", "dtype", "name"],
)
def test_arrays_of_another_form_are_refused(other: Any) -> None:
    with pytest.raises(DamagedError, match="belongs to another experiment"):
        from_arrays(other, to_arrays(TREE), Path("state.safetensors"))


def test_logs_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    arm, logs = an_arm(tmp_path)
    write_checkpoint(arm, 1, TREE, "me", logs)
    for log in logs:
        log.write_text("a line\nof a round that was not finished")
    store.latest(arm, "me")
    assert [log.read_text() for log in logs] == ["a line\n"] * 2


@pytest.mark.parametrize("damage", ["cut", "edited", "gone"])
def test_a_log_that_lacks_what_the_checkpoint_saw_is_detected(damage: str, tmp_path: Path) -> None:
    arm, logs = an_arm(tmp_path)
    write_checkpoint(arm, 1, TREE, "me", logs)
    if damage == "gone":
        logs[0].unlink()
    else:
        logs[0].write_text("a l" if damage == "cut" else "a lime\n")
    with pytest.raises(DamagedError, match=r"metrics\.jsonl was cut or edited"):
        store.latest(arm, "me")


def test_a_damaged_checkpoint_gives_way_to_the_one_before_with_a_sentence(tmp_path: Path) -> None:
    arm, logs = an_arm(tmp_path)
    write_checkpoint(arm, 1, TREE, "me", logs)
    write_checkpoint(arm, 2, TREE, "me", logs)
    (checkpoints(arm)[0] / "manifest.json").write_text("{}")
    checkpoint, complaints = store.latest(arm, "me")
    assert checkpoint is not None
    assert checkpoint.round == 1
    assert len(complaints) == 1
    assert "round-00000002" in complaints[0]


@pytest.mark.parametrize("content", ["", "[]", "null", "7", '"round"', "{}", '{"round": 1}', "\xff"])
def test_a_manifest_that_is_anything_else_is_damaged(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedError):
        read_manifest(tmp_path)


# Damage at random


def flipped(content: bytes, random: np.random.Generator) -> bytes:
    """The content with one byte changed."""
    place = int(random.integers(len(content)))
    return content[:place] + bytes([content[place] ^ int(random.integers(1, 256))]) + content[place + 1 :]


def cut(content: bytes, random: np.random.Generator) -> bytes:
    """The content without its end."""
    return content[: int(random.integers(len(content)))]


def state_of(arm: Path, identity: str, like: Any) -> tuple[int, dict[str, bytes], list[bytes], list[str]]:
    """What a resumed process would start from."""
    checkpoint, complaints = store.latest(arm, identity)
    assert checkpoint is not None
    arrays = {name: x.tobytes() for name, x in to_arrays(checkpoint.load(like)).items()}
    return checkpoint.round, arrays, [(arm / name).read_bytes() for name in store.LOGS], complaints


@pytest.mark.parametrize(("harm", "times"), [(flipped, 200), (cut, 40)], ids=["byte flips", "cuts"])
def test_damage_to_a_checkpoint_is_detected_or_harmless(
    harm: Any, times: int, halfway: Path, copied: Callable[[Path], Path]
) -> None:
    """The newest checkpoint as it was, or the one before with a sentence, or `DamagedError`: never anything else."""
    record = store.read_record(halfway)
    experiment, seeds = store.read_experiment(record)
    simulation = Simulation(arms(experiment)["fedavg"], seeds)
    identity = digest([to_data(simulation.experiment), list(seeds)])
    like = simulation.unpadded(simulation.init())
    arm = copied(halfway) / "arms" / "fedavg"
    files = sorted(p for p in arm.rglob("*") if p.is_file())
    assert {p.name for p in files} == {"state.safetensors", "manifest.json", *store.LOGS}
    assert len(files) == 6
    whole = {path: path.read_bytes() for path in files}

    def restore() -> None:
        for path, content in whole.items():
            path.write_bytes(content)

    newest = state_of(arm, identity, like)
    manifest = checkpoints(arm)[0] / "manifest.json"
    manifest.write_text("{}")
    before = state_of(arm, identity, like)
    assert (newest[0], before[0]) == (4, 2)

    random, seen = np.random.default_rng(20261121), {"harmless": 0, "the one before": 0, "refused": 0}
    for i in range(times):
        restore()
        path = files[i % len(files)]
        path.write_bytes(harm(whole[path], random))
        try:
            found = state_of(arm, identity, like)
        except DamagedError:
            seen["refused"] += 1
            continue
        expected = newest if found[0] == 4 else before
        assert found[:3] == expected[:3]
        assert len(found[3]) == (0 if found[0] == 4 else 1)
        seen["harmless" if found[0] == 4 else "the one before"] += 1
    assert min(seen.values()) > 0, seen


@pytest.mark.slow
def test_a_run_whose_newest_checkpoint_was_damaged_ends_like_any_other(
    halfway: Path, finished: Path, copied: Callable[[Path], Path], results: Callable[[Path], dict[str, Any]]
) -> None:
    folder, said = copied(halfway), []
    state = checkpoints(folder / "arms" / "fedavg")[0] / "state.safetensors"
    state.write_bytes(flipped(state.read_bytes(), np.random.default_rng(0)))
    run.go_on(folder, lambda progress: said.append((progress.arm, progress.round, progress.message)), 0)
    assert said[0][:2] == ("fedavg", 2)
    assert "round-00000004" in said[0][2]
    assert not any(message for _, _, message in said[1:])
    assert results(folder) == results(finished)


def test_a_run_without_a_whole_checkpoint_is_refused_and_left_alone(
    halfway: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(halfway)
    for checkpoint in checkpoints(folder / "arms" / "fedavg"):
        shutil.rmtree(checkpoint)
        checkpoint.mkdir()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(DamagedError, match="No checkpoint of"):
        run.go_on(folder, lambda progress: None)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_the_record_of_a_checkpoint_is_json_with_checksums(halfway: Path) -> None:
    folder = checkpoints(halfway / "arms" / "fedavg")[0]
    data = json.loads((folder / "manifest.json").read_text())
    assert set(data) == {"round", "state_sha256", "experiment", "logs", "manifest_sha256"}
    assert set(data["logs"]) == set(store.LOGS)
    assert data["logs"]["metrics.jsonl"][0] == (halfway / "arms/fedavg/metrics.jsonl").stat().st_size
