"""Six homes with other roofs, habits, batteries and tariffs learn when to store: FedAvg between alone and pooling.

All numbers are ours. Returns are what a week's energy costs; the report also gives per cent of the optimum.
"""

from polyfed.agents import DDPG
from polyfed.environments import Explicit
from polyfed.environments.battery import Battery
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="battery-fleet",
        environment=Battery(),
        variation=Explicit(
            {
                "capacity": (4.0, 6.0, 8.0, 10.0, 12.0, 8.0),
                "power": (2.0, 2.5, 3.0, 4.0, 5.0, 3.0),
                "solar_peak": (2.0, 3.0, 4.0, 6.0, 8.0, 0.0),
                "solar_noon": (10.5, 12.5, 14.5, 12.5, 11.5, 12.5),
                "evening_load": (1.0, 1.6, 2.2, 1.6, 2.5, 1.6),
                "evening_hour": (18.0, 19.0, 20.0, 21.0, 19.0, 19.0),
                "evening_price": (0.36, 0.42, 0.42, 0.48, 0.42, 0.42),
            }
        ),
        num_clients=6,
        agent=DDPG(hidden=(64, 64), discount=0.97),
        num_rounds=100,
        local_steps=168,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=10,
            episodes=10,
            held_out=Explicit({"solar_peak": (1.0, 5.0), "capacity": (7.0, 9.0), "evening_hour": (18.5, 20.5)}),
            num_held_out=2,
        ),
    )
)
