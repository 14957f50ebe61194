"""The run folder: what a run was, what it measured round by round, and the weights it ended with.

runs/<experiment>/<time>-<hash>/
  run.json                        the experiment as data, seeds, command, versions, machine
  optimum.json                    optimum and known rules of the evaluation episodes, where the environment knows them
  arms/<method>/metrics.jsonl     one line per round and seed: figures of every client and of the server
  arms/<method>/evaluation.jsonl  one line per evaluation: returns of every policy on every environment
  arms/<method>/public_states.safetensors  on which clients predict, where they do
  arms/<method>/checkpoints/      the newest two rounds that can be resumed
  arms/<method>/weights/          safetensors per seed: global.safetensors, client-0.safetensors, ...
  arms/<method>/done.json         seconds, and checksums of the weights; there once the arm is complete
  videos/                         films of policies, as `polyfed play --clients` makes them
  audit.jsonl                     of a deployment: who sent what, when, and whether it was let in
  flower/, serve.log, served.json of a deployment: Flower's home, what the server said, how it ended
  report.html, figures/           made from the above
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.errors import BusyError, DamagedError
from polyfed.evaluation.results import ArmResult, RunResult
from polyfed.experiment import Experiment
from polyfed.membership import judged
from polyfed.recipes import BASELINES, arms
from polyfed.record import digest, from_data, to_data
from polyfed.runs.checkpoint import Checkpoint, checkpoints, read_manifest
from polyfed.runs.files import append_lines, sha256, sync_folder, write_json, writing
from polyfed.runs.kept_films import read_films
from polyfed.runs.kept_states import read_states
from polyfed.runs.kept_yardstick import read_yardstick
from polyfed.runs.versions import machine, versions
from polyfed.simulation.engines import PROCESS
from polyfed.simulation.simulate import Simulation, label_counts
from polyfed.simulation.worlds import world_values

LOGS = ("metrics.jsonl", "evaluation.jsonl")


def create(
    root: Path, experiment: Experiment, seeds: tuple[int, ...], command: str, engine: Mapping[str, Any] = PROCESS
) -> Path:
    """Make a run folder, written beside and renamed."""
    record = {
        "format": 1,
        "experiment": to_data(experiment),
        "seeds": list(seeds),
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "data": experiment.fingerprint(),
        "versions": versions(),
        "machine": machine(),
        "engine": dict(engine),
    }
    planned = {method: arm.guarantee(arm.last_round) for method, arm in arms(experiment).items()}
    if any(planned.values()):  # what will have been spent when all rounds are done
        record["privacy"] = {method: spent.record for method, spent in planned.items() if spent is not None}
    inside = [Path("arms", method) for method in arms(experiment)]
    return new_folder(root / experiment.name, record, digest([record["experiment"], record["seeds"]]), inside)


def new_folder(root: Path, record: dict[str, Any], identity: str, inside: Iterable[Path] = ()) -> Path:
    """A folder with `run.json`, named by time and identity, written beside and renamed.

    Args:
      root: Where it is made.
      record: What `run.json` says; its checksum is added.
      identity: Digest of what is run.
      inside: Folders in it.
    """
    name = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{identity[:8]}"
    folder = root / name
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 1000):  # two runs may start in one second
            if not folder.exists():
                break
            folder = folder.with_name(f"{name}-{attempt}")
        beside = folder.with_name(f".{folder.name}.writing")
        beside.mkdir()
        write_json(beside / "run.json", {**record, "run_sha256": digest(record)})
        for path in inside:
            (beside / path).mkdir(parents=True)
        os.replace(beside, folder)
        sync_folder(folder.parent)
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder; raises `BusyError` where another process does."""
    with contextlib.ExitStack() as stack:
        with writing(folder / "lock"):
            file = stack.enter_context((folder / "lock").open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(
                    f"{folder} is in use by another process, and two would overwrite each other: "
                    "wait for it, or stop it."
                ) from None
        yield


def read_record(folder: Path) -> dict[str, Any]:
    """`run.json`; raises `ValueError` if the folder is no run, `DamagedError` if the file was edited."""
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a run folder, for it holds no run.json: give one made by `polyfed run`.")
    try:
        data = json.loads(path.read_text())
        body = {name: value for name, value in data.items() if name != "run_sha256"}
        if data["run_sha256"] != digest(body) or data["format"] != 1:
            raise DamagedError(
                f"{path} was edited, or written by another format: its checksum is not the recorded one."
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} cannot be read: it was cut or edited.") from error
    return data


def read_experiment(record: dict[str, Any]) -> tuple[Experiment, tuple[int, ...]]:
    """The experiment and its seeds."""
    return from_data(record["experiment"]), tuple(record["seeds"])


def _number(value: Any) -> float | int | None:
    """An integer as it is, else the shortest decimal that reads back as the same float32; null where there is none."""
    if isinstance(value, np.integer):
        return int(value)
    return float(str(np.float32(value))) if np.isfinite(value) else None


def log_rounds(arm: Path, first: int, metrics: dict[str, np.ndarray], seeds: tuple[int, ...]) -> None:
    """Add the rounds `first, first + 1, ...` to `metrics.jsonl`; metrics are `[R, S, C]` or `[R, S]`."""
    num_rounds = next(iter(metrics.values())).shape[0]
    lines = []
    for r in range(num_rounds):
        for s, seed in enumerate(seeds):
            clients = {n: [_number(x) for x in v[r, s]] for n, v in metrics.items() if v.ndim == 3}
            server = {n: _number(v[r, s]) for n, v in metrics.items() if v.ndim == 2}
            lines.append(json.dumps({"round": first + r, "seed": seed, "clients": clients, "server": server}))
    append_lines(arm / "metrics.jsonl", lines)


def log_evaluation(arm: Path, round_: int, returns: np.ndarray) -> None:
    """Add an evaluation `[S, P, M]` to `evaluation.jsonl`."""
    data = [[[_number(x) for x in policy] for policy in seed] for seed in returns]
    append_lines(arm / "evaluation.jsonl", [json.dumps({"round": round_, "returns": data})])


def is_done(arm: Path) -> bool:
    """Whether an arm is complete."""
    return (arm / "done.json").is_file()


def write_done(arm: Path, data: dict[str, Any]) -> None:
    """Mark an arm as complete: `data`, and checksums of the logs and of all this."""
    body = {**data, "logs": {name: sha256(arm / name) for name in LOGS}}
    write_json(arm / "done.json", {**body, "done_sha256": digest(body)})


def read_done(arm: Path) -> dict[str, Any]:
    """`done.json` of a complete arm; raises `DamagedError` if it was edited."""
    path = arm / "done.json"
    try:
        data = json.loads(path.read_text())
        whole = data.pop("done_sha256") == digest(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} cannot be read: it was cut or edited.") from error
    if not whole:
        raise DamagedError(f"{path} was edited: its checksum is not the recorded one.")
    return data


def latest(arm: Path, experiment: str) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, with logs cut back to it, and a sentence for each one that is not.

    Raises `DamagedError` if there are checkpoints and none is whole. Without any, logs are emptied: a new start.
    """
    found, complaints = checkpoints(arm), []
    for folder in found:
        try:
            checkpoint = read_manifest(folder)
            if checkpoint.experiment != experiment:
                raise DamagedError(f"{folder} belongs to another experiment.")
            if sha256(folder / "state.safetensors") != checkpoint.state_sha256:
                raise DamagedError(
                    f"{folder}/state.safetensors was cut or edited: its checksum is not the recorded one."
                )
            for name, (length, checksum) in checkpoint.logs.items():
                _check_log(arm / name, checksum, length)
        except (DamagedError, OSError) as error:
            complaints.append(str(error))
            continue
        for name, (length, _) in checkpoint.logs.items():
            with writing(arm / name):
                os.truncate(arm / name, length)
        return checkpoint, complaints
    if found:
        raise DamagedError(f"No checkpoint of {arm} is whole, so it cannot be resumed: {complaints[0]}")
    for name in LOGS:
        with writing(arm / name):
            (arm / name).write_bytes(b"")
    return None, complaints


def _check_log(path: Path, checksum: str, length: int | None = None) -> None:
    """Raise `DamagedError` unless the log, or its first `length` bytes, has that checksum."""
    try:
        whole = (length is None or path.stat().st_size >= length) and sha256(path, length) == checksum
    except OSError:
        whole = False
    if not whole:
        raise DamagedError(f"{path} was cut or edited: its checksum is not the recorded one.")


def _read_logs(arm: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """`(metrics, rounds [N], returns [N, S, P, M])`."""
    try:
        rows = [json.loads(line) for line in (arm / "metrics.jsonl").read_text().splitlines()]
        points = [json.loads(line) for line in (arm / "evaluation.jsonl").read_text().splitlines()]
        rounds = np.array([point["round"] for point in points])
        returns = np.array([point["returns"] for point in points], dtype=np.float64)
        num_seeds = len({row["seed"] for row in rows}) or 1
        metrics = {
            name: _column([row[kind][name] for row in rows], num_seeds)
            for kind in ("clients", "server")
            for name in (rows[0][kind] if rows else ())
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedError(f"The logs of {arm} cannot be read: they were cut or edited.") from error
    return metrics, rounds, returns


def _column(values: list[Any], num_seeds: int) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    return array.reshape(-1, num_seeds, *array.shape[1:])


def load_run(folder: Path) -> RunResult:
    """Read a run, complete or not; raises `ValueError` if it is none or holds no evaluation yet."""
    record = read_record(folder)
    experiment, seeds = read_experiment(record)
    results = {}
    for method, arm in arms(experiment).items():
        path = folder / "arms" / method
        if (path / "evaluation.jsonl").is_file() and (path / "evaluation.jsonl").stat().st_size:
            results[method] = _load_arm(path, arm, seeds)
    if not results:
        raise ValueError(f"{folder} holds no evaluation yet, so there is nothing to report: let the run go on first.")
    values, units = world_values(experiment)
    return RunResult(
        experiment.name,
        title(experiment),
        record["command"],
        results,
        values,
        units,
        record,
        measure=type(experiment.environment).measure,
        label_counts=label_counts(experiment),
        yardstick=read_yardstick(folder),
        films=read_films(folder),
        changes=experiment.changes,
    )


def title(experiment: Experiment) -> str:
    """The first docstring line of a named experiment, or its name."""
    from polyfed.experiments import titles

    return titles().get(experiment.name, experiment.name)


def _load_arm(path: Path, arm: Experiment, seeds: tuple[int, ...]) -> ArmResult:
    simulation = Simulation(arm, seeds)
    metrics, rounds, returns = _read_logs(path)
    done = read_done(path) if is_done(path) else {}
    for name, checksum in done.get("logs", {}).items():
        _check_log(path / name, checksum)
    return ArmResult(
        name=arm.method,
        baseline=arm.method in BASELINES,
        personal=simulation.personal,
        rounds=rounds,
        steps=_up_to(rounds, metrics["steps"].mean(axis=2)) if metrics else rounds * 0,
        bytes=_up_to(rounds, (metrics["bytes_up"] + metrics["bytes_down"]).sum(axis=2)) if metrics else rounds * 0,
        policies=simulation.policy_names,
        environments=simulation.environment_names,
        returns=returns,
        metrics=metrics,
        experiment=to_data(arm),
        seconds=float(done.get("seconds", 0.0)),
        compile_seconds=float(done.get("compile_seconds", 0.0)),
        public_states=read_states(path),
        members=judged(arm.first_rounds, rounds) if arm.joins else None,
        privacy=arm.guarantee(int(rounds[-1])),
    )


def _up_to(rounds: np.ndarray, each: np.ndarray) -> np.ndarray:
    """Totals after `rounds` of what each round added, `[R, S]`, as the mean over seeds."""
    return np.round(np.concatenate([[0], np.cumsum(each.mean(axis=1))]))[rounds].astype(np.int64)
