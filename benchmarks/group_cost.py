"""What differing costs: a local step of ten clients with ten different networks over one of ten equal ones.

    .venv/bin/python benchmarks/group_cost.py --repeats 7

The different networks are the ten of FedHPD's cart-pole experiment, the equal ones have 64-64 units each.
Everybody learns alone, so that nothing but local steps is measured. Both fleets train in one process, turn by turn; a
ratio is taken within a repeat, the median over repeats is reported, compile time stands apart. JSON on standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from typing import Any

from polyfed.agents import DQN, REINFORCE, Group, Mixed
from polyfed.environments import CartPole, Explicit
from polyfed.exchange import Nothing
from polyfed.experiment import Evaluation, Experiment
from polyfed.experiments.fedhpd_cartpole import MAKES
from polyfed.recipes import local_only
from polyfed.simulation.simulate import Simulation

LEARNERS = {  # name: learner, local steps of a round (episodes, where it is episodic)
    "dqn": (DQN(batch_size=64, learning_starts=100), 100),
    "reinforce": (REINFORCE(), 5),
}
EQUAL = (64, 64)


def fleet(learner: Any, local_steps: int, makes: tuple[tuple[int, ...], ...], seeds: int) -> Simulation:
    """One client of each make; equal makes are one group."""
    kinds = dict.fromkeys(makes)
    groups = tuple(Group(dataclasses.replace(learner, hidden=hidden), makes.count(hidden)) for hidden in kinds)
    experiment = Experiment(
        name="cost",
        environment=CartPole(),
        variation=Explicit(),
        num_clients=len(makes),
        agent=Mixed(groups),
        payload=Nothing(),
        common_start=False,
        local_steps=local_steps,
        evaluation=Evaluation(every=10),
    )
    return Simulation(local_only(experiment), seeds=tuple(range(seeds)))


def measure(learner: Any, local_steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds per environment step of both fleets, repeat by repeat, and the median of their ratios."""
    different = tuple(hidden for hidden, _, _ in MAKES)
    fleets = [fleet(learner, local_steps, makes, options.seeds) for makes in ((EQUAL,) * len(MAKES), different)]
    states = [simulation.advance(simulation.init(), options.rounds)[0] for simulation in fleets]  # compiles
    seconds: list[list[float]] = [[], []]
    for repeat in range(options.repeats):
        for i in (0, 1) if repeat % 2 else (1, 0):
            began = time.perf_counter()
            states[i], metrics = fleets[i].advance(states[i], options.rounds)
            seconds[i].append((time.perf_counter() - began) / float(metrics["steps"].sum()))
    ratios = [apart / equal for equal, apart in zip(*seconds, strict=True)]
    return {
        "equal_us_per_step": round(1e6 * statistics.median(seconds[0]), 2),
        "different_us_per_step": round(1e6 * statistics.median(seconds[1]), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "compile_seconds": [round(simulation.compile_seconds, 1) for simulation in fleets],
    }


def main() -> None:
    """Measures every learner and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=20, help="rounds in a repeat (20)")
    parser.add_argument("--seeds", type=int, default=1, help="federations side by side (1)")
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    found = {name: measure(*learner, options) for name, learner in LEARNERS.items()}
    print(json.dumps({"load_at_start": load, "seeds": options.seeds, "learners": found}, indent=2))


if __name__ == "__main__":
    main()
