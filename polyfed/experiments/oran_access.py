"""Four radio cells of other bandwidth, power and speed of users, that connect users to stations: mobile-env and FedAvg.

A cell of an open radio access network is a client: it keeps its users' places to itself. All numbers are ours. Needs
`polyfed[ran]`.
"""

from polyfed.agents import DQN, LinearDecay
from polyfed.environments import Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="oran-access",
        environment=Gymnasium("polyfed/RadioCell-v0"),
        variation=Explicit(
            {
                "bandwidth": (9e6, 5e6, 20e6, 9e6),
                "power": (36.0, 40.0, 34.0, 38.0),
                "speed": (1.5, 1.5, 5.0, 15.0),
            }
        ),
        num_clients=4,
        num_envs=2,
        agent=DQN(
            hidden=(64, 64),
            double=True,
            loss="huber",
            batch_size=64,
            learning_rate=5e-4,
            discount=0.9,
            replay_capacity=20_000,
            exploration=LinearDecay(start=1.0, end=0.05, steps=2000),
        ),
        num_rounds=100,
        local_steps=100,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=10,
            own=False,
            episodes=5,
            held_out=Explicit({"bandwidth": (9e6, 12e6), "power": (40.0, 35.0), "speed": (3.0, 8.0)}),
            num_held_out=2,
        ),
    )
)
