"""The work of FedHPD in CartPole, which every peer of that work performs: its constants, its command line, its line.

Ten agents of different networks play one CartPole each (Jiang et al. 2025, sec. 4). A round is five episodes of every
agent, one REINFORCE update after each, then one distillation event: five times over two chunks of 2,500 public states,
everybody's probabilities, their mean, one step of everybody towards it. This file imports nothing heavy.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
from collections.abc import Sequence
from typing import Any

HIDDEN = ((128,), (32, 32), (16, 16, 32), (8, 8, 8), (32, 32, 32), (8, 8), (64, 64), (16, 16), (16, 32, 16), (32,))
LEARNING_RATES = (1e-3, 2e-3, 4e-3, 5e-4, 3e-3, 7e-4, 1e-3, 5e-4, 5e-4, 8e-4)  # Adam
ACTIVATIONS = ("relu", "relu", "tanh", "relu", "tanh", "relu", "tanh", "relu", "tanh", "relu")
DISCOUNT = 0.99
DECAY_EVERY, DECAY = 100, 0.95  # episodes between two decays of the learning rates, and their factor
EPISODES = 5  # of each agent between two distillation events
REPETITIONS = 5  # of an event
NUM_STATES, CHUNK = 5000, 2500  # public states, and how many of them per step of distillation
STATE_MEAN = (0.439, 0.073, 0.0, 0.012)  # of the published public states; ours are normal with these moments
STATE_SCALE = (0.596, 0.177, 0.007, 0.219)


@dataclasses.dataclass(frozen=True)
class Work:
    """What the command line asks for, in rounds of `EPISODES` episodes of each agent and one event."""

    rounds: int = 20  # timed
    warmup: int = 20  # before the clock starts: how far training has come
    threads: int = 1  # of PyTorch
    passes: int = 5  # polyfed only: how often it trains from the start to the end of the timed rounds
    seed: int = 0


def parse_arguments(description: str, arguments: Sequence[str] | None = None) -> Work:
    """The command line that all peers of this work share.

    Raises:
      SystemExit: when there is nothing to time, or nothing to warm up with.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=Work.rounds, help="timed rounds: 5 episodes and an event each")
    parser.add_argument("--warmup", type=int, default=Work.warmup, help="rounds before the clock starts")
    parser.add_argument("--threads", type=int, default=Work.threads, help="of PyTorch")
    parser.add_argument("--passes", type=int, default=Work.passes, help="polyfed only: how often all of it is timed")
    parser.add_argument("--seed", type=int, default=Work.seed)
    work = Work(**vars(parser.parse_args(arguments)))
    if min(work.rounds, work.warmup, work.threads, work.passes) < 1:
        parser.error(f"{work} has a number below 1: nothing would be timed, or nothing would be warm.")
    if work.warmup % work.rounds:
        parser.error(
            f"--warmup {work.warmup} is no multiple of --rounds {work.rounds}, the length of a compiled block."
        )
    return work


def line(
    peer: str,
    work: Work,
    *,
    packages: Sequence[str],
    learning: float,
    distilling: float,
    episode_lengths: Sequence[float],
    threads: int,
    compile_seconds: float | None = None,
) -> dict[str, Any]:
    """The JSON line of a peer.

    Args:
      peer: Name.
      work: What was done.
      packages: Distributions whose versions are reported.
      learning: Seconds of the timed rounds spent on episodes and the updates after them.
      distilling: Seconds spent on events.
      episode_lengths: Mean of every agent over its timed episodes, environment steps.
      threads: Of PyTorch; devices of JAX.
      compile_seconds: Spent on compiling, outside the other two; `None` where no compiler runs.
    """
    env_steps = round(sum(episode_lengths) * work.rounds * EPISODES)
    seconds = learning + distilling
    return {
        "peer": peer,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "rounds": work.rounds,
        "warmup": work.warmup,
        "env_steps": env_steps,
        "seconds": round(seconds, 4),
        "seconds_per_round": round(seconds / work.rounds, 6),
        "rounds_per_second": round(work.rounds / seconds, 3),
        "steps_per_second": round(env_steps / seconds, 1),
        "seconds_per_env_step": learning / env_steps,
        "seconds_per_event": distilling / work.rounds,
        "episode_length": round(sum(episode_lengths) / len(episode_lengths), 1),
        "episode_lengths": [round(length, 1) for length in episode_lengths],
        "compile_seconds": None if compile_seconds is None else round(compile_seconds, 2),
        "threads": threads,
    }
