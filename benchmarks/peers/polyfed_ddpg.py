"""W2 on polyfed's compiled engine: five pendulums in one program, spread over every core."""

from __future__ import annotations

import time

from pendulum_workload import HIDDEN, LEARNING_RATE, NOISE, TARGET_RATE, masses
from workload import (
    DISCOUNT,
    LEARNING_STARTS,
    MERGE_EVERY,
    REPLAY_CAPACITY,
    Work,
    line,
    parse_arguments,
    print_line,
)

from polyfed.agents import DDPG, GaussianNoise, SoftUpdate, Survival
from polyfed.environments import Explicit, Pendulum
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation


def experiment(work: Work) -> Experiment:
    """W2 as an experiment: actor and critic are averaged, everything else stays at the client."""
    rounds = work.steps // MERGE_EVERY
    return Experiment(
        name="w2",
        environment=Pendulum(),
        variation=Explicit({"mass": masses(work.clients)}),
        num_clients=work.clients,
        agent=DDPG(
            hidden=HIDDEN,
            batch_size=work.batch,
            actor_learning_rate=LEARNING_RATE,
            critic_learning_rate=LEARNING_RATE,
            discount=DISCOUNT,
            replay_capacity=REPLAY_CAPACITY,
            learning_starts=LEARNING_STARTS,
            target_update=SoftUpdate(TARGET_RATE),
            noise=GaussianNoise(NOISE),
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
    blocks = -(-work.warmup // work.steps)
    for _ in range(blocks):
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
    expected = work.steps * (blocks + 1) - LEARNING_STARTS + 1
    learned = int(federation.clients[0].agent.learner.steps.min())
    if learned != expected:
        raise RuntimeError(f"polyfed did {learned} gradient steps per client; W2 asks for {expected}.")
    print_line(report)


if __name__ == "__main__":
    main()
