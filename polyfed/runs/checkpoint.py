"""Checkpoints that are whole or refused: safetensors beside a manifest of checksums, never pickle.

A checkpoint is a folder `round-000120/` with `state.safetensors` (every array of the federation by its path) and
`manifest.json` (its checksum, the lengths and checksums of the logs at that round, the experiment's digest), itself
under a checksum. A byte changed anywhere is detected before an array is used.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from polyfed.errors import DamagedError
from polyfed.leaves import leaf_names
from polyfed.record import digest
from polyfed.runs.files import sha256, sync_folder, write_bytes, write_json, writing

KEEP = 2  # checkpoints of an arm


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """A tree's arrays by path, on the host."""
    leaves = jax.device_get(jax.tree.leaves(tree))
    return {name: np.asarray(x, order="C") for name, x in zip(leaf_names(tree), leaves, strict=True)}


def from_arrays(like: Any, arrays: dict[str, np.ndarray], source: Path) -> Any:
    """The tree of the shape of `like` whose arrays were saved; raises `DamagedError` if names or shapes differ."""
    leaves, structure = jax.tree.flatten(like)
    new = []
    for name, leaf in zip(leaf_names(like), leaves, strict=True):
        array = arrays.get(name)
        if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise DamagedError(
                f"{source} does not hold {name} of shape {leaf.shape}: it belongs to another experiment."
            )
        new.append(jnp.asarray(array))
    return jax.tree.unflatten(structure, new)


def write_arrays(path: Path, tree: Any) -> str:
    """Write a tree as safetensors and give the file's SHA-256."""
    write_bytes(path, save(to_arrays(tree)))
    return sha256(path)


def read_arrays(path: Path, checksum: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file whose SHA-256 is known; raises `DamagedError` if it is not the one."""
    try:
        if sha256(path) != checksum:
            raise DamagedError(f"{path} was cut or edited: its checksum is not the recorded one.")
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise DamagedError(f"{path} cannot be read: {error}.") from error


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A round that was completed, and how long the logs were then: `logs` maps a file to `[bytes, sha256]`."""

    folder: Path
    round: int
    state_sha256: str
    experiment: str
    logs: dict[str, list[Any]]

    def load(self, like: Any) -> Any:
        """The federation as it was; `like` gives structure, shapes and dtypes."""
        return from_arrays(like, read_arrays(self.folder / "state.safetensors", self.state_sha256), self.folder)


def write_checkpoint(arm: Path, round_: int, federation: Any, experiment: str, logs: list[Path]) -> None:
    """Write a checkpoint beside, rename it, and drop all but the newest `KEEP`."""
    folder = arm / "checkpoints" / f"round-{round_:08d}"
    beside = folder.with_name(f".{folder.name}.writing")
    with writing(folder):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        lengths = {log.name: [log.stat().st_size, sha256(log)] for log in logs}
        body = {
            "round": round_,
            "state_sha256": write_arrays(beside / "state.safetensors", federation),
            "experiment": experiment,
            "logs": lengths,
        }
        write_json(beside / "manifest.json", {**body, "manifest_sha256": digest(body)})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)
        sync_folder(folder.parent)
        for old in [*sorted(folder.parent.glob("round-*"))[:-KEEP], *folder.parent.glob(".round-*.writing")]:
            shutil.rmtree(old)


def read_manifest(folder: Path) -> Checkpoint:
    """A checkpoint's manifest; raises `DamagedError` if it was cut or edited."""
    try:
        data = json.loads((folder / "manifest.json").read_text())
        body = {name: data[name] for name in ("round", "state_sha256", "experiment", "logs")}
        whole = data["manifest_sha256"] == digest(body)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{folder}/manifest.json cannot be read: it was cut or edited.") from error
    if not whole:
        raise DamagedError(f"{folder}/manifest.json was edited: its checksum is not the recorded one.")
    return Checkpoint(folder, **body)


def checkpoints(arm: Path) -> list[Path]:
    """Folders of an arm's checkpoints, newest first."""
    return sorted((arm / "checkpoints").glob("round-*"), reverse=True)
