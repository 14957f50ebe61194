"""FedHPD in CartPole on polyfed's compiled engine: the experiment `fedhpd-cartpole`, spread over every core.

What an event costs is not to be seen from outside one compiled program. The same fleet therefore also trains without
exchange (`local_only`), which gives the seconds per environment step; what the federation takes beyond that for its own
steps is distillation. Public states are drawn uniformly, for what they are does not matter to the clock.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import numpy as np
from fedhpd_workload import EPISODES, HIDDEN, NUM_STATES, Work, line, parse_arguments
from workload import print_line

from polyfed.environments.public_states import UniformStates
from polyfed.experiment import Experiment
from polyfed.experiments import load
from polyfed.recipes import local_only
from polyfed.simulation.simulate import Simulation


@dataclasses.dataclass(frozen=True)
class Timed:
    """What the timed rounds of an arm took (median over passes, seconds) and were: `steps` are `[C]`."""

    seconds: float
    steps: np.ndarray
    compile_seconds: float
    devices: int


def timed(experiment: Experiment, work: Work) -> Timed:
    """Train to the end of the timed rounds, once to compile and then `passes` times from the same start."""
    simulation = Simulation(experiment, seeds=(work.seed,))
    spent, steps = [], np.zeros(0)
    for _ in range(1 + work.passes):
        federation = simulation.init()
        for _ in range(work.warmup // work.rounds):  # blocks of one length are one compiled program
            federation, _ = simulation.advance(federation, work.rounds)
        began = time.perf_counter()
        federation, metrics = simulation.advance(federation, work.rounds)
        spent.append(time.perf_counter() - began)
        steps = metrics["steps"][:, 0].sum(axis=0)
        if not (metrics["episodes"] == EPISODES).all():
            raise RuntimeError(
                f"An agent played {metrics['episodes'].ravel()[0]:g} episodes in a round, not {EPISODES}."
            )
    return Timed(statistics.median(spent[1:]), steps, simulation.compile_seconds, len(simulation.plan.devices))


def main() -> None:
    """Times the federation and the same fleet without exchange, and prints the line."""
    work = parse_arguments(__doc__ or "")
    experiment = load("fedhpd-cartpole")
    public: Any = UniformStates(NUM_STATES)  # at once, where the published ones take a training of their own
    experiment = dataclasses.replace(experiment, payload=dataclasses.replace(experiment.payload, public=public))
    if (experiment.num_clients, experiment.local_steps) != (len(HIDDEN), EPISODES):
        raise RuntimeError(
            f"fedhpd-cartpole has {experiment.num_clients} agents and {experiment.local_steps} episodes per round; the "
            f"work asks for {len(HIDDEN)} and {EPISODES}."
        )
    federated, alone = timed(experiment, work), timed(local_only(experiment), work)
    learning = federated.steps.sum() * alone.seconds / alone.steps.sum()
    report = line(
        "polyfed",
        work,
        packages=("polyfed", "jax", "jaxlib"),
        learning=learning,
        distilling=federated.seconds - learning,
        episode_lengths=list(federated.steps / (work.rounds * EPISODES)),
        threads=federated.devices,
        compile_seconds=federated.compile_seconds,
    )
    print_line(report | {"alone": {"episode_length": round(float(alone.steps.mean()) / (work.rounds * EPISODES), 1)}})


if __name__ == "__main__":
    main()
