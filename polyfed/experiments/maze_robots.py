"""Four balls in other mazes, open, U and medium, one with weak motors: PointMaze, PPO and FedAvg.

A policy is told where it is and where to go, but not where walls stand, which differs between clients. All numbers are
ours. Needs `polyfed[maze]`.
"""

from polyfed.agents import PPO
from polyfed.agents.observation_statistics import ObservationStatistics
from polyfed.environments import Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="maze-robots",
        environment=Gymnasium("polyfed/PointMaze-v0"),
        variation=Explicit({"maze": (0.0, 1.0, 1.0, 2.0), "gear": (1.0, 1.0, 0.5, 1.0)}),
        num_clients=4,
        num_envs=4,
        agent=PPO(
            hidden=(64, 64),
            rollout_steps=256,
            epochs=4,
            minibatches=8,
            learning_rate=1e-3,
            shared=("policy", "value", "statistics"),
            statistics=ObservationStatistics(),
        ),
        num_rounds=100,
        local_steps=256,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=10,
            own=False,
            episodes=20,
            held_out=Explicit({"maze": (0.0, 3.0), "gear": (0.5, 1.0)}),
            num_held_out=2,
        ),
    )
)
