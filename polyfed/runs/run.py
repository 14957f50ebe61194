"""Running an experiment into its folder: train a block, evaluate, log, checkpoint; and going on after a kill."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from polyfed.errors import ResumeMismatchError
from polyfed.evaluation.yardstick import Say
from polyfed.experiment import Experiment
from polyfed.recipes import arms
from polyfed.record import digest, from_data, to_data
from polyfed.runs import store
from polyfed.runs.checkpoint import write_arrays, write_checkpoint
from polyfed.runs.files import writing
from polyfed.runs.kept_states import write_states
from polyfed.runs.kept_yardstick import write_yardstick
from polyfed.runs.versions import differences
from polyfed.simulation.engines import PROCESS
from polyfed.simulation.simulate import Simulation


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is known after a block of rounds; the caller shows it.

    `returns` is `[S, P, M]`, `metrics` are those of the block, `seconds` and `compile_seconds` are the arm's so far.
    """

    arm: str
    arms: tuple[str, ...]
    round: int
    num_rounds: int
    returns: np.ndarray
    metrics: dict[str, np.ndarray]
    simulation: Simulation
    message: str = ""


Watch = Callable[[Progress], None]


def create(
    root: Path, experiment: Experiment, seeds: tuple[int, ...], command: str = "", engine: Mapping[str, Any] = PROCESS
) -> Path:
    """Make the folder of a new run; nothing is written if the experiment cannot run.

    Args:
      root: Where run folders live.
      experiment: What to run, with every recipe in its `compare`.
      seeds: One independent repetition each.
      command: What to type to make the run again; recorded.
      engine: Where clients live, see `polyfed.simulation.engines`; recorded.

    Returns:
      The run folder, for `go_on`.
    """
    check(experiment, seeds)
    return store.create(root, experiment, seeds, command, engine)


def check(experiment: Experiment, seeds: tuple[int, ...]) -> None:
    """Raise `ValueError` if any arm cannot run, or could not be read again from its record."""
    experiment.check()
    for arm in arms(experiment).values():
        Simulation(arm, seeds)
    from_data(to_data(experiment))


def go_on(
    folder: Path,
    watch: Watch,
    checkpoint_seconds: float = 10.0,
    force: bool = False,
    say: Say | None = None,
    make: Callable[[Experiment, tuple[int, ...]], Simulation] = Simulation,
) -> None:
    """Run what a run folder still lacks.

    The result is bit for bit that of a run that was never interrupted, given the same machine and versions; where
    those differ, `ResumeMismatchError` is raised unless `force`.

    Args:
      folder: A run folder.
      watch: Called after every block.
      checkpoint_seconds: At least this long between checkpoints of an arm; its end is always one.
      force: Go on with other versions, or on another machine.
      say: Told in a sentence of what takes long before the first block.
      make: Puts an arm and its seeds together; a deployment has its clients elsewhere.
    """
    record = store.read_record(folder)
    if (changed := differences(record)) and not force:
        raise ResumeMismatchError(
            f"{folder} was started with {'; '.join(changed)}, so the result would not be that of one run: "
            "go back to those versions, or go on all the same with --force."
        )
    experiment, seeds = store.read_experiment(record)
    other = record.get("data", "") != experiment.fingerprint()
    if other and not force:
        raise ResumeMismatchError(
            f"{folder} was started with other samples than its data set now holds, so the result would not be that of "
            "one run: put the files back, or go on all the same with --force."
        )
    if changed or other:
        _refuse_noise_twice(folder, experiment)
    with store.locked(folder):
        write_yardstick(folder, experiment, seeds, say)
        methods = arms(experiment)
        for method, arm in methods.items():
            path = folder / "arms" / method
            if not store.is_done(path):
                _run_arm(path, make(arm, seeds), tuple(methods), watch, checkpoint_seconds)


def _refuse_noise_twice(folder: Path, experiment: Experiment) -> None:
    """Raise `ResumeMismatchError` where rounds that are done again would have the same noise on other sums."""
    for method, arm in arms(experiment).items():
        if arm.guarantee(0) is not None:
            raise ResumeMismatchError(
                f"{folder} was started on other versions, another machine or other samples, so rounds of {method} that "
                "are done again would release other sums under the same noise and show what it hides: start a new run "
                "with other seeds."
            )


def _run_arm(path: Path, simulation: Simulation, methods: tuple[str, ...], watch: Watch, pause: float) -> None:
    experiment, seeds = simulation.experiment, simulation.seeds
    identity = digest([to_data(experiment), list(seeds)])
    checkpoint, complaints = store.latest(path, identity)
    logs = [path / name for name in store.LOGS]
    write_states(path, experiment)
    federation, metrics = simulation.init(), dict[str, np.ndarray]()
    if checkpoint is None:
        returns = simulation.evaluate(federation)
        store.log_evaluation(path, 0, returns)
        done = 0
    else:
        federation = simulation.place(checkpoint.load(simulation.unpadded(federation)))
        done, returns = checkpoint.round, np.zeros((len(seeds), 0, 0))
    tell = lambda message="": watch(  # noqa: E731
        Progress(experiment.method, methods, done, experiment.num_rounds, returns, metrics, simulation, message)
    )
    tell(" ".join(complaints))
    saved = time.monotonic()
    every, longest, last = experiment.evaluation.every, simulation.longest_block, experiment.last_round
    for block in blocks(done, last, every, longest):
        federation, metrics = simulation.advance(federation, block)
        store.log_rounds(path, done + 1, metrics, seeds)
        done += block
        returns = np.zeros((len(seeds), 0, 0))
        if done == last or done % every == 0:
            returns = simulation.evaluate(federation)
            store.log_evaluation(path, done, returns)
        if done == last or time.monotonic() - saved >= pause:
            write_checkpoint(path, done, simulation.unpadded(federation), identity, logs)
            saved = time.monotonic()
        tell(" ".join(filter(None, (simulation.told(), _stopped(experiment, done)))))
    _finish(path, simulation, federation)


def _stopped(experiment: Experiment, done: int) -> str:
    """Why a privacy budget ends an arm here; empty where it does not."""
    spent = experiment.guarantee(done)
    why = "" if spent is None or done < experiment.last_round else spent.stopped(experiment.num_rounds)
    return f"{experiment.method}: {why}" if why else ""


def blocks(done: int, num_rounds: int, every: int, longest: int = 10**9) -> Iterable[int]:
    """Lengths of the blocks, none longer than `longest`: none goes past a multiple of `every`, nor the last round.

    >>> list(blocks(0, 25, 10)), list(blocks(0, 5, 4, longest=3))
    ([10, 10, 5], [3, 1, 1])
    """
    while done < num_rounds:
        length = min(every - done % every, num_rounds - done, longest)
        yield length
        done += length


def _finish(path: Path, simulation: Simulation, federation: Any) -> None:
    """Write the final weights per seed, then mark the arm as complete, with what clients' privacy has cost."""
    checksums: dict[str, str] = {}
    clients = simulation.unpadded(federation).clients
    kept = [jax.vmap(parts.agent.parameters) for parts in simulation.homes.parts[: len(clients)]]  # none live afar
    shares = [keep(client.agent) for keep, client in zip(kept, clients, strict=True)]
    for s, seed in enumerate(simulation.seeds):
        folder = path / "weights" / f"seed-{seed}"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        models = {
            f"client-{group.first + c}": _nth(share, s * group.num_clients + c)
            for group, share in zip(simulation.plan.shares, shares, strict=True)
            for c in range(group.num_clients)
        }
        models |= simulation.guest_weights(s)
        if not simulation.personal:
            models["global"] = _nth(federation.server.broadcast, s)
        for name, model in models.items():
            checksums[f"seed-{seed}/{name}"] = write_arrays(folder / f"{name}.safetensors", model)
    data = {"seconds": simulation.seconds, "compile_seconds": simulation.compile_seconds, "weights": checksums}
    if (spent := simulation.experiment.guarantee(int(federation.round))) is not None:
        data["privacy"] = spent.record
    store.write_done(path, data)


def _nth(tree: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)


def weights_checksum(path: Path, name: str) -> str:
    """The recorded SHA-256 of an arm's weights, e.g. `"seed-0/global"`; raises `ValueError` if there are none."""
    if not store.is_done(path):
        raise ValueError(f"{path} is not complete, so it has no final weights: finish it with `polyfed run --resume`.")
    weights = store.read_done(path)["weights"]
    if name not in weights:
        raise ValueError(f"{path} has no weights {name!r}: it has {', '.join(sorted(weights))}.")
    return weights[name]
