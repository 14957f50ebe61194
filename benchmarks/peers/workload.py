"""Work W1, which every peer performs: its constants, its command line, and how it is timed.

Ten DQN learners, one CartPole each, ten pole half-lengths; the online parameters are averaged every 100 steps. This
file imports nothing heavy, so a peer decides itself what it loads. A peer hands `time_peer` a `Federation`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

SIZES = (4, 128, 128, 2)  # units per layer, ReLU between
MERGE_EVERY = 100  # local steps per round
TARGET_EVERY = 500  # local steps between hard copies of the online into the target network
LEARNING_STARTS = 100  # random steps before the first gradient step; part of the warm-up, never timed
REPLAY_CAPACITY = 10_000  # transitions per client
LEARNING_RATE = 1e-3  # Adam
DISCOUNT = 0.99
EPSILON = 0.1  # constant
HALF_LENGTH_RANGE = (0.25, 1.0)  # m, first and last client; Gymnasium's `length` is half the pole


@dataclasses.dataclass(frozen=True)
class Work:
    """What the command line asks for; steps are environment steps of one client."""

    clients: int = 10
    batch: int = 64
    steps: int = 1000  # timed
    warmup: int = 200  # before the clock starts; multiples of `MERGE_EVERY`, both
    threads: int = 0  # 0: time with one and with one per core, report the faster
    seed: int = 0


class Federation(Protocol):
    """A peer: made from a `Work`, it plays rounds."""

    gradient_steps: int  # done so far, all clients together

    def round(self) -> None:
        """`MERGE_EVERY` local steps at every client, then one merge."""


def half_lengths(clients: int) -> list[float]:
    """Half the pole's length of every client, evenly spaced (m), as `np.linspace` gives them."""
    low, high = HALF_LENGTH_RANGE
    return [low + (high - low) * i / max(clients - 1, 1) for i in range(clients)]


def make_cartpole(half_length: float, **options: Any) -> Any:
    """Gymnasium's CartPole-v1 with another pole: the derived `polemass_length` follows, the mass stays 0.1 kg."""
    import gymnasium

    world = gymnasium.make("CartPole-v1", **options)
    body = world.unwrapped
    body.length = half_length
    body.polemass_length = body.masspole * half_length
    return world


def parse_arguments(description: str, arguments: Sequence[str] | None = None) -> Work:
    """The command line that all peers share.

    Raises:
      SystemExit: when steps do not make whole rounds, or when the warm-up ends before learning has begun.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--clients", type=int, default=Work.clients)
    parser.add_argument("--batch", type=int, default=Work.batch)
    parser.add_argument("--steps", type=int, default=Work.steps, help="timed environment steps of each client")
    parser.add_argument("--warmup", type=int, default=Work.warmup, help="steps of each client before the clock starts")
    parser.add_argument("--threads", type=int, default=Work.threads, help="0: the faster of one and one per core")
    parser.add_argument("--seed", type=int, default=Work.seed)
    work = Work(**vars(parser.parse_args(arguments)))
    if work.steps < MERGE_EVERY or work.steps % MERGE_EVERY or work.warmup % MERGE_EVERY:
        parser.error(f"--steps {work.steps} and --warmup {work.warmup} must be whole rounds of {MERGE_EVERY} steps.")
    if work.warmup < LEARNING_STARTS + MERGE_EVERY:
        parser.error(
            f"--warmup {work.warmup} ends before everything has run once; use at least {LEARNING_STARTS + MERGE_EVERY}."
        )
    return work


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def seconds_of(function: Callable[[], Any], times: int = 1) -> float:
    """Wall-clock seconds of `times` calls."""
    start = time.perf_counter()
    for _ in range(times):
        function()
    return time.perf_counter() - start


def thread_counts(threads: int, set_threads: Callable[[int], None] | None) -> tuple[int, ...]:
    """What to time with: the number asked for, else one and one per core where that can be changed."""
    if threads or set_threads is None:
        return (threads or num_cores(),)
    return tuple(sorted({1, num_cores()}))


def seconds_by_threads(
    federation: Federation, rounds: int, counts: tuple[int, ...], set_threads: Callable[[int], None] | None
) -> dict[int, float]:
    """Seconds of `rounds` rounds with every number of threads, taking turns round by round."""
    seconds = dict.fromkeys(counts, 0.0)
    for _ in range(rounds):
        for count in counts:
            if set_threads:
                set_threads(count)
            seconds[count] += seconds_of(federation.round)
    return seconds


def time_peer(
    peer: str,
    make_federation: Callable[[Work], Federation],
    work: Work,
    *,
    packages: Sequence[str],
    set_threads: Callable[[int], None] | None = None,
    compiles: bool = False,
) -> dict[str, Any]:
    """Builds a peer, warms it up, times `work.steps` per client and describes the outcome.

    Args:
      peer: Name in the report.
      make_federation: Builds the peer; its time counts as set-up, never as training.
      work: What to do.
      packages: Distributions whose versions are reported.
      set_threads: Sets the number of threads at run time; `None` where that is fixed before the import. Where
        `work.threads` is 0, every number plays all the rounds and the fastest is reported.
      compiles: Whether a compiler runs. `compile_seconds` is then set-up and warm-up less what the same number of
        gradient steps takes at the timed rate; `None` otherwise.

    Returns:
      The JSON line of this peer.

    Raises:
      RuntimeError: when the peer did not do one gradient step per environment step.
    """
    start = time.perf_counter()
    federation = make_federation(work)
    seconds_of(federation.round, times=work.warmup // MERGE_EVERY)
    preparation, warm_updates = time.perf_counter() - start, federation.gradient_steps

    counts = thread_counts(work.threads, set_threads)
    tried = seconds_by_threads(federation, work.steps // MERGE_EVERY, counts, set_threads)
    env_steps = work.clients * work.steps
    updates, expected = federation.gradient_steps - warm_updates, env_steps * len(counts)
    if updates != expected:
        raise RuntimeError(f"{peer} did {updates} gradient steps in {expected} environment steps; W1 asks for as many.")

    threads, seconds = min(tried.items(), key=lambda item: item[1])
    compile_seconds = max(preparation - warm_updates * seconds / env_steps, 0.0) if compiles else None
    report = line(peer, work, seconds, packages=packages, compile_seconds=compile_seconds, threads=threads)
    if len(counts) > 1:
        report["threads_tried"] = {str(count): round(env_steps / spent, 1) for count, spent in tried.items()}
    return report


def line(
    peer: str, work: Work, seconds: float, *, packages: Sequence[str], compile_seconds: float | None, threads: int
) -> dict[str, Any]:
    """The JSON line of a peer: what ran, in which versions, how long it took."""
    env_steps = work.clients * work.steps
    return {
        "peer": peer,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "clients": work.clients,
        "batch": work.batch,
        "env_steps": env_steps,
        "seconds": round(seconds, 4),
        "steps_per_second": round(env_steps / seconds, 1),
        "compile_seconds": None if compile_seconds is None else round(compile_seconds, 2),
        "threads": threads,
    }


def print_line(report: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    print(json.dumps(report), flush=True)
