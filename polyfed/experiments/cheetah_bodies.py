"""Four half-cheetahs that weigh 7 to 21 kg, on more or less grip: SAC and FedAvg, judged on three more.

All numbers are ours. Needs `polyfed[mujoco]`. 200 rounds are 20,000 steps per client, far from the end of learning.
"""

from polyfed.agents import SAC
from polyfed.environments import Explicit, HalfCheetah
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg

EXPERIMENT = fedavg(
    Experiment(
        name="cheetah-bodies",
        environment=HalfCheetah(),
        variation=Explicit({"total_mass": (7.0, 11.0, 17.0, 21.0), "friction": (1.0, 0.6, 1.4, 1.0)}),
        num_clients=4,
        agent=SAC(learning_starts=500, replay_capacity=20_000),
        num_rounds=200,
        local_steps=100,
        compare=("local_only", "pooled"),
        evaluation=Evaluation(
            every=20,
            own=False,
            episodes=5,
            held_out=Explicit({"total_mass": (9.0, 14.0, 24.0), "friction": (0.8, 1.0, 1.2)}),
            num_held_out=3,
        ),
    )
)
