"""A trained policy as a file that needs no polyfed, compared with the original before it is written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load, save

from polyfed.checks import one_of
from polyfed.export import onnx_graph
from polyfed.export.model_card import model_card
from polyfed.export.parity import BATCHES, Parity, compare, evaluate, outputs_of, sample_observations
from polyfed.runs import store
from polyfed.runs.files import write_bytes, write_json, writing
from polyfed.runs.learned import GLOBAL, Learned, read_learned

Write = Callable[[Learned, dict[str, str]], bytes]
Read = Callable[[Learned, bytes, np.ndarray], dict[str, np.ndarray]]  # what the file gives for observations


def _write_onnx(learned: Learned, about: dict[str, str]) -> bytes:
    size = learned.experiment.environment.observation_size
    return onnx_graph.to_onnx(outputs_of(learned), size, about)


def _read_onnx(learned: Learned, content: bytes, observations: np.ndarray) -> dict[str, np.ndarray]:
    del learned
    return onnx_graph.run_onnx(content, observations)


def _write_safetensors(learned: Learned, about: dict[str, str]) -> bytes:
    return save(learned.parameters(), metadata=about)


def _read_safetensors(learned: Learned, content: bytes, observations: np.ndarray) -> dict[str, np.ndarray]:
    return evaluate(learned.with_parameters(load(content), Path("policy.safetensors")), observations)


FORMATS: dict[str, tuple[Write, Read]] = {
    "onnx": (_write_onnx, _read_onnx),
    "safetensors": (_write_safetensors, _read_safetensors),
}


def export(
    run: Path, out: Path, *, format: str = "onnx", arm: str = "", client: str = GLOBAL, seed: int = -1
) -> dict[str, Any]:
    """Write `policy.onnx` or `policy.safetensors`, `MODEL_CARD.md` and `export.json` into a folder.

    Args:
      run: A run folder whose arm is complete.
      out: The folder; it is made.
      format: `"onnx"` or `"safetensors"`.
      arm: Method; the experiment's own if empty.
      client: `"global"`, or a client's own policy as `"client-2"`.
      seed: Of the training run; the first if negative.

    Returns:
      `{"file", "card", "parity", "observations", "differences", "equal_actions", "sha256"}`.

    Raises:
      ValueError: There is no such policy, it cannot be written in this format, or the copy differs from the original.
      MissingExtraError: ONNX is not installed.
    """
    one_of("--format", format, FORMATS)
    if format == "onnx":
        onnx_graph.load()  # before anything is computed
    learned = read_learned(run, arm=arm, name=client, seed=seed)
    environment = learned.experiment.environment
    if learned.agent.view(environment) is not environment:
        raise ValueError(
            "A policy with a memory needs what it noted with every action back with the next observation, which no "
            "file does for it: load it with polyfed.runs.learned.read_learned."
        )
    write, read = FORMATS[format]
    content = write(learned, _about(run, learned))
    parity = check_parity(learned, lambda observations: read(learned, content, observations))
    file, checksum = out / f"policy.{format}", hashlib.sha256(content).hexdigest()
    words = [run, "--arm", learned.experiment.method, "--client", client, "--seed", learned.seed, "--format", format]
    command = shlex.join(["polyfed", "export", *map(str, words), "--out", str(out)])
    told = f"`{file.name}`, {len(content)} bytes, SHA-256 `{checksum}`"
    card = model_card(store.load_run(run), learned, told, parity, command)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_bytes(file, content)
    write_bytes(out / "MODEL_CARD.md", card.encode())
    found = {**dataclasses.asdict(parity), "sha256": checksum}
    write_json(out / "export.json", {**_about(run, learned), "command": command, **found})
    del found["allowed"]
    return {"file": str(file), "card": str(out / "MODEL_CARD.md"), "parity": str(parity), **found}


def check_parity(learned: Learned, exported: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Parity:
    """Compare a copy with the original on 10,000 observations, and its small batches with its large one.

    Raises:
      ValueError: They differ by more than `Parity` allows.
    """
    observations = sample_observations(learned, learned.world(learned.client or 0))
    original = evaluate(learned, observations)
    for num in BATCHES:
        copy = exported(observations[:num])
        parity = compare({name: x[:num] for name, x in original.items()}, copy)
        if not parity.holds:
            raise ValueError(
                f"The exported policy is not the one that was trained, so nothing was written ({parity}): export to "
                "another format, and report this."
            )
    return parity


def _about(run: Path, learned: Learned) -> dict[str, str]:
    """What the file says of itself."""
    record = store.read_record(run)
    return {
        "experiment": learned.experiment.name,
        "method": learned.experiment.method,
        "policy": learned.name,
        "seed": str(learned.seed),
        "run_sha256": record["run_sha256"],
        "weights_sha256": learned.weights_sha256,
        "versions": json.dumps(record["versions"]),
        "learner": type(learned.agent).__name__,
        "exported_by": f"polyfed {store.versions()['polyfed']}, jax {jax.__version__}",
    }
