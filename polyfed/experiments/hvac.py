"""Four buildings of three rooms, in other climates and of other walls, that learn to heat: pyRDDLGym, SAC and FedAvg.

A policy sees the rooms' temperatures and learns what a building is like by living in it. All numbers are ours. Needs
`polyfed[rddl]`.
"""

from polyfed.agents import SAC
from polyfed.environments import Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="hvac",
        environment=Gymnasium("polyfed/Rooms-v0"),
        variation=Explicit(
            {
                "outside": (6.0, -10.0, 15.0, 0.0),
                "insulation": (4.0, 8.0, 2.0, 2.0),
                "capacity": (80.0, 80.0, 40.0, 160.0),
            }
        ),
        num_clients=4,
        agent=SAC(discount=0.95, learning_starts=200, replay_capacity=20_000),
        num_rounds=100,
        local_steps=40,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=10,
            own=False,
            episodes=10,
            held_out=Explicit({"outside": (0.0, 10.0), "insulation": (6.0, 3.0), "capacity": (60.0, 120.0)}),
            num_held_out=2,
        ),
    )
)
