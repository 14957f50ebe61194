"""Six base stations with other users, caches and neighbours learn what to keep: FedAvg, learning alone, pooling.

The stations stand in a ring: the neighbour of each is the next, with its phase of popularity and about its capacity.
All numbers are ours. Returns are delays; the report also gives per cent of the optimum.
"""

from polyfed.agents import DQN, LinearDecay, SoftUpdate
from polyfed.environments import Explicit
from polyfed.environments.edge_cache import EdgeCache
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

PHASES = (0.0, 4.0, 9.0, 15.0, 19.0, 24.0)  # which content is most popular at first
CAPACITIES = (2.0, 3.0, 4.0, 5.0, 3.0, 4.0)  # in mean sizes of contents

EXPERIMENT = fedavg(
    Experiment(
        name="edge-cache",
        environment=EdgeCache(),
        variation=Explicit(
            {
                "zipf_exponent": (0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
                "phase": PHASES,
                "capacity": CAPACITIES,
                "neighbour_phase": (*PHASES[1:], PHASES[0]),
                "neighbour_capacity": (*CAPACITIES[1:], CAPACITIES[0]),
            }
        ),
        num_clients=len(PHASES),
        agent=DQN(
            hidden=(64, 64),
            double=True,
            n_step=5,
            discount=0.95,
            batch_size=32,
            learning_rate=5e-4,
            replay_capacity=30_000,
            target_update=SoftUpdate(),
            exploration=LinearDecay(start=1.0, end=0.05, steps=5000),
        ),
        num_rounds=100,
        local_steps=200,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=10,
            episodes=10,
            held_out=Explicit({"zipf_exponent": (0.75, 1.15), "capacity": (4.0, 2.5), "neighbour_phase": (6.0, 20.0)}),
            num_held_out=2,
        ),
    )
)
