"""Four landers under other gravity and wind: LunarLander of Gymnasium, stepped on the host, DQN and FedAvg.

All numbers are ours. Needs `polyfed[box2d]`.
"""

from polyfed.agents import DQN, LinearDecay
from polyfed.environments import Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="lander-winds",
        environment=Gymnasium("LunarLander-v3"),
        variation=Explicit({"gravity": (7.0, 10.0, 10.0, 11.5), "wind": (0.0, 0.0, 10.0, 15.0)}),
        num_clients=4,
        num_envs=4,
        agent=DQN(
            hidden=(64, 64),
            double=True,
            loss="huber",
            batch_size=64,
            learning_rate=5e-4,
            replay_capacity=50_000,
            exploration=LinearDecay(start=1.0, end=0.05, steps=6000),
        ),
        num_rounds=120,
        local_steps=250,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=20,
            own=False,
            episodes=5,
            held_out=Explicit({"gravity": (8.5, 10.5), "wind": (5.0, 12.5)}),
            num_held_out=2,
        ),
    )
)
