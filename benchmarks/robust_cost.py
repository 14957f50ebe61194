"""What planning against the worst successor costs: a local step of FedRDQN over DQNAvg, of FedRDDPG over DDPGAvg.

    .venv/bin/python benchmarks/robust_cost.py --repeats 7

Both arms of a pair train the same federation in one process, turn by turn; a ratio is taken within a repeat, the
median over repeats is reported. JSON on standard output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from typing import Any

from polyfed.agents import DDPG, DQN, HardUpdate, Survival, WorstCase
from polyfed.environments import CartPole, Explicit, Pendulum
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation

PAIRS = {  # name: environment, learner, its other parts on the wire
    "fedrdqn": (CartPole(), DQN(hidden=(128,), batch_size=16, target_update=HardUpdate(10)), ("online", "target")),
    "fedrdqn, W1 networks": (CartPole(), DQN(hidden=(128, 128), batch_size=64), ("online", "target")),
    "fedrddpg": (Pendulum(), DDPG(), ("actor", "critic", "actor_target", "critic_target")),
}


def arm(environment: Any, agent: Any, clients: int) -> Simulation:
    """Identical worlds, 100 steps a round, learning from the 100th step on, everything kept over a merge."""
    agent = dataclasses.replace(agent, learning_starts=100, survival=Survival.everything())
    experiment = Experiment(
        name="cost",
        environment=environment,
        variation=Explicit(),
        num_clients=clients,
        agent=agent,
        evaluation=Evaluation(every=10),
    )
    return Simulation(experiment, seeds=(0,))


def measure(environment: Any, agent: Any, shared: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of both arms, repeat by repeat, and the median of their ratios."""
    plain = dataclasses.replace(agent, shared=shared)
    robust = dataclasses.replace(agent, shared=(*shared, "worst_case"), worst_case=WorstCase())
    arms = [arm(environment, learner, options.clients) for learner in (plain, robust)]
    states = [simulation.advance(simulation.init(), options.rounds)[0] for simulation in arms]  # compiles
    seconds: list[list[float]] = [[], []]
    for repeat in range(options.repeats):
        for i in (0, 1) if repeat % 2 else (1, 0):
            began = time.perf_counter()
            states[i], _ = arms[i].advance(states[i], options.rounds)
            seconds[i].append(time.perf_counter() - began)
    steps = options.rounds * 100 * options.clients
    ratios = [robust / plain for plain, robust in zip(*seconds, strict=True)]
    return {
        "plain_steps_per_second": round(steps / statistics.median(seconds[0])),
        "robust_steps_per_second": round(steps / statistics.median(seconds[1])),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    """Measures every pair and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of 100 steps in a repeat (20)")
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    pairs = {name: measure(*pair, options) for name, pair in PAIRS.items()}
    print(json.dumps({"load_at_start": load, "clients": options.clients, "pairs": pairs}, indent=2))


if __name__ == "__main__":
    main()
