"""W1 on polyfed's compiled engine: all clients in one program, spread over every core."""

from __future__ import annotations

import time

from workload import (
    DISCOUNT,
    EPSILON,
    LEARNING_RATE,
    LEARNING_STARTS,
    MERGE_EVERY,
    REPLAY_CAPACITY,
    SIZES,
    TARGET_EVERY,
    Work,
    half_lengths,
    line,
    parse_arguments,
    print_line,
)

from polyfed.agents import DQN, HardUpdate, LinearDecay, Survival
from polyfed.environments import CartPole, Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation


def experiment(work: Work) -> Experiment:
    """W1 as an experiment: only the online parameters are averaged, everything else stays at the client."""
    rounds = work.steps // MERGE_EVERY
    return Experiment(
        name="w1",
        environment=CartPole(),
        variation=Explicit({"half_length": half_lengths(work.clients)}),
        num_clients=work.clients,
        agent=DQN(
            hidden=SIZES[1:-1],
            batch_size=work.batch,
            learning_rate=LEARNING_RATE,
            discount=DISCOUNT,
            max_grad_norm=None,
            replay_capacity=REPLAY_CAPACITY,
            learning_starts=LEARNING_STARTS,
            target_update=HardUpdate(period=TARGET_EVERY),
            exploration=LinearDecay(start=EPSILON, end=EPSILON),
            survival=Survival.everything(),
        ),
        num_rounds=rounds,
        local_steps=MERGE_EVERY,
        evaluation=Evaluation(every=rounds),
    )


def main() -> None:
    """Compiles, warms up, times one block of rounds and prints its line."""
    work = parse_arguments(__doc__ or "")
    simulation = Simulation(experiment(work), seeds=(work.seed,))
    rounds, federation = work.steps // MERGE_EVERY, simulation.init()
    for _ in range(-(-work.warmup // work.steps)):
        federation, _ = simulation.advance(federation, rounds)
    began = time.perf_counter()
    federation, _ = simulation.advance(federation, rounds)
    seconds = time.perf_counter() - began
    report = line(
        "polyfed",
        work,
        seconds,
        packages=("polyfed", "jax", "jaxlib"),
        compile_seconds=simulation.compile_seconds,
        threads=len(simulation.plan.devices),
    )
    expected = (work.steps * (-(-work.warmup // work.steps) + 1)) - LEARNING_STARTS + 1
    learned = int(federation.clients[0].agent.learn_steps.min())
    if learned != expected:
        raise RuntimeError(f"polyfed did {learned} gradient steps per client; W1 asks for {expected}.")
    print_line(report)


if __name__ == "__main__":
    main()
