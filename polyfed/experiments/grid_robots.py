"""Four robots in grids with one, two or three walls to cross, small and large: MiniGrid, PPO and FedAvg.

A robot sees what lies before it, and is paid at the goal alone. All numbers are ours. Needs `polyfed[maze]`.
"""

from polyfed.agents import PPO
from polyfed.environments import Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="grid-robots",
        environment=Gymnasium("polyfed/Crossing-v0"),
        variation=Explicit({"walls": (1.0, 1.0, 2.0, 2.0), "size": (7.0, 9.0, 7.0, 9.0)}),
        num_clients=4,
        num_envs=8,
        agent=PPO(
            hidden=(64, 64),
            rollout_steps=128,
            epochs=4,
            minibatches=8,
            learning_rate=1e-3,
            entropy_weight=0.01,
            shared=("policy", "value"),
        ),
        num_rounds=100,
        local_steps=128,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=10,
            own=False,
            episodes=20,
            held_out=Explicit({"walls": (3.0, 1.0), "size": (9.0, 11.0)}),
            num_held_out=2,
        ),
    )
)
