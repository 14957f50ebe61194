"""Three cart-poles with poles of 0.5, 1 and 2 m: FedWB against FedAvg, between learning alone and pooling.

The fleet of the FedWB paper (Pereira and Amini 2025, sec. 4) has cart-poles with different poles; it does not publish
their lengths or the settings of the learner. Half-lengths 0.25, 0.5 and 1.0 m, and everything else here, are ours: a
double DQN with 3-step targets, whose settings were chosen for FedAvg and learning alone on seeds 0 to 5.
"""

from polyfed.agents import DQN, LinearDecay
from polyfed.environments import CartPole, Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedwb

EXPERIMENT = fedwb(
    Experiment(
        name="cartpole-poles",
        environment=CartPole(),
        variation=Explicit({"half_length": (0.25, 0.5, 1.0)}),
        num_clients=3,
        agent=DQN(
            hidden=(64, 64),
            double=True,
            n_step=3,
            batch_size=32,
            learning_rate=5e-4,
            exploration=LinearDecay(start=1.0, end=0.05, steps=3000),
        ),
        num_rounds=100,
        local_steps=200,
        compare=("fedavg", "local_only", "pooled"),
        evaluation=Evaluation(every=10, episodes=10, held_out=Explicit({"half_length": (0.35, 0.75)}), num_held_out=2),
    )
)
